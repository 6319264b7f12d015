//! `.gitignore` as data: which untracked paths `git add -A` would leave out. Pure.
//!
//! Only the rules are here. Who is asked (untracked paths only), and that an ignored folder is not entered, is the walk's business.

use super::glob::Glob;

/// One line of an ignore file, or the pattern part of an attributes line.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub negative: bool,
    folder_only: bool,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Without a slash: compared with the last name of a path.
    Name(Matcher),
    /// With a slash: compared with the path below the file's folder; the literal part comes first.
    Path { literal: Vec<u8>, rest: Matcher },
}

#[derive(Clone, Debug)]
enum Matcher {
    Literal(Vec<u8>),
    /// `*` and a literal ending.
    Ends(Vec<u8>),
    Glob(Glob),
}

impl Matcher {
    fn new(pattern: &[u8]) -> Self {
        match pattern {
            [b'*', ending @ ..] if literal_length(ending) == ending.len() && !ending.contains(&b'/') => Self::Ends(ending.to_vec()),
            _ if literal_length(pattern) == pattern.len() => Self::Literal(pattern.to_vec()),
            _ => Self::Glob(Glob::new(pattern)),
        }
    }

    fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Literal(literal) => literal == text,
            Self::Ends(ending) => text.strip_suffix(ending.as_slice()).is_some_and(|start| !start.contains(&b'/')),
            Self::Glob(glob) => glob.matches(text),
        }
    }
}

/// How many bytes stand before the first that is special in a pattern.
fn literal_length(pattern: &[u8]) -> usize {
    pattern.iter().position(|b| matches!(b, b'*' | b'?' | b'[' | b'\\')).unwrap_or(pattern.len())
}

impl Pattern {
    /// Reads one pattern, `!` and the last `/` included.
    pub fn new(text: &[u8]) -> Self {
        let (negative, text) = text.strip_prefix(b"!").map_or((false, text), |rest| (true, rest));
        let (folder_only, text) = text.strip_suffix(b"/").map_or((false, text), |rest| (true, rest));
        let kind = if text.contains(&b'/') {
            let text = text.strip_prefix(b"/").unwrap_or(text);
            let (literal, rest) = text.split_at(literal_length(text));
            // Git matches the rest by itself, so that `foo**/bar` has a `**/` at its start. It is kept.
            Kind::Path { literal: literal.to_vec(), rest: Matcher::new(rest) }
        } else {
            Kind::Name(Matcher::new(text))
        };
        Self { negative, folder_only, kind }
    }

    /// Does it name this path? `path` is relative to the folder of the file that holds the pattern.
    pub fn matches(&self, path: &[u8], is_folder: bool) -> bool {
        if self.folder_only && !is_folder {
            return false;
        }
        match &self.kind {
            Kind::Name(matcher) => matcher.matches(path.rsplit(|b| *b == b'/').next().unwrap_or(path)),
            Kind::Path { literal, rest } => path.strip_prefix(literal.as_slice()).is_some_and(|tail| rest.matches(tail)),
        }
    }
}

/// One ignore file: its patterns in the order in which they stand.
#[derive(Clone, Debug, Default)]
pub struct IgnoreFile {
    /// The folder it lies in, with a slash at its end; empty for the root and for the repository's own lists.
    folder: Vec<u8>,
    patterns: Vec<Pattern>,
}

impl IgnoreFile {
    /// Reads an ignore file. `folder` is relative to the root, without a slash at its end.
    pub fn parse(folder: &[u8], content: &[u8]) -> Self {
        let mut prefix = folder.to_vec();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
        let lines = content.split(|b| *b == b'\n').filter_map(|line| {
            // Git skips lines that are empty or start with `#` before it looks at what ends them.
            if line.is_empty() || line.starts_with(b"#") {
                return None;
            }
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let line = line.split(|b| *b == 0).next().unwrap_or_default();
            Some(without_trailing_spaces(line))
        });
        Self { folder: prefix, patterns: lines.map(Pattern::new).collect() }
    }

    /// The last pattern that names the path decides: `Some(true)` is ignored, `Some(false)` is kept by a `!`.
    fn verdict(&self, path: &[u8], is_folder: bool) -> Option<bool> {
        let below = path.strip_prefix(self.folder.as_slice())?;
        self.patterns.iter().rev().find(|pattern| pattern.matches(below, is_folder)).map(|pattern| !pattern.negative)
    }
}

fn without_trailing_spaces(line: &[u8]) -> &[u8] {
    let mut keep = 0;
    let mut at = 0;
    while let Some(byte) = line.get(at) {
        match byte {
            b' ' => at += 1,
            b'\\' => {
                at += 2;
                keep = at.min(line.len());
                if at > line.len() {
                    return line;
                }
            }
            _ => {
                at += 1;
                keep = at;
            }
        }
    }
    &line[..keep]
}

/// The ignore files that apply at one place, weakest first: the user's list, the repository's, then each folder's from the root down.
#[derive(Clone, Debug, Default)]
pub struct IgnoreStack {
    files: Vec<IgnoreFile>,
}

impl IgnoreStack {
    pub fn push(&mut self, file: IgnoreFile) {
        self.files.push(file);
    }

    pub fn pop(&mut self) {
        self.files.pop();
    }

    /// Is an untracked path left out? Its parent folders are known not to be.
    pub fn ignores(&self, path: &[u8], is_folder: bool) -> bool {
        self.files.iter().rev().find_map(|file| file.verdict(path, is_folder)).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(lines: &str, path: &str, is_folder: bool) -> bool {
        let mut stack = IgnoreStack::default();
        stack.push(IgnoreFile::parse(b"", lines.as_bytes()));
        stack.ignores(path.as_bytes(), is_folder)
    }

    #[test]
    fn the_rules_of_the_manual() {
        for (lines, path, is_folder, expected) in [
            ("*.o\n!keep.o\n", "a/b.o", false, true),
            ("*.o\n!keep.o\n", "a/keep.o", false, false),
            ("build/\n", "build", true, true),
            ("build/\n", "build", false, false),
            ("/top\n", "a/top", false, false),
            ("a/b\n", "x/a/b", false, false),
            ("a/*\n!a/keep\n", "a/keep", false, false),
            ("trail  \n", "trail", false, true),
            ("esc\\ \n", "esc ", false, true),
            ("# no\n\\#yes\n", "#yes", false, true),
            ("win\r\n", "win", false, true),
            ("\u{feff}bom\n", "bom", false, true),
            ("**/deep/*.x", "q/deep/r.x", false, true),
        ] {
            assert_eq!(ignored(lines, path, is_folder), expected, "{lines:?} {path}");
        }
    }

    #[test]
    fn the_deeper_file_wins() {
        let mut stack = IgnoreStack::default();
        stack.push(IgnoreFile::parse(b"", b"*.log\n"));
        stack.push(IgnoreFile::parse(b"sub", b"!/keep.log\n"));
        assert!(!stack.ignores(b"sub/keep.log", false));
        assert!(stack.ignores(b"sub/x/keep.log", false));
        assert!(stack.ignores(b"keep.log", false));
    }
}
