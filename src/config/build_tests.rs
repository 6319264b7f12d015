//! Every key does something, and what contradicts is shown where it stands.

use super::super::keys::{AGENTS, KEYS, SANDBOXES};
use super::super::layer::{Origin, put, read, read_flag};
use super::*;
use crate::base::source::Source;

fn with(text: &str) -> (Option<Config>, Vec<Problem>) {
    let mut settings = Settings::new();
    let (built_in, problems) = read(&Source::new("default.toml", include_str!("default.toml")), &Origin::BuiltIn);
    assert_eq!(problems, []);
    put(&mut settings, built_in);
    let (layer, mut problems) = read(&Source::new("cofferdam.toml", text), &Origin::File);
    put(&mut settings, layer);
    let (config, more) = build(&settings);
    problems.extend(more);
    (config.filter(|_| !crate::base::source::any_error(&problems)), problems)
}

#[test]
fn the_built_in_layer_is_a_whole_configuration() {
    let (config, problems) = with("");
    assert_eq!(problems, []);
    let config = config.expect("config");
    assert_eq!((config.run.parallel, config.run.iterations, config.run.review_cycles, config.run.stagnation), (2, 6, 5, 3));
    assert_eq!((config.budget.model_calls, config.run.approach_failures, config.run.integration_every), (Some(30), 3, 2));
}

#[test]
fn every_key_changes_the_configuration() {
    let needed = [
        ("agents.", "agents.ROLE.adapter = \"claude\"\n"),
        ("gate[]", "name = \"x\"\nrun = \"true\"\n"),
        ("ci.", "ci.provider = \"github\"\nci.repository = \"a/b\"\nci.push = \"origin\"\n"),
        ("credential[]", "host = \"example.org\"\nheader = \"x-key\"\nfrom = \"env:X\"\n"),
    ];
    for key in KEYS {
        let names: &[&str] = if key.path.contains("{agent}") {
            &AGENTS
        } else if key.path.contains("{sandbox}") {
            &SANDBOXES
        } else {
            &["x"]
        };
        for name in names {
            let path = key.path.replace("{agent}", name).replace("{sandbox}", name).replace("{name}", "web");
            let extra = needed.iter().find(|(prefix, _)| path.starts_with(prefix)).map_or("", |(_, text)| text).replace("ROLE", name);
            let last = path.rsplit('.').next().expect("last");
            // A table cannot be given a key twice: the sample takes the place of what is needed.
            let extra: String =
                extra.lines().filter(|l| !l.split(" =").next().is_some_and(|k| k.ends_with(last))).fold(String::new(), |a, l| a + l + "\n");
            let sample = match path.as_str() {
                "run.review_notify" => "4",
                p if p.ends_with(".command") => "[\"./sample\", \"{task}\"]",
                p if p.ends_with(".adapter") => "\"gemini\"",
                "limits.implementer.wall" => "\"9m\"",
                "ci.repository" => "\"sample/path\"",
                "run.retry_delay" | "health.interval" => "\"7s\"",
                _ => key.kind.sample(),
            };
            let (base, text) = match path.split_once("[].") {
                Some((list, key)) => (format!("[[{list}]]\n{extra}"), format!("[[{list}]]\n{extra}{key} = {sample}\n")),
                None if path.ends_with(".command") => {
                    (extra.replace("claude", "command"), format!("{}{path} = {sample}\n", extra.replace("claude", "command")))
                }
                None => (extra.clone(), format!("{extra}{path} = {sample}\n")),
            };
            let (config, problems) = with(&text);
            let config = config.unwrap_or_else(|| panic!("{text}: {problems:#?}"));
            assert_ne!(Some(config), with(&base).0, "{text} changes nothing");
        }
    }
}

