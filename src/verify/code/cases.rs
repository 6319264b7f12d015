//! Test cases in source text: which there are, which never run, which assert nothing.

use super::Language;
use super::blank::{Parts, parts};
use super::token::{Token, closing, line_of, tokens};

/// One test case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub name: String,
    pub line: u32,
    /// Statements that can fail the test. Those that cannot (`assert True`) do not count.
    pub assertions: u32,
    /// Why it does not run, or not for real.
    pub skipped: Option<&'static str>,
    /// Nothing is in it.
    pub empty: bool,
}

impl Case {
    /// Does it run and do something?
    pub fn counts(&self) -> bool {
        self.skipped.is_none() && !self.empty
    }
}

/// The test cases of a text. `None` for a language whose tests are not known.
pub fn cases(language: Language, text: &str) -> Option<Vec<Case>> {
    let parts = parts(language, text);
    Some(match language {
        Language::Python => python(&parts),
        Language::Rust => rust(&parts.code),
        Language::JavaScript => javascript(&parts),
        Language::Go => {
            functions(&parts.code, "func", |n| n.starts_with("Test") && n != "TestMain", &["Skip", "SkipNow", "Skipf"], go_asserts)
        }
        Language::Java => java(&parts.code),
        Language::C => c(&parts.code),
        Language::Hash => return None,
    })
}

/// Names that assert something when they are called.
fn asserts(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.starts_with("assert")
        || lower.starts_with("expect")
        || lower.starts_with("prop_assert")
        || lower.starts_with("debug_assert")
        || matches!(lower.as_str(), "check" | "require" | "verify" | "fail" | "should" | "raises" | "ck_assert")
        || lower.starts_with("cu_assert")
        || lower.starts_with("ck_assert")
        || lower.starts_with("test_assert")
        || lower.starts_with("require_")
}

fn go_asserts(name: &str) -> bool {
    asserts(name) || ["Error", "Fatal", "Fail"].iter().any(|word| name.starts_with(word))
}

/// An assertion whose argument is a constant that is always true asserts nothing.
fn can_fail(tokens: &[Token<'_>], i: usize) -> bool {
    let mut next = i + 1;
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text);
    while matches!(text(next), "!" | "(" | ".") {
        next += 1;
    }
    let (value, behind) = (text(next), text(next + 1));
    let truth = matches!(value, "True" | "true");
    let ends = matches!(behind, ")" | ";" | "" | "}");
    // `assertEquals(1, f())` compares; `assert True, "words"` does not.
    let compares = matches!(behind, "=" | "." | "<" | ">" | "!" | "+" | "-" | "*" | "in" | "is" | "and");
    !((value == "1" || truth) && ends
        || truth && !compares && behind != ","
        || truth && behind == "," && tokens.get(i).is_some_and(|t| t.text == "assert"))
}

