#!/usr/bin/env bash
# Sets up what the tests need, each part only if it is absent: interpreters and compilers for the bots, the SDKs as
# judges, servers, Kubernetes. Docker and the images come last, with the tests (run.sh): what is built by then is put into them.
set -euo pipefail
cd "$(dirname "$0")"

missing=()
python3 -m pip --version >/dev/null 2>&1 || missing+=(python3 python3-pip)
command -v node >/dev/null || missing+=(nodejs)
command -v setpriv >/dev/null || missing+=(util-linux)
command -v cc >/dev/null || missing+=(gcc libc6-dev)
# Clocks that jump; the tests need its library only.
command -v faketime >/dev/null || missing+=(faketime)
command -v wrk >/dev/null || missing+=(wrk)
if ((${#missing[@]})); then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  else
    echo "setup: not installed and no way to install them here: ${missing[*]}; tests that need them are skipped" >&2
  fi
fi
./sdk.sh || echo "setup: the SDKs could not be had; the tests that need them are skipped" >&2
./bots.sh
./mongo.sh || echo "setup: mongod could not be had; the tests that need it are skipped" >&2
./promtool.sh || echo "setup: promtool could not be had; the tests that need it are skipped" >&2
./helm.sh || echo "setup: helm's judge could not be had; the tests that need it are skipped" >&2
./servers.sh
./kubernetes.sh build || echo "setup: the tests that need Kubernetes are skipped" >&2
