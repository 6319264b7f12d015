//! Section A: what is outside is not there, and what is there for reading stays as it is.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::attack::{Attack, Attempt, Control, Stage, Tried, not_there, prepare, said};
use super::calls::{CWD, at_path, c_path, call, fd, on_path, open_path, owned};
use super::scene::SECRETS;
use super::special::open_kernel_file;

/// The file is not there: no other error says so.
pub(super) const GONE: &[i32] = &[libc::ENOENT];
/// It is there, and must not be changed.
const READ_ONLY: &[i32] = &[libc::EROFS, libc::EACCES, libc::EPERM];
/// The same, or the call is not there at all.
const READ_ONLY_OR_NO_CALL: &[i32] = &[libc::EROFS, libc::EACCES, libc::EPERM, libc::ENOSYS];
/// It must not be moved or linked from one side to the other.
const NOT_ACROSS: &[i32] = &[libc::EXDEV, libc::EROFS, libc::EACCES, libc::EPERM];
const FORBIDDEN: &[i32] = &[libc::EPERM, libc::ENOSYS];
/// A file of the kernel's that must not be opened: it is not there, or not for us.
pub(super) const CLOSED: &[i32] = &[libc::ENOENT, libc::EACCES, libc::EPERM, libc::EROFS];

pub(super) const SYS_FCHMODAT2: libc::c_long = 452;
const SYS_SETXATTRAT: libc::c_long = 463;
const SYS_FILE_SETATTR: libc::c_long = 469;

