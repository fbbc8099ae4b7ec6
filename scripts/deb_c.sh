#!/usr/bin/env bash
# Builds the Debian packages of the C interface by dpkg's own tools: libbarrierd0, the shared library with its symbols;
# libbarrierd-dev, what programs are compiled with. (cargo-deb 3.8 puts no symbols file into a package.)
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
symbols=$PWD/barrierd-client/capi/libbarrierd0.symbols
version=$(cargo pkgid -p barrierd-capi | sed 's/.*[#@]//')
arch=$(dpkg-architecture -qDEB_HOST_ARCH)
libdir=/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
lib=$work/libbarrierd0
dev=$work/libbarrierd-dev
PREFIX=/usr LIBDIR=$libdir DESTDIR=$dev scripts/install_c.sh
mkdir -p "$lib$libdir"
mv "$dev$libdir"/libbarrierd.so.* "$lib$libdir"
for package in "$lib" "$dev"; do
  install -d "$package/DEBIAN"
  install -D -m 644 -t "$package/usr/share/doc/${package##*/}" LICENSE-APACHE LICENSE-MIT
done

# Both tools want a source tree around them.
cd "$work"
mkdir debian
printf 'Source: barrierd\n\nPackage: libbarrierd0\nArchitecture: any\n' >debian/control
# -c4: it fails if a symbol is gone, or is there and not in the list.
dpkg-gensymbols -c4 -plibbarrierd0 -v"$version" -P"$lib" -I"$symbols" -O"$lib/DEBIAN/symbols"
depends=$(dpkg-shlibdeps -O "$lib$libdir/libbarrierd.so.$version" | sed 's/^shlibs:Depends=//')
echo "activate-noawait ldconfig" >"$lib/DEBIAN/triggers"

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
control libbarrierd0 libs "$depends" "C interface to barrierd's barriers: shared library" <<TEXT
For programs that wait, by a file that the daemon barrierd publishes, until every
CPU has passed a memory barrier.
TEXT
control libbarrierd-dev libdevel "libbarrierd0 (= $version-1)" "C interface to barrierd's barriers: development files" <<TEXT
Header, static library and pkg-config file for C and C++ programs that wait for
barrierd's barriers. The header is <barrierd/barrierd.h>, and <barrierd.h> with
pkg-config's flags.
TEXT
# What tests build need not be small.
[ "${PROFILE:-release}" = release ] && pack=-Zxz || pack=-Znone
for package in libbarrierd0 libbarrierd-dev; do
  dpkg-deb $pack --root-owner-group --build "$package" "$output/${package}_$version-1_$arch.deb" >/dev/null
done
