//! What the payload tried and was refused, from facts only: the calls that the filter announces, and paths that its own messages name.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use super::denial::Denial;
use super::policy::{Access, NetworkMode, Policy};
use super::sys::{self, Answer};

/// No more different targets are kept: a port scan must not fill our memory.
const MOST_TARGETS: usize = 64;
/// No more paths are explained from one run's messages.
const MOST_PATHS: usize = 5;

/// The connections that were tried.
#[derive(Debug, Default)]
pub(super) struct Connections {
    tried: BTreeMap<SocketAddr, u64>,
}

impl Connections {
    /// Takes one announced call, notes where it goes, and lets the kernel decide.
    pub(super) fn take(&mut self, listener: BorrowedFd<'_>) -> io::Result<()> {
        let Some(call) = sys::receive_notification(listener)? else { return Ok(()) };
        let mut bytes = [0; 28];
        let length = usize::try_from(call.args[2]).unwrap_or(0).min(bytes.len());
        let read = sys::read_memory(call.pid, call.args[1], &mut bytes[..length]);
        // What was read is the caller's own only if it still waits.
        if let (Ok(n), true) = (read, sys::notification_is_valid(listener, call.id))
            && let Some(address) = socket_address(&bytes[..n])
            && (self.tried.len() < MOST_TARGETS || self.tried.contains_key(&address))
        {
            *self.tried.entry(address).or_default() += 1;
        }
        sys::answer_notification(listener, call.id, Answer::Continue)
    }

    /// The refused ones: without a route out, every address but the sandbox's own is.
    pub(super) fn denials(&self, policy: &Policy) -> Vec<Denial> {
        if policy.network.mode == NetworkMode::Host {
            return Vec::new();
        }
        let mode = if policy.network.mode == NetworkMode::None { "none" } else { "gateway" };
        let origin = if policy.network.origin.is_empty() { format!("profile {}", policy.profile) } else { policy.network.origin.clone() };
        let rule = format!("{origin}: network = {mode}");
        let mut denials: Vec<Denial> = Vec::new();
        for (address, count) in &self.tried {
            // What is local inside was answered there: by the sandbox's own programs, or by the gateway.
            let own = address.ip().is_loopback() || address.ip().is_unspecified();
            if policy.addresses.iter().any(|network| holds(*network, address.ip())) {
                continue;
            }
            let (operation, target, allow) = match (own, address.port()) {
                (true, 53) => ("resolve", "a host name".to_owned(), "--allow HOST".to_owned()),
                (true, _) => continue,
                (false, _) => ("connect", address.to_string(), format!("--allow {address}")),
            };
            if let Some(same) = denials.iter_mut().find(|d| d.operation == operation && d.target == target) {
                same.count += count;
                continue;
            }
            let (operation, rule) = (operation.to_owned(), rule.clone());
            denials.push(Denial { operation, target, rule, errno: None, allow: Some(allow), count: *count });
        }
        denials
    }
}

/// Errors of the kernel, by the words that programs print for them.
const ERRORS: [(&str, &str); 9] = [
    ("ENOENT", "No such file or directory"),
    ("EACCES", "Permission denied"),
    ("EROFS", "Read-only file system"),
    ("EPERM", "Operation not permitted"),
    ("ENETUNREACH", "Network is unreachable"),
    ("EHOSTUNREACH", "No route to host"),
    ("ECONNREFUSED", "Connection refused"),
    ("ETIMEDOUT", "Connection timed out"),
    ("EAFNOSUPPORT", "Address family not supported by protocol"),
];

/// The error that a message names.
fn error_of(line: &str) -> Option<String> {
    let found = ERRORS.iter().find(|(name, words)| line.contains(words) || line.contains(name));
    found.map(|(name, _)| (*name).to_owned())
}

/// What the kernel answered to refused connections, where the command's own messages name their addresses.
pub(super) fn answers_told(denials: &mut [Denial], message: &[u8]) {
    let text = String::from_utf8_lossy(message);
    for denial in denials.iter_mut().filter(|denial| denial.operation == "connect" && denial.errno.is_none()) {
        denial.errno = text.lines().filter(|line| line.contains(&denial.target)).find_map(error_of);
    }
}

fn holds((base, bits): (Ipv4Addr, u8), ip: IpAddr) -> bool {
    let top = |ip: Ipv4Addr| u32::from(ip).checked_shr(32_u32.saturating_sub(bits.into())).unwrap_or(0);
    matches!(ip, IpAddr::V4(ip) if top(ip) == top(base))
}

/// The address of an IPv4 or IPv6 `connect`.
fn socket_address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    let ip = match i32::from(family) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(4..8)?).ok()?)),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(8..24)?).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

