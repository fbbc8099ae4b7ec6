#!/usr/bin/env bash
# Measures against the peers; as root with the live daemon.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo bench --quiet -p barrierd-daemon --bench scan
file=()
if [ "$(id -u)" -eq 0 ]; then
  cargo build --release --quiet -p barrierd-daemon --bin barrierd
  dir=$(mktemp -d /run/barrierd-bench.XXXXXX 2>/dev/null || mktemp -d)
  chmod 755 "$dir"
  "${CARGO_TARGET_DIR:-target}/release/barrierd" "$dir/barrier" 2>"$dir/log" &
  daemon=$!
  trap 'kill "$daemon" 2>/dev/null || true; wait "$daemon" 2>/dev/null || true; rm -rf "$dir"' EXIT
  for _ in $(seq 100); do
    grep -q 'Setup complete' "$dir/log" && break
    kill -0 "$daemon" 2>/dev/null || { cat "$dir/log" >&2; exit 1; }
    sleep 0.1
  done
  file=(-- --file "$dir/barrier")
  cargo bench --quiet -p barrierd-daemon --bench event
  cargo bench --quiet --bench barrier "${file[@]}" --pid "$daemon"
fi
cargo bench --quiet --bench reclaim "${file[@]}"
