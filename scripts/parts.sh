#!/usr/bin/env bash
# What .ci/run has in parts, of which each commit runs one: real kernels in emulated machines, and other targets. Each line is what
# follows `make`. Commits that follow each other run the parts in turn; `make parts` runs all of them.
#
#   scripts/parts.sh           this commit's part
#   scripts/parts.sh NUMBER    the part of a commit that has so many before it
#   scripts/parts.sh list      all, a line each
set -euo pipefail
cd "$(dirname "$0")/.."

all=()
for n in 0 1 2 3 4 5; do all+=("vm VM=$n/6"); done
for n in 0 1 2; do all+=("vm VM=arm64:$n/3"); done
for n in 0 1 2 3 4 5 6 7; do all+=("targets TARGETS=$n/8"); done

# How many commits there are up to this one. Where only the last few were fetched, that would always be the same: then the
# beginning of its name.
number() {
  local name
  name=$(git rev-parse HEAD 2>/dev/null) || name=0000000
  if [ "$(git rev-parse --is-shallow-repository 2>/dev/null)" = false ]; then
    git rev-list --count HEAD
  else
    echo $((16#${name:0:7}))
  fi
}

case ${1:-} in
  list) printf '%s\n' "${all[@]}" ;;
  *)
    of=${1:-$(number)}
    echo "${all[of % ${#all[@]}]}"
    ;;
esac
