//! A profile, the options of one run and what this host has, joined into a [`Policy`]: or one clear reason why not.
//!
//! Options come from a human and may widen what the profile grants; what neither may grant is in [`super::secrets`].

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::policy::{Access, Grant, Limits, Link, Mask, Network, NetworkMode, Policy, Tier, Upper, Workspace, WorkspaceSource};
use super::profile::{Profile, WorkspaceMode, allow, read};
use super::secrets::{Objection, Protected, within};
use super::toolchains::{self, Finding, Found, HOME, Kind, Surroundings, View, Wanted};
use crate::base::text::bytes_line;

#[cfg(test)]
mod tests;

/// What the caller asks for beside the profile. `Default` asks for nothing.
#[derive(Clone, Debug, Default)]
pub struct ExecOptions {
    /// What relative paths start from, and the workspace when none is named: absolute.
    pub cwd: PathBuf,
    pub workspace: Option<PathBuf>,
    /// The command to run: when it lies where nothing is granted, it is.
    pub program: Option<OsString>,
    pub read: Vec<PathBuf>,
    pub write: Vec<PathBuf>,
    /// `NAME=VALUE`, or `NAME` to take the caller's value.
    pub env: Vec<OsString>,
    pub net: Option<NetworkMode>,
    pub allow: Vec<String>,
    /// A limit that is given replaces the profile's.
    pub limits: Limits,
    pub require: Option<Tier>,
    /// Run on a throw-away overlay of the workspace.
    pub discard: bool,
    pub terminal: bool,
}

/// A policy, and what a person should know about how it came to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    pub policy: Policy,
    /// Worth a line on the terminal: something asked for is not as it looks.
    pub notices: Vec<String>,
    /// What of the host was left out; shown by `profile explain` and `exec -v`.
    pub findings: Vec<Finding>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathUse {
    Workspace,
    Read,
    Write,
}

impl std::fmt::Display for PathUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Workspace => "the workspace",
            Self::Read => "--read",
            Self::Write => "--write",
        })
    }
}

/// Why there is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error("{of} {} does not exist, or may not be looked at", show(.path))]
    Missing { of: PathUse, path: PathBuf },
    #[error("{of} {} is not a folder", show(.path))]
    NotAFolder { of: PathUse, path: PathBuf },
    #[error("{of} {} is neither a file nor a folder", show(.path))]
    Special { of: PathUse, path: PathBuf },
    #[error("{of} {} is refused: {objection}", show(.path))]
    Refused { of: PathUse, path: PathBuf, objection: Objection },
    #[error("--env {}: {why}", bytes_line(.given.as_bytes()))]
    Variable { given: OsString, why: String },
    #[error("--allow {}: {why}", crate::base::text::one_line(.rule))]
    Allow { rule: String, why: &'static str },
    #[error("--net {} and --allow contradict each other", mode_name(*.0))]
    Contradiction(NetworkMode),
    #[error("--read {} lies in {}, which must stay hidden in {}", show(.path), show(.secret), show(.grant))]
    Entangled { path: PathBuf, secret: PathBuf, grant: PathBuf },
    #[error("the tier no-userns cannot hide {}, which lies in something that is granted", show(.0))]
    CannotHide(PathBuf),
    #[error("--discard needs the tier full: without a mount namespace there is no overlay")]
    DiscardWithoutUserns,
}

impl ResolveError {
    /// What to do about it.
    pub fn next(&self) -> String {
        match self {
            Self::Missing { of: PathUse::Workspace, .. } => "name an existing folder with --workspace DIR, or start in one".to_owned(),
            Self::Missing { .. } => "check the spelling; only what exists can be granted".to_owned(),
            Self::NotAFolder { .. } => "name the folder that the file lies in".to_owned(),
            Self::Special { .. } => "sockets, pipes and devices are not handed in; name a file or a folder".to_owned(),
            Self::Refused { of: PathUse::Workspace, .. } => "start in a project's own folder, or name one with --workspace DIR".to_owned(),
            Self::Refused { of: PathUse::Read, .. } => "name the one file or folder in it that is needed".to_owned(),
            Self::Refused { of: PathUse::Write, .. } => "name a folder that holds nothing else".to_owned(),
            Self::Variable { .. } => "write --env NAME to take it from here, or --env NAME=VALUE".to_owned(),
            Self::Allow { .. } => "write --allow HOST or --allow HOST:PORT, such as --allow packages.example.org:443".to_owned(),
            Self::Contradiction(_) => "leave out one of them; --allow alone means --net gateway".to_owned(),
            Self::Entangled { .. } => "grant only one of the two folders, or copy the file into the workspace".to_owned(),
            Self::CannotHide(_) => "use the tier full, or choose a folder without it".to_owned(),
            Self::DiscardWithoutUserns => "leave out --discard, or run with --require full".to_owned(),
        }
    }
}

