#!/bin/sh
# Runs the tests that are named, or all of them, and prints TAP. usage: tests/run.sh [FILE…]
set -u
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$here" || exit 1
for part in lib/*.sh; do . "./$part"; done

n=0 failed=0
ok() { # TITLE COMMAND…
    n=$((n + 1)) title=$1
    shift
    if "$@" >/dev/null; then echo "ok $n - $title"; else
        echo "not ok $n - $title"
        failed=1
    fi
}
fails() { # COMMAND…
    ! "$@" 2>/dev/null
}
is() { # WANTED GOT
    [ "$1" = "$2" ] || { echo "# wanted '$1', got '$2'" >&2; return 1; }
}

[ $# -gt 0 ] || set -- tests/*_test.sh
for file; do . "./$file"; done
echo "1..$n"
exit $failed
