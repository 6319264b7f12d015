#!/bin/sh
# Everything that must hold before a change lands: format, lints, tests in documents, tests. One command, on a developer's machine and in CI.
set -eu
cd "$(dirname "$0")/.."
say() { printf '\n== %s\n' "$*"; }

say "format"
cargo fmt --check
say "lints"
cargo clippy --all-targets --locked -- -D warnings
say "tests in documents"
cargo test --doc --locked --quiet
say "tests"
if ! command -v cargo-nextest >/dev/null 2>&1; then
    exec cargo test --locked --no-fail-fast --lib --bins --tests
fi
status=0
cargo nextest run --locked --no-fail-fast || status=$?

# A test that found no kernel feature or program to test with says so by name; the runner hides what passing tests say, so it is said here.
results="${CARGO_TARGET_DIR:-target}/nextest/default/junit.xml"
if [ -f "$results" ]; then
    number() { sed -n "s/^<testsuites [^>]* $1=\"\([0-9]*\)\".*/\1/p" "$results" | head -n 1; }
    skipped=$(grep -o 'SKIPPED [^&<]*' "$results" | sort -u || true)
    [ -z "$skipped" ] || printf '%s\n' "$skipped"
    failed=$(( $(number failures) + $(number errors) ))
    echo
    echo "$(( $(number tests) - failed )) passed, $failed failed, $(printf '%s' "$skipped" | grep -c . || true) skipped"
fi
exit "$status"
