//! Broken on purpose: killed writers, full disks, torn files, deleted folders. Real processes and real disks.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use fs_err as fs;
use jiff::Timestamp;

use super::tests::{all, caches, created, event, note};
use super::*;
use crate::event::{Amount, Kind};
use crate::story::harness::at;

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
    let mut inner = child("store::crash_tests::full_disk_child");
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
        let mut writer = child("store::crash_tests::killed_writer_child")
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
fn the_lock_dies_with_a_runner_that_is_killed() {
    let dir = tempfile::tempdir().expect("dir");
    let mut holder =
        child("store::crash_tests::lock_child").env("COFFERDAM_TEST_LOCK", dir.path()).stdout(Stdio::piped()).spawn().expect("spawned");
    let mut lines = BufReader::new(holder.stdout.take().expect("piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("HELD")), "it took the lock");
    let error = lock::RunnerLock::take(dir.path(), at(0)).expect_err("held").to_string();
    assert!(error.contains(&format!("process {}", holder.id())), "{error}");
    assert_eq!(health::runner(dir.path(), Timestamp::now()).expect("read").pid, Some(holder.id()));
    holder.kill().expect("killed");
    holder.wait().expect("gone");
    lock::RunnerLock::take(dir.path(), at(0)).expect("free again");
}

#[test]
fn lock_child() {
    let Some(dir) = std::env::var_os("COFFERDAM_TEST_LOCK") else { return };
    let _lock = lock::RunnerLock::take(Path::new(&dir), Timestamp::now()).expect("free");
    println!("HELD");
    // Longer than the test takes; the test ends this process.
    std::thread::sleep(std::time::Duration::from_secs(60));
}
