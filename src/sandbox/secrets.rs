//! What is never granted by itself: where secrets live, and folders too wide to be meant. Pure.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Below HOME: files and folders that hold credentials or a person's own life. A folder stands for everything in it.
const SECRETS: [&str; 47] = [
    ".aws",
    ".azure",
    ".boto",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".claude",
    ".claude.json",
    ".codex",
    ".composer/auth.json",
    ".config/composer/auth.json",
    ".config/gcloud",
    ".config/gh",
    ".config/git/credentials",
    ".config/glab-cli",
    ".config/google-chrome",
    ".config/chromium",
    ".config/hub",
    ".config/op",
    ".config/pip/pip.conf",
    ".config/rclone",
    ".config/sops",
    ".docker",
    ".gem/credentials",
    ".gemini",
    ".git-credentials",
    ".gnupg",
    ".gradle/gradle.properties",
    ".kube",
    ".local/share/keyrings",
    ".local/share/opencode",
    ".local/share/uv/credentials",
    ".m2/settings-security.xml",
    ".m2/settings.xml",
    ".mozilla",
    ".mysql_history",
    ".netrc",
    ".npmrc",
    ".password-store",
    ".pgpass",
    ".pip/pip.conf",
    ".psql_history",
    ".pypirc",
    ".bash_history",
    ".ssh",
    ".terraform.d/credentials.tfrc.json",
    ".vault-token",
    ".yarnrc.yml",
];

/// Below HOME: what is run when the person logs in or opens a shell. Writing there is code execution on the host later.
const STARTUP: [&str; 14] = [
    ".bash_login",
    ".bash_logout",
    ".bash_profile",
    ".bashrc",
    ".config/autostart",
    ".config/environment.d",
    ".config/fish",
    ".config/systemd",
    ".gitconfig",
    ".local/bin",
    ".local/share/systemd",
    ".profile",
    ".zshenv",
    ".zshrc",
];

/// Folders of the system that are nobody's workspace, each with everything in it.
const SYSTEM_TREES: [&str; 18] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/root/.ssh",
    "/sbin",
    "/sys",
    "/usr/bin",
    "/usr/include",
    "/usr/lib",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/sbin",
];

/// Folders of the system that may hold a workspace somewhere below, and are none themselves.
const SYSTEM_FOLDERS: [&str; 27] = [
    "/",
    "/dev/shm",
    "/home",
    "/media",
    "/mnt",
    "/nix",
    "/nix/store",
    "/opt",
    "/run",
    "/run/user",
    "/snap",
    "/srv",
    "/tmp",
    "/usr",
    "/usr/games",
    "/usr/local",
    "/usr/local/bin",
    "/usr/local/lib",
    "/usr/local/sbin",
    "/usr/share",
    "/usr/src",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/run",
    "/var/tmp",
];

/// Is `path` the same as `of`, or does it lie below? As [`Path::starts_with`], for paths without `.`, `//` and a slash at the end, which
/// all paths here are. It is asked some ten thousand times for one sandbox, and comparing bytes takes a tenth of the time.
pub fn within(path: impl AsRef<Path>, of: impl AsRef<Path>) -> bool {
    let (path, of) = (path.as_ref().as_os_str().as_bytes(), of.as_ref().as_os_str().as_bytes());
    // One byte decides nearly always: where `of` ends, a name must end.
    let ends = path.get(of.len()).is_none_or(|next| *next == b'/') || of == b"/";
    ends && path.starts_with(of)
}

/// The home folder that a path lies in, by where homes are: also somebody else's, and also when HOME says nothing or something else
/// (`sudo`, `env -i`, a service).
pub fn home_of(path: &Path) -> Option<PathBuf> {
    if within(path, "/root") {
        return Some("/root".into());
    }
    let name = path.strip_prefix("/home").ok()?.components().next()?;
    Some(Path::new("/home").join(name))
}

