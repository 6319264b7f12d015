//! What external CI said, and what it comes to. Pure: green only when every required check says so in as many words.

use serde::Deserialize;

/// How one check stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Success,
    Failure,
    /// Not over yet.
    Pending,
    /// Somebody stopped it: it says nothing, and may be started again.
    Cancelled,
    /// Over without having judged, in its own word: `skipped`, `neutral`, `timed_out`, ….
    Without(String),
}

/// One check on one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: String,
    pub state: State,
    /// Where a person reads more.
    pub more: Option<String>,
}

/// What all of it comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Green,
    /// Which, and where to read more.
    Red(String),
    /// For what is waited.
    Wait(String),
    /// It will not become green by waiting, and it is not red: a human is needed.
    Unclear(String),
}

/// Judges the required checks. One that is missing, skipped or said twice in two ways is not green.
pub fn judge(required: &[String], seen: &[Check]) -> Said {
    if required.is_empty() {
        return Said::Unclear(
            "no check is required, so nothing would ever be proven: list them in ci.required, or protect the branch".to_owned(),
        );
    }
    let (mut red, mut waits, mut unclear) = (Vec::new(), Vec::new(), Vec::new());
    for name in required {
        let of: Vec<&Check> = seen.iter().filter(|check| check.name == *name).collect();
        let more = of.iter().find_map(|check| check.more.as_deref()).map_or_else(String::new, |more| format!(" ({more})"));
        let any = |wanted: &State| of.iter().any(|check| check.state == *wanted);
        let without = of.iter().find_map(|check| if let State::Without(word) = &check.state { Some(word) } else { None });
        if any(&State::Failure) {
            red.push(format!("{name} failed{more}"));
        } else if any(&State::Pending) {
            waits.push(name.clone());
        } else if any(&State::Cancelled) {
            waits.push(format!("{name}, which was cancelled{more}"));
        } else if let Some(word) = without {
            unclear.push(format!("{name} ended as {word}{more}"));
        } else if of.is_empty() {
            waits.push(format!("{name}, which has not begun"));
        }
    }
    if !red.is_empty() {
        Said::Red(red.join("; "))
    } else if !waits.is_empty() {
        Said::Wait(waits.join("; "))
    } else if !unclear.is_empty() {
        Said::Unclear(unclear.join("; "))
    } else {
        Said::Green
    }
}

/// An answer that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer makes no sense: {0}")]
pub struct Nonsense(pub String);

fn nonsense(error: &dyn std::fmt::Display) -> Nonsense {
    Nonsense(crate::base::text::cut(&crate::base::text::one_line(&error.to_string()), 200))
}

#[derive(Deserialize)]
struct Runs {
    total_count: u64,
    check_runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    name: String,
    head_sha: String,
    status: String,
    conclusion: Option<String>,
    html_url: Option<String>,
}

/// One page of GitHub's check runs: the checks, and how many there are in all.
///
/// # Errors
/// When it is no such page, or of another commit.
pub fn check_runs(page: &[u8], commit: &str) -> Result<(Vec<Check>, u64), Nonsense> {
    let runs: Runs = serde_json::from_slice(page).map_err(|error| nonsense(&error))?;
    let check = |run: Run| {
        if run.head_sha != commit {
            return Err(Nonsense(format!("a check of {} among those of {commit}", crate::base::text::one_line(&run.head_sha))));
        }
        let state = match (run.status.as_str(), run.conclusion.as_deref()) {
            ("completed", Some("success")) => State::Success,
            ("completed", Some("failure")) => State::Failure,
            ("completed", Some("cancelled")) => State::Cancelled,
            // A person must do something there first, and may.
            ("completed", Some("action_required")) => State::Pending,
            ("completed", Some(other)) => State::Without(named(other)),
            ("completed", None) => return Err(Nonsense(format!("{} is completed without a conclusion", named(&run.name)))),
            _ => State::Pending,
        };
        Ok(Check { name: run.name, state, more: run.html_url.map(|url| named(&url)) })
    };
    Ok((runs.check_runs.into_iter().map(check).collect::<Result<_, _>>()?, runs.total_count))
}

