//! Points at which a test ends the runner as a power cut would. Nothing of it is in a release build.

/// The runner ends here when a test asked for it.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static AT: OnceLock<Option<Result<u64, String>>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    // The n-th point, or the first of that name, or with `NAME#N` the n-th of it.
    let at = AT.get_or_init(|| std::env::var("COFFERDAM_TEST_CRASH_AT").ok().map(|at| at.parse().map_err(|_| at)));
    let is_it = match at {
        None => false,
        Some(Ok(number)) => PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *number,
        Some(Err(wanted)) => {
            let (wanted, number) = wanted.split_once('#').and_then(|(name, n)| Some((name, n.parse().ok()?))).unwrap_or((wanted, 1));
            wanted == name && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == number
        }
    };
    if is_it {
        drop(writeln!(std::io::stderr(), "crash point: {name}"));
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
        // The signal is on its way; nothing more happens here.
        std::thread::sleep(std::time::Duration::from_secs(60));
    }
}

#[cfg(not(debug_assertions))]
pub fn point(_: &str) {}
