//! What a developer's tools need of this host: system folders, toolchains on PATH, package caches, and the variables that tie them.
//!
//! Driven by PATH and the tools' own variables, never by walking: a handful of listings and some dozens of look-ups. A path that holds
//! secrets is never granted on the way; what is left out is told as a [`Finding`].
//!
//! The start of every sandbox waits for this: on a host with rustup, pyenv, node, java and two caches the whole resolution takes 186 system
//! calls and 0.3 ms of processor time (`strace -c`, `perf stat`).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::policy::{Access, Cache, Grant, Link, OwnFile, Upper};
use super::secrets::{Objection, Protected, home_of, within};

#[cfg(test)]
pub(crate) mod fake;
mod identity;
mod known;
mod path;
#[cfg(test)]
mod tests;
mod view;

pub use view::{Entry, Host, Kind, View};

pub use super::plan::HOME;

/// The caller's environment and home folder, taken once.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    pub variables: BTreeMap<String, OsString>,
    pub home: Option<PathBuf>,
    /// Where cofferdam keeps its state, and where the user's own profiles are.
    pub state: Option<PathBuf>,
    pub profiles: Option<PathBuf>,
}

/// Something of the host that was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub subject: PathBuf,
    pub why: String,
}

/// What is wanted of the host: the switches of a profile.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub system: bool,
    pub toolchains: bool,
    pub caches: bool,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub grants: Vec<Grant>,
    pub links: Vec<Link>,
    pub caches: Vec<Cache>,
    /// Our own small files below the private home.
    pub files: Vec<OwnFile>,
    /// PATH as it is inside.
    pub path: Vec<PathBuf>,
    /// Files below what is granted that hold a password, and must be covered.
    pub covered: Vec<PathBuf>,
    /// Variables of the tools.
    pub environment: BTreeMap<String, OsString>,
    pub findings: Vec<Finding>,
}

impl Surroundings {
    /// Of this process.
    pub fn of_process() -> Self {
        let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
        Self::of(variables)
    }

    /// Of an environment. A HOME that is empty or relative is no home.
    pub fn of(variables: BTreeMap<String, OsString>) -> Self {
        let folder = |name: &str| absolute(variables.get(name)?);
        let home = folder("HOME");
        let below = |variable: &str, default: &str| folder(variable).or_else(|| Some(home.as_ref()?.join(default)));
        let state = below("XDG_STATE_HOME", ".local/state").map(|state| state.join("cofferdam"));
        let profiles = below("XDG_CONFIG_HOME", ".config").map(|config| config.join("cofferdam/profiles"));
        Self { state, profiles, home, variables }
    }

    /// A variable that holds an absolute path.
    pub fn folder(&self, name: &str) -> Option<PathBuf> {
        absolute(self.variables.get(name)?)
    }

    /// What is protected for this caller, and in every home that one of the `named` paths lies in.
    pub fn protected(&self, view: &dyn View, named: &[PathBuf]) -> Protected {
        let with_real = |path: &PathBuf| {
            let real = view.real(path).filter(|real| real != path);
            std::iter::once(path.clone()).chain(real).collect::<Vec<_>>()
        };
        let mut homes: Vec<PathBuf> = self.home.iter().flat_map(with_real).collect();
        let entries = self.variables.get("PATH").map(|path| split_path(path)).unwrap_or_default();
        let mut seen: BTreeSet<PathBuf> = BTreeSet::new();
        homes.retain(|home| seen.insert(home.clone()));
        for path in named.iter().chain(&entries) {
            let real = view.real(path).unwrap_or_else(|| path.clone());
            let lie_in = [path, &real].into_iter().filter_map(|path| home_of(path));
            homes.extend(lie_in.filter(|home| seen.insert(home.clone()) && view.exists(home)));
        }
        let state = self.state.iter().flat_map(with_real).collect();
        // A folder of keys that is a link to a synchronised one: the one behind it is protected too.
        let mut moved = Vec::new();
        for home in &homes {
            let links = view.list(home).into_iter().filter(|(_, kind)| *kind == Kind::Link).map(|(name, _)| home.join(name));
            moved.extend(links.filter_map(|named| Some((view.real(&named)?, named))).map(|(real, named)| (named, real)));
        }
        Protected::of(homes, self.folder("CARGO_HOME").as_deref(), state).with_moved(&moved)
    }
}

/// An absolute path, rebuilt from its parts: without `.`, `//` and a slash at the end.
fn absolute(value: &OsStr) -> Option<PathBuf> {
    Some(Path::new(value)).filter(|path| path.is_absolute()).map(|path| path.components().collect())
}

/// Looks around. `workspace` is visible inside by itself and is not granted again.
pub fn scan(view: &dyn View, around: &Surroundings, protected: &Protected, workspace: Option<&Path>, wanted: Wanted) -> Found {
    scan_telling(view, around, protected, workspace, wanted, &mut |_| {})
}