/// Assertions in a part of the tokens.
fn count(tokens: &[Token<'_>], is_assertion: fn(&str) -> bool) -> u32 {
    let hits = tokens.iter().enumerate().filter(|(i, token)| {
        let called = matches!(tokens.get(i + 1).map_or("", |t| t.text), "(" | "!" | "." | ":") || token.text == "assert";
        // `assert.equal(…)` is one assertion, not two; `t.is(…)` is one where `is` alone is a word of the language.
        let of = if *i > 1 && tokens[i - 1].text == "." { tokens[i - 2].text } else { "" };
        let doubled = is_assertion(of);
        let of_a_tester = of == "t" && matches!(token.text, "is" | "equal" | "deepEqual" | "truthy" | "ok");
        token.word && called && !doubled && (is_assertion(token.text) || of_a_tester) && can_fail(tokens, *i)
    });
    u32::try_from(hits.count()).unwrap_or(u32::MAX)
}

fn indent(line: &str) -> usize {
    line.chars().take_while(|c| c.is_whitespace()).map(|c| if c == '\t' { 8 } else { 1 }).sum()
}

fn python(parts: &Parts) -> Vec<Case> {
    let lines: Vec<&str> = parts.code.lines().collect();
    let mut cases = Vec::new();
    let mut classes: Vec<(usize, String, Option<&'static str>)> = Vec::new();
    let module = python_module_skip(&parts.code);
    for (i, line) in lines.iter().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let depth = indent(line);
        classes.retain(|(outer, ..)| *outer < depth);
        let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).collect();
        let decorated = python_decorators(&lines, i, depth);
        match words.as_slice() {
            ["class", name, ..] => classes.push((depth, (*name).to_owned(), decorated)),
            ["def", name, ..] | ["async", "def", name, ..] if name.starts_with("test") => {
                let (body, tail) = python_body(&lines, i, depth);
                let inside = tokens(&body);
                let from_class = classes.iter().find_map(|(_, _, skip)| *skip);
                let outer: String = classes.iter().map(|(_, class, _)| format!("{class}.")).collect();
                cases.push(Case {
                    name: format!("{outer}{name}"),
                    line: u32::try_from(i + 1).unwrap_or(u32::MAX),
                    assertions: count(&inside, asserts),
                    skipped: module.or(from_class).or(decorated).or_else(|| python_skip(&inside)),
                    empty: tail.iter().all(|line| matches!(line.trim(), "" | "pass" | "..." | "return" | "return True" | "assert True"))
                        || matches!(tail.iter().map(|line| line.trim()).find(|line| !line.is_empty()), Some("return" | "return None")),
                });
            }
            _ => {}
        }
    }
    cases
}

/// Everything of a function behind its head, as one text and as lines.
fn python_body<'a>(lines: &[&'a str], head: usize, depth: usize) -> (String, Vec<&'a str>) {
    let mut at = head;
    let mut open = 0_i64;
    let mut rest_of_head = "";
    while let Some(line) = lines.get(at) {
        for (i, c) in line.char_indices() {
            match c {
                '(' | '[' | '{' => open += 1,
                ')' | ']' | '}' => open -= 1,
                ':' if open == 0 && rest_of_head.is_empty() => rest_of_head = line.get(i..).unwrap_or_default(),
                _ => {}
            }
        }
        at += 1;
        if !rest_of_head.is_empty() || open <= 0 {
            break;
        }
    }
    let mut tail = vec![rest_of_head.trim_start_matches(':')];
    tail.extend(lines.get(at..).unwrap_or_default().iter().take_while(|line| line.trim().is_empty() || indent(line) > depth));
    (tail.join("\n"), tail)
}

fn python_decorators(lines: &[&str], head: usize, depth: usize) -> Option<&'static str> {
    let above =
        lines.get(..head).unwrap_or_default().iter().rev().take_while(|line| !line.trim().is_empty() && indent(line) >= depth).take(20);
    let mut found = None;
    for line in above {
        let line = line.trim();
        if line.starts_with('@') {
            found = found.or(if line.contains("skip") {
                Some("a decorator skips it")
            } else if line.contains("xfail") || line.contains("expectedFailure") {
                Some("it is expected to fail")
            } else {
                None
            });
        } else if line.starts_with("def ") || line.starts_with("class ") || line.starts_with("return") {
            break;
        }
    }
    found
}

fn python_module_skip(code: &str) -> Option<&'static str> {
    for line in code.lines().filter(|line| indent(line) == 0) {
        let line: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        if (line.starts_with("pytestmark=") && (line.contains("skip") || line.contains("xfail")))
            || line.contains("allow_module_level=True")
            || line.starts_with("pytest.importorskip")
            || line == "__test__=False"
            || line.starts_with("raiseunittest.SkipTest")
        {
            return Some("the whole file is skipped");
        }
    }
    None
}

