# To be sourced: starts this tree's daemon on a file of its own, and stops it when the script ends.

daemon= dir=
stop_daemon() {
  if [ -n "$daemon" ]; then
    kill "$daemon" 2>/dev/null || true
    wait "$daemon" 2>/dev/null || true
  fi
  if [ -n "$dir" ]; then rm -rf "$dir"; fi
}

# Sets `daemon`, its process, and `file`. Fails, with the daemon's log, where it does not start.
start_daemon() {
  local target=${CARGO_TARGET_DIR:-target}
  cargo build --release --quiet -p barrierd-daemon --bin barrierd
  dir=$(mktemp -d /run/barrierd-demo.XXXXXX 2>/dev/null || mktemp -d)
  chmod 755 "$dir"
  trap stop_daemon EXIT
  trap 'exit 130' INT TERM
  file=$dir/barrier
  "$target/release/barrierd" "$file" 2>"$dir/log" &
  daemon=$!
  for _ in $(seq 100); do
    grep -q 'Setup complete' "$dir/log" && break
    if ! kill -0 "$daemon" 2>/dev/null; then
      cat "$dir/log" >&2
      daemon=
      return 1
    fi
    sleep 0.1
  done
}
