//! Comments and strings, covered with spaces: what is left has the same length and the same lines.

use super::Language;

/// One text, in three views of the same length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Without comments and without what stands in strings: only code.
    pub code: String,
    /// Without comments; strings are kept.
    pub uncommented: String,
}

/// The views of a text in a language.
pub fn parts(language: Language, text: &str) -> Parts {
    let mut blank = Blank {
        text: text.as_bytes(),
        at: 0,
        code: text.as_bytes().to_vec(),
        uncommented: text.as_bytes().to_vec(),
        string_end: usize::MAX,
    };
    match language {
        Language::Python => blank.python(),
        Language::Hash => blank.hash(),
        Language::Rust | Language::JavaScript | Language::Go | Language::Java | Language::C => blank.braces(language),
    }
    if language == Language::C {
        blank.never_compiled();
    }
    // Only whole characters were covered, or none: a lossy conversion changes nothing, and never fails.
    let whole = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
    Parts { code: whole(blank.code), uncommented: whole(blank.uncommented) }
}

struct Blank<'a> {
    text: &'a [u8],
    at: usize,
    code: Vec<u8>,
    uncommented: Vec<u8>,
    /// Where the last string ended: what follows it divides.
    string_end: usize,
}

impl Blank<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn starts(&self, word: &[u8]) -> bool {
        self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word))
    }

    /// Covers a range; line ends stay, so that line numbers do.
    fn cover(target: &mut [u8], from: usize, to: usize) {
        let to = to.min(target.len());
        for byte in target.get_mut(from..to).unwrap_or_default() {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    }

    fn comment(&mut self, from: usize) {
        Self::cover(&mut self.code, from, self.at);
        Self::cover(&mut self.uncommented, from, self.at);
    }

    /// Covers what is inside a string; its quotes stay, as a place holder that definitions do not see.
    fn string(&mut self, from: usize) {
        Self::cover(&mut self.code, from, self.at);
        self.string_end = self.at;
    }

    fn past_line(&mut self) {
        while self.at < self.text.len() && self.peek(0) != b'\n' {
            self.at += 1;
        }
    }

    /// From behind an opening quote to behind the closing one, or to the end of the line when strings do not span lines.
    fn past_quote(&mut self, quote: u8, lines: bool) {
        while self.at < self.text.len() {
            match self.peek(0) {
                b'\\' => self.at += 2,
                b'\n' if !lines => return,
                byte => {
                    self.at += 1;
                    if byte == quote {
                        return;
                    }
                }
            }
        }
        self.at = self.at.min(self.text.len());
    }

    /// To behind the next occurrence of a word, or to the end.
    fn past_word(&mut self, word: &[u8]) {
        while self.at < self.text.len() && !self.starts(word) {
            self.at += 1;
        }
        self.at = (self.at + word.len()).min(self.text.len());
    }

    fn hash(&mut self) {
        while self.at < self.text.len() {
            let from = self.at;
            match self.peek(0) {
                // `$#` and `${#x}` are no comments.
                b'#' if from == 0 || self.text[from - 1].is_ascii_whitespace() || self.text[from - 1] == b';' => {
                    self.past_line();
                    self.comment(from);
                }
                quote @ (b'"' | b'\'') => {
                    self.at += 1;
                    self.past_quote(quote, true);
                    self.string(from);
                }
                _ => self.at += 1,
            }
        }
    }

    fn python(&mut self) {
        // A string that stands where a statement begins is documentation, as good as a comment.
        let mut statement = true;
        let mut depth = 0_usize;
        while self.at < self.text.len() {
            let from = self.at;
            match self.peek(0) {
                b'#' => {
                    self.past_line();
                    self.comment(from);
                }
                quote @ (b'"' | b'\'') => {
                    let triple = [quote; 3];
                    if self.starts(&triple) {
                        self.at += 3;
                        self.past_triple(&triple);
                    } else {
                        self.at += 1;
                        self.past_quote(quote, false);
                    }
                    if statement && depth == 0 && self.rest_of_line_is_empty() {
                        self.comment(from);
                    } else {
                        self.string(from);
                    }
                    statement = false;
                }
                byte => {
                    self.at += 1;
                    match byte {
                        b'(' | b'[' | b'{' => depth += 1,
                        b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    let prefix =
                        matches!(byte, b'r' | b'b' | b'u' | b'f' | b'R' | b'B' | b'U' | b'F') && matches!(self.peek(0), b'"' | b'\'');
                    statement = byte == b'\n' || byte == b';' || (statement && (byte.is_ascii_whitespace() || prefix));
                }
            }
        }
    }

    fn past_triple(&mut self, triple: &[u8; 3]) {
        while self.at < self.text.len() && !self.starts(triple) {
            self.at += if self.peek(0) == b'\\' { 2 } else { 1 };
        }
        self.at = (self.at + 3).min(self.text.len());
    }

    fn rest_of_line_is_empty(&self) -> bool {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let line = rest.split(|b| *b == b'\n').next().unwrap_or_default().trim_ascii_start();
        line.is_empty() || line.starts_with(b"#")
    }

    fn braces(&mut self, language: Language) {
        // Template literals of JavaScript hold code, which holds braces of its own: one count for each that is open.
        let mut templates: Vec<usize> = Vec::new();
        while self.at < self.text.len() {
            let from = self.at;
            match (self.peek(0), self.peek(1)) {
                (b'/', b'/') => {
                    self.past_line();
                    self.comment(from);
                }
                (b'/', b'*') => {
                    self.block_comment(language == Language::Rust);
                    self.comment(from);
                }
                (b'"', _) if language == Language::Java && self.starts(b"\"\"\"") => {
                    self.at += 3;
                    self.past_triple(b"\"\"\"");
                    self.string(from);
                }
                (b'"', _) => {
                    self.at += 1;
                    self.past_quote(b'"', language == Language::Rust);
                    self.string(from);
                }
                (b'r' | b'R' | b'b' | b'c' | b'L' | b'u' | b'U', _) if self.raw_string(language) => self.string(from),
                (b'\'', _) => self.quote(language),
                (b'`', _) if language == Language::Go => {
                    self.at += 1;
                    self.past_word(b"`");
                    self.string(from);
                }
                (b'`', _) if language == Language::JavaScript => {
                    self.at += 1;
                    self.template(&mut templates);
                    self.string(from);
                }
                (b'{', _) => {
                    self.at += 1;
                    if let Some(open) = templates.last_mut() {
                        *open += 1;
                    }
                }
                (b'}', _) => {
                    self.at += 1;
                    match templates.last_mut() {
                        Some(0) => {
                            templates.pop();
                            self.template(&mut templates);
                            self.string(from + 1);
                        }
                        Some(open) => *open -= 1,
                        None => {}
                    }
                }
                (b'/', _) if language == Language::JavaScript && self.is_expression_start() => {
                    self.at += 1;
                    self.regex_literal();
                    self.string(from);
                }
                _ => self.at += 1,
            }
        }
    }

    fn block_comment(&mut self, nested: bool) {
        let mut depth = 0_usize;
        while self.at < self.text.len() {
            if self.starts(b"/*") && (nested || depth == 0) {
                depth += 1;
                self.at += 2;
            } else if self.starts(b"*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return;
                }
            } else {
                self.at += 1;
            }
        }
    }

    /// `r#"…"#` of Rust, `R"x(…)x"` of C++; the whole of it is passed when there is one here.
    fn raw_string(&mut self, language: Language) -> bool {
        let identifier = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if self.at > 0 && identifier(self.text[self.at - 1]) {
            return false;
        }
        let rest = self.text.get(self.at..).unwrap_or_default();
        let prefix = rest.iter().take_while(|b| b.is_ascii_alphabetic()).count();
        let is_raw = rest.get(..prefix).is_some_and(|p| p.ends_with(b"r") || p.ends_with(b"R")) && prefix <= 3;
        if !is_raw {
            return false;
        }
        let behind = rest.get(prefix..).unwrap_or_default();
        match language {
            Language::Rust => {
                let hashes = behind.iter().take_while(|b| **b == b'#').count();
                if behind.get(hashes) != Some(&b'"') {
                    return false;
                }
                self.at += prefix + hashes + 1;
                let end = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
                self.past_word(&end);
                true
            }
            Language::C if behind.first() == Some(&b'"') => {
                let Some(open) = behind.iter().take(20).position(|b| *b == b'(') else { return false };
                let end = [b")", behind.get(1..open).unwrap_or_default(), b"\""].concat();
                self.at += prefix + open + 1;
                self.past_word(&end);
                true
            }
            _ => false,
        }
    }

    /// A character, a string in single quotes, or a lifetime.
    fn quote(&mut self, language: Language) {
        let from = self.at;
        self.at += 1;
        if language == Language::Rust && self.peek(0) != b'\\' {
            // A character is closed within one character of any length; anything else is a lifetime or a label.
            let rest = self.text.get(self.at..).unwrap_or_default();
            let length =
                std::str::from_utf8(rest.get(..rest.len().min(4)).unwrap_or_default()).map_or_else(|e| e.valid_up_to(), str::len).max(1);
            let first =
                rest.get(..length).and_then(|b| std::str::from_utf8(b).ok()).and_then(|s| s.chars().next()).map_or(1, char::len_utf8);
            if rest.get(first) != Some(&b'\'') {
                return;
            }
        }
        self.past_quote(b'\'', false);
        self.string(from);
    }

    /// From inside a template to behind it, or to behind the `${` of code in it.
    fn template(&mut self, templates: &mut Vec<usize>) {
        while self.at < self.text.len() {
            match (self.peek(0), self.peek(1)) {
                (b'\\', _) => self.at += 2,
                (b'`', _) => {
                    self.at += 1;
                    return;
                }
                (b'$', b'{') => {
                    self.at += 2;
                    templates.push(0);
                    return;
                }
                _ => self.at += 1,
            }
        }
        self.at = self.at.min(self.text.len());
    }

    /// Does a `/` here begin a regular expression? It does where a value may begin.
    fn is_expression_start(&self) -> bool {
        if self.code.get(self.string_end..self.at).is_some_and(|between| between.trim_ascii().is_empty()) {
            return false;
        }
        let before = self.code.get(..self.at).unwrap_or_default().trim_ascii_end();
        match before.last() {
            None => true,
            Some(b) if b.is_ascii_alphanumeric() || *b == b'_' || *b == b'$' => {
                ["return", "typeof", "case", "in", "of"].iter().any(|word| before.ends_with(word.as_bytes()))
            }
            Some(b')' | b']' | b'}') => false,
            Some(_) => true,
        }
    }

    fn regex_literal(&mut self) {
        let mut set = false;
        while self.at < self.text.len() {
            match self.peek(0) {
                b'\\' => self.at += 1,
                b'[' => set = true,
                b']' => set = false,
                b'/' if !set => {
                    self.at += 1;
                    return;
                }
                b'\n' => return,
                _ => {}
            }
            self.at += 1;
        }
        self.at = self.at.min(self.text.len());
    }

    /// `#if 0` … `#endif` is a comment.
    fn never_compiled(&mut self) {
        let mut from = None;
        let mut depth = 0_usize;
        let mut start = 0;
        let lines: Vec<(usize, usize)> = self
            .code
            .split_inclusive(|b| *b == b'\n')
            .map(|line| {
                let range = (start, start + line.len());
                start += line.len();
                range
            })
            .collect();
        for (begin, end) in lines {
            let line: Vec<u8> = self.code[begin..end].iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
            match from {
                None if line == b"#if0" => (from, depth) = (Some(end), 1),
                Some(_) if line.starts_with(b"#if") => depth += 1,
                Some(covered) if line.starts_with(b"#endif") || (depth == 1 && line.starts_with(b"#el")) => {
                    depth -= usize::from(line.starts_with(b"#endif"));
                    if depth == 0 || line.starts_with(b"#el") {
                        Self::cover(&mut self.code, covered, begin);
                        Self::cover(&mut self.uncommented, covered, begin);
                        from = None;
                    }
                }
                _ => {}
            }
        }
        if let Some(covered) = from {
            let end = self.code.len();
            Self::cover(&mut self.code, covered, end);
            Self::cover(&mut self.uncommented, covered, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(language: Language, text: &str) -> String {
        parts(language, text).code.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_strings_are_covered_in_every_language() {
        for (language, text, expected) in [
            (Language::Rust, "a /* x /* y */ z */ b // c\n\"d\\\"e\" 'f' 'g: &'h str r#\"i\"j\"# br\"k\" l", "a b 'g: &'h str l"),
            (Language::Rust, "let r = '\\''; fn r#type() {} 'é' x", "let r = ; fn r#type() {} x"),
            (Language::Python, "'''doc\n# not\n'''\nx = 'a#b' # c\ndef f():\n    \"doc\"\n    return f\"y\"", "x = def f(): return f"),
            (Language::JavaScript, "a `b ${c + `d ${e}`} f`; /g[/]h/ / i // j\n'k' x / y / z", "a c + e} } ; / i x / y / z"),
            (Language::Go, "a `b\n// c` d '\\'' \"e\" // f", "a d"),
            (Language::Java, "a \"\"\"b \"c\" \"\"\" d 'e' /* f */ g", "a d g"),
            (Language::C, "a\n#if 0\nb\n#if X\n#endif\n#else\nc\n#endif\nR\"x(d)\" )x\" e", "a #if 0 #else c #endif e"),
            (Language::Hash, "a # b\n\"c # d\" $# e", "a $# e"),
        ] {
            assert_eq!(code(language, text), expected, "{language:?} {text}");
        }
    }

    #[test]
    fn strings_stay_where_only_comments_are_covered() {
        let parts = parts(Language::Python, "\"\"\"doc\"\"\"\nkey = 'ttl' # note\n");
        assert_eq!(parts.uncommented.trim(), "key = 'ttl'");
        assert_eq!(parts.code.len(), parts.uncommented.len());
    }

    proptest! {
        #[test]
        fn no_text_breaks_it_and_lines_stay(text in "[a'\"`/*#\\\\\n${}()rR0é \\[\\]]{0,80}", which in 0_usize..7) {
            let language = [Language::Rust, Language::Python, Language::JavaScript, Language::Go, Language::Java, Language::C, Language::Hash][which];
            let parts = parts(language, &text);
            prop_assert_eq!(parts.code.matches('\n').count(), text.matches('\n').count());
            prop_assert_eq!(parts.uncommented.matches('\n').count(), text.matches('\n').count());
        }
    }
}
