#!/usr/bin/env bash
# The reclaimer and the drop-in for crossbeam-epoch on other targets than this one: compiled for all of the table in
# docs/targets.md, and run on some of them. It fails if that table and the lists below differ, if a target that is to
# run has run nothing, or if the README leads nobody to the table.
#
#   scripts/targets.sh         all of it
#   scripts/targets.sh 0/4     a part: every fourth line of the lists
#   scripts/targets.sh plain   this machine on the plainest platform alone (--cfg barrierd_plain)
#   scripts/targets.sh TARGET  that target alone
#   scripts/targets.sh table   none of them: whether the table is the script's (part of make lint)
#   scripts/targets.sh names 0/4   none of them: which ones a part has
#
# A standard library comes from rustup (rustup target add TARGET); where it has none it is built along, by
# scripts/rust_src.sh. Runners and linkers come by `scripts/deps.sh targets`.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${CARGO_TARGET_DIR:-$PWD/target}
names=""
[ "${1:-}" != names ] || { names=yes && shift; }
part=${1:-0/1}

# Target, and how it is tried: "check", or "run" and its runner, if it needs one. "users": published crates on the
# drop-in are run as well. "shared": barrierd-shared, its library for C, and programs in C.
lists='
i686-unknown-linux-gnu        run   -                   users
aarch64-unknown-linux-gnu     run   qemu-aarch64-static users shared
plain                         run   -
s390x-unknown-linux-gnu       run   qemu-s390x-static
armv7-unknown-linux-gnueabihf run   qemu-arm-static
riscv64gc-unknown-linux-gnu   run   qemu-riscv64-static
powerpc64le-unknown-linux-gnu run   qemu-ppc64le-static
x86_64-pc-windows-gnu         run   wine
armv5te-unknown-linux-gnueabi check
x86_64-unknown-linux-musl     check
aarch64-linux-android         check
x86_64-apple-darwin           check
aarch64-apple-ios             check
x86_64-pc-windows-msvc        check
x86_64-unknown-freebsd        check
wasm32-unknown-unknown        check
wasm32-wasip1                 check
'
# What runs everywhere. "plain" runs all that there is: what does not apply there says so.
tests="--lib --test reclaim --test structures --test plain_model --test detector --test prompt"
# An emulator can't start programs of its own target, as these tests do.
spared="--skip a21_who_leaves --skip mutant_older_look"
# The tests of barrierd-shared that start no daemon of the target's and neither fork nor leave a namespace beside other threads, which an
# emulator doesn't survive (so not `lives`, `locks`, `rights`); nor does it keep a limit of address space. `tso` is the same on all targets.
shared_tests="--lib --test map --test open --test hostile --test sources"
shared_spared="--skip no_child_that_another_thread_forks --skip a_region_that_cannot_be_mapped --skip a_daemon_may_come_die"
# Users of crossbeam-epoch, of tests/compat/.
users="skiplist deque rayon"
export CARGO_INCREMENTAL=0

fail() {
  echo "targets.sh: $*" >&2
  exit 1
}

# The table has a row for each line, in any order: | `TARGET` | source | run or checked |
table=$(sed -n 's/^| `\([^`]*\)` | .* | \(run\|checked\)[^|]* |$/\1 \2/p' docs/targets.md | sort)
listed=$(awk 'NF { print $1, ($2 == "run" ? "run" : "checked") }' <<<"$lists" | sort)
diff <(echo "$listed") <(echo "$table") >&2 || fail "docs/targets.md (>) and this script's lists (<) differ"
grep -q '](docs/targets.md)' README.md || fail "README.md has no link to docs/targets.md"
[ "$part" != table ] || exit 0

has_std() { # TARGET
  [ -d "$(rustc --print sysroot)/lib/rustlib/$1/lib" ]
}

# What has run: the main loop looks.
ran=$folder/targets/ran

# cargo with a standard library for the target.
cargo_for() { # TARGET COMMAND ARGUMENTS...
  local target=$1 command=$2 std=std,panic_unwind
  shift 2
  if ! has_std "$target" && command -v rustup >/dev/null; then
    rustup target add "$target" >&2 || true
  fi
  if has_std "$target"; then
    cargo "$command" --target "$target" "$@"
    return
  fi
  case $target in wasm32-*) std=std,panic_abort ;; esac
  [ "$command" = test ] && std=$std,test
  scripts/rust_src.sh "${RUST_SRC:-$folder/rust-src}" cargo "$command" -Zbuild-std=$std --target "$target" "$@"
}

check() { # TARGET
  RUSTFLAGS="-D warnings" cargo_for "$1" check --quiet --manifest-path compat/crossbeam-epoch/Cargo.toml --target-dir "$folder/targets"
}

