#!/usr/bin/env bash
# Looks whether what a step needs is there. As root on Debian and Ubuntu it installs what is missing, by apt; elsewhere
# it says what does.
#
#   scripts/deps.sh build   what the workspace needs to compile
#   scripts/deps.sh run     the same without the kernel side (client and reclaim only)
#   scripts/deps.sh lint    what `make lint` needs on top
#   scripts/deps.sh test    what the tests need on top of that
#   scripts/deps.sh bench   what the benchmarks need on top of that
#   scripts/deps.sh targets what `make targets` needs: linkers and runners of other targets
#   scripts/deps.sh vm      what building and `make vm` need
#   scripts/deps.sh path    installs nothing and prints the PATH on which cargo is new enough, if any is
#
# OS_RELEASE names another /etc/os-release.
set -euo pipefail
cd "$(dirname "$0")/.."

want=${1:-build}
rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
# Of the BPF programs' atomic exchanges (-mcpu=v3).
least_clang=12

# Who needs it, what shows that it is there, and its packages; "+" joins two, "-" is none: what needs it runs on Debian
# and Ubuntu alone. The machines' kernels of `make vm` are fetched by apt and unpacked by dpkg, as is what scripts/arm64.sh
# builds with; for arm64's machines the emulator takes 43 MB of disk and the compiler some 125 MB.
#                                       apt              dnf                    pacman          apk                 zypper             nix
table='
run    cmd=cc                           gcc              gcc                    gcc             gcc+musl-dev        gcc                gcc
run    cmd=make                         make             make                   make            make                make               gnumake
run    cargo                            rustup           rustup                 rustup          rustup              rustup             cargo+rustc
build  cmd=pkg-config                   pkg-config       pkgconf-pkg-config     pkgconf         pkgconf             pkgconf-pkg-config pkg-config
build  clang                            clang            clang                  clang           clang               clang              clang
build  lib=libelf,libelf.h              libelf-dev       elfutils-libelf-devel  libelf          elfutils-dev        libelf-devel       elfutils
build  lib=zlib,zlib.h                  zlib1g-dev       zlib-devel             zlib            zlib-dev            zlib-devel         zlib
build  lib=libseccomp,seccomp.h         libseccomp-dev   libseccomp-devel       libseccomp      libseccomp-dev      libseccomp-devel   libseccomp
test   cmd=c++                          g++              gcc-c++                gcc             g++                 gcc-c++            gcc
lint   cmd=python3                      python3          python3                python          python3             python3            python3
test   cmd=unshare                      util-linux       util-linux             util-linux      util-linux          util-linux         util-linux
test   cmd=strace                       strace           strace                 strace          strace              strace             strace
test   cmd=valgrind                     valgrind         valgrind               valgrind        valgrind            valgrind           valgrind
bench  lib=liburcu,urcu.h               liburcu-dev      userspace-rcu-devel    liburcu         userspace-rcu-dev   liburcu-devel      liburcu
targets cmd=i686-linux-gnu-gcc        gcc-i686-linux-gnu+libc6-dev-i386-cross+libc6-i386+lib32gcc-s1
targets cmd=aarch64-linux-gnu-gcc     gcc-aarch64-linux-gnu+libc6-dev-arm64-cross
targets cmd=s390x-linux-gnu-gcc       gcc-s390x-linux-gnu+libc6-dev-s390x-cross
targets cmd=arm-linux-gnueabihf-gcc   gcc-arm-linux-gnueabihf+libc6-dev-armhf-cross
targets cmd=riscv64-linux-gnu-gcc     gcc-riscv64-linux-gnu+libc6-dev-riscv64-cross
targets cmd=powerpc64le-linux-gnu-gcc gcc-powerpc64le-linux-gnu+libc6-dev-ppc64el-cross
targets cmd=x86_64-w64-mingw32-gcc-posix gcc-mingw-w64-x86-64-posix
targets cmd=qemu-s390x-static         qemu-user-static
targets cmd=wine                      wine64+wine
vm     cmd=qemu-system-x86_64           qemu-system-x86  qemu-system-x86        qemu-system-x86 qemu-system-x86_64  qemu-x86           qemu
vm     cmd=qemu-system-aarch64          qemu-system-arm  -                      -               -                   -                  -
vm     cmd=aarch64-linux-gnu-gcc        gcc-aarch64-linux-gnu+libc6-dev-arm64-cross - - - - -
'
case $want in
  run) steps=" run " ;;
  build) steps=" run build " ;;
  lint) steps=" run build lint " ;;
  test) steps=" run build lint test " ;;
  bench) steps=" run build lint test bench " ;;
  vm) steps=" run build vm " ;;
  targets) steps=" run targets " ;;
  path) ;;
  *) echo "deps.sh: '$want' is not one of: build, run, lint, test, bench, vm, targets, path" >&2; exit 2 ;;
