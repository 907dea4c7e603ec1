#!/usr/bin/env bash
# Runs the tests and ends with their sum: a skipped test says why and is counted.
set -uo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Whoever starts this in the background may have made it ignore signals that tests send.
heard=(env --default-signal=INT,QUIT)
"${heard[@]}" true 2>/dev/null || heard=()
"${heard[@]}" "$@" 2>&1 | tee "$log"
code=${PIPESTATUS[0]}
echo
grep '^SKIPPED ' "$log" | sort -u
awk -v skipped="$(grep -c '^SKIPPED ' "$log")" '
  /^test result: / { passed += $4; failed += $6; skipped += $8 }
  END { printf "%d passed, %d failed, %d skipped\n", passed - skipped, failed, skipped }' "$log"
exit "$code"
