//! The store, on real files.

use std::ops::ControlFlow;
use std::process::Command;

use fs_err as fs;
use jiff::Timestamp;
use proptest::prelude::*;
use rusqlite::Connection;

use super::fold::View;
use super::*;
use crate::event::{Actor, Event, Kind};
use crate::story::harness::{at, commit, gated, judged, spec, tree};
use crate::story::machine_tests::{Move, accepted, any_spec};

pub(super) fn event(story: &str, second: i64, kind: Kind) -> Event {
    Event {
        at: at(second),
        run: Some(crate::base::id::RunId::new(at(0), 7)),
        story: (!story.is_empty()).then(|| story.parse().expect("id")),
        actor: Actor::Runner,
        kind,
    }
}

pub(super) fn created(story: &str) -> Event {
    event(story, 1, Kind::StoryCreated { spec: spec() })
}

pub(super) fn note(story: &str, text: &str) -> Event {
    event(story, 2, Kind::StoryNoted { text: text.to_owned() })
}

pub(super) fn all(store: &Store) -> Vec<Stored> {
    let mut events = Vec::new();
    store
        .events(&Filter::default(), |stored| {
            events.push(stored);
            ControlFlow::Continue(())
        })
        .expect("read");
    events
}

/// Everything in the caches, as text.
pub(super) fn caches(store: &Store) -> String {
    let mut text = String::new();
    for table in ["overview", "stories", "facts", "transitions", "spend", "evidence"] {
        let mut statement = store.connection.prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2")).expect(table);
        let columns = statement.column_count();
        let mut rows = statement.query([]).expect(table);
        while let Some(row) = rows.next().expect(table) {
            let values: Vec<String> =
                (0..columns).map(|i| format!("{:?}", row.get::<_, rusqlite::types::Value>(i).expect("value"))).collect();
            text.extend([table, ": ", &values.join(" | "), "\n"]);
        }
    }
    text
}

#[test]
fn what_was_acknowledged_is_there_after_a_reopening_and_the_chain_holds() {
    let dir = tempfile::tempdir().expect("dir");
    assert!(Store::open_existing(dir.path()).expect("none yet").is_none());
    let mut store = Store::open(dir.path()).expect("new");
    let appended = store
        .append(vec![created("US-1"), note("US-1", "ü \u{7f} \"quoted\" \\ \n"), event("", 3, Kind::RunResumed {})])
        .expect("appended");
    assert_eq!((appended.first, appended.last), (1, 3));
    drop(store);
    let store = Store::open_existing(dir.path()).expect("opened").expect("there");
    assert_eq!(store.verify().expect("read").map(|(count, _)| count), Ok(3));
    assert_eq!(store.stories().expect("stories")[0].phase, "pending");
    assert_eq!(store.overview().expect("overview").events, 3);
    let mode: String = store.connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).expect("mode");
    let synchronous: i64 = store.connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).expect("synchronous");
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
}

#[test]
fn anybody_can_check_the_chain_with_jq_and_sha256sum() {
    if Command::new("jq").arg("--version").output().is_err() {
        eprintln!("SKIPPED anybody_can_check_the_chain_with_jq_and_sha256sum: jq is not installed");
        return;
    }
    let dir = tempfile::tempdir().expect("dir");
    let mut store = Store::open(dir.path()).expect("new");
    store.append(vec![created("US-1"), note("US-1", "ü \"quoted\" \\ \n")]).expect("appended");
    for stored in all(&store) {
        let line = dir.path().join("line");
        fs::write(&line, stored.json()).expect("written");
        let sum = Command::new("sh")
            .arg("-c")
            .arg("jq -cS 'del(.hash)' \"$0\" | tr -d '\\n' | sha256sum | cut -d' ' -f1")
            .arg(&line)
            .output()
            .expect("sh");
        assert_eq!(String::from_utf8_lossy(&sum.stdout).trim(), stored.hash);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&stored.json()).expect("json")["hash"], stored.hash.as_str());
    }
}

