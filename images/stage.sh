#!/usr/bin/env bash
# Lays out in .cache/images what the images are built from: archives whose owners, modes and times are fixed, so the same
# programs give the same image. Wants `make dist`; for the agent's image `make build`, or THE0_AGENT=PATH of another build.
# Usage: stage.sh runtimes|agent ..
#   THE0_PROGRAM_MODE  711: a bot can run the programs and not read them, which closes their /proc files to it from their
#                      first instruction on; 755 for a runtime that runs no program it may not read, as gVisor
set -euo pipefail
cd "$(dirname "$0")/.."
out=.cache/images
dist=target/dist/$(rustc -vV | sed -n 's/^host: //p')/release

# Adds to the archive what lies in $root, with the modes it has there.
pack() { # OWNER PATH..
  local owner=$1
  shift
  tar --append --file "$new" --format=ustar --sort=name --mtime=@0 --numeric-owner --owner="$owner" --group="$owner" \
    --directory "$root" "$@"
}

programs() {
  install -d -m 755 "$root"/{opt,opt/the0,opt/the0/bin,opt/the0/wrappers}
  install -d -m 1777 "$root/tmp"
  install -m "${THE0_PROGRAM_MODE:-711}" "$dist"/{supervisor,sync,query} "$root/opt/the0/bin"
  install -m 644 images/wrappers/*.* "$root/opt/the0/wrappers"
}

runtimes() {
  programs
  install -d -m 755 "$root"/{bot,query,state,var,var/the0,var/the0/logs}
  pack 0 opt tmp
  pack 0 --no-recursion var
  pack 1000 bot query state var/the0
}

agent() {
  programs
  install -m 755 "${THE0_AGENT:-target/fast/agent}" "$root/opt/the0/bin/agent"
  strip "$root/opt/the0/bin/agent" 2>/dev/null || true
  pack 0 opt tmp
}

mkdir -p "$out"
for part in "$@"; do
  root=$(mktemp -d)
  trap 'rm -rf "$root"' EXIT
  case $part in
    runtimes) archive=the0.tar ;;
    agent) archive=agent.tar ;;
    *) echo "stage: there is no part $part" >&2; exit 2 ;;
  esac
  new=$PWD/$out/$archive.new
  rm -f "$new"
  (cd "$root" && tar --create --file "$new" --files-from /dev/null)
  "$part"
  mv "$new" "$out/$archive"
  rm -rf "$root"
done
