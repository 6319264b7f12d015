//! `cofferdam profile`: which profiles there are, what one says, whether a file is one, and what it would allow on this host.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::failure::{Exit, Failure};
use super::printer;
use crate::base::text::{bytes_line, one_line};
use crate::base::{duration, text};
use crate::sandbox::plan::{self, Facts};
use crate::sandbox::policy::{Access, Limits, NetworkMode, Policy, Upper, WorkspaceSource};
use crate::sandbox::profile::{BUILT_IN, Profile, ProfileError, load, write};
use crate::sandbox::resolve::{self, ExecOptions, ResolveError, Resolved, mode_name};
use crate::sandbox::toolchains::{HOME, Host, Surroundings};

const VERSION: u32 = 1;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The built-in profiles and your own
    List {
        #[arg(long)]
        json: bool,
    },
    /// What a profile says, line by line, with everything it extends
    Show {
        /// A profile's name, or a file
        name: String,
        #[arg(long)]
        json: bool,
    },
    /// Is this file a profile? Every mistake with its line
    Check {
        file: PathBuf,
        #[arg(long)]
        json: bool,
    },
    /// What a profile would allow on this host, in plain words
    Explain {
        /// A profile's name, or a file
        name: String,
        /// The folder to work in [default: the current folder]
        #[arg(long, value_name = "DIR")]
        workspace: Option<PathBuf>,
        /// Also list the steps that build the sandbox, in the order in which they are taken
        #[arg(long)]
        steps: bool,
        #[arg(long)]
        json: bool,
    },
}

/// # Errors
/// What is wrong with the profile, or with the folder it would be used in.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let around = Surroundings::of_process();
    let own = around.profiles.as_deref();
    match args.command {
        Command::List { json } => list(own, json),
        Command::Show { name, json } => show(&name, own, json)?,
        Command::Check { file, json } => return check(&file, own, json),
        Command::Explain { name, workspace, steps, json } => explain(&name, workspace, &around, steps, json)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// How a profile fails on the command line, for every command that takes one.
pub fn failed(error: &ProfileError) -> Failure {
    let failure = Failure::usage("the profile cannot be used").why(error.to_string());
    match error {
        ProfileError::Unknown { looked, .. } => {
            let own = looked.as_ref().map(|own| format!(" or a file in {}", show_path(own))).unwrap_or_default();
            failure.next(format!("`cofferdam profile list` shows what there is; a name{own}, or a path with a slash"))
        }
        ProfileError::Unreadable { .. } => failure.next("check the path and its permissions"),
        ProfileError::Malformed(_) => failure.next("mend the file; `cofferdam profile check FILE` shows every mistake in it"),
        ProfileError::Circle(_) | ProfileError::TooDeep(_) => failure.next("take out one `extends` line"),
        ProfileError::Shadows { name, .. } => failure.next(format!("rename the file, and write `extends = \"{name}\"` in it")),
    }
}

/// How a resolution fails on the command line.
pub fn refused(error: &ResolveError) -> Failure {
    Failure::usage(error.to_string()).next(error.next())
}

fn list(own: Option<&Path>, json: bool) {
    let names = BUILT_IN.iter().map(|(name, _)| ((*name).to_owned(), "built in".to_owned()));
    let mine = own.map(load::names).unwrap_or_default().into_iter();
    let mine = mine.map(|name| (name.clone(), own.map(|own| show_path(&own.join(format!("{name}.toml")))).unwrap_or_default()));
    let all: Vec<(String, String, Result<Profile, ProfileError>)> = names
        .chain(mine)
        .map(|(name, origin)| {
            // A file that has a built-in's name is an error when it is used, and the built-in is fine as long as it is listed.
            let loaded = load::load(&name, own.filter(|_| origin != "built in"));
            (name, origin, loaded)
        })
        .collect();
    if json {
        let profiles: Vec<Value> = all
            .iter()
            .map(|(name, origin, loaded)| match loaded {
                Ok(profile) => json!({"name": name, "origin": origin, "description": profile.description, "extends": profile.extends}),
                Err(error) => json!({"name": name, "origin": origin, "error": error.to_string()}),
            })
            .collect();
        return printer::json(&json!({"version": VERSION, "profiles": profiles}));
    }
    let width = all.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0);
    for (name, origin, loaded) in &all {
        let about = match loaded {
            Ok(profile) => one_line(&profile.description).into_owned(),
            Err(error) => format!("cannot be used: {}", error.to_string().lines().next().unwrap_or_default()),
        };
        let whose = if origin == "built in" { String::new() } else { format!("  ({origin})") };
        printer::entry(&format!("{:width$}  ", one_line(name)), &format!("{about}{whose}"));
    }
}

