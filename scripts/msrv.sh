#!/usr/bin/env bash
# The oldest Rust that the crates promise (`rust-version` in Cargo.toml): everything except the benchmarks builds with
# it, tests and examples included, and the libraries' unit tests pass. Fails where that toolchain can't be had.
set -euo pipefail
cd "$(dirname "$0")/.."

rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
unavailable() {
  echo "NOT RUN: no Rust $rust ($*). Install it with: rustup toolchain install $rust --profile minimal" >&2
  exit 1
}
command -v rustup >/dev/null || unavailable "rustup is not installed"
cargo "+$rust" --version >/dev/null 2>&1 ||
  rustup toolchain install "$rust" --profile minimal >/dev/null 2>&1 || unavailable "rustup could not install it"

# Every manifest promises the same version, and so do the documents.
wrong=$(grep -L "^rust-version.workspace = true" ./*/Cargo.toml barrierd-client/capi/Cargo.toml | grep -v benches || true)
[ -z "$wrong" ] || { echo "these don't take rust-version from the workspace: $wrong" >&2; exit 1; }
grep -q "^rust-version = \"$rust\"" compat/crossbeam-epoch/Cargo.toml ||
  { echo "compat/crossbeam-epoch/Cargo.toml promises another version than Cargo.toml's $rust" >&2; exit 1; }
for document in README.md HACKING.md */README.md; do
  if grep -nE "Rust 1\.[0-9]+" "$document" | grep -vF "Rust $rust" | grep -v benchmarks; then
    echo "$document names another Rust than Cargo.toml's $rust" >&2
    exit 1
  fi
done

target=${CARGO_TARGET_DIR:-target}/msrv
libraries=(-p barrierd-client -p barrierd-capi -p barrierctl -p barrierd-reclaim -p barrierd-structures)
cargo "+$rust" check --quiet --locked "${libraries[@]}" --all-targets --all-features --target-dir "$target"
echo "libraries and barrierctl, with tests and examples: built with $(cargo "+$rust" --version)"
cargo "+$rust" check --quiet --manifest-path compat/crossbeam-epoch/Cargo.toml --target-dir "$target"
echo "the drop-in: built"
cargo "+$rust" test --quiet --locked -p barrierd-client -p barrierd-reclaim --lib --target-dir "$target"

if command -v clang >/dev/null || [ -n "${CLANG:-}" ]; then
  cargo "+$rust" check --quiet --locked -p barrierd-daemon --target-dir "$target"
  echo "the daemon: built"
else
  echo "NOT RUN: the daemon, whose build needs clang" >&2
  [ -z "${CI:-}" ] || exit 1
fi
