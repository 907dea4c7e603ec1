#!/usr/bin/env bash
# Compilers for the test bots, by apt and only what is absent, and the bots themselves, into .cache/bots.
set -uo pipefail
cd "$(dirname "$0")"

missing=()
command -v g++ >/dev/null || missing+=(g++)
command -v mcs >/dev/null || missing+=(mono-mcs)
command -v jar >/dev/null || missing+=(default-jdk-headless)
[ -f /usr/share/java/scala-library.jar ] && command -v scalac >/dev/null || missing+=(scala)
command -v ghc >/dev/null && ghc-pkg list --simple-output network 2>/dev/null | grep -q . || missing+=(ghc libghc-network-dev)
if ((${#missing[@]})); then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
      echo "setup: they could not be installed" >&2
  else
    echo "setup: not installed, and no way to install them here: ${missing[*]}" >&2
  fi
fi
exec ../bots/build.sh
