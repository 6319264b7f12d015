//! What a process of a role may ask of whoever runs it, and what becomes of that. Pure.
//!
//! ```text
//! one line ─▶ Request ─▶ its pass? its role? its measure? ─▶ Reply, and Said for the log      or a refusal that teaches
//! ```
//!
//! This is the one place for the operations: the socket in a sandbox ([`super::counter`]) is one door to them, and there may be others.
//! Nothing that is said here decides anything: the words go to the log, and `done` and `question` are what the files of the same meaning are.

use std::time::Duration;

use serde_json::{Value, json};

use super::answers::{self, Report};
use crate::base::source::Source;
use crate::base::text::{cut, list, one_line};
use crate::base::tree::json as read_json;
use crate::config::Role;

/// The longest request, with its line end. A document may be half of it, because some characters take two in JSON.
pub const LONGEST: usize = 512 << 10;
/// A sentence.
const LONGEST_TEXT: usize = 4 << 10;
/// A report or a verdict. A longer one goes through its file.
const LONGEST_DOCUMENT: usize = 256 << 10;
/// What one process says is kept this often; the log is for people.
pub const MOST_SAID: usize = 200;
/// So many requests at once, and then one for each of these times.
const AT_ONCE: u32 = 20;
const EVERY: Duration = Duration::from_millis(200);

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Status,
    Progress,
    Approach,
    Done,
    Question,
    Verdict,
}

/// What belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Nothing,
    Text,
    /// A file's content.
    Document,
    MayTakeDocument,
}

impl Operation {
    pub const ALL: [Self; 6] = [Self::Status, Self::Progress, Self::Approach, Self::Done, Self::Question, Self::Verdict];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Progress => "progress",
            Self::Approach => "approach",
            Self::Done => "done",
            Self::Question => "question",
            Self::Verdict => "verdict",
        }
    }

    /// One line for whoever reads a list of them.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Status => "which story this is, what is left of time and budget, what you may ask",
            Self::Progress => "say where you are; people see it",
            Self::Approach => "say how you will go about it; one that failed too often is refused",
            Self::Done => "you are done; FILE is a report.json. The work is judged as it lies there, and you may leave",
            Self::Question => "you cannot go on without an answer: a human is asked, and you may leave",
            Self::Verdict => "hand in a verdict.json",
        }
    }

    pub const fn takes(self) -> Takes {
        match self {
            Self::Status => Takes::Nothing,
            Self::Progress | Self::Approach | Self::Question => Takes::Text,
            Self::Done => Takes::MayTakeDocument,
            Self::Verdict => Takes::Document,
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.name() == name)
    }
}

/// What a role may ask for. Who makes a change says nothing about its worth, and who judges reports no work.
pub const fn may(role: Role) -> &'static [Operation] {
    match role {
        Role::Implementer => &[Operation::Status, Operation::Progress, Operation::Approach, Operation::Done, Operation::Question],
        Role::Reviewer | Role::Verifier => &[Operation::Status, Operation::Progress, Operation::Verdict],
        Role::Planner | Role::Diagnoser => &[Operation::Status, Operation::Progress],
        // A gate is a command of the project, and no agent.
        Role::Gate => &[],
    }
}

/// Who may ask at one socket: exactly one process of one role, for one attempt of one story, while its time lasts.
#[derive(Clone, Debug)]
pub struct Pass {
    /// What the process must show: 64 hexadecimal digits that nobody else was given.
    pub token: String,
    pub role: Role,
    pub story: String,
    pub title: String,
    pub criteria: Vec<String>,
    pub attempt: u32,
    /// Since the socket was made.
    pub expires: Option<Duration>,
    /// What is left of the story's budget, for `status`.
    pub budget: Value,
}

/// One request, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub token: String,
    pub operation: Operation,
    pub text: Option<String>,
}

/// What the log and the runner hear. It proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Progress(String),
    Approach(String),
    Done(Report),
    Question(String),
    /// Read by whoever reads the file.
    Verdict(Vec<u8>),
}

/// Why a request is not taken, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub why: String,
    pub next: String,
}

/// What is answered: one line of JSON.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Taken { say: String, more: Value },
    Refused(Refusal),
}

