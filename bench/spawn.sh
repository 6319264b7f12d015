#!/bin/sh
# What a sandbox costs: bare, bubblewrap with ten binds, the floor of plain system calls, our spawn from a running process, our cold
# `exec`; interleaved, in one run. Needs gcc and bubblewrap (Debian packages). ROUNDS and PROFILE may be set.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
triple=$(rustc -vV | sed -n 's/^host: //p')
gcc -O2 -o "$work/floor" bench/floor.c
# The program and what drives it, at once: each is linked as a whole, which takes a processor for itself.
export RUSTFLAGS="-C target-feature=+crt-static"
driver=$(cargo build --release --quiet --locked --target "$triple" --bin cofferdam --bench spawn --message-format json |
    sed -n 's/.*"name":"spawn".*"executable":"\([^"]*\)".*/\1/p')
# Installed, as everybody runs it: a file that was written in one go lies in few large pieces in memory, the linker's own in single pages.
cp "${CARGO_TARGET_DIR:-target}/$triple/release/cofferdam" "$work/cofferdam"
COFFERDAM_BIN="$work/cofferdam" FLOOR_BIN="$work/floor" "$driver" --bench
