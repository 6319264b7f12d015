//! Section A, the second half: what a payload must not leave behind, and what of the kernel's own files it must not see.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::attack::{Attack, Attempt, Control, Stage, Tried, inapplicable, not_there, prepare, said};
use super::calls::{CWD, at_path, c_path, call, fd, on_path, owned};
use super::drive::Driver;
use super::files::{CLOSED, GONE, SYS_FCHMODAT2, descriptor_path, set_attribute};
use super::scene::open_queue;

const FORBIDDEN: &[i32] = &[libc::EPERM, libc::ENOSYS];

pub(super) const ATTACKS: &[Attack] = &[
    Attack::new("A-no-new-privs", "find no_new_privs unset", &[], |_| {
        match prepare("prctl", call(libc::SYS_prctl, [libc::PR_GET_NO_NEW_PRIVS as usize]))? {
            0 => Ok("it is not set".into()),
            _ => not_there("no_new_privs is set"),
        }
    }),
    Attack::new("A-nosuid", "find a mount without nosuid", &[], mounts_with_suid),
    Attack::new("A-propagation", "find a mount that later host mounts reach", &[], mounts_that_follow_the_host),
    Attack::new("A-capabilities", "find a capability in any set", &[], capabilities),
    Attack::new("A-set-user-id-program", "gain by a set-user-id root program", &[], run_set_user_id).control(Control::WorksForRoot),
    Attack::new("A-chmod-suid", "chmod 4755 a workspace file", FORBIDDEN, |s| {
        let path = s.scratch_file()?;
        said("chmod", fs::set_permissions(&path, Permissions::from_mode(0o4755)))?;
        bits_of(&path)
    }),
    Attack::new("A-chmod-sgid", "chmod 2775 a workspace folder", FORBIDDEN, |s| {
        let path = s.scratch()?;
        said("chmod", fs::set_permissions(&path, Permissions::from_mode(0o2775)))?;
        bits_of(&path)
    }),
    Attack::new("A-fchmod-suid", "fchmod 6755 a workspace file", FORBIDDEN, |s| {
        let path = s.scratch_file()?;
        let file = prepare("open", fs::File::open(&path))?;
        said("fchmod", call(libc::SYS_fchmod, [fd(&file), 0o6755]))?;
        bits_of(&path)
    }),
    Attack::new("A-chmod-old-suid", "the same with the oldest call, chmod", FORBIDDEN, |s| {
        let path = s.scratch_file()?;
        said("chmod", on_path(CHMOD, &path, [0o4755]))?;
        bits_of(&path)
    }),
    Attack::new("A-fchmodat2-suid", "the same with fchmodat2", FORBIDDEN, |s| {
        let path = s.scratch_file()?;
        said("fchmodat2", at_path(SYS_FCHMODAT2, &path, [0o4755, 0]))?;
        bits_of(&path)
    })
    .absent(&[libc::ENOSYS]),
    Attack::new("A-open-suid", "create a file with mode 4755", FORBIDDEN, |s| {
        let path = s.scratch()?.join("file");
        said("open", OpenOptions::new().write(true).create_new(true).mode(0o4755).open(&path))?;
        bits_of(&path)
    }),
    Attack::new("A-creat-suid", "the same with creat", FORBIDDEN, |s| {
        let path = s.scratch()?.join("file");
        said("creat", owned(on_path(CREAT, &path, [0o4755])))?;
        bits_of(&path)
    }),
    Attack::new("A-openat2-suid", "the same with openat2", FORBIDDEN, |s| {
        let path = s.scratch()?.join("file");
        let how: [u64; 3] = [(libc::O_CREAT | libc::O_WRONLY) as u64, 0o4755, 0];
        said("openat2", owned(at_path(libc::SYS_openat2, &path, [how.as_ptr() as usize, size_of_val(&how)])))?;
        bits_of(&path)
    }),
    Attack::new("A-tmpfile-suid", "the same as an unnamed file, then named", FORBIDDEN, tmpfile_suid),
    Attack::new("A-mknod-suid", "the same with mknod", FORBIDDEN, |s| {
        let path = s.scratch()?.join("file");
        said("mknod", at_path(libc::SYS_mknodat, &path, [(libc::S_IFREG | 0o4755) as usize, 0]))?;
        bits_of(&path)
    }),
    Attack::new("A-file-capability", "give a file capabilities", FORBIDDEN, |s| {
        let path = prepare("path", c_path(&s.scratch_file()?))?;
        // VFS_CAP_REVISION_2 with CAP_NET_RAW permitted and effective.
        let value: [u32; 5] = [0x0200_0001, 1 << 13, 0, 0, 0];
        let name = c"security.capability";
        let args = [path.as_ptr() as usize, name.as_ptr() as usize, value.as_ptr() as usize, 20, 0];
        said("setxattr", call(libc::SYS_setxattr, args)).map(|_| "set".into())
    })
    .control(Control::WorksForRoot),
    Attack::new("A-trusted-attribute", "set a trusted.overlay attribute", FORBIDDEN, |s| {
        set_attribute(&s.scratch_file()?, "trusted.overlay.opaque")
    })
    .control(Control::WorksForRoot),
    Attack::new("A-mknod-char", "make a character device", FORBIDDEN, |s| device(s, libc::S_IFCHR, 1, 3)).control(Control::WorksForRoot),
    Attack::new("A-mknod-block", "make a block device", FORBIDDEN, |s| device(s, libc::S_IFBLK, 254, 0)).control(Control::WorksForRoot),
    Attack::new("A-mknod-whiteout", "make a whiteout (device 0:0)", FORBIDDEN, |s| device(s, libc::S_IFCHR, 0, 0)),
    Attack::new("A-overlay-layers", "reach an overlay's layers by their paths", &[], overlay_layers)
        .control(Control::No("the host's own mounts are none of the test's business")),
    Attack::driven("A-overlay-discard", "reach the layers of a discarded workspace", overlay_layers, |d| {
        // On a throw-away overlay the workspace itself is a layer: what is written must not arrive there.
        let ended = d.run(&["--discard"])?;
        match ended.answers.into_iter().next() {
            Some(answer) => Err(answer.attempt),
            None => Err(Attempt::NoAnswer { why: format!("exec said {}: {}", ended.code, ended.errors) }),
        }
    })
    .control(Control::No("the host's own mounts are none of the test's business")),
    Attack::driven("A-overlay-attribute", "mark a folder as an overlay's redirect", overlay_attribute, |d| {
        let ended = d.run(&["--discard"])?;
        match ended.answers.into_iter().next() {
            Some(answer) => Err(answer.attempt),
            None => Err(Attempt::NoAnswer { why: format!("exec said {}: {}", ended.code, ended.errors) }),
        }
    })
    .control(Control::No("outside there is no overlay to mislead")),
    Attack::driven("A-names", "make names that a terminal or tool obeys", make_names, |d| {
        // The list of changes names every one of them.
        let ended = d.run(&["--diff"])?;
        let printed = [&ended.output, ended.errors.as_bytes()].concat();
        let unsafe_byte = |byte: &u8| (*byte < 0x20 && !matches!(byte, b'\n' | b'\t')) || *byte == 0x7f;
        if printed.iter().any(unsafe_byte) {
            return Ok("a name was printed as it is: a terminal would obey it".into());
        }
        if ended.code != 0 || ended.answers.is_empty() {
            return Err(Attempt::NoAnswer { why: format!("exec said {}: {}", ended.code, ended.errors) });
        }
        let text = String::from_utf8_lossy(&ended.output);
        match text.contains("fine-name") && text.contains("escape-here") {
            true => not_there("every name was told, and none could do harm"),
            false => Err(Attempt::NoAnswer { why: "the list of changes does not name them".to_owned() }),
        }
    })
    .control(Control::No("outside nobody lists them")),
    Attack::driven("A-outcome-forged", "leave a made-up outcome in the workspace", leave_outcome, |d| {
        let path = outcome_in_workspace(d);
        let ended = d.run(&["--outcome", &path])?;
        match ended.outcome {
            Some(_) => not_there("the real one took its place"),
            None => Ok(format!("the outcome cannot be read: {}", fs::read_to_string(&path).unwrap_or_default())),
        }
    })
    .control(Control::No("outside nobody writes an outcome")),
    Attack::driven("A-outcome-link", "leave a link where the next outcome goes", leave_outcome_link, |d| {
        let path = outcome_in_workspace(d);
        d.run(&[])?;
        let ended = d.run(&["--outcome", &path])?;
        // What the link leads to is looked at with everything else outside.
        if ended.outcome.is_none() {
            return Err(Attempt::NoAnswer { why: format!("exec said {}: {}", ended.code, ended.errors) });
        }
        not_there("the link was replaced, not followed")
    })
    .control(Control::No("outside nobody writes an outcome")),
    Attack::new("A-sys", "look into /sys", GONE, |_| said("stat", fs::metadata("/sys/kernel")).map(|_| "it is there".into())),
    Attack::new("A-proc-sys", "open anything in /proc/sys for writing", &[], |s| writable_below(s, "/proc/sys"))
        .control(Control::WorksForRoot),
    Attack::new("A-proc-files", "open anything else in /proc for writing", &[], |s| writable_below(s, "/proc"))
        .control(Control::WorksForRoot),
    Attack::new("A-sysrq", "open /proc/sysrq-trigger", CLOSED, |_| open_kernel_file("/proc/sysrq-trigger", true))
        .control(Control::WorksForRoot)
        .absent(GONE),
    Attack::new("A-kcore", "read /proc/kcore", CLOSED, |_| open_kernel_file("/proc/kcore", false))
        .control(Control::WorksForRoot)
        .absent(GONE),
    Attack::new("A-kallsyms", "read addresses from /proc/kallsyms", CLOSED, kernel_addresses).control(Control::WorksForRoot).absent(GONE),
    Attack::new("A-keys", "read /proc/keys", CLOSED, |_| open_kernel_file("/proc/keys", false)).control(Control::WorksForRoot).absent(GONE),
    Attack::new("A-timer-list", "read /proc/timer_list", CLOSED, |_| open_kernel_file("/proc/timer_list", false))
        .control(Control::WorksForRoot)
        .absent(GONE),
    Attack::new("A-devices", "find a device beyond null, zero, random, tty", &[], devices),
    Attack::new("A-terminals", "find a terminal of the host in /dev/pts", GONE, terminals),
    Attack::new("A-tmp", "find a sibling's file in /tmp", GONE, |s| {
        said("stat", fs::metadata(&s.scene.tmp_canary)).map(|_| "it is there".into())
    }),
    Attack::new("A-dev-shm", "find a sibling's file in /dev/shm", GONE, |s| {
        said("stat", fs::metadata(&s.scene.shm_canary)).map(|_| "it is there".into())
    }),
    Attack::new("A-sysv", "find a sibling's shared memory", &[libc::ENOENT, libc::EPERM, libc::ENOSYS], |s| {
        said("shmget", call(libc::SYS_shmget, [s.scene.shm_key as usize, 0, 0])).map(|_| "found it".into())
    })
    .absent(&[libc::ENOSYS]),
    Attack::new("A-queue", "find a sibling's message queue", &[libc::ENOENT, libc::EPERM, libc::ENOSYS], |s| {
        said("mq_open", open_queue(&s.scene.queue, 0)).map(|_| "found it".into())
    })
    .absent(&[libc::ENOSYS]),
];

