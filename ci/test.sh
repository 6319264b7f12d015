#!/bin/sh
# Everything that must hold before a change lands: format, lints, tests, tests in documents. One command, on a developer's machine and in CI.
set -eu
cd "$(dirname "$0")/.."
say() { printf '\n== %s\n' "$*"; }

say "format"
cargo fmt --check
say "lints"
cargo clippy --all-targets --locked -- -D warnings
say "tests"
if command -v cargo-nextest >/dev/null 2>&1; then
    cargo nextest run --locked --no-fail-fast
else
    cargo test --locked --no-fail-fast
fi
say "tests in documents"
cargo test --doc --locked --quiet