/// What is protected on this host, as absolute paths.
#[derive(Clone, Debug, Default)]
pub struct Protected {
    /// The caller's home folder, the same without links, and every other home that a path in question lies in.
    pub homes: Vec<PathBuf>,
    /// Files and folders that hold secrets.
    pub secrets: Vec<PathBuf>,
    /// Secrets at a place that a variable names: it may lie in a workspace, where they are covered.
    pub named: Vec<PathBuf>,
    /// What is run at the next login.
    pub startup: Vec<PathBuf>,
    /// Where cofferdam keeps its evidence.
    pub state: Vec<PathBuf>,
    /// The profile's own `deny`.
    pub denied: Vec<PathBuf>,
}

/// Why a path is not for a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objection {
    /// `/`, a home folder, or something above one.
    TooWide,
    /// A folder of the system.
    System,
    /// It is, or lies in, this secret.
    InSecret(PathBuf),
    /// This secret lies in it.
    ContainsSecret(PathBuf),
    /// It is, contains, or lies in, what is run at the next login.
    Startup(PathBuf),
    /// It is, contains, or lies in, cofferdam's own state.
    State(PathBuf),
    /// The profile denies it.
    Denied(PathBuf),
}

impl std::fmt::Display for Objection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let show = |path: &Path| crate::base::text::bytes_line(path.as_os_str().as_bytes());
        match self {
            Self::TooWide => write!(f, "it is a whole home folder, or contains one, and with it every key and password in it"),
            Self::System => write!(f, "it is a folder of the system"),
            Self::InSecret(secret) => write!(f, "{} holds secrets", show(secret)),
            Self::ContainsSecret(secret) => write!(f, "it contains {}, where secrets are kept", show(secret)),
            Self::Startup(startup) => write!(f, "what is written to {} is run on this machine later, outside any sandbox", show(startup)),
            Self::State(state) => write!(f, "cofferdam keeps its evidence in {}", show(state)),
            Self::Denied(denied) => write!(f, "the profile denies {}", show(denied)),
        }
    }
}

impl Protected {
    /// The list for a home folder. `cargo` is a `CARGO_HOME` of its own.
    pub fn of(homes: Vec<PathBuf>, cargo: Option<&Path>, state: Vec<PathBuf>) -> Self {
        let below = |names: &[&str]| homes.iter().flat_map(|home| names.iter().map(move |n| home.join(n))).collect::<Vec<_>>();
        let mut secrets = below(&SECRETS);
        let named = cargo.into_iter().flat_map(|cargo| [cargo.join("credentials"), cargo.join("credentials.toml")]).collect();
        secrets
            .extend(["/etc/shadow", "/etc/gshadow", "/etc/ssl/private", "/etc/ssh", "/etc/sudoers", "/etc/sudoers.d"].map(PathBuf::from));
        let startup = below(&STARTUP);
        Self { secrets, named, startup, state, homes, denied: Vec::new() }
    }

    /// Adds the places behind links: what is protected as `link/…` is protected as `real/…` as well.
    #[must_use]
    pub fn with_moved(mut self, links: &[(PathBuf, PathBuf)]) -> Self {
        for list in [&mut self.secrets, &mut self.startup, &mut self.state] {
            let behind = |path: &PathBuf| {
                let path = path.clone();
                links.iter().filter_map(move |(link, real)| Some(real.join(path.strip_prefix(link).ok()?))).collect::<Vec<_>>()
            };
            let moved: Vec<PathBuf> = list.iter().flat_map(behind).collect();
            // `join` with nothing leaves a slash at the end; comparing by components does not mind, showing does.
            list.extend(moved.into_iter().map(|path| path.components().collect()));
        }
        self
    }

    /// Is it `/`, a home folder (also somebody else's), or above one?
    pub fn too_wide(&self, path: &Path) -> bool {
        let above_ours = self.homes.iter().any(|home| within(home, path));
        let a_home = path == Path::new("/root") || path == Path::new("/home") || path.parent() == Some(Path::new("/home"));
        // linuxbrew's account holds nothing but its programs, and lies where homes lie.
        let brew = path == Path::new("/home/linuxbrew") && !above_ours;
        above_ours || (a_home && !brew)
    }