#[test]
fn what_contradicts_is_shown_at_its_place() {
    for (text, rule, line) in [
        ("[run]\nreview_cycles = 2\n", "contradiction", None),
        ("[run]\nreview_cycles = 2\nreview_notify = 3\n", "contradiction", Some(3)),
        ("[health]\nstale_after = \"3s\"\n", "contradiction", Some(2)),
        ("[agents.reviewer]\nmodel = \"x\"\n", "missing-key", Some(2)),
        ("[agents.reviewer]\nadapter = \"command\"\n", "missing-key", Some(2)),
        ("[agents.reviewer]\nadapter = \"claude\"\ncommand = [\"x\"]\n", "contradiction", Some(3)),
        ("[[gate]]\nname = \"a\"\n", "missing-key", Some(2)),
        ("[[gate]]\nname = \"a\"\nrun = \"x\"\n[[gate]]\nname = \"a\"\nrun = \"y\"\n", "duplicate-id", Some(5)),
        ("[runn]\n", "unknown-key", Some(1)),
        ("[run]\nparalel = 2\n", "unknown-key", Some(2)),
        ("run = 1\n", "wrong-kind", Some(1)),
        ("[gate]\nname = \"a\"\n", "wrong-kind", Some(1)),
        ("[run]\nparallel = 0\n", "bad-value", Some(2)),
        ("[run]\nparallel = \"2\"\n", "wrong-kind", Some(2)),
        ("[run]\nstart_on = \"merge\"\n", "bad-value", Some(2)),
        ("[project]\nstories = \"../x\"\n", "bad-value", Some(2)),
        ("[project]\ntarget = \"-x\"\n", "bad-value", Some(2)),
        ("[agents.gate]\nadapter = \"claude\"\n", "unknown-key", Some(1)),
        ("[limits.gate]\nmemory = \"4Gb\"\n", "bad-value", Some(2)),
        ("[network]\nimplementer = [\"https://x.org/\"]\n", "bad-value", Some(2)),
        ("[[credential]]\nhost = \"x.org\"\nheader = \"a\"\nfrom = \"env:X\"\npath = \"/a/../b\"\n", "bad-value", Some(5)),
        ("[[credential]]\nhost = \"x.org\"\nheader = \"a\"\nfrom = \"env:X\"\nvariable = \"A B\"\n", "bad-value", Some(5)),
        ("[[credential]]\nhost = \"x.org\"\nheader = \"a b\"\nfrom = \"env:X\"\n", "bad-value", Some(3)),
        ("[[credential]]\nhost = \"x.org\"\nheader = \"a\"\nfrom = \"sk-123\"\n", "bad-value", Some(4)),
        ("[agents.implementer]\nadapter = \"command\"\ncommand = [\"x\", \"{tsk}\"]\n", "bad-value", Some(3)),
        ("[budget]\nusd = -1\n", "bad-value", Some(2)),
        ("[ci]\nprovider = \"github\"\npush = \"origin\"\n", "contradiction", Some(2)),
        ("[ci]\nprovider = \"github\"\nrepository = \"a/b\"\n", "contradiction", Some(2)),
        ("[ci]\nprovider = \"github\"\nrepository = \"a/../b\"\npush = \"origin\"\n", "contradiction", Some(2)),
        ("[ci]\nprovider = \"command\"\n", "contradiction", Some(2)),
        ("[ci]\nprovider = \"command\"\ncommand = [\"x\"]\n[[gate]]\nname = \"ci\"\nrun = \"x\"\n", "contradiction", Some(2)),
        ("[ci]\nrequired = [\" \"]\n", "bad-value", Some(2)),
        ("a = = 1\n", "syntax", Some(1)),
    ] {
        let (config, problems) = with(text);
        assert!(config.is_none(), "{text}");
        assert_eq!(problems[0].rule, rule, "{text}: {problems:#?}");
        if let Some(line) = line {
            assert_eq!(problems[0].place.as_ref().expect("place").line, line, "{text}: {problems:#?}");
        }
    }
}

