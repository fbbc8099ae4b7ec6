#!/usr/bin/env bash
# Measures against the peers, and writes the report; as root with the live daemon, which the program
# starts and stops itself.
#
#   scripts/bench.sh short    minutes: docs/performance.md, docs/performance/, the README's part
#   scripts/bench.sh full     the same, longer
#   scripts/bench.sh smoke    seconds: whether it all still runs; the figures go nowhere
#   scripts/bench.sh render   nothing is measured: the pages of the last run once more, with the words and reasons that
#                             the code has now, from docs/performance/report.jsonl
#
# Further arguments go to the program: `scripts/bench.sh short --only reader` for one experiment, whose report
# goes to target/bench. BENCH_OUT=DIR: there instead, and the README stays as it is.
set -euo pipefail
cd "$(dirname "$0")/.."

effort=${1:-short}
shift || true
target=${CARGO_TARGET_DIR:-target}

if [ "$effort" = render ]; then
  cargo run --quiet -p barrierd-benches --bin barrierd-bench -- --render --out docs --readme README.md
  exit 0
fi

features=()
if pkg-config --exists liburcu 2>/dev/null; then
  features+=(--features liburcu)
else
  echo "bench.sh: liburcu-dev is not installed; its rows will be missing" >&2
fi

profile=(--release)
built=$target/release
if [ "$effort" = smoke ]; then
  # What the tests have built already.
  profile=()
  built=$target/debug
fi
cargo build "${profile[@]}" --quiet -p barrierd-benches "${features[@]}"
cargo build "${profile[@]}" --quiet -p barrierd-daemon --bin barrierd
# A whole program on the drop-in and on the original, which no one workspace can have both of.
for user in moka original; do
  cargo build "${profile[@]}" --quiet --bin drop-moka --manifest-path "tests/compat/$user/Cargo.toml" \
    --target-dir "$target/compat/$user"
done
cp "$target/compat/moka/${built##*/}/drop-moka" "$built/drop-moka-drop-in"
cp "$target/compat/original/${built##*/}/drop-moka" "$built/drop-moka-original"
if [ "$effort" != smoke ]; then
  # For callgrind, under which a busy loop looks like one that retires at its leisure.
  RUSTFLAGS="${RUSTFLAGS:-} --cfg barrierd_unpaced" cargo build "${profile[@]}" --quiet -p barrierd-benches \
    "${features[@]}" --target-dir "$target/counted"
  cp "$target/counted/release/barrierd-bench" "$built/barrierd-bench-counted"
fi

scratch=$(mktemp -d)
run_dir=
stop() {
  # The program stops its daemons; one that was killed could not.
  if [ -n "$run_dir" ]; then
    for file in "$run_dir"/*.pid; do
      [ -e "$file" ] || continue
      pid=$(cat "$file")
      case $(readlink "/proc/$pid/exe" 2>/dev/null) in
        */barrierd) kill "$pid" 2>/dev/null || true ;;
      esac
    done
    rm -rf "$run_dir"
  fi
  rm -rf "$scratch"
}
trap stop EXIT
trap 'exit 130' INT TERM

daemon=()
if [ "$(id -u)" -eq 0 ]; then
  run_dir=$(mktemp -d /run/barrierd-bench.XXXXXX 2>/dev/null || mktemp -d)
  chmod 755 "$run_dir"
  daemon=(--barrierd "$built/barrierd" --run-dir "$run_dir")
fi

if [ -n "${BENCH_OUT:-}" ]; then
  out=$BENCH_OUT
elif [ $# -gt 0 ]; then
  # Some of it only: no whole report to put in place of the last one.
  out=$target/bench
else
  out=docs
fi
readme=()
if [ "$out" = docs ] && [ "$effort" != smoke ]; then
  readme=(--readme README.md)
fi

# Into a place of its own first: a run that breaks off leaves the last report as it is.
"$built/barrierd-bench" --effort "$effort" --out "$scratch" "${readme[@]}" "${daemon[@]}" "$@"

if [ "$effort" = smoke ]; then
  # Nothing may be missing that this machine could have shown.
  if [ "$(id -u)" -eq 0 ] && grep -n '^\*Missing' "$scratch/performance.md" | grep -v 'liburcu: built without'; then
    echo "bench.sh: the rows above are missing" >&2
    exit 1
  fi
  for name in reader walks latency in_turn structures stalled policy barriers scan threads; do
    [ -s "$scratch/performance/$name.svg" ] || { echo "bench.sh: no $name.svg" >&2; exit 1; }
  done
  echo "1 passed, 0 failed"
  exit 0
fi

mkdir -p "$out/performance"
rm -f "$out"/performance/*.svg "$out"/performance/*.csv
cp "$scratch/performance.md" "$out/"
cp "$scratch"/performance/* "$out/performance/"
echo "bench.sh: $out/performance.md"
