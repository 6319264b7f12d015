//! The terminal: taken over, listened to, and given back, however this program ends.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::Pid;
use ratatui_core::terminal::Terminal as Cells;
use ratatui_crossterm::CrosstermBackend;
use ratatui_crossterm::crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use ratatui_crossterm::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use ratatui_crossterm::crossterm::{cursor, execute};

use super::draw::{Drawn, render};
use super::keys::{Keys, Typed};
use super::model::Screen;

/// An escape character that nothing follows for so long was the key of this name.
const ESCAPE: Duration = Duration::from_millis(40);

/// How the terminal was before. Some while it is ours.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// What came from outside.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    Typed(Vec<Typed>),
    Resized,
    /// Somebody wants this program to end.
    End,
    Suspend,
    Nothing,
}

pub(super) struct Terminal {
    cells: Cells<CrosstermBackend<io::BufWriter<io::Stdout>>>,
    signals: SignalFd,
    keys: Keys,
}

/// The signals that are read here, and would otherwise end this program with the terminal in disorder.
fn wanted() -> SigSet {
    [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP, Signal::SIGWINCH].into_iter().collect()
}

/// Whether there is a terminal on both sides.
pub(super) fn is_there() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

impl Terminal {
    /// Takes the terminal over. Whatever ends this program gives it back.
    pub(super) fn open() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            // A release build ends at once after this: what the hook does is all that is done.
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                before(panic);
            }));
        });
        let signals = wanted();
        signals.thread_block()?;
        let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        take_over()?;
        let made = Cells::new(CrosstermBackend::new(io::BufWriter::with_capacity(64 << 10, io::stdout())));
        match made {
            Ok(cells) => Ok(Self { cells, signals, keys: Keys::default() }),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }

    pub(super) fn size(&self) -> (u16, u16) {
        self.cells.size().map_or((0, 0), |size| (size.width, size.height))
    }

    pub(super) fn draw(&mut self, screen: &Screen) -> io::Result<Drawn> {
        let mut drawn = Drawn::default();
        self.cells.draw(|frame| {
            drawn = render(screen, frame.buffer_mut());
            if let Some(cursor) = drawn.cursor {
                frame.set_cursor_position(cursor);
            }
        })?;
        Ok(drawn)
    }

    /// Draws everything anew next time, whatever stands there.
    pub(super) fn forget(&mut self) -> io::Result<()> {
        self.cells.clear()
    }

    /// Waits for something from outside, at most so long.
    pub(super) fn wait(&mut self, timeout: Duration) -> io::Result<Input> {
        let stdin = io::stdin();
        let timeout = if self.keys.is_waiting() { ESCAPE.min(timeout) } else { timeout };
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let mut watched = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN), PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        match poll(&mut watched, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let [signals, typed] = watched.map(|one| one.revents().unwrap_or(PollFlags::empty()));
        if signals.contains(PollFlags::POLLIN) {
            let mut input = Input::Nothing;
            while let Some(signal) = self.signals.read_signal()? {
                let signal = i32::try_from(signal.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
                match signal {
                    Some(Signal::SIGWINCH) if input == Input::Nothing => input = Input::Resized,
                    Some(Signal::SIGWINCH) | None => {}
                    Some(Signal::SIGTSTP) if input != Input::End => input = Input::Suspend,
                    Some(_) => input = Input::End,
                }
            }
            return Ok(input);
        }
        if typed.contains(PollFlags::POLLIN) {
            let mut bytes = [0; 4096];
            // Past the standard library's own buffer, which would hide what it holds from `poll`.
            return match nix::unistd::read(stdin.as_fd(), &mut bytes) {
                // The terminal is gone.
                Ok(0) | Err(Errno::EIO) => Ok(Input::End),
                Ok(count) => Ok(Input::Typed(self.keys.push(&bytes[..count]))),
                Err(Errno::EINTR | Errno::EAGAIN) => Ok(Input::Nothing),
                Err(errno) => Err(errno.into()),
            };
        }
        if typed.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL) {
            return Ok(Input::End);
        }
        Ok(self.keys.settle().map_or(Input::Nothing, |typed| Input::Typed(vec![typed])))
    }

    /// Gives the terminal back and stops, with everything of the same job, until the person comes back.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        give_back();
        let stop: SigSet = [Signal::SIGTSTP].into_iter().collect();
        stop.thread_unblock()?;
        // A job that nobody could continue is not stopped: the kernel drops the signal then.
        kill(Pid::from_raw(0), Signal::SIGTSTP)?;
        stop.thread_block()?;
        take_over()?;
        self.forget()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn take_over() -> io::Result<()> {
    let stdin = io::stdin();
    let before = tcgetattr(stdin.as_fd())?;
    let mut raw = before.clone();
    cfmakeraw(&mut raw);
    *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
    tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &raw)?;
    execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste, cursor::Hide).inspect_err(|_| give_back())
}

/// Puts the terminal back as it was. Does nothing when it is not ours.
fn give_back() {
    let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    // A terminal that went away cannot be mended.
    drop(execute!(io::stdout(), DisableBracketedPaste, cursor::Show, LeaveAlternateScreen));
    drop(io::stdout().flush());
    let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSADRAIN, &before);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    const PANIC: &str = "COFFERDAM_TEST_PANIC";

    /// This test's own program runs again inside a terminal, and breaks there.
    #[test]
    fn a_panic_gives_the_terminal_back_before_it_speaks() {
        const NAME: &str = "a_panic_gives_the_terminal_back_before_it_speaks";
        if std::env::var_os(PANIC).is_some() {
            let _terminal = Terminal::open().expect("a terminal");
            panic!("broken on purpose");
        }
        if Command::new("tmux").arg("-V").stdout(Stdio::null()).status().is_err() {
            drop(io::stderr().write_all(format!("SKIPPED {NAME}: tmux is not installed\n").as_bytes()));
            return;
        }
        let dir = tempfile::tempdir().expect("dir");
        let tmux = |args: &[&str]| {
            let mut command = Command::new("tmux");
            command.arg("-S").arg(dir.path().join("tmux")).args(args).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
            let output = command.env("LANG", "C.UTF-8").env("HOME", dir.path()).output().expect("tmux runs");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let program = std::env::current_exe().expect("this program");
        let line = format!("{PANIC}=1 {} --exact face::tui::terminal::tests::{NAME} --nocapture; stty -a; echo ended", program.display());
        tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "200", "-y", "60", "-s", "s", "sh -i"]);
        tmux(&["send-keys", "-t", "s", &line, "Enter"]);
        let end = std::time::Instant::now() + Duration::from_secs(60);
        let shown = loop {
            let shown = tmux(&["capture-pane", "-p", "-t", "s"]);
            if shown.lines().any(|line| line.trim() == "ended") || std::time::Instant::now() > end {
                break shown;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let alternate = tmux(&["display-message", "-p", "-t", "s", "#{alternate_on} #{cursor_flag}"]);
        tmux(&["kill-server"]);
        // What is said while the screen is up goes away with it.
        assert!(shown.contains("broken on purpose"), "{shown}");
        assert_eq!(alternate.trim(), "0 1", "{shown}");
        assert!(["icanon", "echo", "isig"].iter().all(|mode| shown.split_whitespace().any(|word| word == *mode)), "{shown}");
    }
}
