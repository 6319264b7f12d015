//! What was found, as a `cofferdam.toml` that explains each of its lines. Pure.

use super::Found;
use super::agents::{Chosen, Roles};
use crate::base::text::one_line;

/// What the file says beside the gates.
#[derive(Clone, Debug)]
pub struct Choices<'a> {
    pub target: &'a str,
    pub stories: &'a str,
    pub roles: &'a Roles,
}

/// A comment beside a value ends here; a longer one stands above it.
const WIDTH: usize = 130;
/// The usual globs, which a list of one's own replaces.
const PROTECTED: [&str; 5] = ["cofferdam.toml", ".github/**", ".gitlab-ci.yml", ".ci/**", "ci/**"];
const TESTS: [&str; 6] = ["tests/**", "test/**", "**/*_test.*", "**/test_*.py", "**/*.test.*", "**/*.spec.*"];

pub fn config(found: &Found, choices: &Choices<'_>) -> String {
    let mut out = Out(String::new());
    out.comment("What cofferdam does in this repository. Written by `cofferdam init`; from here on it is yours.");
    out.comment("It is read from the commit of the target branch: an edit holds once it is committed there.");
    out.comment("`cofferdam config show` prints every value and where it comes from; `cofferdam lint` checks this file.");
    out.table("[project]");
    out.value("target", &text(choices.target), "the branch that proven work lands on");
    out.value("stories", &text(choices.stories), "the stories: one Markdown file each, or one file with all");
    out.table("[run]");
    out.value("parallel", "2", "how many stories are worked on at once");
    gates(&mut out, found);
    verify(&mut out, found);
    agents(&mut out, choices.roles);
    budget(&mut out);
    out.0
}

fn gates(out: &mut Out, found: &Found) {
    out.blank();
    out.comment("Gates: commands that must exit 0, in a fresh sandbox, on the exact tree that would land.");
    out.comment("They see what is committed and nothing else, and have no network. Packages that were downloaded before are there:");
    match found.fetch.as_slice() {
        [] => out.comment("    whatever a gate needs has to be installed or downloaded outside of it"),
        fetch => fetch.iter().for_each(|command| out.comment(&format!("    {command}"))),
    }
    if found.gates.is_empty() {
        out.comment("None was found. Without a gate, stories land on their own verification alone.");
        for line in ["[[gate]]", "name = \"test\"          # what it is called", "run = \"./test.sh\"      # the command"] {
            out.comment(line);
        }
    }
    for gate in &found.gates {
        out.table("[[gate]]");
        out.comment(&format!("Chosen because {}.", gate.because));
        out.value("name", &text(&gate.name), "`cofferdam gate NAME` runs it by this name");
        out.value("run", &text(&gate.run), "the command");
        out.value("timeout", "\"20m\"", "longer is red");
        if !gate.cache.is_empty() {
            out.value("cache", &list(&gate.cache), "kept warm; only what a landed tree left there is kept");
        }
        if let Some(report) = gate.report {
            out.value("report", &text(report), "its tests are counted: skipped is not passed, none at all is red");
        }
    }
}

fn verify(out: &mut Out, found: &Found) {
    if found.protected.is_empty() && found.tests.is_empty() {
        return;
    }
    out.table("[verify]");
    if !found.protected.is_empty() {
        let all: Vec<String> = PROTECTED.iter().map(|glob| (*glob).to_owned()).chain(found.protected.iter().cloned()).collect();
        out.value("protected", &list(&all), "these decide about other files: a change waits for `cofferdam approve`");
    }
    if !found.tests.is_empty() {
        let mut all: Vec<String> = TESTS.iter().map(|glob| (*glob).to_owned()).collect();
        for glob in &found.tests {
            if !all.contains(glob) {
                all.push(glob.clone());
            }
        }
        out.value("tests", &list(&all), "deleting, skipping or weakening a test here is a finding");
    }
}

fn agents(out: &mut Out, roles: &Roles) {
    for (role, chosen, what) in [
        ("implementer", &roles.implementer, "Who writes a change: in a sandbox, with nothing of yours but the story's own worktree."),
        ("reviewer", &roles.reviewer, "Who judges it: another process, which cannot write the tree and did not hear the implementer."),
    ] {
        out.blank();
        out.comment(what);
        match chosen {
            Some(chosen) => agent(out, role, chosen),
            None => {
                out.comment("None was chosen. For example:");
                for line in [format!("[agents.{role}]"), "adapter = \"claude\"     # or codex, opencode, gemini, qwen, aider".to_owned()] {
                    out.comment(&line);
                }
                out.comment(
                    "or any program that reads a task and edits files: adapter = \"command\" and command = [\"./my-agent\", \"{task}\"]",
                );
            }
        }
    }
    out.blank();
    out.comment("A key is taken from the agent's usual variable where `cofferdam run` is started, and enters no sandbox. From elsewhere:");
    for line in [
        "[[credential]]",
        "host = \"api.example.org\"",
        "header = \"x-api-key\"",
        "from = \"file:/path/of/the/key\"   # or env:NAME, command:COMMAND",
    ] {
        out.comment(line);
    }
}

fn agent(out: &mut Out, role: &str, chosen: &Chosen) {
    out.line(&format!("[agents.{role}]"));
    out.value("adapter", &text(&chosen.adapter), &format!("chosen because {}", chosen.because));
    if !chosen.command.is_empty() {
        out.value("command", &list(&chosen.command), "the program and its arguments");
    }
    if chosen.adapter != "command" {
        out.comment("model = \"…\"            # else the agent's own default");
    }
}

fn budget(out: &mut Out) {
    out.table("[budget]");
    out.value("wall", "\"4h\"", "the time that one story may take in all");
    out.comment("usd = 5.0              # the money that one story may cost; there is no bound unless you set one");
}

/// A text as TOML writes it.
fn text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|one| text(one)).collect();
    format!("[{}]", texts.join(", "))
}

struct Out(String);

impl Out {
    fn line(&mut self, line: &str) {
        self.0.push_str(line.trim_end());
        self.0.push('\n');
    }

    fn blank(&mut self) {
        self.line("");
    }

    fn comment(&mut self, text: &str) {
        self.line(&format!("# {}", one_line(text)));
    }

    fn table(&mut self, head: &str) {
        self.blank();
        self.line(head);
    }

    fn value(&mut self, key: &str, value: &str, why: &str) {
        let setting = format!("{key} = {value}");
        let beside = format!("{setting:<24} # {}", one_line(why));
        if beside.chars().count() <= WIDTH {
            self.line(&beside);
        } else {
            self.comment(why);
            self.line(&setting);
        }
    }
}
