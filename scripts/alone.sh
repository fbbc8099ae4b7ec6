#!/usr/bin/env bash
# Runs each test of a program of tests in a process of its own, as many at once as there are CPUs: a runner for cargo, as
# CARGO_TARGET_..._RUNNER names one. What is given beside the program chooses among its tests, as it does there.
set -euo pipefail
program=$1
shift
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

"$program" --list --format terse "$@" | sed -n 's/: test$//p' >"$logs/names"
[ $# -gt 0 ] || [ -s "$logs/names" ] || { echo "$program has no tests" >&2; exit 1; }

# Says at its end how one went, and all that it said if it did not pass.
alone() {
  local log=$logs/${1//:/.} before=$SECONDS
  if "$program" --exact "$1" >"$log" 2>&1 && grep -q "^test result: ok. 1 passed" "$log"; then
    echo "test $1 ... ok ($((SECONDS - before)) s)"
  else
    printf 'test %s ... FAILED\n%s\n' "$1" "$(cat "$log")"
    return 1
  fi
}
export -f alone
export program logs
xargs -r -a "$logs/names" -n 1 -P "$(nproc)" bash -c 'alone "$1"' alone || { echo "$program: not all tests passed" >&2; exit 1; }
echo "$(wc -l <"$logs/names") passed, 0 failed"