pub(super) const ATTACKS: &[Attack] = &[
    Attack::new("A-ssh-key", "read ~/.ssh/id_ed25519", GONE, |s| steal(s, ".ssh/id_ed25519")),
    Attack::new("A-aws", "read ~/.aws/credentials", GONE, |s| steal(s, ".aws/credentials")),
    Attack::new("A-netrc", "read ~/.netrc", GONE, |s| steal(s, ".netrc")),
    Attack::new("A-git-credentials", "read ~/.git-credentials", GONE, |s| steal(s, ".git-credentials")),
    Attack::new("A-gh", "read ~/.config/gh/hosts.yml", GONE, |s| steal(s, ".config/gh/hosts.yml")),
    Attack::new("A-other-keys", "read any other key file under HOME", GONE, steal_any),
    Attack::new("A-shadow", "read /etc/shadow", CLOSED, |_| open_kernel_file("/etc/shadow", false)).control(Control::WorksForRoot),
    Attack::new("A-environment", "find the caller's secrets in the environment", &[], own_environment),
    Attack::new("A-all-environments", "find them in /proc/*/environ", &[], every_environment),
    Attack::new("A-read-outside", "read a file beside the workspace", GONE, |s| {
        said("open", fs::read(s.outside())).map(|_| "read it".into())
    }),
    Attack::new("A-dotdot", "read ../outside from the workspace", GONE, dotdot),
    Attack::new("A-stat", "stat a file outside", GONE, |s| said("stat", fs::metadata(s.outside())).map(|_| "it is there".into())),
    Attack::new("A-access", "access() a file outside", GONE, |s| {
        said("faccessat", at_path(libc::SYS_faccessat, &s.outside(), [0])).map(|_| "it is there".into())
    }),
    Attack::new("A-open-path", "open a file outside with O_PATH", GONE, |s| {
        said("open", open_path(&s.outside())).map(|_| "named it".into())
    }),
    Attack::new("A-chdir", "chdir outside", GONE, |s| {
        said("chdir", std::env::set_current_dir(&s.scene.outside)).map(|()| "went there".into())
    }),
    Attack::new("A-inotify", "watch a file outside", GONE, watch),
    Attack::new("A-getxattr", "list attributes of a file outside", GONE, |s| {
        said("listxattr", on_path(libc::SYS_listxattr, &s.outside(), [0, 0])).map(|_| "listed them".into())
    }),
    Attack::new("A-chmod-outside", "chmod a file outside", GONE, |s| {
        said("chmod", fs::set_permissions(s.outside(), Permissions::from_mode(0o666))).map(|()| "changed".into())
    }),
    Attack::new("A-chown-outside", "chown a file outside", GONE, |s| chown(&s.outside())),
    Attack::new("A-utime-outside", "set the times of a file outside", GONE, |s| touch(&s.outside())),
    Attack::new("A-setxattr-outside", "set an attribute of a file outside", GONE, |s| set_attribute(&s.outside(), "user.probe")),
    Attack::new("A-unlink-outside", "delete a file outside", GONE, |s| {
        said("unlink", fs::remove_file(s.outside())).map(|()| "deleted".into())
    }),
    Attack::new("A-symlink", "write outside through a link", GONE, write_through_link),
    Attack::new("A-rename-out", "move a workspace file outside", GONE, |s| rename(s, &s.outside(), 0)),
    Attack::new("A-hardlink-outside", "hard-link a file outside into W", GONE, |s| link_and_append(s, &s.outside())),
    Attack::new("A-hardlink", "hard-link a readable file into W, append", NOT_ACROSS, |s| link_and_append(s, &s.granted())),
    Attack::new(
        "A-link-descriptor",
        "the same through its descriptor",
        &[libc::EXDEV, libc::EROFS, libc::EACCES, libc::EPERM, libc::ENOENT],
        link_descriptor,
    ),
    Attack::new("A-rename-over", "move a W file over a readable file", NOT_ACROSS, |s| rename(s, &s.granted(), 0)),
    Attack::new("A-rename-exchange", "exchange a W file with a readable file", NOT_ACROSS, |s| {
        rename(s, &s.granted(), libc::RENAME_EXCHANGE)
    }),
    Attack::new("A-rename-steal", "move a readable file into W", NOT_ACROSS, |s| {
        let to = s.scratch()?.join("stolen");
        said("rename", fs::rename(s.granted(), to)).map(|()| "moved".into())
    }),
    Attack::new("A-write", "open a readable file for writing", READ_ONLY, |s| append(&s.granted())),
    Attack::new("A-truncate", "truncate a readable file", READ_ONLY, |s| {
        said("truncate", on_path(libc::SYS_truncate, &s.granted(), [0])).map(|_| "truncated".into())
    }),
    Attack::new("A-o-trunc", "open it with O_RDONLY|O_TRUNC", READ_ONLY, |s| {
        let flags = (libc::O_RDONLY | libc::O_TRUNC) as usize;
        said("open", owned(at_path(libc::SYS_openat, &s.granted(), [flags]))).map(|_| "truncated".into())
    }),
    Attack::new("A-reopen", "reopen it for writing by /proc/self/fd", READ_ONLY, |s| {
        let file = prepare("open", fs::File::open(s.granted()))?;
        append(&descriptor_path(&file))
    }),
    Attack::new("A-reopen-o-path", "the same from an O_PATH descriptor", READ_ONLY, |s| {
        let file = prepare("open", open_path(&s.granted()))?;
        append(&descriptor_path(&file))
    }),
    Attack::new("A-openat2", "open it for writing with openat2", READ_ONLY_OR_NO_CALL, openat2_write),
    Attack::new("A-tmpfile", "make an unnamed file in a readable folder", READ_ONLY, |s| {
        let flags = libc::O_TMPFILE;
        said("open", OpenOptions::new().write(true).custom_flags(flags).open(&s.scene.granted)).map(|_| "made one".into())
    })
    .absent(&[libc::EOPNOTSUPP]),
    Attack::new("A-create", "create a file in a readable folder", READ_ONLY, |s| {
        said("open", fs::write(s.granted().with_extension("new"), "new")).map(|()| "created".into())
    }),
    Attack::new("A-mkdir", "make a folder in it", READ_ONLY, |s| {
        said("mkdir", fs::create_dir(s.granted().with_extension("new"))).map(|()| "made".into())
    }),
    Attack::new("A-symlink-in", "make a link in it", READ_ONLY, |s| {
        said("symlink", symlink("/etc", s.granted().with_extension("new"))).map(|()| "made".into())
    }),
    Attack::new("A-mkfifo", "make a pipe in it", READ_ONLY, |s| {
        let path = s.granted().with_extension("new");
        said("mknod", at_path(libc::SYS_mknodat, &path, [(libc::S_IFIFO | 0o600) as usize, 0])).map(|_| "made".into())
    }),
    Attack::new("A-unlink", "delete a readable file", READ_ONLY, |s| {
        said("unlink", fs::remove_file(s.granted())).map(|()| "deleted".into())
    }),
    Attack::new("A-chmod", "chmod a readable file", READ_ONLY, |s| {
        said("chmod", fs::set_permissions(s.granted(), Permissions::from_mode(0o666))).map(|()| "changed".into())
    }),
    Attack::new("A-fchmod", "fchmod it on a descriptor for reading", READ_ONLY, |s| {
        let file = prepare("open", fs::File::open(s.granted()))?;
        said("fchmod", file.set_permissions(Permissions::from_mode(0o666))).map(|()| "changed".into())
    }),
    Attack::new("A-chmod-descriptor", "chmod it through /proc/self/fd", READ_ONLY, |s| {
        let file = prepare("open", open_path(&s.granted()))?;
        said("chmod", fs::set_permissions(descriptor_path(&file), Permissions::from_mode(0o666))).map(|()| "changed".into())
    }),
    Attack::new("A-fchmodat2", "chmod it with fchmodat2", READ_ONLY_OR_NO_CALL, |s| {
        said("fchmodat2", at_path(SYS_FCHMODAT2, &s.granted(), [0o666, libc::AT_SYMLINK_NOFOLLOW as usize])).map(|_| "changed".into())
    })
    .absent(&[libc::ENOSYS]),
    Attack::new("A-chown", "chown a readable file", READ_ONLY, |s| chown(&s.granted())),
    Attack::new("A-fchown", "fchown it on a descriptor for reading", READ_ONLY, |s| {
        let file = prepare("open", fs::File::open(s.granted()))?;
        let meta = prepare("stat", file.metadata())?;
        said("fchown", call(libc::SYS_fchown, [fd(&file), meta.uid() as usize, meta.gid() as usize])).map(|_| "changed".into())
    }),
    Attack::new("A-utime", "set the times of a readable file", READ_ONLY, |s| touch(&s.granted())),
    Attack::new("A-futimens", "the same on a descriptor for reading", READ_ONLY, |s| {
        let file = prepare("open", fs::File::open(s.granted()))?;
        said("utimensat", call(libc::SYS_utimensat, [fd(&file), 0, 0, 0])).map(|_| "changed".into())
    }),
    Attack::new("A-setxattr", "set an attribute of a readable file", READ_ONLY, |s| set_attribute(&s.granted(), "user.probe"))
        .absent(&[libc::EOPNOTSUPP]),
    Attack::new("A-fsetxattr", "the same on a descriptor for reading", READ_ONLY, |s| {
        let file = prepare("open", fs::File::open(s.granted()))?;
        let name = c"user.probe";
        let set = call(libc::SYS_fsetxattr, [fd(&file), name.as_ptr() as usize, name.as_ptr() as usize, 4, 0]);
        said("fsetxattr", set).map(|_| "set".into())
    })
    .absent(&[libc::EOPNOTSUPP]),
    Attack::new("A-setxattrat", "the same with setxattrat", READ_ONLY_OR_NO_CALL, |s| {
        let (path, name) = (prepare("path", c_path(&s.granted()))?, c"user.probe");
        let value: [u64; 2] = [name.as_ptr() as u64, 4];
        let args = [CWD, path.as_ptr() as usize, 0, name.as_ptr() as usize, value.as_ptr() as usize, 16];
        said("setxattrat", call(SYS_SETXATTRAT, args)).map(|_| "set".into())
    })
    .absent(&[libc::ENOSYS, libc::EOPNOTSUPP]),
    Attack::new("A-file-setattr", "set its flags with file_setattr", READ_ONLY_OR_NO_CALL, |s| {
        // fsx_xflags: FS_XFLAG_NODUMP, which an owner may set.
        let attributes: [u64; 3] = [0x80, 0, 0];
        let set = at_path(SYS_FILE_SETATTR, &s.granted(), [attributes.as_ptr() as usize, 24, 0]);
        said("file_setattr", set).map(|_| "set".into())
    })
    .absent(&[libc::ENOSYS, libc::EOPNOTSUPP]),
    Attack::new("A-set-flags", "set its flags with an ioctl", READ_ONLY, |s| set_flags(&s.granted(), FS_NODUMP_FL))
        .absent(&[libc::ENOTTY, libc::EOPNOTSUPP]),
    Attack::new("A-lease", "take a lease on a readable file", &[libc::EACCES, libc::EPERM, libc::ENOSYS], |s| {
        let file = prepare("open", fs::File::open(s.granted()))?;
        said("fcntl(F_SETLEASE)", call(libc::SYS_fcntl, [fd(&file), libc::F_SETLEASE as usize, libc::F_RDLCK as usize]))
            .map(|_| "took it".into())
    }),
    Attack::new("A-immutable", "make a workspace file immutable", FORBIDDEN, |s| {
        let path = s.scratch_file()?;
        let made = set_flags(&path, FS_IMMUTABLE_FL)?;
        // Else nobody could remove it.
        drop(set_flags(&path, 0));
        Ok(made)
    })
    .control(Control::WorksForRoot)
    .absent(&[libc::ENOTTY, libc::EOPNOTSUPP]),
    Attack::new("A-system", "create a file in /usr, /etc, /, /dev, …", READ_ONLY, write_to_system)
        .control(Control::No("it would write to the host's system folders")),
    Attack::new("A-descriptors", "find an inherited descriptor above 2", &[], stray_descriptors),
    Attack::new("A-init-root", "enter /proc/1/root", CLOSED, |s| said("open", open_path(&victim(s, "root/."))).map(|_| "entered".into())),
    Attack::new("A-init-cwd", "enter /proc/1/cwd", CLOSED, |s| said("open", open_path(&victim(s, "cwd/."))).map(|_| "entered".into())),
    Attack::new("A-init-fd", "list /proc/1/fd", CLOSED, |s| said("readdir", fs::read_dir(victim(s, "fd"))).map(|_| "listed".into())),
    Attack::new("A-init-mem", "open /proc/1/mem", CLOSED, |s| {
        said("open", OpenOptions::new().read(true).write(true).open(victim(s, "mem"))).map(|_| "opened".into())
    }),
    Attack::new("A-init-maps", "read /proc/1/maps", CLOSED, |s| said("open", fs::read(victim(s, "maps"))).map(|_| "read it".into())),
    Attack::new("A-init-environ", "read /proc/1/environ", CLOSED, |s| {
        said("open", fs::read(victim(s, "environ"))).map(|_| "read it".into())
    }),
    Attack::new("A-init-ns", "open /proc/1/ns/user", CLOSED, |s| {
        said("open", fs::File::open(victim(s, "ns/user"))).map(|_| "opened".into())
    }),
    Attack::new("A-init-exe", "reach the launcher's program by /proc/1/exe", CLOSED, |s| {
        said("open", open_path(&victim(s, "exe"))).map(|_| "named it: it could be overwritten when it is idle".into())
    }),
];

