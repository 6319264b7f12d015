//! The store, with real files, real processes and real disks that are full.

use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::process::{Command, Stdio};

use fs_err as fs;
use jiff::Timestamp;
use proptest::prelude::*;
use rusqlite::Connection;

use super::fold::View;
use super::*;
use crate::event::{Actor, Amount, Event, Kind};
use crate::story::machine_tests::{Move, accepted, any_spec};
use crate::story::tests::{at, commit, gated, judged, spec, tree};

pub(crate) fn event(story: &str, second: i64, kind: Kind) -> Event {
    Event {
        at: at(second),
        run: Some(crate::base::id::RunId::new(at(0), 7)),
        story: (!story.is_empty()).then(|| story.parse().expect("id")),
        actor: Actor::Runner,
        kind,
    }
}

fn created(story: &str) -> Event {
    event(story, 1, Kind::StoryCreated { spec: spec() })
}

fn note(story: &str, text: &str) -> Event {
    event(story, 2, Kind::StoryNoted { text: text.to_owned() })
}

fn all(store: &Store) -> Vec<Stored> {
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
fn caches(store: &Store) -> String {
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
        Kind::StoryStarted { attempt: crate::story::tests::no(1), base: commit(0) },
        Kind::AttemptStarted { attempt: crate::story::tests::no(1), task: crate::event::Task::Implement, agent: "a".to_owned() },
        crate::story::tests::ended(1, crate::event::AttemptEnd::Finished, None),
        crate::story::tests::collected(1, 1, "a", 1),
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
    let (broken, _dir) = tampered("UPDATE events SET actor = 'human:eve' WHERE seq = 3");
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
fn a_torn_database_is_an_error_and_never_a_panic() {
    let dir = tempfile::tempdir().expect("dir");
    let mut store = Store::open(dir.path()).expect("new");
    store.append_one(created("US-1")).expect("created");
    store.append((0..200).map(|n| note("US-1", &format!("{n} {}", "x".repeat(300)))).collect()).expect("appended");
    drop(store);
    let whole = fs::read(dir.path().join(DATABASE)).expect("read");
    let mut noticed = 0;
    for cut in [whole.len() / 2, whole.len() - 4096, 5000, 100] {
        fs::write(dir.path().join(DATABASE), &whole[..cut]).expect("torn");
        let result = Store::open(dir.path()).and_then(|store| store.verify());
        noticed += u32::from(!matches!(result, Ok(Ok((201, _)))));
    }
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut bytes = whole.clone();
        bytes[at..(at + 64).min(whole.len())].fill(0xa5);
        fs::write(dir.path().join(DATABASE), &bytes).expect("overwritten");
        drop(Store::open(dir.path()).and_then(|mut store| store.verify().and_then(|_| store.rebuild())));
    }
    assert_eq!(noticed, 4, "a torn file is never taken for a whole one");
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
fn a_deleted_state_folder_is_noticed_before_anything_is_lost() {
    let dir = tempfile::tempdir().expect("dir");
    let folder = dir.path().join("state");
    let mut store = Store::open(&folder).expect("new");
    store.append_one(created("US-1")).expect("created");
    fs::remove_dir_all(&folder).expect("removed");
    let error = store.append_one(note("US-1", "lost?")).expect_err("gone");
    assert!(matches!(error, StoreError::Vanished { .. }), "{error}");
    let mut other = Store::open(&folder).expect("another one in its place");
    assert!(matches!(store.append_one(note("US-1", "x")), Err(StoreError::Vanished { .. })));
    other.append_one(created("US-1")).expect("the new one works");
}

#[test]
fn a_limit_of_pages_is_a_full_disk_and_leaves_all_as_it_was() {
    let dir = tempfile::tempdir().expect("dir");
    let mut store = Store::open(dir.path()).expect("new");
    store.append_one(created("US-1")).expect("created");
    let pages: i64 = store.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("pages");
    store.connection.query_row(&format!("PRAGMA max_page_count = {}", pages + 20), [], |row| row.get::<_, i64>(0)).expect("limit");
    let mut count = 1;
    let error = loop {
        match store.append_one(note("US-1", &"x".repeat(5_000))) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    assert_eq!(all(&store).len(), count);
    store.connection.query_row("PRAGMA max_page_count = 100000", [], |row| row.get::<_, i64>(0)).expect("space");
    store.append_one(note("US-1", "again")).expect("it goes on");
    assert_eq!(store.verify().expect("read").map(|(n, _)| n), Ok(count as u64 + 1));
}

/// Runs one test of this binary as a process of its own.
fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command
}

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let mut inner = child("store::tests::full_disk_child");
    inner.env("COFFERDAM_TEST_FULL_DISK", dir.path());
    let program: Vec<_> = std::iter::once(inner.get_program()).chain(inner.get_args()).map(ToOwned::to_owned).collect();
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--",
        "sh",
        "-c",
        "mount -t tmpfs -o size=600k none \"$COFFERDAM_TEST_FULL_DISK\" || exit 77; exec \"$@\"",
        "sh",
    ]);
    let output = command.args(program).env("COFFERDAM_TEST_FULL_DISK", dir.path()).output().expect("unshare");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(77) || said.contains("unshare failed") {
        eprintln!("SKIPPED a_full_disk_is_told_and_loses_nothing: a tmpfs cannot be mounted here: {said}");
        return;
    }
    assert!(output.status.success() && said.contains("FULL AND WHOLE"), "{said}");
}

