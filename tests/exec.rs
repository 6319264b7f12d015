//! `cofferdam exec` from the command line: exit codes, typed limits, the death of the whole tree, bad input.

mod common;

use common::{Who, World, everybody, processes_with, soon};
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

/// A number of seconds that no other sleep on this machine uses, to find our own by.
fn unique_sleep(n: u32) -> String {
    format!("{}.{n}", 4_000 + std::process::id() % 1000)
}

#[test]
fn the_commands_own_code_comes_through() {
    for world in everybody() {
        world.sh(&[], "exit 7").expect(7, "exited");
        world.sh(&[], "true").expect(0, "exited");
        world.sh(&[], "kill -TERM $$").expect(143, "signalled");
        world.exec(&[], &["no-such-program-here"]).expect(127, "exec_failed");
        // It is there in every sandbox, and no program.
        world.exec(&[], &["/etc/passwd"]).expect(126, "exec_failed");
    }
}

#[test]
fn the_outcome_has_every_field() {
    let ran = World::new(Who::Caller).sh(&[], "echo hello");
    for field in [
        "version",
        "cause",
        "exit_code",
        "signal",
        "wall_ms",
        "cpu_ms",
        "peak_memory_bytes",
        "peak_pids",
        "output_bytes",
        "denials",
        "receipt",
    ] {
        assert!(ran.outcome.get(field).is_some(), "{field}: {:#}", ran.outcome);
    }
    assert_eq!((&ran.outcome["version"], &ran.outcome["output_bytes"]), (&1.into(), &6.into()));
    assert!(ran.outcome["peak_memory_bytes"].as_u64() > Some(100_000));
    assert_eq!(ran.outcome["processes_left"], 0);
}

#[test]
fn real_time_scheduling_is_not_handed_on() {
    if !common::is_root() {
        eprintln!("SKIPPED real_time_scheduling_is_not_handed_on: only root can have it to hand on");
        return;
    }
    let world = World::new(Who::Caller);
    // Field 41 of `stat`: 0 is the ordinary policy, 1 first in, first out.
    let policy = ["cut", "-d ", "-f41", "/proc/self/stat"];
    let real_time = |program: &std::path::Path, arguments: &[&str]| {
        let mut command = std::process::Command::new("chrt");
        command.args(["-f", "10"]).arg(program).args(arguments).args(policy).current_dir(world.workspace()).env("HOME", world.home());
        let ran = command.output().expect("chrt");
        (String::from_utf8_lossy(&ran.stdout).trim().to_owned(), String::from_utf8_lossy(&ran.stderr).into_owned())
    };
    assert_eq!(real_time(std::path::Path::new("env"), &[]).0, "1", "control");
    assert_eq!(real_time(&world.program(), &["exec", "--cpus", "1", "--"]), ("0".to_owned(), String::new()));
}

/// The processors that a process may use, by its `/proc/PID/status`.
fn processors(status: &str) -> String {
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("a list").trim().to_owned()
}

fn processors_of(pid: &str) -> String {
    processors(&fs_err::read_to_string(format!("/proc/{pid}/status")).expect("its status"))
}

/// Process 1 is kept apart from its supervisor while both work; what it runs is not, unless a limit says so.
#[test]
fn the_command_runs_on_the_callers_processors() {
    for world in everybody() {
        let outside = processors_of("self");
        let inside = |options: &[&str]| {
            let ran = world.exec(options, &["grep", "Cpus_allowed_list:", "/proc/self/status"]);
            ran.expect(0, "exited");
            processors(&ran.out())
        };
        assert_eq!(inside(&[]), outside);
        assert_eq!(inside(&["--require", "no-userns"]), outside);
        assert!(inside(&["--cpus", "1"]).parse::<usize>().is_ok(), "one processor");
        let policy = world.exec(&[], &["cut", "-d ", "-f41", "/proc/self/stat"]);
        assert_eq!(policy.out().trim(), "0", "scheduled as everybody is");
    }
}

