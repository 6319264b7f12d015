//! What an agent's own `git status` costs and says: it looks at nothing that nobody changed, and misses nothing.

use super::commands::{World, everybody};
use super::support::bash;

/// Folders whose names sort differently with a slash at their end, and ignore lists in some of them.
const BASE: &str = "mkdir -p p/deep/er p-b p.c none/at/all; for d in p p/deep p/deep/er p-b p.c none/at/all; do echo $d > $d/file; done; \
    echo '*.log' > p/.gitignore; echo 'x*' > none/at/.gitignore; : > p-b/.gitignore; git add -A; git commit -q -m folders";

/// Lists how many folders git opened, then what it says with what it remembered and without.
const COUNT: &str = "GIT_TRACE2_PERF=/tmp/trace git status --porcelain; grep -o 'opendir:.*' /tmp/trace";
const CHANGES: &str = "touch p/deep/x.log p/deep/x.o p/deep/seen none/at/all/xx none/at/all/yy new; mkdir -p p-b/new; touch p-b/new/f; \
    rm -r p.c; sleep 1.1; git status --porcelain > /tmp/1; echo '!x.log' >> p/deep/.gitignore; echo 'yy' >> none/at/.gitignore; \
    git status --porcelain > /tmp/2; git -c core.untrackedCache=false status --porcelain > /tmp/3; cmp /tmp/2 /tmp/3 && cat /tmp/1";

fn check(world: &World, story: &str) {
    world.ok(&["workspace", "new", story]);
    let first = world.inside(story, COUNT);
    // The workspace's root alone: it is always the story's.
    assert_eq!(first, "opendir:1\n", "{story}");
    let said = world.inside(story, CHANGES);
    for expected in ["?? p/deep/seen\n", "?? none/at/all/yy\n", "?? new\n", "?? p-b/new/\n", " D p.c/file\n"] {
        assert!(said.contains(expected), "{story}: no {expected:?} in {said}");
    }
    assert!(!said.contains("x.log") && !said.contains("x.o") && !said.contains("xx"), "{story}: {said}");
}

#[test]
fn the_first_status_lists_no_folder_and_misses_nothing() {
    let world = World::new(None);
    assert!(bash(&world.main(), BASE).status.success());
    check(&world, "whole");
    // A small layer over it, and one with a folder gone and a new one.
    bash(&world.main(), "echo more >> p/deep/file; echo 'y*' >> none/at/.gitignore; git commit -qam more");
    world.ok(&["workspace", "new", "empty"]);
    bash(&world.main(), "git mv p/deep/er p/moved; echo 'x*' > none/at/.gitignore; git add -A; git commit -qam moved");
    check(&world, "stacked");
}

/// Changes the workspace at random, and after every few steps asks git twice: with all that tells it where to look, and with nothing of it.
const WANDER: &str = r#"
import os, random, shutil, subprocess, sys
random.seed(int(sys.argv[1]))
PLAIN = ["-c", "core.fsmonitor=false", "-c", "core.untrackedCache=false"]

def git(*words, may_fail=False, **env):
    done = subprocess.run(["git", *words], capture_output=True, text=True, env={**os.environ, **env})
    assert may_fail or done.returncode == 0, (words, done)
    assert "fsmonitor" not in done.stderr, done.stderr
    return done.stdout

def paths(folders):
    found = ["."] if folders else []
    for top, inner, files in os.walk("."):
        inner[:] = [name for name in inner if name != ".git"]
        found += [os.path.join(top, name) for name in (inner if folders else files)]
    return sorted(found)

def remove(path):
    shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.remove(path)

def write(path):
    if not os.path.isdir(path):
        with open(path, "a") as out:
            out.write(random.choice("xyz") * random.randint(1, 9))

