#!/usr/bin/env bash
# What verification costs on top of its slowest evaluator: one-file stories, one at a time, each with a check that takes a while beside the
# evaluators that every story has.
#
#   bench/verify.sh [STORIES [SECONDS]]        default: 20 0.5
#
# From the collected commit to the last evaluator's verdict, against the slowest evaluator's own time. COFFERDAM names the program (default:
# target/release/cofferdam), WORK where the repository is made (default: /var/tmp). Needs python3 to read the log.
set -euo pipefail

stories=${1:-20} seconds=${2:-0.5}
. "$(dirname "$0")/repository.sh"
printf '#!/bin/sh\necho done > "$1.txt"\n' > agent.sh
chmod +x agent.sh
printf '[run]\nparallel = 1\n[agents.implementer]\nadapter = "command"\ncommand = ["./agent.sh", "{story}"]\n[merge]\nlanding = "stop"\n' > cofferdam.toml
for n in $(seq "$stories"); do
    printf -- '---\nid: S-%s\ntitle: Story %s\nartifacts:\n  - path: S-%s.txt\n    contains: [done]\nchecks:\n  - sleep %s; test -f S-%s.txt\n---\n- [ ] AC-1: it is there\n' \
        "$n" "$n" "$n" "$seconds" "$n" > "stories/$n.md"
done
git add -A && git commit -q -m base
"$program" run --plain > /dev/null 2> "$work/said" || { cat "$work/said"; exit 1; }
"$program" log --json > "$work/log"
python3 - "$work/log" "$seconds" <<'PY'
import json, statistics, sys
from datetime import datetime
at = lambda event: datetime.fromisoformat(event["at"].replace("Z", "+00:00")).timestamp() * 1000
collected, last, slowest, count = {}, {}, {}, {}
for event in map(json.loads, open(sys.argv[1])):
    story = event["story"]
    if event["kind"] == "change.collected":
        collected[story] = at(event)
    elif event["kind"] == "evaluator.finished":
        last[story] = at(event)
        slowest[story] = max(slowest.get(story, 0), event["data"]["wall_ms"])
        count[story] = count.get(story, 0) + 1
above = sorted(last[s] - collected[s] - slowest[s] for s in last)
command = sorted(last[s] - collected[s] - 1000 * float(sys.argv[2]) for s in last)
show = lambda values: f"p50 {statistics.median(values):.0f} ms, p95 {values[int(len(values) * 0.95) - 1]:.0f} ms, most {values[-1]:.0f} ms"
print(f"{len(last)} stories, {min(count.values())} evaluators each, the slowest {statistics.median(slowest.values()):.0f} ms")
print(f"on top of the slowest evaluator: {show(above)} (promised: at most 100)")
print(f"on top of the check's own command: {show(command)}")
sys.exit(0 if above[int(len(above) * 0.95) - 1] <= 100 else 1)
PY
