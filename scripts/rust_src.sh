#!/usr/bin/env bash
# A Rust compiler that has the standard library's source, so that it can be built anew with `-Zbuild-std`:
# for ThreadSanitizer, and for targets that rustup has no library for. It is rustup's nightly with its component
# rust-src, which is installed if it can be had. Else Debian's `rustc-web` packages are unpacked into a folder, once
# (145 MB to load, 1 GB on disk), of which nothing is installed.
#
# With --debian before FOLDER: Debian's, whatever rustup has.
#
#   scripts/rust_src.sh FOLDER            gets one, if that has not been done
#   scripts/rust_src.sh FOLDER COMMAND... runs COMMAND with that compiler, in whose place `cargo` is its cargo
set -euo pipefail
wanted=any
if [ "$1" = --debian ]; then
  wanted=debian
  shift
fi
folder=$(realpath -m "$1")
shift
root=$folder/root/usr

fail() {
  echo "rust_src.sh: $*" >&2
  exit 1
}

has_source() {
  local nightly
  nightly=$(rustup run nightly rustc --print sysroot 2>/dev/null) &&
    [ -e "$nightly/lib/rustlib/src/rust/library/std/Cargo.toml" ]
}

# Never a newer nightly in the place of one that is there.
by_rustup() {
  command -v rustup >/dev/null || return 1
  has_source && return
  if rustup run nightly rustc --version >/dev/null 2>&1; then
    rustup component add rust-src --toolchain nightly >&2 || true
  else
    rustup toolchain install nightly --no-self-update --profile minimal --component rust-src >&2 || true
  fi
  has_source
}

by_debian() {
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
    fail "no rustup that has nightly's rust-src, and no Debian: install it (rustup toolchain install nightly --component rust-src)"
  rm -rf "$folder"
  mkdir -p "$folder/debs/partial" "$folder/root"
  apt-get -q install -y --download-only --no-install-recommends -o Debug::NoLocking=1 \
    -o Dir::Cache::archives="$folder/debs" rustc-web cargo-web rust-web-src >"$folder/log" 2>&1 ||
    fail "no rustup that has nightly's rust-src, and apt has no rustc-web, cargo-web and rust-web-src" \
      "($(tail -1 "$folder/log")): apt-get update? Or: rustup toolchain install nightly --component rust-src"
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
}

export RUSTC_BOOTSTRAP=1
if [ $wanted = any ] && [ ! -e "$folder/done" ] && by_rustup; then
  [ $# = 0 ] && exit
  export RUSTUP_TOOLCHAIN=nightly
  exec "$@"
fi
[ -e "$folder/done" ] || by_debian
[ $# = 0 ] && exit
export RUSTC="$root/bin/rustc" RUSTDOC="$root/bin/rustdoc" PATH="$root/bin:$PATH"
export LD_LIBRARY_PATH="$root/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$@"
