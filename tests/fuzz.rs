//! Bytes that agents write, thrown at everything that reads them: recorded transcripts and answers, bent in every way that is cheap.
//!
//! Each target runs for a second or two; `COFFERDAM_FUZZ=600 cargo test --release --test fuzz` gives each ten minutes. What breaks a reader is
//! kept in `fixtures/fuzz/TARGET/`, and is tried first from then on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cofferdam::agents::answers;
use cofferdam::agents::ask::{Hearing, Pass, Said};
use cofferdam::agents::protocol::{Format, Reader, Session};
use cofferdam::config::{ReportFormat, Role};
use cofferdam::report;
use cofferdam::store::Stored;
use cofferdam::store::audit::audit;
use cofferdam::story::manifest::Manifest;
use cofferdam::verify::code::{self, Language, cases::cases};
use cofferdam::verify::verdict::{self, Decision};

const LANGUAGES: [Language; 7] =
    [Language::Rust, Language::Python, Language::JavaScript, Language::Go, Language::Java, Language::C, Language::Hash];
/// A longer input shows nothing that a shorter one does not.
const LONGEST: usize = 64 << 10;

fn fixtures(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(folder)
}

/// All files below a folder, in a stable order.
fn files(folder: &Path) -> Vec<Vec<u8>> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs_err::read_dir(&path).expect("a folder").flatten().map(|entry| entry.path()));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    found.iter().map(|path| fs_err::read(path).expect("a file")).collect()
}

/// Numbers that look random and are the same each time: a failure can be had again.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).expect("small")).expect("small")
    }
}

/// Words that readers treat in a way of their own.
const WORDS: &[&[u8]] = &[
    b"\0",
    b"\n",
    b"\r\n",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e400",
    b"18446744073709551616",
    b"\xff\xfe",
    b"\xf0\x9f\x8e\x89",
    b"\xe2\x80\xae",
    b"\x1b[2J",
    b"```",
    b"```json\n",
    b"/*",
    b"*/",
    b"#",
    b"//",
    b"'''",
    b"\"\"\"",
    b"r#\"",
    b"${",
    b"`",
    b"\"decision\":\"pass\"",
    b"\"result\":\"pass\"",
    b"\"type\":\"result\"",
    b"\"usage\":{\"input_tokens\":99999999999999999999}",
    b"rate limit",
    b"try again in 99999999999h",
    b"<testcase",
    b"</testsuite>",
    b"ok 1 - x",
    b"1..999999999999",
    b"test result: ok. ",
    b" passed",
    b"\"\\ud800\"",
];

/// One input, bent a few times.
fn bend(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = corpus.get(dice.below(corpus.len())).cloned().unwrap_or_default();
    for _ in 0..=dice.below(6) {
        let (at, length) = (dice.below(bytes.len() + 1), dice.below(64));
        let end = (at + length).min(bytes.len());
        match dice.below(9) {
            0 if !bytes.is_empty() => {
                let at = at.min(bytes.len() - 1);
                bytes[at] ^= 1 << dice.below(8);
            }
            1 => drop(bytes.splice(at..at, [dice.next().to_le_bytes()[0]])),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => {
                let copy = bytes[at..end].to_vec();
                let times = 1 + dice.below(40);
                drop(bytes.splice(at..at, copy.iter().copied().cycle().take(copy.len() * times)));
            }
            5 | 6 => drop(bytes.splice(at..end.min(at + dice.below(4)), WORDS[dice.below(WORDS.len())].iter().copied())),
            7 => {
                let other = &corpus[dice.below(corpus.len())];
                let from = dice.below(other.len() + 1);
                drop(bytes.splice(at..end, other[from..(from + dice.below(400)).min(other.len())].iter().copied()));
            }
            _ => {
                let word = WORDS[dice.below(WORDS.len())];
                drop(bytes.splice(at..at, word.iter().copied().cycle().take(word.len() * (1 + dice.below(300)))));
            }
        }
        bytes.truncate(LONGEST);
    }
    bytes
}