/// Only the oldest architectures have these calls; the newer ones have the `*at` form alone.
#[cfg(target_arch = "x86_64")]
const CHMOD: libc::c_long = libc::SYS_chmod;
#[cfg(target_arch = "x86_64")]
const CREAT: libc::c_long = libc::SYS_creat;
#[cfg(not(target_arch = "x86_64"))]
const CHMOD: libc::c_long = -1;
#[cfg(not(target_arch = "x86_64"))]
const CREAT: libc::c_long = -1;

fn mounts_with_suid(_: &Stage) -> Tried {
    let text = prepare("read /proc/self/mountinfo", fs::read_to_string("/proc/self/mountinfo"))?;
    let fields = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let bad: Vec<String> =
        fields.filter(|f| f.len() > 5 && !f[5].split(',').any(|option| option == "nosuid")).map(|f| f[4].to_owned()).collect();
    if bad.is_empty() { not_there(format!("all of {} mounts are nosuid", text.lines().count())) } else { Ok(bad.join(" ")) }
}

/// A mount that shares its events with the host would take in what the host mounts there later, with none of the sandbox's limits on it.
fn mounts_that_follow_the_host(stage: &Stage) -> Tried {
    let text = prepare("read /proc/self/mountinfo", fs::read_to_string("/proc/self/mountinfo"))?;
    let options = text.lines().filter_map(|line| line.split_once(" - ")).map(|(left, _)| left.split(' ').skip(4));
    let follows = |option: &str| option.starts_with("shared:") || option.starts_with("master:");
    let found: Vec<&str> = options.filter_map(|mut fields| fields.next().filter(|_| fields.any(follows))).collect();
    match found.as_slice() {
        [] if stage.scene.control => inapplicable("this host's own mounts are private"),
        [] => not_there(format!("all of {} mounts are private", text.lines().count())),
        found => Ok(format!("{} and {} more", found[0], found.len() - 1)),
    }
}

