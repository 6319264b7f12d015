//! A program of this host that says how CI stands: run outside of every sandbox, by the choice of whoever owns the host.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::checks;
use super::{Polled, Subject};
use crate::base::text::{bytes_line, cut};

/// It asks somebody and answers; it does not do the work.
const WAIT: Duration = Duration::from_secs(60);
/// How often it is looked whether it ended.
const LOOK: Duration = Duration::from_millis(10);
/// An answer is a line.
const LONGEST: u64 = 64 << 10;

/// Asks once. What is asked about is in its environment.
pub fn poll(command: &[String], root: &Path, subject: &Subject<'_>) -> Polled {
    match run(command, root, subject) {
        Ok(output) => match checks::answer(&output) {
            Ok(said) => Polled::Said(said),
            Err(nonsense) => Polled::Later { why: nonsense.to_string(), wait: None },
        },
        Err(why) => Polled::Later { why, wait: None },
    }
}

fn run(command: &[String], root: &Path, subject: &Subject<'_>) -> Result<Vec<u8>, String> {
    let (program, args) = command.split_first().ok_or("ci.command names no program")?;
    let failed = |error: std::io::Error| format!("{program} cannot be run: {error}");
    let mut command = Command::new(program);
    command.args(args).current_dir(root).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("COFFERDAM_CI_COMMIT", subject.commit).env("COFFERDAM_CI_TREE", subject.tree).env("COFFERDAM_CI_BASE", subject.base);
    command.env("COFFERDAM_CI_TARGET", subject.target).env("COFFERDAM_CI_REF", subject.reference.unwrap_or_default());
    command.env("COFFERDAM_CI_CHECKS", subject.required.join("\n"));
    // A group of its own, so that whatever it starts ends with it.
    let mut child = command.process_group(0).spawn().map_err(failed)?;
    let (out, err) = (child.stdout.take().map(read), child.stderr.take().map(read));
    let ended = ends(&child);
    // Also of one that ended: what it left would hold its output open. It is not reaped yet, so the group is still its own.
    let _ = killpg(pid(&child), Signal::SIGKILL);
    let status = child.wait().map_err(failed)?;
    if !ended.map_err(|errno| failed(errno.into()))? {
        return Err(format!("{program} did not answer within {} s", WAIT.as_secs()));
    }
    let [out, err] = [out, err].map(|reader| reader.and_then(|reader| reader.join().ok()).unwrap_or_default());
    if !status.success() {
        let said = err.split(|byte| *byte == b'\n').map(bytes_line).find(|line| !line.trim().is_empty()).unwrap_or_default();
        return Err(format!("{program} failed ({status}): {}", cut(&said, 300)));
    }
    Ok(out)
}

fn pid(child: &Child) -> Pid {
    // What the kernel gave out as a process id fits.
    Pid::from_raw(child.id().cast_signed())
}

/// Whether it ends by itself in time. It stays to be reaped.
fn ends(child: &Child) -> nix::Result<bool> {
    let began = Instant::now();
    while began.elapsed() < WAIT {
        if waitid(Id::Pid(pid(child)), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG)? != WaitStatus::StillAlive {
            return Ok(true);
        }
        std::thread::sleep(LOOK);
    }
    Ok(false)
}

/// Reads to the end, so that nobody waits for us, and keeps no more than an answer has.
fn read(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        // One byte more than allowed makes an answer that is none.
        drop(from.by_ref().take(LONGEST + 1).read_to_end(&mut kept));
        drop(std::io::copy(&mut from, &mut std::io::sink()));
        if kept.len() as u64 > LONGEST { b"an answer without end".to_vec() } else { kept }
    })
}
