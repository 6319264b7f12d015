//! Builds the sandbox's root, mount by mount, through descriptors: nothing of it is visible on the host.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::stat::{Mode, fstat, mkdirat};

use super::policy::Upper;
use super::sys;

/// Attributes of every mount inside: no set-user-id programs, no devices.
const CONFINED: u64 = sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NODEV;

/// Host folders that a privileged parent opened for one step, in the order in which the step needs them. Empty: open them here.
pub(super) type Prepared = Vec<OwnedFd>;

/// A root under construction.
#[derive(Debug)]
pub(super) struct Root {
    root: OwnedFd,
    device: u64,
    /// Folders and files that were made on the root itself and that nothing is mounted on.
    own: HashSet<PathBuf>,
    options: (Option<u64>, Option<u64>),
    stage: Option<Stage>,
    /// The payload's: while the root is built, modes are meant as they are written.
    umask: Mode,
}

/// What to make at a place where nothing is.
#[derive(Clone, Copy)]
enum Make {
    Folder(u32),
    File,
}

/// Was it made now, by us, or was something there before?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    Now,
    Before,
}

/// Where the parts of overlays are put together; gone before the sandbox starts.
#[derive(Debug)]
struct Stage {
    root: OwnedFd,
    used: usize,
}

/// A detached copy of a host folder's or file's mount.
///
/// # Errors
/// What the kernel said.
pub(super) fn open_source(source: &Path) -> io::Result<OwnedFd> {
    sys::open_tree(sys::cwd(), &c_path(source)?, sys::OPEN_TREE_CLONE | sys::AT_RECURSIVE)
}

impl Root {
    /// An empty root in memory, on top of the old one in this mount namespace.
    pub(super) fn new() -> io::Result<Self> {
        let umask = nix::sys::stat::umask(Mode::empty());
        let root = sys::new_filesystem(c"tmpfs", &[(c"mode", Some(c"0755"))], CONFINED)?;
        sys::move_mount(root.as_fd(), sys::cwd(), c"/")?;
        let device = fstat(&root)?.st_dev;
        Ok(Self { root, device, own: HashSet::new(), options: (None, None), stage: None, umask })
    }

    /// Bounds what the root and the private folders hold, and what takes the writes of overlays.
    pub(super) fn room(&mut self, bytes: Option<u64>, files: Option<u64>) -> io::Result<()> {
        self.options = (bytes, files);
        let (size, inodes) = room(bytes, files)?;
        sys::reconfigure(self.root.as_fd(), &[(c"size", Some(&size)), (c"nr_inodes", Some(&inodes))])
    }

    pub(super) fn folder(&mut self, path: &Path, mode: u32) -> io::Result<()> {
        if self.make(path, Make::Folder(mode))? == Made::Before {
            let mode = Mode::from_bits_truncate(mode);
            nix::sys::stat::fchmodat(&self.root, relative(path), mode, nix::sys::stat::FchmodatFlags::FollowSymlink)?;
        }
        Ok(())
    }

    pub(super) fn file(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.need_own_parent(path)?;
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        let fd = sys::open_at(self.root.as_fd(), &c_path(relative(path))?, flags, 0o444)?;
        let mut rest = content;
        while !rest.is_empty() {
            rest = &rest[nix::unistd::write(&fd, rest)?..];
        }
        Ok(())
    }

