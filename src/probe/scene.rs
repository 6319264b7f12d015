//! The scene of the self-test: canaries that the harness made and that no attack may touch, and a look at them afterwards.
//!
//! Everything an attack aims at is made here and belongs to the harness: a home with made-up keys, files beside the workspace, a sibling
//! process, listeners, shared memory. Nothing of the host's own is a target of anything that could change it.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::pty::PtyMaster;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempDir};

use super::calls::{CWD, c_path, call, on_path};
use super::listeners::Listeners;

/// What an attacker is told about the scene. The paths are those of the host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scene {
    /// Is this the control's scene, where nothing protects?
    pub control: bool,
    /// A word that no other run has: it marks the processes of this one.
    pub token: String,
    /// What must not be found inside.
    pub secret: String,
    pub home: PathBuf,
    pub workspace: PathBuf,
    pub outside: PathBuf,
    pub granted: PathBuf,
    pub sibling: i32,
    pub tmp_canary: PathBuf,
    pub shm_canary: PathBuf,
    pub shm_key: i32,
    pub queue: String,
    /// A handle of a file outside, as `name_to_handle_at` gave it.
    pub handle: Option<Vec<u8>>,
    /// The host's network namespace.
    pub network: u64,
    pub tcp4: u16,
    pub tcp6: Option<u16>,
    pub udp4: u16,
    /// An address of the host that is not loopback, with a listener on it.
    pub lan: Option<(Ipv4Addr, u16)>,
    pub abstract_name: String,
}

/// Files in the made-up home; each holds the secret.
pub const SECRETS: [&str; 16] = [
    ".ssh/id_ed25519",
    ".aws/credentials",
    ".netrc",
    ".git-credentials",
    ".config/gh/hosts.yml",
    ".npmrc",
    ".pypirc",
    ".cargo/credentials.toml",
    ".docker/config.json",
    ".kube/config",
    ".gnupg/private-keys-v1.d/key.key",
    ".config/gcloud/credentials.db",
    ".claude/.credentials.json",
    ".codex/auth.json",
    ".bash_history",
    ".bashrc",
];

/// The environment variables of the caller that must not be seen inside.
pub const SECRET_VARIABLES: [&str; 5] =
    ["COFFERDAM_PROBE_SECRET", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS"];

/// Something seen outside that should not be: by whose canary, if it can be told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    pub id: Option<String>,
    pub what: String,
}

/// The scene as its maker holds it: dropping it removes everything.
#[derive(Debug)]
pub struct Stand {
    pub scene: Scene,
    root: TempDir,
    listeners: Listeners,
    sibling: Child,
    before: BTreeMap<PathBuf, String>,
    sibling_before: BTreeMap<String, String>,
    segment: Option<usize>,
    /// Inheritable on purpose: a careless launcher would hand it to the payload.
    _stray: OwnedFd,
    /// A terminal of the host's, so that there is one to find.
    _terminal: Option<PtyMaster>,
    _canaries: [NamedTempFile; 2],
}

