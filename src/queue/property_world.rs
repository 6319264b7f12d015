//! The world of the property test: a real repository with stories, a checkout with somebody's work in it, and others who push.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::perform::Ticket;
use crate::base::id::{CommitId, StoryId};
use crate::config::Style;
use crate::event::Kind;

pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

pub(super) const TARGET: &str = "refs/heads/main";
const FILES: usize = 5;
const LINES: usize = 9;

/// What is on disk: it survives a crash. `journal` is the store.
pub(super) struct Disk {
    pub(super) folder: tempfile::TempDir,
    pub(super) journal: Vec<(StoryId, Kind)>,
    pub(super) tickets: BTreeMap<StoryId, Ticket>,
    /// Stories that a human took out.
    pub(super) first: String,
    pub(super) pushed: BTreeSet<String>,
    /// Trees that the gate was green on.
    pub(super) proven: BTreeSet<String>,
    /// The gate's definition in force, and the one under which each tip was made.
    pub(super) strict: bool,
    /// The target's tip when it was last looked at.
    pub(super) seen_tip: String,
    pub(super) style: Style,
}

impl Disk {
    pub(super) fn repo(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    pub(super) fn user(&self) -> PathBuf {
        self.folder.path().join("user")
    }

    pub(super) fn git(&self, folder: &Path, args: &[&str]) -> (bool, String) {
        let mut command = Command::new("git");
        command
            .current_dir(folder)
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("HOME", "/nonexistent");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "Tester").env(format!("GIT_{who}_EMAIL"), "t@example.org");
            command.env(format!("GIT_{who}_DATE"), "2026-01-01T00:00:00Z");
        }
        command.env_remove("GIT_DIR").env_remove("GIT_WORK_TREE").env_remove("GIT_INDEX_FILE").env("GIT_OPTIONAL_LOCKS", "0");
        let output = command.output().expect("git");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    #[track_caller]
    pub(super) fn run(&self, args: &[&str]) -> String {
        let (good, out) = self.git(&self.repo(), args);
        assert!(good, "git {args:?}");
        out
    }

    pub(super) fn new(style: Style) -> Self {
        // Memory where there is some: a crash here is one of the process, and flushing would only take time.
        let place = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/var/tmp" };
        let folder = tempfile::Builder::new().prefix("cofferdam-test-").tempdir_in(place).expect("a folder");
        let mut disk = Self {
            folder,
            journal: Vec::new(),
            tickets: BTreeMap::new(),
            first: String::new(),
            pushed: BTreeSet::new(),
            proven: BTreeSet::new(),
            strict: false,
            seen_tip: String::new(),
            style,
        };
        fs_err::create_dir(disk.repo()).expect("a folder");
        disk.run(&["init", "-q", "-b", "main"]);
        for file in 0..FILES {
            let lines: String = (0..LINES).map(|line| format!("{file} {line}\n")).collect();
            fs_err::write(disk.repo().join(format!("f{file}")), lines).expect("a file");
        }
        disk.run(&["add", "-A"]);
        disk.run(&["commit", "-q", "-m", "base"]);
        disk.first = disk.run(&["rev-parse", "HEAD"]);
        disk.seen_tip.clone_from(&disk.first);
        // The repository's own folder is on another branch; the target is checked out elsewhere, with work that is not committed.
        disk.run(&["checkout", "-q", "-b", "elsewhere"]);
        disk.run(&["worktree", "add", "-q", "../user", "main"]);
        fs_err::write(disk.user().join("f0"), "my own words\n").expect("a file");
        fs_err::write(disk.user().join("f1"), "staged\n").expect("a file");
        assert!(disk.git(&disk.user(), &["add", "f1"]).0);
        fs_err::write(disk.user().join("mine"), "untracked\n").expect("a file");
        disk
    }

    /// What the user has: every byte of the files and the index, and what `git status` says of them.
    pub(super) fn users_work(&self) -> (BTreeMap<String, Vec<u8>>, Vec<u8>, String) {
        let files = fs_err::read_dir(self.user()).expect("files").flatten().filter(|e| e.file_name() != ".git");
        let files = files.map(|e| (e.file_name().to_string_lossy().into_owned(), fs_err::read(e.path()).expect("a file"))).collect();
        let index = fs_err::read(self.repo().join(".git/worktrees/user/index")).expect("an index");
        (files, index, self.git(&self.user(), &["status", "--porcelain"]).1)
    }

