//! Finds, by really trying, where this process may make groups that hold: cgroup v2, v1, or nowhere.
//!
//! It costs a handful of reads when everything is ready, and never starts a process. Three places are tried on cgroup v2:
//!
//! 1. **Our own group, when it was handed over to us**: a unit with `Delegate=` (systemd marks it with an attribute, or its transient
//!    unit file says so), or the root of a cgroup namespace in a container. A group with processes cannot have controllers for its
//!    children, so all its processes move into a leaf first, [`LEAF`].
//! 2. **A group of ours beside the units**, at the root of the tree for root, below `user@UID.service` for a user whose processes live
//!    there: the nearest place that needs nobody else's processes moved. Only when no unit on the way has a memory limit of its own,
//!    which we would escape.
//! 3. Otherwise limits are supervised, and the reason says what would mend it.
//!
//! Groups of runs never stand directly in a place that systemd writes to, but in a directory of ours, [`NEST`], which has its
//! controllers switched on for its children. A manager that tidies up above cannot switch them off again (the kernel answers EBUSY), so
//! a limit that was set cannot quietly vanish.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::Mode as FileMode;
use nix::unistd::{AccessFlags, Uid, faccessat, geteuid};

use super::group::text_of;
use super::place::{Controllers, Place, places, unit_delegates};
use super::{Mode, Parent};
use crate::sandbox::sys;

/// The leaf that the processes of a group that was handed over to us move into.
pub(super) const LEAF: &str = "cofferdam-supervisor";
/// The directory that the groups of runs stand in.
pub(super) const NEST: &str = "cofferdam";

/// What [`find`] found.
pub(super) struct Found {
    pub(super) mode: Mode,
    pub(super) parents: Vec<Parent>,
    /// v2: the nest, and whether nobody but us would ever take it away.
    pub(super) nest: Option<(PathBuf, bool)>,
}

impl Found {
    fn supervised(why: String) -> Self {
        Self { mode: Mode::Supervised { why }, parents: Vec::new(), nest: None }
    }
}

pub(super) fn find() -> Found {
    let read = |path: &str| text(Path::new(path));
    let (cgroup, mountinfo) = match (read("/proc/self/cgroup"), read("/proc/self/mountinfo")) {
        (Ok(cgroup), Ok(mountinfo)) => (cgroup, mountinfo),
        (Err(why), _) | (_, Err(why)) => return Found::supervised(format!("cannot tell where this process is: {why}")),
    };
    let places = places(&cgroup, &mountinfo);
    let v2_why = match &places.v2 {
        None => "no cgroup v2 hierarchy can be reached from here".to_owned(),
        Some(place) => match find_v2(place) {
            Ok((nest, ours, controllers)) => {
                let parents = vec![Parent { path: nest.clone(), controllers }];
                return Found { mode: Mode::V2, parents, nest: Some((nest, ours)) };
            }
            Err(why) => why,
        },
    };
    let v1: Vec<Parent> = places.v1.into_iter().filter(|place| writable(&place.own)).map(Place::into_parent).collect();
    if v1.iter().any(|parent| parent.controllers.memory) && v1.iter().any(|parent| parent.controllers.pids) {
        return Found { mode: Mode::V1, parents: v1, nest: None };
    }
    Found::supervised(v2_why)
}

impl Place {
    fn into_parent(self) -> Parent {
        Parent { path: self.own, controllers: self.controllers }
    }
}