#[test]
fn a_decision_is_stored_with_what_led_to_it() {
    let dir = tempfile::tempdir().expect("dir");
    let mut store = Store::open(dir.path()).expect("new");
    let kinds = [
        Kind::StoryStarted { attempt: crate::story::harness::no(1), base: commit(0) },
        Kind::AttemptStarted { attempt: crate::story::harness::no(1), task: crate::event::Task::Implement, agent: "a".to_owned() },
        crate::story::harness::ended(1, crate::event::AttemptEnd::Finished, None),
        crate::story::harness::collected(1, 1, "a", 1),
        judged(1, "checks", crate::event::Verdict::Pass, 0),
        judged(1, "review", crate::event::Verdict::Pass, 0),
    ];
    store.append_one(created("US-1")).expect("created");
    let appended = store.append(kinds.into_iter().map(|kind| event("US-1", 5, kind)).collect()).expect("appended");
    assert_eq!(appended.effects.len(), 1, "only what is still to be done: {:?}", appended.effects);
    let appended = store.append_one(event("US-1", 6, gated(1, crate::event::GateResult::Pass))).expect("appended");
    assert_eq!(appended.last, appended.first + 1);
    let last = all(&store).pop().expect("events");
    assert_eq!((last.kind.as_str(), last.actor.as_str()), ("story.ready", "runner"));
    let row = &store.stories().expect("stories")[0];
    assert_eq!(
        (row.phase.as_str(), row.commit.as_deref(), row.tree.as_deref()),
        ("ready_for_review", Some(commit(1).as_str()), Some(tree(1).as_str()))
    );
    let moves: Vec<_> = store.transitions(&"US-1".parse().expect("id")).expect("transitions").into_iter().map(|t| t.to).collect();
    assert_eq!(moves, ["pending", "implementing", "verifying", "gate_check", "ready_for_review"]);
}

#[test]
fn a_refused_event_stores_nothing_of_its_batch() {
    let dir = tempfile::tempdir().expect("dir");
    let mut store = Store::open(dir.path()).expect("new");
    store.append_one(created("US-1")).expect("created");
    let before = caches(&store);
    let error = store.append(vec![note("US-1", "kept?"), event("US-1", 3, Kind::StoryRetried {})]).expect_err("refused");
    assert!(matches!(&error, StoreError::Refused(refused) if refused.state == "pending"), "{error}");
    assert!(error.next().contains("cofferdam reset"), "{}", error.next());
    assert!(matches!(store.append_one(note("US-9", "x")), Err(StoreError::Refused(_))), "an unknown story");
    let large = store.append_one(note("US-1", &"x".repeat(300 << 10))).expect_err("too large");
    assert!(large.next().contains("evidence"));
    assert_eq!((all(&store).len(), caches(&store)), (1, before));
}

#[test]
fn events_cannot_be_changed_deleted_or_put_between() {
    let dir = tempfile::tempdir().expect("dir");
    let mut store = Store::open(dir.path()).expect("new");
    store.append(vec![created("US-1"), note("US-1", "a"), note("US-1", "b")]).expect("appended");
    let other = Connection::open(dir.path().join(DATABASE)).expect("opened");
    let row = "version, prev_hash, hash, at, run, story, kind, actor, data FROM events WHERE seq = 2";
    for sql in [
        "UPDATE events SET data = '{}' WHERE seq = 2".to_owned(),
        "DELETE FROM events WHERE seq = 3".to_owned(),
        "DELETE FROM events".to_owned(),
        format!("INSERT OR REPLACE INTO events SELECT 2, {row}"),
        format!("INSERT INTO events SELECT 9, {row}"),
        format!("INSERT INTO events SELECT 4, {row}"),
        format!("REPLACE INTO events SELECT 3, {row}"),
    ] {
        let error = other.execute(&sql, []).expect_err(&sql).to_string();
        assert!(error.contains("append-only"), "{sql}: {error}");
    }
    assert_eq!(store.verify().expect("read").map(|(count, _)| count), Ok(3));
}