    /// A link, unless something of that name is already there.
    pub(super) fn link(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        if !self.own_parent(path)? {
            return Ok(());
        }
        match nix::unistd::symlinkat(target, &self.root, relative(path)) {
            Ok(()) | Err(nix::Error::EEXIST) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    pub(super) fn bind(&mut self, source: &Path, path: &Path, writable: bool, prepared: Prepared) -> io::Result<()> {
        let tree = prepared.into_iter().next().map_or_else(|| open_source(source), Ok)?;
        let read_only = if writable { 0 } else { sys::MOUNT_ATTR_RDONLY };
        sys::mount_setattr(tree.as_fd(), sys::AT_RECURSIVE, CONFINED | read_only, None)?;
        let folder = fstat(&tree)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
        self.attach(&tree, path, folder)
    }

    pub(super) fn private(&mut self, path: &Path, mode: u32) -> io::Result<()> {
        self.folder(path, mode)?;
        // A mount of its own stays writable when the root becomes read-only.
        let tree = sys::open_tree(self.root.as_fd(), &c_path(relative(path))?, sys::OPEN_TREE_CLONE)?;
        self.attach(&tree, path, true)
    }

    /// A local socket, listening, that is seen at `path`. It lies on the root itself: no file of the host becomes one.
    pub(super) fn socket(&mut self, path: &Path) -> io::Result<OwnedFd> {
        self.folder(Path::new("/.asked"), 0o700)?;
        nix::unistd::fchdir(&self.root)?;
        // The mask of modes is empty while the root is built: whoever sees the socket may connect to it.
        let socket = std::os::unix::net::UnixListener::bind(".asked/socket")?;
        let tree = sys::open_tree(self.root.as_fd(), c".asked/socket", sys::OPEN_TREE_CLONE)?;
        self.attach(&tree, path, false)?;
        Ok(socket.into())
    }

    pub(super) fn mask(&mut self, path: &Path, folder: bool, prepared: Prepared) -> io::Result<()> {
        let (mut path, mut folder) = (path, folder);
        let at = loop {
            match sys::open_inside(self.root.as_fd(), &c_path(relative(path))?) {
                Ok(at) => break at,
                // What is not there needs no cover, and a cover must never create it.
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                // It lies in a folder that nobody in here may enter, such as one of root's own. That one is covered whole, so that it stays
                // closed whatever becomes of its mode.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => match path.parent().filter(|above| above.parent().is_some()) {
                    Some(above) => (path, folder) = (above, true),
                    None => return Err(e),
                },
                Err(e) => return Err(e),
            }
        };
        let tree = if folder {
            self.folder(Path::new("/.masked"), 0o555)?;
            sys::open_tree(self.root.as_fd(), c".masked", sys::OPEN_TREE_CLONE)?
        } else {
            prepared.into_iter().next().map_or_else(|| open_source(Path::new("/dev/null")), Ok)?
        };
        sys::mount_setattr(tree.as_fd(), 0, sys::MOUNT_ATTR_RDONLY, None)?;
        sys::move_mount_onto(tree.as_fd(), at.as_fd())
    }

    pub(super) fn device(&mut self, name: &str, prepared: Prepared) -> io::Result<()> {
        let path = Path::new("/dev").join(name);
        let tree = prepared.into_iter().next().map_or_else(|| open_source(&path), Ok)?;
        sys::mount_setattr(tree.as_fd(), 0, sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NOEXEC, None)?;
        self.attach(&tree, &path, false)
    }

    pub(super) fn terminals(&mut self) -> io::Result<()> {
        let options = [(c"ptmxmode", Some(c"0666")), (c"mode", Some(c"0620"))];
        let devpts = sys::new_filesystem(c"devpts", &options, sys::MOUNT_ATTR_NOSUID | sys::MOUNT_ATTR_NOEXEC)?;
        self.attach(&devpts, Path::new("/dev/pts"), true)
    }

    /// `/proc` of this pid namespace; the kernel's settings and its doors to the host are read-only or covered.
    pub(super) fn processes(&mut self) -> io::Result<()> {
        let proc = sys::new_filesystem(c"proc", &[], CONFINED | sys::MOUNT_ATTR_NOEXEC)?;
        self.attach(&proc, Path::new("/proc"), true)?;
        for path in [c"proc/sys", c"proc/irq", c"proc/bus", c"proc/fs", c"proc/pressure"] {
            let Some(tree) = if_there(sys::open_tree(self.root.as_fd(), path, sys::OPEN_TREE_CLONE))? else { continue };
            sys::mount_setattr(tree.as_fd(), 0, sys::MOUNT_ATTR_RDONLY, None)?;
            sys::move_mount(tree.as_fd(), self.root.as_fd(), path)?;
        }
        // One cover in hand: dropping one that was never put on would wait for every processor of the host.
        let mut cover: Option<OwnedFd> = None;
        for path in [
            c"proc/sched_debug",
            c"proc/timer_list",
            c"proc/kcore",
            c"proc/kallsyms",
            c"proc/keys",
            c"proc/key-users",
            c"proc/sysrq-trigger",
            c"proc/kmsg",
        ] {
            let null = match cover.take() {
                Some(null) => null,
                None => {
                    let null = sys::open_tree(self.root.as_fd(), c"dev/null", sys::OPEN_TREE_CLONE)?;
                    sys::mount_setattr(null.as_fd(), 0, sys::MOUNT_ATTR_RDONLY, None)?;
                    null
                }
            };
            // The kernel made every name on the way, so no link can be among them.
            if if_there(sys::move_mount(null.as_fd(), self.root.as_fd(), path))?.is_none() {
                cover = Some(null);
            }
        }
        Ok(())
    }

    /// An overlay. Returns the folder that takes its writes, which outlives the sandbox for whoever holds the descriptor. One that is not
    /// `durable` is not flushed when it ends, which would wait for everything that anybody wrote to that disk.
    pub(super) fn overlay(
        &mut self,
        path: &Path,
        lower: &[PathBuf],
        upper: &Upper,
        durable: bool,
        prepared: Prepared,
    ) -> io::Result<OwnedFd> {
        let number = self.stage()?.used;
        self.stage()?.used += 1;
        let stage = self.stage()?.root.try_clone()?;
        let place = format!("{number}");
        mkdirat(&stage, place.as_str(), Mode::S_IRWXU)?;
        let here = sys::open_at(stage.as_fd(), &c_path(Path::new(&place))?, libc::O_DIRECTORY, 0)?;
        let mut prepared = prepared.into_iter();
        let mut source = |host: &Path| prepared.next().map_or_else(|| open_source(host), Ok);

        let mut names = Vec::new();
        for (i, host) in lower.iter().enumerate() {
            let name = format!("{i}");
            let tree = source(host)?;
            sys::mount_setattr(tree.as_fd(), sys::AT_RECURSIVE, CONFINED | sys::MOUNT_ATTR_RDONLY, None)?;
            attach_new(&here, &name, &tree)?;
            names.push(name);
        }
        let (upper_name, work_name) = match upper {
            Upper::Private => {
                mkdirat(&here, "u", Mode::from_bits_truncate(0o755))?;
                mkdirat(&here, "w", Mode::S_IRWXU)?;
                ("u".to_owned(), "w".to_owned())
            }
            Upper::Folders { upper, work } => {
                // Both must be reached through one mount: that of the folder they share.
                let shared = upper.parent().filter(|p| work.parent() == Some(p)).ok_or(nix::Error::EXDEV)?;
                let tree = source(shared)?;
                sys::mount_setattr(tree.as_fd(), 0, CONFINED, None)?;
                attach_new(&here, "f", &tree)?;
                let name = |path: &Path| format!("f/{}", path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default());
                (name(upper), name(work))
            }
        };
        nix::unistd::fchdir(&here)?;
        let (lower, upper_c, work) = (c_text(&names.join(":"))?, c_text(&upper_name)?, c_text(&work_name)?);
        let mut options = vec![
            (c"lowerdir", Some(lower.as_c_str())),
            (c"upperdir", Some(upper_c.as_c_str())),
            (c"workdir", Some(work.as_c_str())),
            (c"userxattr", None),
            // A redirect or a metadata-only copy would let the upper folder name files below that it never had.
            (c"redirect_dir", Some(c"nofollow")),
            (c"metacopy", Some(c"off")),
            (c"index", Some(c"off")),
        ];
        // In memory there is nothing to be flushed.
        if !durable && *upper != Upper::Private {
            options.push((c"volatile", None));
        }
        let overlay = sys::new_filesystem(c"overlay", &options, CONFINED)?;
        let kept = sys::open_at(here.as_fd(), &upper_c, libc::O_DIRECTORY, 0)?;
        nix::unistd::fchdir(&self.root)?;
        self.attach(&overlay, path, true)?;
        Ok(kept)
    }

    /// A folder within what is already mounted, made when it is missing. A link or a file in its place is an error: nothing is followed.
    pub(super) fn place(&mut self, path: &Path) -> io::Result<()> {
        let relative = relative(path);
        let mut at = PathBuf::new();
        for component in relative.components() {
            let above =
                if at.as_os_str().is_empty() { self.root.try_clone()? } else { sys::open_inside(self.root.as_fd(), &c_path(&at)?)? };
            match mkdirat(&above, component.as_os_str(), Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(nix::Error::EEXIST) => at.push(component),
                // What is there may lie on something that cannot be written.
                Err(_) => {
                    at.push(component);
                    drop(sys::open_inside(self.root.as_fd(), &c_path(&at)?)?);
                }
            }
        }
        let place = sys::open_inside(self.root.as_fd(), &c_path(relative)?)?;
        if fstat(&place)?.st_mode & libc::S_IFMT == libc::S_IFDIR { Ok(()) } else { Err(nix::Error::ENOTDIR.into()) }
    }

    fn stage(&mut self) -> io::Result<&mut Stage> {
        if self.stage.is_none() {
            let root = memory(self.options.0, self.options.1)?;
            // In the old root, whose `/proc` nobody needs any more: it goes with it, in one go.
            sys::move_mount(root.as_fd(), sys::cwd(), c"/proc")?;
            self.stage = Some(Stage { root, used: 0 });
        }
        self.stage.as_mut().ok_or_else(|| io::Error::other("no stage"))
    }

    /// Makes this root the root, drops the old one, and closes it for writing.
    pub(super) fn enter(self) -> io::Result<()> {
        nix::sys::stat::umask(self.umask);
        nix::unistd::fchdir(&self.root)?;
        nix::unistd::pivot_root(".", ".")?;
        umount2(".", MntFlags::MNT_DETACH)?;
        nix::unistd::chdir("/")?;
        sys::mount_setattr(self.root.as_fd(), 0, sys::MOUNT_ATTR_RDONLY, None)
    }

    fn attach(&mut self, mount: &OwnedFd, path: &Path, folder: bool) -> io::Result<()> {
        let made = self.make(path, if folder { Make::Folder(0o755) } else { Make::File })?;
        let name = c_path(relative(path))?;
        if made == Made::Now || self.own.contains(path) {
            // Every part of the way was made here and holds no mount: it leads nowhere else.
            sys::move_mount(mount.as_fd(), self.root.as_fd(), &name)?;
        } else {
            let at = sys::open_inside(self.root.as_fd(), &name)?;
            sys::move_mount_onto(mount.as_fd(), at.as_fd())?;
        }
        // What lies below it from here on is the mount's.
        if made == Made::Now {
            self.own.remove(path);
        } else {
            self.own.retain(|own| !own.starts_with(path));
        }
        Ok(())
    }

    /// The place at `path`, made when it is not there: only on the root's own file system, never in a folder of the host.
    fn make(&mut self, path: &Path, what: Make) -> io::Result<Made> {
        if self.own.contains(path) || !self.own_parent(path)? {
            return Ok(Made::Before);
        }
        let made = match what {
            Make::Folder(mode) => mkdirat(&self.root, relative(path), Mode::from_bits_truncate(mode)).map_err(io::Error::from),
            Make::File => {
                let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
                sys::open_at(self.root.as_fd(), &c_path(relative(path))?, flags, 0o444).map(drop)
            }
        };
        match made {
            Ok(()) => {
                self.own.insert(path.to_owned());
                Ok(Made::Now)
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(Made::Before),
            Err(e) => Err(e),
        }
    }

    /// Makes the folders above `path`. Is the nearest one part of the root itself, and not of a folder of the host?
    fn own_parent(&mut self, path: &Path) -> io::Result<bool> {
        let Some(parent) = path.parent().filter(|p| p.parent().is_some()) else { return Ok(true) };
        if self.own.contains(parent) || self.make(parent, Make::Folder(0o755))? == Made::Now {
            return Ok(true);
        }
        let at = sys::open_inside(self.root.as_fd(), &c_path(relative(parent))?)?;
        Ok(fstat(&at)?.st_dev == self.device)
    }

    /// The same where nothing of the host may be in the way.
    fn need_own_parent(&mut self, path: &Path) -> io::Result<()> {
        if self.own_parent(path)? { Ok(()) } else { Err(nix::Error::EROFS.into()) }
    }
}

/// Puts a folder over itself, for a run without a root of its own.
pub(super) fn bind_in_place(source: &Path, writable: bool, prepared: Prepared) -> io::Result<()> {
    let tree = prepared.into_iter().next().map_or_else(|| open_source(source), Ok)?;
    // A mount namespace without a user namespace shares its mounts with the host until told otherwise.
    let everything = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, everything, None::<&str>)?;
    let read_only = if writable { 0 } else { sys::MOUNT_ATTR_RDONLY };
    sys::mount_setattr(tree.as_fd(), sys::AT_RECURSIVE, CONFINED | read_only, None)?;
    sys::move_mount(tree.as_fd(), sys::cwd(), &c_path(source)?)
}

fn attach_new(folder: &OwnedFd, name: &str, mount: &OwnedFd) -> io::Result<()> {
    mkdirat(folder, name, Mode::S_IRWXU)?;
    sys::move_mount(mount.as_fd(), folder.as_fd(), &c_text(name)?)
}

fn memory(bytes: Option<u64>, files: Option<u64>) -> io::Result<OwnedFd> {
    let (size, inodes) = room(bytes, files)?;
    let options: [(&CStr, Option<&CStr>); 3] =
        [(c"size", Some(size.as_c_str())), (c"nr_inodes", Some(inodes.as_c_str())), (c"mode", Some(c"0755"))];
    sys::new_filesystem(c"tmpfs", &options, CONFINED)
}

fn room(bytes: Option<u64>, files: Option<u64>) -> io::Result<(CString, CString)> {
    let size = c_text(&bytes.map_or("50%".to_owned(), |n| n.to_string()))?;
    // A root has some hundred names of its own.
    Ok((size, c_text(&files.map_or(0, |n| n.saturating_add(1024)).to_string())?))
}

fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn c_text(text: &str) -> io::Result<CString> {
    Ok(CString::new(text)?)
}
