//! Is a name defined here, or only mentioned?

use super::Language;
use super::blank::parts;
use super::token::{Token, closing, tokens};

/// Is this name defined in the text? `Outer.inner` wants both parts. `None` for a language whose definitions are not known.
pub fn defines(language: Language, text: &str, name: &str) -> Option<bool> {
    if language == Language::Hash {
        return None;
    }
    let parts = parts(language, text);
    let tokens = tokens(&parts.code);
    let names = name.split(['.', ':', '#']).filter(|part| !part.is_empty());
    let mut all = true;
    let mut any = false;
    for name in names {
        any = true;
        all &= tokens
            .iter()
            .enumerate()
            .any(|(i, token)| token.word && token.text == name && is_definition(language, &parts.code, &tokens, i));
    }
    Some(any && all)
}

fn is_definition(language: Language, code: &str, tokens: &[Token<'_>], i: usize) -> bool {
    match language {
        Language::Rust => rust(tokens, i),
        Language::Python => python(code, tokens, i),
        Language::JavaScript => javascript(tokens, i),
        Language::Go => go(code, tokens, i),
        Language::Java => java(tokens, i),
        Language::C => c(tokens, i),
        Language::Hash => false,
    }
}

fn text<'a>(tokens: &[Token<'a>], i: Option<usize>) -> &'a str {
    i.and_then(|i| tokens.get(i)).map_or("", |t| t.text)
}

fn before<'a>(tokens: &[Token<'a>], i: usize, back: usize) -> &'a str {
    text(tokens, i.checked_sub(back))
}

fn after<'a>(tokens: &[Token<'a>], i: usize, ahead: usize) -> &'a str {
    text(tokens, Some(i + ahead))
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '$')
}

/// Does this name stand first on its line?
fn first_on_line(code: &str, token: &Token<'_>) -> bool {
    let line = code.get(..token.at).and_then(|before| before.rsplit('\n').next()).unwrap_or_default();
    line.trim().is_empty()
}