fn show(path: &Path) -> String {
    bytes_line(path.as_os_str().as_bytes())
}

/// As it is written on the command line and in profiles.
pub fn mode_name(mode: NetworkMode) -> &'static str {
    match mode {
        NetworkMode::None => "none",
        NetworkMode::Gateway => "gateway",
        NetworkMode::Host => "host",
    }
}

/// Joins everything into a policy.
///
/// # Errors
/// The first thing asked for that cannot or must not be granted.
pub fn resolve(view: &dyn View, profile: &Profile, options: &ExecOptions, around: &Surroundings) -> Result<Resolved, ResolveError> {
    resolve_telling(view, profile, options, around, &mut |_| {})
}

/// The same. `early` hears of what will be shown of the system before the rest is known; the policy may still leave some of it out.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_telling(
    view: &dyn View,
    profile: &Profile,
    options: &ExecOptions,
    around: &Surroundings,
    early: &mut dyn FnMut(&[Grant]),
) -> Result<Resolved, ResolveError> {
    let mut named: Vec<PathBuf> = vec![options.cwd.join(options.workspace.as_deref().unwrap_or(Path::new("")))];
    named.extend(options.read.iter().chain(&options.write).map(|path| clean(&options.cwd.join(path))));
    named.extend(profile.files.read.iter().chain(&profile.files.write).filter_map(|path| at_home(around, path)));
    let mut protected = around.protected(view, &named);
    protected.denied = profile.files.deny.iter().flat_map(|path| places(view, around, path)).collect();
    let tier = options.require.unwrap_or(profile.require);
    let mut notices = Vec::new();

    let workspace = workspace(view, &protected, profile, options, tier, &mut notices)?;
    let wanted = Wanted { system: profile.files.system, toolchains: profile.files.toolchains, caches: profile.files.caches };
    let mut found = toolchains::scan_telling(view, around, &protected, Some(&workspace.inside), wanted, early);
    if let Some(file) = options.program.as_deref().and_then(|program| program_path(view, options, program)) {
        found = toolchains::program(view, around, &protected, Some(&workspace.inside), found, &file);
    }
    let mut asked = Asked { view, protected: &protected, workspace: &workspace, grants: Vec::new(), links: Vec::new(), notices };
    for (paths, access) in [(&profile.files.read, Access::Read), (&profile.files.write, Access::Write)] {
        for path in paths {
            asked.of_profile(profile, around, path, access, &mut found.findings);
        }
    }
    for (paths, of) in [(&options.read, PathUse::Read), (&options.write, PathUse::Write)] {
        for path in paths {
            asked.of_option(&options.cwd.join(path), of)?;
        }
    }
    let Asked { grants, links, mut notices, .. } = asked;
    entangled(&protected, &found.grants, &grants)?;
    let environment = environment(profile, options, around, &found, &mut notices)?;
    let network = network(profile, options)?;
    let mut policy = Policy {
        profile: profile.name.clone(),
        tier,
        workspace,
        grants: ordered(found.grants.into_iter().chain(grants).collect()),
        links: found.links.into_iter().chain(links).collect(),
        files: found.files,
        masks: Vec::new(),
        caches: found.caches,
        trees: Vec::new(),
        network,
        limits: limits(profile.limits, options.limits),
        environment,
        addresses: Vec::new(),
        listeners: Vec::new(),
        socket: None,
        terminal: options.terminal,
    };
    policy.links.sort();
    policy.links.dedup();
    policy.masks = masks(view, &protected, &policy, &found.covered);
    if tier == Tier::NoUserns {
        without_mounts(&mut policy, &mut found.findings)?;
    }
    Ok(Resolved { policy, notices, findings: found.findings })
}

/// A path of a profile on this host: as it is named and without links.
fn places(view: &dyn View, around: &Surroundings, path: &Path) -> Vec<PathBuf> {
    let Some(named) = at_home(around, path) else { return Vec::new() };
    let real = view.real(&named).filter(|real| *real != named);
    std::iter::once(named).chain(real).collect()
}

fn at_home(around: &Surroundings, path: &Path) -> Option<PathBuf> {
    match path.strip_prefix("~") {
        Ok(rest) => Some(around.home.as_ref()?.join(rest)),
        Err(_) => Some(path.to_path_buf()),
    }
}