fn python_skip(body: &[Token<'_>]) -> Option<&'static str> {
    let skips = body.iter().any(|t| matches!(t.text, "skipTest" | "SkipTest"));
    let pytest = body.windows(3).any(|w| w[0].text == "pytest" && w[1].text == "." && matches!(w[2].text, "skip" | "xfail"));
    (skips || pytest).then_some("it skips itself")
}

fn rust(code: &str) -> Vec<Case> {
    let tokens = tokens(code);
    let mut cases = Vec::new();
    let (mut is_test, mut skipped, mut panics) = (false, None, false);
    let mut i = 0;
    while i < tokens.len() {
        if tokens[i].text == "#" && tokens.get(i + 1).is_some_and(|t| t.text == "[") {
            let end = closing(&tokens, i + 1);
            let words: Vec<&str> = tokens.get(i + 2..end).unwrap_or_default().iter().filter(|t| t.word).map(|t| t.text).collect();
            let path = words.iter().take_while(|w| !matches!(**w, "flavor" | "worker_threads")).copied().collect::<Vec<_>>();
            is_test |=
                matches!(path.as_slice(), ["test"] | ["tokio" | "async_std" | "actix_rt", "test", ..] | ["rstest", ..] | ["test_case", ..]);
            panics |= path.first() == Some(&"should_panic");
            match path.as_slice() {
                ["ignore", ..] => skipped = Some("it is marked with ignore"),
                ["cfg", "any"] | ["cfg", "FALSE" | "false"] => skipped = Some("it is never compiled"),
                ["cfg_attr", .., "ignore"] => skipped = Some("it is marked with ignore"),
                _ => {}
            }
            i = end + 1;
            continue;
        }
        if tokens[i].text == "fn" && is_test {
            let open = (i..tokens.len()).find(|j| tokens[*j].text == "{").unwrap_or(tokens.len());
            let end = closing(&tokens, open);
            let body = tokens.get((open + 1).min(end)..end).unwrap_or_default();
            cases.push(case(code, tokens.get(i + 1).copied(), body, skipped, asserts, panics));
            (is_test, skipped, panics) = (false, None, false);
            i = end;
        } else if matches!(tokens[i].text, "{" | "}" | ";") {
            (is_test, skipped, panics) = (false, None, false);
        }
        i += 1;
    }
    cases
}

fn case(
    code: &str,
    name: Option<Token<'_>>,
    body: &[Token<'_>],
    skipped: Option<&'static str>,
    is_assertion: fn(&str) -> bool,
    extra: bool,
) -> Case {
    let name = name.unwrap_or(Token { text: "", at: code.len(), word: true });
    let returns = body.first().is_some_and(|t| t.text == "return") && body.get(1).is_none_or(|t| matches!(t.text, ";" | "}"));
    Case {
        name: name.text.to_owned(),
        line: line_of(code, name.at),
        assertions: count(body, is_assertion) + u32::from(extra),
        skipped,
        empty: body.iter().all(|t| !t.word || matches!(t.text, "return" | "Ok" | "true")) || returns,
    }
}

/// Functions with a keyword and a name that makes them tests.
fn functions(code: &str, keyword: &str, is_test: fn(&str) -> bool, skips: &[&str], is_assertion: fn(&str) -> bool) -> Vec<Case> {
    let tokens = tokens(code);
    let mut cases = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        let head = token.word && is_test(token.text) && i > 0 && tokens[i - 1].text == keyword;
        if !head || tokens.get(i + 1).is_none_or(|t| t.text != "(") {
            continue;
        }
        let open = closing(&tokens, i + 1) + 1;
        let end = closing(&tokens, open);
        let body = tokens.get((open + 1).min(end)..end).unwrap_or_default();
        let skipped = body.iter().any(|t| skips.contains(&t.text)).then_some("it skips itself");
        cases.push(case(code, Some(*token), body, skipped, is_assertion, false));
    }
    cases
}

fn java(code: &str) -> Vec<Case> {
    let tokens = tokens(code);
    let mut cases = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        let annotation = i > 0 && tokens[i - 1].text == "@";
        if !annotation || !matches!(token.text, "Test" | "ParameterizedTest" | "RepeatedTest") {
            continue;
        }
        // Other annotations may stand before and after it; the method's name is the word before its parameters.
        let open = (i..tokens.len()).find(|j| tokens[*j].text == "{").unwrap_or(tokens.len());
        let from = (0..i).rev().find(|j| matches!(tokens[*j].text, "{" | "}" | ";")).map_or(0, |j| j + 1);
        let head = tokens.get(from..open).unwrap_or_default();
        let skipped = head.iter().any(|t| matches!(t.text, "Disabled" | "Ignore")).then_some("it is disabled");
        let name = (i..open).rev().find(|j| tokens[*j].word && tokens.get(j + 1).is_some_and(|t| t.text == "("));
        let end = closing(&tokens, open);
        let body = tokens.get((open + 1).min(end)..end).unwrap_or_default();
        cases.push(case(code, name.and_then(|j| tokens.get(j)).copied(), body, skipped, asserts, false));
    }
    cases
}

fn c(code: &str) -> Vec<Case> {
    let tokens = tokens(code);
    let mut cases = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        let text = |i: usize| tokens.get(i).map_or("", |t| t.text);
        if text(i + 1) != "(" || !token.word {
            continue;
        }
        let close = closing(&tokens, i + 1);
        let makro = matches!(token.text, "TEST" | "TEST_F" | "TEST_P" | "START_TEST" | "TEST_CASE");
        let function = token.text.starts_with("test") && i > 0 && tokens[i - 1].word && tokens[i - 1].text != "return";
        let open = close + 1;
        if !(makro || function) || (text(open) != "{" && token.text != "START_TEST") {
            continue;
        }
        let end = closing(&tokens, open);
        let body = tokens.get((open + 1).min(end)..end).unwrap_or_default();
        let mut found = case(code, Some(*token), body, None, asserts, false);
        if makro {
            found.name = tokens.get(i + 2..close).unwrap_or_default().iter().map(|t| t.text).collect();
        }
        if found.name.contains("DISABLED_") || body.iter().any(|t| t.text == "GTEST_SKIP") {
            found.skipped = Some("it is disabled");
        }
        cases.push(found);
    }
    cases
}