fn rust(tokens: &[Token<'_>], i: usize) -> bool {
    let keyword = |word: &str| matches!(word, "fn" | "struct" | "enum" | "trait" | "type" | "const" | "static" | "mod" | "union");
    match before(tokens, i, 1) {
        "!" => before(tokens, i, 2) == "macro_rules",
        "mut" => before(tokens, i, 2) == "static",
        // `r#name`
        "#" => before(tokens, i, 2) == "r" && keyword(before(tokens, i, 3)),
        // A declaration without a body (`mod x;`) is one all the same; `const fn` and `const {` are no names.
        word => keyword(word),
    }
}

fn python(code: &str, tokens: &[Token<'_>], i: usize) -> bool {
    match before(tokens, i, 1) {
        "def" | "class" => true,
        // self.name = …
        "." if before(tokens, i, 2) == "self" => assigned(tokens, i),
        _ => tokens.get(i).is_some_and(|token| first_on_line(code, token)) && (assigned(tokens, i) || annotated(tokens, i)),
    }
}

fn assigned(tokens: &[Token<'_>], i: usize) -> bool {
    after(tokens, i, 1) == "=" && after(tokens, i, 2) != "="
}

/// `name: type` or `name: type = …`, and no keyword such as `else:`.
fn annotated(tokens: &[Token<'_>], i: usize) -> bool {
    let name = tokens.get(i).map_or("", |t| t.text);
    after(tokens, i, 1) == ":"
        && is_name(after(tokens, i, 2))
        && !matches!(name, "else" | "try" | "finally" | "lambda" | "case" | "default")
}

fn javascript(tokens: &[Token<'_>], i: usize) -> bool {
    match before(tokens, i, 1) {
        "function" | "class" | "const" | "let" | "var" | "interface" | "type" | "enum" | "namespace" => return true,
        "*" if before(tokens, i, 2) == "function" => return true,
        "." if before(tokens, i, 2) == "exports" || before(tokens, i, 2) == "this" => return assigned(tokens, i),
        "." | "new" | "return" => return false,
        _ => {}
    }
    // A member: `name: function`, `name = (…) =>`, or `name(…) {`.
    if after(tokens, i, 1) == ":" && matches!(after(tokens, i, 2), "function" | "async" | "(") {
        return true;
    }
    method(tokens, i, &["if", "for", "while", "switch", "catch", "with", "function"])
}

/// `name(…) {`, with whatever a language allows before the brace.
fn method(tokens: &[Token<'_>], i: usize, not: &[&str]) -> bool {
    let name = tokens.get(i).map_or("", |t| t.text);
    if not.contains(&name) || after(tokens, i, 1) != "(" {
        return false;
    }
    let mut next = closing(tokens, i + 1) + 1;
    // A result type, a list of exceptions, `const`, `noexcept`: a few words until the body.
    for _ in 0..12 {
        match text(tokens, Some(next)) {
            "{" => return true,
            ":" | "." | "<" | ">" | "[" | "]" | "," | "|" | "&" | "*" => next += 1,
            word if is_name(word) => next += 1,
            _ => return false,
        }
    }
    false
}

fn go(code: &str, tokens: &[Token<'_>], i: usize) -> bool {
    match before(tokens, i, 1) {
        "func" | "type" | "var" | "const" => return true,
        // func (r *T) name(
        ")" if after(tokens, i, 1) == "(" => {
            let mut open = i - 1;
            while open > 0 && text(tokens, Some(open)) != "(" {
                open -= 1;
            }
            return before(tokens, open, 1) == "func";
        }
        _ => {}
    }
    // A line of a `const (…)`, `var (…)` or `type (…)` block, of a struct or an interface.
    let Some(token) = tokens.get(i).filter(|token| first_on_line(code, token)) else { return false };
    let mut depth = 0_usize;
    for (j, other) in tokens.iter().enumerate().take(i).rev() {
        match other.text {
            ")" | "}" => depth += 1,
            "(" | "{" if depth > 0 => depth -= 1,
            "(" => return matches!(before(tokens, j, 1), "const" | "var" | "type"),
            "{" => return matches!(before(tokens, j, 1), "struct" | "interface") && is_name(token.text),
            _ => {}
        }
    }
    false
}

fn java(tokens: &[Token<'_>], i: usize) -> bool {
    let previous = before(tokens, i, 1);
    if matches!(previous, "class" | "interface" | "enum" | "record" | "fun" | "val" | "var" | "object" | "def") {
        return true;
    }
    let typed = (is_name(previous)
        && !matches!(previous, "new" | "return" | "throw" | "else" | "case" | "import" | "package" | "extends" | "implements"))
        || previous == ">"
        || previous == "]";
    if !typed {
        return false;
    }
    let abstract_method = after(tokens, i, 1) == "(" && text(tokens, Some(closing(tokens, i + 1) + 1)) == ";";
    assigned(tokens, i) || after(tokens, i, 1) == ";" || abstract_method || method(tokens, i, &["if", "for", "while", "switch", "catch"])
}

fn c(tokens: &[Token<'_>], i: usize) -> bool {
    let previous = before(tokens, i, 1);
    if previous == "define" && before(tokens, i, 2) == "#" {
        return true;
    }
    if matches!(previous, "struct" | "enum" | "union" | "class" | "namespace") {
        return matches!(after(tokens, i, 1), "{" | ":");
    }
    let not_a_type = ["return", "else", "goto", "case", "new", "delete", "sizeof", "throw"];
    let typed = (is_name(previous) && !not_a_type.contains(&previous)) || matches!(previous, "*" | "&" | ">");
    // `} name;` closes a typedef.
    let closes_typedef = previous == "}" && after(tokens, i, 1) == ";";
    if closes_typedef {
        return true;
    }
    let scoped = previous == ":" && before(tokens, i, 2) == ":";
    let variable = assigned(tokens, i) || matches!(after(tokens, i, 1), ";" | "[");
    (typed && variable) || ((typed || scoped) && method(tokens, i, &["if", "for", "while", "switch", "catch"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_definition_is_told_from_a_mention() {
        for (language, text, name, expected) in [
            (Language::Rust, "fn ttl() {}", "ttl", true),
            (Language::Rust, "// fn ttl() {}\nlet s = \"fn ttl()\"; ttl();", "ttl", false),
            (Language::Rust, "macro_rules! m { () => {} } static mut N: u8 = 0; impl S { pub async fn go(&self) {} }", "m", true),
            (Language::Rust, "struct Store; impl Store { fn get(&self) {} }", "Store::get", true),
            (Language::Python, "class KV:\n    def get(self):\n        pass\n", "KV.get", true),
            (Language::Python, "# def _is_expired\n'''def _is_expired'''\nx = '_is_expired'\n_is_expired()\n", "_is_expired", false),
            (Language::Python, "LIMIT: int = 3\nother = 4\nif LIMIT == other: pass\n", "LIMIT", true),
            (Language::Python, "class A:\n    def __init__(self):\n        self.ttl = 1\n", "ttl", true),
            (Language::Python, "if ttl == 1: pass\n", "ttl", false),
            (Language::JavaScript, "export const go = () => 1; class A { async run(x) { } }", "run", true),
            (Language::JavaScript, "run(x); if (run) { } // function run", "run", false),
            (Language::JavaScript, "type A = { b: number }; interface C {} module.exports.d = 1; e() { return 1 }", "d", true),
            (Language::JavaScript, "get(k: string): number | undefined { return 1 }", "get", true),
            (Language::Go, "func (s *Store) Get(k string) string { return k }", "Get", true),
            (Language::Go, "const (\n\tA = 1\n\tB\n)\nvar c = B", "B", true),
            (Language::Go, "type S struct {\n\tName string\n}\nfunc f() {\n\tName()\n}", "Name", true),
            (Language::Go, "func f() {\n\tGet(1)\n}", "Get", false),
            (Language::Java, "public class A { private int n = 1; List<String> get(int k) throws E { return null; } }", "get", true),
            (Language::Java, "class A { void f() { new get(1); return get(2); } }", "get", false),
            (Language::C, "static int *get(void) { return 0; }\n#define MAX 3\ntypedef struct { int a; } point;", "point", true),
            (Language::C, "int f(void) { return get(1); }\nint get(void);", "get", false),
            (Language::C, "#define MAX 3", "MAX", true),
            (Language::C, "#if 0\nint get(void) { return 1; }\n#endif", "get", false),
        ] {
            assert_eq!(defines(language, text, name), Some(expected), "{language:?} {name} in {text}");
        }
        assert_eq!(defines(Language::Hash, "f() {}", "f"), None);
        assert_eq!(defines(Language::Rust, "fn f() {}", ".."), Some(false), "a name without letters is defined nowhere");
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "[fndeclass (){};=.:<>*&\n_x]{0,80}", which in 0_usize..6) {
            let language = [Language::Rust, Language::Python, Language::JavaScript, Language::Go, Language::Java, Language::C][which];
            prop_assert!(defines(language, &text, "x").is_some());
        }
    }
}
