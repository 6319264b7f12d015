//! Takes secrets out of what is kept: known values, and what has the shape of a credential. Pure; works on a stream, line by line.

/// A line longer than this is handed on in parts, with an overlap that no secret is longer than.
const LONGEST_LINE: usize = 64 << 10;
const OVERLAP: usize = 4 << 10;
/// Shorter values are too common to be taken for a secret wherever they stand.
const SHORTEST: usize = 8;
/// How many characters after its prefix make something a token.
const TOKEN_LENGTH: usize = 16;

/// How the tokens of well-known services begin.
const PREFIXES: [&str; 20] = [
    "sk-",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "gldt-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "AKIA",
    "ASIA",
    "AIza",
    "npm_",
    "pypi-",
];

/// What must not be kept.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// Values and their names, the longest first.
    known: Vec<(Vec<u8>, String)>,
}

impl Secrets {
    /// Known values, each with a name that may be shown.
    pub fn new(known: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let mut parts = Vec::new();
        for (name, value) in known {
            // One that is longer than the overlap, as the token of a login may be, is as many as it takes.
            parts.extend(value.trim_ascii().chunks(OVERLAP).map(|part| (part.to_vec(), name.clone())));
        }
        let mut known: Vec<_> = parts.into_iter().filter(|(value, _)| value.len() >= SHORTEST).collect();
        known.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
        known.dedup_by(|a, b| a.0 == b.0);
        Self { known }
    }

    /// These and more.
    pub fn and(self, more: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        Self::new(self.known.into_iter().map(|(value, name)| (name, value)).chain(more))
    }

    /// Is this the name of a variable that holds a secret?
    pub fn is_secret_name(name: &str) -> bool {
        let name = name.to_ascii_uppercase();
        let ends = ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIALS", "APIKEY", "PAT"];
        ends.iter().any(|end| name == *end || name.ends_with(&format!("_{end}"))) || name.contains("SECRET")
    }

    /// One line without its secrets.
    pub fn line(&self, line: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(line.len());
        let mut at = 0;
        while at < line.len() {
            let rest = &line[at..];
            if let Some((value, name)) = self.known.iter().find(|(value, _)| rest.starts_with(value)) {
                out.extend_from_slice(format!("[redacted: {name}]").as_bytes());
                at += value.len();
            } else if let Some(length) = token(rest).filter(|_| at == 0 || !is_word(line[at - 1])) {
                out.extend_from_slice(b"[redacted: a token]");
                at += length;
            } else {
                out.push(line[at]);
                at += 1;
            }
        }
        out
    }

    /// A whole text without its secrets.
    pub fn text(&self, bytes: &[u8]) -> Vec<u8> {
        let mut redactor = Redactor::new(self.clone());
        let mut out = redactor.push(bytes);
        out.extend(redactor.finish());
        out
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// The length of the token that a text begins with.
fn token(text: &[u8]) -> Option<usize> {
    let prefix = PREFIXES.iter().find(|prefix| text.starts_with(prefix.as_bytes()))?;
    let body = text[prefix.len()..].iter().take_while(|byte| is_word(**byte)).count();
    (body >= TOKEN_LENGTH).then_some(prefix.len() + body)
}

/// Redacts a stream that comes in pieces.
#[derive(Debug)]
pub struct Redactor {
    secrets: Secrets,
    pending: Vec<u8>,
    /// Inside the lines of a private key.
    in_key: bool,
}

impl Redactor {
    pub fn new(secrets: Secrets) -> Self {
        Self { secrets, pending: Vec::new(), in_key: false }
    }

    /// Takes a piece and gives what is complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(part);
            if self.pending.ends_with(b"\n") {
                let line = std::mem::take(&mut self.pending);
                self.line(&line, &mut out);
            } else if self.pending.len() > LONGEST_LINE {
                // What is at the end may be the start of a secret: it waits for what follows.
                let clean = self.secrets.line(&self.pending);
                let keep = clean.len().saturating_sub(OVERLAP);
                out.extend_from_slice(&clean[..keep]);
                self.pending = clean[keep..].to_vec();
            }
        }
        out
    }