impl Refusal {
    fn new(why: impl Into<String>, next: impl Into<String>) -> Self {
        Self { why: why.into(), next: next.into() }
    }
}

impl Reply {
    /// With its line end.
    pub fn line(&self) -> Vec<u8> {
        let value = match self {
            Self::Taken { say, more } => {
                let mut value = json!({"version": 1, "ok": true, "say": say});
                if let (Some(all), Some(more)) = (value.as_object_mut(), more.as_object()) {
                    all.extend(more.clone());
                }
                value
            }
            Self::Refused(Refusal { why, next }) => json!({"version": 1, "ok": false, "why": why, "next": next}),
        };
        let mut line = value.to_string().into_bytes();
        line.push(b'\n');
        line
    }
}

/// Reads a request, without its line end.
///
/// # Errors
/// Why it is none, and how one looks.
pub fn request(line: &[u8]) -> Result<Request, Refusal> {
    let form = || r#"one line of JSON: {"token": "…", "ask": "progress", "text": "…"}; `cofferdam ask` writes it for you"#;
    let wrong = |why: String| Refusal::new(why, form());
    if line.len() >= LONGEST {
        return Err(too_long());
    }
    let text = std::str::from_utf8(line).map_err(|_| wrong("the request is no UTF-8 text".to_owned()))?;
    let root =
        read_json(&Source::new("request", text)).map_err(|problem| wrong(format!("the request cannot be read: {}", problem.what)))?;
    let table = root.table().ok_or_else(|| wrong(format!("the request must be an object, and it is {}", root.kind())))?;
    let (mut token, mut asked, mut said) = (None, None, None);
    for entry in table {
        let place = match entry.key.as_str() {
            "token" => &mut token,
            "ask" => &mut asked,
            "text" => &mut said,
            other => return Err(wrong(format!("a request has no `{}`", one_line(&cut(other, 40))))),
        };
        if entry.node.is_null() {
            continue;
        }
        let text = entry.node.text().ok_or_else(|| wrong(format!("`{}` must be a text, and it is {}", entry.key, entry.node.kind())))?;
        *place = Some(text.to_owned());
    }
    let asked = asked.ok_or_else(|| wrong("the request does not say what it asks for".to_owned()))?;
    let operation = Operation::parse(&asked).ok_or_else(|| {
        let known: Vec<&str> = Operation::ALL.iter().map(|operation| operation.name()).collect();
        wrong(format!("there is no `{}`; there are {}", one_line(&cut(&asked, 40)), list(&known)))
    })?;
    Ok(Request { token: token.unwrap_or_default(), operation, text: said })
}

/// What is said to whoever sends more than is read.
pub fn too_long() -> Refusal {
    Refusal::new(format!("a request is shorter than {} KiB", LONGEST >> 10), "leave longer documents as files in /run/cofferdam/out/")
}

/// One process asking: its pass, and what it said so far.
#[derive(Debug)]
pub struct Hearing {
    pass: Pass,
    /// Why nothing more is taken.
    over: bool,
    said: usize,
    approach: Option<String>,
    done: bool,
    verdict: bool,
    /// Up to when the measure of requests is used.
    used: Duration,
}

impl Hearing {
    pub fn new(pass: Pass) -> Self {
        Self { pass, over: false, said: 0, approach: None, done: false, verdict: false, used: Duration::ZERO }
    }

    /// It has declared its approach in another way.
    pub fn declared(&mut self, approach: &str) {
        self.approach.get_or_insert_with(|| approach.to_owned());
    }

    /// The process is at its end: nothing is taken any more.
    pub fn close(&mut self) {
        self.over = true;
    }

    /// How long the next request waits: whoever asks without a pause is heard slowly, and costs no more than others.
    pub fn wait(&self, now: Duration) -> Duration {
        self.used.saturating_sub(now + EVERY * AT_ONCE)
    }

    /// Hears one request, `now` after the socket was made.
    pub fn hear(&mut self, line: &[u8], now: Duration) -> (Reply, Option<Said>) {
        self.used = self.used.max(now) + EVERY;
        match request(line).and_then(|request| self.decide(&request, now)) {
            Ok((reply, said)) => (reply, said),
            Err(refusal) => (Reply::Refused(refusal), None),
        }
    }

