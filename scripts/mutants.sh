#!/usr/bin/env bash
# Broken builds of the reclaimer that the use-after-free detector must find out, each within seconds;
# and the sound one, which it must let pass. The workspace's own crates alone are built anew, by a compiler that is told of
# the flaw: all else is as the tests have it.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}/mutants
limit=${MUTANT_SECONDS:-60}

detector() { # name, flag
  mkdir -p "$target"
  local before rc=0 compiler
  compiler=$(realpath "$target")/$1
  # cargo keeps what each such compiler made apart, by its path.
  printf '#!/bin/sh\nexec "$@" %s\n' "$2" >"$compiler"
  chmod +x "$compiler"
  RUSTC_WORKSPACE_WRAPPER=$compiler cargo test -q -p barrierd-reclaim --test detector --no-run
  before=$SECONDS
  RUSTC_WORKSPACE_WRAPPER=$compiler timeout "$limit" cargo test -q -p barrierd-reclaim --test detector \
    >"$target/$1.log" 2>&1 || rc=$?
  if [ $rc = 124 ]; then
    echo "$1: not done in $limit s"
    exit 1
  fi
  echo "$1: exit status $rc after $((SECONDS - before)) s"
  return $rc
}

if ! detector sound ""; then
  cat "$target/sound.log"
  echo "the sound build fails"
  exit 1
fi
for mutant in no_pins no_barrier no_idle_evidence; do
  if detector "$mutant" "--cfg 'barrierd_broken=\"$mutant\"'"; then
    echo "the detector does not find out $mutant"
    exit 1
  fi
  # It must be the detector that said so.
  grep -q "freed while pinned\|reached after it was freed" "$target/$mutant.log"
done
echo "all mutants found out, the sound build let pass"
