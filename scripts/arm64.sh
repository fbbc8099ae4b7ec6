#!/usr/bin/env bash
# Builds for arm64 Linux on an x86-64 Debian or Ubuntu, for `make vm`'s arm64 machines. libelf, zlib and libseccomp for
# arm64 are unpacked into a folder, once, from an apt root of its own. The standard library is rustup's (rustup target
# add); where it has none it is Debian's, unpacked likewise, with the compiler that it belongs to. The linker is
# gcc-aarch64-linux-gnu (`scripts/deps.sh vm`).
#
#   scripts/arm64.sh FOLDER            gets them, if that has not been done (50 MB to load, 190 MB on disk; and where
#                                      rustup has none, what Debian's compiler takes: 145 MB, 1 GB)
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

has_std() {
  [ -d "$(rustc --print sysroot)/lib/rustlib/$triple/lib" ]
}

if ! has_std && command -v rustup >/dev/null; then
  rustup target add "$triple" >&2 || true
fi
# Debian's compiler, of which arm64's library must be the same build; the sanitizers share it.
debian=$target/sanitizers/rust-src
compiler() {
  if has_std; then
    "$@"
  else
    scripts/rust_src.sh --debian "$debian" "$@"
  fi
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
  (cd "$folder/apt/archives" && apt-get -qq download libelf1 libelf-dev zlib1g zlib1g-dev \
    libzstd1 libseccomp2 libseccomp-dev linux-libc-dev >>"$folder/log" 2>&1) ||
    fail "apt-get download for arm64: $(tail -1 "$folder/log")"
  for package in "$folder"/apt/archives/*.deb; do
    dpkg-deb -x "$package" "$root"
  done
  rm -r "$folder/apt/archives"
  unset APT_CONFIG
  touch "$folder/done"
fi

if ! has_std; then
  compiler
  beside=$debian/root/usr/lib/rustlib/$triple
  if [ ! -e "$beside" ]; then
    mkdir -p "$folder/apt/archives/partial"
    (cd "$folder" && APT_CONFIG=$folder/apt.conf apt-get -qq download libstd-rust-web-dev >>"$folder/log" 2>&1) ||
      fail "rustup has no library for $triple, and apt none either (libstd-rust-web-dev): $(tail -1 "$folder/log")"
    # Never over one that is there: a compiler may have it mapped.
    dpkg-deb -x "$folder"/libstd-rust-web-dev_*.deb "$debian/$$"
    rm "$folder"/libstd-rust-web-dev_*.deb
    mv "$debian/$$/usr/lib/rustlib/$triple" "$beside"
    rm -r "${debian:?}/$$"
  fi
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
