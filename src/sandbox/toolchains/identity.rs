//! Who makes commits: the caller's name and address out of git's settings, and nothing else of them. Pure.
//!
//! The settings themselves stay outside: they name credential helpers, hooks and programs to run.

/// The text of the settings inside, when the caller's files name somebody. Later files win, as in git.
pub(super) fn settings<'a>(files: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let (mut name, mut email) = (None, None);
    for file in files {
        for (key, value) in user(file) {
            match key.as_str() {
                "name" => name = Some(value),
                "email" => email = Some(value),
                _ => {}
            }
        }
    }
    let line = |key: &str, value: Option<String>| value.map(|v| format!("\t{key} = \"{}\"\n", quoted(&v))).unwrap_or_default();
    let known = name.is_some() || email.is_some();
    known.then(|| format!("[user]\n{}{}", line("name", name), line("email", email)))
}

/// The keys of the section `user`, and of no subsection.
fn user(text: &str) -> Vec<(String, String)> {
    let mut within = false;
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut line = line.trim().to_owned();
        // A key may stand on the line of its section's head.
        if let Some(rest) = line.strip_prefix('[') {
            let Some((head, rest)) = rest.split_once(']') else { continue };
            within = head.trim().eq_ignore_ascii_case("user");
            line = rest.trim().to_owned();
        }
        // The head of an alias may hold anything; only what continues a value continues a line.
        while within && line.ends_with('\\') && !line.ends_with("\\\\") {
            line.pop();
            line.push_str(lines.next().unwrap_or_default());
        }
        if let (true, Some((key, value))) = (within, line.split_once('=')) {
            found.push((key.trim().to_ascii_lowercase(), value_of(value.trim())));
        }
    }
    found
}

/// A value without its quotes, escapes and the comment after it.
fn value_of(text: &str) -> String {
    let mut value = String::new();
    let mut quotes = false;
    // Blanks at the end do not count, unless they are in quotes.
    let mut kept = 0;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => quotes = !quotes,
            '#' | ';' if !quotes => break,
            '\\' => match chars.next() {
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some(other) => value.push(other),
                None => {}
            },
            c => value.push(c),
        }
        if quotes || !c.is_whitespace() {
            kept = value.len();
        }
    }
    value.truncate(kept);
    value
}

/// As git writes it. A name holds no control characters: they would only be there to deceive.
fn quoted(value: &str) -> String {
    value.chars().filter(|c| !c.is_control()).flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_name_and_the_address_are_taken() {
        let text = "[core]\n\thooksPath = /evil\n\tname = no\n[User] ; who\n  Name = Ann \"O'Hara \" # comment\n  signingkey = ABC\n[credential]\n\thelper = store\n\
            [user \"other\"]\n\tname = nobody\n[user] email = \"a;b@example.org\"\n";
        let inside = settings([text]).expect("somebody");
        assert_eq!(inside, "[user]\n\tname = \"Ann O'Hara \"\n\temail = \"a;b@example.org\"\n");
        assert_eq!(settings(["[core]\n\tx = 1\n"]), None);
        assert_eq!(settings(["[user]\nname = a", "[user]\nname = b"]).as_deref(), Some("[user]\n\tname = \"b\"\n"));
    }

    proptest! {
        /// Whatever is in the file, what comes out names a person and sets nothing else.
        #[test]
        fn nothing_else_can_be_smuggled_in(text in "([a-z\\[\\]\"\\\\=;# \n]|\\PC){0,60}", name in "\\PC{0,20}") {
            for file in [text.clone(), format!("[user]\nname = {text}\n"), format!("[user]\nname = \"{}\"", quoted(&name))] {
                if let Some(inside) = settings([file.as_str()]) {
                    prop_assert!(inside.lines().skip(1).all(|line| line.starts_with("\tname = \"") || line.starts_with("\temail = \"")), "{inside:?}");
                    prop_assert_eq!(settings([inside.as_str()]), Some(inside.clone()), "written and read back");
                }
            }
        }
    }
}
