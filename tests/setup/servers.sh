#!/usr/bin/env bash
# The servers the tests run against, and helm, built by Go's own client into .cache/bin, each only if it is not there in the
# pinned version: `NAME.version` beside a program says which it is. What another checkout has built is taken (kept.sh). A
# program of that name on PATH is used as it is.
# Usage: servers.sh [NAME..], all that the tests need when none is named.
set -uo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/kept.sh

declare -A pins=(
  [minio]=github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c
  [versitygw]=github.com/versity/versitygw/cmd/versitygw@v1.8.0
  [toxiproxy-server]=github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0
  [nats-server]=github.com/nats-io/nats-server/v2@v2.14.0
  [mc]=github.com/minio/mc@v0.0.0-20250313080218-cf909e1063a9
  [helm]=helm.sh/helm/v3/cmd/helm@v3.18.4
)
names=("$@")
((${#names[@]})) || names=(minio versitygw toxiproxy-server nats-server)

bin=$PWD/.cache/bin
missing=()
for name in "${names[@]}"; do
  [ "$(cat "$bin/$name.version" 2>/dev/null)" = "${pins[$name]}" ] && [ -x "$bin/$name" ] && continue
  if command -v "$name" >/dev/null; then
    echo "setup: $name is on PATH and is used as it is"
    continue
  fi
  if take "$bin/$name" "${pins[$name]}"; then
    echo "${pins[$name]}" >"$bin/$name.version"
    continue
  fi
  missing+=("$name")
done
((${#missing[@]})) || exit 0
if ! command -v go >/dev/null; then
  echo "setup: no go to build ${missing[*]} with; tests that need them are skipped" >&2
  exit 0
fi

# Where Go has caches already they are used. Where it has none, the 2 GB it takes go when the programs are built.
new=$(mktemp -d "${TMPDIR:-/tmp}/the0-servers.XXXXXX")
trap 'chmod -R u+w "$new"; rm -rf "$new"' EXIT
[ -d "$(go env GOCACHE)" ] || export GOCACHE=$new/build
[ -d "$(go env GOMODCACHE)" ] || export GOMODCACHE=$new/modules
mkdir -p "$bin"
for name in "${missing[@]}"; do
  echo "setup: building $name (minutes, once)"
  if GOBIN=$new/bin GOFLAGS= go install -ldflags='-s -w' "${pins[$name]}" >"$new/log" 2>&1; then
    mv "$new"/bin/* "$bin/$name" && echo "${pins[$name]}" >"$bin/$name.version"
    keep "$bin/$name" "${pins[$name]}"
  else
    tail -n 5 "$new/log" >&2
    echo "setup: $name could not be built; tests that need it are skipped" >&2
  fi
done
exit 0