fn show(name: &str, own: Option<&Path>, json: bool) -> Result<(), Failure> {
    let profile = load::load(name, own).map_err(|e| failed(&e))?;
    if json {
        printer::json(&document(&profile));
        return Ok(());
    }
    let source = load::find(name, own, None).map_err(|e| failed(&e))?;
    // The file first: its comments say why. What it extends is what it becomes.
    let mut shown = format!("# {}\n{}", one_line(&source.origin), safe(&source.text));
    if !profile.extends.is_empty() {
        let chain: Vec<_> = profile.extends.iter().map(|n| one_line(n)).collect();
        let whole = safe(&write::toml(&profile));
        let _ = write!(shown, "\n# ---- with everything it extends ({}) it says:\n{whole}", chain.join(", "));
    }
    printer::out(shown.trim_end());
    Ok(())
}

fn check(file: &Path, own: Option<&Path>, json: bool) -> Result<ExitCode, Failure> {
    // Always a file, also when it is called like a profile.
    let named = Path::new(".").join(file);
    let result = match named.to_str() {
        Some(name) => load::load(name, own),
        None => Err(ProfileError::Unreadable { path: file.to_path_buf(), why: std::io::Error::other("its name is not text") }),
    };
    if json {
        let ok = result.is_ok();
        let mut answer = json!({"version": VERSION, "ok": ok, "problems": []});
        match &result {
            Ok(profile) => answer["profile"] = document(profile),
            Err(ProfileError::Malformed(error)) => {
                let problems = error.problems.iter().map(|p| {
                    let line = error.source_text.get(..p.span.start).unwrap_or_default().matches('\n').count() + 1;
                    json!({"file": error.file, "line": line, "what": p.what, "help": p.help})
                });
                answer["problems"] = problems.collect();
            }
            Err(error) => answer["problems"] = json!([{"file": show_path(file), "what": error.to_string()}]),
        }
        printer::json(&answer);
        return Ok(ExitCode::from(if ok { 0 } else { Exit::Usage as u8 }));
    }
    let profile = result.map_err(|e| failed(&e))?;
    let below = profile.extends.iter().map(|n| one_line(n)).collect::<Vec<_>>().join(", ");
    let extends = if below.is_empty() { String::new() } else { format!(", extends {below}") };
    printer::out(&format!("{} is a profile{extends}", show_path(file)));
    Ok(ExitCode::SUCCESS)
}

fn explain(name: &str, workspace: Option<PathBuf>, around: &Surroundings, steps: bool, json: bool) -> Result<(), Failure> {
    let profile = load::load(name, around.profiles.as_deref()).map_err(|e| failed(&e))?;
    let cwd = std::env::current_dir().map_err(|e| Failure::usage("the current folder cannot be used").because(&e))?;
    let options = ExecOptions { cwd, workspace, ..ExecOptions::default() };
    let resolved = resolve::resolve(&Host::default(), &profile, &options, around).map_err(|e| refused(&e))?;
    // A host that cannot enforce it can still be told what it would be.
    let planned = plan::plan(&resolved.policy, &Facts::read()).map(|plan| plan.steps.iter().map(ToString::to_string).collect::<Vec<_>>());
    if json {
        let mut document = explanation(&profile, &resolved);
        match planned {
            Ok(steps) => document["steps"] = json!(steps),
            Err(error) => document["unenforceable"] = json!(error.to_string()),
        }
        printer::json(&document);
        return Ok(());
    }
    let mut shown = words(&profile, &resolved);
    match planned {
        Ok(steps_taken) if steps => {
            shown.push_str("\nHow it is built, step by step:\n");
            for (at, step) in steps_taken.iter().enumerate() {
                let _ = writeln!(shown, "{:3}. {}", at + 1, one_line(step));
            }
        }
        Ok(_) => {}
        Err(error) => {
            let _ = writeln!(shown, "\nBut {}.", one_line(&error.to_string()));
        }
    }
    printer::out(shown.trim_end());
    Ok(())
}