#[test]
fn full_disk_child() {
    let Some(dir) = std::env::var_os("COFFERDAM_TEST_FULL_DISK") else { return };
    let dir = PathBuf::from(dir);
    let mut store = Store::open(&dir).expect("new");
    store.append_one(created("US-1")).expect("created");
    let evidence = store.evidence();
    let kept = evidence.put(b"small").expect("kept");
    let mut count = 1;
    let error = loop {
        match store.append_one(note("US-1", &"x".repeat(9_000))) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
    assert!(error.next().contains("free some space"));
    assert!(evidence.put(&vec![7; 300 << 10]).is_err(), "no room for evidence either");
    assert_eq!(fs::read_dir(dir.join("evidence")).expect("listed").count(), 1, "nothing half is left");
    assert_eq!(evidence.read(&kept).expect("still there"), b"small");
    // A reader still reads, and the writer goes on when there is room again.
    assert_eq!(store.verify().expect("read").map(|(n, _)| n), Ok(count));
    let status = Command::new("mount").args(["-o", "remount,size=20m"]).arg(&dir).status().expect("mount");
    assert!(status.success());
    store.append_one(note("US-1", "again")).expect("it goes on");
    drop(store);
    assert_eq!(Store::open(&dir).expect("opened").verify().expect("read").map(|(n, _)| n), Ok(count + 1));
    println!("FULL AND WHOLE after {count} events");
}

#[test]
fn a_writer_that_is_killed_loses_nothing_it_acknowledged() {
    let dir = tempfile::tempdir().expect("dir");
    let mut acknowledged = 0;
    for round in 0..6 {
        let mut writer = child("store::tests::killed_writer_child")
            .env("COFFERDAM_TEST_KILLED", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("spawned");
        let lines = BufReader::new(writer.stdout.take().expect("piped")).lines();
        // Each round is killed after another number of acknowledgements, at whatever the writer does just then.
        let numbers = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("ACK ").and_then(|n| n.parse::<u64>().ok()));
        acknowledged = numbers.take(3 + round * 7).last().expect("something was acknowledged");
        writer.kill().expect("killed");
        writer.wait().expect("gone");
        let mut store = Store::open(dir.path()).expect("opened");
        let (count, _) = store.verify().expect("read").expect("the chain holds");
        assert!(count >= acknowledged, "{acknowledged} were acknowledged, {count} are there");
        let before = caches(&store);
        store.rebuild().expect("rebuilt");
        assert_eq!(caches(&store), before, "the caches are of the same moment as the log");
    }
    assert!(acknowledged > 50);
}

#[test]
fn killed_writer_child() {
    let Some(dir) = std::env::var_os("COFFERDAM_TEST_KILLED") else { return };
    let mut store = Store::open(Path::new(&dir)).expect("opened");
    if store.stories().expect("stories").is_empty() {
        store.append_one(created("US-1")).expect("created");
    }
    for n in 0_u64.. {
        let spent = Kind::BudgetSpent { role: "r".to_owned(), model: None, amount: Amount { model_calls: 1, ..Amount::default() } };
        let appended = store.append(vec![note("US-1", &n.to_string()), event("US-1", 3, spent)]).expect("appended");
        println!("ACK {}", appended.last);
    }
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
    use crate::story::tests::{built, collected, ended, landed, no};
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
