#!/usr/bin/env bash
# The platform's SDKs, unpacked by version into the cache: bots written with them are the proof of compatibility.
set -euo pipefail
cd "$(dirname "$0")/../.."
for version in 0.3.1 0.4.0; do
  target=.cache/sdk-$version
  [ -d "$target/the0" ] && continue
  rm -rf "$target.new"
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
    --target "$target.new" "the0-sdk==$version"
  rm -rf "$target" && mv "$target.new" "$target"
done