/// The folder to work in. A link is followed and said: what is checked and mounted is the folder behind it, under its own name, so
/// that the path inside is the one that tools print and remember.
fn workspace(
    view: &dyn View,
    protected: &Protected,
    profile: &Profile,
    options: &ExecOptions,
    tier: Tier,
    notices: &mut Vec<String>,
) -> Result<Workspace, ResolveError> {
    let named = options.cwd.join(options.workspace.as_deref().unwrap_or(Path::new("")));
    let of = PathUse::Workspace;
    let real = view.real(&named).ok_or_else(|| ResolveError::Missing { of, path: clean(&named) })?;
    if !view.is_folder(&real) {
        return Err(ResolveError::NotAFolder { of, path: real });
    }
    if let Some(objection) = protected.objects_to_write(&real) {
        return Err(ResolveError::Refused { of, path: real, objection });
    }
    if clean(&named) != real {
        notices.push(format!("the workspace {} is a link to {}; that folder is used, under this name", show(&clean(&named)), show(&real)));
    }
    let mode = if options.discard { WorkspaceMode::Discard } else { profile.files.workspace };
    if mode == WorkspaceMode::Discard && tier == Tier::NoUserns {
        return Err(ResolveError::DiscardWithoutUserns);
    }
    let (source, access) = match mode {
        WorkspaceMode::Read => (WorkspaceSource::Folder(real.clone()), Access::Read),
        WorkspaceMode::Write => (WorkspaceSource::Folder(real.clone()), Access::Write),
        WorkspaceMode::Discard => (WorkspaceSource::Overlay { lower: vec![real.clone()], upper: Upper::Private }, Access::Write),
    };
    Ok(Workspace { source, inside: real, access })
}

/// Without `.` and `..`, as text: what is behind a link is decided by the kernel, not here.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

/// The file behind the command's name, when it is given as a path. A plain name is found on PATH by the sandbox itself.
fn program_path(view: &dyn View, options: &ExecOptions, program: &OsStr) -> Option<PathBuf> {
    if !program.as_bytes().contains(&b'/') {
        return None;
    }
    let real = view.real(&options.cwd.join(program))?;
    (view.entry(&real)?.kind == Kind::File).then_some(real)
}

/// Paths that the profile or the options name.
struct Asked<'a> {
    view: &'a dyn View,
    protected: &'a Protected,
    workspace: &'a Workspace,
    grants: Vec<Grant>,
    links: Vec<Link>,
    notices: Vec<String>,
}

impl Asked<'_> {
    /// A profile is shared between machines: what is not on this one is left out and told.
    fn of_profile(&mut self, profile: &Profile, around: &Surroundings, path: &Path, access: Access, findings: &mut Vec<Finding>) {
        let mut left_out = |subject: &Path, why: String| findings.push(Finding { subject: subject.to_path_buf(), why });
        let Some(named) = at_home(around, path) else {
            return left_out(path, "not granted: there is no home folder (HOME is not set)".to_owned());
        };
        let Some(real) = self.view.real(&named) else { return left_out(&named, "not granted: it does not exist".to_owned()) };
        let objection = match access {
            Access::Read => self.protected.objects_to_read(&real),
            Access::Write => self.protected.objects_to_write(&real),
        };
        if let Some(objection) = objection {
            return left_out(&named, format!("not granted: {objection}"));
        }
        let line = if access == Access::Read { "read" } else { "write" };
        self.push(&named, real, access, format!("profile {}: files.{line}", profile.name));
    }

    fn of_option(&mut self, named: &Path, of: PathUse) -> Result<(), ResolveError> {
        let named = clean(named);
        let real = self.view.real(&named).ok_or_else(|| ResolveError::Missing { of, path: named.clone() })?;
        let kind = self.view.entry(&real).map(|entry| entry.kind);
        if !matches!(kind, Some(Kind::File | Kind::Folder)) {
            return Err(ResolveError::Special { of, path: real });
        }
        let (access, objection) = match of {
            PathUse::Write => (Access::Write, self.protected.objects_to_write(&real)),
            PathUse::Read | PathUse::Workspace => (Access::Read, self.protected.objects_to_read(&real)),
        };
        match objection {
            // One file of a secret folder, named by a human, is meant. A whole folder of keys is not.
            Some(Objection::InSecret(secret)) if of == PathUse::Read && kind == Some(Kind::File) => {
                self.notices.push(format!("{} is readable inside because of --read, and {} holds secrets", show(&real), show(&secret)));
            }
            Some(objection) => return Err(ResolveError::Refused { of, path: real, objection }),
            None => {}
        }
        self.push(&named, real, access, of.to_string());
        Ok(())
    }

    fn push(&mut self, named: &Path, real: PathBuf, access: Access, reason: String) {
        // Behind a link: the content is at its own path, and the link leads there, as on the host.
        if real != named {
            self.links.push(Link { inside: named.to_path_buf(), target: real.clone() });
        }
        // A second mount over a part of the workspace would take its write access away; what is there is readable anyway.
        if real.starts_with(&self.workspace.inside) && access <= self.workspace.access {
            return;
        }
        self.grants.push(Grant { host: real.clone(), inside: real, access, reason });
    }
}