# The daemon's client is not for every target, and says so in its first line.
says_what_it_lacks() { # TARGET
  local said
  said=$(cargo_for "$1" check --quiet -p barrierd-client --target-dir "$folder/targets" 2>&1) &&
    fail "barrierd-client compiles for $1: docs/targets.md says that it does not"
  grep -m 1 "^error" <<<"$said" | grep -q '^error: barrierd-client needs 64-bit little-endian Linux: ' ||
    fail "what barrierd-client says on $1: $said"
}

# What a run says; so many programs of tests must have passed, none of them empty.
counted() { # PROGRAMS COMMAND...
  local programs=$1 log=$folder/targets/log passed
  shift
  mkdir -p "$folder/targets"
  "$@" 2>&1 | tee "$log"
  passed=$(grep -c '^test result: ok\. [1-9]' "$log" || true)
  [ "$passed" -ge "$programs" ] || fail "$passed programs of tests ran, of $programs"
  echo "$passed" >>"$ran"
}

run() { # TARGET RUNNER [users]
  local target=$1 runner=$2 name flags="" skip="" user
  name=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$target")
  case $target in
    plain)
      counted 10 env RUSTFLAGS="--cfg barrierd_plain" \
        cargo test --quiet -p barrierd-reclaim --lib --tests --target-dir "$folder/plain"
      return
      ;;
    i686-*)
      export "${name}_LINKER=i686-linux-gnu-gcc" tests="$tests --test epoch --test fork"
      says_what_it_lacks "$target"
      ;;
    *-linux-*)
      export "${name}_LINKER=$(triple "$target")-gcc"
      # So no library of the target is looked for.
      flags="-C target-feature=+crt-static" skip=$spared
      # An emulator runs a tenth in the time.
      export PROPTEST_CASES=${PROPTEST_CASES:-25}
      ;;
    *-windows-gnu)
      export "${name}_LINKER=x86_64-w64-mingw32-gcc-posix" WINEDEBUG=${WINEDEBUG:--all}
      random_for_wine
      ;;
  esac
  [ "$runner" = - ] || export "${name}_RUNNER=$(runner "$runner")"
  export RUSTFLAGS=$flags BARRIERD_TEST_HISTORIES=${BARRIERD_TEST_HISTORIES:-500}
  # shellcheck disable=SC2086
  counted 6 cargo_for "$target" test --quiet -p barrierd-reclaim --target-dir "$folder/targets" $tests -- $skip
  case " ${*:3} " in *" shared "*) shared "$target" "$(runner "$runner")" ;; esac
  case " ${*:3} " in *" users "*) ;; *) return 0 ;; esac
  for user in $users; do
    echo "$target: $user"
    counted 1 cargo_for "$target" test --quiet --manifest-path "tests/compat/$user/Cargo.toml" --target-dir "$folder/targets/compat"
  done
}

# Memory between processes: each is a program of the target, under an emulator of its own, and so dies as any other.
shared() { # TARGET EMULATOR
  echo "$1: barrierd-shared"
  # shellcheck disable=SC2086
  counted 5 cargo_for "$1" test --quiet -p barrierd-shared --target-dir "$folder/targets" $shared_tests -- $shared_spared
  BARRIERD_TEST_EMULATOR=$2 counted 0 cargo_for "$1" test --quiet -p barrierd-shared --target-dir "$folder/targets" --test storm
  grep -q '^storm: [1-9][0-9]* killed; ' "$folder/targets/log" || fail "no storm ran"
  BARRIERD_TEST_EMULATOR=$2 counted 3 cargo_for "$1" test --quiet -p barrierd-shared-capi --target-dir "$folder/targets" \
    --lib --test border --test map
}

# The name that Debian's compilers have for a target of Linux.
triple() { # TARGET
  local arch=${1%%-*} rest=${1##*-linux-}
  echo "$(sed 's/^armv7$/arm/; s/^riscv64gc$/riscv64/' <<<"$arch")-linux-$rest"
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
while read -r target how with more; do
  [ -n "$target" ] || continue
  n=$((n + 1))
  case $part in
    */*) [ $((n % ${part#*/})) = $((${part%/*} % ${part#*/})) ] || continue ;;
    *) [ "$target" = "$part" ] || continue ;;
  esac
  tried=$((tried + 1))
  [ -z "$names" ] || { echo "$target" && continue; }
  case $with in -) with_what="" ;; *) with_what=${with:+ by $with} ;; esac
  echo "== $target: $how$with_what"
  if [ "$how" = check ]; then
    check "$target" </dev/null
  else
    [ "$target" = plain ] || check "$target" </dev/null
    rm -f "$ran"
    # shellcheck disable=SC2086
    (run "$target" "$with" $more) </dev/null
    [ -s "$ran" ] || fail "$target is to run, and nothing ran"
  fi
done <<<"$lists"
[ $tried -gt 0 ] || fail "'$part' is neither a part, as 0/4, nor a target of the list"
