#!/usr/bin/env bash
# The client, its C interface, barrierctl, the reclaimer and the structures must build with cargo and a linker alone: no build
# script of theirs or of their dependencies may call a C compiler, and nothing of the kernel side may come in.
set -euo pipefail
cd "$(dirname "$0")/.."

for package in barrierd-client barrierd-capi barrierctl barrierd-reclaim barrierd-structures; do
  if cargo tree -p "$package" -e normal,build --prefix none --format '{p}' |
    grep -E '^(libbpf|cc |bindgen|pkg-config|libseccomp|vmlinux)'; then
    echo "$package depends on the packages above, which need C tools" >&2
    exit 1
  fi
done

# A path without clang, and a cc that only links.
stub=$(mktemp -d)
trap 'rm -rf "$stub"' EXIT
real=$(command -v cc)
cat >"$stub/cc" <<STUB
#!/bin/sh
for argument; do
  case \$argument in
    *.c|*.cc|*.S|-c) echo "a C compiler was called: \$*" >&2; exit 1 ;;
  esac
done
exec $real "\$@"
STUB
cp "$stub/cc" "$stub/gcc"
for name in clang c++ g++; do
  printf '#!/bin/sh\necho "%s was called" >&2\nexit 1\n' "$name" >"$stub/$name"
done
chmod +x "$stub"/*
PATH="$stub:$PATH" CC=cc cargo build --quiet -p barrierd-client -p barrierd-capi -p barrierctl -p barrierd-reclaim -p barrierd-structures \
  --target-dir "${CARGO_TARGET_DIR:-target}/plain"
echo "1 passed, 0 failed"