fn javascript(parts: &Parts) -> Vec<Case> {
    let tokens = tokens(&parts.code);
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text);
    let mut cases = Vec::new();
    // The ends of suites that do not run.
    let mut dead_until = 0;
    let only = tokens.windows(3).any(|w| matches!(w[0].text, "it" | "test" | "describe") && w[1].text == "." && w[2].text == "only");
    for (i, token) in tokens.iter().enumerate() {
        let called = i > 0 && text(i - 1) == ".";
        if called || !matches!(token.text, "it" | "test" | "describe" | "xit" | "xtest" | "xdescribe" | "fit" | "suite") {
            continue;
        }
        let modifier = if text(i + 1) == "." { text(i + 2) } else { "" };
        let open = if modifier.is_empty() { i + 1 } else { i + 3 };
        if text(open) != "(" {
            continue;
        }
        let end = closing(&tokens, open);
        let dead = token.text.starts_with('x') || matches!(modifier, "skip" | "todo" | "failing" | "fails");
        if matches!(token.text, "describe" | "xdescribe" | "suite") {
            dead_until = if dead { dead_until.max(end) } else { dead_until };
            continue;
        }
        let body = tokens.get((open + 1).min(end)..end).unwrap_or_default();
        let arguments = parts.uncommented.get(tokens[open].at + 1..).unwrap_or_default();
        let focused = modifier == "only" || token.text == "fit";
        let brace = body.iter().position(|t| t.text == "{").map_or(body.len(), |at| at + 1);
        let inside = body.get(brace..).unwrap_or_default();
        cases.push(Case {
            name: quoted(arguments),
            line: line_of(&parts.code, token.at),
            assertions: count(body, asserts),
            skipped: if dead || i < dead_until {
                Some("it is skipped")
            } else if only && !focused {
                Some("another test says `only`")
            } else {
                None
            },
            empty: inside.iter().all(|t| !t.word || matches!(t.text, "return" | "true")) && count(body, asserts) == 0,
        });
    }
    cases
}

