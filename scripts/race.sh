#!/usr/bin/env bash
# Races the programs of tests/compat on this repository's crossbeam-epoch against the original: one process
# after the other, RACE_ROUNDS times in turn. Prints operations in a second of CPU time, the medians; and the
# median of the rounds' ratios, with its least and greatest. RACE_MS: how long a row takes, milliseconds;
# RACE_ONLY: rows with this in their names.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}/compat
rounds=${RACE_ROUNDS:-5}

for program in ${RACE:-skiplist deque rayon}; do
  results=$(mktemp)
  for _ in $(seq "$rounds"); do
    "$target/original/release/race-$program" | sed 's/^/original\t/' >>"$results"
    "$target/here/release/race-$program" | sed 's/^/here\t/' >>"$results"
  done
  awk -F '\t' -v program="$program" '
    { n[$1, $2]++; rate[$1, $2, n[$1, $2]] = $3; if (!($2 in seen)) { seen[$2]; row[++rows] = $2 } }
    function median(who, name,   i, j, t, a, k) {
      k = n["here", name]
      for (i = 1; i <= k; i++)
        a[i] = who == "ratio" ? rate["here", name, i] / rate["original", name, i] : rate[who, name, i]
      for (i = 1; i <= k; i++) for (j = i + 1; j <= k; j++) if (a[j] < a[i]) { t = a[i]; a[i] = a[j]; a[j] = t }
      return a[int((k + 1) / 2)]
    }
    END {
      printf "%-62s %9s %9s  %s\n", program ": M/s", "original", "here", "ratio (rounds)"
      for (i = 1; i <= rows; i++) {
        name = row[i]; least = 1e9; most = 0
        for (j = 1; j <= n["here", name]; j++) {
          r = rate["here", name, j] / rate["original", name, j]
          if (r < least) least = r
          if (r > most) most = r
        }
        printf "%-62s %9.2f %9.2f  %.2f (%.2f to %.2f)\n", name, median("original", name),
          median("here", name), median("ratio", name), least, most
      }
    }' "$results"
  rm "$results"
done
