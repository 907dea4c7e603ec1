#!/usr/bin/env bash
# The programs `make bench` measures against.
set -euo pipefail
for peer in tini dumb-init catatonit unzip; do
  command -v "$peer" >/dev/null && continue
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends tini dumb-init catatonit unzip >/dev/null
    break
  fi
  echo "bench: $peer is not installed and is left out" >&2
done

# MinIO's own client, for `mc mirror --watch`.
"$(dirname "$0")/servers.sh" mc
