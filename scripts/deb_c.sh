#!/usr/bin/env bash
# Builds the Debian packages of the C interface by dpkg's own tools: libbarrierd0 and libbarrierd-shared0, the shared
# libraries with their symbols; libbarrierd-dev, what programs are compiled with. (cargo-deb 3.8 puts no symbols file into a package.)
#
#   scripts/deb_c.sh [DIRECTORY]     target/debian; PROFILE (release) is cargo's
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in dpkg-deb dpkg-architecture dpkg-gensymbols dpkg-shlibdeps; do
  command -v $tool >/dev/null || { echo "deb_c.sh: no $tool: apt-get install dpkg-dev" >&2; exit 1; }
done
output=${1:-${CARGO_TARGET_DIR:-target}/debian}
mkdir -p "$output"
output=$(realpath "$output")
declare -A symbols=([libbarrierd0]=$PWD/barrierd-client/capi [libbarrierd-shared0]=$PWD/barrierd-shared/capi)
version=$(cargo pkgid -p barrierd-capi | sed 's/.*[#@]//')
arch=$(dpkg-architecture -qDEB_HOST_ARCH)
libdir=/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
libraries=(libbarrierd libbarrierd-shared)
dev=$work/libbarrierd-dev
PREFIX=/usr LIBDIR=$libdir DESTDIR=$dev scripts/install_c.sh
for library in "${libraries[@]}"; do
  mkdir -p "$work/${library}0$libdir"
  mv "$dev$libdir/$library".so.* "$work/${library}0$libdir"
done
for package in "${libraries[@]/%/0}" libbarrierd-dev; do
  install -d "$work/$package/DEBIAN"
  install -D -m 644 -t "$work/$package/usr/share/doc/$package" LICENSE-APACHE LICENSE-MIT
done

# Both tools want a source tree around them.
cd "$work"
mkdir debian
echo "Source: barrierd" >debian/control
printf '\nPackage: %s0\nArchitecture: any\n' "${libraries[@]}" >>debian/control
declare -A depends
for library in "${libraries[@]}"; do
  package=${library}0
  # -c4: it fails if a symbol is gone, or is there and not in the list.
  dpkg-gensymbols -c4 "-p$package" -v"$version" -P"$package" -I"${symbols[$package]}/$package.symbols" -O"$package/DEBIAN/symbols"
  depends[$package]=$(dpkg-shlibdeps -O "$package$libdir/$library.so.$version" | sed 's/^shlibs:Depends=//')
  echo "activate-noawait ldconfig" >"$package/DEBIAN/triggers"
done

control() { # PACKAGE SECTION DEPENDS SUMMARY; the description follows on standard input
  cat >"$work/$1/DEBIAN/control" <<CONTROL
Package: $1
Source: barrierd
Version: $version-1
Architecture: $arch
Multi-Arch: same
Section: $2
Priority: optional
Maintainer: the barrierd authors
Depends: $3
Description: $4
$(sed 's/^/ /')
CONTROL
}
control libbarrierd0 libs "${depends[libbarrierd0]}" "C interface to barrierd's barriers: shared library" <<TEXT
For programs that wait, by a file that the daemon barrierd publishes, until every
CPU has passed a memory barrier.
TEXT
control libbarrierd-shared0 libs "${depends[libbarrierd-shared0]}" "Memory shared between processes, from C: shared library" <<TEXT
For programs that share cells and maps in memory with others, in C or in Rust, and
read them without a lock or a system call.
TEXT
control libbarrierd-dev libdevel "libbarrierd0 (= $version-1), libbarrierd-shared0 (= $version-1)" "C interface to barrierd's barriers: development files" <<TEXT
Headers, static libraries and pkg-config files for C and C++ programs that wait for
barrierd's barriers, or share memory by barrierd-shared. The headers are
<barrierd/barrierd.h> and <barrierd/barrierd_shared.h>, and without the directory with
pkg-config's flags.
TEXT
# What tests build need not be small.
[ "${PROFILE:-release}" = release ] && pack=-Zxz || pack=-Znone
for package in libbarrierd0 libbarrierd-shared0 libbarrierd-dev; do
  dpkg-deb $pack --root-owner-group --build "$package" "$output/${package}_$version-1_$arch.deb" >/dev/null
done