/// The nest to make groups in, whether we take it away ourselves, and what it controls; or why not.
fn find_v2(place: &Place) -> Result<(PathBuf, bool, Controllers), String> {
    // Where an earlier start of ours put us: the group above is the one that was handed over.
    let in_leaf = place.own.file_name().is_some_and(|name| name == LEAF);
    let base = if in_leaf { place.own.parent().unwrap_or(&place.own) } else { &place.own };
    let have = controllers(&base.join("cgroup.controllers")).map_err(|why| format!("cgroup v2 is not usable: {why}"))?;
    if !(have.memory && have.pids) {
        return Err(format!("the group {} has no memory and pids controllers", base.display()));
    }
    let real_root = !base.join("cgroup.type").exists();
    if !real_root && (in_leaf || base == place.mount || delegated(base)) {
        return match nest_below(base) {
            Ok(have) => Ok((base.join(NEST), false, have)),
            Err(NestError::Busy) => split(base).map(|have| (base.join(NEST), false, have)),
            Err(NestError::Other(why)) => Err(why),
        };
    }
    let Some(beside) = beside_the_units(place, geteuid()) else {
        return Err(format!("the group {} is not delegated to this user", base.display()));
    };
    if let Some(limited) = own_memory_limit(base, &beside) {
        return Err(format!("the unit {} has a memory limit of its own and is not delegated", limited.display()));
    }
    match nest_below(&beside) {
        Ok(have) => Ok((beside.join(NEST), true, have)),
        Err(NestError::Busy) => Err(format!("{} holds processes of its own", beside.display())),
        Err(NestError::Other(why)) => Err(why),
    }
}

/// Was this group handed over to whoever runs in it?
fn delegated(base: &Path) -> bool {
    // systemd marks delegated units; the user manager of older versions does not, but its transient units lie in a file.
    if [c"user.delegate", c"trusted.delegate"].iter().any(|name| sys::extended_attribute_is(base, name, b"1")) {
        // `user@1000.service` is handed to that user's own systemd, which is the one writer there.
        return !base.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"user@"));
    }
    let Some(unit) = base.file_name() else { return false };
    let uid = geteuid();
    let user = format!("/run/user/{uid}/systemd/transient");
    let folders: [&Path; 2] = [Path::new("/run/systemd/transient"), Path::new(&user)];
    let of_user = base.components().any(|part| part.as_os_str() == user_manager(uid).as_str());
    let folder = if of_user { folders[1] } else { folders[0] };
    // The file says what the unit asked for; whether it was given to this user, the permissions say.
    writable(base) && fs_err::read_to_string(folder.join(unit)).is_ok_and(|text| unit_delegates(&text))
}

fn user_manager(uid: Uid) -> String {
    format!("user@{uid}.service")
}

/// The group beside the units that this user's processes may be moved to without moving anybody else.
fn beside_the_units(place: &Place, uid: Uid) -> Option<PathBuf> {
    let top = if uid.is_root() {
        place.mount.clone()
    } else {
        let manager = user_manager(uid);
        place.own.ancestors().find(|dir| dir.file_name().is_some_and(|name| name == manager.as_str()))?.to_path_buf()
    };
    writable(&top).then_some(top)
}

/// The nearest unit from `base` up to `top` that somebody gave a memory limit.
fn own_memory_limit(base: &Path, top: &Path) -> Option<PathBuf> {
    let between = base.ancestors().take_while(|dir| *dir != top && dir.starts_with(top));
    between.filter(|dir| fs_err::read_to_string(dir.join("memory.max")).is_ok_and(|max| max.trim() != "max")).map(Path::to_path_buf).next()
}

enum NestError {
    /// The group holds processes, so its children cannot have controllers.
    Busy,
    Other(String),
}

/// Makes `base/cofferdam` ready to hold groups, if it is not.
fn nest_below(base: &Path) -> Result<Controllers, NestError> {
    let nest = base.join(NEST);
    let on = nest.join("cgroup.subtree_control");
    let mut ready = controllers(&on).unwrap_or_default();
    if !(ready.memory && ready.pids) {
        let have = controllers(&base.join("cgroup.controllers")).map_err(NestError::Other)?;
        switch_on(base, have)?;
        match fs_err::create_dir(&nest) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(NestError::Other(error.to_string())),
            _ => {}
        }
        switch_on(&nest, have)?;
        ready = controllers(&on).map_err(NestError::Other)?;
    }
    if !(ready.memory && ready.pids) {
        return Err(NestError::Other(format!("the memory and pids controllers cannot be switched on in {}", nest.display())));
    }
    // It may be there and belong to another user. The kernel wants both: our group's parent too, for moving between the two.
    if !(writable(&nest) && writable(base)) {
        return Err(NestError::Other(format!("the group {} belongs to another user", nest.display())));
    }
    Ok(ready)
}

