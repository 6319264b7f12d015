//! PATH, entry by entry, and what the programs on it need besides themselves.

use std::path::{Path, PathBuf};

use super::known::{FAMILIES, Family};
use super::{HOME, Kind, Scanner, known, split_path, within};

/// More entries or links are no PATH that a person has made; the rest is left out, and a finding says so.
const MOST_ENTRIES: usize = 256;
const MOST_LINKS: usize = 512;

/// What an installation consists of besides `bin`.
const PARTS: [&str; 6] = ["lib", "lib64", "libexec", "share", "include", "jre"];

impl Scanner<'_> {
    /// PATH as it can be inside. Without `toolchains`, only what the system folders already show is kept.
    pub(super) fn path(&mut self, toolchains: bool) {
        let entries = self.around.variables.get("PATH").map(|path| split_path(path)).unwrap_or_default();
        if let Some(first) = entries.get(MOST_ENTRIES) {
            self.finding(first, format!("PATH has more than {MOST_ENTRIES} entries; those from here on are left out"));
        }
        for entry in entries.into_iter().take(MOST_ENTRIES) {
            self.path_entry(&entry, toolchains);
        }
        // A PATH without the system's own folders would find no shell.
        for default in ["/usr/local/bin", "/usr/bin", "/bin"].map(Path::new) {
            if self.view.real(default).is_some_and(|real| self.visible(&real) && !self.seen.contains(&real)) {
                self.keep(default);
            }
        }
    }

    fn path_entry(&mut self, entry: &Path, toolchains: bool) {
        if entry.as_os_str().is_empty() {
            // The shell reads it as the current folder, where an agent could plant programs.
            return self.finding(entry, "an empty entry of PATH is left out: it means the current folder");
        }
        if !entry.is_absolute() {
            return self.finding(entry, "left out of PATH: it is relative, so it means another folder in every folder");
        }
        let Some(real) = self.view.real(entry) else { return self.finding(entry, "left out of PATH: it does not exist") };
        if self.seen.contains(&real) {
            return;
        }
        match self.view.entry(&real) {
            Some(found) if found.kind != Kind::Folder => return self.finding(entry, "left out of PATH: it is not a folder"),
            Some(found) if found.world_writable => {
                return self.finding(entry, "left out of PATH: everybody on this machine may put programs there");
            }
            Some(_) => {}
            None => return self.finding(entry, "left out of PATH: it cannot be looked at"),
        }
        if real.starts_with("/snap") {
            return self.finding(entry, "left out of PATH: snap programs need a privileged starter, which cannot work in a sandbox");
        }
        if self.system_folder(&real) {
            self.keep(entry);
            // The local folders hold links to wherever an administrator has unpacked something.
            if toolchains && real.starts_with("/usr/local") {
                self.follow_programs(&real);
            }
        } else if toolchains && self.tool_folder(entry, &real) {
            self.keep(&real);
        }
    }

    fn keep(&mut self, entry: &Path) {
        let real = self.view.real(entry).unwrap_or_else(|| entry.to_path_buf());
        if !self.seen.contains(&real) {
            self.seen.push(real);
            self.found.path.push(entry.to_path_buf());
        }
    }

    /// Is it shown by what [`Scanner::system`] has granted, so that nothing more is needed?
    fn system_folder(&self, real: &Path) -> bool {
        ["/usr", "/bin", "/sbin"].iter().any(|system| real.starts_with(system)) && self.visible(real)
    }

    /// Grants a folder of programs, and what they need. Says whether it is visible.
    fn tool_folder(&mut self, entry: &Path, real: &Path) -> bool {
        if let Some((family, root)) = self.family(entry).or_else(|| self.family(real)) {
            let granted = self.grant_family(family, &root);
            // A family's folder may be more than its programs: what is on PATH is granted in any case.
            let visible = (granted && self.visible(real)) || self.grant(real, family.reason);
            if family.parts != ["."] {
                self.follow_programs(real);
            }
            return visible;
        }
        if self.workspace.is_some_and(|workspace| real.starts_with(workspace)) {
            // Part of the workspace, such as its virtual environment: the interpreter behind it may lie elsewhere.
            if let Some(prefix) = real.parent() {
                self.interpreter(prefix);
            }
            return true;
        }
        let visible = self.installation(real, "programs on PATH");
        if visible {
            self.follow_programs(real);
            self.user_packages(real);
        }
        visible
    }

    /// The family whose folder a path lies in, and that folder as it is named.
    fn family(&self, path: &Path) -> Option<(&'static Family, PathBuf)> {
        let home = self.around.home.as_deref();
        let below_home = home.filter(|home| within(path, home)).and_then(|home| path.strip_prefix(home).ok());
        FAMILIES.iter().find_map(|family| {
            let moved = family.variable.and_then(|variable| self.around.folder(variable)).filter(|root| within(path, root));
            let default = || home.filter(|_| below_home.is_some_and(|rest| within(rest, family.home))).map(|home| home.join(family.home));
            moved.or_else(default).map(|root| (family, root))
        })
    }

    fn grant_family(&mut self, family: &'static Family, root: &Path) -> bool {
        // A variable such as GOPATH=$HOME makes the family's folder the whole home: then only its parts are tools.
        if family.parts == ["."] && self.protected.too_wide(root) {
            return false;
        }
        let mut granted = false;
        for part in family.parts {
            let named = if *part == "." { root.to_path_buf() } else { root.join(part) };
            granted |= self.grant_named(&named, family.reason);
        }
        if let Some(variable) = family.variable.filter(|_| granted && family.keep) {
            self.found.environment.insert(variable.to_owned(), root.as_os_str().to_owned());
        }
        granted
    }

    /// A folder of programs that belongs to no family: its installation when it looks like one, else the folder alone.
    fn installation(&mut self, bin: &Path, reason: &str) -> bool {
        let prefix = bin.parent().filter(|_| bin.file_name().is_some_and(|name| name == "bin" || name == "sbin"));
        let Some(prefix) = prefix.filter(|prefix| self.is_own_folder(prefix)) else { return self.grant(bin, reason) };
        // A virtual environment, a JDK, a Go installation: these files are in none but a tool's own folder.
        let marked = ["pyvenv.cfg", "release", "VERSION", "conda-meta"].iter().any(|marker| self.view.exists(&prefix.join(marker)));
        if marked || prefix.starts_with("/opt") {
            self.interpreter(prefix);
            return self.grant(prefix, reason);
        }
        let visible = self.grant(bin, reason);
        // A repository's `bin` stands beside its sources and its `.env`; those are nobody's tools.
        if visible && !self.view.exists(&prefix.join(".git")) {
            for part in PARTS {
                let part = prefix.join(part);
                if self.view.is_folder(&part) {
                    self.grant(&part, reason);
                }
            }
        }
        visible
    }

    /// Is it a folder of one tool, and not one that many things share?
    fn is_own_folder(&self, folder: &Path) -> bool {
        let shared_below_home =
            |home: &PathBuf| [".local", ".local/share", ".config", ".cache"].iter().any(|name| folder == home.join(name));
        let depth = folder.components().count();
        depth > 2 && !self.protected.too_wide(folder) && !self.protected.homes.iter().any(shared_below_home)
    }

    /// A virtual environment's interpreter is a link to the Python it was made with.
    pub(super) fn interpreter(&mut self, prefix: &Path) {
        if self.interpreted.iter().any(|seen| seen == prefix) {
            return;
        }
        self.interpreted.push(prefix.to_path_buf());
        if let Some(real) = self.view.real(&prefix.join("bin/python"))
            && !self.visible(&real)
        {
            self.tool_of(&real, "the Python behind a virtual environment");
        }
    }

    /// Packages that `pip install --user` has put beside `~/.local/bin`; the scripts there import them from HOME, which is another
    /// folder inside, so they are shown there.
    fn user_packages(&mut self, bin: &Path) {
        let Some(lib) = bin.parent().map(|prefix| prefix.join("lib")) else { return };
        let is_local = self.protected.homes.iter().any(|home| bin == home.join(".local/bin"));
        if !is_local || !self.view.is_folder(&lib) {
            return;
        }
        for (name, kind) in self.view.list(&lib) {
            let python = name.to_str().is_some_and(|name| name.starts_with("python3"));
            if python && kind == Kind::Folder {
                let inside = Path::new(HOME).join(".local/lib").join(&name);
                self.store(&lib.join(&name), &inside, "Python packages that the user has installed");
            }
        }
    }

    /// Programs on PATH that are links to somewhere else.
    fn follow_programs(&mut self, folder: &Path) {
        self.follow_links(folder, |scanner, target| {
            // A link to a folder or to somebody's notes is no program.
            if scanner.view.entry(target).is_some_and(|found| found.kind == Kind::File && found.executable) {
                scanner.tool_of(target, "a program on PATH is a link to it");
            }
        });
    }

    pub(super) fn follow_links(&mut self, folder: &Path, mut each: impl FnMut(&mut Self, &Path)) {
        let mut links: Vec<_> = self.view.list(folder).into_iter().filter(|(_, kind)| *kind == Kind::Link).map(|(name, _)| name).collect();
        links.sort();
        if links.len() > MOST_LINKS {
            self.finding(folder, format!("has more than {MOST_LINKS} links; the programs behind the rest are not shown"));
        }
        for name in links.into_iter().take(MOST_LINKS) {
            if let Some(target) = self.view.real(&folder.join(name))
                && !self.visible(&target)
            {
                each(self, &target);
            }
        }
    }

    /// Grants the tool that a file belongs to: its own folder when it has one, else the file alone.
    pub(super) fn tool_of(&mut self, file: &Path, reason: &str) {
        if self.visible(file) {
            return;
        }
        self.grant_tool(file, reason);
        let bin = file.parent().filter(|bin| bin.file_name().is_some_and(|name| name == "bin"));
        if let Some(prefix) = bin.and_then(Path::parent) {
            self.interpreter(prefix);
        }
    }

    fn grant_tool(&mut self, file: &Path, reason: &str) {
        if let Some((family, root)) = self.family(file)
            && self.grant_family(family, &root)
            && self.visible(file)
        {
            return;
        }
        if let Some(own) = self.own_folder(file) {
            self.grant(&own, reason);
            return;
        }
        let bin = file.parent().filter(|bin| bin.file_name().is_some_and(|name| name == "bin"));
        match bin.filter(|bin| bin.parent().is_some_and(|prefix| self.is_own_folder(prefix) && self.looks_installed(prefix))) {
            Some(bin) => drop(self.installation(bin, reason)),
            None => drop(self.grant(file, reason)),
        }
    }

    /// The folder that one tool has for itself, by where tools are put.
    fn own_folder(&self, file: &Path) -> Option<PathBuf> {
        let parents = ["/opt", "/usr/local/lib"].map(PathBuf::from);
        let below_home =
            self.protected.homes.iter().flat_map(|home| [".local/share", ".local/lib", ".local/opt"].map(|name| home.join(name)));
        for parent in parents.into_iter().chain(below_home) {
            if let Ok(rest) = file.strip_prefix(&parent) {
                // `~/.local/share/tool/…`; a file directly in the shared folder has none.
                let mut parts = rest.components();
                return parts.next().filter(|_| parts.next().is_some()).map(|own| parent.join(own));
            }
        }
        for whole in ["/nix/store", "/home/linuxbrew/.linuxbrew", "/gnu/store"] {
            if file.starts_with(whole) {
                return Some(PathBuf::from(whole));
            }
        }
        // A package needs the packages beside it.
        let modules = file.ancestors().filter(|ancestor| ancestor.file_name().is_some_and(|name| name == "node_modules"));
        modules.last().map(Path::to_path_buf)
    }

    fn looks_installed(&self, prefix: &Path) -> bool {
        ["lib", "libexec", "share", "pyvenv.cfg", "release", "VERSION"].iter().any(|part| self.view.exists(&prefix.join(part)))
    }

    /// Files below granted system folders that hold a password, and must be covered.
    pub(super) fn system_secrets(&self) -> Vec<PathBuf> {
        let paths = known::SYSTEM_SCREENED.iter().map(Path::new).filter(|path| self.visible(path));
        paths.filter(|path| matches!(self.screened(path), super::Screened::Secret)).map(Path::to_path_buf).collect()
    }
}
