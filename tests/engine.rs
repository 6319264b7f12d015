//! The engine as a library: many sandboxes at once and one after the other from a threaded process, and sockets handed out from inside.

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

use cofferdam::sandbox::plan::Facts;
use cofferdam::sandbox::policy::{Listener, Protocol, Tier};
use cofferdam::sandbox::profile::load::load;
use cofferdam::sandbox::resolve::{ExecOptions, resolve};
use cofferdam::sandbox::toolchains::{Host, Surroundings};
use cofferdam::sandbox::{Cause, Destination, Engine, Policy, SandboxError};
use common::{Who, World, processes_with};

/// These tests count what this process holds, so they take turns where one process runs them all.
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn turn() -> std::sync::MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn engine(world: &World) -> Engine {
    Engine::with_helper(Facts::read(), &world.program()).expect("a helper")
}

fn policy(world: &World) -> Policy {
    policy_of(world, None)
}

fn policy_of(world: &World, require: Option<Tier>) -> Policy {
    let variables =
        [("HOME", world.home()), ("PATH", "/usr/bin:/bin".into())].map(|(name, value)| (name.to_owned(), value.into_os_string()));
    let around = Surroundings::of(BTreeMap::from(variables));
    let options = ExecOptions { cwd: world.workspace(), require, ..ExecOptions::default() };
    resolve(&Host::default(), &load("default", None).expect("the profile"), &options, &around).expect("a policy").policy
}

/// What could leak: descriptors and memory of this process, groups, mounts and namespaces of the machine.
fn count() -> (usize, u64, usize, usize) {
    let descriptors = fs_err::read_dir("/proc/self/fd").expect("fd").count();
    let statm = fs_err::read_to_string("/proc/self/statm").expect("statm");
    let pages = statm.split_ascii_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    let mounts = fs_err::read_to_string("/proc/self/mountinfo").expect("mounts").lines().count();
    (descriptors, pages, mounts, own_groups(Path::new("/sys/fs/cgroup"), 0))
}

fn own_groups(folder: &Path, depth: usize) -> usize {
    let own = format!("cofferdam-{}-", std::process::id());
    let Ok(entries) = fs_err::read_dir(folder) else { return 0 };
    let folders = entries.flatten().filter(|e| depth < 6 && e.file_type().is_ok_and(|t| t.is_dir()));
    folders.map(|e| usize::from(e.file_name().to_string_lossy().starts_with(&own)) + own_groups(&e.path(), depth + 1)).sum()
}

#[test]
fn many_in_a_row_leak_nothing() {
    let _turn = turn();
    let world = World::new(Who::Caller);
    let (engine, policy) = (engine(&world), policy(&world));
    let spawns: usize = std::env::var("SPAWNS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let once = || {
        let finished = engine.sandbox(&policy).command("true").output(1024).expect("it runs");
        assert_eq!((finished.outcome.cause, finished.outcome.exit_code), (Cause::Exited, 0));
    };
    (0..50).for_each(|_| once());
    engine.rest();
    let before = count();
    (0..spawns).for_each(|_| once());
    engine.rest();
    let after = count();
    assert_eq!((before.0, before.2, before.3), (after.0, after.2, after.3), "descriptors, mounts, groups");
    assert!(after.1 <= before.1 + 256, "{} pages grew to {}", before.1, after.1);
}

#[test]
fn sixty_four_at_once_do_not_disturb_each_other() {
    let _turn = turn();
    let world = World::new(Who::Caller);
    let (engine, policy) = (engine(&world), policy(&world));
    // Once: what is made once and kept is there before it is counted.
    engine.sandbox(&policy).command("true").output(0).expect("it runs");
    engine.rest();
    let before = count();
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..64)
            .map(|n| {
                let (engine, policy) = (&engine, &policy);
                let script = format!("echo {n} > /tmp/mine; sleep 0.2; cat /tmp/mine; exit {n}");
                scope.spawn(move || engine.sandbox(policy).command("sh").args(["-c", &script]).output(1024).expect("it runs"))
            })
            .collect();
        for (n, run) in runs.into_iter().enumerate() {
            let finished = run.join().expect("no panic");
            assert_eq!(
                (finished.outcome.exit_code, String::from_utf8_lossy(&finished.stdout).trim()),
                (i32::try_from(n).unwrap(), n.to_string().as_str())
            );
        }
    });
    engine.rest();
    let after = count();
    assert_eq!((before.0, before.2, before.3), (after.0, after.2, after.3), "descriptors, mounts, groups");
}

#[test]
fn sockets_opened_inside_are_served_from_outside() {
    let _turn = turn();
    let world = World::new(Who::Caller);
    let engine = engine(&world);
    let mut policy = policy(&world);
    let address = "127.0.0.1:80".parse().expect("an address");
    policy.listeners = vec![Listener { protocol: Protocol::Tcp, address }];
    let script = "exec 3<>/dev/tcp/127.0.0.1/80; echo hello >&3; read -r answer <&3; echo \"$answer\"";
    let command =
        engine.sandbox(&policy).command("bash").args(["-c", script]).stdout(Destination::Memory(1024)).stderr(Destination::Memory(1024));
    let mut running = command.spawn().expect("it runs");
    let listener = TcpListener::from(running.listeners().pop().expect("a listener"));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut line = [0; 6];
        stream.read_exact(&mut line).expect("a line");
        stream.write_all(b"echo: ").and_then(|()| stream.write_all(&line)).expect("an answer");
    });
    let finished = running.wait().expect("it ends");
    server.join().expect("no panic");
    assert_eq!(String::from_utf8_lossy(&finished.stdout), "echo: hello\n", "{}", String::from_utf8_lossy(&finished.stderr));
    // The same port outside is nobody's.
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn a_dropped_run_is_dead() {
    let _turn = turn();
    let world = World::new(Who::Caller);
    let engine = engine(&world);
    for tier in [Tier::Full, Tier::NoUserns] {
        let policy = policy_of(&world, Some(tier));
        let sleep = format!("5{}.77", std::process::id());
        let running =
            engine.sandbox(&policy).command("sh").args(["-c", &format!("setsid sleep {sleep} & sleep {sleep}")]).spawn().expect("it runs");
        common::soon("the payload", || processes_with(&sleep).len() >= 2);
        drop(running);
        assert_eq!(processes_with(&sleep), Vec::<String>::new());
    }
}

/// The sandbox's first process may still be on its way out then, and nobody else.
#[test]
fn nobody_is_alive_when_it_is_over() {
    let _turn = turn();
    let world = World::new(Who::Caller);
    let (engine, policy) = (engine(&world), policy(&world));
    let sleep = format!("6{}.77", std::process::id());
    for _ in 0..20 {
        let script = format!("for i in 1 2 3 4; do setsid sleep {sleep} >/dev/null 2>&1 & done; exit 3");
        let finished = engine.sandbox(&policy).command("sh").args(["-c", &script]).output(1024).expect("it runs");
        assert_eq!(processes_with(&sleep), Vec::<String>::new());
        assert_eq!((finished.outcome.exit_code, finished.outcome.processes_left), (3, 0));
    }
}

#[test]
fn a_threaded_process_without_a_helper_is_refused() {
    let _turn = turn();
    let world = World::new(Who::Caller);
    let (engine, policy) = (Engine::here(Facts::read()), policy(&world));
    // The test runner's own threads are why.
    let refused = engine.sandbox(&policy).command("true").output(10);
    assert!(matches!(refused, Err(SandboxError::NoHelper)), "{refused:?}");
}
