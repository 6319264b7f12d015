//! The logins that people's own agents keep on the host: an access token that is read outside for each request, and what stands for it inside.
//!
//! A subscription's token opens more than the model: what a person wrote there, their files, their account. So it is for the requests that its
//! description names and for no other. It is never renewed here: whoever renews a login ends the one that it was renewed from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SpanRound, Timestamp, Unit};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::endpoint::{Endpoint, mark};
use super::http1::{RequestHead, words};
use super::provider::Provider;
use super::request::Added;
use super::rule::ambiguous;
use crate::base::host::Authority;
use crate::base::reach::begins_with;

/// No login is longer.
const LONGEST: u64 = 256 << 10;
/// No text of a login that is shorter is a secret: names of plans, of scopes.
const SECRET: usize = 24;
/// What stands for the mark of a run in what lies inside.
const MARK: &str = "{mark}";
/// A number of this size or more counts milliseconds since 1970, a smaller one seconds.
const MILLISECONDS: f64 = 1e11;

/// How one program keeps a login, as its adapter describes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The file, below the person's home.
    pub path: String,
    /// The variable that names another folder for it: it takes the place of the first part of the path.
    pub folder: Option<String>,
    /// Where in it the token is: keys, with a dot between them.
    pub token: String,
    /// Where in it the token's end is, in seconds or milliseconds since 1970; `jwt`: in the token itself. Without it none is known.
    pub expires: Option<String>,
    /// What a person runs on the host when there is no login, or it has expired.
    pub renew: String,
    /// The host it is for, with a port when that is not 443.
    pub host: String,
    #[serde(deserialize_with = "by_name")]
    pub api: Provider,
    /// The requests that get the token begin like one of these. No others are sent.
    pub paths: Vec<String>,
    /// What else the service wants. `{a.b}` is a value of the file; any other text is added to what the program says there itself.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Variables inside. `{endpoint}`, `{mark}` and `{now}` are put in, as in the files.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Files below the home inside, by which the program believes itself logged in.
    #[serde(default, rename = "file")]
    pub files: Vec<LoginFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginFile {
    pub path: String,
    pub content: String,
}

fn by_name<'de, D: Deserializer<'de>>(text: D) -> Result<Provider, D::Error> {
    String::deserialize(text)?.parse().map_err(serde::de::Error::custom)
}

/// A login of this host, and the mark of what stands for it inside.
#[derive(Clone, Debug)]
pub struct Kept {
    pub login: Login,
    /// Where it is.
    pub at: PathBuf,
    /// How a person would write that.
    shown: String,
    mark: String,
}

/// What is to be said about a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Good {
        until: Option<Timestamp>,
    },
    Expired(Timestamp),
    /// There is a file, and no token in it.
    Empty,
    Unreadable(String),
}

/// A token, and the file that it was in.
struct Token {
    text: String,
    until: Option<Timestamp>,
    file: Value,
}

impl Login {
    /// What is wrong with the description.
    pub fn flaw(&self) -> Option<String> {
        if let Some(why) = crate::base::path::flaw(&self.path) {
            return Some(format!("the login's path `{}` {why}", self.path));
        }
        if let Some((file, why)) = self.files.iter().find_map(|file| Some((file, crate::base::path::flaw(&file.path)?))) {
            return Some(format!("the login's file `{}` {why}", file.path));
        }
        if let Err(why) = Authority::parse(&self.host, Some(443)) {
            return Some(format!("the login's host `{}` is none: {why}", self.host));
        }
        if let Some(path) = self.paths.iter().find(|path| ambiguous(path)) {
            return Some(format!("the login's path `{path}` is no plain path that begins with a slash"));
        }
        if self.paths.is_empty() {
            return Some("the login names no `paths`: which requests is its token for?".to_owned());
        }
        self.headers.keys().find(|name| !name.bytes().all(super::http1::is_token)).map(|name| format!("`{name}` is no header"))
    }

    /// Where it would be on this host, and how a person would write that.
    pub fn place(&self, home: &Path, variable: &dyn Fn(&str) -> Option<PathBuf>) -> (PathBuf, String) {
        let moved = self.folder.as_deref().and_then(variable).filter(|folder| folder.is_absolute());
        let below = self.path.split_once('/').map_or(self.path.as_str(), |(_, below)| below);
        match moved {
            Some(folder) => (folder.join(below), folder.join(below).display().to_string()),
            None => (home.join(&self.path), format!("~/{}", self.path)),
        }
    }
}

impl Kept {
    /// The first of these logins that is there, expired or not. None: there is no file, or nobody is logged in by it.
    pub fn find(logins: &[Login], home: &Path, variable: &dyn Fn(&str) -> Option<PathBuf>) -> Option<Self> {
        let mut all = logins.iter().map(|login| {
            let (at, shown) = login.place(home, variable);
            Self { login: login.clone(), at, shown, mark: format!("cofferdam-login-{}", mark()) }
        });
        all.find(|kept| kept.at.exists() && kept.state(Timestamp::now()) != State::Empty)
    }

