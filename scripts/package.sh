#!/usr/bin/env bash
# Packs every package that is published, and builds each from its own tarball, with those of its siblings in the place of
# crates.io. What is given is passed on to cargo (`--allow-dirty`: with changes that are not committed).
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
largest=$((400 * 1024)) # bytes, of a tarball

since() { [ "$(printf '%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }
have=$(cargo --version | sed -n 's/^cargo \([0-9.]*\).*/\1/p')
since "$have" 1.90 || { echo "package.sh needs cargo 1.90, which packs packages that depend on each other; this is $have" >&2; exit 1; }

scripts/published.py check
options=()
for other in $(scripts/published.py excluded); do
  options+=(--exclude "$other")
done
if ! command -v clang >/dev/null && [ -z "${CLANG:-}" ]; then
  echo "NOT RUN: barrierd-bpf and barrierd-daemon, whose builds need clang" >&2
  [ -z "${CI:-}" ] || exit 1
  options+=(--exclude barrierd-bpf --exclude barrierd-daemon)
fi
mkdir -p "$target"
rm -f "$target"/package/*.crate
log=$target/package.log
# The warnings are what the lists in `include` leave out, and that no repository has an address yet.
if ! cargo package --workspace --locked "${options[@]}" "$@" >"$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi

for crate in "$target"/package/*.crate; do
  name=$(basename "$crate" .crate)
  files=$(tar -tzf "$crate" | sed "s#^$name/##")
  for file in LICENSE-MIT LICENSE-APACHE CHANGELOG.md Cargo.lock; do
    grep -qx "$file" <<<"$files" || { echo "$name has no $file" >&2; exit 1; }
  done
  grep -q "README.md$" <<<"$files" || { echo "$name has no README.md" >&2; exit 1; }
  if grep -E "^(tests|docs|scripts|fuzz|capi)/" <<<"$files"; then
    echo "$name has the files above, which are the repository's" >&2
    exit 1
  fi
  bytes=$(stat -c %s "$crate")
  [ "$bytes" -le "$largest" ] || { echo "$name has $bytes bytes, more than $largest" >&2; exit 1; }
  echo "$name: $(wc -l <<<"$files") files, $bytes bytes, builds from its tarball"
done
