#!/usr/bin/env bash
# What the runner adds: trivial stories from the first event to the last, against the time that their agents and checks take, by slots.
#
#   bench/run.sh [STORIES [SLOTS [SECONDS]]]        default: 200 4 0.5
#
# Each story's agent and each story's check sleep for SECONDS, so that processors are not what is shared. COFFERDAM names the program
# (default: target/release/cofferdam), WORK where the repository is made (default: /var/tmp). Needs python3 to read the log.
set -euo pipefail

stories=${1:-200} slots=${2:-4} seconds=${3:-0.5}
. "$(dirname "$0")/repository.sh"
printf '#!/bin/sh\nsleep %s\necho done > "$1.txt"\n' "$seconds" > agent.sh
chmod +x agent.sh
printf '[run]\nparallel = %s\n[agents.implementer]\nadapter = "command"\ncommand = ["./agent.sh", "{story}"]\n' "$slots" > cofferdam.toml
for n in $(seq "$stories"); do
    printf -- '---\nid: S-%s\ntitle: Story %s\nchecks:\n  - sleep %s; test -f S-%s.txt\n---\n- [ ] AC-1: it is there\n' "$n" "$n" "$seconds" "$n" > "stories/$n.md"
done
git add -A && git commit -q -m base
/usr/bin/time -f '%M' -o "$work/memory" "$program" run --plain > /dev/null 2> "$work/said" || { cat "$work/said"; exit 1; }
"$program" log --json > "$work/log"
python3 - "$work/log" "$slots" "$(cat "$work/memory")" "$seconds" <<'PY'
import json, sys
from datetime import datetime
events = [json.loads(line) for line in open(sys.argv[1])]
slots, memory = int(sys.argv[2]), int(sys.argv[3])
at = lambda event: datetime.fromisoformat(event["at"].replace("Z", "+00:00")).timestamp()
begun = next(at(e) for e in events if e["kind"] == "run.started")
ended = next(at(e) for e in reversed(events) if e["kind"] == "run.stopped")
agents = sum(e["data"]["wall_ms"] for e in events if e["kind"] == "attempt.ended") / 1000
checks = sum(e["data"]["wall_ms"] for e in events if e["kind"] == "evaluator.finished" and e["data"]["evaluator"] == "checks") / 1000
asleep = sum(2 * float(sys.argv[4]) for e in events if e["kind"] == "story.ready")
wall, ideal, floor = ended - begun, (agents + checks) / slots, asleep / slots
ready = sum(e["kind"] == "story.ready" for e in events)
print(f"{ready} stories, {slots} at once: {wall:.2f} s; agents and checks {agents + checks:.2f} s, by slots {ideal:.2f} s")
print(f"on top: {100 * (wall / ideal - 1):.1f} % (promised: at most 10); above the commands alone, without their sandboxes: {100 * (wall / floor - 1):.1f} %")
print(f"peak memory {memory / 1024:.0f} MiB, {len(events)} events")
steps, last, name = {}, {}, {}
for e in events:
    story = e["story"]
    if story is None:
        continue
    if story in last and e["kind"] != "story.created":
        key = f"{name[story]} → {e['kind']}"
        total, count = steps.get(key, (0, 0))
        steps[key] = (total + at(e) - last[story], count + 1)
    last[story], name[story] = at(e), e["kind"]
print("where the rest goes, milliseconds each:")
for key, (total, count) in sorted(steps.items(), key=lambda item: -item[1][0]):
    if not key.startswith(("story.created", "attempt.started → attempt.ended")) and total / slots > wall / 500:
        print(f"  {key:<48} {1000 * total / count:7.1f} × {count}")
sys.exit(0 if wall <= 1.1 * ideal else 1)
PY
