#!/bin/sh
# Builds the one static binary and holds it against its promises: its size, and how fast it answers.
#
# usage: packaging/build.sh              builds and measures; prints the binary's path as its last line
#        packaging/build.sh BINARY       measures a binary that is there
#
# COFFERDAM_PROFILE=dev builds without optimisation, to try the packaging; nothing is promised for that.
set -eu
cd "$(dirname "$0")/.."
say() { printf '%s\n' "$*" >&2; }

most_bytes=$((25 * 1024 * 1024))
version_ms=5
status_ms=20

target=x86_64-unknown-linux-gnu
profile=${COFFERDAM_PROFILE:-release}
if [ $# -gt 0 ]; then
    binary=$1
else
    # Static and position-independent: one file for every distribution. A folder of its own, because the flag is part of every dependency.
    # Paths of this machine have no place in it, and would make two builds differ. Flags of your own take the place of these.
    home=${CARGO_HOME:-${HOME:-/root}/.cargo}
    RUSTFLAGS=${RUSTFLAGS:--C target-feature=+crt-static --remap-path-prefix=$(pwd)=/cofferdam --remap-path-prefix=$home=/cargo}
    export RUSTFLAGS
    cargo build --locked --profile "$profile" --target "$target" --target-dir target-static >&2
    folder=$profile
    [ "$profile" != dev ] || folder=debug
    binary=target-static/$target/$folder/cofferdam
fi

failed=0
check() { # WHAT MEASURED LIMIT UNIT
    if [ "$2" -le "$3" ]; then say "ok      $1: $2 $4 (promised: at most $3 $4)"; else say "BROKEN  $1: $2 $4 (promised: at most $3 $4)"; failed=1; fi
}

if command -v readelf >/dev/null 2>&1; then
    if readelf -d "$binary" | grep -q NEEDED; then say "BROKEN  it needs shared libraries: $(readelf -d "$binary" | grep NEEDED)"; failed=1; else say "ok      it needs no shared library"; fi
fi
check "size" "$(stat -c %s "$binary")" "$most_bytes" bytes

# The median of 41 whole processes, in microseconds.
median() {
    perl -MTime::HiRes=time -e '
        open(STDOUT, ">", "/dev/null"); open(STDERR, ">", "/dev/null");
        my @took = sort { $a <=> $b } map { my $begun = time; system(@ARGV) == 0 or exit 1; int((time - $begun) * 1e6) } 1 .. 41;
        open(STDOUT, ">&=3"); print "$took[20]\n";' "$@" 3>&1
}
if command -v perl >/dev/null 2>&1; then
    absolute=$(realpath "$binary")
    check "--version" "$(median "$absolute" --version)" $((version_ms * 1000)) "µs"
    # A small store: a repository with one story that something was said about.
    place=$(mktemp -d)
    trap 'rm -rf "$place"' EXIT
    (
        cd "$place"
        export HOME="$place/home" XDG_STATE_HOME="$place/state"
        mkdir -p repository/stories home && cd repository
        git init -q -b main . && git -c user.name=a -c user.email=a@example.org commit -q --allow-empty -m first
        printf '# A\n- [ ] it is so\n' >stories/a.md
        "$absolute" note a 'a word' >/dev/null 2>&1
        median "$absolute" status >"$place/status"
    )
    check "status on a small store" "$(cat "$place/status")" $((status_ms * 1000)) "µs"
else
    say "SKIPPED start-up times: perl is not installed"
fi
printf '%s\n' "$binary"
[ "$profile" = dev ] || exit "$failed"