/// Makes the nest again for a group that found it gone: another cofferdam took it away between our look and our use.
pub(super) fn renew_nest(nest: &Path) -> Result<(), String> {
    let Some(base) = nest.parent() else { return Ok(()) };
    match nest_below(base) {
        Ok(_) => Ok(()),
        Err(NestError::Busy) => Err(format!("{} holds processes of its own", base.display())),
        Err(NestError::Other(why)) => Err(why),
    }
}

/// Switches the controllers on for the children of a group.
fn switch_on(group: &Path, have: Controllers) -> Result<(), NestError> {
    let file = group.join("cgroup.subtree_control");
    let now = controllers(&file).map_err(NestError::Other)?;
    if !(now.memory && now.pids) {
        write(&file, "+memory +pids")?;
    }
    // Without it there is no processor limit, which is told to whoever asked for one; it is no reason to have none at all.
    if have.cpu && !now.cpu {
        drop(write(&file, "+cpu"));
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<(), NestError> {
    write_control(file, text).map_err(|error| match error {
        Errno::EBUSY => NestError::Busy,
        error => NestError::Other(format!("cannot write `{text}` to {}: {}", file.display(), error.desc())),
    })
}

/// Writes a control file. The number of the error tells what to do next, so it must not be wrapped.
fn write_control(file: &Path, text: &str) -> nix::Result<()> {
    let fd = nix::fcntl::open(file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, FileMode::empty())?;
    nix::unistd::write(&fd, text.as_bytes()).map(drop)
}

/// Moves every process of a group that was handed over to us into a leaf, and makes the nest beside it.
fn split(base: &Path) -> Result<Controllers, String> {
    let leaf = base.join(LEAF);
    match fs_err::create_dir(&leaf) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error.to_string()),
        _ => {}
    }
    // Processes are born while we look. Each round moves those that were there; a group that does not become empty is not ours alone.
    for _ in 0..20 {
        let procs = fs_err::read_to_string(base.join("cgroup.procs")).map_err(|error| error.to_string())?;
        for pid in procs.lines() {
            if pid == "0" {
                return Err(format!("the group {} holds processes that cannot be seen from here", base.display()));
            }
            match write_control(&leaf.join("cgroup.procs"), pid) {
                // It ended since we read of it.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(format!("cannot move process {pid} to {}: {}", leaf.display(), error.desc())),
            }
        }
        match nest_below(base) {
            Err(NestError::Busy) => {}
            Err(NestError::Other(why)) => return Err(why),
            Ok(have) => return Ok(have),
        }
    }
    Err(format!("new processes keep appearing in the group {}", base.display()))
}

/// A small file of the kernel's.
fn text(file: &Path) -> Result<String, String> {
    let read = || text_of(&nix::fcntl::open(file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, FileMode::empty())?);
    read().map_err(|error| format!("cannot read {}: {}", file.display(), error.desc()))
}

fn controllers(file: &Path) -> Result<Controllers, String> {
    let text = text(file)?;
    let mut found = Controllers::from_names(text.split_ascii_whitespace());
    found.cpuacct = true;
    Ok(found)
}

/// May we make groups here and move our own processes into them?
fn writable(group: &Path) -> bool {
    let may = |path: &Path, flags| faccessat(AT_FDCWD, path, flags, AtFlags::AT_EACCESS).is_ok();
    // A read-only bind of the hierarchy answers EROFS here.
    may(group, AccessFlags::W_OK | AccessFlags::X_OK) && may(&group.join("cgroup.procs"), AccessFlags::W_OK)
}