fn capabilities(_: &Stage) -> Tried {
    let text = prepare("read /proc/self/status", fs::read_to_string("/proc/self/status"))?;
    let sets: Vec<&str> = text.lines().filter(|line| line.starts_with("Cap")).collect();
    if sets.len() < 5 {
        return Err(Attempt::CouldNotTry { step: "find five capability sets".to_owned(), errno: 0 });
    }
    let held: Vec<String> = sets
        .iter()
        .filter(|line| line.ends_with(|c: char| c.is_ascii_hexdigit()) && !line.ends_with("0000000000000000"))
        .map(|line| line.replace('\t', " "))
        .collect();
    if held.is_empty() { not_there("all five sets are empty") } else { Ok(held.join(", ")) }
}

fn run_set_user_id(stage: &Stage) -> Tried {
    let program = stage.scene.granted.join("set-user-id");
    if !program.exists() {
        return inapplicable("only root can make a set-user-id root program to try with");
    }
    let mut command = std::process::Command::new(&program);
    command.arg("-u");
    let mut own = nix::unistd::geteuid().as_raw();
    if stage.scene.control && own == 0 {
        own = 65534;
        std::os::unix::process::CommandExt::uid(&mut command, own);
    }
    let output = said("execve", command.output())?;
    let told = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match told.parse::<u32>() {
        Ok(effective) if effective != own => Ok(format!("became user {effective}")),
        Ok(effective) => not_there(format!("it ran as user {effective}, as the caller")),
        Err(_) => Err(Attempt::CouldNotTry { step: format!("run it: {}", output.status), errno: 0 }),
    }
}

