//! The escape suite: every attack of the threat model, each in its own process, inside every shipped profile, as root and as an ordinary
//! user, with the control that shows it working outside.
//!
//! A test fails when an attack succeeds, when a refusal does not prove the protection, when anything changed outside, and when a control
//! that should work does not.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot be set up must fail, and a skipped one must say so")]

#[path = "common/program.rs"]
mod program;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use cofferdam::probe::judge::{ControlShown, Verdict};
use cofferdam::probe::report::{Line, Report};

const PROFILES: [&str; 8] = ["default", "implementer", "reviewer", "verifier", "gate", "ci", "offline", "strict"];
/// An ordinary user that needs no entry anywhere.
const USER: u32 = 47_113;

/// The bombs would disturb each other's clocks: what measures time and memory runs one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Root,
    User,
}

/// A place that the ordinary user can read and write, with the program in it.
struct Place {
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl Place {
    fn new(who: Who) -> Self {
        let folder = tempfile::Builder::new().prefix("cofferdam-escape-").tempdir().unwrap();
        let program = folder.path().join("cofferdam");
        program::install(env!("CARGO_BIN_EXE_cofferdam"), &program);
        if who == Who::User && is_root() {
            for path in [folder.path(), &program] {
                std::os::unix::fs::chown(path, Some(USER), Some(USER)).unwrap();
            }
        }
        Self { folder, program }
    }

    fn probe(&self, who: Who, arguments: &[&str]) -> Output {
        let mut command = match who {
            Who::Root => Command::new(&self.program),
            // Whoever runs the tests is an ordinary user already.
            Who::User if !is_root() => Command::new(&self.program),
            Who::User => {
                let mut command = Command::new("setpriv");
                let (uid, gid) = (format!("--reuid={USER}"), format!("--regid={USER}"));
                command.args([&uid, &gid, "--clear-groups"]);
                command.arg(&self.program);
                command
            }
        };
        command
            .arg("probe")
            .args(arguments)
            .env("TMPDIR", self.folder.path())
            .env("HOME", self.folder.path())
            .env_remove("XDG_RUNTIME_DIR");
        command.current_dir(self.folder.path()).output().unwrap()
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Can this test be made as that user?
fn skipped(name: &str, who: Who) -> bool {
    let why = match who {
        Who::Root if !is_root() => "needs root",
        Who::User if is_root() && Command::new("setpriv").arg("--version").output().is_err() => "needs setpriv",
        Who::Root | Who::User => return false,
    };
    eprintln!("SKIPPED {name}: {why}");
    true
}

fn read(output: &Output) -> Report {
    let text = String::from_utf8_lossy(&output.stdout);
    let cut = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().take(2000).collect::<String>();
    let report = serde_json::from_str(&text);
    report.unwrap_or_else(|error| panic!("{error}: {}: {}\n{}", output.status, cut(&output.stdout), cut(&output.stderr)))
}

fn complaints(report: &Report) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in &report.attacks {
        let at = format!("{} uid {} {}", report.profile, report.uid, line.id);
        match line.verdict {
            Verdict::Held => {}
            Verdict::Inapplicable => eprintln!("SKIPPED {at}: {}", line.attempt.long()),
            Verdict::Gap => eprintln!("GAP {at}: {}: {}", line.attempt.long(), line.lacks.as_deref().unwrap_or_default()),
            Verdict::Broken | Verdict::Unproven => {
                found.push(format!("{at}: {:?}: {} {:?}", line.verdict, line.attempt.long(), line.seen_outside));
            }
        }
        if let ControlShown::Failed { outside } = &line.control {
            found.push(format!("{at}: the control should work outside and does not: {}", outside.long()));
        }
    }
    found.extend(report.seen_outside.iter().map(|what| format!("{} uid {}: seen outside: {what}", report.profile, report.uid)));
    found
}

/// One section inside every profile; the controls are the same for all, so they run once.
fn section(name: &str, section: &str, who: Who) {
    if skipped(name, who) {
        return;
    }
    let _alone = matches!(section, "B" | "E").then(|| ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner));
    let place = Place::new(who);
    // The ends of runs and the limits are the engine's and the same for every profile: one shows them, all show the rest.
    let mut found = Vec::new();
    for profile in PROFILES {
        let mut arguments = vec!["--json", "--section", section, "--profile", profile];
        if profile != "default" {
            arguments.extend(["--no-controls", "--quick"]);
        }
        let output = place.probe(who, &arguments);
        let report = read(&output);
        assert!(!report.attacks.is_empty());
        assert_eq!(output.status.success(), report.held, "the exit code follows the verdict");
        assert_eq!(report.uid == 0, who == Who::Root && is_root());
        found.extend(complaints(&report));
    }
    assert!(found.is_empty(), "{} complaints:\n{}", found.len(), found.join("\n"));
}

macro_rules! suite {
    ($($name:ident: $section:literal as $who:ident;)*) => {
        $(#[test] fn $name() { section(stringify!($name), $section, Who::$who); })*
    };
}

suite! {
    files_as_root: "A" as Root;
    files_as_user: "A" as User;
    processes_as_root: "B" as Root;
    processes_as_user: "B" as User;
    kernel_as_root: "C" as Root;
    kernel_as_user: "C" as User;
    network_as_root: "D" as Root;
    network_as_user: "D" as User;
    resources_as_root: "E" as Root;
    resources_as_user: "E" as User;
}

/// Most hosts share the events of their mounts; here they are made to. What the host mounts later must not appear inside.
#[test]
fn mounts_of_the_host_do_not_follow_into_the_sandbox() {
    let name = "mounts_of_the_host_do_not_follow_into_the_sandbox";
    if skipped(name, Who::Root) {
        return;
    }
    for who in [Who::Root, Who::User] {
        let place = Place::new(who);
        let inner = "mount --make-rshared / && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "unchanged", "sh", "-c", inner, "sh"]);
        if who == Who::User {
            let (uid, gid) = (format!("--reuid={USER}"), format!("--regid={USER}"));
            command.args(["setpriv", &uid, &gid, "--clear-groups"]);
        }
        command.arg(&place.program).args(["probe", "--json", "--only", "A-propagation"]);
        command.env("TMPDIR", place.folder.path()).env("HOME", place.folder.path()).env_remove("XDG_RUNTIME_DIR");
        let report = read(&command.current_dir(place.folder.path()).output().unwrap());
        assert_eq!(report.attacks[0].control, ControlShown::Works, "{who:?}: the host's mounts are shared");
        assert_eq!(complaints(&report), Vec::<String>::new());
    }
}

/// The judge itself can fail: attacks that are let through are told as holes. A write grant lets one through on purpose.
#[test]
fn a_hole_is_reported_as_one() {
    let place = Place::new(Who::Root);
    let profile = place.folder.path().join("holed.toml");
    fs_err::write(&profile, "extends = \"default\"\n\n[network]\nmode = \"host\"\n").unwrap();
    let output = place.probe(Who::Root, &["--json", "--section", "D", "--profile", profile.to_str().unwrap()]);
    let report = read(&output);
    let by_id: BTreeMap<&str, &Line> = report.attacks.iter().map(|line| (line.id.as_str(), line)).collect();
    assert_eq!(by_id["D-tcp"].verdict, Verdict::Broken);
    assert!(by_id["D-tcp"].seen_outside.iter().any(|what| what.contains("was reached")), "the listener tells it by itself");
    assert!(!report.held && output.status.code() == Some(1));
}

#[test]
fn bad_input_is_refused_with_a_hint() {
    let place = Place::new(Who::Root);
    let output = place.probe(Who::Root, &["--only", "A-shh-key"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("A-ssh-key"), "{text}");
    assert!(left(place.folder.path()) == ["cofferdam"], "nothing is left behind");
}

fn left(folder: &Path) -> Vec<String> {
    fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}