def step():
    folder, files = random.choice(paths(True)), paths(False) or ["x"]
    fresh = os.path.join(folder, random.choice(["a", "b", "c.log", "d", "e\nf", "-g", ".gitignore"]))
    kind = random.randrange(16)
    if kind < 3: write(random.choice(files))
    elif kind < 5: write(fresh)
    elif kind == 5: os.path.lexists(fresh) or os.makedirs(fresh + "/in/ner")
    elif kind == 6: remove(random.choice(files))
    elif kind == 7: folder != "." and remove(folder)
    elif kind == 8 and folder != "." and not os.path.lexists(fresh + ".copy"): shutil.copytree(folder, fresh + ".copy", symlinks=True)
    elif kind == 9 and folder != "." and not fresh.startswith(folder) and not os.path.lexists(fresh): shutil.move(folder, fresh)
    elif kind == 10:
        one = random.choice(files)
        os.path.islink(one) or os.chmod(one, random.choice([0o644, 0o755]))
    elif kind == 11:
        # What was a file is a folder now, and the other way round.
        one = random.choice(files + paths(True)[1:])
        was = os.path.isdir(one) and not os.path.islink(one)
        remove(one)
        write(one) if was else os.makedirs(one + "/deep")
        was or write(one + "/deep/f")
    elif kind == 12 and not os.path.lexists(fresh): os.symlink("nowhere", fresh)
    elif kind == 13: git("add", "-A")
    elif kind == 14: git("commit", "-q", "--allow-empty", "-am", "c")
    elif kind == 15: git(*random.choice([["stash", "-q"], ["checkout", "-q", "."], ["reset", "-q", "--hard", "HEAD~1"], ["reset", "-q", "HEAD~1"], ["clean", "-fdq"], ["stash", "pop", "-q"]]), may_fail=True)

changed = 0
for count in range(int(sys.argv[2])):
    step()
    if count % 3:
        continue
    shutil.copy2(".git/index", "/tmp/index")
    plain = git(*PLAIN, "status", "--porcelain", GIT_INDEX_FILE="/tmp/index")
    told = git("status", "--porcelain")
    assert told == plain, (count, told, plain)
    changed += told != ""
    # The same question of somebody who says that nothing changed.
    if sys.argv[3:] and count > 20:
        subprocess.run(["git", "config", "core.fsmonitor", sys.argv[3]])
print("asked, and heard of changes:", changed > 5)
"#;

const FOLDERS: &str = "for d in k l k/l k/l/m n/o/p q; do mkdir -p $d; for f in 1 2 3 4 5; do echo $d $f > $d/$f; done; done; echo '*.log' > .gitignore; git add -A; \
    git commit -q -m folders";

#[test]
fn whatever_was_changed_is_told_by_who_looks_at_nothing_else() {
    everybody(|world| {
        assert!(world.bash(FOLDERS).status.success());
        for seed in 1..=4 {
            let story = format!("s{seed}");
            world.ok(&["workspace", "new", &story]);
            let valid = world.inside(&story, "git ls-files -f | cut -c1 | sort | uniq -c | tr -d ' \n'");
            assert_eq!(valid, "34h", "{seed}: no file need be looked at");
            let said = world.inside(
                &story,
                &format!("cat > /tmp/wander.py <<'PY'\n{WANDER}\nPY\nPATH=/usr/bin:$PATH python3 /tmp/wander.py {seed} 150"),
            );
            assert_eq!(said, "asked, and heard of changes: True\n", "{seed}");
        }
        // Who may only read is told the same.
        let script = "git status --porcelain > /dev/null; git ls-files -f | cut -c1 | sort -u | tr -d '\n'";
        let valid = world.ok(&["workspace", "exec", "s1", "--role", "reviewer", "--", "sh", "-c", script]);
        assert_eq!(valid, "Hh");
        // Control: who says that nothing changed is found out.
        world.ok(&["workspace", "new", "liar"]);
        let liar = "printf '#!/bin/sh\\nprintf \"$2\\\\0\"\\n' > /tmp/liar; chmod +x /tmp/liar";
        let command = format!(
            "{liar}; cat > /tmp/wander.py <<'PY'\n{WANDER}\nPY\nPATH=/usr/bin:$PATH python3 /tmp/wander.py 1 150 /tmp/liar 2>&1 | tail -n 1 | cut -c1-14"
        );
        assert_eq!(world.inside("liar", &command), "AssertionError\n", "control: a change that nobody told of was seen");
    });
}