/// The supervisor keeps to its own processor while there may be a short command to wait for, and no longer.
#[test]
fn the_supervisor_is_free_again_when_a_command_takes_its_time() {
    let world = World::new(Who::Caller);
    let mut command = std::process::Command::new(world.program());
    command.args(["exec", "--", "sleep", "2"]).current_dir(world.workspace()).env("HOME", world.home());
    let mut supervisor = command.stdin(Stdio::null()).spawn().expect("exec");
    let (begun, mut free) = (std::time::Instant::now(), false);
    std::thread::sleep(Duration::from_millis(100));
    while !free && begun.elapsed() < Duration::from_millis(1500) {
        free = processors_of(&supervisor.id().to_string()) == processors_of("self");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(supervisor.wait().expect("its end").success());
    assert!(free);
}

#[test]
fn the_wall_limit_ends_the_grandchildren_too() {
    for world in everybody() {
        for (n, tier) in ["full", "no-userns"].into_iter().enumerate() {
            let sleep = unique_sleep(u32::try_from(n).unwrap() + if world.who == Who::Caller { 10 } else { 20 });
            let script = format!("(setsid nohup sleep {sleep} >/dev/null 2>&1 &) ; trap '' TERM; sleep {sleep}");
            let ran = world.sh(&["--wall", "1s", "--require", tier], &script);
            ran.expect(124, "wall");
            assert!(ran.took < Duration::from_millis(1500), "{:?}", ran.took);
            assert_eq!(processes_with(&sleep), Vec::<String>::new());
        }
    }
}

#[test]
fn a_child_that_goes_on_writing_is_dead_before_the_run_returns() {
    for world in everybody() {
        let ran = world.sh(&[], "(setsid sh -c 'while :; do date +%N > beat; done' &) ; sleep 0.1; exit 0");
        ran.expect(0, "exited");
        let beat = world.workspace().join("beat");
        let before = fs_err::read(&beat).expect("it did write");
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(before, fs_err::read(&beat).expect("the file stays"));
    }
}

#[test]
fn memory_is_typed() {
    for world in everybody() {
        for tier in ["full", "no-userns"] {
            let ran = world.exec(&["--memory", "64MiB", "--require", tier], &["python3", "-c", "x = bytearray(1 << 30)"]);
            ran.expect(137, "memory");
            assert!(ran.err().contains("--memory"), "{}", ran.err());
        }
    }
}

#[test]
fn shared_memory_of_roots_runs_is_bounded_by_the_kernel() {
    if !common::is_root() {
        eprintln!("SKIPPED shared_memory_of_roots_runs_is_bounded_by_the_kernel: the setting belongs to root");
        return;
    }
    let setting = || fs_err::read_to_string("/proc/sys/kernel/shmall").expect("the setting");
    let before = setting();
    let world = World::new(Who::Caller);
    // No process has it attached: nobody's memory shows it. Identifiers are told from errors by their sign.
    let script = "import ctypes, os; libc = ctypes.CDLL(None, use_errno=True); \
        print([libc.shmget(0, mib << 20, 0o1600) >= 0 or os.strerror(ctypes.get_errno()) for mib in (31, 2, 1)])";
    let inside = world.exec(&["--memory", "1GiB"], &["python3", "-c", script]);
    inside.expect(0, "exited");
    assert_eq!(inside.out().trim(), "[True, 'No space left on device', True]");
    assert_eq!(setting(), before, "the host's own is as it was");
}

#[test]
fn a_child_that_runs_out_of_memory_is_typed_too() {
    for world in everybody() {
        world.sh(&["--memory", "64MiB"], "python3 -c 'x = bytearray(1 << 30)'; sleep 5; exit 0").expect(137, "memory");
    }
}

#[test]
fn a_fork_bomb_is_typed_and_harmless() {
    for world in everybody() {
        for tier in ["full", "no-userns"] {
            let ran = world.exec(&["--pids", "32", "--wall", "20s", "--require", tier], &["bash", "-c", ":(){ :|:& };:; sleep 30"]);
            ran.expect(137, "pids");
            assert!(ran.outcome["peak_pids"].as_u64() <= Some(40), "{:#}", ran.outcome);
        }
    }
}

#[test]
fn output_is_cut_at_its_cap_and_the_supervisor_stays_small() {
    for world in everybody() {
        let ran = world.exec(&["--output", "1MiB"], &["yes"]);
        ran.expect(137, "output");
        assert_eq!(ran.output.stdout.len(), 1 << 20);
        // One line without an end, and a stream nobody reads from.
        world.sh(&["--output", "1MiB"], "head -c 100000000 /dev/zero").expect(137, "output");
        world.sh(&["--output", "1MiB"], "yes >&2").expect(137, "output");
    }
}

#[test]
fn a_disk_fill_is_typed_in_the_workspace_and_in_private_folders() {
    for world in everybody() {
        for script in [
            "dd if=/dev/zero of=big bs=1M count=500",
            "for i in 1 2 3 4 5 6 7 8 9; do dd if=/dev/zero of=big$i bs=1M count=20; done; sleep 3",
            "dd if=/dev/zero of=/tmp/big bs=1M count=500",
            "dd if=/dev/zero of=/dev/shm/big bs=1M count=500",
            "dd if=/dev/zero of=$HOME/big bs=1M count=500; sleep 3",
        ] {
            world.sh(&["--disk", "64MiB"], script).expect(137, "disk");
        }
        world.sh(&["--disk", "64MiB", "--discard"], "dd if=/dev/zero of=big bs=1M count=500").expect(137, "disk");
        // Too much is too much also for a command that ends well before anybody looks: 4 MiB are written in a moment.
        for script in ["dd if=/dev/zero of=quick bs=1M count=4", "dd if=/dev/zero of=/tmp/quick bs=1M count=4; exit 0"] {
            world.sh(&["--disk", "3MiB"], script).expect(137, "disk");
        }
        // A sparse file takes no room, but its size is bounded as well.
        world.sh(&["--disk", "64MiB"], "truncate -s 1T sparse").expect(137, "disk");
    }
}

#[test]
fn too_many_files_are_typed() {
    for world in everybody() {
        let fill = "i=0; while [ $i -lt 9000 ]; do : > $1/f$i || exit 9; i=$((i+1)); done; sleep 3";
        world.exec(&["--files", "500"], &["sh", "-c", fill, "sh", "."]).expect(137, "files");
        world.exec(&["--files", "500"], &["sh", "-c", fill, "sh", "/tmp"]).expect(137, "files");
    }
}

#[test]
fn processor_time_is_typed() {
    for world in everybody() {
        world.sh(&["--cpu-time", "1s", "--wall", "20s"], "while :; do :; done").expect(137, "cpu");
        world.sh(&["--cpu-time", "1s", "--wall", "20s"], "for i in 1 2; do (while :; do :; done) & done; wait").expect(137, "cpu");
    }
}

#[test]
fn open_files_and_file_size_have_their_limits() {
    for world in everybody() {
        let ran = world.exec(&["--open-files", "32"], &["python3", "-c", "import os\nfor i in range(99): os.dup(0)"]);
        assert!(ran.err().contains("Too many open files"), "{}", ran.err());
        world.sh(&["--file-size", "1MiB"], "exec dd if=/dev/zero of=big bs=1M count=9").expect(137, "disk");
    }
}

#[test]
fn a_thousand_zombies_are_reaped() {
    let ran = World::new(Who::Caller)
        .exec(&[], &["bash", "-c", "for i in $(seq 1000); do (true &) ; done; sleep 0.3; ls -d /proc/[0-9]* | wc -l"]);
    ran.expect(0, "exited");
    assert!(ran.out().trim().parse::<u32>().expect("a number") < 20, "{}", ran.out());
}

#[test]
fn a_killed_supervisor_takes_everything_along() {
    for (n, world) in everybody().into_iter().enumerate() {
        for tier in ["full", "no-userns"] {
            let sleep = unique_sleep(30 + u32::try_from(n).unwrap());
            let mut child = world
                .command()
                .args(["exec", "--require", tier, "--", "sh", "-c", &format!("setsid sleep {sleep} & sleep {sleep}")])
                .spawn()
                .expect("runs");
            soon("the payload", || processes_with(&sleep).iter().filter(|line| line.starts_with("sleep")).count() == 2);
            child.kill().expect("kill");
            child.wait().expect("wait");
            soon("the end of the tree", || processes_with(&sleep).is_empty());
        }
    }
}

#[test]
fn a_request_to_stop_reaches_the_command_and_then_ends_it() {
    for world in everybody() {
        let stop = |script: &str| {
            let mut child = world
                .command()
                .args(["exec", "--", "sh", "-c", script])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("runs");
            let mut ready = [0; 6];
            child.stdout.as_mut().expect("stdout").read_exact(&mut ready).expect("the payload is up");
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()), nix::sys::signal::Signal::SIGINT)
                .expect("kill");
            let start = std::time::Instant::now();
            (child.wait_with_output().expect("ends"), start.elapsed())
        };
        let (polite, took) = stop("trap 'echo bye; exit 3' INT; echo ready; while :; do sleep 0.05; done");
        assert_eq!((polite.status.code(), String::from_utf8_lossy(&polite.stdout).trim()), (Some(130), "bye"));
        assert!(took < Duration::from_secs(1), "{took:?}");
        let (stubborn, took) = stop("trap '' INT; echo ready; while :; do sleep 0.05; done");
        assert_eq!(stubborn.status.code(), Some(130));
        assert!(took < Duration::from_secs(4), "{took:?}");
    }
}

