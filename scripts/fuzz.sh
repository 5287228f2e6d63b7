#!/usr/bin/env bash
# Runs each fuzz target for the given number of seconds, from the project's manifests and hellos as first inputs.
# Without a sanitizer, so that the stable compiler does: what is fuzzed has no unsafe code.
set -euo pipefail

seconds=${1:?usage: fuzz.sh SECONDS}
command -v cargo-fuzz >/dev/null || cargo install --locked --quiet cargo-fuzz@0.13.2
cd "$(dirname "$0")/.."

mkdir -p fuzz/corpus/manifests fuzz/corpus/greeting
find examples crates/translate/tests -name '*.yaml' -exec cp {} fuzz/corpus/manifests \;
cp crates/proxy-core/tests/hellos/*.bin fuzz/corpus/greeting
for target in $(cargo fuzz list); do
    echo "fuzzing $target for ${seconds}s"
    cargo fuzz run --sanitizer none "$target" -- -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=2048
done
