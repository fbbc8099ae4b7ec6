#!/usr/bin/env bash
# The libraries' public interfaces against api/*.txt. Part of `make lint`.
#
#   scripts/public_api.sh            shows what differs, and fails if anything does
#   scripts/public_api.sh --accept   writes the listings anew
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}/api
command -v python3 >/dev/null || { echo "public_api.sh needs python3" >&2; exit 1; }

failed=
for library in barrierd-client barrierd-reclaim barrierd-shared barrierd-structures; do
  # rustdoc's JSON, which stable has under a flag.
  RUSTC_BOOTSTRAP=1 cargo rustdoc --quiet --locked --lib --all-features -p "$library" --target-dir "$target" -- \
    -Z unstable-options --output-format json --cap-lints allow
  new=$target/$library.txt
  PYTHONDONTWRITEBYTECODE=1 python3 scripts/public_api.py "$target/doc/${library//-/_}.json" >"$new"
  [ "$(wc -l <"$new")" -gt 20 ] || { echo "public_api.sh: $library's listing is all but empty" >&2; exit 1; }
  if [ "${1:-}" = --accept ]; then
    mkdir -p api
    cp "$new" "api/$library.txt"
    echo "api/$library.txt: $(wc -l <"$new") items"
  elif ! diff -u "api/$library.txt" "$new" --label "api/$library.txt" --label "$library as it is now"; then
    failed=1
  else
    echo "$library: its $(wc -l <"$new") public items are those of api/$library.txt"
  fi
done
if [ "$failed" ]; then
  echo "The public interface has changed. If that is meant, run scripts/public_api.sh --accept, commit api/, and say it" >&2
  echo "in CHANGELOG.md; what is gone or different breaks users, and takes a new minor version (0.x) or major version." >&2
  exit 1
fi
