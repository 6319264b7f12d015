//! What runs inside: one attack in one process, or several attacks each in a process of its own.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use wait_timeout::ChildExt;

use super::attack::{Answer, Attempt, How, Stage};
use super::calls::call;
use super::scene::Scene;

/// An attack that asks the kernel is over in milliseconds; one that hangs proves nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// Yama's "this process may be traced by anyone who could otherwise trace it".
const PR_SET_PTRACER: usize = 0x5961_6d61;

/// Runs one attack in this process.
pub fn one(scene: &Scene, id: &str) -> Answer {
    let stage = Stage { scene, id };
    let attempt = match super::find(id).map(|attack| attack.how) {
        None => Attempt::NoAnswer { why: format!("there is no attack called {id}") },
        Some(How::Inside(run) | How::Driven { payload: run, .. }) => run(&stage).into(),
    };
    Answer { id: id.to_owned(), attempt }
}

/// Runs several attacks, each in a process of its own, and tells each answer as it comes.
pub fn several(scene: &str, ids: &[String], mut tell: impl FnMut(&Answer)) {
    for id in ids {
        let attempt = match spawn(scene, id) {
            Ok(child) => wait(child),
            Err(error) => Attempt::NoAnswer { why: format!("the attacker could not be started: {error}") },
        };
        tell(&Answer { id: id.clone(), attempt });
    }
}

fn spawn(scene: &str, id: &str) -> std::io::Result<Child> {
    let program = std::env::current_exe()?;
    Command::new(program)
        .args(["__attack", "--scene", scene, id])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

fn wait(mut child: Child) -> Attempt {
    // An answer is one short line, which the pipe holds: nothing is lost by waiting before reading.
    let status = match child.wait_timeout(PATIENCE) {
        Ok(Some(status)) => status,
        Ok(None) => {
            drop(child.kill());
            drop(child.wait());
            return Attempt::NoAnswer { why: format!("the attacker was still busy after {} s", PATIENCE.as_secs()) };
        }
        Err(error) => return Attempt::NoAnswer { why: format!("the attacker could not be waited for: {error}") },
    };
    let mut text = String::new();
    if let Some(stdout) = child.stdout.as_mut() {
        drop(stdout.take(1 << 16).read_to_string(&mut text));
    }
    read_answer(&text, status)
}

fn read_answer(text: &str, status: ExitStatus) -> Attempt {
    if let Some(signal) = status.signal() {
        return Attempt::Died { signal };
    }
    match text.lines().rev().find_map(|line| serde_json::from_str::<Answer>(line).ok()) {
        Some(answer) => answer.attempt,
        None => Attempt::NoAnswer { why: format!("the attacker ended with {status} and without an answer") },
    }
}

/// The sibling: a process that attacks are aimed at. It lives until its maker closes its standard input.
pub fn sibling() {
    // Where Yama restricts tracing, a control could not trace it either without this.
    drop(call(libc::SYS_prctl, [PR_SET_PTRACER, usize::MAX]));
    let mut rest = Vec::new();
    drop(std::io::stdin().take(1).read_to_end(&mut rest));
}

/// Writes an answer as one line.
pub fn line(answer: &Answer) -> String {
    serde_json::to_string(answer).unwrap_or_default()
}

/// Writes noise: for the floods.
pub(super) fn pour(chunk: &[u8], total: u64) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let mut left = total;
    while left > 0 {
        let size = usize::try_from(left).map_or(chunk.len(), |left| left.min(chunk.len()));
        out.write_all(&chunk[..size])?;
        left -= size as u64;
    }
    out.flush()
}