/// What a policy allows, in a person's words.
pub fn words(profile: &Profile, resolved: &Resolved) -> String {
    let policy = &resolved.policy;
    let mut shown = format!("profile {} — {}\n", one_line(&profile.name), one_line(&profile.description));
    for notice in &resolved.notices {
        section(&mut shown, "note", notice);
    }
    let place = show_path(&policy.workspace.inside);
    let (title, about) = match (&policy.workspace.source, policy.workspace.access) {
        (WorkspaceSource::Overlay { upper: Upper::Private, .. }, _) => ("writable", "the workspace; every change is thrown away"),
        (_, Access::Write) => ("writable", "the workspace"),
        (_, Access::Read) => ("readable", "the workspace; it cannot be changed"),
    };
    section(&mut shown, title, &format!("{place} — {about}"));
    for (access, title) in [(Access::Write, "writable"), (Access::Read, "readable")] {
        for grant in policy.grants.iter().filter(|grant| grant.access == access) {
            let at = if grant.host == grant.inside { String::new() } else { format!(" at {}", show_path(&grant.inside)) };
            section(&mut shown, title, &format!("{}{at} — {}", show_path(&grant.host), one_line(&grant.reason)));
        }
    }
    for cache in &policy.caches {
        let host = cache.lower.iter().map(|folder| show_path(folder)).collect::<Vec<_>>().join(", ");
        let line = format!("{host} at {} — {}; what is written is thrown away", show_path(&cache.inside), cache.reason);
        section(&mut shown, "cache", &line);
    }
    for mask in &policy.masks {
        section(&mut shown, "hidden", &format!("{} — {}", show_path(&mask.inside), mask.reason));
    }
    section(&mut shown, "private", &format!("{HOME}, /tmp, /dev/shm — fresh for every run"));
    for file in &policy.files {
        let content = String::from_utf8_lossy(&file.content);
        let content = content.split_whitespace().collect::<Vec<_>>().join(" ");
        section(&mut shown, "private", &format!("{} — {}", show_path(&file.inside), one_line(&content)));
    }
    section(&mut shown, "network", &network(policy));
    section(&mut shown, "limits", &limits_line(&policy.limits));
    section(&mut shown, "requires", &format!("the tier {}", policy.tier.name()));
    for (name, value) in &policy.environment {
        section(&mut shown, "variable", &format!("{}={}", bytes_line(name.as_bytes()), bytes_line(value.as_bytes())));
    }
    for finding in &resolved.findings {
        section(&mut shown, "left out", &format!("{} — {}", show_path(&finding.subject), one_line(&finding.why)));
    }
    shown.push_str("\nEverything else of this host is not there.\n");
    shown
}

/// A line with its title, which is not repeated when the line before it had the same.
fn section(shown: &mut String, title: &str, line: &str) {
    let last = shown.lines().rev().find(|line| !line.starts_with(' ')).and_then(|line| line.get(..10)).map(str::trim_end);
    if last == Some(title) {
        let _ = writeln!(shown, "{:10}{line}", "");
    } else {
        let _ = writeln!(shown, "{title:10}{line}");
    }
}

fn network(policy: &Policy) -> String {
    let network = &policy.network;
    let loopback = if network.loopback { "its own loopback works" } else { "no loopback either" };
    let what = match network.mode {
        NetworkMode::None => format!("none: no packet leaves; {loopback}"),
        NetworkMode::Gateway if network.allow.is_empty() => format!("gateway, and no host is allowed: no packet leaves; {loopback}"),
        NetworkMode::Gateway => {
            let hosts: Vec<_> = network.allow.iter().map(|rule| one_line(rule)).collect();
            format!("only {}; {loopback}", hosts.join(", "))
        }
        NetworkMode::Host => "the host's own, with everything that this machine can reach".to_owned(),
    };
    format!("{what} ({})", one_line(&network.origin))
}