/// The same. `early` hears of the system's part as soon as it is known.
pub fn scan_telling(
    view: &dyn View,
    around: &Surroundings,
    protected: &Protected,
    workspace: Option<&Path>,
    wanted: Wanted,
    early: &mut dyn FnMut(&[Grant]),
) -> Found {
    let mut scanner = Scanner { view, around, protected, workspace, found: Found::default(), seen: Vec::new(), interpreted: Vec::new() };
    if wanted.system {
        scanner.system();
        early(&scanner.found.grants);
    }
    scanner.path(wanted.toolchains);
    if wanted.toolchains {
        scanner.installations();
        scanner.rustup();
        scanner.downloaded();
        scanner.choices();
        scanner.identity();
    }
    if wanted.caches {
        scanner.stores();
    }
    scanner.found.covered = scanner.system_secrets();
    scanner.found
}

/// Grants what a program needs that is named by the caller and not on PATH.
pub fn program(
    view: &dyn View,
    around: &Surroundings,
    protected: &Protected,
    workspace: Option<&Path>,
    found: Found,
    file: &Path,
) -> Found {
    let mut scanner = Scanner { view, around, protected, workspace, found, seen: Vec::new(), interpreted: Vec::new() };
    scanner.tool_of(file, "the command to run");
    scanner.found
}

struct Scanner<'a> {
    view: &'a dyn View,
    around: &'a Surroundings,
    protected: &'a Protected,
    workspace: Option<&'a Path>,
    found: Found,
    /// PATH entries so far, without links.
    seen: Vec<PathBuf>,
    /// Installations whose interpreter was looked for, so that links in a circle end.
    interpreted: Vec<PathBuf>,
}

