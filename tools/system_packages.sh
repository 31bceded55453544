#!/bin/sh
# Installs the Debian/Ubuntu packages that tinyboost needs beside Python, or says what to install.
set -eu

packages=""
want() { # want PACKAGE TEST...: note the package where the test fails
  package=$1
  shift
  "$@" >/dev/null 2>&1 || packages="$packages $package"
}

want cmake command -v cmake
want ninja-build command -v ninja
want g++ command -v g++
want gcc-arm-none-eabi command -v arm-none-eabi-gcc
want libnewlib-arm-none-eabi test -e /usr/lib/arm-none-eabi/newlib
want libstdc++-arm-none-eabi-newlib test -e /usr/include/newlib/c++
want dataset-fashion-mnist test -e /usr/share/datasets/fashion-mnist
[ -n "$packages" ] || exit 0

if [ "$(id -u)" = 0 ]; then
  as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
  as_root="sudo"
else
  echo "tinyboost needs system packages; install them with:" >&2
  echo "  sudo apt-get install -y --no-install-recommends$packages" >&2
  [ "$packages" = " dataset-fashion-mnist" ] && exit 0 # the demo can do without it and says so
  exit 6
fi
echo "installing$packages" >&2
$as_root apt-get update -q >/dev/null
# shellcheck disable=SC2086
if ! $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $packages >/dev/null; then
  echo "apt-get could not install:$packages" >&2
  exit 6
fi
