//! Adapters: how a coding agent is called, as data. Built in, and a person's own.
//!
//! A file `NAME.toml` in `$XDG_CONFIG_HOME/cofferdam/adapters/` takes the place of the built-in of that name, or adds one. Files of the
//! repository are never read: what calls an agent is not for agents to write.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::protocol::Format;
use crate::base::name;
use crate::base::suggest::nearest;
use crate::base::text::list;
use crate::egress::Login;

/// The adapters that are part of the program, in the order in which they are shown.
pub const BUILT_IN: [(&str, &str); 7] = [
    ("claude", include_str!("adapters/claude.toml")),
    ("codex", include_str!("adapters/codex.toml")),
    ("opencode", include_str!("adapters/opencode.toml")),
    ("gemini", include_str!("adapters/gemini.toml")),
    ("qwen", include_str!("adapters/qwen.toml")),
    ("aider", include_str!("adapters/aider.toml")),
    ("command", include_str!("adapters/command.toml")),
];

/// A file of a person is not larger than this.
const LARGEST: u64 = 256 << 10;
/// The kernel takes no longer argument (128 KiB with its end).
const LONGEST_ARGUMENT: usize = (128 << 10) - 1;

/// How one agent is called.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adapter {
    #[serde(skip)]
    pub name: String,
    pub description: String,
    /// Its program, looked up on PATH inside. Empty: the configuration names it.
    #[serde(default)]
    pub program: String,
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Only when a model is configured.
    #[serde(default)]
    pub model_arguments: Vec<String>,
    /// Only when the gateway serves the model on an address inside.
    #[serde(default)]
    pub endpoint_arguments: Vec<String>,
    /// The last ones.
    #[serde(default)]
    pub prompt_arguments: Vec<String>,
    pub stream: Format,
    #[serde(default)]
    pub answers: Answers,
    /// When it shows that it understood the story, unless the configuration says otherwise.
    #[serde(default)]
    pub contract: Contract,
    pub version: Option<Version>,
    /// Values may use placeholders; one that uses `{endpoint}` or `{model}` is left out when there is none. So is a file.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    #[serde(default, rename = "file")]
    pub files: Vec<File>,
    /// How its own program keeps a person's login on the host: the first that is there counts, where there is no key.
    #[serde(default, rename = "login")]
    pub logins: Vec<Login>,
    pub provider: Option<Provider>,
}

/// Where the answers of a role are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answers {
    /// Files in `/run/cofferdam/out/`; the last message when there is none.
    #[default]
    File,
    /// It cannot write there: its last message.
    Message,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Contract {
    #[default]
    With,
    Before,
    Off,
}

/// How to ask which version is installed, and which is the oldest that works.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    pub arguments: Vec<String>,
    pub minimum: String,
    /// What to do about one that is older.
    pub update: Option<String>,
}

/// A small file below the agent's private home.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub path: String,
    pub content: String,
}

/// Whose model it uses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    pub host: String,
    /// The variable it reads its key from: inside it holds a placeholder.
    pub key: String,
    /// The variable that names another address of the model.
    pub endpoint: Option<String>,
    /// What that variable's value ends with.
    #[serde(default)]
    pub endpoint_path: String,
    /// A model server of one's own, without a path: it takes the host's place.
    pub url: Option<String>,
}

