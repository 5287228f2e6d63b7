#!/usr/bin/env bash
# Has libFuzzer look for inputs for the given number of seconds for each target of fuzz/targets, or for those that
# are named: fuzz.sh SECONDS [TARGET...]
# Only the workspace is instrumented, in a few minutes, and beside the builds that there are: our code is what is
# fuzzed. Without a sanitizer, so that the stable compiler does: that code is safe Rust.
# With L4WAY_FUZZ_KEEP=1, what has taken new ways is added to the corpus, minimised.
set -euo pipefail

seconds=${1:?usage: fuzz.sh SECONDS [TARGET...]}
shift
cd "$(dirname "$0")/.."
RUSTC_WORKSPACE_WRAPPER=$PWD/scripts/fuzz-rustc
L4WAY_FUZZ_SECONDS=$seconds
export RUSTC_WORKSPACE_WRAPPER L4WAY_FUZZ_SECONDS

is_wanted() {
    [ $# -eq 1 ] && return 0
    local name=$1
    shift
    printf '%s\n' "$@" | grep -qxF "$name"
}

run() {
    cargo test --locked --quiet -p "$crate" -p l4way-fuzz --features l4way-fuzz/libfuzzer "$built" -- \
        --exact "$test" --nocapture </dev/null
}

failed=()
while read -r name crate built test; do
    is_wanted "$name" "$@" || continue
    echo "fuzzing $name for ${seconds}s"
    mkdir -p "fuzz/corpus/$name"
    run || failed+=("$name")
    if [ "${L4WAY_FUZZ_KEEP:-}" = 1 ]; then
        L4WAY_FUZZ_MERGE=1 run || failed+=("$name")
    fi
done < <(grep -v '^#' fuzz/targets)
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}; the inputs are in fuzz/artifacts" >&2; exit 1; }
