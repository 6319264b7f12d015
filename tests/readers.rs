//! The commands that read the store and that speak to the controller, as a person and a script use them: the real binary on a real store.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cofferdam::event::{
    Actor, Amount, AttemptEnd, ContractMode, Criterion, CriterionVerdict, Event, Finding, GateResult, Kind, Landing, Limits, Rules,
    StorySpec, Task, Verdict,
};
use cofferdam::store::{Store, place};
use serde_json::Value;

struct Repository {
    dir: tempfile::TempDir,
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Repository {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        git2::Repository::init(dir.path().join("repo")).expect("init");
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    fn folder(&self) -> PathBuf {
        let git = place::common_git_dir(&self.path()).expect("a repository");
        place::locate(&self.dir.path().join("state/cofferdam"), &git).expect("placed")
    }

    fn store(&self) -> Store {
        let git = place::common_git_dir(&self.path()).expect("a repository");
        place::claim(&self.folder(), &git).expect("claimed");
        Store::open(&self.folder()).expect("opened")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .env("XDG_STATE_HOME", self.dir.path().join("state"))
            .env("HOME", self.dir.path());
        command
    }

    fn run(&self, args: &[&str]) -> Said {
        let Output { status, stdout, stderr } = self.command(args).output().expect("the binary runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Said { code: status.code().expect("an exit code"), out: text(stdout), err: text(stderr) }
    }

    fn ok(&self, args: &[&str]) -> String {
        let said = self.run(args);
        assert_eq!(said.code, 0, "{args:?}: {}{}", said.out, said.err);
        said.out
    }

    fn json(&self, args: &[&str]) -> Value {
        let document: Value = serde_json::from_str(&self.ok(args)).expect("one JSON document");
        assert_eq!(document["version"], 1, "every document carries its version");
        document
    }

    /// A story that landed, one that asks, one that waits for the one that asks.
    fn filled() -> Self {
        let repository = Self::new();
        let mut store = repository.store();
        let evidence = store.evidence().put(b"review: all good\x1b[2J\n").expect("kept");
        let say = |story: &str, kind| Event {
            at: jiff::Timestamp::now(),
            run: None,
            story: (!story.is_empty()).then(|| story.parse().expect("id")),
            actor: Actor::Runner,
            kind,
        };
        let start =
            Kind::RunStarted { pid: 1, version: "0.1.0".to_owned(), parallel: 2, target: "refs/heads/main".to_owned(), commit: commit(0) };
        store.append_one(say("", start)).expect("started");
        for (ordinal, (id, after)) in [("US-1", None), ("US-2", None), ("US-3", Some("US-2"))].into_iter().enumerate() {
            store.append_one(say(id, Kind::StoryCreated { spec: spec(id, ordinal, after) })).expect("created");
        }
        let begin = |store: &mut Store, id: &str| {
            let attempt = "1".parse().expect("a number");
            let events = [
                Kind::StoryStarted { attempt, base: commit(0) },
                Kind::AttemptStarted { attempt, task: Task::Implement, agent: "command".to_owned() },
            ];
            store.append(events.into_iter().map(|kind| say(id, kind)).collect()).expect("begun");
        };
        begin(&mut store, "US-1");
        let end = |question: Option<&str>| Kind::AttemptEnded {
            attempt: "1".parse().expect("a number"),
            end: AttemptEnd::Finished,
            summary: None,
            question: question.map(str::to_owned),
            transcript: None,
            wall_ms: 61_000,
        };
        let gate = |n| Kind::GateFinished {
            gate: "test".to_owned(),
            commit: commit(n),
            tree: tree(n),
            result: GateResult::Pass,
            flaky: n == 9,
            problems: 0,
            detail: None,
            evidence: Vec::new(),
            cached: false,
            wall_ms: 1,
        };
        let good = [
            end(None),
            Kind::ChangeCollected {
                attempt: "1".parse().expect("a number"),
                commit: commit(1),
                tree: tree(1),
                base: commit(0),
                reference: "refs/cofferdam/stories/US-1/1".to_owned(),
                patch: cofferdam::base::id::PatchId::of(b"x"),
                files: 2,
                findings: vec![Finding { text: "a path".to_owned(), ..Finding::default() }],
            },
            Kind::BudgetSpent {
                role: "implementer".to_owned(),
                model: Some("m-1".to_owned()),
                amount: Amount { model_calls: 3, tokens_in: 100, tokens_out: 20, cost_microusd: 1_250_000, wall_ms: 61_000 },
            },
            Kind::EvaluatorFinished {
                evaluator: "review".to_owned(),
                commit: commit(1),
                tree: tree(1),
                proof: "p".to_owned(),
                verdict: Verdict::Pass,
                problems: 0,
                criteria: vec![CriterionVerdict { id: "AC-1".to_owned(), pass: true, evidence: "src/a.rs:3".to_owned() }],
                findings: Vec::new(),
                evidence: vec![evidence],
                cached: false,
                wall_ms: 1,
            },
            gate(1),
            Kind::StoryQueued { commit: commit(1) },
            Kind::CandidateBuilt { candidate: commit(9), tree: tree(9), base: commit(0), story_commit: commit(1), behind: Vec::new() },
            gate(9),
            Kind::StoryLanded {
                commit: commit(9),
                tree: tree(9),
                story_commit: commit(1),
                target: "refs/heads/main".to_owned(),
                from: commit(0),
            },
        ];
        store.append(good.into_iter().map(|kind| say("US-1", kind)).collect()).expect("landed");
        begin(&mut store, "US-2");
        store.append_one(say("US-2", end(Some("which <b>port</b>?\u{1b}[31m")))).expect("asked");
        repository
    }
}

fn commit(n: u32) -> cofferdam::base::id::CommitId {
    format!("{n:040x}").parse().expect("id")
}

fn tree(n: u32) -> cofferdam::base::id::TreeId {
    format!("{:040x}", n + 0x1000).parse().expect("id")
}

fn spec(id: &str, ordinal: usize, after: Option<&str>) -> StorySpec {
    StorySpec {
        title: format!("Story {id}"),
        epic: Some("kvstore".to_owned()),
        ordinal: u32::try_from(ordinal).expect("few"),
        after: after.map(|id| id.parse().expect("id")).into_iter().collect(),
        wired_with: Vec::new(),
        criteria: vec![
            Criterion { id: "AC-1".to_owned(), text: "it works".to_owned() },
            Criterion { id: "AC-2".to_owned(), text: "it lasts".to_owned() },
        ],
        proof: "p".to_owned(),
        automatable: true,
        rules: Rules {
            contract: ContractMode::Off,
            evaluators: vec!["review".to_owned()],
            gates: vec!["test".to_owned()],
            candidate_gates: Vec::new(),
            diagnose: false,
            propose: false,
            landing: Landing::Queue,
            limits: Limits::default(),
        },
    }
}

#[test]
fn before_the_first_run_readers_say_so_and_leave_nothing_behind() {
    let r = Repository::new();
    assert!(r.ok(&["status"]).contains("cofferdam run"));
    assert_eq!(r.json(&["status", "--json"])["stories"], Value::Array(Vec::new()));
    assert!(r.ok(&["why"]).contains("cofferdam run"));
    for reader in [vec!["log"], vec!["log", "--verify"], vec!["stats"], vec!["costs"], vec!["report"]] {
        r.ok(&reader);
    }
    let said = r.run(&["show", "US-1"]);
    assert!(said.code == 2 && said.err.contains("no story") && said.err.contains("next:"), "{}", said.err);
    let said = r.run(&["note", "US-1", "x"]);
    assert_eq!(said.code, 2, "{}", said.err);
    assert!(!r.dir.path().join("state").exists(), "a reader makes no state");
    let outside = Command::new(env!("CARGO_BIN_EXE_cofferdam")).arg("status").current_dir(r.dir.path()).output().expect("runs");
    assert!(String::from_utf8_lossy(&outside.stderr).contains("git init"));
}

#[test]
fn status_is_what_scripts_rely_on() {
    let r = Repository::filled();
    let status = r.json(&["status", "--json"]);
    assert_eq!(status["target"]["ref"], "refs/heads/main");
    assert_eq!(status["target"]["commit"], commit(9).as_str());
    assert_eq!(status["runner"]["status"], "stopped");
    assert_eq!(status["progress"], serde_json::json!({"merged": 1, "total": 3}));
    let states: Vec<_> = status["stories"]
        .as_array()
        .expect("stories")
        .iter()
        .map(|s| (s["id"].as_str().expect("id"), s["state"].as_str().expect("state")))
        .collect();
    assert_eq!(states, [("US-1", "merged"), ("US-2", "blocked"), ("US-3", "pending")]);
    let blocked = &status["stories"][1];
    assert_eq!((&blocked["reason"], &blocked["next"]), (&Value::from("question"), &Value::from("cofferdam answer US-2 TEXT")));
    assert_eq!(status["stories"][0]["commit"], commit(9).as_str());
    assert_eq!(status["budget"]["spent"]["cost_microusd"], 1_250_000);
    let text = r.ok(&["status"]);
    assert!(text.contains("1 of 3 merged") && text.contains("$1.25") && text.contains("cofferdam answer US-2"), "{text}");
    assert!(!text.contains('\u{1b}'), "what an agent wrote commands no terminal: {text:?}");
}

#[test]
fn show_why_stats_and_costs_tell_the_same_story() {
    let r = Repository::filled();
    let shown = r.json(&["show", "US-1", "--json"]);
    assert_eq!(shown["criteria"][0]["result"], "pass");
    assert_eq!(shown["criteria"][1]["result"], "open", "a criterion nobody judged is not passed");
    assert_eq!(shown["attempts"][0]["evaluators"][0]["verdict"], "pass");
    assert_eq!(shown["landed"]["commit"], commit(9).as_str());
    assert_eq!(shown["costs"][0]["amount"]["model_calls"], 3);
    let text = r.ok(&["show", "US-1"]);
    assert!(text.contains("AC-1") && text.contains("src/a.rs:3") && text.contains("$1.25"), "{text}");
    let why = r.json(&["why", "US-3", "--json"]);
    assert_eq!((&why["why"], &why["next"]), (&Value::from("it comes after US-2 (blocked)"), &Value::from("cofferdam why US-2")));
    let why = r.ok(&["why", "US-2"]);
    assert!(why.contains("which <b>port</b>?") && why.contains("cofferdam answer US-2 TEXT") && !why.contains('\u{1b}'), "{why}");
    let all = r.ok(&["why"]);
    assert!(all.contains("US-2 is blocked") && all.contains("US-3 is pending") && !all.contains("US-1"), "{all}");
    let stats = r.json(&["stats", "--json"]);
    assert_eq!((&stats["gates"]["test"]["pass"], &stats["gates"]["test"]["flaky"], &stats["landings"]), (&2.into(), &1.into(), &1.into()));
    let costs = r.ok(&["costs"]);
    assert!(costs.contains("m-1") && costs.contains("$1.25") && costs.contains("total"), "{costs}");
    let said = r.run(&["show", "US-l"]);
    assert!(said.code == 2 && said.err.contains("did you mean US-"), "{}", said.err);
}

#[test]
fn the_log_is_whole_from_any_number_and_verifies() {
    let r = Repository::filled();
    let lines: Vec<Value> = r.ok(&["log", "--json"]).lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
    let keys: Vec<_> = lines[0].as_object().expect("an object").keys().map(String::as_str).collect();
    for key in ["seq", "prev_hash", "hash", "at", "run", "story", "kind", "actor", "data", "version"] {
        assert!(keys.contains(&key), "{key}");
    }
    for (pair, number) in lines.windows(2).zip(1..) {
        assert_eq!((&pair[0]["seq"], &pair[1]["prev_hash"]), (&Value::from(number), &pair[0]["hash"]));
    }
    let count = lines.len();
    assert_eq!(r.ok(&["log", "--json", "--since", &(count - 2).to_string()]).lines().count(), 2);
    assert_eq!(r.ok(&["log", "-n", "3"]).lines().count(), 3);
    assert!(r.ok(&["log", "US-2"]).lines().all(|line| line.contains("US-2")));
    let text = r.ok(&["log"]);
    assert!(text.contains("story.landed") && text.contains("→ merged") && !text.contains('\u{1b}'), "{text}");
    let verified = r.ok(&["log", "--verify"]);
    assert!(verified.contains(&format!("{count} events")), "{verified}");
    let hash = lines[3]["hash"].as_str().expect("a hash").to_owned();
    assert!(r.ok(&["log", "--verify", "--contains", &hash]).contains("event 4"));
    assert_eq!(r.run(&["log", "--verify", "--contains", &"0".repeat(64)]).code, 1);
    let before = r.ok(&["status", "--json"]);
    r.ok(&["log", "--rebuild"]);
    assert_eq!(r.ok(&["status", "--json"]), before);
    // Somebody with another program changes the past.
    let sql = "DROP TRIGGER events_are_never_changed; UPDATE events SET data = replace(data, 'US-2', 'US-9') WHERE seq = 3";
    let database = rusqlite::Connection::open(r.folder().join("events.sqlite")).expect("opened");
    database.execute_batch(sql).expect("changed");
    let said = r.run(&["log", "--verify"]);
    assert!(said.code == 1 && said.err.contains("breaks at event 3") && said.err.contains("next:"), "{}", said.err);
}

#[test]
fn every_repository_of_a_user_is_listed_and_is_found_by_its_name_from_anywhere() {
    let r = Repository::filled();
    // Another one, in which nothing was ever said but that it is there, and one that is gone.
    let states = r.dir.path().join("state/cofferdam");
    for name in ["other", "gone"] {
        let path = r.dir.path().join(name);
        git2::Repository::init(&path).expect("init");
        let git = place::common_git_dir(&path).expect("a repository");
        let folder = place::locate(&states, &git).expect("placed");
        place::claim(&folder, &git).expect("claimed");
        drop(Store::open(&folder).expect("opened"));
    }
    fs_err::remove_dir_all(r.dir.path().join("gone")).expect("removed");
    fs_err::create_dir_all(states.join("nobody-s")).expect("made");
    let all = r.json(&["status", "--all", "--json"])["repositories"].clone();
    let of = |name: &str| {
        let path = fs_err::canonicalize(r.dir.path()).expect("there").join(name).display().to_string();
        all.as_array().expect("a list").iter().find(|one| one["repository"] == path.as_str()).cloned().unwrap_or_default()
    };
    assert_eq!(all.as_array().map(Vec::len), Some(3), "{all}");
    assert_eq!(
        (&of("repo")["progress"]["merged"], &of("repo")["waiting"], &of("repo")["there"]),
        (&1.into(), &1.into(), &true.into()),
        "{all}"
    );
    assert_eq!((&of("other")["progress"]["total"], &of("gone")["there"]), (&0.into(), &false.into()), "{all}");
    assert_eq!(of("repo")["runner"]["status"], "stopped");
    let lines = r.ok(&["status", "--all"]);
    assert!(lines.contains("1 of 3 merged, 1 waits for a human") && lines.contains("the repository is gone"), "{lines}");
    // Named by a variable, from a folder that is in no repository.
    let output =
        r.command(&["status", "--json"]).current_dir(r.dir.path()).env("COFFERDAM_PROJECT_DIR", r.path()).output().expect("it runs");
    let status: Value = serde_json::from_slice(&output.stdout).expect("a document");
    assert_eq!(status["progress"]["merged"], 1);
    let lost = r.command(&["status"]).current_dir(r.dir.path()).output().expect("it runs");
    assert_eq!(lost.status.code(), Some(2), "the control");
}

#[test]
fn events_are_chosen_by_kind_and_words_and_shown_in_three_forms() {
    let r = Repository::filled();
    let lines = |args: &[&str]| -> Vec<String> { r.ok(args).lines().map(str::to_owned).collect() };
    let all = lines(&["log", "--json"]);
    assert_eq!(all, lines(&["log", "--format", "json"]));
    assert_eq!(lines(&["log", "--format", "compact"]).len(), all.len());
    let gates = lines(&["log", "--kind", "gate.finished", "--json"]);
    assert!(gates.len() == 2 && gates.iter().all(|line| line.contains("gate.finished")), "{gates:?}");
    let family = lines(&["log", "--kind", "story", "--format", "compact"]);
    assert!(family.len() > 5 && family.iter().all(|line| line.contains(" story.")), "{family:?}");
    assert_eq!(lines(&["log", "--kind", "stor"]), Vec::<String>::new(), "a family is a whole word");
    let said = |kind: &str| r.run(&["log", "--kind", kind]).err;
    assert!(said("stor").contains("did you mean `story`?") && said("gate.finnished").contains("did you mean `gate.finished`?"));
    assert_eq!(said("story") + &said("gate.") + &said("run.paused"), "", "a kind without events is one all the same");
    let found = lines(&["log", "--search", "WHICH <B>PORT", "--format", "compact"]);
    assert!(!found.is_empty() && found.iter().all(|line| line.contains("US-2")) && !found.concat().contains('\u{1b}'), "{found:?}");
    assert_eq!(lines(&["log", "--search", "nobody said this"]), Vec::<String>::new());
    let last = lines(&["log", "--kind", "gate.finished", "-n", "1", "--json"]);
    assert_eq!(last.first(), gates.last(), "the last of those that are wanted");
    assert_eq!(r.run(&["log", "--format", "json", "--json"]).code, 2);
    for part in [["--kind", "story"], ["--search", "x"], ["--format", "compact"]] {
        assert_eq!(r.run(&["log", "--verify", part[0], part[1]]).code, 2, "the whole chain holds, or it does not");
    }
}

#[test]
fn a_follower_sees_news_within_a_second_and_ends_with_its_reader() {
    let r = Repository::filled();
    let mut follower = r.command(&["log", "-f", "--json", "-n", "1"]).stdout(Stdio::piped()).spawn().expect("runs");
    let mut lines = BufReader::new(follower.stdout.take().expect("piped")).lines();
    let first: Value = serde_json::from_str(&lines.next().expect("a line").expect("text")).expect("json");
    let told = std::time::Instant::now();
    r.ok(&["note", "US-3", "hello", "there"]);
    let second: Value = serde_json::from_str(&lines.next().expect("a line").expect("text")).expect("json");
    assert!(told.elapsed() < std::time::Duration::from_secs(2), "{:?}", told.elapsed());
    assert_eq!(second["seq"].as_u64(), first["seq"].as_u64().map(|seq| seq + 1));
    assert_eq!(second["data"]["text"], "hello there");
    assert!(second["actor"].as_str().expect("actor").starts_with("human:"));
    drop(lines);
    r.ok(&["note", "US-3", "to nobody"]);
    let status = (0..50).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        follower.try_wait().expect("asked")
    });
    if status.is_none() {
        follower.kill().expect("killed");
        follower.wait().expect("gone");
    }
    assert!(status.is_some_and(|status| status.success()), "a follower without a reader ends by itself");
}

