//! The `command` adapter: any program that reads a task and edits files. Pure.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::folder::{BASE, OUT, PROMPT, TASK};
use crate::config::Agent;

/// What is to be executed inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The program and its arguments.
    pub arguments: Vec<OsString>,
    /// An absolute path that must be visible inside.
    pub program: Option<PathBuf>,
    /// Does the program come from the base tree?
    pub from_base: bool,
    /// What the log calls it: `command`, `claude/…`.
    pub name: String,
}

/// The invocation of a configured command. A program that is named by a relative path is the base's, never the story's.
pub fn invocation(agent: &Agent, story: &str) -> Invocation {
    let words = [
        ("{task}", TASK),
        ("{prompt}", PROMPT),
        ("{out}", OUT),
        ("{model}", agent.model.as_deref().unwrap_or_default()),
        ("{story}", story),
    ];
    let mut arguments: Vec<OsString> = agent.command.iter().map(|argument| replace(argument, &words).into()).collect();
    let program = arguments.first().map(PathBuf::from).unwrap_or_default();
    let is_path = program.as_os_str().as_encoded_bytes().contains(&b'/');
    let from_base = is_path && program.is_relative();
    if from_base && let Some(first) = arguments.first_mut() {
        let clean: PathBuf = program.components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect();
        *first = Path::new(BASE).join(clean).into_os_string();
    }
    let name = agent.model.as_ref().map_or_else(|| agent.adapter.clone(), |model| format!("{}/{model}", agent.adapter));
    Invocation { arguments, program: (is_path && !from_base).then_some(program), from_base, name }
}

/// Every placeholder once, from left to right: what is put in is not looked at again.
fn replace(text: &str, words: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        match words.iter().find(|(word, _)| rest.starts_with(word)) {
            Some((word, value)) => {
                out.push_str(value);
                rest = &rest[word.len()..];
            }
            None => {
                out.push('{');
                rest = &rest[1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Contract;

    fn agent(command: &[&str]) -> Agent {
        Agent {
            adapter: "command".into(),
            model: Some("{task}".into()),
            command: command.iter().map(|&c| c.into()).collect(),
            profile: None,
            contract: Contract::Off,
            login: crate::config::LoginUse::Gateway,
        }
    }

    #[test]
    fn placeholders_are_replaced_once_and_a_relative_program_is_the_bases() {
        let call = invocation(&agent(&["./bin/../agent", "--task={task}", "{model}", "{story}{", "{x}"]), "US-1");
        let arguments: Vec<_> = call.arguments.iter().map(|a| a.to_string_lossy()).collect();
        assert_eq!(arguments, ["/run/cofferdam/base/bin/agent", "--task=/run/cofferdam/task.json", "{task}", "US-1{", "{x}"]);
        assert!(call.from_base && call.program.is_none());
        let call = invocation(&agent(&["agent"]), "x");
        assert!(!call.from_base && call.program.is_none() && call.arguments == ["agent"]);
        assert_eq!(invocation(&agent(&["/opt/a"]), "x").program, Some("/opt/a".into()));
    }
}