    /// Gives the rest.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let line = std::mem::take(&mut self.pending);
        self.line(&line, &mut out);
        out
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let has = |mark: &[u8]| line.windows(mark.len()).any(|window| window == mark);
        let begins = has(b"-----BEGIN ") && has(b"PRIVATE KEY-----");
        if begins && !self.in_key {
            self.in_key = true;
            out.extend_from_slice(b"[redacted: a private key]\n");
        }
        if self.in_key {
            self.in_key = !has(b"-----END ");
        } else {
            out.extend(self.secrets.line(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secrets() -> Secrets {
        Secrets::new([("MY_KEY".to_owned(), b"hunter2hunter2".to_vec()), ("SHORT".to_owned(), b"abc".to_vec())])
    }

    #[test]
    fn known_values_tokens_and_keys_are_taken_out() {
        let shown = |text: &str| String::from_utf8(secrets().text(text.as_bytes())).expect("text");
        assert_eq!(shown("a hunter2hunter2 b abc"), "a [redacted: MY_KEY] b abc");
        assert_eq!(shown("x=sk-ant-0123456789abcdefghij!"), "x=[redacted: a token]!");
        assert_eq!(shown("task-0123456789abcdefghij risk-free"), "task-0123456789abcdefghij risk-free", "a word is no token");
        let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nMIIE\nabcd\n-----END OPENSSH PRIVATE KEY-----\nafter\n";
        assert_eq!(shown(key), "[redacted: a private key]\nafter\n");
        let login: String = (0..OVERLAP).map(|n| format!("{n:04x}")).collect();
        let long = Secrets::new([("a login".to_owned(), login.clone().into_bytes())]);
        let said = String::from_utf8(long.text(format!("it is {login}!").as_bytes())).expect("text");
        assert_eq!(said.replace("[redacted: a login]", ""), "it is !");
        assert!(Secrets::is_secret_name("OPENAI_API_KEY") && Secrets::is_secret_name("token") && !Secrets::is_secret_name("KEYBOARD"));
    }

    proptest! {
        #[test]
        fn how_the_stream_is_cut_makes_no_difference(
            words in proptest::collection::vec(prop_oneof!["[a-z \n]{0,9}", Just("hunter2hunter2".to_owned()), Just("ghp_0123456789abcdef0123".to_owned())], 0..12),
            cuts in proptest::collection::vec(1_usize..9, 1..40),
        ) {
            let text = words.concat().into_bytes();
            let mut redactor = Redactor::new(secrets());
            let (mut out, mut rest, mut cut) = (Vec::new(), &text[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (head, tail) = rest.split_at((*cut.next().expect("cyclic")).min(rest.len()));
                out.extend(redactor.push(head));
                rest = tail;
            }
            out.extend(redactor.finish());
            prop_assert_eq!(&out, &secrets().text(&text));
            prop_assert!(!String::from_utf8_lossy(&out).contains("hunter2hunter2"));
        }

        #[test]
        fn a_secret_in_an_endless_line_is_found(before in 0_usize..200_000, piece in 1000_usize..70_000) {
            let mut text = vec![b'.'; before];
            text.extend_from_slice(b"hunter2hunter2");
            text.extend(vec![b'.'; 90_000]);
            let mut redactor = Redactor::new(secrets());
            let mut out: Vec<u8> = text.chunks(piece).flat_map(|chunk| redactor.push(chunk)).collect();
            out.extend(redactor.finish());
            prop_assert!(!out.windows(14).any(|window| window == b"hunter2hunter2"));
            prop_assert_eq!(out.len(), text.len() - 14 + "[redacted: MY_KEY]".len());
        }
    }
}