#[test]
fn commands_are_events_and_what_does_not_fit_says_what_does() {
    let r = Repository::filled();
    for (args, state) in [
        (vec!["note", "US-3", "be careful"], "pending"),
        (vec!["answer", "US-2", "8080"], "pending"),
        (vec!["cancel", "US-3", "no longer wanted"], "cancelled"),
        (vec!["retry", "US-3"], "pending"),
        (vec!["reset", "US-3", "--forget"], "pending"),
        (vec!["replan", "US-2", "another way"], "pending"),
        (vec!["backfill", "US-3", "by hand"], "backfilled"),
    ] {
        let mut args = args;
        args.push("--json");
        assert_eq!(r.json(&args)["state"], state, "{args:?}");
    }
    r.ok(&["pause", "lunch"]);
    assert_eq!(r.json(&["status", "--json"])["paused"], "lunch");
    r.ok(&["resume"]);
    assert_eq!(r.json(&["status", "--json"])["paused"], Value::Null);
    let before = r.json(&["status", "--json"])["events"].clone();
    for (args, code, next) in [
        (vec!["answer", "US-2", "again"], 1, "cofferdam note"),
        (vec!["retry", "US-1"], 1, "cofferdam revert"),
        (vec!["reject", "US-2", "bad"], 1, "cofferdam note"),
        (vec!["approve", "US-2"], 1, "cofferdam why US-2"),
        (vec!["approve", "US-1", "--commit", "zzz"], 2, "cofferdam show US-1"),
        (vec!["note", "US-2", "  "], 2, "write a sentence"),
        (vec!["note", "US-77", "x"], 2, "did you mean"),
        (vec!["backfill", "US-2", "--commit", "no-such-ref"], 2, "git log"),
    ] {
        let said = r.run(&args);
        assert_eq!(said.code, code, "{args:?}: {}", said.err);
        assert!(said.err.contains("because:") || code == 2, "{}", said.err);
        assert!(said.err.contains(next), "{args:?}: {}", said.err);
    }
    assert_eq!(r.json(&["status", "--json"])["events"], before, "what was refused left nothing");
    r.ok(&["log", "--verify"]);
}

