#!/bin/sh
# Everything that must hold before a change lands: format, lints, tests in documents, tests. One command, on a developer's machine and in CI.
set -eu
cd "$(dirname "$0")/.."
say() { printf '\n== %s\n' "$*"; }

# What there must be to test with, and what some tests skip without, by name. With --missing only the packages that lack are printed: a line of
# the first kind, a line of the second.
needed= optional= programs=
need() { command -v "$1" >/dev/null 2>&1 || { needed="$needed $2" && programs="$programs $1"; }; }
hint() { command -v "$1" >/dev/null 2>&1 || optional="$optional $2"; }
need cc gcc
# gcc only recommends the headers that every build with C in it needs.
[ -e /usr/include/stdlib.h ] || needed="$needed libc6-dev" programs="$programs stdlib.h"
need setpriv util-linux
need git git
need curl curl
need python3 python3
need pgrep procps
hint ip iproute2
hint jq jq
hint make make
hint tmux tmux
[ -e /etc/ssl/certs/ca-certificates.crt ] || optional="$optional ca-certificates"
if [ "${1:-}" = --missing ]; then
    printf '%s\n' "${needed# }" "${optional# }"
    exit
fi
cargo=0
command -v cargo >/dev/null 2>&1 || cargo=1
[ "$cargo" = 0 ] || echo "ci/test.sh: cargo is missing: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y, then open a new shell" >&2
if [ -n "$needed" ]; then
    echo "ci/test.sh: missing:$programs" >&2
    echo "ci/test.sh: on Debian and Ubuntu: sudo apt-get update && sudo apt-get install -y$needed" >&2
fi
[ "$cargo$needed" = 0 ] || exit 2
[ -z "$optional" ] || echo "ci/test.sh: some tests skip; to have them: sudo apt-get install -y$optional" >&2

say "format"
cargo fmt --check
say "lints"
cargo clippy --all-targets --locked -- -D warnings
say "tests in documents"
cargo test --doc --locked --quiet
say "tests"
if ! command -v cargo-nextest >/dev/null 2>&1; then
    # Tests that measure limits run one at a time, as .config/nextest.toml says for the other runner.
    alone='exec escape cgroup' rest=
    for file in tests/*.rs tests/*/main.rs; do
        name=${file#tests/} name=${name%/main.rs} name=${name%.rs}
        case " $alone " in *" $name "*) ;; *) rest="$rest --test $name" ;; esac
    done
    status=0
    cargo test --locked --no-fail-fast --lib --bins $rest || status=$?
    cargo test --locked --no-fail-fast $(printf -- '--test %s ' $alone) -- --test-threads=1 || status=$?
    exit "$status"
fi
status=0
# Half of the time tests wait: for limits, for each other's processes, for disks.
processors=$(nproc)
cargo nextest run --locked --no-fail-fast --test-threads $((processors + (processors + 1) / 2)) || status=$?

# A test that found no kernel feature or program to test with says so by name; the runner hides what passing tests say, so it is said here.
results=target/nextest/default/junit.xml
if [ -f "$results" ]; then
    number() { sed -n "s/^<testsuites [^>]* $1=\"\([0-9]*\)\".*/\1/p" "$results" | head -n 1; }
    skipped=$(grep -o 'SKIPPED [^&<]*' "$results" | sort -u || true)
    [ -z "$skipped" ] || printf '%s\n' "$skipped"
    sed -n '/<testcase /h; /<flakyFailure /{g; s/.* name="\([^"]*\)".*/FLAKY \1: it failed, and passed once more/p}' "$results"
    failed=$(( $(number failures) + $(number errors) ))
    echo
    echo "$(( $(number tests) - failed )) passed, $failed failed, $(printf '%s' "$skipped" | grep -c . || true) skipped"
fi
exit "$status"
