#!/usr/bin/env bash
# Licences, sources and duplicates of the dependencies; advisories need a network and are not asked for here.
set -euo pipefail
if cargo deny --version >/dev/null 2>&1; then
  cargo fetch --locked --quiet # also what is for other platforms: the graph is checked whole
  exec cargo deny --offline --log-level error check bans licenses sources
fi
echo "SKIPPED cargo deny: not installed (cargo install cargo-deny)"