#[test]
fn input_is_relayed_and_its_end_too() {
    for world in everybody() {
        let mut child =
            world.command().args(["exec", "--", "sh", "-c", "wc -c"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("runs");
        child.stdin.take().expect("stdin").write_all(&vec![b'x'; 300_000]).expect("write");
        let output = child.wait_with_output().expect("ends");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "300000");
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_command_as_it_would_bare() {
    let world = World::new(Who::Caller);
    let mut child = world.command().args(["exec", "--", "yes"]).stdout(Stdio::piped()).spawn().expect("runs");
    let mut some = [0; 100];
    child.stdout.take().expect("stdout").read_exact(&mut some).expect("output");
    assert_eq!(child.wait().expect("ends").code(), Some(141));
}

#[test]
fn closed_standard_streams_are_no_problem() {
    let world = World::new(Who::Caller);
    let script = format!("exec {} exec -- sh -c 'echo out; echo err >&2; exit 5' <&- >&- 2>&-", world.program().display());
    let status = std::process::Command::new("sh")
        .args(["-c", &script])
        .env("HOME", world.home())
        .current_dir(world.workspace())
        .status()
        .expect("runs");
    assert_eq!(status.code(), Some(5));
}

#[test]
fn bad_input_is_one_clear_sentence_and_nothing_runs() {
    let world = World::new(Who::Caller);
    world.write("home/bad.toml", "[limits]\nmemroy = \"1GiB\"\n");
    let missing = "/no/such/folder";
    for (options, says) in [
        (vec!["--memory", "4GB "], "contains a space"),
        (vec!["--memory", "-1"], "negative"),
        (vec!["--pids", "0"], "above 0"),
        (vec!["--wall", "5"], "no unit"),
        (vec!["--cpus", "nan"], "between 0.01"),
        (vec!["--workspace", missing], "does not exist"),
        (vec!["--workspace", "/"], "refused"),
        (vec!["--workspace", "/usr"], "refused"),
        (vec!["--read", missing], "does not exist"),
        (vec!["--profile", "no-such"], "no-such"),
        (vec!["--profile", "../bad.toml"], "memory"),
        (vec!["--outcome", "/no/such/folder/file"], "cannot be written"),
    ] {
        let mut command = world.command();
        let output = command.arg("exec").args(&options).args(["--", "touch", "ran"]).output().expect("runs");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{options:?}: {err}");
        assert!(err.contains(says), "{options:?}: {err}");
        assert!(err.lines().count() <= 8, "{options:?}: {err}");
        assert!(!world.workspace().join("ran").exists(), "{options:?}");
    }
}

#[test]
fn a_home_folder_is_no_workspace() {
    for world in everybody() {
        let home = world.home();
        let ran = world.exec(&["--workspace", home.to_str().expect("utf-8")], &["true"]);
        assert_eq!(ran.code(), 125, "{}", ran.err());
        assert!(ran.err().contains("home"), "{}", ran.err());
    }
}

#[test]
fn denials_are_told_from_facts_only() {
    for world in everybody() {
        let ran = world.exec(&[], &["bash", "-c", "exec 3<>/dev/tcp/192.0.2.7/443"]);
        assert!(ran.err().contains("denied: connect 192.0.2.7:443 (profile default: network = none)"), "{}", ran.err());
        assert_eq!(ran.outcome["denials"][0]["target"], "192.0.2.7:443");
        let secret = world.write("home/.ssh/id_test", "secret");
        let ran = world.exec(&[], &["cat", secret.to_str().expect("utf-8")]);
        assert!(ran.err().contains("denied: open") && ran.err().contains("--read"), "{}", ran.err());
        // About what is not there anyway nothing is known, and a success needs no explanation.
        assert!(!world.exec(&[], &["cat", "/no/such/file"]).err().contains("denied"));
        assert!(!world.sh(&[], "true").err().contains("denied"));
    }
}

#[test]
fn a_throw_away_run_leaves_the_workspace_as_it_was() {
    for world in everybody() {
        world.write("home/project/kept.txt", "one\n");
        world.write("home/project/gone.txt", "two\n");
        let ran =
            world.sh(&["--diff"], "echo more >> kept.txt; rm gone.txt; mkdir -p deep/er; echo new > deep/er/file; chmod 600 kept.txt");
        ran.expect(0, "exited");
        for line in ["M kept.txt", "D gone.txt", "A deep/er/file", "+more", "-two", "+new"] {
            assert!(ran.out().lines().any(|l| l == line), "{line}: {}", ran.out());
        }
        assert_eq!(fs_err::read_to_string(world.workspace().join("kept.txt")).expect("kept"), "one\n");
        assert!(world.workspace().join("gone.txt").exists() && !world.workspace().join("deep").exists());
        assert!(world.sh(&["--discard"], "touch x").out().is_empty() && !world.workspace().join("x").exists());
    }
}

/// A copy of the workspace that takes the patch is what the workspace inside became.
#[test]
fn the_patch_of_a_throw_away_run_can_be_applied() {
    let change = "rm gone; rm -r folder; mkdir folder; echo anew > folder/new; echo again > folder/both; chmod +x kept; printf 'a\\0b' > bytes; \
         rm was-file; mkdir was-file; echo x > was-file/x; rm -r was-folder; echo y > was-folder; ln -s kept link; rm -r deep; \
         printf 'no end' > 'two words'; mkdir -p own/.git; echo '[core]' > own/.git/config";
    for world in everybody() {
        for (path, text) in [
            ("gone", "1\n"),
            ("kept", "2\n"),
            ("was-file", "3\n"),
            ("folder/old", "4\n"),
            ("folder/both", "5\n"),
            ("was-folder/in", "6\n"),
            ("deep/er/file", "7\n"),
        ] {
            let file = world.write(&format!("home/project/{path}"), text);
            file.ancestors().take_while(|above| *above != world.workspace()).for_each(|above| world.own(above));
        }
        let ran = world.sh(&["--diff"], change);
        ran.expect(0, "exited");
        let patch = world.write("patch", &ran.out());
        let copy = world.workspace().with_file_name("copy");
        let list = "find . -not -path './.git*' -not -path '*/.git*' \\( -type f -o -type l \\) -printf '%p %y %m %l ' \\( -type l -printf '\\n' -o -exec sh -c 'cksum < \"$0\"' {} \\; \\) | sort";
        let script = format!(
            "cp -r '{}' '{}' && cd '{}' && git init -q && git apply '{}'",
            world.workspace().display(),
            copy.display(),
            copy.display(),
            patch.display()
        );
        let sh = |script: &str| {
            let done = std::process::Command::new("sh").args(["-c", script]).output().expect("sh");
            assert!(done.status.success(), "{}\n{}", String::from_utf8_lossy(&done.stderr), ran.out());
            String::from_utf8_lossy(&done.stdout).into_owned()
        };
        sh(&script);
        let applied = sh(&format!("cd '{}' && {list}", copy.display()));
        let expected = sh(&format!("cd '{}' && umask 022 && {change} && {list}", world.workspace().display()));
        assert_eq!(applied, expected);
    }
}

#[test]
fn the_receipt_names_every_layer() {
    for world in everybody() {
        let ran = world.sh(&["-v"], "true");
        for layer in ["user namespace", "pid namespace", "network namespace", "landlock", "seccomp", "privileges", "memory limit"] {
            assert!(ran.err().contains(layer), "{layer}: {}", ran.err());
        }
        let layers = ran.outcome["receipt"]["layers"].as_array().expect("layers").clone();
        for layer in layers.iter().filter(|l| l["wanted"] == true) {
            assert_eq!(layer["enforced"], true, "{layer}");
            assert_ne!(layer["probed"], false, "{layer}");
        }
        let lower = world.sh(&["--require", "no-userns", "-v"], "true");
        assert!(lower.err().contains("the process list can be seen"), "{}", lower.err());
    }
}

#[test]
fn a_payload_that_ends_its_init_gains_nothing() {
    for (n, world) in everybody().into_iter().enumerate() {
        for tier in ["full", "no-userns"] {
            let sleep = unique_sleep(50 + u32::try_from(n).unwrap());
            let script = format!("setsid sleep {sleep} & sleep 0.1; kill -9 $PPID; kill -9 1; sleep {sleep}");
            let ran = world.sh(&["--wall", "2s", "--require", tier], &script);
            assert!(ran.took < Duration::from_secs(4), "{:?}: {}", ran.took, ran.err());
            soon("the end of the tree", || processes_with(&sleep).is_empty());
        }
    }
}
