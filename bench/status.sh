#!/usr/bin/env bash
# `git status` in a plain checkout against the first and the second one in a workspace, and one after twenty files changed, in turns, on a
# synthetic repository.
#
#   bench/status.sh [FILES]        default: 100000
#
# COFFERDAM names the program (default: target/release/cofferdam), ROUNDS how often each is measured
# (default: 9; medians are shown), WORK where the repository is made (default: a new folder in /var/tmp).
set -euo pipefail

program=$(realpath "${COFFERDAM:-target/release/cofferdam}")
rounds=${ROUNDS:-9}
files=${1:-100000}
work=$(mktemp -d "${WORK:-/var/tmp}/cofferdam-bench-XXXXXX")
trap 'chmod -R u+rwx "$work"; rm -rf "$work"' EXIT
export HOME=$work/home XDG_STATE_HOME=$work/state GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=bench GIT_AUTHOR_EMAIL=bench@example.org GIT_COMMITTER_NAME=bench GIT_COMMITTER_EMAIL=bench@example.org
mkdir -p "$HOME" "$work/repository"
cd "$work/repository"
git init -q -b main && git config gc.auto 0
awk -v n="$files" 'BEGIN { for (i = 0; i < n; i++) { if (i % 50 == 0) { d = sprintf("src/m%03d/p%02d", i / 1000, (i / 50) % 20); system("mkdir -p " d) }
    f = sprintf("%s/f%06d.txt", d, i); for (l = 0; l <= i % 40; l++) print "file", i > f; close(f) } }'
printf '*.o\n' > .gitignore
git add -A && git commit -q -m base && git gc -q

# Milliseconds of a first and a second `git status`, and of one after changes, each with its processor time.
measure='
import glob, os, resource, subprocess, time
def once(changed=0):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    said = subprocess.run(["git", "status", "--porcelain"], check=True, capture_output=True).stdout
    wall = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert said.count(b"\n") == changed, said
    return wall * 1000, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000
first, second = once(), once()
files = sorted(glob.glob("src/m*/p*/*.txt"))[::-(-len(glob.glob("src/m*/p*/*.txt")) // 20)]
kept = [open(path).read() for path in files]
for path in files:
    open(path, "a").write("more\n")
third = once(len(files))
for path, text in zip(files, kept):
    open(path, "w").write(text)
print("%.1f %.1f %.1f %.1f %.1f %.1f" % (first + second + third))'

git worktree add -q --detach "$work/plain"
git -C "$work/plain" status > /dev/null
"$program" workspace new warm 2> /dev/null
: > "$work/plain.times"; : > "$work/inside.times"
for ((round = 1; round <= rounds; round++)); do
    (cd "$work/plain" && python3 -c "$measure") >> "$work/plain.times"
    "$program" workspace new "s$round" 2> /dev/null
    "$program" workspace exec "s$round" -- python3 -c "$measure" >> "$work/inside.times"
    "$program" workspace remove "s$round" 2> /dev/null
done

median() { cut -d' ' -f"$2" "$1" | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
row() { printf '| %s | %s ms | %s ms | %s |\n' "$1" "$2" "$3" "$(awk -v a="$3" -v b="$2" 'BEGIN { printf "%.2f×", a / b }')"; }
printf '%s files, load %s\n\n| `git status` | plain checkout | inside | ratio |\n| --- | --- | --- | --- |\n' "$files" "$(cut -d' ' -f1 /proc/loadavg)"
row 'the first one' "$(median "$work/plain.times" 1)" "$(median "$work/inside.times" 1)"
row 'the second one' "$(median "$work/plain.times" 3)" "$(median "$work/inside.times" 3)"
row 'after 20 changes' "$(median "$work/plain.times" 5)" "$(median "$work/inside.times" 5)"
row 'the first one, processor time' "$(median "$work/plain.times" 2)" "$(median "$work/inside.times" 2)"
row 'the second one, processor time' "$(median "$work/plain.times" 4)" "$(median "$work/inside.times" 4)"
row 'after 20 changes, processor time' "$(median "$work/plain.times" 6)" "$(median "$work/inside.times" 6)"