fn limits_line(limits: &Limits) -> String {
    let size = |name: &str, value: Option<crate::base::size::Size>| value.map(|v| format!("{name} {v}"));
    let count = |value: Option<u64>, one: &str, many: &str| value.map(|v| text::plural(v, one, many));
    let time = |name: &str, value: Option<std::time::Duration>| value.map(|v| format!("{name} {}", duration::exact(v)));
    let all = [
        size("memory", limits.memory),
        count(limits.pids, "process or thread", "processes and threads"),
        limits.cpus.map(|cpus| format!("{cpus} processors")),
        time("wall clock", limits.wall),
        time("processor time", limits.cpu_time),
        size("output", limits.output),
        size("disk", limits.disk),
        count(limits.files, "new file", "new files"),
        count(limits.open_files, "open file a process", "open files a process"),
        size("largest file", limits.file_size),
    ];
    let set: Vec<String> = all.into_iter().flatten().collect();
    if set.is_empty() { "none".to_owned() } else { set.join(", ") }
}

/// A profile as a document: plain numbers, so that scripts need no parser for sizes.
fn document(profile: &Profile) -> Value {
    let files = &profile.files;
    json!({
        "version": VERSION,
        "name": profile.name,
        "description": profile.description,
        "extends": profile.extends,
        "files": {
            "system": files.system, "toolchains": files.toolchains, "caches": files.caches, "workspace": write::mode(files.workspace),
            "read": files.read, "write": files.write, "deny": files.deny,
        },
        "network": {"mode": mode_name(profile.network.mode), "loopback": profile.network.loopback, "allow": profile.network.allow},
        "environment": {"pass": profile.environment.pass, "set": profile.environment.set},
        "limits": limits_document(&profile.limits),
        "sandbox": {"require": profile.require.name()},
    })
}

fn limits_document(limits: &Limits) -> Value {
    let ms = |time: Option<std::time::Duration>| time.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX));
    json!({
        "memory_bytes": limits.memory, "pids": limits.pids, "cpus": limits.cpus, "wall_ms": ms(limits.wall), "cpu_time_ms": ms(limits.cpu_time),
        "output_bytes": limits.output, "disk_bytes": limits.disk, "files": limits.files, "open_files": limits.open_files,
        "file_size_bytes": limits.file_size,
    })
}

fn explanation(profile: &Profile, resolved: &Resolved) -> Value {
    let policy = &resolved.policy;
    let access = |access: Access| if access == Access::Write { "write" } else { "read" };
    let source = match &policy.workspace.source {
        WorkspaceSource::Folder(_) => "folder",
        WorkspaceSource::Overlay { .. } => "overlay",
    };
    let grants = policy.grants.iter().map(
        |grant| json!({"host": lossy(&grant.host), "inside": lossy(&grant.inside), "access": access(grant.access), "reason": grant.reason}),
    );
    let caches = policy
        .caches
        .iter()
        .map(|c| json!({"host": c.lower.first().map(|host| lossy(host)), "inside": lossy(&c.inside), "reason": c.reason}));
    let links = policy.links.iter().map(|link| json!({"inside": lossy(&link.inside), "target": lossy(&link.target)}));
    let masks = policy.masks.iter().map(|mask| json!({"inside": lossy(&mask.inside), "folder": mask.folder, "reason": mask.reason}));
    let environment: Map<String, Value> =
        policy.environment.iter().map(|(n, v)| (n.to_string_lossy().into_owned(), v.to_string_lossy().into())).collect();
    let findings = resolved.findings.iter().map(|finding| json!({"subject": lossy(&finding.subject), "why": finding.why}));
    json!({
        "version": VERSION,
        "profile": profile.name,
        "tier": policy.tier.name(),
        "workspace": {"inside": lossy(&policy.workspace.inside), "access": access(policy.workspace.access), "source": source},
        "grants": grants.collect::<Vec<_>>(),
        "caches": caches.collect::<Vec<_>>(),
        "links": links.collect::<Vec<_>>(),
        "files": policy.files.iter().map(|f| json!({"inside": lossy(&f.inside), "content": String::from_utf8_lossy(&f.content)})).collect::<Vec<_>>(),
        "masks": masks.collect::<Vec<_>>(),
        "network": {
            "mode": mode_name(policy.network.mode), "loopback": policy.network.loopback, "allow": policy.network.allow,
            "origin": policy.network.origin,
        },
        "limits": limits_document(&policy.limits),
        "environment": environment,
        "notices": resolved.notices,
        "findings": findings.collect::<Vec<_>>(),
    })
}

/// A file's text for the terminal, line by line.
fn safe(text: &str) -> String {
    text.lines().map(|line| one_line(line).into_owned() + "\n").collect()
}

fn show_path(path: &Path) -> String {
    bytes_line(path.as_os_str().as_bytes())
}

fn lossy(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
