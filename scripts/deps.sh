#!/usr/bin/env bash
# Installs what a step needs: as root by apt, otherwise it lists what is missing.
#
#   scripts/deps.sh build   what the workspace needs to compile
#   scripts/deps.sh run     the same without the kernel side (client and reclaim only)
#   scripts/deps.sh test    what the tests need on top
#   scripts/deps.sh bench   what the benchmarks need on top of that
#   scripts/deps.sh vm      what building and `make vm` need
set -euo pipefail

want=${1:-build}

# package:what shows that it is there
build_packages=(
  gcc:cmd=cc make:cmd=make pkg-config:cmd=pkg-config clang:clang
  libelf-dev:file=/usr/include/libelf.h zlib1g-dev:file=/usr/include/zlib.h
  libseccomp-dev:file=/usr/include/seccomp.h
)
run_packages=(gcc:cmd=cc make:cmd=make)
test_packages=(g++:cmd=c++ python3:cmd=python3 util-linux:cmd=unshare strace:cmd=strace valgrind:cmd=valgrind)
# A peer.
bench_packages=(liburcu-dev:pkg=liburcu)
# The machines' kernels are fetched by apt and unpacked by dpkg, not installed.
vm_packages=(qemu-system-x86:cmd=qemu-system-x86_64)

case $want in
  run) packages=("${run_packages[@]}") ;;
  build) packages=("${build_packages[@]}") ;;
  test) packages=("${build_packages[@]}" "${test_packages[@]}") ;;
  bench) packages=("${build_packages[@]}" "${test_packages[@]}" "${bench_packages[@]}") ;;
  vm) packages=("${build_packages[@]}" "${vm_packages[@]}") ;;
  *) echo "deps.sh: '$want' is not one of: build, run, test, bench, vm" >&2; exit 2 ;;
esac

there() {
  case $1 in
    cmd=*) command -v "${1#cmd=}" >/dev/null ;;
    file=*) [ -e "${1#file=}" ] ;;
    pkg=*) pkg-config --exists "${1#pkg=}" 2>/dev/null ;;
    clang) for c in ${CLANG:-} clang clang-19 clang-18 clang-17 clang-16 clang-15 clang-14; do
             command -v "$c" >/dev/null && return 0; done; return 1 ;;
  esac
}

missing=()
for entry in "${packages[@]}"; do
  there "${entry#*:}" || missing+=("${entry%%:*}")
done

# Only a shell that has no cargo yet looks for rustup's.
command -v cargo >/dev/null || { [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"; } || true
command -v cargo >/dev/null || missing+=(rustup)

[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  echo "Installing: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  if ! apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; then
    case " ${missing[*]} " in
      *" rustup "*) echo "This release has no rustup package: install Rust 1.88 or newer from https://rustup.rs" >&2 ;;
    esac
    exit 1
  fi
  command -v cargo >/dev/null || rustup default stable
else
  echo "Missing: ${missing[*]}" >&2
  echo "Install them as root, on Debian or Ubuntu:" >&2
  echo "  apt-get install ${missing[*]}" >&2
  case " ${missing[*]} " in
    *" rustup "*) echo "(no rustup package there? Rust 1.88 or newer from https://rustup.rs)" >&2 ;;
  esac
  exit 1
fi
