#!/usr/bin/env bash
# The reclaimer's stress tests under AddressSanitizer, ThreadSanitizer and valgrind; and broken builds
# that each sanitizer must find out. AddressSanitizer's runtime comes with rustup's toolchains. ThreadSanitizer
# needs a compiler that has the standard library's source: rustup's nightly with rust-src, else Debian's, which
# rust_src.sh gets. Valgrind comes with `make deps`. What is missing is named, loudly; under CI nothing may be.
#
# ThreadSanitizer does not know fences, and the protocol lives by them. It needs none: a fence or a
# barrier only rules out that a reader *finds* what was unlinked, so that in real executions there is
# no access to report. What hands memory on, a section's end to the scan, a scan to whoever frees, a
# queue to its next owner, are Release and Acquire, which it does know, except in a `fetch_max` or
# `fetch_min`, which LLVM leaves without its calls: what hands on uses `sync::raise_to`. So nothing is suppressed. It
# needs a standard library that is instrumented as well: `Arc` and channels synchronize in there.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}/sanitizers
host=$(rustc -vV | sed -n 's/^host: //p')
mkdir -p "$target"

missing() {
  printf '\n*** NOT RUN: %s ***\n\n' "$*"
  [ -z "${CI:-}" ] || exit 1
}

# How ThreadSanitizer's builds call cargo; empty: not at all.
if nightly=$(rustc +nightly --print sysroot 2>/dev/null) &&
  [ -e "$nightly/lib/rustlib/src/rust/library/std/Cargo.toml" ]; then
  thread_cargo=(cargo +nightly)
elif scripts/rust_src.sh "$target/rust-src"; then
  thread_cargo=(scripts/rust_src.sh "$target/rust-src" cargo)
else
  thread_cargo=()
fi

# A build of the sanitizer's own. Its arguments are cargo's.
checked() { # address or thread, arguments
  local sanitizer=$1 cargo=(cargo) std=() package=${package:-barrierd-reclaim}
  shift
  # `-Z` on a stable compiler.
  export RUSTC_BOOTSTRAP=1
  if [ "$sanitizer" = thread ]; then
    cargo=("${thread_cargo[@]}") std=(-Zbuild-std=std,panic_unwind,test,proc_macro)
  fi
  RUSTFLAGS="-Zsanitizer=$sanitizer" "${cargo[@]}" test -q "${std[@]}" -p "$package" \
    --target "$host" --target-dir "$target/$sanitizer" "$@"
}

# The detector, with nodes that go for real, must fail on a broken build, and for that reason. The
# workspace's own crates alone are built anew: by a compiler that is told of the flaw.
finds() { # sanitizer, mutant, what it must say
  local compiler=$PWD/$target/$2 rc=0
  [[ $target = /* ]] && compiler=$target/$2
  printf '#!/bin/sh\nexec "$@" --cfg '\''barrierd_broken="%s"'\''\n' "$2" >"$compiler"
  chmod +x "$compiler"
  RUSTC_WORKSPACE_WRAPPER=$compiler checked "$1" --test detector --no-run
  # It takes half a second, and may miss the window on a busy machine.
  for _ in 1 2 3; do
    rc=0
    RUSTC_WORKSPACE_WRAPPER=$compiler checked "$1" --test detector >"$target/$2.log" 2>&1 || rc=$?
    if [ $rc != 0 ] && grep -q "$3" "$target/$2.log"; then break; fi
  done
  if [ $rc = 0 ] || ! grep -q "$3" "$target/$2.log"; then
    tail -50 "$target/$2.log"
    echo "$1 sanitizer: does not find out $2 (exit status $rc)"
    exit 1
  fi
  echo "$1 sanitizer: finds out $2: $(grep -m1 -o "$3" "$target/$2.log")"
}

# Nodes of the detector are freed, not only poisoned. Fewer short histories: each takes longer.
export BARRIERD_TEST_DETECTOR_FREES=1 BARRIERD_TEST_HISTORIES=2000
# The first report ends the run.
export TSAN_OPTIONS="halt_on_error=1"

if ! compgen -G "$(rustc --print sysroot)/lib/rustlib/$host/lib/librustc-*_rt.asan.a" >/dev/null; then
  missing "AddressSanitizer: this toolchain has no runtime for it; install one with rustup (https://rustup.rs)"
else
  # Leaks of the reclaimer or of a structure are found here; the cases leak nodes on purpose, so that
  # whoever holds one that is freed reads poison.
  ASAN_OPTIONS=detect_leaks=1 checked address --test detector --test structures --test plain_model
  # One of its tests forgets guards on purpose.
  ASAN_OPTIONS=detect_leaks=1 checked address --test rcu -- --skip forgotten
  ASAN_OPTIONS=detect_leaks=0 checked address --test reclaim -- on_membarrier variants drop_in
  package=barrierd-structures ASAN_OPTIONS=detect_leaks=1 checked address --test containers --test linearizable
  # These leak their counters, and payloads of panics.
  ASAN_OPTIONS=detect_leaks=0 checked address --test epoch
  finds address no_pins "AddressSanitizer: heap-use-after-free"
fi

if [ ${#thread_cargo[@]} = 0 ]; then
  missing "ThreadSanitizer: no compiler with the standard library's source"
else
  checked thread --lib who_frees_runs_after_who_read
  checked thread --test detector --test structures --test plain_model --test rcu
  checked thread --test reclaim -- on_membarrier variants drop_in
  package=barrierd-structures checked thread --test containers --test linearizable
  finds thread relaxed_unpin "ThreadSanitizer: data race"
fi

if ! command -v valgrind >/dev/null; then
  missing "valgrind: not installed (make deps)"
else
  runner=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$host")_RUNNER
  memcheck="valgrind -q --leak-check=full --show-leak-kinds=definite
    --errors-for-leak-kinds=definite --error-exitcode=9 --fair-sched=yes"
  under_valgrind() {
    env "$runner=${memcheck//$'\n'/ }" cargo test -q -p barrierd-reclaim "$@"
  }
  under_valgrind --test structures -- conserve left_inside only_the_living
  under_valgrind --test detector
  under_valgrind --test rcu -- --skip forgotten
  # It would see a leak: a detector that poisons and frees nothing.
  unset BARRIERD_TEST_DETECTOR_FREES
  if under_valgrind --test detector >"$target/leak.log" 2>&1; then
    echo "valgrind finds no leak where there is one"
    exit 1
  fi
  grep -q "definitely lost" "$target/leak.log"
  echo "valgrind: no leak, no invalid access; a leak on purpose is found"
fi
