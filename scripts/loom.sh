#!/usr/bin/env bash
# The models under loom, each in a process of its own: loom makes a stack for each thread of each execution, and unmaps it again.
# Beside another model in the same address space each of these calls interrupts the CPU that runs that one. What is given
# chooses among the models: `scripts/loom.sh models::inbox`.
set -euo pipefail
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
export "CARGO_TARGET_$(tr a-z- A-Z_ <<<"$host")_RUNNER=$PWD/scripts/alone.sh"
RUSTFLAGS="--cfg barrierd_loom" cargo test -p barrierd-reclaim -p barrierd-structures -p barrierd-shared \
  --features barrierd-shared/testing --release --lib \
  --target-dir "${CARGO_TARGET_DIR:-target}/loom" -- "$@"
