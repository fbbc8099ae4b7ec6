#!/usr/bin/env bash
# The reclaimer and the drop-in for crossbeam-epoch on other targets than this one: compiled for all of the table in
# docs/targets.md, and run on some of them. It fails if that table and the lists below differ.
#
#   scripts/targets.sh         all of it
#   scripts/targets.sh 0/3     the first of three parts (every third line of the lists)
#   scripts/targets.sh plain   this machine on the plainest platform alone (--cfg barrierd_plain)
#   scripts/targets.sh TARGET  that target alone
#
# A standard library comes from rustup where it has one (rustup target add TARGET); otherwise it is built along, by
# scripts/rust_src.sh. Runners and linkers come by `scripts/deps.sh targets`.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${CARGO_TARGET_DIR:-$PWD/target}
part=${1:-0/1}

# Target, and how it is tried: "check", or the runner.
lists='
plain                         run
i686-unknown-linux-gnu        run
aarch64-unknown-linux-gnu     run qemu-aarch64-static
armv7-unknown-linux-gnueabihf check
riscv64gc-unknown-linux-gnu   check
powerpc64le-unknown-linux-gnu check
s390x-unknown-linux-gnu       run qemu-s390x-static
armv5te-unknown-linux-gnueabi check
x86_64-unknown-linux-musl     check
aarch64-linux-android         check
x86_64-apple-darwin           check
aarch64-apple-ios             check
x86_64-pc-windows-gnu         run wine
x86_64-pc-windows-msvc        check
x86_64-unknown-freebsd        check
wasm32-unknown-unknown        check
wasm32-wasip1                 check
'
# What runs everywhere; a runner that can't start programs of its own target is spared the tests that start themselves.
tests="--test reclaim --test structures --test plain_model --test detector"
# The plainest platform runs all that it can: the others say that they do not apply.
export CARGO_INCREMENTAL=0

fail() {
  echo "targets.sh: $*" >&2
  exit 1
}

# The table has a row for each line, in any order: | `TARGET` | source | run or checked |
table=$(sed -n 's/^| `\([^`]*\)` | .* | \(run\|checked\)[^|]* |$/\1 \2/p' docs/targets.md | sort)
listed=$(awk 'NF { print $1, ($2 == "run" ? "run" : "checked") }' <<<"$lists" | sort)
diff <(echo "$listed") <(echo "$table") >&2 || fail "docs/targets.md (>) and this script's lists (<) differ"

# cargo with a standard library for the target.
cargo_for() { # TARGET ARGUMENTS...
  local target=$1 std=std,panic_unwind
  shift
  if [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
    cargo "$@" --target "$target"
    return
  fi
  case $target in wasm32-*) std=std,panic_abort ;; esac
  [ "$1" = test ] && std=$std,test
  scripts/rust_src.sh "${RUST_SRC:-$folder/rust-src}" cargo "$@" -Zbuild-std=$std --target "$target"
}

check() { # TARGET
  RUSTFLAGS="-D warnings" cargo_for "$1" check --quiet --manifest-path compat/crossbeam-epoch/Cargo.toml --target-dir "$folder/targets"
}

run() { # TARGET RUNNER...
  local target=$1 name flags="" more=""
  shift
  name=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$target")
  case $target in
    plain)
      RUSTFLAGS="--cfg barrierd_plain" cargo test --quiet -p barrierd-reclaim --lib --tests --target-dir "$folder/plain"
      return
      ;;
    i686-*) export "${name}_LINKER=i686-linux-gnu-gcc" more="--lib --test epoch --test fork" ;;
    aarch64-*) export "${name}_LINKER=aarch64-linux-gnu-gcc" flags="-C target-feature=+crt-static" ;;
    s390x-*) export "${name}_LINKER=s390x-linux-gnu-gcc" flags="-C target-feature=+crt-static" ;;
    *-windows-gnu)
      export "${name}_LINKER=x86_64-w64-mingw32-gcc-posix" WINEDEBUG=${WINEDEBUG:--all}
      random_for_wine
      ;;
  esac
  [ $# = 0 ] || export "${name}_RUNNER=$(runner "$@")"
  # An emulator runs a tenth of the histories in the time.
  # shellcheck disable=SC2086
  RUSTFLAGS=$flags BARRIERD_TEST_HISTORIES=${BARRIERD_TEST_HISTORIES:-500} \
    cargo_for "$target" test --quiet -p barrierd-reclaim --target-dir "$folder/targets" $tests $more
}

# Rust's library asks for random numbers in a DLL that wine has from 9.0 on.
random_for_wine() {
  local at=$folder/targets/wine
  mkdir -p "$at"
  x86_64-w64-mingw32-gcc-posix -shared -x c -o "$at/bcryptprimitives.dll" - -ladvapi32 <<'C'
#include <stddef.h>
__declspec(dllimport) unsigned char SystemFunction036(void *, unsigned long);
__declspec(dllexport) int ProcessPrng(unsigned char *to, size_t length) {
  return SystemFunction036(to, (unsigned long)length);
}
C
  export WINEPATH="Z:${at//\//\\}"
}

runner() {
  if [ "$1" = wine ]; then
    command -v wine64 || command -v wine || ls /usr/lib/wine/wine64
  else
    command -v "$1"
  fi
}

n=0
tried=0
while read -r target how with; do
  [ -n "$target" ] || continue
  n=$((n + 1))
  case $part in
    */*) [ $((n % ${part#*/})) = $((${part%/*} % ${part#*/})) ] || continue ;;
    *) [ "$target" = "$part" ] || continue ;;
  esac
  tried=$((tried + 1))
  echo "$target: $how${with:+ by $with}"
  if [ "$how" = check ]; then
    check "$target"
  else
    [ "$target" = plain ] || check "$target"
    # shellcheck disable=SC2086
    (run "$target" $with)
  fi
done <<<"$lists"
[ $tried -gt 0 ] || fail "'$part' is neither a part, as 0/3, nor a target of the list"
