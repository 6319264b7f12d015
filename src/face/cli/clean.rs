//! `cofferdam clean`: removes what nothing uses any more.

use std::process::ExitCode;

use super::busy::Busy;
use super::failure::Failure;
use super::project::ProjectArgs;
use super::{printer, workspace};
use crate::base::size::Size;
use crate::base::text::{one_line, plural};
use crate::config::Workspace;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Keep unused base layers up to this size, and warm caches up to the same; without it 1 GiB of layers, and `workspace.caches` of caches
    #[arg(long, value_name = "SIZE")]
    keep: Option<Size>,
    #[command(flatten)]
    project: ProjectArgs,
    /// What was removed as a JSON document
    #[arg(long)]
    json: bool,
}

/// Layers that nothing uses now, and that the next story may start from.
const LAYERS: Size = Size::gib(1);

/// # Errors
/// What could not be removed.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let workspaces = workspace::open()?;
    let (layers, caches) = match args.keep {
        Some(keep) => (keep, keep),
        None => {
            let loaded = args.project.load_if_any(workspaces.repository.worktree())?;
            (LAYERS, loaded.map_or_else(Workspace::default, |loaded| loaded.config.workspace).caches)
        }
    };
    let busy = Busy::new("looking for what nothing uses", args.json);
    let cleaned = workspaces.clean(layers.bytes(), caches.bytes(), args.dry_run).map_err(|e| workspace::failed(&e))?;
    drop(busy);
    if args.json {
        printer::json(&serde_json::json!({"version": 1, "dry_run": args.dry_run, "cleaned": cleaned}));
        return Ok(ExitCode::SUCCESS);
    }
    let verb = if args.dry_run { "would remove" } else { "removed" };
    for name in cleaned.leftovers.iter().chain(&cleaned.references) {
        printer::out(&format!("{verb} {}", one_line(name)));
    }
    if !cleaned.layers.is_empty() {
        printer::out(&format!(
            "{verb} {} of {}",
            plural(cleaned.layers.len() as u64, "base layer", "base layers"),
            Size(cleaned.layer_bytes)
        ));
    }
    for cache in &cleaned.caches {
        printer::out(&format!("{verb} the warm cache {} of {}", one_line(&cache.cache), Size(cache.bytes)));
    }
    if !cleaned.kept.is_empty() {
        let count =
            plural(cleaned.kept.len() as u64, "collected commit that nothing else reaches", "collected commits that nothing else reaches");
        printer::err(&format!("kept {count}: git for-each-ref refs/cofferdam shows them"));
    }
    Ok(ExitCode::SUCCESS)
}