const FS_IMMUTABLE_FL: u32 = 0x10;
const FS_NODUMP_FL: u32 = 0x40;

fn steal(stage: &Stage, name: &str) -> Tried {
    let text = said("open", fs::read_to_string(stage.scene.home.join(name)))?;
    if text.contains(&stage.scene.secret) { Ok("read the secret".to_owned()) } else { not_there("a file of that name, without the secret") }
}

fn steal_any(stage: &Stage) -> Tried {
    let mut last = not_there("nothing was looked for");
    for name in SECRETS {
        last = steal(stage, name);
        match &last {
            Err(Attempt::Refused { errno: libc::ENOENT, .. } | Attempt::NotThere { .. }) => {}
            other => return other.clone(),
        }
    }
    last
}

fn own_environment(stage: &Stage) -> Tried {
    let found = std::env::vars_os().find(|(_, value)| value.to_string_lossy().contains(&stage.scene.secret));
    found.map_or_else(|| not_there("none of the caller's secrets"), |(name, _)| Ok(format!("{} holds it", name.display())))
}

fn every_environment(stage: &Stage) -> Tried {
    let mut read = 0;
    for entry in prepare("readdir /proc", fs::read_dir("/proc"))?.flatten() {
        let Ok(text) = fs::read(entry.path().join("environ")) else { continue };
        read += 1;
        if String::from_utf8_lossy(&text).contains(&stage.scene.secret) {
            return Ok(format!("process {} holds it", entry.file_name().display()));
        }
    }
    not_there(format!("none of {read} readable environments holds it"))
}

