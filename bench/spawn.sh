#!/bin/sh
# What a sandbox costs: bare, bubblewrap with ten binds, the floor of plain system calls, our spawn from a running process, our cold
# `exec`; interleaved, in one run. Needs gcc and bubblewrap (Debian packages). ROUNDS and PROFILE may be set.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
triple=$(rustc -vV | sed -n 's/^host: //p')
gcc -O2 -o "$work/floor" bench/floor.c
# One set of flags for the program and for what drives it: its dependencies are built once.
export RUSTFLAGS="-C target-feature=+crt-static"
cargo build --release --quiet --locked --target "$triple"
# Installed, as everybody runs it: a file that was written in one go lies in few large pieces in memory, the linker's own in single pages.
cp "${CARGO_TARGET_DIR:-target}/$triple/release/cofferdam" "$work/cofferdam"
COFFERDAM_BIN="$work/cofferdam" FLOOR_BIN="$work/floor" cargo bench --quiet --locked --target "$triple" --bench spawn