/// Why there is no adapter.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    #[error("there is no adapter `{name}`")]
    Unknown { name: String, known: Vec<String> },
    #[error("{}: {why}", path.display())]
    Bad { path: PathBuf, why: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

impl AdapterError {
    /// What to do next.
    pub fn next(&self) -> String {
        match self {
            Self::Unknown { name, known } => match nearest(name, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the adapters are {}; a file adapters/{name}.toml in your configuration folder adds one", list(known)),
            },
            Self::Bad { .. } => "mend the file, or remove it to use the built-in adapter".to_owned(),
            Self::Io { .. } => "is the file readable?".to_owned(),
        }
    }
}

/// The adapter of a name: a person's own first. `folder` is where theirs are.
///
/// # Errors
/// When there is none, or a file is wrong. A person's file that cannot be read is never passed over in silence.
pub fn load(name: &str, folder: Option<&Path>) -> Result<Adapter, AdapterError> {
    if name::flaw(name).is_none()
        && let Some(path) = folder.map(|folder| folder.join(format!("{name}.toml")))
    {
        match fs_err::metadata(&path) {
            Ok(status) if status.len() > LARGEST => {
                return Err(AdapterError::Bad { path, why: format!("it is larger than {} KiB", LARGEST >> 10) });
            }
            Ok(_) => {
                let text = fs_err::read_to_string(&path).map_err(|source| AdapterError::Io { path: path.clone(), source })?;
                return parse(name, &text).map_err(|why| AdapterError::Bad { path, why });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(AdapterError::Io { path, source }),
        }
    }
    match BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
        Some((_, text)) => parse(name, text).map_err(|why| AdapterError::Bad { path: format!("{name}.toml").into(), why }),
        None => Err(AdapterError::Unknown { name: name.to_owned(), known: known(folder) }),
    }
}

/// The names there are.
pub fn known(folder: Option<&Path>) -> Vec<String> {
    let mut names: Vec<String> = BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).collect();
    for entry in folder.and_then(|folder| fs_err::read_dir(folder).ok()).into_iter().flatten().flatten().take(1000) {
        let name = entry.file_name().to_string_lossy().strip_suffix(".toml").map(str::to_owned);
        names.extend(name.filter(|name| name::flaw(name).is_none()));
    }
    names.sort();
    names.dedup();
    names
}

/// Reads one file. Pure.
///
/// # Errors
/// What is wrong, with the line.
pub fn parse(name: &str, text: &str) -> Result<Adapter, String> {
    let mut adapter: Adapter = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    adapter.name = name.to_owned();
    let own_program = adapter.program.is_empty();
    if own_program && name != "command" {
        return Err("`program` is missing: what is to be run?".to_owned());
    }
    for file in &adapter.files {
        if let Some(why) = crate::base::path::flaw(&file.path) {
            return Err(format!("the file `{}` {why}", file.path));
        }
    }
    if let Some(why) = adapter.logins.iter().find_map(Login::flaw) {
        return Err(why);
    }
    let reads_prompt = adapter.arguments.iter().chain(&adapter.prompt_arguments).any(|a| a.contains("{prompt"));
    if !own_program && !reads_prompt {
        return Err("no argument holds `{prompt_text}` or `{prompt}`: the agent would not know what to do".to_owned());
    }
    Ok(adapter)
}

/// What is put in for placeholders.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub task: &'a str,
    pub prompt: &'a str,
    pub prompt_text: &'a str,
    pub out: &'a str,
    pub story: &'a str,
    pub model: Option<&'a str>,
    /// The private home inside.
    pub home: &'a str,
    /// The address on which the model answers inside, without a path.
    pub endpoint: Option<&'a str>,
    /// Is a login of the host used there, and no key? What belongs to it inside comes with the login.
    pub login: bool,
}

/// What is run inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The program first.
    pub arguments: Vec<OsString>,
    pub environment: Vec<(OsString, OsString)>,
    /// Below the private home.
    pub files: Vec<(String, String)>,
}

/// What a key's variable holds inside. The gateway puts the real one in, outside, for its own host only.
pub const PLACEHOLDER: &str = "cofferdam-placeholder";