fn dotdot(stage: &Stage) -> Tried {
    let path = Path::new("../outside").join(stage.id);
    said("open", fs::read(path)).map(|_| "read it".into())
}

fn watch(stage: &Stage) -> Tried {
    let watcher = prepare("inotify_init1", owned(call(libc::SYS_inotify_init1, [0])))?;
    let path = prepare("path", c_path(&stage.outside()))?;
    let added = call(libc::SYS_inotify_add_watch, [fd(&watcher), path.as_ptr() as usize, libc::IN_ALL_EVENTS as usize]);
    said("inotify_add_watch", added).map(|_| "watched".into())
}

fn chown(path: &Path) -> Tried {
    // To the owner it has: an owner may do that without any capability.
    let (uid, gid) = fs::metadata(path).map_or((0, 0), |meta| (meta.uid(), meta.gid()));
    said("chown", at_path(libc::SYS_fchownat, path, [uid as usize, gid as usize, 0])).map(|_| "changed".into())
}

fn touch(path: &Path) -> Tried {
    said("utimensat", at_path(libc::SYS_utimensat, path, [0, 0])).map(|_| "changed".into())
}

pub(super) fn set_attribute(path: &Path, name: &str) -> Tried {
    let name = prepare("name", c_path(Path::new(name)))?;
    said("setxattr", on_path(libc::SYS_setxattr, path, [name.as_ptr() as usize, name.as_ptr() as usize, 1, 0])).map(|_| "set".into())
}