#[test]
fn what_was_tampered_with_is_found_and_named() {
    let tampered = |sql: &str| {
        let dir = tempfile::tempdir().expect("dir");
        let mut store = Store::open(dir.path()).expect("new");
        store.append(vec![created("US-1"), note("US-1", "a"), note("US-1", "b"), note("US-1", "c")]).expect("appended");
        store.connection.execute_batch("DROP TRIGGER events_are_never_changed; DROP TRIGGER events_are_never_deleted;").expect("dropped");
        store.connection.execute_batch(sql).expect(sql);
        (store.verify().expect("read").expect_err(sql), dir)
    };
    let (broken, _dir) = tampered("UPDATE events SET data = '{\"text\":\"x\"}' WHERE seq = 2");
    assert!(broken.seq == 2 && broken.why.contains("changed"), "{broken}");
    let (broken, _dir) = tampered("UPDATE events SET actor = 'human:nobody' WHERE seq = 3");
    assert_eq!(broken.seq, 3);
    let (broken, dir) = tampered("DELETE FROM events WHERE seq = 2");
    assert!(broken.seq == 2 && broken.why.contains("missing"), "{broken}");
    // In the middle, the number of the last event tells nothing; at the end it does.
    drop(dir);
    let dir = tempfile::tempdir().expect("dir");
    let mut store = Store::open(dir.path()).expect("new");
    store.append(vec![created("US-1"), note("US-1", "a")]).expect("appended");
    store.connection.execute_batch("DROP TRIGGER events_are_never_deleted; DELETE FROM events WHERE seq = 2;").expect("cut");
    drop(store);
    let error = Store::open(dir.path()).expect_err("cut off");
    assert!(matches!(&error, StoreError::Damaged { detail, .. } if detail.contains("ends at event 1")), "{error}");
}

#[test]
fn a_store_of_a_newer_version_or_of_somebody_else_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    drop(Store::open(dir.path()).expect("new"));
    let other = Connection::open(dir.path().join(DATABASE)).expect("opened");
    other.pragma_update(None, "user_version", 7).expect("pragma");
    drop(other);
    let error = Store::open(dir.path()).expect_err("newer");
    assert!(error.to_string().contains("format 7") && error.next().contains("that version"), "{error}");

    let dir = tempfile::tempdir().expect("dir");
    Connection::open(dir.path().join(DATABASE)).expect("opened").execute_batch("CREATE TABLE t (a)").expect("theirs");
    assert!(matches!(Store::open(dir.path()), Err(StoreError::NotOurs { .. })));
    let dir = tempfile::tempdir().expect("dir");
    fs::write(dir.path().join(DATABASE), "this is a letter, not a database, and quite long enough to be looked at".repeat(20))
        .expect("written");
    let error = Store::open(dir.path()).expect_err("a letter");
    assert!(matches!(error, StoreError::NotOurs { .. }), "{error}");
}

#[test]
fn a_kind_of_a_future_version_is_kept_and_folded_over() {
    let dir = tempfile::tempdir().expect("dir");
    let mut store = Store::open(dir.path()).expect("new");
    store.append_one(created("US-1")).expect("created");
    let data = serde_json::json!({"engine": {"warp": 9}});
    store.append_one(event("US-1", 3, Kind::Unknown { kind: "warp.engaged".to_owned(), data: data.clone() })).expect("kept");
    store.rebuild().expect("folded over");
    let last = all(&store).pop().expect("events");
    assert_eq!((last.kind.as_str(), last.event().expect("read").kind.data()), ("warp.engaged", data));
    assert!(store.verify().expect("read").is_ok());
}