impl Adapter {
    /// What to run for a call. Pure.
    pub fn invocation(&self, call: &Call<'_>) -> Invocation {
        let mut arguments = vec![OsString::from(&self.program)];
        let parts = [
            (&self.arguments, true),
            (&self.model_arguments, call.model.is_some()),
            (&self.endpoint_arguments, call.endpoint.is_some() && !call.login),
            (&self.prompt_arguments, true),
        ];
        for (list, _) in parts.iter().filter(|(_, wanted)| *wanted) {
            arguments.extend(list.iter().map(|argument| OsString::from(call.fill(argument))));
        }
        let mut environment: Vec<(OsString, OsString)> = Vec::new();
        let lacks =
            |text: &str| (text.contains("{endpoint}") && call.endpoint.is_none()) || (text.contains("{model}") && call.model.is_none());
        for (key, value) in &self.environment {
            if !lacks(value) {
                environment.push((key.into(), call.fill(value).into()));
            }
        }
        if let Some(provider) = self.provider.as_ref().filter(|_| !call.login) {
            environment.push(((&provider.key).into(), PLACEHOLDER.into()));
            if let (Some(variable), Some(endpoint)) = (&provider.endpoint, call.endpoint) {
                environment.push((variable.into(), format!("{endpoint}{}", provider.endpoint_path).into()));
            }
        }
        let files =
            self.files.iter().filter(|file| !lacks(&file.content)).map(|file| (file.path.clone(), call.fill(&file.content))).collect();
        Invocation { arguments, environment, files }
    }

    /// Is this version, as its program printed it, new enough? `None` when none can be read from it.
    pub fn is_new_enough(&self, printed: &str) -> Option<bool> {
        let minimum = numbers(&self.version.as_ref()?.minimum)?;
        Some(numbers(printed)? >= minimum)
    }
}

impl Call<'_> {
    /// Every placeholder once, from left to right: what is put in is not looked at again.
    pub fn fill(&self, text: &str) -> String {
        let short = format!("Read the file {} and do what it says.", self.prompt);
        // An argument that the kernel does not take is no way to tell an agent what to do.
        let prompt_text = if self.prompt_text.len() + text.len() > LONGEST_ARGUMENT { &short } else { self.prompt_text };
        let words = [
            ("{task}", self.task),
            ("{prompt}", self.prompt),
            ("{prompt_text}", prompt_text),
            ("{out}", self.out),
            ("{story}", self.story),
            ("{model}", self.model.unwrap_or_default()),
            ("{home}", self.home),
            ("{endpoint}", self.endpoint.unwrap_or_default()),
        ];
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            out.push_str(rest.get(..at).unwrap_or_default());
            rest = rest.get(at..).unwrap_or_default();
            let found = words.iter().find(|(word, _)| rest.starts_with(word));
            let (put, length) = found.map_or(("{", 1), |(word, value)| (*value, word.len()));
            out.push_str(put);
            rest = rest.get(length..).unwrap_or_default();
        }
        out + rest
    }
}