/// Sorted so that a folder comes before what lies in it, and without what another grant already gives.
fn ordered(mut grants: Vec<Grant>) -> Vec<Grant> {
    // Of two grants of one place the one that allows more comes first and makes the other superfluous.
    grants.sort_by(|a, b| a.inside.as_os_str().cmp(b.inside.as_os_str()).then(b.access.cmp(&a.access)));
    let mut kept: Vec<Grant> = Vec::with_capacity(grants.len());
    for grant in grants {
        // The nearest grant around it decides what it looks like without it.
        let around = kept.iter().rev().find(|outer| within(&grant.inside, &outer.inside));
        let superfluous = around.is_some_and(|outer| {
            let same_place = grant
                .inside
                .strip_prefix(&outer.inside)
                .is_ok_and(|rest| outer.host.join(rest) == grant.host || rest == Path::new("") && outer.host == grant.host);
            same_place && outer.access >= grant.access
        });
        if !superfluous {
            kept.push(grant);
        }
    }
    kept
}

/// One file of a secret folder may be named, but not below something that shows the folder: covering the folder would cover the file.
fn entangled(protected: &Protected, found: &[Grant], asked: &[Grant]) -> Result<(), ResolveError> {
    for file in asked {
        for grant in found.iter().chain(asked).filter(|grant| *grant != file && file.host.starts_with(&grant.host)) {
            if let Some((secret, _)) = protected.below(&grant.host).find(|(secret, _)| file.host.starts_with(secret)) {
                let (path, secret, grant) = (file.host.clone(), secret.to_path_buf(), grant.host.clone());
                return Err(ResolveError::Entangled { path, secret, grant });
            }
        }
    }
    Ok(())
}

/// Secrets below what is visible. Only those that exist: there is nothing to cover else, and nobody inside can create them on the host.
fn masks(view: &dyn View, protected: &Protected, policy: &Policy, covered: &[PathBuf]) -> Vec<Mask> {
    let mut masks = BTreeMap::new();
    let workspace = &policy.workspace.inside;
    let shown = policy.grants.iter().map(|grant| (&grant.host, &grant.inside)).chain([(workspace, workspace)]);
    for (host, inside) in shown {
        for (secret, why) in protected.below(host) {
            if let (Some(entry), Ok(rest)) = (view.entry(secret), secret.strip_prefix(host)) {
                let mask = Mask { inside: inside.join(rest), folder: entry.kind == Kind::Folder, reason: why.to_owned() };
                // A link is no secret itself; what it leads to is protected under its own name.
                if entry.kind != Kind::Link {
                    masks.insert(mask.inside.clone(), mask);
                }
            }
        }
    }
    for path in covered {
        let reason = "it may hold a password or a token".to_owned();
        masks.insert(path.clone(), Mask { inside: path.clone(), folder: false, reason });
    }
    // A cover within a cover would have nothing to be put on.
    let all: Vec<Mask> = masks.into_values().collect();
    let mut kept: Vec<Mask> = Vec::with_capacity(all.len());
    for mask in all {
        if !kept.iter().any(|outer| within(&mask.inside, &outer.inside)) {
            kept.push(mask);
        }
    }
    kept
}

/// Without a mount namespace nothing can be moved or covered (caches stay readable where they are): what would need it is left out, or refused when it was asked for.
fn without_mounts(policy: &mut Policy, findings: &mut Vec<Finding>) -> Result<(), ResolveError> {
    let why = "left out: it needs a mount namespace, which the tier no-userns has not";
    let mut left_out = |subject: &Path| findings.push(Finding { subject: subject.to_path_buf(), why: why.to_owned() });
    policy.links.clear();
    let hidden: Vec<PathBuf> = policy.masks.drain(..).map(|mask| mask.inside).collect();
    if let Some(secret) = hidden.iter().find(|secret| secret.starts_with(&policy.workspace.inside)) {
        return Err(ResolveError::CannotHide(secret.clone()));
    }
    let contains = |grant: &Grant| hidden.iter().find(|secret| secret.starts_with(&grant.inside));
    if let Some(secret) = policy.grants.iter().filter(|grant| grant.reason.starts_with("--")).find_map(contains) {
        return Err(ResolveError::CannotHide(secret.clone()));
    }
    policy.grants.retain(|grant| {
        // A file of the system that should be covered is readable by every user of the host anyway; without it nothing runs.
        let keep = grant.host == grant.inside && (contains(grant).is_none() || grant.inside == Path::new("/usr"));
        if !keep {
            left_out(&grant.host);
        }
        keep
    });
    Ok(())
}

