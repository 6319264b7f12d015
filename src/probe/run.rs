//! The harness: makes the scenes, lets the attacks run inside and outside, looks at what changed, and judges.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::attack::{Attack, Attempt, How, Section};
use super::attacks;
use super::drive::{Driver, Engine};
use super::judge::{self, Host, Rights, Verdict};
use super::report::{Line, REPORT_VERSION, Report};
use super::scene::{Scene, Stand};
use crate::sandbox::sys;

/// What to test.
#[derive(Clone, Debug)]
pub struct Request {
    pub engine: Engine,
    /// Only these; empty is all.
    pub sections: Vec<Section>,
    /// Only attacks with these ids; empty is all.
    pub only: Vec<String>,
    pub controls: bool,
    /// Leave out the attacks that need a sandbox of their own.
    pub quick: bool,
    /// How many payloads run at once.
    pub at_once: usize,
}

/// Why the self-test could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("the scene of the test could not be made")]
    Scene(#[source] std::io::Error),
    #[error("the sandbox cannot be enforced here")]
    Unenforceable { said: String },
    #[error("a harmless program does not run inside: exec ended with {code}")]
    Engine { code: i32, said: String },
    #[error("no attack is called `{name}`")]
    NoSuchAttack { name: String, nearest: Option<&'static str> },
}

/// The id of the payload that does nothing: it tells whether anything runs inside at all.
pub const HELLO: &str = "hello";

type Answers = Mutex<BTreeMap<String, Attempt>>;

/// One piece of work: several attacks in one sandbox, or one attack in its own.
enum Job<'a> {
    Batch(&'a Scene, Vec<&'static str>),
    Driven(&'a Scene, &'static Attack),
}

/// Runs the self-test.
///
/// # Errors
/// When it could not be made; what the attacks did is in the report.
pub fn run(request: &Request) -> Result<Report, ProbeError> {
    let chosen = choose(request)?;
    let ids: Vec<&'static str> = chosen.iter().map(|attack| attack.id).collect();
    let stand = |control| Stand::new(&request.engine.program, &ids, control).map_err(ProbeError::Scene);
    let (mut inside, outside) = (stand(false)?, stand(true)?);
    let group = hello(request, &inside)?;
    let host = Host { landlock: sys::landlock_abi().unwrap_or(0), group };

    let rights = own_rights();
    let controlled: Vec<&'static Attack> =
        chosen.iter().copied().filter(|attack| request.controls && judge::allowed_outside(attack, rights)).collect();
    let answers: [Answers; 2] = Default::default();
    let mut jobs: Vec<(usize, Job<'_>)> = Vec::new();
    for (side, stand, list) in [(0, &inside, &chosen), (1, &outside, &controlled)] {
        // What takes long starts first.
        let driven = list.iter().filter(|attack| matches!(attack.how, How::Driven { .. }));
        jobs.extend(driven.map(|attack| (side, Job::Driven(&stand.scene, attack))));
        for section in Section::ALL {
            let batch = list.iter().filter(|attack| matches!(attack.how, How::Inside(_)) && Section::of(attack.id) == Some(section));
            let batch: Vec<&'static str> = batch.map(|attack| attack.id).collect();
            if !batch.is_empty() {
                jobs.push((side, Job::Batch(&stand.scene, batch)));
            }
        }
    }
    jobs.reverse();
    let states = [inside.state(), outside.state()];
    let jobs = Mutex::new(jobs);
    std::thread::scope(|scope| {
        for _ in 0..request.at_once.max(1) {
            scope.spawn(|| {
                loop {
                    let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    let Some((side, job)) = next else { return };
                    perform(request, &job, &states[side], &answers[side]);
                }
            });
        }
    });

    let findings = inside.look().map_err(ProbeError::Scene)?;
    let [said_inside, said_outside] = answers.map(|answers| answers.into_inner().unwrap_or_else(PoisonError::into_inner));
    let line = |attack: &&'static Attack| {
        let missing = || Attempt::NoAnswer { why: "no answer came out of the sandbox".to_owned() };
        let attempt = said_inside.get(attack.id).cloned().unwrap_or_else(missing);
        let of = findings.iter().filter(|finding| finding.id.as_deref() == Some(attack.id));
        let seen_outside: Vec<String> = of.map(|finding| finding.what.clone()).collect();
        Line {
            id: attack.id.to_owned(),
            section: Section::of(attack.id).unwrap_or(Section::A),
            title: attack.title.to_owned(),
            verdict: judge::verdict(attack, &attempt, &seen_outside, host),
            said: attempt.short(),
            control: judge::control(attack, said_outside.get(attack.id), rights),
            attempt,
            seen_outside,
            lacks: attack.gap.map(super::attack::Gap::lacks),
        }
    };
    let lines: Vec<Line> = chosen.iter().map(line).collect();
    let others = findings.iter().filter(|finding| !finding.id.as_deref().is_some_and(|id| ids.contains(&id)));
    let seen_outside: Vec<String> = others.map(|finding| finding.what.clone()).collect();
    let held =
        seen_outside.is_empty() && lines.iter().all(|line| matches!(line.verdict, Verdict::Held | Verdict::Gap | Verdict::Inapplicable));
    let kernel = nix::sys::utsname::uname().map_or_else(|_| String::new(), |name| name.release().to_string_lossy().into_owned());
    let uid = nix::unistd::geteuid().as_raw();
    Ok(Report { version: REPORT_VERSION, profile: request.engine.profile.clone(), uid, kernel, held, attacks: lines, seen_outside })
}

