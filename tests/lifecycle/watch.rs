//! The screen on a real terminal, beside a real run: followed, acted from, resized, suspended, closed, killed.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Who, processes_with};
use crate::support::Project;

/// A terminal of its own: a server of tmux that nobody else knows, with a shell in it.
struct Tty {
    socket: PathBuf,
}

impl Tty {
    /// None, and said so, where there is no tmux.
    fn open(test: &str, project: &Project) -> Option<Self> {
        if Command::new("tmux").arg("-V").stdout(Stdio::null()).status().is_err() {
            let line = format!("SKIPPED {test}: tmux is not installed\n");
            drop(std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()));
            return None;
        }
        let tty = Self { socket: project.world.path().join("tmux") };
        let mut command = tty.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "-s", "s", "sh -i"]);
        command.env("HOME", project.world.home()).env("PS1", "$ ").current_dir(project.path());
        assert!(command.status().expect("tmux runs").success());
        Some(tty)
    }

    fn tmux(&self, args: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket).args(args).env_clear();
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LANG", "C.UTF-8");
        command
    }

    fn send(&self, keys: &[&str]) {
        let mut args = vec!["send-keys", "-t", "s"];
        args.extend(keys);
        assert!(self.tmux(&args).status().expect("tmux runs").success());
    }

    fn resize(&self, width: u16, height: u16) {
        let (width, height) = (width.to_string(), height.to_string());
        assert!(self.tmux(&["resize-window", "-t", "s", "-x", &width, "-y", &height]).status().expect("tmux runs").success());
    }

    fn screen(&self) -> String {
        let output = self.tmux(&["capture-pane", "-p", "-t", "s"]).output().expect("tmux runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn says(&self, format: &str) -> String {
        let output = self.tmux(&["display-message", "-p", "-t", "s", format]).output().expect("tmux runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    #[track_caller]
    fn shows(&self, what: &str) -> String {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let screen = self.screen();
            if screen.contains(what) {
                return screen;
            }
            assert!(Instant::now() < end, "`{what}` is not shown:\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The shell has the terminal again, in the state in which a shell leaves it.
    #[track_caller]
    fn is_given_back(&self) {
        assert_eq!(self.says("#{alternate_on} #{cursor_flag}"), "0 1", "{}", self.screen());
        self.send(&["clear; stty -a", "Enter"]);
        let modes = self.shows("icanon");
        assert!(
            ["icanon", "echo", "isig", "icrnl", "opost"].iter().all(|mode| modes.split_whitespace().any(|word| word == *mode)),
            "{modes}"
        );
        self.send(&["clear", "Enter"]);
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        drop(self.tmux(&["kill-server"]).stderr(Stdio::null()).status());
    }
}

/// The one process with this command line.
fn process_of(line: &str) -> nix::unistd::Pid {
    let entries = fs_err::read_dir("/proc").expect("/proc").flatten();
    let of = |entry: &fs_err::DirEntry| {
        let bytes = fs_err::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ")
    };
    let found: Vec<i32> = entries.filter(|entry| of(entry) == line).filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    match found[..] {
        [pid] => nix::unistd::Pid::from_raw(pid),
        _ => panic!("{line}: {found:?}"),
    }
}

fn widest(screen: &str) -> usize {
    screen.lines().map(|line| line.chars().count()).max().unwrap_or(0)
}

#[test]
fn the_screen_follows_a_run_acts_and_gives_the_terminal_back() {
    let landing = "[merge]\nlanding = \"stop\"\n";
    let project = Project::new(Who::Caller, landing, &[("US-1", "asks", &[]), ("US-2", "leisurely", &[]), ("US-3", "good", &["US-1"])]);
    let Some(tty) = Tty::open("the_screen_follows_a_run_acts_and_gives_the_terminal_back", &project) else { return };
    let program = project.world.program();
    let watch = format!("{} watch; echo left=$?", program.display());
    tty.send(&[&watch, "Enter"]);
    tty.shows("Nothing has run in this repository yet");

    let run = project.begin(&["--plain"]);
    tty.shows("Needs you 1");
    let board = tty.shows("implementing");
    assert!(board.contains("[1 Board]") && board.lines().last().is_some_and(|keys| keys.contains("? help  q leave")), "{board}");

    // Answered from the problems, it goes on.
    tty.send(&["5"]);
    tty.shows("question: Which colour?");
    tty.send(&["a"]);
    tty.shows("US-1 asks: Which colour?");
    tty.send(&["blue", "Enter"]);
    tty.shows("US-1: story.answered is stored as event");
    project.until("the answer is acted on", |states| states["US-1"] == "ready_for_review");
    let answered = project.events().into_iter().find(|event| event["kind"] == "story.answered").expect("an event");
    assert_eq!(answered["data"]["text"], "blue");
    assert!(answered["actor"].as_str().is_some_and(|actor| actor.starts_with("human:")), "{answered}");

    // Refused as the command is, with the same words.
    tty.send(&["1", "a"]);
    tty.shows("Answer US-1:");
    tty.send(&["again", "Enter"]);
    let refused = tty.shows("was refused");
    let command = project.output(&["answer", "US-1", "again"]);
    let said = String::from_utf8_lossy(&command.stderr).into_owned();
    let why = said.lines().nth(1).expect("a reason").trim().to_owned();
    assert!(refused.contains(why.get(..60).unwrap_or(&why)), "{refused}\n{said}");

    // What an agent left half done is stopped by its own key, with a reason.
    tty.send(&["Escape"]);
    tty.resize(200, 50);
    tty.shows("Story US-2");
    tty.resize(30, 8);
    tty.shows("This terminal is 30x8");
    tty.resize(80, 24);
    assert!(widest(&tty.shows("At work")) <= 80);

    // Suspended and taken up again.
    tty.send(&["C-z"]);
    tty.shows("topped");
    assert_eq!(tty.says("#{alternate_on} #{cursor_flag}"), "0 1");
    tty.send(&["clear; fg", "Enter"]);
    tty.shows("[1 Board]");

    tty.send(&["q"]);
    // What is typed before the shell is back would be the screen's.
    crate::common::soon("the end of the screen", || tty.says("#{alternate_on}") == "0");
    tty.send(&["echo left=$?", "Enter"]);
    tty.shows("left=0");
    tty.is_given_back();
    assert_eq!(project.states()["US-2"], "implementing", "the run does not care");

    // Whatever ends it gives the terminal back; a terminal that goes away ends it.
    tty.send(&[&watch, "Enter"]);
    tty.shows("[1 Board]");
    let mark = format!("{} watch", program.display());
    let screen = process_of(&mark);
    nix::sys::signal::kill(screen, nix::sys::signal::Signal::SIGTERM).expect("sent");
    tty.shows("left=130");
    tty.is_given_back();
    tty.send(&[&watch, "Enter"]);
    tty.shows("[1 Board]");
    drop(tty);
    crate::common::soon("the end of a screen without a terminal", || processes_with(&mark).is_empty());

    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(run.id()).expect("a pid")), nix::sys::signal::Signal::SIGINT)
        .expect("sent");
    project.finish(run, 130);
    project.is_clean();
}

#[test]
fn the_screen_of_a_run_is_left_without_ending_it_and_ctrl_c_ends_it_in_order() {
    let project = Project::new(Who::Caller, "", &[("US-1", "slow", &[]), ("US-2", "leisurely", &[])]);
    let Some(tty) = Tty::open("the_screen_of_a_run_is_left_without_ending_it_and_ctrl_c_ends_it_in_order", &project) else { return };
    let program = project.world.program();
    let run = format!("clear; {} run --watch; echo ended=$?", program.display());
    tty.send(&[&run, "Enter"]);
    tty.shows("[1 Board]");
    tty.shows("implementing");
    tty.send(&["q"]);
    tty.shows("the screen is closed; the run goes on");
    assert_eq!(tty.says("#{alternate_on}"), "0");
    assert_eq!(project.states()["US-2"], "implementing");
    tty.send(&["C-c"]);
    tty.shows("ended=130");
    tty.is_given_back();

    // From the screen itself the same key asks the same run; what it said meanwhile is told at the end.
    tty.send(&[&run, "Enter"]);
    tty.shows("[1 Board]");
    tty.shows("implementing");
    tty.send(&["C-c"]);
    let shown = tty.shows("ended=130");
    assert!(shown.contains("interrupted") && shown.contains("go on with: cofferdam run"), "{shown}");
    tty.is_given_back();
    assert!(processes_with(&format!("{} watch", program.display())).is_empty(), "no screen without its run");
    drop(tty);
    project.is_clean();
}

#[test]
fn without_a_terminal_it_refuses_and_says_what_shows_the_same() {
    let project = Project::new(Who::Caller, "", &[("US-1", "good", &[])]);
    for arguments in [&["watch"][..], &["run", "--watch"]] {
        let output = project.output(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("there is no terminal to draw on") && said.contains("next: cofferdam status"), "{said}");
    }
    assert!(project.states().is_empty(), "nothing was begun");
    let Some(tty) = Tty::open("without_a_terminal_it_refuses_and_says_what_shows_the_same", &project) else { return };
    tty.send(&[&format!("TERM=dumb {} watch; echo left=$?", project.world.program().display()), "Enter"]);
    let said = tty.shows("left=2");
    assert!(said.contains("TERM is dumb"), "{said}");
    tty.is_given_back();
}
