//! The scripted agents of the demo: what `cofferdam __demo` does inside a sandbox, as the program of the adapter `command`.
//!
//! They are told what every agent is told, and nothing trusts them. What they try against the sandbox are real calls, and they print what
//! the kernel really answered.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, ExitCode};

use serde_json::{Value, json};

use super::scene::BASE;
use crate::agents::folder::{OUT, TASK};

/// The hidden subcommand.
pub const COMMAND: &str = "__demo";

/// A documentation address: it belongs to nobody, so nothing could be reached even without a sandbox.
pub(super) const ADDRESS: &str = "192.0.2.7:443";
/// Below the home of the person who runs the demo.
pub(super) const KEY: &str = ".ssh/id_ed25519";
/// Below their repository.
pub(super) const HOOK: &str = ".git/hooks/pre-commit";
const MENU: &str = "lib/menu.sh";
const MEMBERS: &str = "lib/members.sh";
pub(super) const MEMBERS_TEST: &str = "tests/members_test.sh";

/// A file of the tree and what it is to hold.
type Content = (&'static str, &'static str);

macro_rules! work {
    ($($path:literal from $file:literal),* $(,)?) => { &[$(($path, include_str!(concat!("work/", $file)))),*] };
}

/// What an agent writes for a story when it does its work.
fn work(story: &str) -> &'static [Content] {
    match story {
        "landing" => work!["lib/landing.sh" from "landing/landing.sh", "tests/landing_test.sh" from "landing/landing_test.sh"],
        "auth" => work!["lib/auth.sh" from "auth/auth.sh", "tests/auth_test.sh" from "auth/auth_test.sh"],
        "settings" => work![
            "lib/settings.sh" from "settings/settings.sh",
            "data/settings" from "settings/settings",
            "tests/settings_test.sh" from "settings/settings_test.sh",
        ],
        "dashboard" => {
            work!["lib/dashboard.sh" from "dashboard/dashboard.sh", "tests/dashboard_test.sh" from "dashboard/dashboard_test.sh"]
        }
        "billing" => work!["lib/billing.sh" from "billing/billing.sh", "tests/billing_test.sh" from "billing/billing_test.sh"],
        _ => &[],
    }
}

/// What the first attempt at `auth` does to tests that stand in its way: one line of seven is left.
const WEAKENED: &[Content] = work!["lib/members.sh" from "auth/members_lax.sh", "tests/members_test.sh" from "auth/members_weak_test.sh"];

/// Runs as an agent of a role; the rest of the arguments are what `cofferdam.toml` says.
pub fn main(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let role = arguments.next().unwrap_or_default();
    let rest: Vec<_> = arguments.collect();
    let done = match (role.to_str(), rest.as_slice()) {
        (Some("implement"), [story, home, repository]) => implement(&story.to_string_lossy(), Path::new(home), Path::new(repository)),
        (Some("review"), [story]) => review(&story.to_string_lossy()),
        _ => Err(io::Error::other("this is what `cofferdam demo` runs inside of its sandboxes, and nothing for people")),
    };
    done.unwrap_or_else(|error| {
        say(&mut io::stderr(), &format!("demo agent: {error}"));
        ExitCode::FAILURE
    })
}

fn say(to: &mut dyn io::Write, text: &str) {
    // A supervisor that is gone cannot be told.
    drop(writeln!(to, "{text}"));
}

fn implement(story: &str, home: &Path, repository: &Path) -> io::Result<ExitCode> {
    let task: Value = serde_json::from_slice(&fs_err::read(TASK)?)?;
    let feedback = task["feedback"].to_string();
    if resolve_conflict()? {
        return finish(story, "both sides are kept");
    }
    if story == "settings" && task["attempt"] == 1 {
        // Half of its work, and then it looks around.
        write(&work(story)[..1])?;
        intrude(home, repository);
        return Ok(ExitCode::FAILURE);
    }
    write(work(story))?;
    if story == "auth" {
        if feedback.contains(MEMBERS_TEST) {
            // Told what is wrong, it leaves the members as they were.
            let original: Vec<Content> = BASE.iter().filter(|(path, _)| [MEMBERS, MEMBERS_TEST].contains(path)).copied().collect();
            write(&original)?;
        } else {
            write(WEAKENED)?;
        }
    }
    match story {
        "dashboard" => add_to_menu("dashboard")?,
        "billing" => add_to_menu("bill")?,
        _ => {}
    }
    finish(story, "done, and every test is green")
}

