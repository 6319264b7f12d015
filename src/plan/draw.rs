//! The graph for people: a tree of text, DOT, Mermaid.

use std::fmt::Write as _;

use super::Plan;
use crate::base::text::{cut, one_line};

/// A line of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twig {
    pub story: usize,
    /// What the line begins with.
    pub branch: String,
    /// It stands above already, with everything below it.
    pub again: bool,
}

/// Deeper branches than this are not indented any further: a terminal's width is finite.
const DEEPEST: usize = 60;

/// A tree: below each story, those that come after it. A story with several parents is drawn once, and named again.
/// Branches are not indented beyond `deepest` columns.
pub fn twigs(after: &[Vec<usize>], dependents: &[Vec<usize>], deepest: usize) -> Vec<Twig> {
    let mut twigs = Vec::new();
    let mut drawn = vec![false; after.len()];
    let roots: Vec<usize> = (0..after.len()).filter(|s| after[*s].is_empty()).collect();
    // What is still to be drawn: the story, its line's beginning, and what its children's lines begin with.
    let mut todo: Vec<(usize, String, String)> = roots.into_iter().rev().map(|s| (s, String::new(), String::new())).collect();
    loop {
        while let Some((story, branch, rest)) = todo.pop() {
            let again = std::mem::replace(&mut drawn[story], true);
            twigs.push(Twig { story, branch, again });
            if again {
                continue;
            }
            let children = &dependents[story];
            for (i, child) in children.iter().enumerate().rev() {
                let last = i + 1 == children.len();
                let flat = rest.chars().count() >= deepest;
                let (branch, below) = match (flat, last) {
                    (true, _) => ("", ""),
                    (false, true) => ("└─ ", "   "),
                    (false, false) => ("├─ ", "│  "),
                };
                todo.push((*child, format!("{rest}{branch}"), format!("{rest}{below}")));
            }
        }
        // Stories of plans that were, and that wait for each other in a circle, hang on no root.
        let Some(left) = drawn.iter().position(|drawn| !drawn) else { return twigs };
        todo.push((left, String::new(), String::new()));
    }
}

/// The tree as text, with a mark before each story.
pub fn tree(plan: &Plan, mark: &dyn Fn(usize) -> String) -> String {
    let mut out = String::new();
    for Twig { story, branch, again } in twigs(&plan.after, &plan.dependents, DEEPEST) {
        let planned = &plan.stories[story];
        if again {
            let _ = writeln!(out, "{branch}{} ↑", planned.id);
            continue;
        }
        let others = if plan.after[story].len() > 1 {
            let names: Vec<&str> = plan.after[story].iter().map(|a| plan.id(*a).as_str()).collect();
            format!("  (after {})", names.join(", "))
        } else {
            String::new()
        };
        let _ = writeln!(out, "{branch}{}{}  {}{others}", mark(story), planned.id, one_line(&cut(&planned.title, 60)));
    }
    out
}

/// Graphviz. Solid edges: comes after. Dashed: wired together.
pub fn dot(plan: &Plan) -> String {
    let quote = |text: &str| format!("\"{}\"", one_line(text).replace('\\', "\\\\").replace('"', "\\\""));
    let mut out = String::from("digraph plan {\n  rankdir=LR;\n  node [shape=box];\n");
    for story in &plan.stories {
        let label = format!("{}: {}", story.id, cut(&story.title, 60));
        let shape = if story.automatable { "" } else { ", style=dotted" };
        let _ = writeln!(out, "  {} [label={}{shape}];", quote(story.id.as_str()), quote(&label));
    }
    for (a, b, wired) in edges(plan) {
        let style = if wired { " [style=dashed, dir=none]" } else { "" };
        let _ = writeln!(out, "  {} -> {}{style};", quote(plan.id(a).as_str()), quote(plan.id(b).as_str()));
    }
    out.push_str("}\n");
    out
}

/// Mermaid, as hosts of repositories draw it. Its ids are positions, because it forbids some of ours.
pub fn mermaid(plan: &Plan) -> String {
    let escape = |text: &str| {
        let safe = |c: char| if c.is_alphanumeric() || " -_.,:/()".contains(c) { c.to_string() } else { format!("#{};", u32::from(c)) };
        one_line(text).chars().map(safe).collect::<String>()
    };
    let mut out = String::from("graph LR\n");
    for (i, story) in plan.stories.iter().enumerate() {
        let _ = writeln!(out, "  s{i}[\"{}: {}\"]", escape(story.id.as_str()), escape(&cut(&story.title, 60)));
    }
    for (a, b, wired) in edges(plan) {
        let _ = writeln!(out, "  s{a} {} s{b}", if wired { "-.-" } else { "-->" });
    }
    out
}

/// Edges from what comes first, then those of wired groups, each to the next.
fn edges(plan: &Plan) -> impl Iterator<Item = (usize, usize, bool)> {
    let after = plan.after.iter().enumerate().flat_map(|(b, needs)| needs.iter().map(move |a| (*a, b, false)));
    let wired = plan.groups.iter().flat_map(|group| group.windows(2).map(|pair| (pair[0], pair[1], true)));
    after.chain(wired)
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::*;

    #[test]
    fn a_diamond_is_drawn() {
        let mut plan = plan(&[vec![], vec![0], vec![0], vec![1, 2], vec![]]);
        plan.groups = vec![vec![1, 2]];
        plan.stories[4].title = "say \"hi\" \u{1b}[2J".into();
        insta::assert_snapshot!(tree(&plan, &|_| String::new()), @r#"
        s0  Story 0
        ├─ s1  Story 1
        │  └─ s3  Story 3  (after s1, s2)
        └─ s2  Story 2
           └─ s3 ↑
        s4  say "hi" \u{1b}[2J
        "#);
        assert!(dot(&plan).contains("\"s1\" -> \"s2\" [style=dashed, dir=none];"), "{}", dot(&plan));
        assert!(dot(&plan).contains(r#"label="s4: say \"hi\" \\u{1b}[2J""#), "{}", dot(&plan));
        assert!(mermaid(&plan).contains("s4[\"s4: say #34;hi#34; #92;u#123;1b#125;#91;2J\"]"), "{}", mermaid(&plan));
        assert!(mermaid(&plan).contains("  s0 --> s1\n"));
    }
}
