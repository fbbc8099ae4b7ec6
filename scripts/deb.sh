#!/usr/bin/env bash
# Builds the Debian packages: barrierd (daemon, barrierctl, unit, user, manual pages and completions), and by
# deb_c.sh libbarrierd0 and libbarrierd-dev (the C interface).
#
#   scripts/deb.sh [OUTPUT]     a directory, or the first package's own name: the others land beside it
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo deb --version >/dev/null 2>&1; then
  echo "deb.sh: no cargo-deb: run \`cargo install cargo-deb\` first" >&2
  exit 1
fi
target=${CARGO_TARGET_DIR:-target}
cargo build --release --quiet -p barrierd-daemon --bin barrierd
cargo build --release --quiet -p barrierctl
cargo run --release --quiet -p barrierd-daemon --example barrierd_manual -- "$target/release/dist"
cargo run --release --quiet -p barrierctl --example barrierctl_manual -- "$target/release/dist"
gzip -9nf "$target/release/dist/barrierd.8" "$target/release/dist/barrierctl.1"
cargo deb --no-build --strip --quiet -p barrierd-daemon --output "${1:-$target/debian/}"

output=${1:-$target/debian/}
[ -d "$output" ] || output=$(dirname "$output")/
scripts/deb_c.sh "$output"