/// Throws bent inputs at a reader until the time is over. What breaks it is kept, and named.
fn throw(target: &str, seeds: Vec<Vec<u8>>, read: impl Fn(&[u8])) {
    let folder = fixtures("fuzz").join(target);
    let mut corpus = if folder.is_dir() { files(&folder) } else { Vec::new() };
    let known = corpus.len();
    corpus.extend(seeds);
    assert!(corpus.len() > known, "{target} has nothing to begin with");
    let try_one = |bytes: &[u8]| {
        if catch_unwind(AssertUnwindSafe(|| read(bytes))).is_err() {
            fs_err::create_dir_all(&folder).expect("a folder");
            let name = folder.join(cofferdam::base::id::EvidenceId::of(bytes).short());
            fs_err::write(&name, bytes).expect("written");
            panic!("{target} breaks on {} ({} bytes)", name.display(), bytes.len());
        }
    };
    corpus.iter().for_each(|bytes| try_one(bytes));
    let seconds = std::env::var("COFFERDAM_FUZZ").ok().and_then(|text| text.parse::<f64>().ok());
    let (end, mut dice, mut count) = (Instant::now() + Duration::from_secs_f64(seconds.unwrap_or(1.5)), Dice(0), 0_u64);
    if seconds.is_some() {
        // A long run tries what the short ones did not.
        dice.0 = u64::from(std::process::id()) << 32 | u64::from(std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.subsec_nanos()));
    }
    // On a machine that is busy with something else, a second is not enough to be a test.
    while Instant::now() < end || count < 50 {
        try_one(&bend(&corpus, &mut dice));
        count += 1;
    }
    if seconds.is_some() {
        std::io::Write::write_all(&mut std::io::stderr(), format!("{target}: {count} inputs, none broke it\n").as_bytes()).expect("stderr");
    }
}

fn session(format: Format, bytes: &[u8], part: usize) -> Session {
    let (mut reader, mut session) = (Reader::new(format), Session::default());
    for part in bytes.chunks(part) {
        reader.push(part).into_iter().for_each(|event| drop(session.take(event)));
    }
    reader.finish().into_iter().for_each(|event| drop(session.take(event)));
    session
}

fn stream(name: &str, format: Format) {
    throw(&format!("stream-{name}"), files(&fixtures("streams")), |bytes| {
        let whole = session(format, bytes, usize::MAX);
        assert_eq!(session(format, bytes, 13), whole, "how it is cut makes no difference");
        assert!(whole.last_message.as_ref().is_none_or(|text| text.len() <= (1 << 20)), "what is kept is bounded");
    });
}

#[test]
fn stream_of_claude() {
    stream("claude", Format::Claude);
}

#[test]
fn stream_of_codex() {
    stream("codex", Format::Codex);
}

#[test]
fn stream_of_opencode() {
    stream("opencode", Format::Opencode);
}

#[test]
fn stream_of_gemini() {
    stream("gemini", Format::Gemini);
}

#[test]
fn stream_of_words() {
    stream("words", Format::Text);
}

#[test]
fn verdicts() {
    let good = br#"{"decision":"pass","criteria":[{"id":"AC-1","result":"pass","evidence":"a.py:3"},{"id":"AC-2","result":"pass","evidence":"b.py"}],
        "findings":[{"severity":"minor","criterion":"AC-1","file":"a.py","line":3,"text":"x"}],"confidence":0.5,"recovery":null}"#;
    let bad = br#"{"decision":"changes","criteria":[{"id":"AC-2","result":"fail","evidence":"b.py:1"},{"id":"AC-1","result":"pass","evidence":"a.py:1"}]}"#;
    let ids = ["AC-1".to_owned(), "AC-2".to_owned()];
    let exists = |path: &str, line: Option<u32>| matches!(path, "a.py" | "b.py") && line.is_none_or(|line| (1..=9).contains(&line));
    throw("verdict", vec![good.to_vec(), bad.to_vec()], |bytes| {
        let Ok(read) = verdict::verdict(bytes, &ids, &exists) else { return };
        if read.decision == Decision::Pass {
            // Whatever was bent: a pass judges exactly these criteria, each once, each on something that is there.
            let mut judged: Vec<&str> = read.criteria.iter().map(|c| c.id.as_str()).collect();
            judged.sort_unstable();
            assert_eq!(judged, ["AC-1", "AC-2"]);
            assert!(read.criteria.iter().all(|c| c.pass && verdict::place(&c.evidence).is_some_and(|(path, line)| exists(path, line))));
        }
    });
}

