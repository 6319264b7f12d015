#!/usr/bin/env bash
# A story's workspace against `git worktree`, side by side in one run, on synthetic repositories.
#
#   bench/workspace.sh [FILES…]        default: 1000 20000 100000
#
# COFFERDAM names the program (default: target/release/cofferdam), ROUNDS how often each line is measured (default: 5; the median is shown),
# WORK where the repositories are made (default: a new folder in /var/tmp; an overlay's upper folder cannot lie on another overlay).
set -euo pipefail

program=$(realpath "${COFFERDAM:-target/release/cofferdam}")
rounds=${ROUNDS:-5}
work=$(mktemp -d "${WORK:-/var/tmp}/cofferdam-bench-XXXXXX")
trap 'chmod -R u+rwx "$work"; rm -rf "$work"' EXIT
export HOME=$work/home XDG_STATE_HOME=$work/state GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=bench GIT_AUTHOR_EMAIL=bench@example.org GIT_COMMITTER_NAME=bench GIT_COMMITTER_EMAIL=bench@example.org
mkdir -p "$HOME"

# Milliseconds, with two decimals, of one command.
timed() {
    local start end
    start=$(date +%s%N)
    "$@" >/dev/null 2>&1
    end=$(date +%s%N)
    echo "$(((end - start) / 10000))" | sed -E 's/^([0-9]{1,2})$/0\1/; s/^([0-9])$/00\1/; s/([0-9]{2})$/.\1/; s/^\./0./'
}

median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.1f×", a / (b > 0 ? b : 0.01) }'; }
row() { printf '| %s | %s ms | %s ms | %s |\n' "$1" "$2" "$3" "$(ratio "$2" "$3")"; }

change='for i in 0 1 2 3 4 5 6 7 8 9; do echo changed >> src/m000/p00/f00000$i.txt; echo new > src/m000/new$i; done'

for files in "${@:-1000 20000 100000}"; do for n in $files; do
    repository=$work/repository-$n
    mkdir -p "$repository"
    cd "$repository"
    git init -q -b main && git config gc.auto 0
    awk -v n="$n" 'BEGIN { for (i = 0; i < n; i++) { if (i % 50 == 0) { d = sprintf("src/m%03d/p%02d", i / 1000, (i / 50) % 20); system("mkdir -p " d) }
        f = sprintf("%s/f%06d.txt", d, i); for (l = 0; l <= i % 40; l++) print "file", i > f; close(f) } }'
    printf '*.o\n' > .gitignore
    git add -A && git commit -q -m base && git gc -q

    printf '\n%s files\n\n| what | git | cofferdam | ratio |\n| --- | --- | --- | --- |\n' "$n"
    first=$(timed "$program" workspace new first)
    for list in add new gitadd collect landed removed gone; do : > "$work/$list"; done
    for ((round = 1; round <= rounds; round++)); do
        timed git worktree add -q --detach "$work/tree" >> "$work/add"
        timed "$program" workspace new "s$round" >> "$work/new"
        # The same change in both; git's own cost is `add` and `write-tree` together, in a tree whose index is warm.
        git -C "$work/tree" status > /dev/null
        (cd "$work/tree" && eval "$change")
        "$program" workspace exec "s$round" -- sh -c "$change; echo $round > round"
        (cd "$work/tree" && echo "$round" > round)
        timed sh -c "git -C '$work/tree' add -A && git -C '$work/tree' write-tree" >> "$work/gitadd"
        timed "$program" workspace collect "s$round" >> "$work/collect"
        expected=$(git -C "$work/tree" write-tree)
        found=$(git rev-parse "refs/cofferdam/stories/s$round/1^{tree}")
        [ "$expected" = "$found" ] || { echo "the collected tree differs: $found instead of $expected" >&2; exit 1; }
        # A landing of that change: a new layer with its git part, and a workspace on it.
        timed "$program" workspace new "l$round" --base "refs/cofferdam/stories/s$round/1" >> "$work/landed"
        timed git worktree remove --force "$work/tree" >> "$work/removed"
        timed "$program" workspace remove "s$round" >> "$work/gone"
    done
    add=$(median < "$work/add")
    row 'a worktree, base layer present' "$add" "$(median < "$work/new")"
    row 'add -A and write-tree, 21 files changed' "$(median < "$work/gitadd")" "$(median < "$work/collect")"
    row 'a worktree on a commit that differs in 21 files' "$add" "$(median < "$work/landed")"
    row 'removal, 21 files changed' "$(median < "$work/removed")" "$(median < "$work/gone")"
    row 'the first worktree of all, with its base layer' "$add" "$first"

    before=$(du -s --block-size=1 "$XDG_STATE_HOME" | cut -f1)
    for ((story = 1; story <= 32; story++)); do "$program" workspace new "w$story" 2> /dev/null; done
    after=$(du -s --block-size=1 "$XDG_STATE_HOME" | cut -f1)
    checkout=$(du -s --block-size=1 --exclude=.git "$repository" | cut -f1)
    awk -v a="$((after - before))" -v b="$((checkout * 32))" 'BEGIN { printf "\n32 workspaces before any change: %d KiB, %.3f %% of 32 checkouts\n", a / 1024, 100 * a / b }'
done; done