/// Did the bits of a just made file stay?
fn bits_of(path: &Path) -> Tried {
    let mode = prepare("stat", fs::metadata(path))?.mode();
    if mode & 0o6000 == 0 { not_there("the call worked and the bits were dropped") } else { Ok(format!("mode {:o}", mode & 0o7777)) }
}

fn tmpfile_suid(stage: &Stage) -> Tried {
    let folder = stage.scratch()?;
    let opened = OpenOptions::new().write(true).mode(0o4755).custom_flags(libc::O_TMPFILE).open(&folder);
    let file = said("open", opened)?;
    let (from, to) = (prepare("path", c_path(&descriptor_path(&file)))?, folder.join("file"));
    let name = prepare("path", c_path(&to))?;
    let args = [CWD, from.as_ptr() as usize, CWD, name.as_ptr() as usize, libc::AT_SYMLINK_FOLLOW as usize];
    said("linkat", call(libc::SYS_linkat, args))?;
    bits_of(&to)
}

fn device(stage: &Stage, kind: libc::mode_t, major: u32, minor: u32) -> Tried {
    let path = stage.scratch()?.join("device");
    let number = usize::try_from(libc::makedev(major, minor)).unwrap_or_default();
    said("mknod", at_path(libc::SYS_mknodat, &path, [(kind | 0o666) as usize, number])).map(|_| "made".into())
}

