//! `cofferdam doctor`: can this host enforce a sandbox? By building one, and by naming the cause when that fails.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use super::failure::{Exit, Failure};
use super::printer;
use crate::base::text::one_line;
use crate::sandbox::diagnosis::{Diagnosis, Findings, Line, Trial, Verdict, diagnose};
use crate::sandbox::host::{HostCaps, Tried, git_version};
use crate::sandbox::policy::Tier;
use crate::sandbox::profile::load;
use crate::sandbox::resolve::{ExecOptions, resolve};
use crate::sandbox::toolchains::{Host, Surroundings};
use crate::sandbox::{Cause, Engine};

/// How wide the report is.
const WIDTH: usize = 80;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code: 0 when sandboxes can be enforced here, 6 when not. With --agents: 0 when an agent is ready, 3 when none is."
)]
pub struct Args {
    /// One JSON document
    #[arg(long, conflicts_with = "apparmor")]
    json: bool,
    /// Print the AppArmor profile that allows this binary its namespaces
    #[arg(long)]
    apparmor: bool,
    /// Which agents are here, their versions, and whether their models would answer: by a key, or by a login of yours
    #[arg(long, conflicts_with = "apparmor")]
    agents: bool,
}

/// # Errors
/// When the host cannot even be looked at.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    if args.apparmor {
        return print_profile();
    }
    if args.agents {
        return super::logins::run(args.json);
    }
    let diagnosis = diagnose(&find()?);
    if args.json {
        printer::json(&diagnosis);
    } else {
        printer::out(&report(&diagnosis));
    }
    Ok(match diagnosis.verdict {
        Verdict::Ready | Verdict::Limited => ExitCode::SUCCESS,
        Verdict::NotEnforceable => ExitCode::from(Exit::Unenforceable as u8),
    })
}

fn find() -> Result<Findings, Failure> {
    // Trying forks, so it comes first, while this process has one thread.
    let tried = Tried::attempt();
    let caps = HostCaps::read();
    let engine = Engine::here(caps.facts.clone());
    let trial = try_sandbox(&engine)?;
    Ok(Findings {
        tried,
        limits: engine.cgroups().mode().clone(),
        limits_detail: engine.cgroups().detail(),
        controllers: engine.cgroups().controllers(),
        git: git_version(),
        trial,
        caps,
    })
}

/// Runs `true` in a sandbox of the default profile, on an empty workspace.
fn try_sandbox(engine: &Engine) -> Result<Trial, Failure> {
    let workspace = tempfile::tempdir().map_err(|e| {
        Failure::new(Exit::Failure, "the doctor needs an empty folder and cannot make one")
            .because(&e)
            .next("set TMPDIR to a folder that you may write to")
    })?;
    let around = Surroundings::of_process();
    let options = ExecOptions {
        cwd: workspace.path().to_path_buf(),
        program: Some(OsString::from("true")),
        require: Some(Tier::Full),
        ..ExecOptions::default()
    };
    let default =
        load::load("default", None).map_err(|e| Failure::new(Exit::Failure, "the built-in default profile cannot be read").because(&e))?;
    let policy = match resolve(&Host::default(), &default, &options, &around) {
        Ok(resolved) => resolved.policy,
        Err(error) => return Ok(Trial::Failed(error.to_string())),
    };
    Ok(match engine.sandbox(&policy).command("true").output(4096) {
        Ok(finished) if finished.outcome.cause == Cause::Exited && finished.outcome.exit_code == 0 => {
            Trial::Ran(Box::new(finished.outcome.receipt))
        }
        Ok(finished) => {
            let said = String::from_utf8_lossy(&finished.stderr).trim().to_owned();
            Trial::Failed(format!("`true` inside ended with {:?}, code {}: {said}", finished.outcome.cause, finished.outcome.exit_code))
        }
        Err(error) => Trial::Failed(error.to_string()),
    })
}

/// For a person, at 80 columns.
fn report(diagnosis: &Diagnosis) -> String {
    let mut lines = vec![format!("cofferdam {} on Linux {}", env!("CARGO_PKG_VERSION"), one_line(&diagnosis.kernel)), String::new()];
    for layer in &diagnosis.layers {
        let head = format!("  {:<8} {:<15}", state(layer), layer.name);
        lines.extend(wrapped(&head, &one_line(&layer.detail)));
        lines.extend(layer.fix.iter().flat_map(|fix| mend(fix)));
    }
    lines.push(String::new());
    let (verdict, then) = match diagnosis.verdict {
        Verdict::Ready => ("ready", "every layer is enforced here"),
        Verdict::Limited => ("ready, with less", "what keeps a command in is all enforced; see the lines above for the rest"),
        Verdict::NotEnforceable => ("not enforceable", "sandboxes are refused here until the lines marked MISSING are mended"),
    };
    lines.extend(wrapped(&format!("{verdict}: "), then));
    lines.join("\n")
}