    /// As a person writes it.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    pub fn state(&self, now: Timestamp) -> State {
        match self.read() {
            Err(why) => State::Unreadable(why),
            Ok(None) => State::Empty,
            Ok(Some(Token { until: Some(until), .. })) if until <= now => State::Expired(until),
            Ok(Some(token)) => State::Good { until: token.until },
        }
    }

    /// Everything in it that may be a secret: its long texts.
    pub fn secrets(&self) -> Vec<String> {
        let (mut found, mut open) = (Vec::new(), self.read().ok().flatten().map_or_else(Vec::new, |token| vec![token.file]));
        while let Some(value) = open.pop() {
            match value {
                Value::String(text) if text.len() >= SECRET => found.push(text),
                Value::Array(values) => open.extend(values),
                Value::Object(values) => open.extend(values.into_iter().map(|(_, value)| value)),
                _ => {}
            }
        }
        found
    }

    fn read(&self) -> Result<Option<Token>, String> {
        let shown = &self.shown;
        let length = match fs_err::metadata(&self.at) {
            Ok(status) => status.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("the login in {shown} cannot be read: {error}")),
        };
        if length > LONGEST {
            return Err(format!("the login in {shown} is longer than any"));
        }
        let bytes = fs_err::read(&self.at).map_err(|error| format!("the login in {shown} cannot be read: {error}"))?;
        // What is wrong with it may be told with a piece of it: it is not.
        let file: Value = serde_json::from_slice(&bytes).map_err(|_| format!("the login in {shown} is not JSON"))?;
        let Some(text) = text_at(&file, &self.login.token).filter(|text| !text.is_empty()) else { return Ok(None) };
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!("the login in {shown} holds characters that no header may hold"));
        }
        let until = match self.login.expires.as_deref() {
            Some("jwt") => claims(&text).and_then(|claims| moment(claims.get("exp")?)),
            Some(keys) => at(&file, keys).and_then(moment),
            None => None,
        };
        Ok(Some(Token { text, until, file }))
    }

    /// What this request takes along.
    ///
    /// # Errors
    /// Why there is nothing, and what a person runs; never the token.
    pub(super) fn headers(&self, head: &RequestHead<'_>, now: Timestamp) -> Result<Vec<Added>, String> {
        let (shown, renew) = (&self.shown, &self.login.renew);
        let run = format!("run `{renew}` on the host (outside of cofferdam)");
        let token = self.read().map_err(|why| format!("{why}; {run}"))?.ok_or_else(|| format!("nobody is logged in by {shown}; {run}"))?;
        if let Some(until) = token.until.filter(|until| *until <= now) {
            return Err(format!("the login in {shown} expired {} ago; {run}", about(until, now)));
        }
        let mut added = vec![Added { name: "authorization".to_owned(), value: format!("Bearer {}", token.text) }];
        for (name, wanted) in &self.login.headers {
            let value = match wanted.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(keys) => text_at(&token.file, keys).filter(|text| text.bytes().all(|b| b.is_ascii_graphic())),
                None => {
                    let mut said = words(&head.headers, name);
                    if !said.contains(&wanted.to_ascii_lowercase()) {
                        said.push(wanted.clone());
                    }
                    Some(said.join(","))
                }
            };
            added.extend(value.map(|value| Added { name: name.clone(), value }));
        }
        Ok(added)
    }

    /// Is the token for this request?
    pub(super) fn is_for(&self, path: &str) -> bool {
        !ambiguous(path) && self.login.paths.iter().any(|prefix| begins_with(path, prefix))
    }

    /// Its model, as a sandbox reaches it. None when its host is none.
    pub fn endpoint(self: &Arc<Self>) -> Option<Endpoint> {
        let upstream = Authority::parse(&self.login.host, Some(443)).ok()?;
        let provider = self.login.api;
        Some(Endpoint { provider, upstream, credential: None, login: Some(self.clone()), placeholder: self.mark.clone() })
    }

    /// A text of the description, with what belongs into it.
    fn fill(&self, text: &str) -> String {
        let now = Timestamp::now().to_string();
        text.replace(MARK, &self.mark).replace("{endpoint}", &Endpoint::address(self.login.api)).replace("{now}", &now)
    }

    /// Variables inside.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.login.environment.iter().map(|(name, value)| (name.clone(), self.fill(value))).collect()
    }

    /// Files inside, below the home.
    pub fn files(&self) -> Vec<(String, String)> {
        self.login.files.iter().map(|file| (file.path.clone(), self.fill(&file.content))).collect()
    }
}

/// A length of time for a person.
pub fn about(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).abs();
    let span = jiff::Span::try_from(seconds).unwrap_or_default();
    let smallest = if seconds.as_hours() >= 48 { Unit::Hour } else { Unit::Minute };
    let rounded = span.round(SpanRound::new().largest(Unit::Hour).smallest(smallest)).unwrap_or(span);
    match (rounded.get_hours(), rounded.get_minutes()) {
        (0, 0) => "less than a minute".to_owned(),
        (0, minutes) => format!("{minutes} min"),
        (hours, _) if hours >= 48 => format!("{} days", hours / 24),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

/// The value at some keys.
fn at<'a>(file: &'a Value, keys: &str) -> Option<&'a Value> {
    keys.split('.').try_fold(file, |value, key| value.get(key))
}

fn text_at(file: &Value, keys: &str) -> Option<String> {
    at(file, keys).and_then(Value::as_str).map(str::to_owned)
}

/// A moment as a number since 1970.
fn moment(value: &Value) -> Option<Timestamp> {
    let number = value.as_f64().filter(|number| number.is_finite() && *number >= 0.0)?;
    let seconds = if number >= MILLISECONDS { number / 1000.0 } else { number };
    #[expect(clippy::cast_possible_truncation, reason = "it saturates, and what is no moment is refused")]
    Timestamp::from_second(seconds as i64).ok()
}

/// What a token of three parts says of itself. Nobody's word is taken for it: the provider checks it.
fn claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&base64url(payload)?).ok()
}

fn base64url(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(out)
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;
