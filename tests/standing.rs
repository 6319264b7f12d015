//! `next` and `blocked` know where every story stands: the real binary on a real store.

use std::path::PathBuf;
use std::process::Command;

use cofferdam::event::{Actor, ContractMode, Criterion, Event, Kind, Landing, Limits, Rules, StorySpec};
use cofferdam::store::{Store, place};
use serde_json::Value;

struct Repository {
    dir: tempfile::TempDir,
}

impl Repository {
    fn new(stories: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        git2::Repository::init(dir.path().join("repo")).expect("init");
        fs_err::create_dir(dir.path().join("repo/stories")).expect("folder");
        for (id, after) in stories {
            let text = format!("---\nid: {id}\ntitle: Story {id}\nafter: [{after}]\n---\n- [ ] x\n");
            fs_err::write(dir.path().join(format!("repo/stories/{id}.md")), text).expect("story");
        }
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    fn tell(&self, id: Option<&str>, kinds: Vec<Kind>) {
        let git = place::common_git_dir(&self.path()).expect("a repository");
        let folder = place::locate(&self.dir.path().join("state/cofferdam"), &git).expect("placed");
        place::claim(&folder, &git).expect("claimed");
        let mut store = Store::open(&folder).expect("opened");
        for kind in kinds {
            let story = id.map(|id| id.parse().expect("id"));
            let event = Event { at: jiff::Timestamp::UNIX_EPOCH, run: None, story, actor: Actor::Human("t".into()), kind };
            store.append_one(event).expect("stored");
        }
    }

    fn json(&self, args: &[&str]) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.args(args).current_dir(self.path()).env_clear();
        let output = command.env("XDG_STATE_HOME", self.dir.path().join("state")).env("HOME", self.dir.path()).output().expect("runs");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    fn starts(&self) -> Vec<String> {
        let next = self.json(&["next", "--json"]);
        next["start"].as_array().expect("list").iter().map(|s| s["id"].as_str().expect("id").to_owned()).collect()
    }
}

fn created(id: &str) -> Kind {
    let rules = Rules {
        contract: ContractMode::Off,
        evaluators: vec!["checks".into()],
        gates: Vec::new(),
        candidate_gates: Vec::new(),
        diagnose: false,
        propose: false,
        landing: Landing::Stop,
        limits: Limits::default(),
    };
    let criteria = vec![Criterion { id: "AC-1".into(), text: "x".into() }];
    let spec = StorySpec {
        title: format!("Story {id}"),
        epic: None,
        ordinal: 0,
        after: Vec::new(),
        wired_with: Vec::new(),
        criteria,
        proof: "p".into(),
        automatable: true,
        rules,
    };
    Kind::StoryCreated { spec }
}

#[test]
fn what_landed_lets_others_start_and_what_was_cancelled_holds_them() {
    let repository = Repository::new(&[("A", ""), ("B", "A"), ("C", "B"), ("D", "")]);
    assert_eq!(repository.starts(), ["A", "D"]);
    repository.tell(Some("A"), vec![created("A"), Kind::StoryBackfilled { commit: None, reason: "done".into(), gates: Vec::new() }]);
    assert_eq!(repository.starts(), ["B", "D"]);
    repository.tell(Some("B"), vec![created("B"), Kind::StoryCancelled { reason: "not wanted".into() }]);
    assert_eq!(repository.starts(), ["D"]);
    repository.tell(None, vec![Kind::RunPaused { reason: Some("lunch".into()) }]);
    assert_eq!(repository.starts(), [""; 0]);
    let blocked = repository.json(&["blocked", "--json"]);
    assert_eq!(blocked["stalled"], true);
    let roots: Vec<_> = blocked["roots"]
        .as_array()
        .expect("roots")
        .iter()
        .map(|r| (r["id"].as_str(), r["reason"]["why"].as_str(), r["holds"].as_array().map(Vec::len)))
        .collect();
    assert_eq!(roots, [(Some("B"), Some("cancelled"), Some(1)), (Some("D"), Some("paused"), Some(0))]);
}

/// Readers that look while the store is being made see none, or a whole one.
#[test]
fn a_store_that_is_being_made_is_nobody_elses() {
    for _ in 0..40 {
        let dir = tempfile::tempdir().expect("dir");
        let folder = dir.path().join("state");
        let done = std::sync::atomic::AtomicBool::new(false);
        let (done, folder) = (&done, &folder);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(move || {
                    while !done.load(std::sync::atomic::Ordering::SeqCst) {
                        Store::open_existing(folder).expect("none, or a whole one");
                    }
                });
            }
            Store::open(folder).expect("made");
            done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
    }
}