/// Commands stay whole, to be copied: a long one gets the whole width.
fn mend(fix: &str) -> Vec<String> {
    const HEAD: &str = "    fix: ";
    let fits = fix.lines().all(|line| HEAD.len() + line.chars().count() <= WIDTH);
    let indent = if fits { HEAD.len() } else { 4 };
    let mut lines: Vec<String> = fix.lines().map(|line| format!("{:indent$}{line}", "")).collect();
    match lines.first_mut() {
        Some(first) if fits => first.replace_range(..HEAD.len(), HEAD),
        _ => lines.insert(0, HEAD.trim_end().to_owned()),
    }
    lines
}

fn state(layer: &Line) -> &'static str {
    match (layer.supported, layer.wanted) {
        (true, _) => "ok",
        (false, true) => "MISSING",
        (false, false) => "less",
    }
}

/// `text` after `head`, continued below its own start.
pub(super) fn wrapped(head: &str, text: &str) -> Vec<String> {
    let indent = head.chars().count();
    let mut lines = vec![head.to_owned()];
    let mut width = indent;
    for word in text.split(' ') {
        let room = width + 1 + word.chars().count() <= WIDTH;
        match lines.last_mut() {
            Some(line) if width == indent || room => {
                if width > indent {
                    line.push(' ');
                    width += 1;
                }
                line.push_str(word);
                width += word.chars().count();
            }
            _ => {
                lines.push(format!("{:indent$}{word}", ""));
                width = indent + word.chars().count();
            }
        }
    }
    lines
}

/// The shipped profile, for the path of this very binary.
fn print_profile() -> Result<ExitCode, Failure> {
    let path = std::env::current_exe().map_err(|e| Failure::new(Exit::Failure, "this binary's own path cannot be told").because(&e))?;
    let text = apparmor(&path).ok_or_else(|| {
        Failure::usage(format!("an AppArmor profile cannot name the path {}", one_line(&path.to_string_lossy())))
            .next("install cofferdam as /usr/local/bin/cofferdam")
    })?;
    printer::out(text.trim_end());
    Ok(ExitCode::SUCCESS)
}

/// `None` for a path that AppArmor's language would read as something else.
fn apparmor(binary: &Path) -> Option<String> {
    const SHIPPED: &str = include_str!("../../../packaging/apparmor/cofferdam");
    const PLACE: &str = "/usr/{local/,}bin/cofferdam";
    let path = binary.to_str()?;
    let plain = path.chars().all(|c| c.is_alphanumeric() || " /._-+@:,".contains(c));
    // The installed places are those that the shipped profile names.
    let installed = ["/usr/bin/cofferdam", "/usr/local/bin/cofferdam"].contains(&path);
    plain.then(|| if installed { SHIPPED.to_owned() } else { SHIPPED.replace(PLACE, path) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::diagnosis::DIAGNOSIS_VERSION;

    #[test]
    fn the_profile_names_this_binary_and_nothing_else() {
        let text = apparmor(Path::new("/home/me/.cargo/bin/cofferdam")).unwrap();
        assert!(text.contains("profile cofferdam \"/home/me/.cargo/bin/cofferdam\" flags=(unconfined)"), "{text}");
        assert!(apparmor(Path::new("/usr/bin/cofferdam")).unwrap().contains("/usr/{local/,}bin"));
        for odd in ["/tmp/a*", "/tmp/\"x", "/tmp/{a,b}", "/tmp/a\nb", "/tmp/@{HOME}", "/tmp/a?"] {
            assert_eq!(apparmor(Path::new(odd)), None, "{odd}");
        }
    }

    #[test]
    fn the_report_fits_and_shows_every_fix_whole() {
        let fix = "cofferdam doctor --apparmor | sudo tee x\nsudo apparmor_parser -r x".to_owned();
        let layer =
            |supported, wanted, detail: &str, fix| Line { name: "a real sandbox".into(), wanted, supported, detail: detail.into(), fix };
        let text = report(&Diagnosis {
            version: DIAGNOSIS_VERSION,
            verdict: Verdict::NotEnforceable,
            kernel: "6.8".into(),
            layers: vec![
                layer(true, true, "ok", None),
                layer(false, true, &"word ".repeat(40), Some(fix)),
                layer(false, false, &"x".repeat(200), None),
            ],
        });
        for line in text.lines().filter(|line| !line.contains("xxx")) {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        insta::assert_snapshot!(text);
    }
}
