//! `cofferdam serve`: the page.

use std::process::ExitCode;

use serde_json::json;

use super::failure::{Exit, Failure};
use super::printer;
use super::state::{State, VERSION};
use crate::face::web;

/// Of no other program that is known.
const PORT: u16 = 4747;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The page is served on 127.0.0.1 alone, below a secret path that is printed: it is for whoever sees this terminal. It can only \
                  be read; what you decide, you type. Ctrl-C ends it, and changes nothing about a run."
)]
pub struct Args {
    /// The port; 0 is any that is free
    #[arg(long, value_name = "N", default_value_t = PORT)]
    port: u16,
    /// The address as a JSON document, once it is served
    #[arg(long)]
    json: bool,
}

/// # Errors
/// When this is no repository, or the port cannot be had.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let state = State::find()?;
    let failed = |error: &std::io::Error| {
        Failure::new(Exit::Failure, format!("the page cannot be served on 127.0.0.1:{}", args.port))
            .because(error)
            .next("is another one served there? --port 0 takes any port that is free")
    };
    let project = std::env::current_dir().map_err(|error| failed(&error))?;
    let project = crate::workspace::git::Repository::discover(&project)
        .ok()
        .and_then(|r| r.worktree().map(std::path::Path::to_owned))
        .unwrap_or(project);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))?;
    let told = |url: &str| {
        if args.json {
            printer::json(&json!({"version": VERSION, "url": url, "pid": std::process::id()}));
        } else {
            printer::out(&format!("{url}\nOpen it in a browser on this machine. Ctrl-C ends it."));
        }
    };
    let over = async {
        let terminated = async {
            match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
                Ok(mut signal) => drop(signal.recv().await),
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = terminated => {}
        }
    };
    runtime.block_on(web::serve(state, project, args.port, told, over)).map_err(|error| failed(&error))?;
    Ok(ExitCode::SUCCESS)
}