#[test]
fn evidence_is_shown_checked_and_taken_along() {
    let r = Repository::filled();
    let list = r.json(&["evidence", "show", "US-1", "--json"]);
    let id = list["evidence"][0]["id"].as_str().expect("id").to_owned();
    assert_eq!(r.ok(&["evidence", "show", &id[..8]]), "review: all good\u{1b}[2J\n", "a pipe gets the bytes");
    assert!(r.ok(&["evidence", "verify"]).contains("1 piece"));
    let folder = r.dir.path().join("export");
    r.ok(&["evidence", "export", "US-1", folder.to_str().expect("text")]);
    let sums = Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(&folder).output().expect("sha256sum");
    assert!(sums.status.success(), "{}", String::from_utf8_lossy(&sums.stdout));
    assert_eq!(r.run(&["evidence", "export", "US-1", folder.to_str().expect("text")]).code, 1, "nothing is written over");
    let path = r.folder().join("evidence").join(&id[..2]).join(&id[2..]);
    std::fs::write(&path, b"forged").expect("forged");
    let said = r.run(&["evidence", "verify"]);
    assert!(said.code == 1 && said.err.contains("damaged") && said.err.contains("review"), "{}", said.err);
    assert_eq!(r.run(&["evidence", "show", &id]).code, 1);
    std::fs::remove_file(&path).expect("removed");
    assert!(r.run(&["evidence", "verify", "US-1"]).err.contains("not there"));
}