    /// May this folder become a workspace, or a path of `--write`?
    pub fn objects_to_write(&self, path: &Path) -> Option<Objection> {
        if self.too_wide(path) {
            return Some(Objection::TooWide);
        }
        if SYSTEM_TREES.iter().any(|tree| path.starts_with(tree)) && !path.starts_with("/dev/shm") {
            return Some(Objection::System);
        }
        if SYSTEM_FOLDERS.iter().any(|folder| path == Path::new(folder)) {
            return Some(Objection::System);
        }
        // `/run/user/1000` is full of sockets of the session.
        if path.parent() == Some(Path::new("/run/user")) {
            return Some(Objection::System);
        }
        // What does not exist yet counts as well: the payload could create it.
        let related = |other: &&PathBuf| within(path, other) || within(other, path);
        self.in_secret(path)
            .or_else(|| self.secrets.iter().find(|s| within(s, path)).cloned().map(Objection::ContainsSecret))
            .or_else(|| self.startup.iter().find(related).cloned().map(Objection::Startup))
            .or_else(|| self.state.iter().find(related).cloned().map(Objection::State))
            .or_else(|| self.denied.iter().find(|d| within(path, d)).cloned().map(Objection::Denied))
    }

    /// May this path be read because somebody pointed to it? What it contains is masked by the caller.
    pub fn objects_to_read(&self, path: &Path) -> Option<Objection> {
        if self.too_wide(path) {
            return Some(Objection::TooWide);
        }
        // `/tmp` and the folders of sessions are full of sockets, and what listens on them is outside every sandbox.
        let wide = ["/proc", "/sys", "/dev", "/etc", "/run", "/run/user", "/var", "/var/tmp", "/tmp", "/boot"];
        if wide.iter().any(|folder| path == Path::new(folder)) || path.parent() == Some(Path::new("/run/user")) || within(path, "/proc") {
            return Some(Objection::System);
        }
        if path.starts_with("/sys") || (path.starts_with("/dev") && !path.starts_with("/dev/shm")) {
            return Some(Objection::System);
        }
        self.hides(path)
    }

    /// Is it something that is covered wherever it would be seen?
    pub fn hides(&self, path: &Path) -> Option<Objection> {
        self.in_secret(path)
            .or_else(|| self.state.iter().find(|s| within(path, s)).cloned().map(Objection::State))
            .or_else(|| self.denied.iter().find(|d| within(path, d)).cloned().map(Objection::Denied))
    }

    fn in_secret(&self, path: &Path) -> Option<Objection> {
        self.secrets.iter().chain(&self.named).find(|secret| within(path, secret)).cloned().map(Objection::InSecret)
    }

    /// Everything protected that lies below a path, and must be masked when the path is granted.
    pub fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = (&'a Path, &'static str)> {
        let secret = "secrets are kept here";
        let lists = [
            (&self.secrets, secret),
            (&self.named, secret),
            (&self.state, "cofferdam keeps its evidence here"),
            (&self.denied, "the profile denies it"),
        ];
        let all = lists.into_iter().flat_map(|(list, why)| list.iter().map(move |p| (p.as_path(), why)));
        all.filter(move |(secret, _)| within(secret, path) && *secret != path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn within_is_starts_with(a in "(/[ab.]{1,3}){0,4}", b in "(/[ab.]{1,3}){0,3}") {
            let clean = |text: &str| Path::new("/").join(text).components().filter(|c| *c != std::path::Component::ParentDir).collect::<PathBuf>();
            let (a, b) = (clean(&a), clean(&b));
            prop_assert_eq!(within(&a, &b), a.starts_with(&b), "{:?} {:?}", a, b);
            prop_assert!(within(a.join("x"), &a) && within(&a, &a));
        }
    }
}
