#!/usr/bin/env bash
# Installs the C interface: headers, libbarrierd and libbarrierd-shared (shared and static), pkg-config files. Then programs
# find the shared libraries, or this says the one line that is missing.
#
#   PREFIX=/usr/local LIBDIR=$PREFIX/lib DESTDIR= scripts/install_c.sh
#
# PROFILE (release) is cargo's. With DESTDIR, which is for packages, the linker's cache is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

prefix=${PREFIX:-/usr/local}
libdir=${LIBDIR:-$prefix/lib}
profile=${PROFILE:-release}
root=${DESTDIR:-}
target=${CARGO_TARGET_DIR:-target}

case $prefix$libdir in
  *[[:space:]]*) echo "install_c.sh: pkg-config can't have white space in paths: $prefix $libdir" >&2; exit 1 ;;
  /*) ;;
  *) echo "install_c.sh: PREFIX and LIBDIR must be absolute" >&2; exit 1 ;;
esac

cargo build --quiet --profile "$profile" -p barrierd-capi -p barrierd-shared-capi
built=$target/$([ "$profile" = dev ] && echo debug || echo "$profile")
version=$(cargo pkgid -p barrierd-capi | sed 's/.*[#@]//')

install_library() { # BUILT NAME HEADER DESCRIPTION
  # The number in the shared library's own name (build.rs).
  local soname=lib$2.so.0
  # In a directory of its own, which pkg-config names: the C daemon's header has the same name as ours.
  install -D -m 644 "$3" "$root$prefix/include/barrierd/${3##*/}"
  install -D -m 644 "$built/lib$1.so" "$root$libdir/lib$2.so.$version"
  ln -sf "lib$2.so.$version" "$root$libdir/$soname"
  ln -sf "$soname" "$root$libdir/lib$2.so"
  install -D -m 644 "$built/lib$1.a" "$root$libdir/lib$2.a"
  install -d "$root$libdir/pkgconfig"
  cat >"$root$libdir/pkgconfig/$2.pc" <<PC
prefix=$prefix
libdir=$libdir
includedir=\${prefix}/include/barrierd

Name: $2
Description: $4
Version: $version
Cflags: -I\${includedir}
Libs: -L\${libdir} -l$2
Libs.private: -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc
PC
  # Line tables are for who debugs the library itself.
  if [ "$profile" = release ] && command -v strip >/dev/null; then
    strip --strip-unneeded "$root$libdir/lib$2.so.$version"
    strip --strip-debug "$root$libdir/lib$2.a"
  fi
  chmod 644 "$root$libdir/pkgconfig/$2.pc"
}
install_library barrierd barrierd barrierd-client/capi/include/barrierd.h \
  "Learn that every CPU has passed a memory barrier since a given moment"
install_library barrierd_shared_c barrierd-shared barrierd-shared/capi/include/barrierd_shared.h \
  "Memory that several processes share, read without a lock, a fence or a system call"

[ -z "$root" ] || exit 0

# Whether ld.so looks into $libdir without being told, by ldconfig's own list. It changes nothing (-N -X).
searched() {
  local dir
  while IFS= read -r dir; do
    [ "$dir" -ef "$libdir" ] && return
  done < <(ldconfig -v -N -X 2>/dev/null | sed -n 's|^\(/[^:]*\):.*|\1|p')
  return 1
}
# Not on every user's path.
PATH=$PATH:/usr/sbin:/sbin
if ! searched; then
  echo "ld.so does not look into $libdir: link programs with -Wl,-rpath,$libdir, or run them with LD_LIBRARY_PATH=$libdir"
elif [ "$(id -u)" -eq 0 ]; then
  ldconfig
else
  echo "Programs find libbarrierd once root has run: ldconfig"
fi