#[test]
fn answers_of_agents() {
    let seeds: [&[u8]; 5] = [
        br#"{"title":"Keys can expire","criteria":["AC-1","AC-2"]}"#,
        br#"{"summary":"a cause","tasks":["one","two"]}"#,
        br#"{"summary":"s","message":"m","question":"q"}"#,
        b"Here it is:\n```json\n{\"summary\":\"x\"}\n```\nDone.",
        b"{\"summary\":\"x\"}",
    ];
    throw("answers", seeds.map(<[u8]>::to_vec).to_vec(), |bytes| {
        drop((answers::contract(bytes), answers::approach(bytes), answers::report(bytes)));
        if let Ok(read) = answers::diagnosis(bytes) {
            assert!(!read.summary.is_empty() && read.tasks.len() <= 20);
        }
        let text = String::from_utf8_lossy(bytes);
        if let Ok(found) = answers::in_message(&text, "answer") {
            assert!(found.starts_with('{'));
        }
    });
}

#[test]
fn requests_at_a_counter() {
    let seeds: [&[u8]; 4] = [
        br#"{"token":"0123456789abcdef","ask":"progress","text":"half"}"#,
        br#"{"token":"0123456789abcdef","ask":"done","text":"{\"summary\":\"s\",\"message\":\"m\",\"question\":null}"}"#,
        br#"{"token":"0123456789abcdef","ask":"status"}"#,
        br#"{"token":"f","ask":"verdict","text":"{\"decision\":\"pass\"}"}"#,
    ];
    throw("request", seeds.map(<[u8]>::to_vec).to_vec(), |bytes| {
        for role in Role::ALL {
            let mut hearing = Hearing::new(Pass {
                token: "0123456789abcdef".to_owned(),
                role,
                story: "US-1".to_owned(),
                title: "t".to_owned(),
                criteria: Vec::new(),
                attempt: 1,
                expires: None,
                budget: serde_json::Value::Null,
            });
            let (reply, said) = hearing.hear(bytes, Duration::ZERO);
            let line = reply.line();
            assert!(line.len() < 64 << 10 && line.iter().filter(|byte| **byte == b'\n').count() == 1, "one line, and no long one");
            // Whatever was bent: only who has the token is heard, and only with what is their own.
            if let Some(said) = said {
                assert!(bytes.windows(16).any(|part| part == b"0123456789abcdef") || bytes.contains(&b'\\'));
                assert_eq!(
                    matches!(said, Said::Verdict(_)),
                    matches!(role, Role::Reviewer | Role::Verifier) && !matches!(said, Said::Progress(_))
                );
            }
        }
    });
}

#[test]
fn reports_of_tests() {
    let seeds: [&[u8]; 6] = [
        b"<testsuite tests=\"2\"><testcase name=\"a\"/><testcase name=\"b\"><skipped/></testcase></testsuite>",
        b"TAP version 13\n1..2\nok 1 - a\nnot ok 2 - b # SKIP no\n",
        b"running 2 tests\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n",
        b"==== 2 passed, 1 skipped in 0.01s ====\n",
        b"--- PASS: TestA (0.00s)\n--- SKIP: TestB (0.00s)\nok x 0.1s\n{\"Action\":\"pass\",\"Test\":\"TestC\"}\n",
        b"# tests 3\n# pass 2\n# fail 0\n# skipped 1\n",
    ];
    throw("report", seeds.map(<[u8]>::to_vec).to_vec(), |bytes| {
        for format in ReportFormat::ALL {
            if let Ok(counts) = report::count(format, bytes) {
                assert!(counts.failed <= counts.executed, "{counts:?}");
            }
        }
    });
}

#[test]
fn sources_of_programs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seeds = files(&fixtures("agents/project"));
    seeds.extend(
        ["src/verify/code/token.rs", "tests/docs.rs", "fixtures/model/server.py"].map(|path| fs_err::read(root.join(path)).expect("read")),
    );
    throw("code", seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        for language in LANGUAGES {
            let parts = code::parts(language, &text);
            assert_eq!(parts.code.matches('\n').count(), text.matches('\n').count(), "what is blanked keeps its lines");
            drop((cases(language, &text), code::defines(language, &text, "KV.delete")));
        }
    });
}

#[test]
fn logs_and_manifests_of_strangers() {
    let log = fs_err::read_to_string(fixtures("formats/v1/log.jsonl")).expect("a log");
    let seeds = log.lines().map(|line| line.as_bytes().to_vec()).chain([log.clone().into_bytes()]).collect();
    throw("export", seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let events: Vec<Stored> = text.lines().filter_map(|line| Stored::parse(line).ok()).collect();
        drop(audit(&events, &|_| Some(bytes.to_vec())));
        drop(serde_json::from_slice::<Manifest>(bytes));
    });
}