    fn decide(&mut self, request: &Request, now: Duration) -> Result<(Reply, Option<Said>), Refusal> {
        if self.over {
            return Err(Refusal::new("this attempt is over", "nothing: what was left is being judged"));
        }
        if !same(&request.token, &self.pass.token) {
            return Err(Refusal::new(
                "the token is not that of this process: it is another's, or its attempt is over",
                "read it anew: /home/agent/.cofferdam/token, as `cofferdam ask` does",
            ));
        }
        if self.pass.expires.is_some_and(|end| now >= end) {
            return Err(Refusal::new("the token has expired: the time of this process is over", "nothing: it is being ended"));
        }
        let (operation, role) = (request.operation, self.pass.role);
        if !may(role).contains(&operation) {
            let allowed: Vec<&str> = may(role).iter().map(|operation| operation.name()).collect();
            let why = match operation {
                Operation::Verdict => format!("the {} does not judge", role.name()),
                Operation::Done | Operation::Question | Operation::Approach => {
                    format!("the {} reports no work: that is the implementer's", role.name())
                }
                Operation::Status | Operation::Progress => format!("the {} asks for nothing", role.name()),
            };
            return Err(Refusal::new(why, format!("the {} may ask for {}", role.name(), list(&allowed))));
        }
        let text = Self::text(request)?;
        if operation != Operation::Status {
            if self.said >= MOST_SAID {
                return Err(Refusal::new(
                    format!("{MOST_SAID} messages of this process are kept, and no more"),
                    "go on with the work; what counts is what you leave",
                ));
            }
            self.said += 1;
        }
        self.perform(operation, text, now)
    }

    /// What belongs to the operation, within its length.
    fn text(request: &Request) -> Result<String, Refusal> {
        let name = request.operation.name();
        let text = request.text.as_deref().unwrap_or_default();
        let limit = match request.operation.takes() {
            Takes::Nothing if text.is_empty() => return Ok(String::new()),
            Takes::Nothing => return Err(Refusal::new(format!("`{name}` takes no text"), format!("cofferdam ask {name}"))),
            Takes::MayTakeDocument if request.text.is_none() => return Ok(String::new()),
            Takes::Text => LONGEST_TEXT,
            Takes::Document | Takes::MayTakeDocument => LONGEST_DOCUMENT,
        };
        if text.len() > limit {
            return Err(Refusal::new(
                format!("`{name}` takes {} KiB at most, and this is {} KiB", limit >> 10, text.len() >> 10),
                if limit == LONGEST_TEXT { "say it in a few sentences" } else { "leave it as a file in /run/cofferdam/out/" },
            ));
        }
        if text.trim().is_empty() {
            return Err(Refusal::new(format!("`{name}` without a text says nothing"), format!("cofferdam ask {name} …")));
        }
        Ok(text.to_owned())
    }

    fn perform(&mut self, operation: Operation, text: String, now: Duration) -> Result<(Reply, Option<Said>), Refusal> {
        let taken = |say: &str| Reply::Taken { say: say.to_owned(), more: Value::Null };
        let sentence = || cut(text.trim(), LONGEST_TEXT);
        Ok(match operation {
            Operation::Status => (self.status(now), None),
            Operation::Progress => (taken("noted: people see it, and it decides nothing"), Some(Said::Progress(sentence()))),
            Operation::Approach => {
                if let Some(known) = &self.approach {
                    return Err(Refusal::new(
                        format!("an approach is declared already: {}", one_line(&cut(known, 200))),
                        "another approach is another attempt; go on with this one, or leave",
                    ));
                }
                self.approach = Some(sentence());
                (taken("declared: when it failed too often before, this attempt is ended"), Some(Said::Approach(sentence())))
            }
            Operation::Done => {
                let mended = "mend the report, or ask for `done` without one";
                let report = if text.is_empty() { Ok(Report::default()) } else { answers::report(text.as_bytes()) };
                let report = report.map_err(|why| Refusal::new(why, mended))?;
                self.done = true;
                (taken("heard: what lies in the folder will be judged by others. You may leave"), Some(Said::Done(report)))
            }
            Operation::Question => {
                self.done = true;
                (taken("heard: a human is asked, and what lies in the folder is kept. You may leave"), Some(Said::Question(sentence())))
            }
            Operation::Verdict => {
                if self.verdict {
                    return Err(Refusal::new("a verdict is handed in already", "there is one verdict a process; leave"));
                }
                self.verdict = true;
                (taken("handed in: it is read when you have left"), Some(Said::Verdict(text.into_bytes())))
            }
        })
    }

