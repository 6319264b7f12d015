//! Agents of this host, and who gets which role. Pure: who is there was found out by whoever asks.

use super::Missing;

/// One agent as it was found: by its program's name on PATH, the name of a variable, the name of a file. No value is ever read.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Agent {
    pub name: String,
    pub installed: bool,
    /// The variable that its key is taken from.
    pub key: Option<String>,
    /// That variable is set.
    pub has_key: bool,
    /// A login of its own is there.
    pub logged_in: bool,
    /// A run uses it, through the gateway.
    pub login_used: bool,
}

/// Who does the work and who judges it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Roles {
    pub implementer: Option<Chosen>,
    pub reviewer: Option<Chosen>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Chosen {
    pub adapter: String,
    /// With adapter `command`.
    pub command: Vec<String>,
    pub because: String,
}

/// Where agents whose logins no run uses keep them, below the home folder. Only that it is there is asked.
pub const UNUSED_LOGINS: [(&str, &str); 3] =
    [("opencode", ".local/share/opencode/auth.json"), ("qwen", ".qwen/oauth_creds.json"), ("aider", ".aider/oauth-keys.env")];

impl Agent {
    /// In a person's words.
    pub fn state(&self) -> String {
        let key = match (&self.key, self.has_key) {
            (Some(key), true) => format!("key in {key}"),
            _ if self.login_used => "logged in".to_owned(),
            (Some(key), false) if self.logged_in => format!("logged in; {key} is not set"),
            (Some(key), false) => format!("{key} is not set"),
            (None, _) if self.logged_in => "logged in".to_owned(),
            (None, _) => "no key known".to_owned(),
        };
        format!("{} ({key})", self.name)
    }
}

/// Gives the roles out: whoever was asked for, else whoever is here, those with a key first. The reviewer is another one if there is one.
pub fn choose(agents: &[Agent], implementer: Option<&str>, reviewer: Option<&str>) -> (Roles, Vec<Missing>) {
    let mut missing = Vec::new();
    let mut here: Vec<&Agent> = agents.iter().filter(|agent| agent.installed).collect();
    here.sort_by_key(|agent| !(agent.has_key || agent.login_used));
    let asked = |words: &str, missing: &mut Vec<Missing>| {
        let chosen = asked(words);
        if let Some(agent) = agents.iter().find(|agent| agent.name == chosen.adapter) {
            missing.extend(lacks(agent));
        }
        chosen
    };
    let first = |agent: &&Agent| Chosen {
        adapter: agent.name.clone(),
        command: Vec::new(),
        because: match (agent.has_key, agent.login_used) {
            (true, _) => "it is on PATH, and its key is set".to_owned(),
            (_, true) => "it is on PATH, and you are logged in".to_owned(),
            _ => "it is on PATH".to_owned(),
        },
    };
    let implementer = implementer.map(|words| asked(words, &mut missing)).or_else(|| {
        let agent = here.first()?;
        missing.extend(lacks(agent));
        Some(first(agent))
    });
    let Some(one) = implementer else {
        missing.push(Missing::new(
            "an agent: none of those that are known is on PATH",
            "install one, or name any program of yours: cofferdam init --agent './my-agent {task}'",
        ));
        return (Roles { implementer: None, reviewer: reviewer.map(|words| asked(words, &mut missing)) }, missing);
    };
    let reviewer = reviewer.map(|words| asked(words, &mut missing)).or_else(|| {
        if let Some(agent) = here.iter().find(|agent| agent.name != one.adapter) {
            missing.extend(lacks(agent));
            return Some(Chosen { because: format!("it is another one than {}", one.adapter), ..first(agent) });
        }
        // A program of one's own need not be able to judge.
        (one.adapter != "command").then(|| Chosen { because: "no other agent is on PATH".to_owned(), ..one.clone() })
    });
    match &reviewer {
        Some(other) if other.adapter == one.adapter && other.command == one.command => missing.push(Missing::new(
            "a second agent: the reviewer is the implementer's own kind, with the same blind spots",
            "install another one, or give the reviewer another `model`",
        )),
        None => missing.push(Missing::new("a reviewer", "add [agents.reviewer]; without one only tests and rules judge")),
        Some(_) => {}
    }
    (Roles { implementer: Some(one), reviewer }, missing)
}

/// The name of an adapter, or a program with its arguments.
fn asked(words: &str) -> Chosen {
    let because = "you asked for it".to_owned();
    if words.contains(['/', ' ']) {
        return Chosen { adapter: "command".to_owned(), command: words.split_whitespace().map(str::to_owned).collect(), because };
    }
    Chosen { adapter: words.to_owned(), command: Vec::new(), because }
}

fn lacks(agent: &Agent) -> Option<Missing> {
    if !agent.installed {
        return Some(Missing::new(format!("{}: it is not on PATH", agent.name), format!("install {} before cofferdam run", agent.name)));
    }
    let key = agent.key.as_ref().filter(|_| !agent.has_key && !agent.login_used)?;
    let login = if agent.logged_in { "; its own login is there, and runs use keys only" } else { "" };
    Some(Missing::new(
        format!("the key of {}: {key} is not set{login}", agent.name),
        format!("export {key}=… before cofferdam run, or add a [[credential]]"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str, installed: bool, has_key: bool) -> Agent {
        Agent {
            name: name.into(),
            installed,
            key: Some(format!("{}_KEY", name.to_uppercase())),
            has_key,
            logged_in: false,
            login_used: false,
        }
    }

    fn names(roles: &Roles) -> (Option<&str>, Option<&str>) {
        (roles.implementer.as_ref().map(|c| c.adapter.as_str()), roles.reviewer.as_ref().map(|c| c.adapter.as_str()))
    }

    #[test]
    fn the_reviewer_is_another_one_and_a_key_counts_more_than_the_order() {
        let all = [agent("claude", true, false), agent("codex", true, true), agent("gemini", false, true)];
        let (roles, missing) = choose(&all, None, None);
        assert_eq!(names(&roles), (Some("codex"), Some("claude")));
        assert_eq!(missing.len(), 1, "{missing:?}");
        assert!(missing[0].what.contains("CLAUDE_KEY is not set"));
        let (roles, missing) = choose(&all, Some("gemini"), Some("codex"));
        assert_eq!(names(&roles), (Some("gemini"), Some("codex")));
        assert!(missing[0].what.contains("gemini: it is not on PATH"));
        let (roles, missing) = choose(&all[..1], None, None);
        assert_eq!(names(&roles), (Some("claude"), Some("claude")));
        assert!(missing.iter().any(|m| m.what.contains("same blind spots")));
        let (roles, missing) = choose(&[], None, None);
        assert_eq!(names(&roles), (None, None));
        assert!(missing[0].what.starts_with("an agent"));
        let (roles, _) = choose(&[], Some("./agent --task {task}"), None);
        assert_eq!(roles.implementer.unwrap().command, ["./agent", "--task", "{task}"]);
        assert_eq!(roles.reviewer, None);
    }
}
