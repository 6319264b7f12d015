//! The verifier's own process: this program again, inside a sandbox, with both trees to read and nothing to write but its report.
//!
//! What agents wrote is looked at here and not on the host: whatever a file could do to its reader, it does in here.

use std::path::Path;
use std::process::ExitCode;

use super::request::{Report, Request};
use super::tree::OnDisk;
use super::{artifacts, integrity, secrets, size};
use crate::agents::folder::BEFORE;

/// The hidden subcommand.
pub const COMMAND: &str = "__verify";
/// Below `/run/cofferdam`.
pub const REQUEST: &str = "verify.json";
/// Below `/run/cofferdam/out`.
pub const REPORT: &str = "report.json";

/// Judges what it is asked to, in the current folder.
pub fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // The transcript is what the controller shows when there is no report.
            drop(std::io::Write::write_all(&mut std::io::stderr(), format!("the verifier could not work: {why}\n").as_bytes()));
            ExitCode::FAILURE
        }
    }
}

fn work() -> Result<(), String> {
    let run = Path::new(BEFORE).parent().unwrap_or(Path::new("/"));
    let text = fs_err::read(run.join(REQUEST)).map_err(|e| e.to_string())?;
    let request: Request = serde_json::from_slice(&text).map_err(|e| format!("its request cannot be read: {e}"))?;
    let after = OnDisk::open(Path::new(".")).map_err(|e| format!("the tree cannot be opened: {e}"))?;
    let before = OnDisk::open(Path::new(BEFORE)).map_err(|e| format!("the tree before cannot be opened: {e}"))?;
    let report = judge(&request, &before, &after)?;
    let text = serde_json::to_vec(&report).map_err(|e| e.to_string())?;
    fs_err::write(run.join("out").join(REPORT), text).map_err(|e| e.to_string())
}

fn judge(request: &Request, before: &OnDisk, after: &OnDisk) -> Result<Report, String> {
    Ok(match request.evaluator.as_str() {
        "artifacts" => artifacts::check(&request.artifacts, &request.changes, after),
        "integrity" => integrity::check(&request.changes, &request.tests, before, after),
        "secrets" => secrets::check(&request.changes, before, after),
        "size" => size::check(&request.changes, &request.limits, before, after),
        other => return Err(format!("there is no evaluator {other} here")),
    })
}