    fn status(&self, now: Duration) -> Reply {
        let pass = &self.pass;
        let left = pass.expires.map(|end| u64::try_from(end.saturating_sub(now).as_millis()).unwrap_or(u64::MAX));
        let names: Vec<&str> = may(pass.role).iter().map(|operation| operation.name()).collect();
        let say = format!("{}, attempt {}, {}; you may ask for {}", pass.story, pass.attempt, pass.role.name(), list(&names));
        let more = json!({
            "role": pass.role.name(), "story": pass.story, "title": pass.title, "attempt": pass.attempt, "criteria": pass.criteria,
            "wall_ms_left": left, "budget": pass.budget, "approach": self.approach, "done": self.done,
            "messages_left": MOST_SAID - self.said, "may": names,
        });
        Reply::Taken { say, more }
    }
}

/// Compares without telling by its time how much is right.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && !a.is_empty() && a.bytes().zip(b.bytes()).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOKEN: &str = "0123456789abcdef";

    fn hearing(role: Role) -> Hearing {
        Hearing::new(Pass {
            token: TOKEN.to_owned(),
            role,
            story: "US-1".to_owned(),
            title: "Keys expire".to_owned(),
            criteria: vec!["AC-1".to_owned()],
            attempt: 2,
            expires: Some(Duration::from_secs(60)),
            budget: json!({"iterations_left": 3}),
        })
    }

    fn line(ask: &str, text: Option<&str>) -> Vec<u8> {
        json!({"token": TOKEN, "ask": ask, "text": text}).to_string().into_bytes()
    }

    fn refused(hearing: &mut Hearing, line: &[u8], now: u64) -> Refusal {
        match hearing.hear(line, Duration::from_secs(now)) {
            (Reply::Refused(refusal), None) => refusal,
            other => panic!("taken: {other:?}"),
        }
    }

    #[test]
    fn a_role_asks_for_what_is_its_own_and_is_told_what_that_is() {
        for role in Role::ALL {
            for operation in Operation::ALL {
                let text = match operation {
                    Operation::Status => None,
                    Operation::Done => Some("{\"summary\": \"s\"}"),
                    _ => Some("words"),
                };
                let (reply, said) = hearing(role).hear(&line(operation.name(), text), Duration::ZERO);
                let allowed = may(role).contains(&operation);
                assert_eq!(matches!(reply, Reply::Taken { .. }), allowed, "{role:?} {operation:?}: {reply:?}");
                assert_eq!(said.is_some(), allowed && operation != Operation::Status);
            }
        }
        let why = refused(&mut hearing(Role::Implementer), &line("verdict", Some("{}")), 0);
        assert_eq!(why.why, "the implementer does not judge");
        assert_eq!(why.next, "the implementer may ask for `status`, `progress`, `approach`, `done` and `question`");
        let why = refused(&mut hearing(Role::Reviewer), &line("done", None), 0);
        assert_eq!(why.why, "the reviewer reports no work: that is the implementer's");
        assert!(may(Role::Implementer).iter().all(|operation| *operation != Operation::Verdict));
        assert!(may(Role::Reviewer).iter().all(|operation| !matches!(operation, Operation::Done | Operation::Approach)));
    }

    #[test]
    fn another_token_an_old_one_and_none_are_refused() {
        let other = json!({"token": "f123456789abcdef", "ask": "status"}).to_string().into_bytes();
        assert!(refused(&mut hearing(Role::Implementer), &other, 0).why.contains("not that of this process"));
        assert!(refused(&mut hearing(Role::Implementer), br#"{"ask":"status"}"#, 0).why.contains("not that of this process"));
        assert!(refused(&mut hearing(Role::Implementer), &line("status", None), 60).why.contains("expired"));
        let mut closed = hearing(Role::Implementer);
        closed.close();
        assert!(refused(&mut closed, &line("status", None), 1).why.contains("over"));
        let nobody = Pass { token: String::new(), ..hearing(Role::Implementer).pass };
        assert!(
            refused(&mut Hearing::new(nobody), br#"{"token":"","ask":"status"}"#, 0).why.contains("not that of"),
            "no token opens nothing"
        );
    }

    #[test]
    fn an_approach_and_a_verdict_are_said_once() {
        let mut implementer = hearing(Role::Implementer);
        let (_, said) = implementer.hear(&line("approach", Some(" by a heap ")), Duration::ZERO);
        assert_eq!(said, Some(Said::Approach("by a heap".to_owned())));
        assert!(refused(&mut implementer, &line("approach", Some("by a list")), 0).why.contains("by a heap"));
        let mut reviewer = hearing(Role::Reviewer);
        assert!(reviewer.hear(&line("verdict", Some("{}")), Duration::ZERO).1.is_some());
        assert!(refused(&mut reviewer, &line("verdict", Some("{}")), 0).why.contains("already"));
        let bad = refused(&mut hearing(Role::Implementer), &line("done", Some("{\"summary\": 1}")), 0);
        assert!(bad.why.contains("summary"), "{bad:?}");
    }

    #[test]
    fn a_flood_is_heard_slowly_and_kept_in_measure() {
        let mut flood = hearing(Role::Implementer);
        let (mut now, mut kept) = (Duration::ZERO, 0);
        for _ in 0..1_000 {
            now += flood.wait(now);
            kept += usize::from(flood.hear(&line("progress", Some("x")), now).1.is_some());
            assert!(flood.wait(now) <= EVERY);
        }
        assert!(now >= EVERY * 950, "{now:?}");
        // The pass has its end, and that is before all of them are kept.
        assert!(kept <= MOST_SAID);
        let polite = hearing(Role::Implementer);
        assert_eq!(polite.wait(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn requests_are_read_strictly() {
        for (line, word) in [
            (&b"\xff\xfe"[..], "UTF-8"),
            (b"", "cannot be read"),
            (b"[]", "object"),
            (b"{}", "what it asks for"),
            (br#"{"ask":"merge"}"#, "there is no `merge`"),
            (br#"{"ask":"status","ask":"done"}"#, "twice"),
            (br#"{"ask":1}"#, "must be a text"),
            (br#"{"ask":"status","role":"human"}"#, "no `role`"),
        ] {
            let refusal = request(line).expect_err("refused");
            assert!(refusal.why.contains(word), "{refusal:?}");
        }
        let deep = [b"{\"ask\":".repeat(5_000), b"1".to_vec()].concat();
        assert!(request(&deep).is_err());
        assert!(request(&vec![b' '; LONGEST]).expect_err("long").why.contains("KiB"));
        let long = "x".repeat(LONGEST_TEXT + 1);
        assert!(refused(&mut hearing(Role::Implementer), &line("progress", Some(&long)), 0).why.contains("at most"));
        assert!(refused(&mut hearing(Role::Implementer), &line("progress", Some("  ")), 0).why.contains("says nothing"));
        assert!(refused(&mut hearing(Role::Implementer), &line("status", Some("x")), 0).why.contains("takes no text"));
    }

    #[test]
    fn status_tells_what_is_left() {
        let (reply, _) = hearing(Role::Implementer).hear(&line("status", None), Duration::from_secs(20));
        let value: Value = serde_json::from_slice(&reply.line()).expect("JSON");
        assert_eq!((&value["ok"], &value["wall_ms_left"], &value["attempt"]), (&json!(true), &json!(40_000), &json!(2)));
        assert_eq!(value["budget"]["iterations_left"], 3);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_answered_in_one_line(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (reply, said) = hearing(Role::Implementer).hear(&bytes, Duration::ZERO);
            let line = reply.line();
            prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            prop_assert!(said.is_none());
        }
    }
}
