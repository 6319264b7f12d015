//! `.gitattributes` as data: which of git's built-in conversions a path asks for. Pure.
//!
//! Attributes that name programs (`filter`, `diff`, `merge`) are read only to be reported: nothing of them ever runs.

use super::ignore::Pattern;

/// What a line says of one attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Value {
    #[default]
    Unspecified,
    Set,
    Unset,
    Text(Vec<u8>),
}

/// The attributes of one path that change what its bytes are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub text: Value,
    pub crlf: Value,
    pub eol: Value,
    pub ident: Value,
    pub encoding: Value,
    pub filter: Value,
}

/// Git ignores longer lines, and so must we.
const LINE_MAX_BYTES: usize = 2048;

/// What a line says: names and values, in the order in which they stand.
type Assigned = Vec<(Vec<u8>, Value)>;

#[derive(Clone, Debug)]
struct Line {
    pattern: Pattern,
    assigned: Assigned,
}

/// One attributes file.
#[derive(Clone, Debug, Default)]
pub struct AttributesFile {
    /// The folder it lies in, with a slash at its end; empty at the root.
    folder: Vec<u8>,
    lines: Vec<Line>,
    macros: Vec<(Vec<u8>, Assigned)>,
}

impl AttributesFile {
    /// Reads an attributes file of a folder that is relative to the root and has no slash at its end.
    pub fn parse(folder: &[u8], content: &[u8]) -> Self {
        let mut file = Self { folder: folder.to_vec(), ..Self::default() };
        if !folder.is_empty() {
            file.folder.push(b'/');
        }
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
        for line in content.split(|b| *b == b'\n').filter(|line| line.len() < LINE_MAX_BYTES) {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let Some((pattern, rest)) = first_word(line) else { continue };
            let assigned = rest.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).filter_map(assignment).collect();
            if let Some(name) = pattern.strip_prefix(b"[attr]") {
                // Macros are read at the root only.
                if folder.is_empty() && is_name(name) {
                    file.macros.push((name.to_vec(), assigned));
                }
            } else if !pattern.starts_with(b"!") {
                file.lines.push(Line { pattern: Pattern::new(&pattern), assigned });
            }
        }
        file
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.macros.is_empty()
    }
}

/// The pattern of a line, unquoted, and what follows it.
fn first_word(line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    if let Some(quoted) = line.strip_prefix(b"\"") {
        return unquote(quoted);
    }
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    Some((line[..end].to_vec(), &line[end..]))
}

/// Reads a C-style quoted word whose first quote is gone; returns it and what follows the last quote.
fn unquote(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    let mut at = 0;
    loop {
        let byte = *text.get(at)?;
        at += 1;
        match byte {
            b'"' => return Some((word, &text[at..])),
            b'\\' => {
                let escaped = *text.get(at)?;
                at += 1;
                word.push(match escaped {
                    b'a' => 7,
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'v' => 11,
                    b'\\' | b'"' => escaped,
                    b'0'..=b'3' => {
                        let digits = [escaped, *text.get(at)?, *text.get(at + 1)?];
                        at += 2;
                        let value =
                            digits.iter().try_fold(0_u32, |sum, d| (b'0'..=b'7').contains(d).then(|| sum * 8 + u32::from(d - b'0')))?;
                        u8::try_from(value).ok()?
                    }
                    _ => return None,
                });
            }
            other => word.push(other),
        }
    }
}

