#!/bin/sh
# Everything that must hold before a change lands: format, lints, tests in documents, tests. One command, on a developer's machine and in CI.
set -eu
cd "$(dirname "$0")/.."
say() { printf '\n== %s\n' "$*"; }

# Without these there is nothing to test with.
missing=
need() { command -v "$1" >/dev/null 2>&1 || { missing=1 && echo "ci/test.sh: $1 is missing: $2" >&2; }; }
need cargo "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y, then open a new shell"
need cc "apt-get install -y gcc (Debian, Ubuntu), dnf install -y gcc (Fedora)"
[ -z "$missing" ] || exit 2
# Without these some tests skip, and say so by name.
hint() { command -v "$1" >/dev/null 2>&1 || echo "ci/test.sh: without $1 some tests skip; to have them: apt-get install -y $2" >&2; }
hint git git
hint setpriv util-linux
hint tmux tmux
hint python3 python3

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
results=target/nextest/default/junit.xml
if [ -f "$results" ]; then
    number() { sed -n "s/^<testsuites [^>]* $1=\"\([0-9]*\)\".*/\1/p" "$results" | head -n 1; }
    skipped=$(grep -o 'SKIPPED [^&<]*' "$results" | sort -u || true)
    [ -z "$skipped" ] || printf '%s\n' "$skipped"
    failed=$(( $(number failures) + $(number errors) ))
    echo
    echo "$(( $(number tests) - failed )) passed, $failed failed, $(printf '%s' "$skipped" | grep -c . || true) skipped"
fi
exit "$status"