#[test]
fn an_export_of_a_stranger_says_nothing_to_the_terminal() {
    let r = Repository::new();
    let folder = r.dir.path().join("export");
    std::fs::create_dir(&folder).expect("made");
    for list in ["no list\u{202e}\n".to_owned(), format!("{}  a\u{202e}/b\n", "0".repeat(64))] {
        std::fs::write(folder.join("SHA256SUMS"), list).expect("written");
        let said = r.run(&["evidence", "verify", "--from", folder.to_str().expect("text")]);
        assert!(said.code == 1 && said.err.contains("SHA256SUMS") && !said.err.contains('\u{202e}'), "{}", said.err);
    }
}

#[test]
fn a_revert_that_waits_for_a_word_is_told_wherever_somebody_looks() {
    let r = Repository::filled();
    let say = |kind| Event { at: jiff::Timestamp::now(), run: None, story: "US-1".parse().ok(), actor: Actor::Runner, kind };
    let why = "the gate test is red".to_owned();
    let (candidate, base) = (commit(12), commit(9));
    let prepared = Kind::RevertPrepared { candidate, tree: tree(12), landed: base.clone(), base, why, evidence: None };
    r.store().append_one(say(prepared)).expect("prepared");
    assert!(r.ok(&["why"]).contains("the gates of its revert run"));
    assert!(r.ok(&["status", "--all"]).contains("1 waits for a human"), "nobody decides about what is not green");
    r.store().append_one(say(Kind::RevertReady { candidate: commit(12) })).expect("ready");
    assert!(r.ok(&["why"]).contains("next: cofferdam approve US-1"), "{}", r.ok(&["why"]));
    assert!(r.json(&["why", "--json"])["stories"].as_array().expect("a list").iter().any(|story| story["id"] == "US-1"));
    assert!(r.ok(&["status", "--all"]).contains("2 wait for a human"), "{}", r.ok(&["status", "--all"]));
}

