# shellcheck shell=bash
# shellcheck disable=SC2153,SC2154 # CACHE is set by servers.sh
# libfaketime, which stands between a program and the system's clock: for the tests of clocks that jump. It is loaded into our own
# program, so it is the one of this machine's suite.

faketime_unpack() { # FOLDER
  unpack_debs "$(host_suite)" "$1" 'libfaketime$' +libfaketime
}

# Prints the path of the library, for LD_PRELOAD.
faketime_library() {
  local installed
  installed=/usr/lib/$(multiarch)/faketime/libfaketimeMT.so.1
  if [ -e "$installed" ]; then
    echo "$installed"
    return
  fi
  unpacked "faketime-$(host_suite)" faketime_unpack
  echo "$CACHE/faketime-$(host_suite)$installed"
}
