#!/usr/bin/env bash
# A Docker daemon for the tests. `start` uses the one that answers; where none does, Docker is installed (as root, by
# apt) and started, and written down in .cache/docker. `stop` ends a daemon that `start` has started, and no other.
set -uo pipefail
cd "$(dirname "$0")/../.."

home=$PWD/.cache/docker
docker=/usr/bin/docker
[ -x "$docker" ] || docker=$(command -v docker || echo /usr/bin/docker)

answers() { timeout 20 "$docker" info >/dev/null 2>&1; }

without() {
  echo "setup: $1; tests that need Docker are skipped" >&2
  exit 0
}

install() {
  command -v dockerd >/dev/null && { mountpoint -q /sys/fs/cgroup || command -v cgroupfs-mount >/dev/null; } && return
  command -v apt-get >/dev/null || without "Docker is not installed, and there is no apt to install it by"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io cgroupfs-mount >/dev/null 2>&1 ||
    without "Docker could not be installed"
  answers || rm -f /var/run/docker.pid # of a daemon the installation tried to start
  docker=/usr/bin/docker
}

# What a daemon that was killed has left: its number may be another process's by now, which would be taken for it.
forget() { # PID-FILE PROGRAM
  local pid
  pid=$(cat "$1" 2>/dev/null) || return 0
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] || rm -f "$1"
}

start() {
  answers && return
  [ -z "${DOCKER_HOST:-}" ] || without "no Docker answers at DOCKER_HOST ($DOCKER_HOST)"
  [ "$(id -u)" = 0 ] || without "no Docker answers, and only root can start one"
  install
  answers && return
  mountpoint -q /sys/fs/cgroup || cgroupfs-mount
  mkdir -p "$home"
  forget /var/run/docker.pid dockerd
  forget /var/run/docker/containerd/containerd.pid containerd
  echo "setup: starting dockerd (its log: .cache/docker/log)"
  setsid dockerd >"$home/log" 2>&1 </dev/null &
  echo $! >"$home/pid"
  for _ in {1..300}; do
    answers && return
    kill -0 "$(cat "$home/pid")" 2>/dev/null || break
    sleep 0.1
  done
  tail -n 5 "$home/log" >&2
  stop
  without "dockerd does not come up"
}

# Only what is a dockerd still is ended: process ids are used again.
stop() {
  local pid
  pid=$(cat "$home/pid" 2>/dev/null) || return 0
  rm -f "$home/pid"
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ] || return 0
  kill "$pid"
  for _ in {1..300}; do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.1
  done
  echo "setup: dockerd ($pid) does not end, killing it" >&2
  kill -9 "$pid"
}

case "${1:-}" in
  start) start ;;
  stop) stop ;;
  *)
    echo "usage: docker.sh start|stop" >&2
    exit 2
    ;;
esac
