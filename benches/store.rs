//! How long the store takes when it is large: 10 000 stories, 1 000 000 events. Prints figures, and fails when a promise is broken.
//!
//! `cargo bench --bench store` · fewer events: `COFFERDAM_BENCH_EVENTS=100000 cargo bench --bench store`
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cofferdam::base::id::{AttemptNo, CommitId, PatchId, StoryId, TreeId};
use cofferdam::event::{
    Actor, Amount, AttemptEnd, ContractMode, Criterion, Event, GateResult, Kind, Landing, Limits, Rules, StorySpec, Task, Verdict,
};
use cofferdam::store::{Filter, Store};

const STORIES: u32 = 10_000;
/// A batch of the filling; the one-by-one figures are measured apart.
const BATCH: usize = 5_000;
/// `status` with a million events.
const STATUS_PROMISE: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let wanted = std::env::var("COFFERDAM_BENCH_EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let dir = tempfile::tempdir().expect("a folder for the bench");
    let mut store = Store::open(dir.path()).expect("a new store");
    let small = fill(&mut store, 20_000);
    let early = figures(&store);
    let begun = Instant::now();
    let count = small + fill_rest(&mut store, small, wanted);
    let rate = (count - small) as f64 / begun.elapsed().as_secs_f64();
    let late = figures(&store);
    println!("filled in batches of {BATCH}: {rate:.0} events a second");
    println!("{:<44} {:>12} {:>12} {:>8}", "", format!("{small} events"), format!("{count} events"), "ratio");
    for ((name, before), (_, after)) in early.iter().zip(&late) {
        println!("{name:<44} {before:>12.1?} {after:>12.1?} {:>8.2}", after.as_secs_f64() / before.as_secs_f64());
    }
    let status = fresh_status(dir.path());
    println!("status in a fresh process, open and read: {status:.1?} (median of 20; promise: {STATUS_PROMISE:?})");
    println!("one event, acknowledged on the disk: {:.1?} (median of 50)", single(&mut store));
    let begun = Instant::now();
    let held = store.verify().expect("read").expect("the chain holds").0;
    println!("the chain verified: {:.1?} for {held} events", begun.elapsed());
    let begun = Instant::now();
    store.rebuild().expect("rebuilt");
    println!("all views made anew: {:.1?}", begun.elapsed());
    println!("peak memory: {} MiB", peak_memory_mib());
    if status < STATUS_PROMISE { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What `cofferdam status` does, with nothing in this process's memory.
fn fresh_status(folder: &std::path::Path) -> Duration {
    median(20, || {
        let opened = Store::open_existing(folder).expect("opened").expect("there");
        opened.overview().expect("overview");
        assert_eq!(opened.stories().expect("stories").len(), STORIES as usize);
    })
}

fn figures(store: &Store) -> Vec<(&'static str, Duration)> {
    let id: StoryId = "US-77".parse().expect("id");
    let last = store.overview().expect("overview").events;
    let log = |filter: Filter| {
        let mut count = 0_u64;
        store
            .events(&filter, |_| {
                count += 1;
                ControlFlow::Continue(())
            })
            .expect("read");
        assert!(count > 0);
    };
    vec![
        (
            "status: overview and 10 000 stories",
            median(20, || {
                store.overview().expect("overview");
                store.stories().expect("stories");
            }),
        ),
        ("log --since: the last 100 events", median(50, || log(Filter { since: last - 100, ..Filter::default() }))),
        ("log -n 100", median(50, || log(Filter { last: Some(100), ..Filter::default() }))),
        ("log of one story, its last 50", median(50, || log(Filter { story: Some(id.clone()), last: Some(50), ..Filter::default() }))),
        ("show: the facts of one story", median(50, || drop(store.story(&id).expect("read").expect("there")))),
    ]
}

fn median(times: usize, mut run: impl FnMut()) -> Duration {
    let mut taken: Vec<Duration> = (0..times)
        .map(|_| {
            let begun = Instant::now();
            run();
            begun.elapsed()
        })
        .collect();
    taken.sort();
    taken[times / 2]
}

fn single(store: &mut Store) -> Duration {
    let mut number = 0;
    median(50, || {
        number += 1;
        store.append_one(event(Some(number), noise(number))).expect("appended");
    })
}

/// All stories, and the first events.
fn fill(store: &mut Store, events: u64) -> u64 {
    let created: Vec<Event> = (0..STORIES).map(|n| event(Some(n), Kind::StoryCreated { spec: spec(n) })).collect();
    store.append(created).expect("created");
    u64::from(STORIES) + fill_rest(store, u64::from(STORIES), events)
}

fn fill_rest(store: &mut Store, from: u64, until: u64) -> u64 {
    let mut number = from;
    while number < until {
        let batch: Vec<Event> = (0..BATCH)
            .map(|_| {
                number += 1;
                let n = u32::try_from((number - 1) % u64::from(STORIES)).expect("small");
                event(Some(n), life(n, number))
            })
            .collect();
        store.append(batch).expect("appended");
    }
    number - from
}

/// The first rounds move every story through its life; what follows is what makes logs long.
fn life(n: u32, number: u64) -> Kind {
    let attempt = AttemptNo::FIRST;
    match (number - 1) / u64::from(STORIES) {
        1 => Kind::StoryStarted { attempt, base: commit(0) },
        2 => Kind::AttemptStarted { attempt, task: Task::Implement, agent: "command".to_owned() },
        3 => Kind::AttemptEnded { attempt, end: AttemptEnd::Finished, summary: None, question: None, transcript: None, wall_ms: 1 },
        4 => Kind::ChangeCollected {
            attempt,
            commit: commit(n + 1),
            tree: tree(n + 1),
            base: commit(0),
            reference: format!("refs/cofferdam/stories/US-{n}/1"),
            patch: PatchId::of(&n.to_le_bytes()),
            files: 3,
            findings: Vec::new(),
        },
        5 => Kind::EvaluatorFinished {
            evaluator: "checks".to_owned(),
            commit: commit(n + 1),
            tree: tree(n + 1),
            proof: "p".to_owned(),
            verdict: Verdict::Pass,
            problems: 0,
            criteria: Vec::new(),
            findings: Vec::new(),
            evidence: Vec::new(),
            cached: false,
            wall_ms: 1,
        },
        6 => Kind::GateFinished {
            gate: "test".to_owned(),
            commit: commit(n + 1),
            tree: tree(n + 1),
            result: GateResult::Pass,
            flaky: false,
            problems: 0,
            detail: None,
            evidence: Vec::new(),
            cached: false,
            wall_ms: 1,
        },
        _ => noise(u32::try_from(number % 1_000_000).expect("small")),
    }
}

fn noise(number: u32) -> Kind {
    if number.is_multiple_of(2) {
        Kind::NetworkDenied {
            role: "implementer".to_owned(),
            target: "example.org:443".to_owned(),
            rule: "network = none".to_owned(),
            count: 1,
        }
    } else {
        let amount = Amount { model_calls: 1, tokens_in: 1_000, tokens_out: 100, cost_microusd: 10, wall_ms: 5 };
        Kind::BudgetSpent { role: "implementer".to_owned(), model: Some("m".to_owned()), amount }
    }
}

fn event(story: Option<u32>, kind: Kind) -> Event {
    let story = story.map(|n| format!("US-{n}").parse().expect("id"));
    Event { at: jiff::Timestamp::now(), run: None, story, actor: Actor::Runner, kind }
}

fn commit(n: u32) -> CommitId {
    format!("{n:040x}").parse().expect("id")
}

fn tree(n: u32) -> TreeId {
    format!("{n:040x}").parse().expect("id")
}

fn spec(n: u32) -> StorySpec {
    StorySpec {
        title: format!("Story number {n} of a long plan"),
        epic: Some(format!("epic {}", n % 20)),
        ordinal: n,
        after: Vec::new(),
        wired_with: Vec::new(),
        criteria: (1..4)
            .map(|c| Criterion { id: format!("AC-{c}"), text: "a sentence of an ordinary length about what must be so".to_owned() })
            .collect(),
        proof: "p".to_owned(),
        automatable: true,
        rules: Rules {
            contract: ContractMode::Off,
            evaluators: vec!["checks".to_owned()],
            gates: vec!["test".to_owned()],
            candidate_gates: Vec::new(),
            diagnose: false,
            propose: false,
            landing: Landing::Queue,
            limits: Limits::default(),
        },
    }
}

/// The high-water mark that the kernel keeps.
fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok()).map_or(0, |kib| kib / 1024)
}
