#!/usr/bin/env bash
# A release: what must be true before it, and the packages in the order in which they go to crates.io.
#
#   scripts/release.sh --dry-run   checks everything and publishes nothing; what is left to do by hand is listed
#   scripts/release.sh --publish   the same, ends if anything is left to do, and then runs cargo publish
#
# All published packages have the workspace's version, and so one CHANGELOG.md. To raise it: `version` in
# [workspace.package], those in [workspace.dependencies], and the changelog's first heading. SHORT=1 leaves out the
# oldest Rust (`make msrv`).
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in
  --dry-run | --publish) how=$1 ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

left=()
todo() {
  left+=("$*")
}

version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
echo "== version $version"
while read -r name own; do
  [ "$own" = "$version" ] || { echo "[workspace.dependencies] asks for $name $own, this is $version" >&2; exit 1; }
done < <(sed -n 's/^\([a-z-]*\) = { path = .*version = "\([^"]*\)".*/\1 \2/p' Cargo.toml)
cargo metadata --format-version 1 --locked >/dev/null || { echo "Cargo.lock is not that of the manifests" >&2; exit 1; }
heading=$(grep -m 1 "^## " CHANGELOG.md)
case $heading in
  "## $version (unreleased)") todo "date the changelog's heading: ## $version (YEAR-MONTH-DAY)" ;;
  "## $version ("[0-9]*) ;;
  *) echo "the changelog begins with '$heading', not with $version" >&2; exit 1 ;;
esac
[ -z "$(git status --porcelain)" ] || todo "commit what has changed"
[ -z "$(git tag --list "v$version")" ] || { echo "there is a tag v$version already" >&2; exit 1; }
grep -q "^repository" Cargo.toml || todo "give [workspace.package] a repository, once there is one, and let the packages take it (repository.workspace = true)"

echo "== public interfaces"
scripts/public_api.sh
if [ -z "${SHORT:-}" ]; then
  echo "== the oldest Rust"
  scripts/msrv.sh
fi
echo "== packages"
dirty=()
[ "$how" = --publish ] || dirty=(--allow-dirty)
scripts/package.sh "${dirty[@]}"

echo "== order"
scripts/published.py order | nl
if [ ${#left[@]} -gt 0 ]; then
  echo "== left to do before $version is published"
  printf -- '- %s\n' "${left[@]}"
  [ "$how" = --dry-run ] || exit 1
fi
[ "$how" = --publish ] || exit 0
# In that order, each once the one before is on the index: cargo sees to it.
exclude=()
for other in $(scripts/published.py excluded); do
  exclude+=(--exclude "$other")
done
cargo publish --workspace --locked "${exclude[@]}"
echo "published: now git tag -a v$version, and push the tag"
