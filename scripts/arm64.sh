#!/usr/bin/env bash
# Builds for arm64 Linux on an x86-64 Debian or Ubuntu, for `make vm`'s arm64 machines. Nothing is installed here: the
# compiler's library for arm64, libelf, zlib and libseccomp are unpacked into a folder, once, from an apt root of its
# own. The linker is gcc-aarch64-linux-gnu (`scripts/deps.sh vm`).
#
#   scripts/arm64.sh FOLDER            gets them, if that has not been done (50 MB to load, 190 MB on disk; and
#                                      what rust_src.sh unpacks, which the sanitizers share)
#   scripts/arm64.sh FOLDER COMMAND... runs COMMAND, in which cargo builds for aarch64-unknown-linux-gnu
#
# FOLDER/apt.conf is for APT_CONFIG: with it apt-get and apt-cache speak of arm64's packages.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath -m "$1")
shift
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
triple=aarch64-unknown-linux-gnu
root=$folder/root

fail() {
  echo "arm64.sh: $*" >&2
  exit 1
}

# rustc-web, of which arm64's library must be the same build.
compiler() {
  scripts/rust_src.sh "$target/sanitizers/rust-src" "$@"
}

if [ ! -e "$folder/done" ]; then
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || fail "no Debian or Ubuntu"
  command -v aarch64-linux-gnu-gcc >/dev/null || fail "no aarch64-linux-gnu-gcc: run scripts/deps.sh vm"
  rm -rf "$folder"
  mkdir -p "$folder"/apt/lists/partial "$folder"/apt/archives/partial "$root"
  : >"$folder/apt/status"
  cat >"$folder/apt.conf" <<END
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "root";
Dir::State "$folder/apt";
Dir::State::status "$folder/apt/status";
Dir::Cache "$folder/apt";
END
  export APT_CONFIG=$folder/apt.conf
  apt-get -qq update >"$folder/log" 2>&1 || fail "apt-get update for arm64: $(tail -1 "$folder/log")"
  (cd "$folder/apt/archives" && apt-get -qq download libstd-rust-web-dev libelf1 libelf-dev zlib1g zlib1g-dev \
    libzstd1 libseccomp2 libseccomp-dev linux-libc-dev >>"$folder/log" 2>&1) ||
    fail "apt-get download for arm64: $(tail -1 "$folder/log")"
  for package in "$folder"/apt/archives/*.deb; do
    dpkg-deb -x "$package" "$root"
  done
  rm -r "$folder/apt/archives"
  unset APT_CONFIG
  touch "$folder/done"
fi

# rustc looks for a target's library beside its own. Never over one that is there: a compiler may have it mapped.
compiler
beside=$target/sanitizers/rust-src/root/usr/lib/rustlib/$triple
if [ ! -e "$beside" ]; then
  cp -r "$root/usr/lib/rustlib/$triple" "$beside.$$"
  mv "$beside.$$" "$beside"
fi

[ $# = 0 ] && exit
libraries=$root/usr/lib/aarch64-linux-gnu
# It would go before the flags below.
unset RUSTFLAGS
export CARGO_BUILD_TARGET=$triple CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_LIBDIR=$libraries/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root
export LIBBPF_SYS_EXTRA_CFLAGS="-idirafter $root/usr/include"
export LIBBPF_SYS_LIBRARY_PATH_aarch64_unknown_linux_gnu=$libraries LIBSECCOMP_LIB_PATH=$libraries
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-L native=$libraries -C link-arg=-Wl,-rpath-link,$libraries"
compiler "$@"
