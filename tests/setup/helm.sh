#!/usr/bin/env bash
# What judges the Helm chart: helm into .cache/bin, and kubernetes-validate, which has the schemas of Kubernetes' versions,
# into the cache. Both pinned, each only if it is absent.
set -euo pipefail
cd "$(dirname "$0")/../.."

tests/setup/servers.sh helm

package=kubernetes-validate==1.37.0
target=.cache/${package/==/-}
[ -d "$target/kubernetes_validate" ] && exit 0
rm -rf "$target.new"
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-compile \
  --target "$target.new" "$package"
rm -rf "$target" && mv "$target.new" "$target"
