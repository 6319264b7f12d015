//! Keys that never enter a sandbox: read outside when a request needs them, kept in memory only, never shown.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use wait_timeout::ChildExt;

/// No key is longer.
const LONGEST: usize = 64 * 1024;
/// How long a command may take to print one.
const PATIENCE: Duration = Duration::from_secs(30);
/// A command is not run again sooner than this.
const AT_LEAST: Duration = Duration::from_secs(5);
/// How the keys of well-known services begin. That much says only which service it is, and programs look for it.
const BEGINNINGS: [&str; 16] = [
    "sk-ant-api03-",
    "sk-proj-",
    "sk-",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "npm_",
    "pypi-",
    "hf_",
    "xoxb-",
    "xoxp-",
    "AIza",
    "cio",
    "dckr_pat_",
];

/// Where a key is taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Env(String),
    File(PathBuf),
    /// A shell command that prints it. Its answer is kept until the provider refuses it.
    Command(String),
}

impl std::str::FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("command", command)) if !command.trim().is_empty() => Ok(Self::Command(command.to_owned())),
            // The likeliest mistake is the key itself: it is not repeated.
            _ => Err("it must be env:NAME, file:PATH or command:COMMAND; never write a key itself on a command line".to_owned()),
        }
    }
}

/// A key for one header of one host.
pub struct Credential {
    pub header: String,
    pub source: Source,
    /// One request at a time reads it; the others wait for what it finds.
    kept: tokio::sync::Mutex<Option<Kept>>,
    refused: AtomicBool,
}

/// What was found, and when.
struct Kept {
    found: Result<String, String>,
    at: Instant,
}

impl fmt::Debug for Credential {
    /// Without the key, and without its command, which may hold one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("header", &self.header).field("source", &format_args!("{}", self.source)).finish_non_exhaustive()
    }
}

impl Credential {
    pub fn new(header: impl Into<String>, source: Source) -> Self {
        Self { header: header.into(), source, kept: tokio::sync::Mutex::default(), refused: AtomicBool::new(false) }
    }

    /// The header's value.
    ///
    /// # Errors
    /// Where it was looked for and not found; never the key.
    pub(super) async fn value(&self) -> Result<String, String> {
        let mut kept = self.kept.lock().await;
        let refused = self.refused.swap(false, Ordering::Relaxed);
        if let Some(Kept { found, at }) = &*kept {
            let stays = match found {
                Ok(_) => !refused || at.elapsed() < AT_LEAST,
                Err(_) => at.elapsed() < AT_LEAST,
            };
            if stays {
                return found.clone();
            }
        }
        let source = self.source.clone();
        let read = tokio::task::spawn_blocking(move || source.key()).await.unwrap_or_else(|_| Err("it could not be read".to_owned()));
        let found = read.map(|key| self.formed(key));
        // Files and variables are read in no time, and a file may change at any time.
        *kept = matches!(self.source, Source::Command(_)).then(|| Kept { found: found.clone(), at: Instant::now() });
        found
    }

    /// It was refused: the next request reads it anew, but not again and again. Whoever is inside can provoke refusals.
    pub(super) fn forget(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    fn formed(&self, key: String) -> String {
        let bare = self.header.eq_ignore_ascii_case("authorization") && !key.contains(' ');
        if bare { format!("Bearer {key}") } else { key }
    }
}

impl Source {
    /// The key as a header may hold it.
    ///
    /// # Errors
    /// Where it was looked for and not found; never the key.
    pub fn key(&self) -> Result<String, String> {
        let key = read(self)?;
        let key = key.trim();
        if key.is_empty() {
            return Err(format!("{self} is empty"));
        }
        if !key.bytes().all(|b| (b' '..127).contains(&b)) {
            return Err(format!("{self} holds characters that no header may hold"));
        }
        Ok(key.to_owned())
    }
}

impl Source {
    /// How the key begins, as far as it is known of all keys of its kind. Nothing of a key that would have to be fetched for it.
    pub(super) fn begins(&self) -> &'static str {
        let Self::Env(name) = self else { return "" };
        let key = std::env::var(name).unwrap_or_default();
        BEGINNINGS.into_iter().find(|known| key.starts_with(known)).unwrap_or_default()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "the variable {name}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Command(_) => f.write_str("the answer of its command"),
        }
    }
}

fn read(source: &Source) -> Result<String, String> {
    match source {
        Source::Env(name) => std::env::var(name).map_err(|_| format!("the variable {name} is not set where cofferdam was started")),
        Source::File(path) => {
            let bytes = fs_err::read(path).map_err(|e| e.to_string())?;
            if bytes.len() > LONGEST {
                return Err(format!("{source} is longer than any key"));
            }
            String::from_utf8(bytes).map_err(|_| format!("{source} is not text"))
        }
        Source::Command(command) => answer_of(command).map_err(|e| format!("its command failed: {e}")),
    }
}

fn answer_of(command: &str) -> io::Result<String> {
    let mut child =
        Command::new("/bin/sh").args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let Some(stdout) = child.stdout.take() else { return Err(io::Error::other("it has no output")) };
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        io::Read::read_to_string(&mut io::Read::take(stdout, LONGEST as u64), &mut text).map(|_| text)
    });
    let Some(status) = child.wait_timeout(PATIENCE)? else {
        child.kill()?;
        child.wait()?;
        return Err(io::Error::other(format!("it took longer than {} s", PATIENCE.as_secs())));
    };
    let text = reader.join().map_err(|_| io::Error::other("its output could not be read"))??;
    if status.success() { Ok(text) } else { Err(io::Error::other(status.to_string())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(header: &str, source: Source) -> Result<String, String> {
        let credential = Credential::new(header, source);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let value = runtime.block_on(credential.value());
        assert!(!format!("{credential:?}").contains("s3cret"), "{credential:?}");
        value
    }

    #[test]
    fn keys_come_from_where_they_are_said_to_be() {
        assert_eq!(value("x-api-key", Source::Command("echo s3cret".to_owned())), Ok("s3cret".to_owned()));
        assert_eq!(value("Authorization", Source::Command("echo s3cret".to_owned())), Ok("Bearer s3cret".to_owned()));
        assert_eq!(value("authorization", Source::Command("echo Basic s3cret".to_owned())), Ok("Basic s3cret".to_owned()));
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("key");
        fs_err::write(&file, "s3cret\n").expect("written");
        assert_eq!(value("x-api-key", Source::File(file.clone())), Ok("s3cret".to_owned()));
        fs_err::write(&file, "s3cret\nX-Other: y\n").expect("written");
        for bad in [
            Source::File(file),
            Source::File("/no/such/file".into()),
            Source::Env("NO_SUCH_VARIABLE".to_owned()),
            Source::Command("echo s3cret; exit 3".to_owned()),
            Source::Command("true".to_owned()),
        ] {
            let why = value("x", bad).expect_err("a key");
            assert!(!why.contains("s3cret"), "{why}");
        }
        assert!("sk-123".parse::<Source>().is_err_and(|why| !why.contains("123")));
    }
}
