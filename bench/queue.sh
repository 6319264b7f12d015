#!/usr/bin/env bash
# How fast proven stories land: the speculative queue against a serial one, with the same binary and the same gates.
#
#   bench/queue.sh [STORIES] [SLOTS…]        default: 50 1 4
#
# Every story is proven alone first; what is measured is the time from there until all have landed. The gate takes one second. One story in ten is
# green alone and red together with others: it is sent back, repaired, and lands.
#
# COFFERDAM names the program (default: target/release/cofferdam), WORK where the repositories are made (default: a new folder in /var/tmp).
set -euo pipefail

program=$(realpath "${COFFERDAM:-target/release/cofferdam}")
stories=${1:-50}
shift || true
work=$(mktemp -d "${WORK:-/var/tmp}/cofferdam-bench-XXXXXX")
trap 'chmod -R u+rwx "$work"; rm -rf "$work"' EXIT
export HOME=$work/home XDG_STATE_HOME=$work/state GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=bench GIT_AUTHOR_EMAIL=bench@example.org GIT_COMMITTER_NAME=bench GIT_COMMITTER_EMAIL=bench@example.org
mkdir -p "$HOME"
# KEEP names a folder that the logs are put into, to look at afterwards.
keep=${KEEP:-}

make() {
    mkdir -p "$1/stories" && cd "$1" && git init -q -b main
    cat > agent.sh <<'AGENT'
#!/bin/sh
# One story in ten leaves a file that goes with nobody else's; it takes it back when it sees its neighbours.
if [ -e "s-$1" ]; then rm -f "alone-$1"; exit; fi
echo "$1" > "s-$1"
case $1 in *5) sleep 1; echo "$1" > "alone-$1" ;; esac
AGENT
    chmod +x agent.sh
    cat > gate.sh <<'GATE'
#!/bin/sh
sleep 1
! { ls alone-* >/dev/null 2>&1 && [ "$(ls s-* | wc -l)" -gt 1 ]; }
GATE
    chmod +x gate.sh
    printf '[agents.implementer]\nadapter = "command"\ncommand = ["./agent.sh", "{story}"]\n[run]\nparallel = 8\nretry_delay = "10ms"\nintegration_every = 1000\n[[gate]]\nname = "test"\nrun = "./gate.sh"\n' > cofferdam.toml
    for n in $(seq 0 $((stories - 1))); do
        id=$(printf 'S%03d' "$n")
        printf -- '---\nid: %s\ntitle: Story %s\n---\n- [ ] AC-1: its file is there\n' "$id" "$id" > "stories/$id.md"
    done
    git add -A && git commit -q -m base
}

printf '| slots | landings | ejected | seconds | landings per minute | gate runs per landing |\n| --- | --- | --- | --- | --- | --- |\n'
first=
for slots in "${@:-1 4}"; do for k in $slots; do
    make "$work/repository-$k"
    timeout 600 "$program" run --plain --set merge.landing=stop > "$work/prepare-$k" 2>&1 || { tail -5 "$work/prepare-$k" >&2; exit 1; }
    before=$("$program" log --json | wc -l)
    start=$(date +%s%N)
    timeout 900 "$program" run --plain --set "queue.slots=$k" > "$work/run-$k" 2>&1 || { tail -5 "$work/run-$k" >&2; exit 1; }
    took=$(($(date +%s%N) - start))
    "$program" log --json > "$work/log-$k"
    if [ -n "$keep" ]; then cp "$work/log-$k" "$keep/"; fi
    landed=$(grep -c '"kind":"story.landed"' "$work/log-$k")
    ejected=$(grep -c '"kind":"candidate.refused"' "$work/log-$k" || true)
    # Begun, or tried again; also what was stopped before its end.
    runs=$(tail -n "+$((before + 1))" "$work/log-$k" | awk '/"kind":"gate.(started|suspected)"/ { n++ } /"kind":"gate.finished"/ && /"cached":true/ { n-- } END { print n + 0 }')
    awk -v k="$k" -v l="$landed" -v e="$ejected" -v ns="$took" -v r="$runs" 'BEGIN { s = ns / 1e9; printf "| %d | %d | %d | %.1f | %.1f | %.2f |\n", k, l, e, s, l / s * 60, r / l }'
    rate=$(awk -v l="$landed" -v ns="$took" 'BEGIN { print l / ns }')
    if [ -z "$first" ]; then first=$rate; else awk -v a="$rate" -v b="$first" -v k="$k" 'BEGIN { printf "\n%d slots land %.2f times as many as the first line.\n", k, a / b }'; fi
done; done
