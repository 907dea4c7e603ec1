#!/usr/bin/env bash
# Runs the test binaries of the workspace side by side: they wait for servers and containers more than they compute.
# THE0_TEST_JOBS of them at once, those that take longest first; what one printed comes in one piece when it has ended.
#
#   side_by_side.sh FLAGS      the flags of `cargo test` that say what is built
set -uo pipefail
cargo=${CARGO:-cargo}
jobs=${THE0_TEST_JOBS:-4}
longest='docker outages s3 jobs events sync schedules soak history lease'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$cargo" test "$@" --no-run --message-format=json-render-diagnostics >"$work/built" || exit
python3 - "$work/built" "$longest" >"$work/binaries" <<'PYTHON' || exit
import json, os, sys

longest = sys.argv[2].split()
found = []
for line in open(sys.argv[1]):
    said = json.loads(line)
    if said.get("reason") != "compiler-artifact" or not said.get("executable") or not said["profile"]["test"]:
        continue
    package = os.path.dirname(said["manifest_path"])
    name = said["target"]["name"]
    label = f"{os.path.basename(package)}: {name}"
    rank = longest.index(name) if name in longest and package.endswith("/tests") else len(longest)
    found.append((rank, label, package, said["executable"]))
if not found:
    sys.exit("no test binary was built")
for _, label, package, executable in sorted(found):
    print(label, package, executable, sep="\t")
PYTHON

# One binary: its name, its output, its time; the exit code is kept.
one() {
  IFS=$'\t' read -r label package executable <<<"$1"
  local out code=0 began=$SECONDS
  out=$(mktemp "$work/out.XXXXXX")
  (cd "$package" && "$executable") >"$out" 2>&1 || code=$?
  # A binary that died before its sum has not passed.
  grep -q '^test result: ' "$out" || echo "test result: FAILED. 0 passed; 1 failed; 0 ignored; it ended with $code" >>"$out"
  {
    flock 9
    printf '\n     Running %s (%d s)\n' "$label" $((SECONDS - began))
    cat "$out"
    [ "$code" = 0 ] || echo "$label" >>"$work/failed"
  } 9>"$work/lock"
}
export -f one
export work

tr '\n' '\0' <"$work/binaries" | xargs -0 -P "$jobs" -I '{}' bash -c 'one "$1"' one '{}'
[ ! -s "$work/failed" ] || {
  printf '\nerror: failed: %s\n' "$(paste -sd, "$work/failed")"
  exit 101
}
