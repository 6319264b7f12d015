#!/bin/sh
# What a sandbox adds to real work: the same release build of a crate with its dependencies, bare and inside, in turn, from clean.
# ROUNDS may be set. Needs the crate's dependencies in cargo's cache (a build of this project brings them).
set -eu
cd "$(dirname "$0")/.."
rounds=${ROUNDS:-5}
triple=$(rustc -vV | sed -n 's/^host: //p')
cofferdam="$PWD/target/$triple/release/cofferdam"
[ -x "$cofferdam" ] || RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --quiet --target "$triple"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/project/src"
cat > "$work/project/Cargo.toml" <<'TOML'
[package]
name = "project"
version = "0.1.0"
edition = "2024"

[dependencies]
serde = { version = "1.0", features = ["derive"] }
serde_json = "1.0"
toml_edit = "0.25"
TOML
echo 'fn main() { println!("{}", serde_json::json!({"a": "1".parse::<toml_edit::Value>().is_ok()})); }' > "$work/project/src/main.rs"
cp Cargo.lock "$work/project/Cargo.lock"
cd "$work/project"
cargo build --offline --quiet
build='cargo build --release --offline --quiet'
once() { # NAME COMMAND…: seconds from a clean start
    rm -rf target
    name=$1; shift
    start=$(date +%s%N)
    "$@"
    end=$(date +%s%N)
    echo "$(( (end - start) / 1000000 ))" >> "$work/$name"
}
i=0
while [ "$i" -lt "$rounds" ]; do
    once bare $build
    once inside "$cofferdam" exec -- $build
    i=$((i + 1))
done
median() { sort -n "$1" | sed -n "$(( (rounds + 1) / 2 ))p"; }
bare=$(median "$work/bare"); inside=$(median "$work/inside")
echo "bare   median $bare ms   ($(sort -n "$work/bare" | tr '\n' ' '))"
echo "inside median $inside ms   ($(sort -n "$work/inside" | tr '\n' ' '))"
echo "inside / bare  $(echo "scale=3; $inside / $bare" | bc)   (promise: at most 1.03)"
