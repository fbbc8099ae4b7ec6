#!/usr/bin/env bash
# Builds the Debian package: daemon, barrierctl, unit, user, manual pages and completions.
#
#   scripts/deb.sh [OUTPUT]     a directory, or the package's own name
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo deb --version >/dev/null 2>&1; then
  echo "deb.sh: no cargo-deb: run \`cargo install cargo-deb\` first" >&2
  exit 1
fi
target=${CARGO_TARGET_DIR:-target}
cargo build --release --quiet -p barrierd-daemon --bin barrierd
cargo build --release --quiet -p barrierd-client --bin barrierctl
cargo run --release --quiet -p barrierd-daemon --example manual -- "$target/release/dist"
gzip -9nf "$target/release/dist/barrierd.8" "$target/release/dist/barrierctl.1"
cargo deb --no-build --strip --quiet -p barrierd-daemon --output "${1:-$target/debian/}"