impl Scanner<'_> {
    fn finding(&mut self, subject: &Path, why: impl Into<String>) {
        let finding = Finding { subject: subject.to_path_buf(), why: why.into() };
        if !self.found.findings.contains(&finding) {
            self.found.findings.push(finding);
        }
    }

    /// Can this path, which is without links, be seen inside already?
    fn visible(&self, path: &Path) -> bool {
        let shown = self.workspace.is_some_and(|workspace| within(path, workspace))
            || self.found.grants.iter().any(|grant| within(path, &grant.inside) && grant.host == grant.inside);
        shown && self.protected.hides(path).is_none()
    }

    /// Grants a path that is without links, unless something speaks against it. Says whether it is visible now.
    fn grant(&mut self, path: &Path, reason: &str) -> bool {
        // First: what lies within a granted folder and is protected is covered there.
        if let Some(objection) = self.protected.objects_to_read(path) {
            self.finding(path, format!("not readable inside: {objection}"));
            return false;
        }
        if self.visible(path) {
            return true;
        }
        // What the new grant contains need not be granted on its own: each grant is a mount.
        self.found.grants.retain(|grant| !(within(&grant.inside, path) && grant.host == grant.inside));
        let (host, inside) = (path.to_path_buf(), path.to_path_buf());
        self.found.grants.push(Grant { host, inside, access: Access::Read, reason: reason.to_owned() });
        true
    }

    /// The same for a place that may be a link: the link is made inside too, so that both names work.
    fn grant_named(&mut self, named: &Path, reason: &str) -> bool {
        let Some(real) = self.view.real(named) else { return false };
        let granted = self.grant(&real, reason);
        if granted && real != named && !self.visible(named) {
            self.link(named, &real);
        }
        granted
    }

    fn link(&mut self, inside: &Path, target: &Path) {
        let link = Link { inside: inside.to_path_buf(), target: target.to_path_buf() };
        if !self.found.links.contains(&link) {
            self.found.links.push(link);
        }
    }

    /// `/usr`, what stands beside it, and entries of `/etc`.
    fn system(&mut self) {
        let mut top: Vec<_> = self.view.list(Path::new("/"));
        top.sort();
        for (name, kind) in top {
            let Some(name) = name.to_str() else { continue };
            if !matches!(name, "usr" | "bin" | "sbin") && !name.starts_with("lib") {
                continue;
            }
            let path = Path::new("/").join(name);
            match (kind, self.view.link(&path)) {
                // A merged /usr: the link costs nothing, a mount does.
                (Kind::Link, Some(target)) => self.link(&path, &target),
                (Kind::Folder, _) => self.push_system(&path, "the system's programs and libraries"),
                _ => {}
            }
        }
        let mut etc: Vec<_> = self.view.list(Path::new("/etc")).into_iter().filter_map(|(n, k)| Some((n.into_string().ok()?, k))).collect();
        etc.sort();
        for (pattern, reason) in known::ETC {
            let (first, below) = pattern.split_once('/').map_or((pattern, None), |(first, below)| (first, Some(below)));
            for (name, kind) in matching(&etc, first) {
                let path = Path::new("/etc").join(name);
                match below.map(|below| path.join(below)) {
                    None => self.etc(&path, *kind, reason),
                    Some(path) => {
                        if let Some(entry) = self.view.entry(&path) {
                            self.etc(&path, entry.kind, reason);
                        }
                    }
                }
            }
        }
        for (name, reason) in known::ETC_SCREENED {
            for (_, kind) in matching(&etc, name) {
                let path = Path::new("/etc").join(name);
                match self.screened(&path) {
                    Screened::Clean => self.etc(&path, *kind, reason),
                    Screened::Secret => self.finding(&path, "not readable inside: it may hold a password or a token"),
                    Screened::Absent => {}
                }
            }
        }
    }

    fn etc(&mut self, path: &Path, kind: Kind, reason: &str) {
        match kind {
            Kind::Folder | Kind::File => self.push_system(path, reason),
            Kind::Link => {
                let Some(real) = self.view.real(path) else { return };
                match self.view.link(path) {
                    Some(target) if self.visible(&real) => self.link(path, &target),
                    // The target lies somewhere that is not there inside: the content is put where the link stands.
                    _ if self.protected.objects_to_read(&real).is_none() => {
                        let grant = Grant { host: real, inside: path.to_path_buf(), access: Access::Read, reason: reason.to_owned() };
                        self.found.grants.push(grant);
                    }
                    _ => {}
                }
            }
            Kind::Other => {}
        }
    }

    fn push_system(&mut self, path: &Path, reason: &str) {
        let (host, inside) = (path.to_path_buf(), path.to_path_buf());
        self.found.grants.push(Grant { host, inside, access: Access::Read, reason: reason.to_owned() });
    }

    fn screened(&self, path: &Path) -> Screened {
        if !self.view.exists(path) {
            return Screened::Absent;
        }
        match self.view.text(path, 64 * 1024) {
            Some(text) if !holds_secret(&text) => Screened::Clean,
            // What cannot be looked into is not shown either.
            _ => Screened::Secret,
        }
    }

    /// Variables that name one installation.
    fn installations(&mut self) {
        for (variable, reason) in known::INSTALLATIONS {
            let Some(named) = self.around.folder(variable) else { continue };
            // A variable that points to anything else (a project, a home) is not a reason to show all of it.
            let marker = if variable == "VIRTUAL_ENV" { "pyvenv.cfg" } else { "bin" };
            let looks =
                self.view.exists(&named.join(marker)) || (variable == "ANDROID_HOME" && self.view.is_folder(&named.join("platform-tools")));
            if !looks {
                self.finding(&named, format!("{variable} points to it, and it is no such installation"));
            } else if self.grant_named(&named, reason) {
                self.found.environment.insert(variable.to_owned(), named.clone().into_os_string());
                self.interpreter(&named);
            }
        }
    }

    /// rustup's programs in `~/.cargo/bin` are doors to the toolchains in its own folder, and so are those of a system package.
    fn rustup(&mut self) {
        let default = self.around.home.as_ref().map(|home| home.join(".rustup"));
        let Some(home) = self.around.folder("RUSTUP_HOME").or(default) else { return };
        let toolchains = home.join("toolchains");
        if !self.view.exists(&toolchains) || !self.grant_named(&home, "Rust toolchains") {
            return;
        }
        self.found.environment.insert("RUSTUP_HOME".to_owned(), home.into_os_string());
        // `rustup toolchain link` makes a link to somewhere else.
        self.follow_links(&toolchains, |scanner, target| {
            if scanner.view.exists(&target.join("bin/rustc")) {
                scanner.grant(target, "a toolchain that rustup links to");
            }
        });
    }

    fn downloaded(&mut self) {
        for (name, reason) in known::DOWNLOADED {
            let Some(cache) = self.cache_folder(name) else { continue };
            if let Some(real) = self.view.is_folder(&cache).then(|| self.view.real(&cache)).flatten()
                && self.protected.objects_to_read(&real).is_none()
            {
                // Where the tool looks for it: below the private home.
                let grant = Grant { host: real, inside: Path::new(HOME).join(name), access: Access::Read, reason: reason.to_owned() };
                self.found.grants.push(grant);
            }
        }
    }

    fn choices(&mut self) {
        for name in known::CHOICES {
            if let Some(value) = self.around.variables.get(name) {
                self.found.environment.insert(name.to_owned(), value.clone());
            }
        }
        for name in known::TRUST {
            let Some(path) = self.around.folder(name) else { continue };
            if self.view.real(&path).is_some_and(|real| self.visible(&real)) {
                self.found.environment.insert(name.to_owned(), path.into_os_string());
            }
        }
        // cargo's own settings (linkers, mirrors) lie beside its credentials, and older ones may hold a token themselves.
        let default = self.around.home.as_ref().map(|home| home.join(".cargo"));
        let Some(cargo) = self.around.folder("CARGO_HOME").or(default) else { return };
        let settings = cargo.join("config.toml");
        match self.screened(&settings) {
            Screened::Clean => {
                let Some(host) = self.view.real(&settings) else { return };
                let inside = Path::new(HOME).join(".cargo/config.toml");
                self.found.grants.push(Grant { host, inside, access: Access::Read, reason: "cargo's settings".to_owned() });
            }
            Screened::Secret => self.finding(&settings, "not readable inside: it may hold a password or a token"),
            Screened::Absent => {}
        }
    }

    /// Commits are made in the caller's name; git's settings name programs to run as well, so only the name is taken over.
    fn identity(&mut self) {
        let Some(home) = &self.around.home else { return };
        let config = self.around.folder("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        let files = [config.join("git/config"), home.join(".gitconfig")];
        let texts: Vec<String> = files.iter().filter_map(|file| self.view.text(file, 256 * 1024)).collect();
        if let Some(content) = identity::settings(texts.iter().map(String::as_str)) {
            self.found.files.push(OwnFile { inside: Path::new(HOME).join(".gitconfig"), content: content.into() });
        }
    }

    fn stores(&mut self) {
        for store in &known::STORES {
            let inside = Path::new(HOME).join(store.inside);
            let moved = store.variable.and_then(|(variable, below)| Some(self.around.folder(variable)?.join(below)));
            let Some(host) = moved.or_else(|| self.cache_folder(store.home)) else { continue };
            self.store(&host, &inside, store.reason);
        }
        self.pnpm();
    }

    /// pnpm's store lies below the folder of its programs, which keeps its place inside when one of them is on PATH.
    fn pnpm(&mut self) {
        let (variable, home, store) = known::PNPM;
        let data = || Some(self.around.folder("XDG_DATA_HOME")?.join("pnpm"));
        let Some(host) = self.around.folder(variable).or_else(data).or_else(|| Some(self.around.home.as_ref()?.join(home))) else { return };
        let named = self.around.folder("npm_config_store_dir").unwrap_or_else(|| host.join(store));
        let own = self.found.environment.get(variable).map(PathBuf::from);
        let inside = own.unwrap_or_else(|| Path::new(HOME).join(home)).join(store);
        self.store(&named, &inside, "packages that pnpm has downloaded");
    }

    fn store(&mut self, host: &Path, inside: &Path, reason: &str) {
        if self.found.caches.iter().any(|cache| cache.inside == inside) || !self.view.exists(host) {
            return;
        }
        let Some(real) = self.view.real(host).filter(|real| self.view.is_folder(real)) else { return };
        // No cover reaches into a cache, so one that holds something protected is none.
        let contained = || self.protected.below(&real).find(|(secret, _)| self.view.exists(secret));
        let objection = self.protected.objects_to_read(&real).or_else(|| Some(Objection::ContainsSecret(contained()?.0.to_path_buf())));
        match objection {
            Some(objection) => self.finding(&real, format!("not used as a cache: {objection}")),
            None => self.found.caches.push(Cache {
                lower: vec![real],
                inside: inside.to_path_buf(),
                upper: Upper::Private,
                reason: reason.to_owned(),
            }),
        }
    }

    /// A folder below HOME; those below `~/.cache` follow XDG_CACHE_HOME.
    fn cache_folder(&self, name: &str) -> Option<PathBuf> {
        let moved = name.strip_prefix(".cache/").and_then(|rest| Some(self.around.folder("XDG_CACHE_HOME")?.join(rest)));
        moved.or_else(|| Some(self.around.home.as_ref()?.join(name)))
    }
}

/// The entries whose name is `pattern`, or begins with it when it ends in `*`: together, where names are sorted.
fn matching<'a>(sorted: &'a [(String, Kind)], pattern: &str) -> &'a [(String, Kind)] {
    let (start, open) = pattern.strip_suffix('*').map_or((pattern, false), |start| (start, true));
    let from = &sorted[sorted.partition_point(|(name, _)| name.as_str() < start)..];
    &from[..from.partition_point(|(name, _)| if open { name.starts_with(start) } else { name == start })]
}

enum Screened {
    Clean,
    Secret,
    Absent,
}

/// Does a settings file look as if it held a password? Rather once too often.
fn holds_secret(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let address =
        text.split("://").skip(1).any(|rest| rest.split(['/', ' ', '\n', '"', '\'']).next().is_some_and(|host| host.contains('@')));
    address || ["_auth", "password", "passwd", "token", "secret", "credential", "extraheader"].iter().any(|word| text.contains(word))
}

/// The variables that decide where programs are looked up.
fn split_path(value: &OsStr) -> Vec<PathBuf> {
    std::env::split_paths(value).collect()
}
