//! Control groups on this host, whatever it has: cgroup v2, v1, or neither. Real groups, real processes, real limits.
//!
//! It has no test harness because it forks, which a threaded process must not. `cargo test --test cgroup -- WORD` runs those whose name
//! has the word; `-- costs` prints what the steps cost.

#![expect(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, reason = "a test program without a harness reports by itself")]

use std::ffi::{CString, OsStr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cofferdam::base::size::Size;
use cofferdam::sandbox::cgroup::{Cgroups, Error, Group, Mode, join};
use cofferdam::sandbox::policy::Limits;
use cofferdam::sandbox::sys::{self, Fork};
use nix::poll::{PollFd, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, Uid, setresuid};

type Test = fn(&Cgroups);

const TESTS: &[(&str, Test)] = &[
    ("a_group_lives_and_leaves_nothing", a_group_lives_and_leaves_nothing),
    ("memory_limit_kills_and_is_counted", memory_limit_kills_and_is_counted),
    ("memory_limit_spares_who_stays_below", memory_limit_spares_who_stays_below),
    ("pids_limit_refuses_and_is_counted", pids_limit_refuses_and_is_counted),
    ("cpu_limit_throttles", cpu_limit_throttles),
    ("kill_ends_the_whole_tree_for_good", kill_ends_the_whole_tree_for_good),
    ("drop_kills_and_removes", drop_kills_and_removes),
    ("sweep_takes_only_what_the_dead_left", sweep_takes_only_what_the_dead_left),
    ("many_at_once_leave_nothing", many_at_once_leave_nothing),
    ("adopt_moves_a_running_process", adopt_moves_a_running_process),
];

/// The one test that needs no group.
const ORDINARY: &str = "an_ordinary_user_is_told_why";

fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "--list") {
        // What test runners ask for first; none of these is ignored.
        if !std::env::args().any(|arg| arg == "--ignored") {
            TESTS.iter().map(|(name, _)| *name).chain([ORDINARY]).for_each(|name| println!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    let words: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let cgroups = Cgroups::find();
    println!("{}", cgroups.detail());
    if words.iter().any(|word| word == "costs") {
        costs(&cgroups);
        return ExitCode::SUCCESS;
    }
    // What the runner of this file says it must find, for a machine where anything else is a failure: v2, v1, supervised.
    let expected = std::env::var("EXPECT_CGROUP").ok();
    let mut failed = Vec::new();
    if expected.as_deref().is_some_and(|mode| mode != cgroups.mode().name()) {
        failed.push("mode");
    }
    for (name, test) in TESTS.iter().filter(|(name, _)| wanted(name)) {
        if let Mode::Supervised { why } = cgroups.mode() {
            eprintln!("SKIPPED {name}: no control group can be made here: {why}");
            continue;
        }
        let result = catch_unwind(AssertUnwindSafe(|| test(&cgroups)));
        println!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        if result.is_err() {
            failed.push(name);
        }
    }
    for (name, test) in [(ORDINARY, an_ordinary_user_is_told_why as fn() -> Option<String>)] {
        if !wanted(name) {
            continue;
        }
        match catch_unwind(test) {
            Ok(None) => println!("test {name} ... ok"),
            Ok(Some(why)) => eprintln!("SKIPPED {name}: {why}"),
            Err(_) => failed.push(name),
        }
    }
    drop(cgroups);
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("FAILED: {}", failed.join(", "));
    ExitCode::FAILURE
}

/// Runs a shell script as the first process of a group: born inside on v2, joining by itself on v1.
fn start(group: &Group, script: &str) -> Pid {
    let (sh, dash_c, script) = (c"/bin/sh".to_owned(), c"-c".to_owned(), CString::new(script).unwrap());
    let cgroup = group.clone_into_fd().unwrap();
    match sys::fork_into(0, cgroup).unwrap() {
        Fork::Parent { pid, .. } => Pid::from_raw(pid),
        Fork::Child => {
            if group.join_fds().unwrap().map(join).any(|result| result.is_err()) {
                sys::exit_now(99);
            }
            let path = CString::new("PATH=/usr/local/bin:/usr/bin:/bin").unwrap();
            drop(sys::execve(c"/bin/sh", &[sh, dash_c, script], &[path]));
            sys::exit_now(98)
        }
    }
}

/// Runs a function in a forked process and gives its exit status.
fn in_child(work: impl FnOnce() -> i32) -> Pid {
    match sys::fork_into(0, None).unwrap() {
        Fork::Parent { pid, .. } => Pid::from_raw(pid),
        Fork::Child => {
            let code = catch_unwind(AssertUnwindSafe(work)).unwrap_or(101);
            sys::exit_now(code)
        }
    }
}

fn exit_code(pid: Pid) -> i32 {
    match waitpid(pid, None).unwrap() {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        other => panic!("{other:?}"),
    }
}

fn limits() -> Limits {
    Limits { memory: Some(Size::mib(64)), pids: Some(30), ..Limits::default() }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited 20 s for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn paths(group: &Group) -> Vec<PathBuf> {
    group.paths().map(Path::to_path_buf).collect()
}

/// Did a limit's event arrive?
fn rang(group: &Group, wait_ms: u16) -> bool {
    let mut polled: Vec<PollFd<'_>> = group.events().map(|(fd, flags)| PollFd::new(fd, flags)).collect();
    poll(&mut polled, PollTimeout::from(wait_ms)).unwrap() > 0
}

fn a_group_lives_and_leaves_nothing(cgroups: &Cgroups) {
    let group = Group::create(cgroups, &limits()).unwrap();
    let made = paths(&group);
    assert!(!made.is_empty() && made.iter().all(|path| path.is_dir()), "{made:?}");
    assert!(group.enforced().memory && group.enforced().pids && !group.enforced().cpus, "{:?}", group.enforced());
    let pid = start(&group, "sleep 0.05; exit 7");
    until("the process inside", || group.processes().first().copied() == u32::try_from(pid.as_raw()).ok());
    assert_eq!(exit_code(pid), 7);
    let usage = group.usage();
    assert!(usage.memory_peak.is_some_and(|bytes| bytes > 0), "{usage:?}");
    assert!(usage.pids_peak.is_none_or(|peak| (1..=3).contains(&peak)), "{usage:?}");
    assert!(usage.cpu.is_some_and(|cpu| !cpu.is_zero()), "{usage:?}");
    assert_eq!((usage.oom_kills, usage.pids_max_hits), (0, 0));
    group.remove().unwrap();
    assert!(made.iter().all(|path| !path.exists()));
}

fn memory_limit_kills_and_is_counted(cgroups: &Cgroups) {
    let group = Group::create(cgroups, &limits()).unwrap();
    assert!(!rang(&group, 30), "an event before anything happened");
    let pid = start(&group, "dd if=/dev/zero of=/dev/null bs=256M count=1 2>/dev/null; exit 3");
    let mut usage = group.usage();
    while usage.oom_kills == 0 {
        assert!(rang(&group, 10_000), "no event");
        usage = group.usage();
    }
    let code = exit_code(pid);
    // With oom.group (v2) the shell dies as well; on v1 only the one who asked for too much.
    assert!(if *cgroups.mode() == Mode::V2 { code == 137 } else { code == 3 || code == 137 }, "{code}");
    assert!(usage.memory_peak.is_none_or(|peak| peak <= 64 << 20 && peak > 32 << 20), "{usage:?}");
    group.remove().unwrap();
}

fn memory_limit_spares_who_stays_below(cgroups: &Cgroups) {
    let group = Group::create(cgroups, &limits()).unwrap();
    let pid = start(&group, "dd if=/dev/zero of=/dev/null bs=16M count=1 2>/dev/null; exit 3");
    assert_eq!(exit_code(pid), 3);
    assert_eq!(group.usage().oom_kills, 0);
}

fn pids_limit_refuses_and_is_counted(cgroups: &Cgroups) {
    let group = Group::create(cgroups, &Limits { pids: Some(5), ..limits() }).unwrap();
    let pid = start(&group, "exec 2>/dev/null; for i in 1 2 3 4 5 6 7 8 9 10; do sleep 30 & done; exit 0");
    if group.look_every().is_some() {
        until("a refused fork", || group.usage().pids_max_hits > 0);
    } else {
        assert!(rang(&group, 10_000), "no event");
    }
    let usage = group.usage();
    assert!(usage.pids_max_hits >= 1, "{usage:?}");
    assert!(usage.pids_peak.is_none_or(|peak| peak == 5), "{usage:?}");
    group.kill().unwrap();
    assert_ne!(exit_code(pid), 0);
    assert!(group.processes().is_empty());
}

fn cpu_limit_throttles(cgroups: &Cgroups) {
    if !cgroups.controllers().cpu {
        eprintln!("SKIPPED cpu_limit_throttles: the cpu controller is not available");
        return;
    }
    let group = Group::create(cgroups, &Limits { cpus: Some(0.1), ..limits() }).unwrap();
    assert!(group.enforced().cpus);
    let begin = Instant::now();
    let pid = start(&group, "while :; do :; done");
    std::thread::sleep(Duration::from_millis(1500));
    let (cpu, wall) = (group.usage().cpu.unwrap(), begin.elapsed());
    group.kill().unwrap();
    exit_code(pid);
    assert!(cpu < wall / 4, "{cpu:?} of processor time in {wall:?} with a limit of 0.1");
    assert!(cpu > Duration::from_millis(30), "it never ran: {cpu:?}");
}

fn kill_ends_the_whole_tree_for_good(cgroups: &Cgroups) {
    let group = Group::create(cgroups, &limits()).unwrap();
    let pid = start(&group, "(setsid sh -c 'setsid sleep 100 & sleep 100 & wait' &) ; (trap '' TERM HUP; sleep 100) & wait");
    until("four processes", || group.processes().len() >= 4);
    group.kill().unwrap();
    assert_eq!(exit_code(pid), 137);
    assert!(group.processes().is_empty());
    assert!(matches!(group.clone_into_fd(), Err(Error::Killed { .. })));
    assert!(matches!(group.adopt(1), Err(Error::Killed { .. })));
    assert!(group.join_fds().is_err());
}

fn drop_kills_and_removes(cgroups: &Cgroups) {
    let group = Group::create(cgroups, &limits()).unwrap();
    let made = paths(&group);
    let pid = start(&group, "sleep 100 & wait");
    until("two processes", || group.processes().len() == 2);
    drop(group);
    assert_eq!(exit_code(pid), 137);
    assert!(made.iter().all(|path| !path.exists()));
}

fn sweep_takes_only_what_the_dead_left(cgroups: &Cgroups) {
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("told");
    // A supervisor that is killed before it can clean up, with a process of its own still running.
    let victim = in_child(|| {
        let cgroups = Cgroups::find();
        let group = Group::create(&cgroups, &limits()).unwrap();
        let inside = start(&group, "exec sleep 100");
        let lines: Vec<String> = paths(&group).iter().map(|path| path.display().to_string()).collect();
        fs_err::write(folder.path().join("part"), format!("{inside}\n{}", lines.join("\n"))).unwrap();
        fs_err::rename(folder.path().join("part"), &told).unwrap();
        std::thread::sleep(Duration::from_secs(100));
        0
    });
    until("the supervisor's group", || told.exists());
    let text = fs_err::read_to_string(&told).unwrap();
    let mut lines = text.lines();
    let inside = Pid::from_raw(lines.next().unwrap().parse().unwrap());
    let dirs: Vec<&Path> = lines.map(Path::new).collect();
    // While its maker lives, a sweep leaves it alone; so it does with the groups of this very process.
    let mine = Group::create(cgroups, &limits()).unwrap();
    cgroups.sweep().unwrap();
    assert!(dirs.iter().all(|dir| dir.is_dir()) && mine.paths().all(Path::is_dir));
    kill(victim, Signal::SIGKILL).unwrap();
    assert_eq!(exit_code(victim), 137);
    // The control, unless another cofferdam on this machine started just now and swept already.
    let alive = kill(inside, None).is_ok();
    assert!(alive || dirs.iter().any(|dir| !dir.exists()), "the process inside should have survived its supervisor");
    cgroups.sweep().unwrap();
    until("what another sweep may be at", || dirs.iter().all(|dir| !dir.exists()));
    until("the end of the process inside", || is_dead(inside));
    assert!(mine.paths().all(Path::is_dir));
}

/// Gone, or a zombie that nobody has waited for yet.
fn is_dead(pid: Pid) -> bool {
    fs_err::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim().starts_with('Z')))
}

fn many_at_once_leave_nothing(cgroups: &Cgroups) {
    let parents: Vec<PathBuf> = {
        let group = Group::create(cgroups, &limits()).unwrap();
        paths(&group).iter().map(|path| path.parent().unwrap().to_path_buf()).collect()
    };
    // Each finds for itself and drops what it found, so that the directory they share comes and goes under the others.
    let children: Vec<Pid> = (0..12)
        .map(|_| {
            in_child(|| {
                for _ in 0..8 {
                    let cgroups = Cgroups::find();
                    let group = Group::create(&cgroups, &limits()).unwrap();
                    let pid = start(&group, "exit 5");
                    assert_eq!(exit_code(pid), 5);
                    group.remove().unwrap();
                }
                0
            })
        })
        .collect();
    for child in &children {
        assert_eq!(exit_code(*child), 0);
    }
    // Another cofferdam may be at work on this machine: only names of ours count.
    let ours = |name: &OsStr| children.iter().any(|child| name.as_encoded_bytes().starts_with(format!("cofferdam-{child}-").as_bytes()));
    for parent in parents {
        let entries = fs_err::read_dir(parent).into_iter().flatten().flatten();
        let left: Vec<_> = entries.map(|entry| entry.file_name()).filter(|name| ours(name)).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn adopt_moves_a_running_process(cgroups: &Cgroups) {
    let group = Group::create(cgroups, &limits()).unwrap();
    let pid = in_child(|| {
        std::thread::sleep(Duration::from_secs(100));
        0
    });
    let number = u32::try_from(pid.as_raw()).unwrap();
    group.adopt(number).unwrap();
    assert_eq!(group.processes(), [number]);
    group.kill().unwrap();
    assert_eq!(exit_code(pid), 137);
}

/// Somebody who owns no group here gets the supervised mode with a reason, and nothing made under way.
fn an_ordinary_user_is_told_why() -> Option<String> {
    if !Uid::effective().is_root() {
        return Some("needs root to become another user".to_owned());
    }
    let pid = in_child(|| {
        let nobody = Uid::from_raw(61_234);
        setresuid(nobody, nobody, nobody).unwrap();
        let cgroups = Cgroups::find();
        let Mode::Supervised { why } = cgroups.mode() else { panic!("{}", cgroups.detail()) };
        assert!(!why.is_empty());
        let group = Group::create(&cgroups, &limits()).unwrap();
        assert_eq!(group.enforced(), Default::default());
        assert_eq!(group.usage(), Default::default());
        group.kill().unwrap();
        group.remove().unwrap();
        0
    });
    assert_eq!(exit_code(pid), 0);
    None
}

/// What the steps cost, as medians of many.
fn costs(cgroups: &Cgroups) {
    let mut rows: Vec<(&str, Vec<Duration>)> =
        ["find", "create", "start+wait", "usage", "remove", "sweep", "adopt"].map(|name| (name, Vec::new())).into();
    for _ in 0..200 {
        let mut row = 0;
        let mut clock = Instant::now();
        let mut lap = |rows: &mut Vec<(&str, Vec<Duration>)>| {
            rows[row].1.push(clock.elapsed());
            row += 1;
            clock = Instant::now();
        };
        let found = Cgroups::find();
        lap(&mut rows);
        let group = Group::create(&found, &limits()).unwrap();
        lap(&mut rows);
        exit_code(start(&group, ":"));
        lap(&mut rows);
        group.usage();
        lap(&mut rows);
        group.remove().unwrap();
        lap(&mut rows);
        cgroups.sweep().unwrap();
        lap(&mut rows);
    }
    for _ in 0..20 {
        let group = Group::create(cgroups, &limits()).unwrap();
        let pid = in_child(|| {
            std::thread::sleep(Duration::from_secs(5));
            0
        });
        let clock = Instant::now();
        group.adopt(u32::try_from(pid.as_raw()).unwrap()).unwrap();
        rows[6].1.push(clock.elapsed());
        group.kill().unwrap();
        exit_code(pid);
        std::thread::sleep(Duration::from_millis(20));
    }
    for (name, mut times) in rows {
        times.sort();
        println!("{name:12} median {:8.1} us   95 % {:8.1} us", micros(times[times.len() / 2]), micros(times[times.len() * 95 / 100]));
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