#[test]
fn readers_never_block_the_writer_nor_the_writer_readers() {
    let dir = tempfile::tempdir().expect("dir");
    let mut writer = Store::open(dir.path()).expect("new");
    writer.append_one(created("US-1")).expect("created");
    let reader = Store::open_existing(dir.path()).expect("opened").expect("there");
    reader.connection.execute_batch("BEGIN").expect("begin");
    assert_eq!(reader.overview().expect("overview").events, 1);
    let begun = std::time::Instant::now();
    for n in 0..20 {
        writer.append_one(note("US-1", &n.to_string())).expect("not blocked");
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    assert_eq!(reader.overview().expect("overview").events, 1, "a reader sees one moment");
    reader.connection.execute_batch("COMMIT; BEGIN IMMEDIATE").expect("the reader writes now");
    assert_eq!(Store::open_existing(dir.path()).expect("opened").expect("there").overview().expect("overview").events, 21);
    reader.connection.execute_batch("ROLLBACK").expect("done");
}

#[test]
fn several_writers_share_one_chain() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            scope.spawn(move || {
                // Also the making of the store is raced for.
                let mut store = Store::open(path).expect("opened");
                let id = format!("US-{writer}");
                store.append_one(created(&id)).expect("created");
                for n in 0..25 {
                    store.append_one(note(&id, &n.to_string())).expect("appended");
                }
            });
        }
    });
    let mut store = Store::open(path).expect("opened");
    assert_eq!(store.verify().expect("read").map(|(count, _)| count), Ok(104));
    let before = caches(&store);
    store.rebuild().expect("rebuilt");
    assert_eq!(caches(&store), before);
}

#[test]
fn steps_between_formats_are_taken_once_each() {
    let dir = tempfile::tempdir().expect("dir");
    let mut store = Store::open(dir.path()).expect("new");
    store.append_one(created("US-1")).expect("created");
    let steps =
        ["never taken: this store is past it", "CREATE TABLE extra (a); INSERT INTO extra VALUES (1);", "INSERT INTO extra VALUES (2);"];
    store.migrate(&steps).expect("migrated");
    store.migrate(&steps).expect("nothing is left to do");
    let sum: i64 = store.connection.query_row("SELECT SUM(a) FROM extra", [], |row| row.get(0)).expect("extra");
    let version: i64 = store.connection.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("version");
    assert_eq!((sum, version), (3, 3));
    let broken = ["", "", "", "INSERT INTO extra VALUES (3); this is no SQL"];
    assert!(store.migrate(&broken).is_err());
    let sum: i64 = store.connection.query_row("SELECT SUM(a) FROM extra", [], |row| row.get(0)).expect("extra");
    assert_eq!(sum, 3, "a step that fails leaves nothing");
}

/// The event kinds of format 1, one of each, in a store as version 0.1 wrote it. Made once, by this test with COFFERDAM_WRITE_FIXTURE=1.
#[test]
fn a_store_of_format_1_still_opens_and_says_the_same() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/formats/v1");
    let dir = tempfile::tempdir().expect("dir");
    if std::env::var_os("COFFERDAM_WRITE_FIXTURE").is_some() {
        write_fixture(Path::new(fixture));
    }
    fs::copy(format!("{fixture}/{DATABASE}"), dir.path().join(DATABASE)).expect("copied");
    let mut store = Store::open(dir.path()).expect("opened");
    assert!(store.verify().expect("read").is_ok());
    let lines: Vec<String> = all(&store).iter().map(Stored::json).collect();
    let expected = fs::read_to_string(format!("{fixture}/log.jsonl")).expect("log.jsonl");
    assert_eq!(lines, expected.lines().collect::<Vec<_>>());
    for stored in all(&store) {
        assert!(!matches!(stored.event().expect("readable").kind, Kind::Unknown { .. }), "{} was a kind of format 1", stored.kind);
    }
    store.rebuild().expect("folded");
    let phases: Vec<String> = store.stories().expect("stories").into_iter().map(|row| format!("{} {}", row.id, row.phase)).collect();
    assert_eq!(phases, ["US-1 merged", "US-2 blocked", "US-3 pending"]);
}

