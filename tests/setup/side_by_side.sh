#!/usr/bin/env bash
# Runs the test binaries of the workspace side by side: they wait for servers and containers more than they compute.
# THE0_TEST_JOBS of them at once, those that take longest first; what one printed comes in one piece when it has ended.
# What looks at, or changes, things of the whole machine comes last and alone: processes of a user, addresses, rules, the
# parts of the cluster.
# Up to THE0_TEST_AGAIN (2) tests that failed are run once more, each alone at the very end. One that passes then counts as
# passed and is told of as FLAKY, its first output stands; more of them than that are no accident, and none is run again.
#
#   side_by_side.sh FLAGS      the flags of `cargo test` that say what is built
set -uo pipefail
cargo=${CARGO:-cargo}
jobs=${THE0_TEST_JOBS:-3}
again=${THE0_TEST_AGAIN:-2}
alone='privilege hardening control_plane'
# Its tests wait for the cluster's clock and kubelet most of the time: so many of them at once.
export waiting='controller' threads=5
longest='docker kubernetes controller outages s3 jobs gateway events sync schedules soak history lease'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$cargo" test "$@" --no-run --message-format=json-render-diagnostics >"$work/built" || exit
python3 - "$work" "$longest" "$alone" <<'PYTHON' || exit
import json, os, sys

work, longest, alone = sys.argv[1], sys.argv[2].split(), sys.argv[3].split()
found = []
for line in open(f"{work}/built"):
    said = json.loads(line)
    if said.get("reason") != "compiler-artifact" or not said.get("executable") or not said["profile"]["test"]:
        continue
    package = os.path.dirname(said["manifest_path"])
    name = said["target"]["name"]
    label = f"{os.path.basename(package)}: {name}"
    is_whole = package.endswith("/tests")
    rank = longest.index(name) if is_whole and name in longest else len(longest)
    where = "alone" if is_whole and name in alone else "together"
    found.append((rank, where, label, package, said["executable"]))
if not found:
    sys.exit("no test binary was built")
with open(f"{work}/alone", "w") as one, open(f"{work}/together", "w") as many:
    for _, where, *row in sorted(found):
        print(*row, sep="\t", file=one if where == "alone" else many)
PYTHON

# One binary: its name, its output, its time; the exit code is kept.
one() {
  IFS=$'\t' read -r label package executable <<<"$1"
  local out code=0 began=$SECONDS
  out=$(mktemp "$work/out.XXXXXX")
  [ "$label" != "tests: $waiting" ] || export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$threads}
  (cd "$package" && "$executable") >"$out" 2>&1 || code=$?
  # A binary that died before its sum has not passed.
  grep -q '^test result: ' "$out" || echo "test result: FAILED. 0 passed; 1 failed; 0 ignored; it ended with $code" >>"$out"
  {
    flock 9
    printf '\n     Running %s (%d s)\n' "$label" $((SECONDS - began))
    cat "$out"
    [ "$code" = 0 ] || failures "$1" "$out" >>"$work/failed"
  } 9>"$work/lock"
}

# The names of the tests that failed, each after what is known of its binary; `?` where it died before it named any.
failures() {
  local names
  names=$(awk '/^failures:$/ { names = ""; next } /^    [^ ]+$/ { names = names $1 "\n" } END { printf "%s", names }' "$2")
  grep -q '^test result: .* it ended with' "$2" && names='?'
  while read -r name; do printf '%s\t%s\n' "$1" "$name"; done <<<"${names:-?}"
}
export -f one failures
export work

run() {
  tr '\n' '\0' <"$work/$1" | xargs -0 -P "$2" -I '{}' bash -c 'one "$1"' one '{}'
}
run together "$jobs"
run alone 1

touch "$work/failed"
if [ "$(wc -l <"$work/failed")" -gt "$again" ] || grep -qP '\t\?$' "$work/failed"; then again=0; fi
still=()
while IFS=$'\t' read -r label package executable name; do
  out=$work/again
  if [ "$again" -gt 0 ]; then
    printf '\n     Running again, alone: %s %s\n' "$label" "$name"
    if (cd "$package" && "$executable" --exact "$name") </dev/null >"$out" 2>&1 && grep -q '^test result: ok. 1 passed' "$out"; then
      echo "FLAKY $label $name: it failed beside others and passed alone"
      continue
    fi
    # The sum has it already.
    sed 's/^test result: /again: /' "$out"
  fi
  still+=("$label $name")
done <"$work/failed"
[ "${#still[@]}" = 0 ] || {
  printf '\nerror: failed:\n'
  printf '  %s\n' "${still[@]}"
  exit 101
}
