//! Section C: the parts of the kernel that a payload has no business with.

use std::fs;
use std::path::Path;

use super::attack::{Attack, Attempt, Control, Stage, Tried, inapplicable, prepare, said};
use super::calls::{at_path, c_path, call, fd, on_path, owned};
use crate::sandbox::sys;

const REFUSED: &[i32] = &[libc::EPERM, libc::ENOSYS];
const NO_CALL: &[i32] = &[libc::ENOSYS];

const KEY_SPEC_PROCESS_KEYRING: usize = -2_isize as usize;
const NONE: usize = -1_isize as usize;
/// What a filter must not be fooled by: the kernel looks at the low half of an ioctl's number.
const HIGH: usize = 1 << 32;

pub(super) const ATTACKS: &[Attack] = &[
    // Mounts.
    Attack::new("C-mount", "mount a tmpfs", REFUSED, |s| {
        own_mounts(s)?;
        mount(s)
    })
    .control(Control::WorksForRoot),
    Attack::new("C-user-then-mount", "mount in a new user namespace", REFUSED, |s| {
        said("unshare", call(libc::SYS_unshare, [(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) as usize]))?;
        mount(s)
    }),
    Attack::new("C-umount", "unmount /proc", REFUSED, |s| {
        own_mounts(s)?;
        said("umount2", on_path(libc::SYS_umount2, Path::new("/proc"), [libc::MNT_DETACH as usize])).map(|_| "unmounted".into())
    })
    .control(Control::WorksForRoot),
    Attack::new("C-remount", "remount / writable", REFUSED, |s| {
        own_mounts(s)?;
        let root = c"/";
        let flags = (libc::MS_REMOUNT | libc::MS_BIND) as usize;
        said("mount", call(libc::SYS_mount, [0, root.as_ptr() as usize, 0, flags, 0])).map(|_| "remounted".into())
    })
    .control(Control::WorksForRoot),
    Attack::new("C-pivot-root", "pivot_root", REFUSED, |s| {
        own_mounts(s)?;
        let place = prepare("path", c_path(&s.scratch()?))?;
        said("pivot_root", call(libc::SYS_pivot_root, [place.as_ptr() as usize; 2])).map(|_| "pivoted".into())
    })
    .control(Control::ArrivesForRoot),
    Attack::new("C-chroot", "chroot", REFUSED, |s| said("chroot", on_path(libc::SYS_chroot, &s.scratch()?, [])).map(|_| "changed".into()))
        .control(Control::WorksForRoot),
    Attack::new("C-move-mount", "move_mount", REFUSED, |_| {
        said("move_mount", call(libc::SYS_move_mount, [NONE, 0, NONE, 0, 0])).map(|_| "moved".into())
    })
    .control(Control::ArrivesForRoot),
    Attack::new("C-fsopen", "fsopen a tmpfs", REFUSED, |_| {
        said("fsopen", owned(call(libc::SYS_fsopen, [c"tmpfs".as_ptr() as usize, 0]))).map(|_| "opened".into())
    })
    .control(Control::WorksForRoot),
    Attack::new("C-fsmount", "fsmount", REFUSED, |_| said("fsmount", call(libc::SYS_fsmount, [NONE, 0, 0])).map(|_| "mounted".into()))
        .control(Control::ArrivesForRoot),
    Attack::new("C-fspick", "fspick", REFUSED, |_| {
        said("fspick", owned(at_path(libc::SYS_fspick, Path::new("/"), [0]))).map(|_| "picked".into())
    })
    .control(Control::WorksForRoot),
    Attack::new("C-open-tree", "clone a mount tree with open_tree", REFUSED, |_| {
        said("open_tree", owned(at_path(libc::SYS_open_tree, Path::new("/"), [1]))).map(|_| "cloned".into())
    })
    .control(Control::WorksForRoot),
    Attack::new("C-open-tree-attr", "the same with open_tree_attr", REFUSED, |_| {
        said("open_tree_attr", owned(at_path(SYS_OPEN_TREE_ATTR, Path::new("/"), [1, 0, 0]))).map(|_| "cloned".into())
    })
    .control(Control::WorksForRoot)
    .absent(NO_CALL),
    Attack::new("C-mount-setattr", "mount_setattr", REFUSED, |s| {
        own_mounts(s)?;
        let attributes = [0_u64; 4];
        said("mount_setattr", at_path(libc::SYS_mount_setattr, Path::new("/"), [0, attributes.as_ptr() as usize, 32])).map(|_| "set".into())
    })
    .control(Control::WorksForRoot),
    Attack::new("C-listmount", "list mounts with listmount", REFUSED, |_| {
        // struct mnt_id_req: size, spare, LSMT_ROOT, parameter.
        let request: [u64; 3] = [24, u64::MAX, 0];
        let mut ids = [0_u64; 8];
        said("listmount", call(458, [request.as_ptr() as usize, ids.as_mut_ptr() as usize, 8, 0])).map(|_| "listed".into())
    })
    .absent(NO_CALL),
    // Handles, watchers, quotas, swap.
    Attack::new("C-name-to-handle", "name a file by its handle", REFUSED, |_| {
        let (mut handle, mut mount) = ([0_u32; 34], 0_i32);
        handle[0] = 128;
        let args = [handle.as_mut_ptr() as usize, (&raw mut mount) as usize, 0];
        said("name_to_handle_at", at_path(libc::SYS_name_to_handle_at, Path::new("."), args)).map(|_| "named".into())
    })
    .absent(&[libc::EOPNOTSUPP]),
    Attack::new("C-open-by-handle", "open a file outside by its handle", REFUSED, |s| {
        let Some(handle) = &s.scene.handle else { return inapplicable("this file system has no handles") };
        let place = prepare("open", fs::File::open("."))?;
        said("open_by_handle_at", owned(call(libc::SYS_open_by_handle_at, [fd(&place), handle.as_ptr() as usize, 0])))
            .map(|_| "opened".into())
    })
    .control(Control::WorksForRoot),
    Attack::new("C-fanotify", "watch with fanotify", REFUSED, |_| {
        // FAN_REPORT_FID: the form that ordinary users may have.
        said("fanotify_init", owned(call(libc::SYS_fanotify_init, [0x200, 0]))).map(|_| "watching".into())
    })
    .absent(NO_CALL),
    Attack::new("C-quotactl", "quotactl", REFUSED, |_| {
        let nothing = c"/nonexistent";
        said("quotactl", call(libc::SYS_quotactl, [0x80_0007 << 8, nothing.as_ptr() as usize, 0, 0])).map(|_| "done".into())
    })
    .control(Control::Arrives)
    .absent(NO_CALL),
    Attack::new("C-quotactl-fd", "quotactl_fd", REFUSED, |_| said("quotactl_fd", call(443, [NONE, 0, 0, 0])).map(|_| "done".into()))
        .control(Control::Arrives)
        .absent(NO_CALL),
    Attack::new("C-swapon", "swapon", REFUSED, |_| {
        said("swapon", on_path(libc::SYS_swapon, Path::new("/nonexistent"), [0])).map(|_| "on".into())
    })
    .control(Control::ArrivesForRoot)
    .absent(NO_CALL),
    Attack::new("C-swapoff", "swapoff", REFUSED, |_| {
        said("swapoff", on_path(libc::SYS_swapoff, Path::new("/nonexistent"), [])).map(|_| "off".into())
    })
    .control(Control::ArrivesForRoot)
    .absent(NO_CALL),
    Attack::new("C-acct", "process accounting", REFUSED, |_| {
        said("acct", on_path(libc::SYS_acct, Path::new("/nonexistent"), [])).map(|_| "on".into())
    })
    .control(Control::ArrivesForRoot)
    .absent(NO_CALL),
    // Machines inside the kernel.
    Attack::new("C-io-uring", "set up io_uring", REFUSED, |_| {
        let mut parameters = [0_u64; 15];
        said("io_uring_setup", owned(call(libc::SYS_io_uring_setup, [1, parameters.as_mut_ptr() as usize]))).map(|_| "set up".into())
    })
    .absent(NO_CALL),
    Attack::new("C-io-uring-enter", "enter io_uring", REFUSED, |_| {
        said("io_uring_enter", call(libc::SYS_io_uring_enter, [NONE, 0, 0, 0, 0, 0])).map(|_| "entered".into())
    })
    .control(Control::Arrives)
    .absent(NO_CALL),
    Attack::new("C-bpf-map", "make a BPF map", REFUSED, |_| {
        // BPF_MAP_CREATE: an array of one four-byte value.
        let attributes: [u32; 18] = [2, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        said("bpf", owned(call(libc::SYS_bpf, [0, attributes.as_ptr() as usize, 72]))).map(|_| "made".into())
    })
    .control(Control::WorksForRoot)
    .absent(NO_CALL),
    Attack::new("C-perf", "open a performance counter", REFUSED, |_| {
        // PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK; user space only.
        let mut attributes = [0_u64; 16];
        (attributes[0], attributes[1], attributes[5]) = (128 << 32 | 1, 1, 1 << 5 | 1 << 6);
        said("perf_event_open", owned(call(libc::SYS_perf_event_open, [attributes.as_ptr() as usize, 0, NONE, NONE, 0])))
            .map(|_| "opened".into())
    })
    .control(Control::WorksForRoot)
    .absent(&[libc::ENOSYS, libc::ENOENT, libc::EOPNOTSUPP]),
    Attack::new("C-userfaultfd", "open a userfaultfd", REFUSED, |_| {
        said("userfaultfd", owned(call(libc::SYS_userfaultfd, [1]))).map(|_| "opened".into())
    })
    .absent(NO_CALL),
    Attack::new("C-memfd-secret", "make secret memory", REFUSED, |_| {
        said("memfd_secret", owned(call(libc::SYS_memfd_secret, [0]))).map(|_| "made".into())
    })
    .absent(NO_CALL),
    Attack::new("C-kexec", "load another kernel", REFUSED, |_| {
        // More segments than there can be: refused behind the check for the right to try.
        said("kexec_load", call(libc::SYS_kexec_load, [0, 999, 0, 0])).map(|_| "loaded".into())
    })
    .control(Control::ArrivesForRoot)
    .absent(NO_CALL),
    Attack::new("C-kexec-file", "the same from a file", REFUSED, |_| {
        said("kexec_file_load", call(libc::SYS_kexec_file_load, [NONE, NONE, 0, 0, 0])).map(|_| "loaded".into())
    })
    .control(Control::ArrivesForRoot)
    .absent(NO_CALL),
    Attack::new("C-init-module", "load a module", REFUSED, |_| {
        said("init_module", call(libc::SYS_init_module, [0, 0, c"".as_ptr() as usize])).map(|_| "loaded".into())
    })
    .control(Control::ArrivesForRoot)
    .absent(NO_CALL),
    Attack::new("C-finit-module", "the same from a file", REFUSED, |_| {
        said("finit_module", call(libc::SYS_finit_module, [NONE, c"".as_ptr() as usize, 0])).map(|_| "loaded".into())
    })
    .control(Control::ArrivesForRoot)
    .absent(NO_CALL),
    Attack::new("C-delete-module", "unload a module", REFUSED, |_| {
        let name = c"cofferdam_no_such_module";
        said("delete_module", call(libc::SYS_delete_module, [name.as_ptr() as usize, 0])).map(|_| "unloaded".into())
    })
    .control(Control::ArrivesForRoot)
    .absent(NO_CALL),
    Attack::new("C-add-key", "add a key to a keyring", REFUSED, |_| {
        let (kind, name) = (c"user", c"cofferdam-probe");
        let args = [kind.as_ptr() as usize, name.as_ptr() as usize, name.as_ptr() as usize, 4, KEY_SPEC_PROCESS_KEYRING];
        said("add_key", call(libc::SYS_add_key, args)).map(|_| "added".into())
    })
    .absent(NO_CALL),
    Attack::new("C-request-key", "request a key", REFUSED, |_| {
        let (kind, name) = (c"user", c"cofferdam-probe-none");
        said("request_key", call(libc::SYS_request_key, [kind.as_ptr() as usize, name.as_ptr() as usize, 0, 0])).map(|_| "got it".into())
    })
    .control(Control::Arrives)
    .absent(NO_CALL),
    Attack::new("C-keyctl", "look at the session keyring", REFUSED, |_| {
        // KEYCTL_GET_KEYRING_ID of the session's keyring, made when there is none.
        said("keyctl", call(libc::SYS_keyctl, [0, -3_isize as usize, 1])).map(|_| "found it".into())
    })
    .absent(NO_CALL),
    // The machine.
    Attack::new("C-reboot", "reboot", REFUSED, |_| {
        // Wrong magic numbers: refused behind the check for the right to try.
        said("reboot", call(libc::SYS_reboot, [0, 0, 0, 0])).map(|_| "done".into())
    })
    .control(Control::ArrivesForRoot),
    Attack::new("C-settimeofday", "settimeofday", REFUSED, |_| {
        // Neither a time nor a zone: nothing would change.
        said("settimeofday", call(libc::SYS_settimeofday, [0, 0])).map(|_| "it may".into())
    })
    .control(Control::WorksForRoot),
    Attack::new("C-clock-settime", "clock_settime", REFUSED, |_| {
        // Nanoseconds beyond a second: no clock takes that.
        let time: [i64; 2] = [0, 2_000_000_000];
        said("clock_settime", call(libc::SYS_clock_settime, [0, time.as_ptr() as usize])).map(|_| "set".into())
    })
    .control(Control::Arrives),
    Attack::new("C-adjtime", "adjust the clock", REFUSED, |_| {
        // ADJ_SETOFFSET with too many microseconds: refused behind the check for the right to try.
        let mut adjustment = [0_i64; 26];
        (adjustment[0], adjustment[10]) = (0x0100, 2_000_000);
        said("clock_adjtime", call(libc::SYS_clock_adjtime, [0, adjustment.as_mut_ptr() as usize])).map(|_| "adjusted".into())
    })
    .control(Control::ArrivesForRoot),
    Attack::new("C-sethostname", "change the host name", REFUSED, |_| {
        // Longer than a name can be.
        said("sethostname", call(libc::SYS_sethostname, [c"x".as_ptr() as usize, 1000])).map(|_| "changed".into())
    })
    .control(Control::ArrivesForRoot),
    Attack::new("C-setdomainname", "change the domain name", REFUSED, |_| {
        said("setdomainname", call(libc::SYS_setdomainname, [c"x".as_ptr() as usize, 1000])).map(|_| "changed".into())
    })
    .control(Control::ArrivesForRoot),
    Attack::new("C-syslog", "read the kernel's log", REFUSED, |_| {
        let mut buffer = [0_u8; 64];
        // SYSLOG_ACTION_READ_ALL
        said("syslog", call(libc::SYS_syslog, [3, buffer.as_mut_ptr() as usize, buffer.len()])).map(|_| "read".into())
    })
    .control(Control::WorksForRoot),
    Attack::new("C-vhangup", "hang up the terminal", REFUSED, |_| said("vhangup", call(libc::SYS_vhangup, [])).map(|_| "done".into()))
        .control(Control::No("it would hang up the caller's terminal")),
    Attack::new("C-iopl", "ask for the machine's ports", REFUSED, |_| said("iopl", call(IOPL, [3])).map(|_| "got them".into()))
        .control(Control::WorksForRoot)
        .absent(NO_CALL),
    Attack::new("C-ioperm", "the same with ioperm", REFUSED, |_| said("ioperm", call(IOPERM, [0x80, 1, 1])).map(|_| "got one".into()))
        .control(Control::WorksForRoot)
        .absent(NO_CALL),
    Attack::new("C-modify-ldt", "change the descriptor table", REFUSED, |_| {
        let mut buffer = [0_u64; 8];
        said("modify_ldt", call(MODIFY_LDT, [0, buffer.as_mut_ptr() as usize, 64])).map(|_| "read it".into())
    })
    .absent(NO_CALL),
    Attack::new("C-int80", "a 32-bit system call", REFUSED, thirty_two_bit).fatal(&[libc::SIGSYS]),
    Attack::new("C-x32", "an x32 system call", REFUSED, |_| {
        said("x32 getpid", call(0x4000_0000 | libc::SYS_getpid, [])).map(|_| "answered".into())
    })
    .fatal(&[libc::SIGSYS])
    .absent(NO_CALL),
    // Terminals and namespaces by ioctl.
    Attack::new("C-tiocsti", "push a key into a terminal (TIOCSTI)", REFUSED, |_| push(libc::TIOCSTI as usize)).control(Control::Arrives),
    Attack::new("C-tiocsti-high", "the same with high bits set", REFUSED, |_| push(libc::TIOCSTI as usize | HIGH))
        .control(Control::Arrives),
    Attack::new("C-tioclinux", "paste into a terminal (TIOCLINUX)", REFUSED, |_| push(libc::TIOCLINUX as usize)).control(Control::Arrives),
    Attack::new("C-tioclinux-high", "the same with high bits set", REFUSED, |_| push(libc::TIOCLINUX as usize | HIGH << 3))
        .control(Control::Arrives),
    Attack::new("C-ns-parent", "open the parent user namespace", REFUSED, |_| {
        let own = prepare("open", fs::File::open("/proc/self/ns/user"))?;
        // NS_GET_PARENT
        said("ioctl(NS_GET_PARENT)", owned(call(libc::SYS_ioctl, [fd(&own), 0xb702, 0]))).map(|_| "opened".into())
    })
    .control(Control::No("the host's own namespace has no parent")),
    Attack::new("C-ns-pid-parent", "open the parent process namespace", REFUSED, |_| {
        let own = prepare("open", fs::File::open("/proc/self/ns/pid"))?;
        said("ioctl(NS_GET_PARENT)", owned(call(libc::SYS_ioctl, [fd(&own), 0xb702, 0]))).map(|_| "opened".into())
    })
    .control(Control::No("the host's own namespace has no parent")),
    Attack::new("C-securebits", "change the secure bits", REFUSED, |_| {
        said("prctl", call(libc::SYS_prctl, [libc::PR_SET_SECUREBITS as usize, 1])).map(|_| "changed".into())
    })
    .control(Control::WorksForRoot),
    Attack::new("C-set-mm", "change what /proc says it runs", REFUSED, |_| {
        // PR_SET_MM_EXE_FILE with a descriptor that is none.
        said("prctl", call(libc::SYS_prctl, [libc::PR_SET_MM as usize, 13, NONE, 0, 0])).map(|_| "changed".into())
    })
    .control(Control::ArrivesForRoot)
    .needs(SYS_RESOURCE),
];

#[cfg(target_arch = "x86_64")]
const IOPL: libc::c_long = libc::SYS_iopl;
#[cfg(target_arch = "x86_64")]
const IOPERM: libc::c_long = libc::SYS_ioperm;
#[cfg(target_arch = "x86_64")]
const MODIFY_LDT: libc::c_long = libc::SYS_modify_ldt;
#[cfg(not(target_arch = "x86_64"))]
const IOPL: libc::c_long = -1;
#[cfg(not(target_arch = "x86_64"))]
const IOPERM: libc::c_long = -1;
#[cfg(not(target_arch = "x86_64"))]
const MODIFY_LDT: libc::c_long = -1;
/// CAP_SYS_RESOURCE.
const SYS_RESOURCE: u32 = 24;
const SYS_OPEN_TREE_ATTR: libc::c_long = 467;

/// A control that mounts does it where nobody else sees it.
fn own_mounts(stage: &Stage) -> Result<(), Attempt> {
    if stage.scene.control {
        prepare("unshare", call(libc::SYS_unshare, [libc::CLONE_NEWNS as usize]))?;
        let root = c"/";
        let private = (libc::MS_REC | libc::MS_PRIVATE) as usize;
        prepare("mount", call(libc::SYS_mount, [0, root.as_ptr() as usize, 0, private, 0]))?;
    }
    Ok(())
}

fn mount(stage: &Stage) -> Tried {
    let (kind, place) = (c"tmpfs", prepare("path", c_path(&stage.scratch()?))?);
    said("mount", call(libc::SYS_mount, [kind.as_ptr() as usize, place.as_ptr() as usize, kind.as_ptr() as usize, 0, 0]))
        .map(|_| "mounted".into())
}

#[cfg(target_arch = "x86_64")]
fn thirty_two_bit(_: &Stage) -> Tried {
    // getpid is number 20 there.
    match sys::int80(20) {
        answer if answer > 0 => Ok("it answered".into()),
        answer => said("int 0x80", Err(std::io::Error::from_raw_os_error(-answer))),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn thirty_two_bit(_: &Stage) -> Tried {
    inapplicable("this architecture has no such gate")
}

/// Refused by number, whatever the descriptor is: outside, a descriptor that is no terminal answers ENOTTY.
fn push(request: usize) -> Tried {
    let letter = [3_u8; 1];
    let nothing = prepare("open", fs::File::open("/dev/null"))?;
    said("ioctl", call(libc::SYS_ioctl, [fd(&nothing), request, letter.as_ptr() as usize])).map(|_| "pushed".into())
}
