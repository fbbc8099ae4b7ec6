#!/usr/bin/env bash
# Runs the fuzz targets of barrierd-client/fuzz, the public file's and shared regions', each for a bounded time; what they find stays in fuzz/artifacts.
#
#   FUZZ_SECONDS=15 scripts/fuzz.sh
#
# Under AddressSanitizer, as `cargo fuzz run decode` does it, where the toolchain has its runtime (rustup's
# have); coverage needs nothing but stable options.
set -euo pipefail
cd "$(dirname "$0")/../barrierd-client/fuzz"

seconds=${FUZZ_SECONDS:-15}
if ! command -v c++ >/dev/null; then
  echo "*** NOT RUN: fuzzing needs a C++ compiler, for libFuzzer ***" >&2
  [ -z "${CI:-}" ] || exit 1
  exit 0
fi

flags="--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
  flags+=" -Cllvm-args=-sanitizer-coverage-$option"
done
host=$(rustc -vV | sed -n 's/^host: //p')
if compgen -G "$(rustc --print sysroot)/lib/rustlib/$host/lib/librustc-*_rt.asan.a" >/dev/null; then
  # `-Z` on a stable compiler.
  export RUSTC_BOOTSTRAP=1
  flags+=" -Zsanitizer=address"
else
  echo "*** No AddressSanitizer in this toolchain (rustup has it): fuzzing without ***" >&2
  [ -z "${CI:-}" ] || exit 1
fi

# With --target the flags are the target's alone, and build scripts stay as they are.
target=${CARGO_TARGET_DIR:-../../target}/fuzz
RUSTFLAGS="$flags" cargo build --quiet --release --locked --target "$host" --target-dir "$target"
fuzz() { # TARGET, and what is its own
  mkdir -p "corpus/$1" "artifacts/$1"
  "$target/$host/release/$1" "corpus/$1" "${@:2}" -timeout=5 -max_total_time="$seconds" \
    -artifact_prefix="artifacts/$1/" -print_final_stats=1 -verbosity=0
}
# Longer inputs than a table of 40 CPUs with counters find nothing new.
fuzz decode seeds -dict=decode.dict -max_len=1200
# Twelve changes to a region's files.
fuzz region -max_len=132
echo "2 passed, 0 failed"