esac

# Whether version $1 is $2 or later. No version at all is not.
since() {
  [ -n "$1" ] && [ "$(printf '%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# The version of a cargo; nothing of one that does not run, as rustup's without a toolchain.
version() {
  "$1" --version 2>/dev/null | sed -n 's/^cargo \([0-9.]*\).*/\1/p'
}

# A cargo that has just been installed is on no shell's path yet; and rustup's goes before a distribution's that is
# too old.
home=$HOME/.cargo/bin
if found=$(command -v cargo) && ! since "$(version "$found")" "$rust" && since "$(version "$home/cargo")" "$rust"; then
  PATH=$home:$PATH
else
  PATH=$PATH:$home
fi
if [ "$want" = path ]; then
  echo "$PATH"
  exit
fi

there() {
  case $1 in
    cargo) command -v cargo >/dev/null ;;
    cmd=*) command -v "${1#cmd=}" >/dev/null ;;
    # pkg-config knows libraries outside of /usr; what it does not know the compiler may find all the same.
    lib=*)
      local name=${1#lib=}
      pkg-config --exists "${name%,*}" 2>/dev/null ||
        echo "#include <${name#*,}>" | cc -E -x c - >/dev/null 2>&1
      ;;
    clang)
      local clang major
      for clang in ${CLANG:-} clang clang-{19..14}; do
        command -v "$clang" >/dev/null || continue
        # The build takes the first that runs.
        major=$("$clang" -dumpversion 2>/dev/null | sed 's/\..*//')
        [ "${major:-0}" -ge $least_clang ] && return
        echo "$clang is version ${major:-unknown}, and the BPF programs need $least_clang or later: set CLANG to another" >&2
        return 1
      done
      return 1
      ;;
  esac
}

# How this distribution installs, and the column of its names.
family() {
  local ID="" ID_LIKE="" id
  # shellcheck disable=SC1090
  . "${OS_RELEASE:-/etc/os-release}" 2>/dev/null || true
  for id in $ID $ID_LIKE; do
    case $id in
      debian | ubuntu) echo "3 apt-get install"; return ;;
      fedora | rhel | centos) echo "4 dnf install"; return ;;
      arch) echo "5 pacman -S"; return ;;
      alpine) echo "6 apk add"; return ;;
      suse | opensuse*) echo "7 zypper install"; return ;;
      nixos) echo "8 nix-shell -p"; return ;;
    esac
  done
  echo "3"
}
read -r column install <<<"$(family)"
# Other distributions have other sets of cross compilers.
if [ "$want" = targets ] && [ "$install" != "apt-get install" ]; then
  column=3 install=""
fi

missing=()
while read -r step shown packages; do
  [ -n "$step" ] && [[ $steps == *" $step "* ]] || continue
  there "$shown" && continue
  read -r -a names <<<"$packages"
  [ "${names[column - 3]}" = - ] && continue
  missing+=(${names[column - 3]//+/ })
done <<<"$table"

no_rustup() {
  case " ${missing[*]} " in
    *" rustup "*) echo "Where there is no package of rustup: Rust $rust or later from https://rustup.rs" >&2 ;;
  esac
}

if [ ${#missing[@]} -gt 0 ]; then
  if [ "$install" = "apt-get install" ] && [ "$(id -u)" -eq 0 ]; then
    echo "Installing: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    if ! apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; then
      no_rustup
      exit 1
    fi
    command -v cargo >/dev/null || rustup default stable
  else
    echo "Missing: ${missing[*]}" >&2
    if [ -n "$install" ]; then
      echo "Install them$([ "$column" = 8 ] || echo " as root"):" >&2
      echo "  $install ${missing[*]}" >&2
    else
      echo "Install them; these are their names in Debian." >&2
    fi
    no_rustup
    exit 1
  fi
fi

found=$(command -v cargo)
if ! since "$(version "$found")" "$rust"; then
  echo "$found is version $(version "$found"), and this needs Rust $rust or later. With rustup:" >&2
  echo "  rustup default stable && rustup update stable" >&2
  echo "No rustup? Its package, or https://rustup.rs; ~/.cargo/bin then goes before the one above." >&2
  exit 1
fi
