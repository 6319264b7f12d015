//! Evaluators that need only the names of what changed: protected paths and scope. Pure.

use super::request::{Changed, Report};
use crate::base::path::glob_matches;

/// Paths whose change needs a human's approval, and why nothing else does.
pub fn protected(changes: &[Changed], globs: &[String]) -> Report {
    let mut report = Report::default();
    for change in changes {
        if let Some(glob) = globs.iter().find(|glob| covers(glob, &change.path)) {
            report.approval(
                &change.path,
                format!("`{}` is protected (`{glob}`): a human approves this very commit, or rejects it", change.path),
            );
        }
    }
    report
}

/// Paths outside of what the story may change. A story that names nothing may change everything.
pub fn scope(changes: &[Changed], globs: &[String]) -> Report {
    let mut report = Report::default();
    if globs.is_empty() {
        return report;
    }
    for change in changes.iter().filter(|change| !globs.iter().any(|glob| covers(glob, &change.path))) {
        report.finding(&change.path, None, format!("the story may change {}, and this is outside", crate::base::text::list(globs)));
    }
    report
}

/// A pattern that names a folder covers what is below it.
fn covers(glob: &str, path: &str) -> bool {
    glob_matches(glob, path) || path.strip_prefix(glob.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Verdict;
    use crate::workspace::changes::ChangeKind;

    fn changes(paths: &[&str]) -> Vec<Changed> {
        paths.iter().map(|path| Changed { path: (*path).to_owned(), kind: ChangeKind::Modified }).collect()
    }

    #[test]
    fn a_protected_path_wants_a_human_and_no_other_does() {
        let globs = ["cofferdam.toml".to_owned(), ".github/**".to_owned(), "ci".to_owned()];
        assert_eq!(protected(&changes(&["src/a.rs", "cid/x"]), &globs).verdict(), Verdict::Pass);
        for path in ["cofferdam.toml", ".github/workflows/a.yml", "ci/run.sh"] {
            let report = protected(&changes(&["src/a.rs", path]), &globs);
            assert_eq!((report.verdict(), report.problems()), (Verdict::NeedsApproval, 1), "{path}");
        }
    }

    #[test]
    fn a_story_stays_within_its_scope_when_it_has_one() {
        let globs = ["src/**".to_owned(), "tests".to_owned()];
        assert_eq!(scope(&changes(&["x"]), &[]).verdict(), Verdict::Pass);
        assert_eq!(scope(&changes(&["src/a/b.rs", "tests/t.rs"]), &globs).verdict(), Verdict::Pass);
        assert_eq!(scope(&changes(&["src/a.rs", "Makefile", "srcx/a"]), &globs).problems(), 2);
    }
}