fn set_flags(path: &Path, flags: u32) -> Tried {
    let file = prepare("open", fs::File::open(path))?;
    said("ioctl(FS_IOC_SETFLAGS)", call(libc::SYS_ioctl, [fd(&file), libc::FS_IOC_SETFLAGS as usize, (&raw const flags) as usize]))
        .map(|_| "set".into())
}

fn append(path: &Path) -> Tried {
    let mut file = said("open", OpenOptions::new().append(true).open(path))?;
    said("write", file.write_all(b"attacked\n")).map(|()| "wrote to it".into())
}

pub(super) fn descriptor_path(file: &impl std::os::fd::AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn write_through_link(stage: &Stage) -> Tried {
    let link = stage.scratch()?.join("e");
    prepare("symlink", symlink(&stage.scene.outside, &link))?;
    append(&link.join(stage.id))
}

fn rename(stage: &Stage, to: &Path, flags: libc::c_uint) -> Tried {
    let from = prepare("path", c_path(&stage.scratch_file()?))?;
    let to = prepare("path", c_path(to))?;
    let moved = call(libc::SYS_renameat2, [CWD, from.as_ptr() as usize, CWD, to.as_ptr() as usize, flags as usize]);
    said("renameat2", moved).map(|_| "moved".into())
}

fn link_and_append(stage: &Stage, target: &Path) -> Tried {
    let link = stage.scratch()?.join("link");
    said("link", fs::hard_link(target, &link))?;
    append(&link)
}

fn link_descriptor(stage: &Stage) -> Tried {
    let file = prepare("open", open_path(&stage.granted()))?;
    let (from, to) = (prepare("path", c_path(&descriptor_path(&file)))?, prepare("path", c_path(&stage.scratch()?.join("link")))?);
    let args = [CWD, from.as_ptr() as usize, CWD, to.as_ptr() as usize, libc::AT_SYMLINK_FOLLOW as usize];
    said("linkat", call(libc::SYS_linkat, args)).map(|_| "linked".into())
}

fn openat2_write(stage: &Stage) -> Tried {
    // RESOLVE_IN_ROOT from the granted folder: another way to walk to the same file.
    let folder = prepare("open", open_path(&stage.scene.granted))?;
    let name = prepare("path", c_path(&Path::new("/../").join(stage.id)))?;
    let how: [u64; 3] = [(libc::O_WRONLY | libc::O_APPEND) as u64, 0, libc::RESOLVE_IN_ROOT];
    let opened = call(libc::SYS_openat2, [fd(&folder), name.as_ptr() as usize, how.as_ptr() as usize, size_of_val(&how)]);
    let mut file = fs::File::from(said("openat2", owned(opened))?);
    said("write", file.write_all(b"attacked\n")).map(|()| "wrote to it".into())
}

fn write_to_system(_: &Stage) -> Tried {
    let mut last = not_there("none of the folders is there");
    for place in ["/", "/usr", "/usr/bin", "/bin", "/sbin", "/lib", "/etc", "/opt", "/var", "/home", "/root", "/dev", "/proc", "/run"] {
        let path = Path::new(place).join("cofferdam-probe-system");
        match fs::write(&path, "attacked\n") {
            Ok(()) => {
                drop(fs::remove_file(&path));
                return Ok(format!("created a file in {place}"));
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => {
                let refused = said("open", Err(error));
                if !matches!(&refused, Err(Attempt::Refused { errno, .. }) if READ_ONLY.contains(errno)) {
                    return refused;
                }
                last = refused;
            }
        }
    }
    last
}

fn stray_descriptors(stage: &Stage) -> Tried {
    let listing = prepare("readdir /proc/self/fd", fs::read_dir("/proc/self/fd"))?;
    // The listing's own descriptor is closed when it is read again by name.
    let numbers: Vec<i32> = listing.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|n| *n > 2).collect();
    let open = numbers.iter().filter_map(|n| Some((n, fs::read_link(format!("/proc/self/fd/{n}")).ok()?)));
    let found: Vec<String> = open.map(|(n, to)| format!("{n} → {}", to.display())).collect();
    if found.is_empty() {
        return not_there("nothing above 2");
    }
    let outside = stage.scene.outside.to_string_lossy().into_owned();
    Ok(format!("{} ({})", found.join(", "), if found.iter().any(|f| f.contains(&outside)) { "the stray one among them" } else { "others" }))
}

/// A file of the process that is the obvious aim: the sandbox's first process, or the sibling for the control.
fn victim(stage: &Stage, name: &str) -> PathBuf {
    let pid = if stage.scene.control { stage.scene.sibling } else { 1 };
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_missing_file_is_the_only_proof_of_absence() {
        let tried: Tried = said("open", fs::read("/nonexistent/file")).map(|_| String::new());
        assert_eq!(tried, Err(Attempt::Refused { call: "open".to_owned(), errno: libc::ENOENT }));
        let busy: io::Result<()> = Err(io::Error::from_raw_os_error(libc::ETXTBSY));
        assert!(matches!(said("open", busy), Err(Attempt::Refused { errno: libc::ETXTBSY, .. })));
    }
}