fn write_fixture(folder: &Path) {
    use crate::story::harness::{built, collected, ended, landed, no};
    fs::create_dir_all(folder).expect("made");
    let dir = tempfile::tempdir().expect("dir");
    let mut store = Store::open(dir.path()).expect("new");
    let good = vec![
        Kind::StoryCreated { spec: spec() },
        Kind::StoryStarted { attempt: no(1), base: commit(0) },
        Kind::AttemptStarted { attempt: no(1), task: crate::event::Task::Implement, agent: "command".to_owned() },
        ended(1, crate::event::AttemptEnd::Finished, None),
        collected(1, 1, "a", 1),
        judged(1, "checks", crate::event::Verdict::Pass, 0),
        judged(1, "review", crate::event::Verdict::Pass, 0),
        gated(1, crate::event::GateResult::Pass),
        Kind::StoryQueued { commit: commit(1) },
        built(9, 1),
        gated(9, crate::event::GateResult::Pass),
        landed(9, 1),
    ];
    store.append(good.into_iter().map(|kind| event("US-1", 10, kind)).collect()).expect("good");
    let asked = Kind::AttemptEnded {
        attempt: no(1),
        end: crate::event::AttemptEnd::Finished,
        summary: None,
        question: Some("which port?".to_owned()),
        transcript: None,
        wall_ms: 7,
    };
    let start = Kind::AttemptStarted { attempt: no(1), task: crate::event::Task::Implement, agent: "command".to_owned() };
    let blocked = [Kind::StoryCreated { spec: spec() }, Kind::StoryStarted { attempt: no(1), base: commit(0) }, start, asked];
    store.append(blocked.into_iter().map(|kind| event("US-2", 20, kind)).collect()).expect("asked");
    store.append_one(created("US-3")).expect("created");
    // One of every kind, as far as it is accepted where it stands: readers of the format must know them all.
    for kind in crate::event::tests::samples() {
        let stories = ["", "US-3"];
        if !matches!(
            kind.name(),
            "story.blocked"
                | "story.escalated"
                | "story.stagnated"
                | "story.backfilled"
                | "story.cancelled"
                | "story.started"
                | "story.removed"
        ) {
            drop(stories.into_iter().find_map(|story| store.append_one(event(story, 30, kind.clone())).ok()));
        }
    }
    let lines: Vec<String> = all(&store).iter().map(Stored::json).collect();
    store.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("one file");
    drop(store);
    fs::copy(dir.path().join(DATABASE), folder.join(DATABASE)).expect("copied");
    fs::write(folder.join("log.jsonl"), lines.join("\n") + "\n").expect("written");
}

#[test]
fn evidence_is_what_its_name_says_or_an_error() {
    let dir = tempfile::tempdir().expect("dir");
    let store = Store::open(dir.path()).expect("new");
    let evidence = store.evidence();
    let id = evidence.put(b"transcript").expect("kept");
    assert_eq!(evidence.put(b"transcript").expect("kept once"), id);
    assert_eq!((evidence.read(&id).expect("whole"), evidence.verify(&id).expect("whole")), (b"transcript".to_vec(), 10));
    let sum = Command::new("sha256sum").arg(evidence.path(&id)).output().expect("sha256sum");
    assert!(String::from_utf8_lossy(&sum.stdout).starts_with(id.as_str()), "anyone can check it");
    fs::write(evidence.path(&id), b"transcri").expect("torn");
    assert!(matches!(evidence.read(&id), Err(evidence::EvidenceError::Damaged { .. })));
    assert!(matches!(evidence.verify(&id), Err(evidence::EvidenceError::Damaged { .. })));
    assert_eq!(evidence.put(b"transcript").expect("mended"), id);
    assert_eq!(evidence.read(&id).expect("whole again"), b"transcript");
    let other = crate::base::id::EvidenceId::of(b"never written");
    assert!(matches!(evidence.read(&other), Err(evidence::EvidenceError::Missing { .. })));
    fs::write(dir.path().join("evidence/.new-left"), b"half").expect("left by a killed writer");
    assert_eq!((evidence.sweep().expect("swept"), evidence.sweep().expect("swept")), (1, 0));
    assert!(evidence.read(&id).is_ok());
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(dir.path().join("evidence")).expect("there"));
    assert_eq!(mode & 0o777, 0o700, "transcripts are nobody else's business");
}

