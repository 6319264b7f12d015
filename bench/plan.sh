#!/usr/bin/env bash
# A large plan: how long reading and first scheduling take, and how much memory.
#
#   bench/plan.sh [STORIES]        default: 10000
#
# COFFERDAM names the program (default: target/release/cofferdam), ROUNDS how often each line is measured (default: 5; the median is shown),
# WORK where the repository is made (default: /var/tmp). One million events: cargo bench --bench store.
set -euo pipefail

stories=${1:-10000} rounds=${ROUNDS:-5}
. "$(dirname "$0")/repository.sh"
printf '#!/bin/sh\nsleep 600\n' > agent.sh
chmod +x agent.sh
printf '[run]\nparallel = 4\n[agents.implementer]\nadapter = "command"\ncommand = ["./agent.sh"]\n' > cofferdam.toml
git add -A && git commit -q -m base
# Chains of ten, a hundred epics, two criteria and an artifact each.
awk -v n="$stories" 'BEGIN { for (i = 1; i <= n; i++) { f = sprintf("stories/%05d.md", i); after = (i % 10 == 1) ? "" : "S-" (i - 1)
    printf "---\nid: S-%d\ntitle: Story %d of a large plan\nepic: epic-%d\nafter: [%s]\nartifacts:\n  - path: src/m%d/f%d.py\nchecks:\n  - test -f src/m%d/f%d.py\n---\nIt does what story %d should do, and nothing that it should not.\n\n- [ ] AC-1: it is there\n- [ ] AC-2: it works\n", i, i, i % 100, after, i % 500, i, i % 500, i, i > f; close(f) } }'

median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
worst() { sort -n | tail -1; }

# Wall seconds and peak kilobytes of one command, several times.
measure() {
    local name=$1 promise=$2; shift 2
    : > "$work/times"
    for _ in $(seq "$rounds"); do
        /usr/bin/time -a -o "$work/times" -f '%e %M' "$@" > /dev/null 2>&1
    done
    awk -v name="$name" -v promise="$promise" -v time="$(cut -d' ' -f1 "$work/times" | median)" -v kb="$(cut -d' ' -f2 "$work/times" | worst)" \
        'BEGIN { printf "| %-40s | %6.2f s | %4d MiB | %s |\n", name, time, kb / 1024, promise }'
}

echo "| $stories stories | median | peak memory | promised |"
echo "| --- | --- | --- | --- |"
measure 'plan' '< 1 s, < 150 MiB' "$program" plan --json
measure 'next' '< 1 s, < 150 MiB' "$program" next --json
# From the start of the program to the first story that has a slot; the first time the store is filled with every story.
for name in 'run, until the first story has a slot: new store' 'run, until the first story has a slot: again'; do
    begun=$(date +%s%N)
    /usr/bin/time -o "$work/memory" -f '%M' "$program" run --json > "$work/events" 2> "$work/said" &
    while ! grep -q '"kind":"story.started"' "$work/events"; do
        sleep 0.01
        jobs %1 > /dev/null 2>&1 || { cat "$work/said"; exit 1; }
    done
    took=$((($(date +%s%N) - begun) / 1000000))
    pkill -TERM -P "$!" || true
    wait "$!" || true
    awk -v name="$name" -v ms="$took" -v kb="$(tail -1 "$work/memory")" 'BEGIN { printf "| %s | %.2f s | %d MiB | < 1 s, < 150 MiB |\n", name, ms / 1000, kb / 1024 }'
done
measure 'status' '< 50 ms' "$program" status
measure 'status --json' '' "$program" status --json
