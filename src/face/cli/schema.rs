//! `cofferdam schema NAME`: the JSON Schema of what people and scripts write and read.

use std::process::ExitCode;

use super::failure::Failure;
use super::printer;
use crate::base::suggest::nearest;
use crate::base::text::{list, one_line};

type Schema = (&'static str, fn() -> serde_json::Value);

/// Every schema there is, by name.
const SCHEMAS: [Schema; 7] = [
    ("config", crate::config::schema::schema),
    ("story", crate::spec::schema::schema),
    ("task", crate::agents::task::schema),
    ("verdict", crate::verify::verdict::schema),
    ("diagnosis", crate::agents::answers::diagnosis_schema),
    ("outcome", super::schemas::outcome),
    ("events", super::schemas::events),
];

#[derive(Debug, clap::Args)]
pub struct SchemaArgs {
    /// Which one; without it, the names are listed
    name: Option<String>,
}

pub fn run(args: &SchemaArgs) -> Result<ExitCode, Failure> {
    let names = SCHEMAS.map(|(name, _)| name);
    let Some(wanted) = &args.name else {
        printer::out(&names.join("\n"));
        return Ok(ExitCode::SUCCESS);
    };
    match SCHEMAS.iter().find(|(name, _)| name == wanted) {
        Some((_, schema)) => {
            printer::json(&schema());
            Ok(ExitCode::SUCCESS)
        }
        None => {
            let next =
                nearest(wanted, names).map_or_else(|| format!("there are {}", list(&names)), |near| format!("did you mean `{near}`?"));
            Err(Failure::usage(format!("there is no schema `{}`", one_line(wanted))).next(next))
        }
    }
}
