//! `cofferdam completions SHELL` and `cofferdam man [FOLDER]`: made from the same tree that reads the arguments.

use std::path::PathBuf;
use std::process::ExitCode;

use super::failure::{Exit, Failure};
use super::{help, printer};

#[derive(Debug, clap::Args)]
pub struct Completions {
    /// bash, zsh, fish, …
    shell: clap_complete::Shell,
}

#[derive(Debug, clap::Args)]
pub struct Man {
    /// Write one page a command into this folder [default: the first page, to standard output]
    folder: Option<PathBuf>,
}

/// # Errors
/// Never; the shell was checked with the arguments.
pub fn completions(args: &Completions) -> Result<ExitCode, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut help::tree(), "cofferdam", &mut text);
    printer::out(String::from_utf8_lossy(&text).trim_end());
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// When the pages cannot be written.
pub fn man(args: &Man) -> Result<ExitCode, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Failure, "the manual pages cannot be written").because(&error).next("name a folder that you may write to")
    };
    let Some(folder) = &args.folder else {
        let mut text = Vec::new();
        clap_mangen::Man::new(help::tree()).render(&mut text).map_err(failed)?;
        printer::out(String::from_utf8_lossy(&text).trim_end());
        return Ok(ExitCode::SUCCESS);
    };
    fs_err::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(help::tree(), folder).map_err(failed)?;
    printer::err(&format!("The manual pages are in {}. Read one: man -l {}/cofferdam.1", folder.display(), folder.display()));
    Ok(ExitCode::SUCCESS)
}