#[derive(Deserialize)]
struct Combined {
    sha: String,
    statuses: Vec<Status>,
}

#[derive(Deserialize)]
struct Status {
    context: String,
    state: String,
    target_url: Option<String>,
}

/// GitHub's commit statuses, the older kind of check.
///
/// # Errors
/// When it is no such page, or of another commit.
pub fn statuses(page: &[u8], commit: &str) -> Result<Vec<Check>, Nonsense> {
    let combined: Combined = serde_json::from_slice(page).map_err(|error| nonsense(&error))?;
    if combined.sha != commit {
        return Err(Nonsense(format!("statuses of {} for {commit}", crate::base::text::one_line(&combined.sha))));
    }
    let check = |status: Status| {
        let state = match status.state.as_str() {
            "success" => State::Success,
            "failure" => State::Failure,
            "pending" => State::Pending,
            other => State::Without(named(other)),
        };
        Check { name: status.context, state, more: status.target_url.map(|url| named(&url)) }
    };
    Ok(combined.statuses.into_iter().map(check).collect())
}

#[derive(Deserialize)]
struct Protection {
    #[serde(default)]
    contexts: Vec<String>,
    #[serde(default)]
    checks: Vec<Context>,
}

#[derive(Deserialize)]
struct Context {
    context: String,
}

/// The checks that a branch's protection asks for.
///
/// # Errors
/// When it is no such page.
pub fn protection(page: &[u8]) -> Result<Vec<String>, Nonsense> {
    let protection: Protection = serde_json::from_slice(page).map_err(|error| nonsense(&error))?;
    Ok(protection.contexts.into_iter().chain(protection.checks.into_iter().map(|check| check.context)).collect())
}

#[derive(Deserialize)]
struct Rule {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    parameters: Option<serde_json::Value>,
}

/// The checks that a branch's rule sets ask for.
///
/// # Errors
/// When it is no such page.
pub fn rules(page: &[u8]) -> Result<Vec<String>, Nonsense> {
    let rules: Vec<Rule> = serde_json::from_slice(page).map_err(|error| nonsense(&error))?;
    let mut found = Vec::new();
    for rule in rules.into_iter().filter(|rule| rule.kind == "required_status_checks") {
        let checks = rule.parameters.as_ref().and_then(|parameters| parameters.get("required_status_checks")).cloned();
        let checks: Vec<Context> = serde_json::from_value(checks.unwrap_or_default()).map_err(|error| nonsense(&error))?;
        found.extend(checks.into_iter().map(|check| check.context));
    }
    Ok(found)
}

#[derive(Deserialize)]
struct Answer {
    state: String,
    #[serde(default)]
    detail: Option<String>,
}

/// What a command of the host answered: one JSON object with `state` and, if it likes, `detail`.
///
/// # Errors
/// When it is none, or its state is no known word.
pub fn answer(output: &[u8]) -> Result<Said, Nonsense> {
    let answer: Answer = serde_json::from_slice(output).map_err(|error| nonsense(&error))?;
    let detail = answer.detail.map(|detail| crate::base::text::cut(&detail, 2_000)).filter(|detail| !detail.trim().is_empty());
    let or = |word: &str| detail.clone().unwrap_or_else(|| word.to_owned());
    match answer.state.as_str() {
        "green" => Ok(Said::Green),
        "red" => Ok(Said::Red(or("its command says red"))),
        "pending" => Ok(Said::Wait(or("its command says pending"))),
        "cancelled" => Ok(Said::Wait(or("it was cancelled"))),
        other => Err(Nonsense(format!("`{}` is none of green, red, pending, cancelled", named(other)))),
    }
}

/// A word that somebody else chose, for one line.
fn named(text: &str) -> String {
    crate::base::text::cut(&crate::base::text::one_line(text), 200)
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
