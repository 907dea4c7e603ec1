#!/usr/bin/env bash
# What judges the Helm chart, pinned, each only if it is absent: helm into .cache/bin; into the cache kubernetes-validate,
# which has the schemas of Kubernetes' versions, and the Prometheus operator's own definitions of what it reads.
set -euo pipefail
cd "$(dirname "$0")/../.."

tests/setup/servers.sh helm

package=kubernetes-validate==1.37.0
target=.cache/${package/==/-}
if [ ! -d "$target/kubernetes_validate" ]; then
  rm -rf "$target.new"
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-compile \
    --target "$target.new" "$package"
  rm -rf "$target" && mv "$target.new" "$target"
fi

version=v0.86.1
target=.cache/prometheus-operator-$version
if [ ! -d "$target" ]; then
  module=github.com/prometheus-operator/prometheus-operator
  new=$(mktemp -d "${TMPDIR:-/tmp}/the0-definitions.XXXXXX")
  trap 'rm -rf "$new"' EXIT
  echo module definitions >"$new/go.mod"
  # With these sums Go refuses a module of that version that is another one.
  cat >"$new/go.sum" <<SUMS
$module $version h1:pHUuiRErcFb3nFDox7RxoxpEN0FyT24GtYOkr2GBu04=
$module $version/go.mod h1:uNwW4SQz9lgeWV6CeERONLEsuN7Avd8vn19C8eHwiWg=
SUMS
  folder=$(cd "$new" && GOFLAGS= go mod download -json "$module@$version" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])')
  mkdir -p "$target.new"
  cp "$folder"/example/prometheus-operator-crd/monitoring.coreos.com_{servicemonitors,prometheusrules}.yaml "$target.new"
  mv "$target.new" "$target"
fi