fn write(files: &[Content]) -> io::Result<()> {
    for (path, content) in files {
        say(&mut io::stdout(), &format!("writing {path}"));
        fs_err::write(path, content)?;
    }
    Ok(())
}

fn add_to_menu(page: &str) -> io::Result<()> {
    let menu = fs_err::read_to_string(MENU)?;
    let line = format!("    echo {page}\n");
    let more = menu.replacen("\n}", &format!("\n{line}}}"), 1);
    fs_err::write(MENU, if menu.contains(&line) { menu } else { more })
}

/// Keeps what both sides of a marked conflict say. False when there is none.
fn resolve_conflict() -> io::Result<bool> {
    let text = fs_err::read_to_string(MENU)?;
    if !text.contains("<<<<<<< ") {
        return Ok(false);
    }
    say(&mut io::stdout(), &format!("resolving the conflict in {MENU}"));
    let (mut kept, mut in_base) = (String::new(), false);
    for line in text.lines() {
        match line.split(' ').next().unwrap_or_default() {
            "<<<<<<<" | ">>>>>>>" => in_base = false,
            "|||||||" => in_base = true,
            "=======" => in_base = false,
            _ if in_base => {}
            _ => kept.extend([line, "\n"]),
        }
    }
    fs_err::write(MENU, kept)?;
    Ok(true)
}

/// Runs the tests, and reports.
fn finish(story: &str, summary: &str) -> io::Result<ExitCode> {
    let tests = Command::new("sh").arg("tests/run.sh").status()?;
    let report = json!({ "summary": summary, "message": format!("{story}: {}", title()?) });
    fs_err::write(Path::new(OUT).join("report.json"), report.to_string())?;
    Ok(if tests.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn title() -> io::Result<String> {
    let task: Value = serde_json::from_slice(&fs_err::read(TASK)?)?;
    Ok(task["story"]["title"].as_str().unwrap_or_default().to_owned())
}

/// Three things that an agent has no business with. Each line of its messages names the call's target and the kernel's answer.
fn intrude(home: &Path, repository: &Path) {
    let key = home.join(KEY);
    attempt("open", &key.display().to_string(), || {
        let mut text = String::new();
        File::open(&key)?.read_to_string(&mut text)?;
        Ok(text)
    });
    attempt("connect", ADDRESS, || TcpStream::connect(ADDRESS).map(|_| "a connection".to_owned()));
    let hook = repository.join(HOOK);
    attempt("open", &hook.display().to_string(), || {
        OpenOptions::new().write(true).truncate(true).open(&hook)?.write_all(b"#!/bin/sh\necho planted\n")?;
        Ok("written".to_owned())
    });
}

fn attempt(call: &str, target: &str, act: impl FnOnce() -> io::Result<String>) {
    match act() {
        Ok(got) => say(&mut io::stderr(), &format!("{call} {target}: it worked: {got}")),
        Err(error) => say(&mut io::stderr(), &format!("{call} {target}: {error}")),
    }
}

/// Finds for each criterion the test that names it, in the tree that it may only read.
fn review(story: &str) -> io::Result<ExitCode> {
    let task: Value = serde_json::from_slice(&fs_err::read(TASK)?)?;
    let path = format!("tests/{story}_test.sh");
    let tests = fs_err::read_to_string(&path).unwrap_or_default();
    let mut criteria = Vec::new();
    for criterion in task["story"]["criteria"].as_array().into_iter().flatten() {
        let id = criterion["id"].as_str().unwrap_or_default();
        let line = tests.lines().position(|line| line.contains(&format!("\"{id} ")));
        criteria.push(match line {
            Some(at) => json!({ "id": id, "result": "pass", "evidence": format!("{path}:{}", at + 1) }),
            None => json!({ "id": id, "result": "fail", "evidence": format!("{MENU}:1") }),
        });
    }
    let missing: Vec<Value> = criteria
        .iter()
        .filter(|criterion| criterion["result"] == "fail")
        .map(|c| json!({ "severity": "high", "criterion": c["id"], "file": MENU, "line": 1, "text": format!("no test in {path} names {}", c["id"]) }))
        .collect();
    let verdict = json!({
        "decision": if missing.is_empty() { "pass" } else { "changes" },
        "criteria": criteria,
        "findings": missing,
        "confidence": 0.9,
    });
    fs_err::write(Path::new(OUT).join("verdict.json"), verdict.to_string())?;
    Ok(ExitCode::SUCCESS)
}