fn overlay_layers(_: &Stage) -> Tried {
    let text = prepare("read /proc/self/mountinfo", fs::read_to_string("/proc/self/mountinfo"))?;
    let mut overlays = 0;
    for line in text.lines() {
        let Some((left, right)) = line.split_once(" - overlay ") else { continue };
        overlays += 1;
        let merged = left.split(' ').nth(4).unwrap_or("/");
        let Ok(view) = fs::metadata(merged) else { continue };
        for option in right.rsplit(' ').next().unwrap_or_default().split(',') {
            let Some((name @ ("upperdir" | "workdir"), path)) = option.split_once('=') else { continue };
            if fs::metadata(path).is_ok_and(|layer| layer.dev() != view.dev()) {
                return Ok(format!("the {name} of {merged} is there: {path}"));
            }
        }
    }
    // What they are made of went with the old root.
    for place in text.lines().filter_map(|line| line.split(' ').nth(4)) {
        let parts = (0..overlays).flat_map(|number| ["u", "w", "f", "0"].map(|part| format!("{place}/{number}/{part}")));
        if let Some(part) = parts.into_iter().find(|part| fs::symlink_metadata(part).is_ok()) {
            return Ok(format!("a part of an overlay is there: {part}"));
        }
    }
    if overlays == 0 {
        inapplicable("no overlay in this sandbox")
    } else {
        not_there(format!("the writable layers of {overlays} overlays are not there"))
    }
}

/// Tries to make the overlay look elsewhere for a folder, as its own marks would; and whether it follows.
fn overlay_attribute(stage: &Stage) -> Tried {
    let folder = stage.scratch()?;
    let target = folder.join("target");
    prepare("mkdir", fs::create_dir(&target))?;
    prepare("write", fs::write(target.join("bait"), "bait"))?;
    let marked = folder.join("marked");
    prepare("mkdir", fs::create_dir(&marked))?;
    let (value, path) = (prepare("path", c_path(&target))?, prepare("path", c_path(&marked))?);
    for name in [c"user.overlay.redirect", c"user.overlay.opaque", c"trusted.overlay.redirect"] {
        let args = [path.as_ptr() as usize, name.as_ptr() as usize, value.as_ptr() as usize, value.count_bytes(), 0];
        drop(call(libc::SYS_setxattr, args));
    }
    if marked.join("bait").exists() { Ok("the overlay followed the mark".into()) } else { not_there("no mark was followed") }
}

fn outcome_in_workspace(driver: &Driver) -> String {
    let id = driver.ids.first().copied().unwrap_or_default();
    driver.scene.workspace.join(format!("{id}.json")).to_string_lossy().into_owned()
}

/// Puts something where the outcome will be expected, over whatever is there. A read-only workspace takes nothing.
fn leave_outcome(stage: &Stage) -> Tried {
    let path = format!("{}.json", stage.id);
    drop(fs::remove_file(&path));
    fs::write(&path, "forged".repeat(10_000)).map_or_else(|_| not_there("the workspace is read-only"), |()| Ok("left it".into()))
}

