//! `cofferdam lint`: what is wrong with the stories and the configuration, without doing anything.

use std::process::ExitCode;

use serde_json::json;

use super::failure::{Exit, Failure};
use super::project::PlanArgs;
use super::{printer, problems};
use crate::base::source::any_error;
use crate::base::text::{one_line, plural};

#[derive(Debug, clap::Args)]
pub struct LintArgs {
    #[command(flatten)]
    plan: PlanArgs,
}

pub fn run(args: LintArgs) -> Result<ExitCode, Failure> {
    let checked = args.plan.check()?;
    let failed = any_error(&checked.problems);
    let code = if failed { ExitCode::from(Exit::Usage as u8) } else { ExitCode::SUCCESS };
    let stories = checked.spec.stories.len();
    if args.plan.json {
        printer::json(&json!({
            "version": 1,
            "stories": stories,
            "place": checked.place,
            "form": checked.form,
            "ok": !failed,
            "problems": checked.problems,
        }));
        return Ok(code);
    }
    problems::print(&checked.problems);
    let place = one_line(&checked.place);
    let stories = plural(stories as u64, "story", "stories");
    if failed {
        printer::err(&format!("cofferdam: {}; nothing can run before they are mended", problems::count(&checked.problems)));
    } else if checked.problems.is_empty() {
        printer::out(&format!("{place}: {stories}, nothing to complain about."));
    } else {
        printer::out(&format!("{place}: {stories}, {}.", problems::count(&checked.problems)));
    }
    Ok(code)
}
