#!/usr/bin/env bash
# The programs `make bench` measures against, the servers it runs, and images of the programs just built.
set -euo pipefail
cd "$(dirname "$0")"
for peer in tini dumb-init catatonit unzip; do
  command -v "$peer" >/dev/null && continue
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends tini dumb-init catatonit unzip >/dev/null
    break
  fi
  echo "bench: $peer is not installed and is left out" >&2
done

# mc is MinIO's own client, for `mc mirror --watch`.
./servers.sh minio mc
./mongo.sh || echo "bench: mongod could not be had; what needs it is left out" >&2

docker=/usr/bin/docker
[ -x "$docker" ] || docker=docker
if timeout 20 "$docker" info >/dev/null 2>&1; then
  ../../images/build.sh python3.11 rust-stable || echo "bench: there are no images; bots in containers are left out" >&2
else
  echo "bench: no Docker answers (tests/setup/docker.sh start starts one); bots in containers are left out" >&2
fi
