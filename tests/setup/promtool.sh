#!/usr/bin/env bash
# promtool, which judges metrics and alert rules, into .cache/bin out of Debian's package `prometheus`, unless a program
# of that name is on PATH. The package itself is not installed: nothing of it is to run.
set -euo pipefail
cd "$(dirname "$0")/../.."

[ -x .cache/bin/promtool ] && exit 0
if command -v promtool >/dev/null; then
  echo "setup: promtool is on PATH and is used as it is"
  exit 0
fi
new=$(mktemp -d "${TMPDIR:-/tmp}/the0-promtool.XXXXXX")
trap 'rm -rf "$new"' EXIT
(
  cd "$new"
  # Whoever may not update the lists takes them as they are, and apt's own sandbox user may not write here.
  apt-get -o APT::Sandbox::User="$(id -un)" download -qq prometheus >/dev/null 2>&1 ||
    { apt-get update -qq && apt-get -o APT::Sandbox::User="$(id -un)" download -qq prometheus; } >/dev/null
  dpkg-deb -x prometheus_*.deb files
)
mkdir -p .cache/bin
mv "$new/files/usr/bin/promtool" .cache/bin/promtool