impl Stand {
    /// Makes the scene. `ids` are the attacks that will want a canary file.
    pub fn new(program: &Path, ids: &[&str], control: bool) -> io::Result<Self> {
        let root = tempfile::Builder::new().prefix("cofferdam-probe-").tempdir()?;
        // The set-user-id control drops root's identity and must still find its way in.
        fs_err::set_permissions(root.path(), PermissionsExt::from_mode(0o711))?;
        let mut random = [0_u8; 12];
        fs_err::File::open("/dev/urandom")?.read_exact(&mut random)?;
        let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let folder = |name: &str| -> io::Result<PathBuf> {
            let path = fs_err::canonicalize(root.path())?.join(name);
            fs_err::create_dir(&path)?;
            Ok(path)
        };
        let (home, workspace, outside, granted) = (folder("home")?, folder("workspace")?, folder("outside")?, folder("granted")?);
        folder("state")?;
        let secret = format!("secret-{token}");
        for name in SECRETS {
            let path = home.join(name);
            if let Some(parent) = path.parent() {
                fs_err::create_dir_all(parent)?;
            }
            fs_err::write(&path, &secret)?;
        }
        // Toolchains and their caches lie beside the credentials: a sandbox that shows the ones must not show the others.
        for name in [".cargo/registry/cache", ".cargo/bin", ".npm/_cacache", ".local/bin", ".rustup/toolchains"] {
            fs_err::create_dir_all(home.join(name))?;
        }
        for id in ids {
            for place in [&outside, &granted] {
                fs_err::write(place.join(id), format!("canary of {id}\n"))?;
            }
        }
        fs_err::write(workspace.join("README"), "the workspace of the self-test\n")?;
        set_user_id_canary(&granted)?;
        let canary = |place: &str| tempfile::Builder::new().prefix("cofferdam-probe-").tempfile_in(place);
        let canaries = [canary("/tmp")?, canary("/dev/shm").or_else(|_| canary("/tmp"))?];
        let shm_key = i32::from_ne_bytes([random[0], random[1], random[2], 0x2a]);
        let queue = format!("cofferdam-{token}");
        let abstract_name = format!("cofferdam-{token}");
        let sockets = [outside.join("canary.sock"), granted.join("canary.sock"), workspace.join("canary.sock")];
        let listeners = Listeners::start(&sockets, &abstract_name)?;
        let sibling = Command::new(program)
            .args(["__attack", "--sibling", &token])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let scene = Scene {
            control,
            secret,
            sibling: i32::try_from(sibling.id()).unwrap_or(i32::MAX),
            tmp_canary: canaries[0].path().to_owned(),
            shm_canary: canaries[1].path().to_owned(),
            shm_key,
            queue,
            handle: file_handle(&outside.join(ids.first().copied().unwrap_or("."))).ok(),
            network: fs_err::metadata("/proc/self/ns/net")?.ino(),
            tcp4: listeners.tcp4,
            tcp6: listeners.tcp6,
            udp4: listeners.udp4,
            lan: listeners.lan,
            abstract_name,
            token,
            home,
            workspace,
            outside,
            granted,
        };
        let segment = call(libc::SYS_shmget, [shm_key as usize, 4096, (libc::IPC_CREAT | 0o600) as usize]).ok().map(isize::cast_unsigned);
        // Absent from small kernels; then the attack finds nothing to attack outside either.
        drop(open_queue(&scene.queue, libc::O_CREAT));
        let stray = fs_err::File::open(&scene.outside)?.into_parts().0;
        let stray: OwnedFd = stray.into();
        fcntl(&stray, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let terminal = nix::pty::posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY).ok();
        let before = snapshot(&[&scene.home, &scene.outside, &scene.granted])?;
        let sibling_before = process_facts(scene.sibling);
        let stand = Self {
            scene,
            root,
            listeners,
            sibling,
            before,
            sibling_before,
            segment,
            _stray: stray,
            _terminal: terminal,
            _canaries: canaries,
        };
        Ok(stand)
    }

    /// A folder for the outcome documents and the state of this run.
    pub fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    /// What of the outside changed, whatever the attackers said.
    pub fn look(&mut self) -> io::Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let after = snapshot(&[&self.scene.home, &self.scene.outside, &self.scene.granted])?;
        for (path, facts) in &self.before {
            match after.get(path) {
                None => findings.push(self.about(path, format!("{} is gone", path.display()))),
                Some(now) if now != facts => findings.push(self.about(path, format!("{} changed: {facts} → {now}", path.display()))),
                Some(_) => {}
            }
        }
        for path in after.keys().filter(|path| !self.before.contains_key(*path)) {
            findings.push(self.about(path, format!("{} appeared", path.display())));
        }
        if let Some(status) = self.sibling.try_wait()? {
            findings.push(Finding { id: None, what: format!("the sibling process was ended: {status}") });
        } else {
            for (name, value) in process_facts(self.scene.sibling) {
                if self.sibling_before.get(&name).is_some_and(|before| *before != value) {
                    findings.push(Finding { id: None, what: format!("the sibling process changed: {name} is now {value}") });
                }
            }
        }
        findings.extend(self.listeners.heard());
        for path in [&self.scene.tmp_canary, &self.scene.shm_canary] {
            if !path.exists() {
                findings.push(Finding { id: None, what: format!("{} is gone", path.display()) });
            }
        }
        if self.segment.is_some() && call(libc::SYS_shmget, [self.scene.shm_key as usize, 0, 0]).is_err() {
            findings.push(Finding { id: None, what: "the shared memory segment is gone".to_owned() });
        }
        leftovers(&self.scene.workspace, &mut findings)?;
        Ok(findings)
    }

    fn about(&self, path: &Path, what: String) -> Finding {
        let inside = [&self.scene.outside, &self.scene.granted].into_iter().find_map(|place| path.strip_prefix(place).ok());
        let id = inside.and_then(|rest| rest.iter().next()).map(|name| name.to_string_lossy().into_owned());
        Finding { id, what }
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        drop(self.sibling.kill());
        drop(self.sibling.wait());
        if let Some(segment) = self.segment {
            drop(call(libc::SYS_shmctl, [segment, libc::IPC_RMID as usize, 0]));
        }
        if let Ok(name) = std::ffi::CString::new(self.scene.queue.as_str()) {
            drop(call(libc::SYS_mq_unlink, [name.as_ptr() as usize]));
        }
    }
}