#[test]
fn a_repository_chooses_no_program_of_the_host() {
    let text = "[ci]\nprovider = \"command\"\ncommand = [\"./ci\"]\n";
    let theirs = Origin::Target { branch: "main".into(), commit: "0".repeat(40) };
    for (origin, allowed) in [(theirs, false), (Origin::User, true), (Origin::Flag, true), (Origin::File, true)] {
        let mut settings = Settings::new();
        put(&mut settings, read(&Source::new("default.toml", include_str!("default.toml")), &Origin::BuiltIn).0);
        put(&mut settings, read(&Source::new("cofferdam.toml", text), &origin).0);
        let (config, problems) = build(&settings);
        assert_eq!(config.is_some(), allowed, "{origin:?}: {problems:#?}");
        assert_eq!(problems.iter().any(|problem| problem.rule == "host-command"), !allowed);
    }
}

#[test]
fn a_repository_shares_no_login() {
    let theirs = Origin::Target { branch: "main".into(), commit: "0".repeat(40) };
    for (origin, allowed) in [(theirs, false), (Origin::File, false), (Origin::User, true), (Origin::Flag, true)] {
        for (word, login) in [("share", LoginUse::Share), ("off", LoginUse::Off), ("gateway", LoginUse::Gateway)] {
            let text = format!("[agents.implementer]\nadapter = \"claude\"\nlogin = \"{word}\"\n");
            let mut settings = Settings::new();
            put(&mut settings, read(&Source::new("default.toml", include_str!("default.toml")), &Origin::BuiltIn).0);
            put(&mut settings, read(&Source::new("cofferdam.toml", &text), &origin).0);
            let (config, problems) = build(&settings);
            let allowed = allowed || word != "share";
            assert_eq!(config.map(|config| config.agents[&Role::Implementer].login), allowed.then_some(login), "{origin:?}: {problems:#?}");
            assert_eq!(problems.iter().any(|problem| problem.rule == "not-here"), !allowed);
        }
    }
}

#[test]
fn a_secret_written_by_mistake_is_marked_but_its_message_does_not_repeat_it() {
    let (_, problems) = with("[[credential]]\nhost = \"x.org\"\nheader = \"a\"\nfrom = \"sk-123456\"\n");
    assert!(!problems[0].what.contains("sk-123456"), "{}", problems[0].what);
    assert!(!problems[0].place.as_ref().expect("place").excerpt.contains("sk-123456"));
}

#[test]
fn a_higher_layer_replaces_a_list_of_tables_as_a_whole() {
    let mut settings = Settings::new();
    put(
        &mut settings,
        read(&Source::new("a", "[[gate]]\nname = \"a\"\nrun = \"x\"\n[[gate]]\nname = \"b\"\nrun = \"y\"\n"), &Origin::User).0,
    );
    put(&mut settings, read(&Source::new("b", "[[gate]]\nname = \"c\"\nrun = \"z\"\n"), &Origin::File).0);
    assert_eq!(settings.keys().map(String::as_str).collect::<Vec<_>>(), ["gate[0].name", "gate[0].run"]);
}

#[test]
fn a_flag_is_toml_or_a_text() {
    for (flag, value) in [
        ("run.parallel=4", Value::Count(4)),
        ("project.target=develop", Value::Text("develop".into())),
        ("merge.push=\"origin\"", Value::Text("origin".into())),
    ] {
        let (settings, problems) = read_flag(flag);
        assert_eq!(problems, [], "{flag}");
        assert_eq!(settings[0].value, value);
    }
    assert_eq!(read_flag("run.parallel").1[0].rule, "syntax");
    assert_eq!(read_flag("run.paralel=4").1[0].rule, "unknown-key");
}

proptest::proptest! {
    #[test]
    fn never_panics(text in "[\\[\\]\\.=\"a-z0-9\\n #,{}]{0,80}", flag in "\\PC{0,20}") {
        drop(with(&text));
        drop(read_flag(&flag));
    }
}