/// The first `1.2.3` of a text.
fn numbers(text: &str) -> Option<Vec<u64>> {
    let word = text
        .split(|c: char| !(c.is_ascii_digit() || c == '.'))
        .find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()))?;
    Some(word.split('.').filter_map(|part| part.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CALL: Call<'_> = Call {
        task: "/run/cofferdam/task.json",
        prompt: "/run/cofferdam/prompt.md",
        prompt_text: "Do {task}.\nSCRIPT: story",
        out: "/run/cofferdam/out",
        story: "US-1",
        model: Some("m1"),
        home: "/home/agent",
        endpoint: None,
        login: false,
    };

    fn words(invocation: &Invocation) -> Vec<String> {
        invocation.arguments.iter().map(|a| a.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn every_built_in_adapter_is_whole() {
        for (name, _) in BUILT_IN {
            let adapter = load(name, None).unwrap_or_else(|e| panic!("{e}"));
            let call = adapter.invocation(&CALL);
            if name != "command" {
                let told = [CALL.prompt_text, CALL.prompt].map(str::to_owned);
                assert!(told.iter().any(|told| words(&call).contains(told)), "{name}: what is put in is not looked at again");
                assert!(adapter.is_new_enough("v999.0.0").expect("a version") && !adapter.is_new_enough("tool 0.0.1").expect("a version"));
                let provider = adapter.provider.as_ref().expect("a provider");
                assert!(call.environment.contains(&((&provider.key).into(), PLACEHOLDER.into())), "{name}: no key enters a sandbox");
            }
            assert!(call.environment.iter().all(|(_, value)| !value.to_string_lossy().contains("{endpoint}")), "{name}");
        }
        assert_eq!(BUILT_IN.map(|(name, _)| name), crate::config::keys::ADAPTERS);
    }

    #[test]
    fn claude_and_codex_are_called_as_they_want_it() {
        let claude = load("claude", None).expect("claude").invocation(&CALL);
        assert_eq!(words(&claude)[..6], ["claude", "-p", "--output-format", "stream-json", "--verbose", "--dangerously-skip-permissions"]);
        assert_eq!(words(&claude)[6..8], ["--model", "m1"]);
        let served = Call { endpoint: Some("http://127.0.0.1:8080"), model: None, ..CALL };
        let codex = load("codex", None).expect("codex").invocation(&served);
        assert!(words(&codex).iter().any(|a| a.contains("base_url=\"http://127.0.0.1:8080/v1\"")), "{codex:?}");
        assert!(!words(&codex).contains(&"-m".to_owned()));
        let claude = load("claude", None).expect("claude").invocation(&served);
        assert!(claude.environment.contains(&("ANTHROPIC_BASE_URL".into(), "http://127.0.0.1:8080".into())));
    }

    #[test]
    fn a_prompt_that_no_argument_takes_is_read_from_its_file() {
        let long = "x".repeat(LONGEST_ARGUMENT + 1);
        let call = load("claude", None).expect("claude").invocation(&Call { prompt_text: &long, ..CALL });
        assert_eq!(words(&call).last().map(String::as_str), Some("Read the file /run/cofferdam/prompt.md and do what it says."));
    }

    #[test]
    fn a_persons_own_file_comes_first_and_its_faults_are_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| fs_err::write(folder.path().join(name), text).expect("written");
        write("mine.toml", "description = \"Mine\"\nprogram = \"mine\"\nprompt_arguments = [\"{prompt}\"]\nstream = \"text\"\n");
        write("claude.toml", "description = \"Other\"\nprogram = \"other\"\narguments = [\"{prompt_text}\"]\nstream = \"text\"\n");
        assert_eq!(load("mine", Some(folder.path())).expect("mine").description, "Mine");
        assert_eq!(load("claude", Some(folder.path())).expect("claude").program, "other");
        let error = load("cluade", Some(folder.path())).expect_err("unknown");
        assert_eq!(error.next(), "did you mean `claude`?");
        for (text, why) in [
            ("description = \"x\"\nprogram = \"x\"\narguments = [\"{prompt}\"]\nstream = \"text\"\nstraem = 1\n", "straem"),
            ("description = \"x\"\nprogram = \"x\"\nstream = \"text\"\n", "would not know what to do"),
            ("description = \"x\"\nstream = \"text\"\narguments = [\"{prompt}\"]\n", "`program` is missing"),
            (
                "description = \"x\"\nprogram = \"x\"\narguments = [\"{prompt}\"]\nstream = \"text\"\n[[file]]\npath = \"../x\"\ncontent = \"\"\n",
                "leaves",
            ),
            ("description = [", "TOML"),
        ] {
            write("bad.toml", text);
            let error = load("bad", Some(folder.path())).expect_err(text).to_string();
            assert!(error.contains(why) && error.contains("bad.toml"), "{why} not in {error}");
        }
        assert!(matches!(load("../mine", Some(folder.path())), Err(AdapterError::Unknown { .. })));
    }

    proptest! {
        #[test]
        fn no_text_breaks_filling(text in "[{}a-z_é]{0,40}", prompt in "\\PC{0,20}") {
            drop(Call { prompt_text: &prompt, ..CALL }.fill(&text));
        }
    }
}
