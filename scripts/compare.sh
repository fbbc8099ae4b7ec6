#!/usr/bin/env bash
# A picture of this machine's barriers: `barrierctl compare`, as root beside this tree's daemon,
# otherwise beside one that is running already, or without.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/daemon.sh

echo "Building what is not built yet: some minutes the first time." >&2
cargo build --release --quiet -p barrierctl
barrierctl=${CARGO_TARGET_DIR:-target}/release/barrierctl

if [ "$(id -u)" -ne 0 ]; then
  echo "Not root, so no daemon is started: what one that runs gives is timed, or none."
  exec "$barrierctl" compare "$@"
fi
start_daemon
"$barrierctl" --file "$file" compare "$@"