    /// A story's commit on the target as it is now.
    pub(super) fn make_story(&mut self, number: usize, random: &mut Random) {
        let tip = self.run(&["rev-parse", TARGET]);
        self.run(&["checkout", "-q", "--detach", &tip]);
        for commit in 0..=random.below(2) {
            let file = self.repo().join(format!("f{}", random.below(FILES)));
            let mut lines: Vec<String> = fs_err::read_to_string(&file).expect("a file").lines().map(str::to_owned).collect();
            let line = random.below(lines.len());
            lines[line] = format!("story {number} {commit}");
            fs_err::write(&file, lines.join("\n") + "\n").expect("written");
            if commit == 0 {
                // One in five breaks the strict gate with whatever story it names; one in ten is broken by itself.
                let says = match random.below(10) {
                    0 => "broken".to_owned(),
                    1 | 2 => format!("clash s{}", random.below(12)),
                    _ => "fine".to_owned(),
                };
                fs_err::write(self.repo().join(format!("s{number}")), says).expect("written");
            }
            self.run(&["add", "-A"]);
            self.run(&["commit", "-q", "--allow-empty", "-m", &format!("work {number}.{commit}\n\nStory: S-99")]);
        }
        let commit = self.run(&["rev-parse", "HEAD"]);
        let story: StoryId = format!("S-{number}").parse().expect("an id");
        self.run(&["update-ref", &format!("refs/cofferdam/stories/S-{number}/1"), &commit]);
        let ticket = Ticket {
            story: story.clone(),
            title: format!("story {number}"),
            commit: commit.parse().expect("an id"),
            gates: vec!["g".into()],
            evidence: vec![],
        };
        self.journal.push((story.clone(), Kind::StoryQueued { commit: ticket.commit.clone() }));
        self.tickets.insert(story, ticket);
    }

    /// Somebody else pushes to the target.
    pub(super) fn push(&mut self, number: usize) {
        // Git refuses a push to a branch that is checked out; the first landing puts the user's checkout aside.
        let head = fs_err::read_to_string(self.repo().join(".git/worktrees/user/HEAD")).expect("a head");
        if head.trim_end().ends_with(TARGET) {
            return;
        }
        let tip = self.run(&["rev-parse", TARGET]);
        self.run(&["checkout", "-q", "--detach", &tip]);
        fs_err::write(self.repo().join(format!("ext{number}")), format!("{number}\n")).expect("written");
        self.run(&["add", "-A"]);
        self.run(&["commit", "-q", "-m", "pushed"]);
        let commit = self.run(&["rev-parse", "HEAD"]);
        self.run(&["update-ref", TARGET, &commit, &tip]);
        self.pushed.insert(commit.clone());
        self.seen_tip = commit;
    }

    /// The gate on the tree of a commit.
    pub(super) fn is_green(&self, commit: &str) -> bool {
        let names = self.run(&["ls-tree", "--name-only", commit]);
        let names: BTreeSet<&str> = names.lines().collect();
        names.iter().filter(|name| name.starts_with('s')).all(|name| {
            let says = self.run(&["show", &format!("{commit}:{name}")]);
            let clash = says.strip_prefix("clash ").is_some_and(|other| self.strict && other != *name && names.contains(other));
            says != "broken" && !clash
        })
    }

    pub(super) fn is_over(&self, story: &StoryId) -> bool {
        let over = |kind: &Kind| matches!(kind, Kind::StoryLanded { .. } | Kind::CandidateRefused { .. });
        self.journal.iter().any(|(of, kind)| of == story && over(kind))
    }

    pub(super) fn waiting(&self) -> Vec<(StoryId, CommitId)> {
        let queued = self.journal.iter().filter(|(_, kind)| matches!(kind, Kind::StoryQueued { .. })).map(|(story, _)| story);
        queued.filter(|story| !self.is_over(story)).map(|story| (story.clone(), self.tickets[story].commit.clone())).collect()
    }

    /// Landings that were begun and not answered: several of one batch.
    pub(super) fn open_landings(&self) -> BTreeMap<StoryId, (CommitId, CommitId)> {
        let mut open = BTreeMap::new();
        for (story, kind) in &self.journal {
            match kind {
                Kind::LandingStarted { candidate, from, .. } => drop(open.insert(story.clone(), (candidate.clone(), from.clone()))),
                Kind::StoryLanded { .. } | Kind::CandidateDropped { .. } => drop(open.remove(story)),
                _ => {}
            }
        }
        open
    }
}