/// Paths that a failed command complained about, that exist on the host, and that the policy keeps away.
pub(super) fn paths_denied(policy: &Policy, message: &[u8]) -> Vec<Denial> {
    let text = String::from_utf8_lossy(message);
    let mut denials: Vec<Denial> = Vec::new();
    for line in text.lines() {
        let missing = ["No such file or directory", "Permission denied", "ENOENT", "EACCES", "not found"].iter().any(|m| line.contains(m));
        let read_only = line.contains("Read-only file system") || line.contains("EROFS");
        if !missing && !read_only {
            continue;
        }
        for path in absolute_paths(line) {
            if denials.len() < MOST_PATHS
                && let Some(denial) = path_denial(policy, &path, read_only)
                && !denials.iter().any(|known| (&known.operation, &known.target) == (&denial.operation, &denial.target))
            {
                denials.push(Denial { errno: error_of(line), ..denial });
            }
        }
    }
    denials
}

/// The words of a line that look like absolute paths, without the punctuation around them.
fn absolute_paths(line: &str) -> impl Iterator<Item = PathBuf> + '_ {
    let separators =
        |c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '`' | '‘' | '’' | '(' | ')' | '[' | ']' | ',' | ';' | '<' | '>' | '=');
    line.split(separators)
        .map(|word| word.trim_end_matches([':', '.']))
        .filter(|word| word.len() > 1 && word.starts_with('/') && !word.starts_with("//"))
        .map(PathBuf::from)
}

/// A path that a stranger names is looked up only where looking has no effect: never where it could mount something or wait for a server.
fn on_local_disk(path: &Path) -> bool {
    const LOCAL: [&str; 8] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs", "overlay"];
    let mounts = fs_err::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        Some((PathBuf::from(before.split(' ').nth(4)?), after.split(' ').next()?))
    });
    let nearest = places.filter(|(place, _)| path.starts_with(place)).max_by_key(|(place, _)| place.components().count());
    let plain = path.components().all(|part| matches!(part, std::path::Component::RootDir | std::path::Component::Normal(_)));
    plain && nearest.is_some_and(|(_, kind)| LOCAL.contains(&kind))
}

fn path_denial(policy: &Policy, path: &Path, read_only: bool) -> Option<Denial> {
    // Only paths that are there on the host: about anything else nothing is known.
    let host = on_local_disk(path) && path.symlink_metadata().is_ok();
    let inside = |top: &Path| path.starts_with(top);
    // Shared memory is private inside as /tmp is: what lies there on the host is not there.
    let private = inside(Path::new("/proc")) || (inside(Path::new("/dev")) && !inside(Path::new("/dev/shm")));
    let grant = policy.grants.iter().rfind(|g| inside(&g.inside));
    let workspace = inside(&policy.workspace.inside);
    let rule = |what: &str| format!("profile {}: {what}", policy.profile);
    let denial = |operation: &str, rule: String, allow: String| Denial {
        operation: operation.to_owned(),
        target: path.display().to_string(),
        rule,
        errno: None,
        allow: Some(allow),
        count: 1,
    };
    if read_only {
        let readable = grant.is_some_and(|g| g.access == Access::Read) || (workspace && policy.workspace.access == Access::Read);
        return readable.then(|| denial("write", rule("readable only"), format!("--write {}", path.display())));
    }
    let hidden = host && !private && !workspace && grant.is_none() && !policy.caches.iter().any(|c| inside(&c.inside));
    hidden.then(|| denial("open", rule("not granted"), format!("--read {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_answer_is_taken_from_the_line_that_names_the_target() {
        let denial = |operation: &str, target: &str| Denial {
            operation: operation.to_owned(),
            target: target.to_owned(),
            rule: String::new(),
            errno: None,
            allow: None,
            count: 1,
        };
        let message = b"open /x: No such file or directory\nconnect 192.0.2.7:443: Network is unreachable (os error 101)\n\xff\n";
        let mut denials = [denial("connect", "192.0.2.7:443"), denial("connect", "192.0.2.8:443"), denial("resolve", "192.0.2.7:443")];
        answers_told(&mut denials, message);
        assert_eq!(denials.map(|denial| denial.errno), [Some("ENETUNREACH".to_owned()), None, None]);
        for (name, words) in ERRORS {
            assert_eq!(error_of(&format!("cat: /x: {words}")).as_deref(), Some(name));
            assert_eq!(error_of(&format!("Error: {name}, open '/x'")).as_deref(), Some(name));
        }
        assert_eq!(error_of("all is well"), None);
    }
}