fn choose(request: &Request) -> Result<Vec<&'static Attack>, ProbeError> {
    for name in &request.only {
        if super::find(name).is_none() {
            let nearest = crate::base::suggest::nearest(name, attacks().map(|attack| attack.id));
            return Err(ProbeError::NoSuchAttack {
                name: name.clone(),
                nearest: nearest.and_then(|id| super::find(id).map(|attack| attack.id)),
            });
        }
    }
    let wanted = |attack: &&'static Attack| {
        let section = Section::of(attack.id).is_some_and(|section| request.sections.is_empty() || request.sections.contains(&section));
        let kind = !request.quick || matches!(attack.how, How::Inside(_));
        section && kind && (request.only.is_empty() || request.only.iter().any(|id| id == attack.id))
    };
    Ok(attacks().filter(wanted).collect())
}

fn own_rights() -> Rights {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    Rights { root: nix::unistd::geteuid().is_root(), capabilities }
}

/// A harmless payload must run inside, else nothing that follows would mean anything. Tells whether a control group keeps the limits.
fn hello(request: &Request, stand: &Stand) -> Result<bool, ProbeError> {
    let driver = Driver { engine: &request.engine, scene: &stand.scene, state: &stand.state(), ids: &[HELLO] };
    match driver.run(&[]) {
        Ok(ended) if ended.code == 0 && ended.answers.iter().any(|answer| answer.id == HELLO) => {
            Ok(ended.outcome.is_some_and(|outcome| outcome.receipt.limits != "supervised"))
        }
        Ok(ended) if ended.code == 6 => Err(ProbeError::Unenforceable { said: ended.errors }),
        Ok(ended) => Err(ProbeError::Engine { code: ended.code, said: ended.errors }),
        Err(attempt) => Err(ProbeError::Engine { code: 125, said: attempt.long() }),
    }
}

fn perform(request: &Request, job: &Job<'_>, state: &PathBuf, answers: &Answers) {
    let tell = |id: &str, attempt: Attempt| {
        answers.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), attempt);
    };
    match job {
        Job::Batch(scene, ids) => match (Driver { engine: &request.engine, scene, state, ids }).run(&[]) {
            Ok(ended) => {
                let missing = format!("the batch ended with {} before this one answered: {}", ended.code, ended.errors);
                for id in ids {
                    let answer = ended.answers.iter().find(|answer| answer.id == *id).map(|answer| answer.attempt.clone());
                    tell(id, answer.unwrap_or_else(|| Attempt::NoAnswer { why: missing.clone() }));
                }
            }
            Err(attempt) => ids.iter().for_each(|id| tell(id, attempt.clone())),
        },
        Job::Driven(scene, attack) => {
            let How::Driven { drive, .. } = attack.how else { return };
            tell(attack.id, drive(&Driver { engine: &request.engine, scene, state, ids: &[attack.id] }).into());
        }
    }
}
