//! Stories that are likely to change the same files while neither waits for the other.

use std::collections::{BTreeMap, BTreeSet};

use super::Plan;
use crate::base::path::globs_may_meet;

/// Two stories and a path both are expected to change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Overlap {
    pub a: usize,
    pub b: usize,
    pub path: String,
}

/// A plan with more than this many overlaps needs other help than a longer list.
pub const MOST: usize = 1000;

/// The first [`MOST`] overlaps in plan order.
pub fn overlaps(plan: &Plan) -> Vec<Overlap> {
    let mut by_path: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, story) in plan.stories.iter().enumerate() {
        for path in &story.paths {
            let stories = by_path.entry(path).or_default();
            if stories.last() != Some(&i) {
                stories.push(i);
            }
        }
    }
    let ancestors = Ancestors::of(plan);
    let mut found = BTreeSet::new();
    let wild = |path: &str| path.contains(['*', '?']) || path.ends_with('/');
    let mut add = |a: usize, b: usize, path: &str| {
        let (a, b) = (a.min(b), a.max(b));
        if a != b && found.len() < MOST && !ancestors.ordered(a, b) {
            found.insert(Overlap { a, b, path: path.to_owned() });
        }
    };
    for (path, stories) in &by_path {
        // Neighbours are enough: of many stories with one path each meets the next.
        for pair in stories.windows(2) {
            add(pair[0], pair[1], path);
        }
    }
    for (pattern, stories) in by_path.iter().filter(|(path, _)| wild(path)) {
        for (_, others) in by_path.iter().filter(|(path, _)| path != &pattern && globs_may_meet(pattern, path)) {
            for a in stories {
                for b in others {
                    add(*a, *b, pattern);
                }
            }
        }
    }
    found.into_iter().collect()
}

/// For each story a set of bits: everything it waits for, directly or through others.
struct Ancestors {
    words: usize,
    bits: Vec<u64>,
}

impl Ancestors {
    fn of(plan: &Plan) -> Self {
        let n = plan.stories.len();
        let words = n.div_ceil(64);
        let mut bits = vec![0; words * n];
        // Waves are a topological order.
        for story in plan.waves().concat() {
            for need in &plan.after[story] {
                bits[story * words + need / 64] |= 1_u64 << (need % 64);
                for word in 0..words {
                    bits[story * words + word] |= bits[need * words + word];
                }
            }
        }
        Self { words, bits }
    }

    fn ordered(&self, a: usize, b: usize) -> bool {
        let has = |x: usize, y: usize| self.bits[x * self.words + y / 64] >> (y % 64) & 1 == 1;
        has(a, b) || has(b, a)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::*;

    #[test]
    fn only_stories_that_may_run_side_by_side_overlap() {
        let mut plan = plan(&[vec![], vec![0], vec![], vec![1], vec![]]);
        for (story, path) in [(0, "a.rs"), (1, "a.rs"), (2, "a.rs"), (3, "src/**"), (4, "src/x.rs")] {
            plan.stories[story].paths = vec![path.into()];
        }
        let found: Vec<_> = overlaps(&plan).into_iter().map(|o| (o.a, o.b, o.path)).collect();
        assert_eq!(found, [(1, 2, "a.rs".to_owned()), (3, 4, "src/**".to_owned())]);
    }
}