fn leave_outcome_link(stage: &Stage) -> Tried {
    let path = format!("{}.json", stage.id);
    drop(fs::remove_file(&path));
    symlink(stage.outside(), &path).map_or_else(|_| not_there("the workspace is read-only"), |()| Ok("left it".into()))
}

fn make_names(stage: &Stage) -> Tried {
    use std::os::unix::ffi::OsStrExt;
    let folder = stage.scratch()?;
    let long = "n".repeat(255);
    let names: [&[u8]; 7] =
        [b"fine-name", b"escape-here\x1b[2J\x1b]0;x\x07", b"new\nline", b"bad\xff\xfe", b"--help", b"\xe2\x80\xaetxt.exe", long.as_bytes()];
    for name in names {
        prepare("create", fs::write(folder.join(std::ffi::OsStr::from_bytes(name)), "x"))?;
    }
    // Deeper than any path that the kernel takes at once.
    prepare("chdir", std::env::set_current_dir(&folder))?;
    for _ in 0..2500 {
        prepare("mkdir", fs::create_dir("d"))?;
        prepare("chdir", std::env::set_current_dir("d"))?;
    }
    Ok("made them".into())
}

/// Opens every file below a folder for writing, without writing. The control stops at the first.
fn writable_below(_: &Stage, top: &str) -> Tried {
    let mut open = vec![PathBuf::from(top)];
    let mut tried = 0;
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let Ok(kind) = entry.file_type() else { continue };
            // A process's own folder is section B's, and /proc/sys is looked at on its own.
            let number = name.as_encoded_bytes().first().is_some_and(u8::is_ascii_digit);
            if top == "/proc" && folder == Path::new("/proc") && (number || name == "sys") {
                continue;
            }
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() {
                tried += 1;
                // What the listing calls a file may be covered by a device.
                let opened = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
                if opened.and_then(|file| file.metadata()).is_ok_and(|meta| meta.is_file()) {
                    return Ok(format!("{} opens for writing", path.display()));
                }
            }
        }
    }
    not_there(format!("none of {tried} files opens for writing"))
}

pub(super) fn open_kernel_file(path: &str, write: bool) -> Tried {
    let mut file = said("open", OpenOptions::new().read(!write).write(write).custom_flags(libc::O_NONBLOCK).open(path))?;
    let meta = prepare("stat", file.metadata())?;
    if meta.file_type().is_char_device() && meta.rdev() == libc::makedev(1, 3) {
        return not_there("covered by /dev/null");
    }
    if write {
        return Ok("opened it for writing".into());
    }
    let mut first = [0; 64];
    match said("read", file.read(&mut first))? {
        0 => not_there("an empty file"),
        _ => Ok("read it".into()),
    }
}

fn kernel_addresses(_: &Stage) -> Tried {
    let text = said("open", fs::read_to_string("/proc/kallsyms"))?;
    if text.is_empty() {
        return not_there("an empty file");
    }
    match text.lines().find(|line| line.starts_with(|c: char| c != '0' && c.is_ascii_hexdigit())) {
        Some(line) => Ok(line.to_owned()),
        None => not_there("no address is told"),
    }
}

fn devices(_: &Stage) -> Tried {
    let mut open = vec![PathBuf::from("/dev")];
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            let kind = meta.file_type();
            if kind.is_dir() {
                open.push(entry.path());
            }
            let number = (libc::major(meta.rdev()), libc::minor(meta.rdev()));
            let harmless = kind.is_char_device() && matches!(number, (1, 3 | 5 | 7 | 8 | 9) | (5, 0 | 2) | (136..=143, _));
            if (kind.is_char_device() || kind.is_block_device()) && !harmless {
                return Ok(entry.path().display().to_string());
            }
        }
    }
    not_there("none")
}

fn terminals(_: &Stage) -> Tried {
    let entries = said("readdir", fs::read_dir("/dev/pts"))?;
    let found = entries.flatten().find(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    found.map_or_else(|| not_there("none"), |entry| Ok(entry.path().display().to_string()))
}