/// A log of several stories and of the run, from the hostile world.
fn any_log() -> impl Strategy<Value = Vec<Event>> {
    let story = (any_spec(), prop::collection::vec(any::<Move>(), 0..50)).prop_map(|(spec, moves)| accepted(spec, &moves));
    (prop::collection::vec(story, 1..4), any::<u64>()).prop_map(|(stories, seed)| {
        let mut queues: Vec<std::collections::VecDeque<Event>> = stories
            .into_iter()
            .enumerate()
            .map(|(n, kinds)| kinds.into_iter().enumerate().map(|(second, kind)| event(&format!("US-{n}"), second as i64, kind)).collect())
            .collect();
        let run = crate::event::tests::samples().into_iter().filter(|kind| !kind.name().starts_with("story."));
        queues.push(run.map(|kind| event("", 1, kind)).collect());
        // Interleaved, each queue in its own order.
        let (mut log, mut state) = (Vec::new(), seed);
        while queues.iter().any(|queue| !queue.is_empty()) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let index = (state >> 33) as usize % queues.len();
            log.extend(queues[index].pop_front());
        }
        log
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn fold_of_all_is_fold_of_a_prefix_and_then_of_the_rest(log in any_log(), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(log.len() + 1);
        let mut whole = View::default();
        log.iter().for_each(|event| drop(whole.replay(event)));
        let mut parts = View::default();
        log[..cut].iter().for_each(|event| drop(parts.replay(event)));
        // Put down and taken up again, as the database does.
        let mut resumed = View {
            overview: serde_json::from_str(&serde_json::to_string(&parts.overview).expect("json")).expect("json"),
            stories: serde_json::from_str(&serde_json::to_string(&parts.stories).expect("json")).expect("json"),
            spend: parts.spend.clone(),
        };
        log[cut..].iter().for_each(|event| drop(resumed.replay(event)));
        prop_assert_eq!(resumed, whole);
    }

    #[test]
    fn the_caches_are_what_a_fold_of_the_log_gives(log in any_log(), sizes in prop::collection::vec(1_usize..30, 1..8)) {
        let dir = tempfile::tempdir().expect("dir");
        let mut store = Store::open(dir.path()).expect("new");
        store.connection.execute_batch("PRAGMA synchronous = OFF").expect("fast");
        let (mut rest, mut turn) = (&log[..], 0);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(sizes[turn % sizes.len()].min(rest.len()));
            (rest, turn) = (later, turn + 1);
            // A story that another event of the batch ended refuses what came after: then one by one.
            if store.append(now.to_vec()).is_err() {
                now.iter().for_each(|event| drop(store.append_one(event.clone())));
            }
        }
        prop_assert!(store.verify().expect("read").is_ok());
        let before = caches(&store);
        store.rebuild().expect("rebuilt");
        prop_assert_eq!(caches(&store), before);
        // What was read from the disk and folded in memory is the same once more.
        let mut view = View::default();
        all(&store).iter().for_each(|stored| drop(view.replay(&stored.event().expect("readable"))));
        let facts: Vec<_> = store.all_facts().expect("facts");
        prop_assert_eq!(view.stories.into_values().collect::<Vec<_>>().len(), facts.len());
        prop_assert_eq!(view.overview.tallies, store.overview().expect("overview").tallies);
    }
}

#[test]
fn times_are_stored_as_they_decide() {
    let dir = tempfile::tempdir().expect("dir");
    let mut store = Store::open(dir.path()).expect("new");
    let mut fine = created("US-1");
    fine.at = Timestamp::from_nanosecond(1_790_000_000_123_456_789).expect("in range");
    store.append_one(fine).expect("created");
    assert_eq!(all(&store)[0].at, "2026-09-21T14:13:20.123Z");
}