fn network(profile: &Profile, options: &ExecOptions) -> Result<Network, ResolveError> {
    for rule in &options.allow {
        allow::check(rule).map_err(|why| ResolveError::Allow { rule: rule.clone(), why })?;
    }
    let of_profile = || (profile.network.mode, format!("profile {}", profile.name));
    let (mode, origin) = match options.net {
        Some(mode) if mode != NetworkMode::Gateway && !options.allow.is_empty() => return Err(ResolveError::Contradiction(mode)),
        Some(mode) => (mode, "--net".to_owned()),
        // A host named by a human is meant to be reached: that takes the gateway.
        None if !options.allow.is_empty() && profile.network.mode == NetworkMode::None => (NetworkMode::Gateway, "--allow".to_owned()),
        None => of_profile(),
    };
    let mut rules = profile.network.allow.clone();
    rules.extend(options.allow.iter().cloned());
    let allow = if mode == NetworkMode::Gateway { rules.into_iter().collect() } else { Vec::new() };
    Ok(Network { mode, loopback: profile.network.loopback, allow, origin })
}

fn limits(profile: Limits, options: Limits) -> Limits {
    Limits {
        memory: options.memory.or(profile.memory),
        pids: options.pids.or(profile.pids),
        cpus: options.cpus.or(profile.cpus),
        wall: options.wall.or(profile.wall),
        cpu_time: options.cpu_time.or(profile.cpu_time),
        silence: options.silence.or(profile.silence),
        output: options.output.or(profile.output),
        disk: options.disk.or(profile.disk),
        files: options.files.or(profile.files),
        open_files: options.open_files.or(profile.open_files),
        file_size: options.file_size.or(profile.file_size),
    }
}

/// The whole environment, built from nothing: what every program expects, then the tools', the profile's and the caller's.
fn environment(
    profile: &Profile,
    options: &ExecOptions,
    around: &Surroundings,
    found: &Found,
    notices: &mut Vec<String>,
) -> Result<Vec<(OsString, OsString)>, ResolveError> {
    let path = std::env::join_paths(&found.path).unwrap_or_default();
    let bash = found.path.iter().any(|folder| folder == Path::new("/usr/bin") || folder == Path::new("/bin"));
    let mut all: BTreeMap<OsString, OsString> = BTreeMap::new();
    let fixed = [
        ("HOME", HOME.to_owned()),
        ("USER", "agent".to_owned()),
        ("LOGNAME", "agent".to_owned()),
        ("SHELL", if bash { "/bin/bash" } else { "/bin/sh" }.to_owned()),
        ("TMPDIR", "/tmp".to_owned()),
        ("XDG_CACHE_HOME", format!("{HOME}/.cache")),
        ("XDG_CONFIG_HOME", format!("{HOME}/.config")),
        ("XDG_DATA_HOME", format!("{HOME}/.local/share")),
        ("XDG_STATE_HOME", format!("{HOME}/.local/state")),
    ];
    all.extend(fixed.map(|(name, value)| (name.into(), value.into())));
    all.insert("PATH".into(), path);
    all.extend(found.environment.iter().map(|(name, value)| (name.into(), value.clone())));
    for name in &profile.environment.pass {
        if let Some(value) = around.variables.get(name) {
            all.insert(name.into(), value.clone());
        }
    }
    all.extend(profile.environment.set.iter().map(|(name, value)| (name.into(), value.into())));
    for given in &options.env {
        let fail = |why: String| ResolveError::Variable { given: given.clone(), why };
        let bytes = given.as_bytes();
        let (name, value) = match bytes.iter().position(|b| *b == b'=') {
            Some(at) => (&bytes[..at], Some(OsStr::from_bytes(&bytes[at + 1..]).to_owned())),
            None => (bytes, None),
        };
        let name = std::str::from_utf8(name).map_err(|_| fail("its name is not text".to_owned()))?;
        read::name(name).map_err(fail)?;
        if bytes.contains(&0) {
            return Err(fail("it contains a NUL character".to_owned()));
        }
        match value.or_else(|| around.variables.get(name).cloned()) {
            Some(value) => drop(all.insert(name.into(), value)),
            None => notices.push(format!("--env {name}: it is not set here, so it is not set inside")),
        }
    }
    Ok(all.into_iter().collect())
}