/// The text of the string that a list of arguments begins with.
fn quoted(arguments: &str) -> String {
    let arguments = arguments.trim_start();
    let Some(quote) = arguments.chars().next().filter(|c| matches!(c, '"' | '\'' | '`')) else { return String::new() };
    arguments.get(1..).and_then(|rest| rest.split(quote).next()).unwrap_or_default().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `name/assertions`, with `-` for skipped and `0` for empty.
    fn seen(language: Language, text: &str) -> Vec<String> {
        let cases = cases(language, text).expect("a language with tests");
        let mark = |case: &Case| {
            if case.skipped.is_some() {
                " skipped"
            } else if case.empty {
                " empty"
            } else {
                ""
            }
        };
        cases.iter().map(|case| format!("{}/{}{}", case.name, case.assertions, mark(case))).collect()
    }

    #[test]
    fn python_tests_are_read() {
        let text = "import pytest\n\nclass TestA:\n    def test_one(self):\n        assert f() == 1\n        with pytest.raises(X):\n            g()\n\n    @pytest.mark.skip(reason='x')\n    def test_two(self):\n        assert 1 == f()\n\ndef test_three(\n    a,\n):\n    '''assert nothing'''\n    pass\n\ndef test_four():\n    pytest.skip('no')\n    assert f()\n\ndef test_five():\n    assert True\n\nasync def test_six(): assert await f()\n\ndef test_seven():\n    return\n    assert f()\n# def test_eight():\n#     assert f()\n";
        let expected = [
            "TestA.test_one/2",
            "TestA.test_two/1 skipped",
            "test_three/0 empty",
            "test_four/1 skipped",
            "test_five/0 empty",
            "test_six/1",
            "test_seven/1 empty",
        ];
        assert_eq!(seen(Language::Python, text), expected);
        let whole = "pytestmark = pytest.mark.skip\ndef test_a():\n    assert f()\n";
        assert_eq!(seen(Language::Python, whole), ["test_a/1 skipped"]);
    }

    #[test]
    fn rust_tests_are_read() {
        let text = "#[cfg(test)]\nmod tests {\n#[test]\nfn a() { assert_eq!(f(), 1); assert!(g()); }\n#[test]\n#[ign\u{6f}re = \"slow\"]\nfn b() { assert!(g()); }\n#[tokio::test]\nasync fn c() {}\n#[test]\nfn d() { assert!(true); }\n#[test] #[should_panic]\nfn e() { f(); }\nfn not() { assert!(f()); }\n}";
        assert_eq!(seen(Language::Rust, text), ["a/2", "b/1 skipped", "c/0 empty", "d/0", "e/1"]);
    }

    #[test]
    fn other_languages_are_read() {
        let js = "describe('s', () => { it('one', () => { expect(f()).toBe(1); }); it.skip('two', () => { expect(1) }); test(\"three\", async () => {}); });\ndescribe.skip('t', () => { it('four', () => { assert.equal(f(), 2) }) });";
        assert_eq!(seen(Language::JavaScript, js), ["one/1", "two/0 skipped", "three/0 empty", "four/1 skipped"]);
        let only = "test.only('a', () => { expect(f()).toBe(2) }); test('b', () => { expect(g()).toBe(2) });";
        assert_eq!(seen(Language::JavaScript, only), ["a/1", "b/1 skipped"]);
        let go = "func TestA(t *testing.T) { if f() != 1 { t.Fatalf(\"x\") } }\nfunc TestB(t *testing.T) { t.Skip() }\nfunc helper() {}\nfunc TestC(t *testing.T) {}";
        assert_eq!(seen(Language::Go, go), ["TestA/1", "TestB/0 skipped", "TestC/0 empty"]);
        let java = "class T { @Test void a() { assertEquals(1, f()); } @Test @Disabled(\"x\") void b() { assertTrue(g()); } @Test public void c() { } }";
        assert_eq!(seen(Language::Java, java), ["a/1", "b/1 skipped", "c/0 empty"]);
        let c = "static void test_a(void) { assert(f() == 1); }\nTEST(Suite, Name) { EXPECT_EQ(f(), 1); }\nTEST(Suite, DISABLED_x) { EXPECT_EQ(f(), 1); }\nint main(void) { test_a(); }";
        assert_eq!(seen(Language::C, c), ["test_a/1", "Suite,Name/1", "Suite,DISABLED_x/1 skipped"]);
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "[deftsi (){};=.:,'\"@#\\[\\]\n_x!]{0,120}", which in 0_usize..6) {
            let language = [Language::Rust, Language::Python, Language::JavaScript, Language::Go, Language::Java, Language::C][which];
            drop(cases(language, &text));
        }
    }
}
