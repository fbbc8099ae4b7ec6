#!/usr/bin/env bash
# The main job on real input. As root: the daemon on this kernel's interrupts, the demo on it, and
# the same on membarrier beside it. Otherwise: membarrier alone, or a daemon that is running already.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/daemon.sh

seconds=${DEMO_SECONDS:-3}
demo=${CARGO_TARGET_DIR:-target}/release/examples/demo

echo "Building what is not built yet: some minutes the first time." >&2
cargo build --release --quiet -p barrierd-reclaim --example demo

if [ "$(id -u)" -ne 0 ]; then
  echo "Not root, so no daemon is started: the demo takes one that runs, or membarrier."
  exec "$demo" --source auto --seconds "$seconds"
fi

if ! start_daemon; then
  echo "The daemon did not start here (see above); the demo runs on membarrier alone." >&2
  "$demo" --source membarrier --seconds "$seconds"
  exit 1
fi
echo "barrierd runs (pid $daemon) on this kernel's interrupts: $file"
"$demo" --file "$file" --source daemon --source membarrier --seconds "$seconds"