fn assignment(word: &[u8]) -> Option<(Vec<u8>, Value)> {
    let (name, value) = match word {
        [b'-', name @ ..] => (name, Value::Unset),
        [b'!', name @ ..] => (name, Value::Unspecified),
        _ => match word.iter().position(|b| *b == b'=') {
            Some(at) => (&word[..at], Value::Text(word[at + 1..].to_vec())),
            None => (word, Value::Set),
        },
    };
    is_name(name).then(|| (name.to_vec(), value))
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name[0] != b'-' && name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

/// The attributes files that apply at one place, weakest first.
#[derive(Clone, Debug, Default)]
pub struct AttributesStack {
    files: Vec<AttributesFile>,
    /// The repository's own `info/attributes`, which is stronger than every file in the tree.
    strongest: AttributesFile,
}

impl AttributesStack {
    pub fn new(strongest: AttributesFile) -> Self {
        Self { files: Vec::new(), strongest }
    }

    pub fn push(&mut self, file: AttributesFile) {
        self.files.push(file);
    }

    pub fn pop(&mut self) {
        self.files.pop();
    }

    /// The attributes of one file. The strongest line that speaks of an attribute decides it.
    pub fn of(&self, path: &[u8]) -> Attributes {
        let mut known = Vec::new();
        for file in std::iter::once(&self.strongest).chain(self.files.iter().rev()) {
            let Some(below) = path.strip_prefix(file.folder.as_slice()) else { continue };
            for line in file.lines.iter().rev().filter(|line| line.pattern.matches(below, false)) {
                self.fill(&line.assigned, &mut known, 0);
            }
        }
        let mut take = |name: &[u8]| {
            let found = known.iter().position(|(known, _)| known == name);
            found.map_or(Value::Unspecified, |at| known.swap_remove(at).1)
        };
        Attributes {
            text: take(b"text"),
            crlf: take(b"crlf"),
            eol: take(b"eol"),
            ident: take(b"ident"),
            encoding: take(b"working-tree-encoding"),
            filter: take(b"filter"),
        }
    }

    fn fill(&self, assigned: &[(Vec<u8>, Value)], known: &mut Assigned, depth: usize) {
        for (name, value) in assigned.iter().rev() {
            if known.iter().any(|(known, _)| known == name) {
                continue;
            }
            known.push((name.clone(), value.clone()));
            // A macro may name another one; each is filled once, so that a ring of them ends.
            if *value == Value::Set && depth < 16 {
                if name == b"binary" {
                    let binary = [b"diff".to_vec(), b"merge".to_vec(), b"text".to_vec()].map(|name| (name, Value::Unset));
                    self.fill(&binary, known, depth + 1);
                }
                let files = std::iter::once(&self.strongest).chain(self.files.iter().rev());
                if let Some((_, more)) = files.flat_map(|file| file.macros.iter().rev()).find(|(known, _)| known == name) {
                    self.fill(more, known, depth + 1);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(root: &str, path: &str) -> Attributes {
        let mut stack = AttributesStack::default();
        stack.push(AttributesFile::parse(b"", root.as_bytes()));
        stack.of(path.as_bytes())
    }

    #[test]
    fn later_lines_and_deeper_files_win() {
        assert_eq!(of("* text=auto\n*.bat eol=crlf\n", "a/b.bat").eol, Value::Text(b"crlf".to_vec()));
        assert_eq!(of("* text\n*.png binary\n", "x.png").text, Value::Unset);
        assert_eq!(of("*.png binary\n* text\n", "x.png").text, Value::Set);
        assert_eq!(of("\"sp ace\" ident\n", "sp ace").ident, Value::Set);
        assert_eq!(of("[attr]win text eol=crlf\n*.w win\n", "q.w").eol, Value::Text(b"crlf".to_vec()));
        let mut stack = AttributesStack::new(AttributesFile::parse(b"", b"keep -ident\n"));
        stack.push(AttributesFile::parse(b"", b"* ident\n"));
        stack.push(AttributesFile::parse(b"sub", b"/x !ident\n"));
        assert_eq!(stack.of(b"sub/x").ident, Value::Unspecified);
        assert_eq!(stack.of(b"sub/keep").ident, Value::Unset);
        assert_eq!(stack.of(b"x").ident, Value::Set);
    }

    #[test]
    fn a_ring_of_macros_ends() {
        assert_eq!(of("[attr]a b\n[attr]b a text\nf a\n", "f").text, Value::Set);
    }
}
