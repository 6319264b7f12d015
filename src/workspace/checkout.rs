//! The backend without an overlay: a checkout of the story's own, filled in when the workspace is made. It costs what a worktree costs, and
//! above it everything is the same.
//!
//! ```text
//! stories/<slug>/tree        the agent's files, and an empty folder `.git` that the private git directory is mounted on
//!                git/        the private git directory: on the host it is no part of the tree
//!                seen        what every file looked like when it was made: who is still the same was not changed
//! ```

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::base::{BaseError, Layers, Warnings};
use super::git::{Oid, Repository};
use super::private_git::{self, History};
use super::state::{self, State, StateError};
use super::walk::{Folder, Kind, Status};

/// How a story's files are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// A layer of its own over a shared checkout.
    #[default]
    Overlay,
    /// A checkout of its own.
    Checkout,
}

/// Change times have the resolution of the kernel's tick; whoever writes after this is told apart from us.
const TICK: Duration = Duration::from_millis(20);

/// What was found out about this host and the disk that the state lies on.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Tried {
    kernel: String,
    device: u64,
    user: u32,
    overlay: bool,
}

impl Backend {
    /// The overlay where one can be had. It is tried once for each kernel, disk and user.
    pub fn choose(state: &State, overlay_works: impl FnOnce(&Path) -> bool) -> Result<Self, StateError> {
        let record = state.root().join("backend.json");
        let kernel = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
        let device = fs_err::metadata(state.root())?.dev();
        let user = nix::unistd::geteuid().as_raw();
        let known = state::read_record::<Tried>(&record).ok().flatten();
        let works = match known.filter(|tried| tried.kernel == kernel && tried.device == device && tried.user == user) {
            Some(tried) => tried.overlay,
            None => {
                let overlay = overlay_works(state.root());
                state::write_record(&record, &Tried { kernel, device, user, overlay })?;
                overlay
            }
        };
        Ok(if works { Self::Overlay } else { Self::Checkout })
    }
}

/// Fills in a commit's files and a private git directory below `place`.
pub(super) fn fill(
    layers: &Layers<'_>,
    repository: &Repository,
    place: &Path,
    commit: Oid,
    branch: &str,
    target: Option<&str>,
    history: History,
) -> Result<Warnings, BaseError> {
    let (tree, git) = (place.join("tree"), place.join("git"));
    fs_err::create_dir_all(&tree)?;
    let warnings = layers.write_checkout(&tree, commit)?;
    private_git::whole(repository, &git, &tree, commit, repository.tree_of(commit)?)?;
    private_git::start(&git, repository, commit, branch, target, history)?;
    Seen::of(&tree)?.write(&place.join("seen"))?;
    fs_err::create_dir(tree.join(".git"))?;
    super::git::sync_tree(place)?;
    Ok(warnings)
}

/// What files looked like when they were made: inode and change time, which nobody without privilege can set.
#[derive(Clone, Debug, Default)]
pub struct Seen(HashMap<Vec<u8>, (u64, i64, i64)>);

impl Seen {
    /// Is this the file that was made, with nothing about it changed since?
    pub fn is_unchanged(&self, path: &[u8], status: &Status) -> bool {
        self.0.get(path) == Some(&(status.inode(), status.changed.0, status.changed.1))
    }

    /// Looks at a worktree. Whoever writes to it after this returns is told apart.
    pub fn of(tree: &Path) -> io::Result<Self> {
        let mut seen = HashMap::new();
        look_into(&Folder::open_root(tree)?, &mut Vec::new(), &mut seen)?;
        std::thread::sleep(TICK);
        Ok(Self(seen))
    }

    fn write(&self, file: &Path) -> io::Result<()> {
        let mut out = io::BufWriter::new(fs_err::File::create(file)?);
        for (path, (inode, seconds, nanos)) in &self.0 {
            write!(out, "{} {seconds} {nanos} ", inode.cast_signed())?;
            out.write_all(path)?;
            out.write_all(&[0])?;
        }
        out.flush()
    }

    /// Reads what [`fill`] left. A record that is not there or not whole knows nothing: everything is read then.
    pub(super) fn read(file: &Path) -> Self {
        let mut seen = HashMap::new();
        for line in fs_err::read(file).unwrap_or_default().split(|byte| *byte == 0) {
            let mut fields = line.splitn(4, |byte| *byte == b' ');
            let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse::<i64>().ok();
            let (Some(inode), Some(seconds), Some(nanos)) = (number(), number(), number()) else { continue };
            if let Some(path) = fields.next() {
                seen.insert(path.to_vec(), (inode.cast_unsigned(), seconds, nanos));
            }
        }
        Self(seen)
    }
}

fn look_into(folder: &Folder, path: &mut Vec<u8>, seen: &mut HashMap<Vec<u8>, (u64, i64, i64)>) -> io::Result<()> {
    for name in folder.names(u64::MAX)? {
        let length = path.len();
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let status = folder.status(&name)?;
        if status.kind == Kind::Folder {
            look_into(&folder.child(&name)?, path, seen)?;
        } else {
            seen.insert(path.clone(), (status.inode(), status.changed.0, status.changed.1));
        }
        path.truncate(length);
    }
    Ok(())
}