#[test]
fn what_no_run_has_seen_yet_is_not_called_done() {
    let r = Repository::new();
    drop(r.store());
    assert!(r.ok(&["why"]).contains("No story is known before the first run.\n  next: cofferdam next"), "{}", r.ok(&["why"]));
    let r = Repository::filled();
    for story in ["US-2", "US-3"] {
        r.ok(&["cancel", story]);
    }
    assert!(r.ok(&["why"]).contains("every story that is known is merged") && r.ok(&["why"]).contains("next: cofferdam next"));
    let said = r.run(&["show", "written-just-now"]);
    assert!(said.code == 2 && said.err.contains("known from the next run on"), "{}", said.err);
}

#[test]
fn the_report_is_one_page_without_foreign_markup() {
    let r = Repository::filled();
    let markdown = r.ok(&["report"]);
    assert!(markdown.contains("# Report") && markdown.contains("US-2") && markdown.contains("sha256:"), "{markdown}");
    assert!(!markdown.contains("<b>") && !markdown.contains('\u{1b}'));
    let file = r.dir.path().join("report.html");
    r.ok(&["report", "--format", "html", "--output", file.to_str().expect("text")]);
    let html = std::fs::read_to_string(&file).expect("written");
    assert!(html.contains("&lt;b&gt;port") && !html.contains("<b>") && !html.contains("<script"), "{html}");
}

#[test]
fn a_moved_repository_and_a_newer_store_are_explained() {
    let r = Repository::filled();
    let moved = r.dir.path().join("moved");
    std::fs::rename(r.path(), &moved).expect("moved");
    let status = |at: &Path| r.command(&["status"]).current_dir(at).output().expect("runs");
    let said = String::from_utf8(status(&moved).stderr).expect("text");
    let command = said.lines().find_map(|line| line.split("take the state along: ").nth(1)).expect("a command to run").to_owned();
    assert!(Command::new("sh").arg("-c").arg(&command).status().expect("sh").success());
    let told = status(&moved);
    assert!(told.status.success() && String::from_utf8_lossy(&told.stdout).contains("1 of 3 merged"));
    std::fs::rename(&moved, r.path()).expect("back");

    let r = Repository::filled();
    let database = rusqlite::Connection::open(r.folder().join("events.sqlite")).expect("opened");
    database.pragma_update(None, "user_version", 99).expect("newer");
    drop(database);
    let said = r.run(&["status"]);
    assert!(said.code == 2 && said.err.contains("newer cofferdam") && said.err.contains("next:"), "{}", said.err);
}
