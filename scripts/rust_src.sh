#!/usr/bin/env bash
# A Rust compiler that has the standard library's source, so that it can be built anew with `-Zbuild-std`:
# for ThreadSanitizer, and for targets that rustup has no library for. Nothing is installed: Debian's
# `rustc-web` packages are unpacked into a folder, once (145 MB to load, 1 GB on disk).
#
#   scripts/rust_src.sh FOLDER            unpacks them there, if that has not been done
#   scripts/rust_src.sh FOLDER COMMAND... runs COMMAND with that compiler, in whose place `cargo` is its cargo
set -euo pipefail
folder=$(realpath -m "$1")
shift
root=$folder/root/usr

fail() {
  echo "rust_src.sh: $*" >&2
  exit 1
}

if [ ! -e "$folder/done" ]; then
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
    fail "no Debian or Ubuntu: install a nightly toolchain with rust-src (rustup toolchain install nightly --component rust-src)"
  rm -rf "$folder"
  mkdir -p "$folder/debs/partial" "$folder/root"
  apt-get -q install -y --download-only --no-install-recommends -o Debug::NoLocking=1 \
    -o Dir::Cache::archives="$folder/debs" rustc-web cargo-web rust-web-src >"$folder/log" 2>&1 ||
    fail "apt has no rustc-web, cargo-web and rust-web-src ($(tail -1 "$folder/log")); apt-get update?"
  for package in "$folder"/debs/*.deb; do
    dpkg-deb -x "$package" "$folder/root"
  done
  # The sanitizer's runtime is rustup's: Debian leaves it out. Its interface is LLVM's, and stable.
  host=$(rustc -vV | sed -n 's/^host: //p')
  library=lib/rustlib/$host/lib
  mkdir -p "$root/$library"
  cp "$(rustc --print sysroot)/$library"/librustc-*_rt.tsan.a "$root/$library/librustc-stable_rt.tsan.a" ||
    fail "this toolchain has no ThreadSanitizer runtime: install one with rustup (https://rustup.rs)"
  rm -r "$folder/debs"
  touch "$folder/done"
fi

[ $# = 0 ] && exit
export RUSTC="$root/bin/rustc" RUSTDOC="$root/bin/rustdoc" PATH="$root/bin:$PATH"
export RUSTC_BOOTSTRAP=1 LD_LIBRARY_PATH="$root/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$@"
