//! A run whose surroundings fail under it: the disk fills, the clock jumps. It stops or goes on plainly, and nothing is lost.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common::{Who, is_root};
use crate::support::Project;

const CONFIG: &str = "[run]\nparallel = 1\nretry_delay = \"1ms\"\nstart_on = \"ready_for_review\"\n";

/// What happens on a disk of its own that nobody else sees: `cofferdam` is the program, and the state folder lies on that disk.
const FULL: &str = r#"
set -e
mkdir -p "$HOME/.local/state"
mount -t tmpfs -o size=48M tmpfs "$HOME/.local/state"
cd "$2"
p=$1
"$p" run > "$3/first" 2>&1 & run=$!
until "$p" log --json 2>/dev/null | grep -q attempt.started; do kill -0 $run; sleep 0.05; done
# The agent is at work for a second; from now on nothing can be written.
head -c 100M /dev/zero > "$HOME/.local/state/ballast" 2>/dev/null || true
"$p" log --json > "$3/before"
code=0; wait $run || code=$?
echo $code > "$3/code"
"$p" status --json > "$3/status"
rm "$HOME/.local/state/ballast"
"$p" log --verify > "$3/verified" 2>&1
"$p" run > "$3/second" 2>&1 || echo "second run: $?" >> "$3/second"
"$p" log --verify >> "$3/verified" 2>&1
"$p" log --json > "$3/after"
"$p" status --json > "$3/end"
"#;

#[test]
fn a_disk_that_fills_under_a_run_stops_it_and_loses_nothing() {
    if !is_root() {
        drop(std::io::Write::write_all(&mut std::io::stderr(), b"SKIPPED a disk that fills under a run: the tests do not run as root\n"));
        return;
    }
    let project = Project::new(Who::Caller, CONFIG, &[("A", "slow", &[]), ("B", "good", &["A"])]);
    let told = project.world.path().join("told");
    fs_err::create_dir(&told).expect("a folder");
    let like = project.command(&[]);
    let mut command = Command::new("unshare");
    command.args(["-m", "bash", "-c", FULL, "-"]).arg(project.world.program()).arg(project.path()).arg(&told).env_clear();
    for (name, value) in like.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    let read = |name: &str| fs_err::read_to_string(told.join(name)).unwrap_or_default();
    let all = format!("{}\n{}\n{}", String::from_utf8_lossy(&output.stderr), read("first"), read("second"));
    assert!(output.status.success() && !all.contains("panicked"), "{all}");
    // It said so, and ended by itself.
    assert_eq!(read("code").trim(), "1", "{all}");
    assert!(read("first").contains("full") && read("first").contains("cofferdam run"), "{all}");
    // What was acknowledged is still there, in the same order.
    let (before, after) = (read("before"), read("after"));
    assert!(before.contains("attempt.started") && after.starts_with(&before), "{before}\n---\n{after}");
    let end: Value = serde_json::from_str(&read("end")).expect("JSON");
    let states: Vec<_> = end["stories"].as_array().expect("a list").iter().map(|story| story["state"].as_str()).collect();
    assert_eq!(states, [Some("ready_for_review"); 2], "{all}\n{after}");
    project.is_clean();
}

/// Stands between a program and the clock of the wall: adds what a file says, in seconds. Every other clock is as it is.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, id, time);
    if (id == CLOCK_REALTIME) {
        char text[32] = {0};
        int file = open(FILE_NAME, O_RDONLY | O_CLOEXEC);
        if (file >= 0) {
            if (read(file, text, sizeof text - 1) > 0) time->tv_sec += strtol(text, 0, 10);
            close(file);
        }
    }
    return result;
}
"#;

#[test]
fn a_clock_that_jumps_under_a_run_changes_nothing_but_the_times() {
    let stories: [(&str, &str, &[&str]); 3] = [("A", "slow", &[]), ("B", "slow", &["A"]), ("C", "slow", &["B"])];
    let project = Project::new(Who::Caller, CONFIG, &stories);
    let [source, library, offset] = ["clock.c", "clock.so", "offset"].map(|name| project.world.path().join(name));
    fs_err::write(&source, CLOCK).expect("written");
    fs_err::write(&offset, "0").expect("written");
    let define = format!("-DFILE_NAME=\"{}\"", offset.display());
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(define).arg(&source).status();
    if !built.is_ok_and(|status| status.success()) {
        drop(std::io::Write::write_all(&mut std::io::stderr(), b"SKIPPED a clock that jumps under a run: there is no C compiler\n"));
        return;
    }
    let begun = |id: &str| project.events().iter().any(|event| event["kind"] == "attempt.started" && event["story"] == id);
    let mut command = project.command(&["run"]);
    let child = command.env("LD_PRELOAD", &library).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    // A day back while the first one works, then a week ahead while the second does.
    project.until("the first agent", |_| begun("A"));
    fs_err::write(&offset, "-86400").expect("written");
    project.until("the second agent", |_| begun("B"));
    fs_err::write(&offset, "604800").expect("written");
    project.finish(child, 0);
    assert!(project.states().values().all(|state| state == "ready_for_review"), "{:?}", project.states());
    let times: Vec<jiff::Timestamp> = project.events().iter().filter_map(|event| event["at"].as_str()?.parse().ok()).collect();
    let jumped = |seconds: i64| times.windows(2).any(|pair| (pair[1].as_second() - pair[0].as_second() - seconds).abs() < 60);
    assert!(jumped(-86_400) && jumped(86_400 + 604_800), "the clock never jumped: {times:?}");
    // Nothing was tried twice, and no limit of time was taken for spent.
    let attempts = project.events().iter().filter(|event| event["kind"] == "attempt.started").count();
    assert_eq!(attempts, 3);
    project.is_clean();
}
