#!/usr/bin/env bash
# Runs the tests, with a Docker daemon, a Kubernetes and the images under a tag of their own, and ends with their sum: a
# skipped test says why and is counted. What was started for it, and the tag, are gone afterwards.
set -uo pipefail
setup=$(dirname "$0")
log=$(mktemp)
tag=${THE0_TAG:-test}

docker=/usr/bin/docker
[ -x "$docker" ] || docker=docker

finish() {
  rm -f "$log"
  [ -z "${cluster:-}" ] || "$setup/kubernetes.sh" stop
  if [ -z "${given:-}" ]; then
    "$docker" image ls --filter "reference=the0/*:$tag" --format '{{.Repository}}:{{.Tag}}' 2>/dev/null |
      xargs -r "$docker" image rm >/dev/null 2>&1
  fi
  "$setup/docker.sh" stop
}
given=${THE0_TAG:-}
export THE0_TAG=$tag
trap finish EXIT

"$setup/docker.sh" start
"$setup/../../images/build.sh" || echo "setup: there are no images; the tests that need them are skipped" >&2

"$setup/kubernetes.sh" running || cluster=ours
{ "$setup/kubernetes.sh" start && "$setup/kubernetes.sh" import "${THE0_PREFIX:-the0}"/{python3.11,agent}":$tag"; } ||
  echo "setup: the tests that need Kubernetes are skipped" >&2

# Whoever starts this in the background may have made it ignore signals that tests send.
heard=(env --default-signal=HUP,INT,QUIT)
"${heard[@]}" true 2>/dev/null || heard=()
"${heard[@]}" "$@" 2>&1 | tee "$log"
code=${PIPESTATUS[0]}
echo
grep -E '^(SKIPPED|FLAKY) ' "$log" | sort -u
awk -v skipped="$(grep -c '^SKIPPED ' "$log")" -v flaky="$(grep -c '^FLAKY ' "$log")" '
  /^test result: / { passed += $4; failed += $6; skipped += $8 }
  END {
    printf "%d passed, %d failed, %d skipped", passed - skipped + flaky, failed - flaky, skipped
    print flaky ? sprintf(", %d of the passed only when run again, alone", flaky) : ""
  }' "$log"
exit "$code"
