//! `cofferdam __attack`: what `probe` runs inside the sandbox, and outside as the control. Not for people.

use std::process::ExitCode;

use super::failure::Failure;
use super::printer;
use crate::probe::attack::{Answer, Attempt};
use crate::probe::attacker;
use crate::probe::run::HELLO;

/// Its name on a command line.
pub const COMMAND: &str = "__attack";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The scene, as JSON.
    #[arg(long)]
    scene: Option<String>,
    /// Be the process that attacks are aimed at, until standard input ends.
    #[arg(long, value_name = "TOKEN")]
    sibling: Option<String>,
    ids: Vec<String>,
}

pub fn run(args: Args) -> Result<ExitCode, Failure> {
    if args.sibling.is_some() {
        attacker::sibling();
        return Ok(ExitCode::SUCCESS);
    }
    let text = args.scene.unwrap_or_default();
    let scene = serde_json::from_str(&text)
        .map_err(|error| Failure::usage("the scene cannot be read").because(&error).next("run cofferdam probe"))?;
    let tell = |answer: &Answer| printer::out(&attacker::line(answer));
    match args.ids.as_slice() {
        [id] if id == HELLO => tell(&Answer { id: id.clone(), attempt: Attempt::NotThere { what: "hello".to_owned() } }),
        [id] => tell(&attacker::one(&scene, id)),
        ids => attacker::several(&text, ids, tell),
    }
    Ok(ExitCode::SUCCESS)
}
