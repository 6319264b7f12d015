//! The line of a file that an error is about, with its number and a mark below it.

use std::ops::Range;

use super::text;

/// Long lines are cut around the mark: a terminal shows one row.
const WIDTH: usize = 100;

/// Renders
///
/// ```text
///   --> profiles/mine.toml:3:1
///    |
///  3 | memroy = "4GiB"
///    | ^^^^^^
/// ```
pub fn render(file: &str, source: &str, span: Range<usize>) -> String {
    let (line, column, row) = locate(source, span.start);
    let shown: Vec<char> = row.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let marked = source.get(span).map_or(1, |t| t.lines().next().unwrap_or_default().chars().count()).max(1);
    // The mark stays in view when the line is longer than a terminal is wide.
    let skip = column.saturating_sub(WIDTH / 2).min(shown.len().saturating_sub(WIDTH));
    let visible: String = shown.iter().skip(skip).take(WIDTH).collect();
    let gutter = " ".repeat(line.to_string().len());
    let indent = " ".repeat(column - 1 - skip);
    let marks = "^".repeat(marked.min(WIDTH.saturating_sub(column - 1 - skip)).max(1));
    format!(
        " {gutter}--> {}:{line}:{column}\n {gutter} |\n {line} | {}\n {gutter} | {indent}{marks}",
        text::one_line(file),
        text::one_line(&visible),
    )
}

/// The line and column (both from 1, in characters) of a byte offset, and the line's text.
fn locate(source: &str, offset: usize) -> (usize, usize, &str) {
    let mut offset = offset.min(source.len());
    while !source.is_char_boundary(offset) {
        offset -= 1;
    }
    let (before, after) = source.split_at(offset);
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let end = after.find('\n').map_or(source.len(), |at| offset + at);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1, &source[start..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_mark_stands_below_the_words() {
        let source = "# a\n[limits]\nmemroy = 1\n";
        let at = source.find("memroy").expect("is there");
        assert_eq!(render("p.toml", source, at..at + 6), "  --> p.toml:3:1\n   |\n 3 | memroy = 1\n   | ^^^^^^");
    }

    proptest! {
        #[test]
        fn never_panics_and_never_prints_controls(source in "\\PC{0,20}\n[\\x00-\\x7f]{0,300}", start in 0_usize..400, length in 0_usize..400) {
            let shown = render("f", &source, start..start + length);
            prop_assert!(shown.lines().all(|l| l.chars().all(|c| !c.is_control())));
            prop_assert!(shown.lines().all(|l| l.chars().count() <= WIDTH + 60));
        }
    }
}
