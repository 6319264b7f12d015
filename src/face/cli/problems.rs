//! What is wrong with files that people wrote, shown as a compiler would: the place, the line underlined, the mend.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level as Title, Renderer, Snippet};

use super::failure::{Exit, Failure};
use super::printer;
use crate::base::source::{Level, Problem};
use crate::base::text::{one_line, plural};

/// More than this on one screen helps nobody.
const SHOWN: usize = 100;

/// One problem as text. Everything that came from a file is safe to print.
pub fn render(problem: &Problem, renderer: &Renderer) -> String {
    let title = match problem.level {
        Level::Error => Title::ERROR,
        Level::Warning => Title::WARNING,
    };
    let what = one_line(&problem.what);
    let next = one_line(&problem.next);
    let group = Group::with_title(title.primary_title(&*what));
    let Some(place) = &problem.place else {
        return format!("{}\n  next: {next}", renderer.render(&[group]).trim_end());
    };
    // The mark may stand one past the line's end, where something is missing.
    let shown = format!("{} ", place.excerpt);
    let byte = |chars: usize| shown.char_indices().nth(chars).map_or(shown.len(), |(i, _)| i);
    let span = byte(place.mark.0)..byte(place.mark.1);
    let snippet = Snippet::source(shown.clone()).line_start(place.line).path(place.file.clone()).fold(false);
    let group = group.element(snippet.annotation(AnnotationKind::Primary.span(span)));
    let group = group.element(Title::HELP.no_name().message(format!("next: {next}")));
    let text = renderer.render(&[group]);
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Prints problems to standard error.
pub fn print(problems: &[Problem]) {
    let renderer = Renderer::styled().decor_style(DecorStyle::Ascii);
    for problem in problems.iter().take(SHOWN) {
        // A warning can be left out.
        let say = if problem.is_error() { printer::error_line } else { printer::err };
        say(&render(problem, &renderer));
    }
    if problems.len() > SHOWN {
        printer::error_line(&format!("… and {} more; --json shows all", problems.len() - SHOWN));
    }
}

/// Prints problems and makes the failure that ends the command.
pub fn failure(what: &str, problems: &[Problem]) -> Failure {
    print(problems);
    Failure::new(Exit::Usage, format!("{what}: {}", count(problems)))
}

/// `2 errors, 1 warning`.
pub fn count(problems: &[Problem]) -> String {
    let errors = problems.iter().filter(|p| p.is_error()).count() as u64;
    let warnings = problems.len() as u64 - errors;
    match (errors, warnings) {
        (_, 0) => plural(errors, "error", "errors"),
        (0, _) => plural(warnings, "warning", "warnings"),
        _ => format!("{}, {}", plural(errors, "error", "errors"), plural(warnings, "warning", "warnings")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::source::Source;
    use proptest::prelude::*;

    #[test]
    fn a_problem_shows_place_line_and_mend() {
        let source = Source::new("cofferdam.toml", "[run]\nparalel = 2\n");
        let problem = source.error("unknown-key", &(6..13), "`paralel` is no key of [run]", "did you mean `parallel`?");
        insta::assert_snapshot!(render(&problem, &Renderer::plain()), @r"
        error: `paralel` is no key of [run]
         --> cofferdam.toml:2:1
          |
        2 | paralel = 2
          | ^^^^^^^
          |
          = next: did you mean `parallel`?
        ");
    }

    proptest! {
        #[test]
        fn nothing_that_a_terminal_obeys_gets_through(text in "[a\u{1b}\u{9b}\u{202e}é漢\n\t]{0,40}", start in 0_usize..60, length in 0_usize..9) {
            let source = Source::new(&text, &text);
            let shown = render(&source.error("x", &(start..start + length), text.clone(), text.clone()), &Renderer::plain());
            prop_assert!(!shown.chars().any(|c| c != '\n' && c.is_control() || c == '\u{202e}'), "{:?}", shown);
        }
    }
}
