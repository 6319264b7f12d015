//! Options that every command about a project shares, and the project they name.

use std::path::PathBuf;

use super::failure::{Exit, Failure};
use super::problems;
use crate::config::load::{Environment, Loaded, Options, load};

#[derive(Debug, Default, clap::Args)]
pub struct ProjectArgs {
    /// Read this file in place of the target branch's cofferdam.toml
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Set one value of the configuration, such as run.parallel=4
    #[arg(long = "set", value_name = "KEY=VALUE", global = true)]
    set: Vec<String>,
}

impl ProjectArgs {
    /// The project around the current folder and its configuration. Warnings are printed.
    pub fn load(&self) -> Result<Loaded, Failure> {
        let cwd = std::env::current_dir().map_err(|error| {
            Failure::new(Exit::Failure, "the current folder cannot be used").because(&error).next("change to a folder that exists")
        })?;
        let options = Options { file: self.config.clone(), set: self.set.clone() };
        match load(&cwd, &Environment::of_process(), &options) {
            Ok(loaded) => {
                problems::print(&loaded.warnings);
                Ok(loaded)
            }
            Err(found) => Err(problems::failure("the configuration cannot be used", &found)),
        }
    }
}
