//! Planners and diagnosers: what they say reaches the implementer as a quotation, and what becomes of them keeps no story.

use serde_json::Value;

use crate::common::Who;
use crate::project::{Project, is_through};

const CONFIG: &str = "[agents.implementer]\nadapter = \"command\"\ncommand = [\"./implement\", \"{story}\"]\n\
    [run]\nparallel = 4\niterations = 2\nretry_delay = \"1ms\"\n";
const ADVISERS: &str = "[agents.planner]\nadapter = \"command\"\ncommand = [\"./advise\", \"planner\", \"{story}\", \"{out}\"]\n\
    [agents.diagnoser]\nadapter = \"command\"\ncommand = [\"./advise\", \"diagnoser\", \"{story}\", \"{out}\"]\n\
    [limits.diagnoser]\nwall = \"3s\"\n";

/// How it ends, after how many attempts, and why there was no proposal and no diagnosis.
const STORIES: &[(&str, bool, usize, &str, &str)] = &[
    ("DIAG-GOOD", true, 2, "", ""),
    ("PLAN-GOOD", true, 1, "", ""),
    ("DIAG-CRASHES", true, 2, "signal 11 ended it", ""),
    ("PLAN-FAILS", false, 2, "", "it exited 1: I cannot say"),
    ("PLAN-HANGS", false, 2, "", "it was ended"),
    ("PLAN-LIES", false, 2, "", "twice"),
];

fn story(id: &str) -> String {
    format!(
        "---\nid: {id}\ntitle: A word ({id})\nchecks:\n  - grep -q right work-{id}.txt || {{ echo no word here; exit 1; }}\n---\nThere is a word.\n\n\
         ## Acceptance criteria\n- AC-1: it is the right one\n"
    )
}

fn project(config: &str) -> Project {
    let texts: Vec<(&str, String)> = STORIES.iter().map(|(id, ..)| (*id, story(id))).collect();
    let texts: Vec<(&str, &str)> = texts.iter().map(|(id, text)| (*id, text.as_str())).collect();
    Project::of("advised", Who::Caller, config, &texts)
}

fn of<'e>(events: &'e [Value], story: &str, kind: &str) -> Vec<&'e Value> {
    events.iter().filter(|event| event["story"] == story && event["kind"] == kind).map(|event| &event["data"]).collect()
}

#[test]
fn advice_is_heard_and_its_failure_keeps_no_story() {
    let project = project(&format!("{CONFIG}{ADVISERS}"));
    let printed = project.run("");
    let (stories, events) = (project.stories(), project.events());
    let error = |story: &str, kind: &str| {
        let found = of(&events, story, kind);
        found.first().map(|data| data["error"].as_str().unwrap_or_default().to_owned())
    };
    let mut wrong = Vec::new();
    for (id, through, attempts, proposal, diagnosis) in STORIES {
        let story = &stories[*id];
        let state = story["state"].as_str().unwrap_or_default();
        let began = of(&events, id, "attempt.started").len();
        if is_through(state) != *through || (!through && state != "escalated") || began != *attempts {
            wrong.push(format!("{id}: {state} after {began} attempts: {story}"));
        }
        let fits =
            |said: Option<String>, wanted: &str| said.is_some_and(|said| said.is_empty() == wanted.is_empty() && said.contains(wanted));
        if !fits(error(id, "approach.proposed"), proposal) {
            wrong.push(format!("{id}: {:?}", of(&events, id, "approach.proposed")));
        }
        if *attempts > 1 && !fits(error(id, "diagnosis.made"), diagnosis) {
            wrong.push(format!("{id}: {:?}", of(&events, id, "diagnosis.made")));
        }
    }
    assert!(wrong.is_empty(), "{}\n{printed}", wrong.join("\n"));
    assert!(!events.iter().any(|event| event.to_string().contains("the tree was writable")));
    // A prompt is kept as it was given, and what advisers wrote in it is quoted: none of it can pass for a heading of ours.
    for (id, number) in [("DIAG-GOOD", 1), ("PLAN-GOOD", 0)] {
        let calls = of(&events, id, "agent.called");
        let implementers: Vec<_> = calls.iter().filter(|data| data["call"]["role"] == "implementer").collect();
        let prompt = implementers[number]["call"]["prompt"].as_str().expect("a hash");
        let shown = project.output(&["evidence", "show", prompt]);
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(text.contains("\n  > ## How to answer\n") && text.contains("the word is right"), "{id}: {text}");
        assert_eq!(text.matches("\n## How to answer\n").count(), 1, "{id}: {text}");
    }
    let shown = String::from_utf8_lossy(&project.output(&["show", "DIAG-GOOD"]).stdout).into_owned();
    for words in [
        "planner command, role text 1, prompt ",
        "implementer command, role text ",
        "diagnoser command, ",
        "  proposal  write a word",
        "      - write it anew",
    ] {
        assert!(shown.contains(words), "{words:?} is not in {shown}");
    }
    project.is_clean();
}

/// The control: the same implementer without anybody who tells it the word.
#[test]
fn without_advice_nobody_finds_the_word() {
    let project = project(CONFIG);
    let printed = project.run("");
    for (id, ..) in STORIES {
        assert_eq!(project.stories()[*id]["state"], "escalated", "{id}\n{printed}");
    }
    project.is_clean();
}

/// An agent says which version it is before anything is made for it; one that is older than its adapter knows is refused in plain words.
#[test]
fn an_agent_that_is_too_old_is_refused_and_another_is_written_down() {
    let config = "[agents.implementer]\nadapter = \"aged\"\n[run]\niterations = 1\n";
    for (minimum, fits) in [("999.0.0", false), ("1.0.0", true)] {
        let project = Project::of("advised", Who::Caller, config, &[("AGED", &story("AGED"))]);
        let adapter = format!(
            "description = \"Not an agent\"\nprogram = \"git\"\narguments = [\"version\"]\nprompt_arguments = [\"--{{prompt}}\"]\nstream = \"text\"\n\
             contract = \"off\"\n[version]\narguments = [\"--version\"]\nminimum = \"{minimum}\"\nupdate = \"get a newer git\"\n"
        );
        project.world.write("home/.config/cofferdam/adapters/aged.toml", &adapter);
        let printed = project.run("");
        let (story, events) = (&project.stories()["AGED"], project.events());
        let (question, calls) = (story["question"].as_str().unwrap_or_default(), of(&events, "AGED", "agent.called"));
        if fits {
            let version = calls[0]["call"]["version"].as_str().unwrap_or_default();
            assert!(version.starts_with("git version "), "{calls:?}\n{printed}");
            assert_eq!(calls[0]["call"]["text_hash"].as_str().map(str::len), Some(64));
        } else {
            assert_eq!((story["state"].as_str(), calls.len()), (Some("blocked"), 0), "{story}\n{printed}");
            assert!(question.contains("`git` says that it is git version") && question.contains("needs 999.0.0 or newer"), "{question}");
            let shown = String::from_utf8_lossy(&project.output(&["show", "AGED"]).stdout).into_owned();
            assert!(shown.contains("next      get a newer git, then cofferdam retry AGED"), "{shown}");
        }
        project.is_clean();
    }
}
