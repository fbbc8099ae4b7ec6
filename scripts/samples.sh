#!/usr/bin/env bash
# Runs `make demo` and `make compare`, and puts what they print into README.md and docs/operators.md, between the marks
# `<!-- sample NAME: ... -->` and `<!-- sample: to here -->`. As root, on a machine with nothing else to do.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# put NAME FILE: what stands in FILE between NAME's marks becomes a code block of the standard input.
put() {
  cat >"$scratch/sample"
  [ -s "$scratch/sample" ] || { echo "samples.sh: $1 printed no table" >&2; exit 1; }
  awk -v sample="$scratch/sample" -v begin="<!-- sample $1:" '
    index($0, begin) == 1 {
      print; print "\n```"
      while ((getline line < sample) > 0) print line
      print "```\n"; inside = found = 1
    }
    $0 == "<!-- sample: to here -->" { inside = 0 }
    !inside
    END { exit !found }
  ' "$2" >"$scratch/page" || { echo "samples.sh: $2 has no marks of $1" >&2; exit 1; }
  cat "$scratch/page" >"$2"
}

scripts/demo.sh | sed -n '/^  source /,$p' | put demo README.md
scripts/compare.sh --quiet | sed -n '/ waits  *p50/,$p' | put compare docs/operators.md
echo "samples.sh: README.md, docs/operators.md; the sentences around the samples name the machine, look at them"
