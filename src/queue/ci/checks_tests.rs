//! Only success is green.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn check(name: &str, state: State) -> Check {
    Check { name: name.to_owned(), state, more: None }
}

fn required(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn only_success_of_every_required_check_is_green() {
    let ab = required(&["a", "b"]);
    let good = |name| check(name, State::Success);
    for (seen, said) in [
        (vec![good("a"), good("b")], "green"),
        (vec![good("a"), good("b"), check("c", State::Failure)], "green"),
        (vec![good("a")], "wait"),
        (vec![], "wait"),
        (vec![good("a"), check("b", State::Pending)], "wait"),
        (vec![good("a"), check("b", State::Cancelled)], "wait"),
        (vec![check("a", State::Failure)], "red"),
        (vec![check("a", State::Failure), check("b", State::Without("skipped".into()))], "red"),
        (vec![good("a"), check("b", State::Without("skipped".into()))], "unclear"),
        (vec![check("a", State::Without("neutral".into()))], "wait"),
        // Said twice in two ways.
        (vec![good("a"), good("b"), check("b", State::Failure)], "red"),
        (vec![good("a"), good("b"), check("b", State::Pending)], "wait"),
        (vec![good("a"), good("b"), check("b", State::Without("stale".into()))], "unclear"),
    ] {
        let word = match judge(&ab, &seen) {
            Said::Green => "green",
            Said::Red(_) => "red",
            Said::Wait(_) => "wait",
            Said::Unclear(_) => "unclear",
        };
        assert_eq!(word, said, "{seen:?}");
    }
    assert!(matches!(judge(&[], &[good("a")]), Said::Unclear(_)), "nothing required proves nothing");
}

#[test]
fn pages_of_the_api_are_read_and_those_of_other_commits_are_not() {
    let run = |name: &str, status: &str, conclusion: Option<&str>| json!({"name": name, "head_sha": "abc", "status": status, "conclusion": conclusion, "html_url": "https://x/1"});
    let page = |runs: Vec<serde_json::Value>| json!({"total_count": runs.len(), "check_runs": runs}).to_string();
    for (status, conclusion, state) in [
        ("completed", Some("success"), State::Success),
        ("completed", Some("failure"), State::Failure),
        ("completed", Some("cancelled"), State::Cancelled),
        ("completed", Some("skipped"), State::Without("skipped".into())),
        ("completed", Some("neutral"), State::Without("neutral".into())),
        ("completed", Some("timed_out"), State::Without("timed_out".into())),
        ("completed", Some("startup_failure"), State::Without("startup_failure".into())),
        ("completed", Some("a word of next year"), State::Without("a word of next year".into())),
        ("completed", Some("action_required"), State::Pending),
        ("queued", None, State::Pending),
        ("in_progress", Some("success"), State::Pending),
        ("a word of next year", None, State::Pending),
    ] {
        let (checks, count) = check_runs(page(vec![run("a", status, conclusion)]).as_bytes(), "abc").expect("a page");
        assert_eq!((&checks[0].state, count), (&state, 1), "{status} {conclusion:?}");
    }
    assert!(check_runs(page(vec![run("a", "completed", None)]).as_bytes(), "abc").is_err());
    assert!(check_runs(page(vec![run("a", "completed", Some("success"))]).as_bytes(), "abd").is_err(), "another commit");
    for bad in ["", "null", "[]", "{}", "{\"total_count\":1}", "<html>", "{\"total_count\":-1,\"check_runs\":[]}"] {
        assert!(check_runs(bad.as_bytes(), "abc").is_err(), "{bad}");
    }
    let status = |sha: &str, state: &str| {
        json!({"sha": sha, "state": "success", "statuses": [{"context": "a", "state": state, "target_url": null}]}).to_string()
    };
    for (word, state) in
        [("success", State::Success), ("failure", State::Failure), ("pending", State::Pending), ("error", State::Without("error".into()))]
    {
        assert_eq!(statuses(status("abc", word).as_bytes(), "abc").expect("a page")[0].state, state);
    }
    assert!(statuses(status("abd", "success").as_bytes(), "abc").is_err());
}

#[test]
fn required_checks_are_read_from_protection_and_rules() {
    let page = json!({"strict": true, "contexts": ["a"], "checks": [{"context": "b", "app_id": 7}]}).to_string();
    assert_eq!(protection(page.as_bytes()), Ok(required(&["a", "b"])));
    let page = json!([
        {"type": "deletion"},
        {"type": "required_status_checks", "parameters": {"required_status_checks": [{"context": "c", "integration_id": 1}]}},
    ]);
    assert_eq!(rules(page.to_string().as_bytes()), Ok(required(&["c"])));
    assert_eq!(rules(b"[]"), Ok(vec![]));
    assert!(rules(b"{}").is_err() && rules(b"[{\"type\":\"required_status_checks\",\"parameters\":{}}]").is_err());
}

#[test]
fn a_command_says_one_of_four_words() {
    assert_eq!(answer(b"{\"state\":\"green\"}\n"), Ok(Said::Green));
    assert_eq!(answer(b"{\"state\":\"red\",\"detail\":\"unit\"}"), Ok(Said::Red("unit".into())));
    assert!(matches!(answer(b"{\"state\":\"pending\"}"), Ok(Said::Wait(_))));
    assert!(matches!(answer(b"{\"state\":\"cancelled\"}"), Ok(Said::Wait(_))));
    for bad in [
        "",
        "green",
        "{\"state\":\"GREEN\"}",
        "{\"state\":true}",
        "{\"state\":\"passed\"}",
        "{\"state\":\"green\"}{\"state\":\"red\"}",
        "ok\n{\"state\":\"green\"}",
    ] {
        assert!(answer(bad.as_bytes()).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_answer_panics_and_none_but_success_is_green(text in "\\PC{0,60}", seen in prop::collection::vec((0..3_usize, 0..5_usize), 0..8)) {
        drop(answer(text.as_bytes()));
        drop(check_runs(text.as_bytes(), "abc"));
        drop(rules(text.as_bytes()));
        let names = ["a", "b", "c"];
        let states = [State::Success, State::Failure, State::Pending, State::Cancelled, State::Without("skipped".into())];
        let seen: Vec<Check> = seen.into_iter().map(|(name, state)| check(names[name], states[state].clone())).collect();
        let said = judge(&required(&["a", "b"]), &seen);
        let all = ["a", "b"].iter().all(|name| {
            let of: Vec<&Check> = seen.iter().filter(|check| check.name == *name).collect();
            !of.is_empty() && of.iter().all(|check| check.state == State::Success)
        });
        prop_assert_eq!(said == Said::Green, all);
    }
}
