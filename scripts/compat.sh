#!/usr/bin/env bash
# The drop-in for crossbeam-epoch: its interface against the original's documentation, the published
# crossbeam-skiplist, crossbeam-deque, rayon and moka on it, and all but the last against the original; and a user's
# stack on it under loom.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
target=$CARGO_TARGET_DIR/compat
# One folder for all that is built on the drop-in, which they have in common.
here=$target/here
programs="skiplist deque rayon"

document() { # rustdoc's JSON, which stable has under a flag
  RUSTC_BOOTSTRAP=1 cargo rustdoc --quiet --locked --lib "$@" --target-dir "$target/doc" -- \
    -Z unstable-options --output-format json
}

echo "interface: crossbeam-epoch's documentation and ours"
document --manifest-path tests/compat/original/Cargo.toml --package crossbeam-epoch
document --package barrierd-reclaim
python3 scripts/epoch_api.py "$target/doc/doc/crossbeam_epoch.json" "$target/doc/doc/barrierd_reclaim.json"

for manifest in compat/crossbeam-epoch/Cargo.toml tests/compat/*/Cargo.toml; do
  cargo fmt --manifest-path "$manifest" -- --check
done

# Others test their own code with loom under its usual cfg, which is none of ours.
echo "under --cfg loom: the drop-in is what it is"
RUSTFLAGS="--cfg loom" cargo test --quiet --manifest-path compat/crossbeam-epoch/Cargo.toml --target-dir "$target/loom"

# Not --locked: their lock files have this workspace's dependencies as well, which may have changed.
for program in $programs moka; do
  echo "tests: $program"
  # Nothing of the original may be left in it.
  cargo tree --quiet --manifest-path "tests/compat/$program/Cargo.toml" --invert crossbeam-epoch --depth 0 |
    grep "compat/crossbeam-epoch" >/dev/null || { echo "the patch is not in force" >&2; exit 1; }
  cargo test --quiet --manifest-path "tests/compat/$program/Cargo.toml" --target-dir "$here"
done

echo "tests: structures under loom"
RUSTFLAGS="--cfg crossbeam_loom" cargo test --quiet --manifest-path tests/compat/loom/Cargo.toml --target-dir "$target/loom"

for program in $programs; do
  cargo build --quiet --release --manifest-path "tests/compat/$program/Cargo.toml" --target-dir "$here"
done
# Its programs have the same names.
cargo build --quiet --release --manifest-path tests/compat/original/Cargo.toml --target-dir "$target/original"
RACE_MS=${RACE_MS:-50} RACE_ROUNDS=${RACE_ROUNDS:-3} scripts/race.sh
