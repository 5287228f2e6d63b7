#!/usr/bin/env bash
# Runs all tests of the workspace but those that need a cluster, and closes with their sum.
set -uo pipefail

log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --workspace --exclude l4way-e2e --locked --no-fail-fast 2>&1 | tee "$log"
status=$?
awk '/^test result:/ { passed += $4; failed += $6 } END { printf "tests: %d passed, %d failed\n", passed, failed }' "$log"
exit "$status"
