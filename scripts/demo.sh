#!/usr/bin/env bash
# The main job on real input. As root: the daemon on this kernel's interrupts, the demo on it, and
# the same on membarrier beside it. Otherwise: membarrier alone, or a daemon that is running already.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${DEMO_SECONDS:-3}
target=${CARGO_TARGET_DIR:-target}
demo=$target/release/examples/demo

cargo build --release --quiet -p barrierd-reclaim --example demo

if [ "$(id -u)" -ne 0 ]; then
  echo "Not root, so no daemon is started: the demo takes one that runs, or membarrier."
  exec "$demo" --source auto --seconds "$seconds"
fi

cargo build --release --quiet -p barrierd-daemon --bin barrierd
dir=$(mktemp -d /run/barrierd-demo.XXXXXX 2>/dev/null || mktemp -d)
chmod 755 "$dir"
daemon=
stop() {
  if [ -n "$daemon" ]; then
    kill "$daemon" 2>/dev/null || true
    wait "$daemon" 2>/dev/null || true
  fi
  rm -rf "$dir"
}
trap stop EXIT
trap 'exit 130' INT TERM

"$target/release/barrierd" "$dir/barrier" 2>"$dir/log" &
daemon=$!
for _ in $(seq 100); do
  grep -q 'Setup complete' "$dir/log" && break
  if ! kill -0 "$daemon" 2>/dev/null; then
    cat "$dir/log" >&2
    echo "The daemon did not start here (see above); the demo runs on membarrier alone." >&2
    daemon=
    "$demo" --source membarrier --seconds "$seconds"
    exit 1
  fi
  sleep 0.1
done
echo "barrierd runs (pid $daemon) on this kernel's interrupts: $dir/barrier"
"$demo" --file "$dir/barrier" --source daemon --source membarrier --seconds "$seconds"