/// Opens the canary message queue.
pub(super) fn open_queue(name: &str, flags: libc::c_int) -> io::Result<OwnedFd> {
    let name = c_path(Path::new(name))?;
    super::calls::owned(call(libc::SYS_mq_open, [name.as_ptr() as usize, (libc::O_RDWR | flags) as usize, 0o600, 0]))
}

/// For root: a set-user-id program that can do no harm, to see whether it gains anything.
fn set_user_id_canary(granted: &Path) -> io::Result<()> {
    let source = Path::new("/usr/bin/id");
    if nix::unistd::geteuid().is_root() && source.exists() {
        let path = granted.join("set-user-id");
        fs_err::copy(source, &path)?;
        fs_err::set_permissions(&path, PermissionsExt::from_mode(0o4755))?;
    }
    Ok(())
}

/// A handle that would open the file again without its path.
fn file_handle(path: &Path) -> io::Result<Vec<u8>> {
    let mut handle = vec![0_u8; 8 + 128];
    handle[..4].copy_from_slice(&128_u32.to_ne_bytes());
    let mut mount = 0_i32;
    let path = c_path(path)?;
    call(libc::SYS_name_to_handle_at, [CWD, path.as_ptr() as usize, handle.as_mut_ptr() as usize, (&raw mut mount) as usize, 0])?;
    Ok(handle)
}

/// Every entry below some folders, with everything that an attack could change about it.
fn snapshot(folders: &[&PathBuf]) -> io::Result<BTreeMap<PathBuf, String>> {
    let mut facts = BTreeMap::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| (*folder).clone()).collect();
    while let Some(path) = open.pop() {
        let meta = fs_err::symlink_metadata(&path)?;
        let mut line = vec![format!(
            "{:o} {}:{} {} links, mtime {}.{}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.nlink(),
            meta.mtime(),
            meta.mtime_nsec()
        )];
        if meta.is_dir() {
            for entry in fs_err::read_dir(&path)? {
                open.push(entry?.path());
            }
        } else if meta.is_file() {
            let digest = Sha256::digest(fs_err::read(&path)?);
            line.push(format!("{} bytes {:x?}", meta.len(), &digest[..4]));
        }
        line.push(format!("attributes {:?}", attributes(&path)));
        facts.insert(path, line.join(", "));
    }
    Ok(facts)
}

/// The names of a file's extended attributes; none where the file system has none.
fn attributes(path: &Path) -> Vec<String> {
    let mut buffer = vec![0_u8; 4096];
    let length = on_path(libc::SYS_llistxattr, path, [buffer.as_mut_ptr() as usize, buffer.len()]).unwrap_or(0);
    buffer.truncate(usize::try_from(length).unwrap_or(0));
    let names = buffer.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

/// What a workspace must never hold when a run is over.
fn leftovers(workspace: &Path, findings: &mut Vec<Finding>) -> io::Result<()> {
    let mut open = vec![workspace.to_owned()];
    while let Some(path) = open.pop() {
        let meta = fs_err::symlink_metadata(&path)?;
        let kind = meta.file_type();
        // A scratch folder is called `<attack>.<pid>`; what lies in it is that attack's.
        let scratch = path.strip_prefix(workspace).ok().and_then(|rest| rest.iter().next()).map(|name| name.to_string_lossy().into_owned());
        let id = scratch.and_then(|name| name.rsplit_once('.').map(|(id, _)| id.to_owned()));
        let mut found =
            |what: &str| findings.push(Finding { id: id.clone(), what: format!("{what} is left in the workspace: {}", path.display()) });
        if !meta.is_symlink() && meta.mode() & 0o6000 != 0 {
            found("a set-user-id or set-group-id file");
        }
        if kind.is_block_device() || kind.is_char_device() {
            found("a device node");
        }
        if meta.is_file() && meta.nlink() > 1 {
            found("a hard link");
        }
        if meta.is_file() && path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"core")) {
            found("a core dump");
        }
        if attributes(&path).iter().any(|name| name.starts_with("security.capability") || name.starts_with("trusted.")) {
            found("a file capability");
        }
        if meta.is_dir() {
            for entry in fs_err::read_dir(&path)? {
                open.push(entry?.path());
            }
        }
    }
    Ok(())
}

/// What of a process others could change.
fn process_facts(pid: i32) -> BTreeMap<String, String> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let line = |text: &str, start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
    let (status, limits, stat) = (read("status"), read("limits"), read("stat"));
    let nice = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(16)).unwrap_or_default().to_owned();
    BTreeMap::from([
        ("processors".to_owned(), line(&status, "Cpus_allowed_list")),
        ("open files".to_owned(), line(&limits, "Max open files")),
        ("oom_score_adj".to_owned(), read("oom_score_adj")),
        ("priority".to_owned(), nice),
    ])
}
