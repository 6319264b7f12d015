//! What waits for what, by index. No recursion: a chain may be as long as a plan.

/// How deep each node lies below those that wait for nothing: 0 for these, else one more than the deepest it waits for.
/// `Err` holds the cycles that make this impossible, each as nodes of which every one waits for the next, and the last for the first.
pub fn levels(after: &[Vec<usize>]) -> Result<Vec<usize>, Vec<Vec<usize>>> {
    let order = order(after, &vec![false; after.len()]);
    if order.len() < after.len() {
        return Err(cycles(after));
    }
    let mut levels = vec![0; after.len()];
    for node in order {
        levels[node] = after[node].iter().map(|a| levels[*a] + 1).max().unwrap_or_default();
    }
    Ok(levels)
}

/// Who waits for each node, in order.
pub fn reversed(after: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut before = vec![Vec::new(); after.len()];
    for (node, needs) in after.iter().enumerate() {
        for need in needs {
            before[*need].push(node);
        }
    }
    before
}

/// Everything that can be reached, without the start itself unless it is part of a cycle; in order of index.
pub fn reachable(edges: &[Vec<usize>], start: usize) -> Vec<usize> {
    let mut seen = vec![false; edges.len()];
    let mut todo = edges[start].clone();
    while let Some(node) = todo.pop() {
        if !std::mem::replace(&mut seen[node], true) {
            todo.extend(&edges[node]);
        }
    }
    (0..edges.len()).filter(|n| seen[*n]).collect()
}

/// A topological order, stable by index among what is free at the same time; without what hangs on a cycle.
fn order(after: &[Vec<usize>], gone: &[bool]) -> Vec<usize> {
    let before = reversed(after);
    let mut open: Vec<usize> = after.iter().map(|a| a.iter().filter(|n| !gone[**n]).count()).collect();
    let mut free: std::collections::VecDeque<usize> = (0..after.len()).filter(|n| open[*n] == 0 && !gone[*n]).collect();
    let mut order = Vec::with_capacity(after.len());
    while let Some(node) = free.pop_front() {
        order.push(node);
        for next in &before[node] {
            open[*next] -= 1;
            if open[*next] == 0 && !gone[*next] {
                free.push_back(*next);
            }
        }
    }
    order
}

/// Cycles without a common node, at most ten.
fn cycles(after: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut gone = vec![false; after.len()];
    let mut found = Vec::new();
    while found.len() < 10 {
        let mut left = vec![true; after.len()];
        for node in order(after, &gone) {
            left[node] = false;
        }
        for (node, gone) in gone.iter().enumerate() {
            left[node] &= !gone;
        }
        let Some(start) = left.iter().position(|l| *l) else { break };
        // What is left waits for something that is left: following it must come back to where it was.
        let mut path = Vec::new();
        let mut at = vec![usize::MAX; after.len()];
        let mut node = start;
        let cycle = loop {
            if at[node] != usize::MAX {
                break path.split_off(at[node]);
            }
            at[node] = path.len();
            path.push(node);
            match after[node].iter().find(|n| left[**n]) {
                Some(next) => node = *next,
                None => return found,
            }
        };
        for node in &cycle {
            gone[*node] = true;
        }
        // From the one that was written first.
        let mut cycle = cycle;
        let first = cycle.iter().enumerate().min_by_key(|(_, n)| **n).map_or(0, |(i, _)| i);
        cycle.rotate_left(first);
        found.push(cycle);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_diamond_has_three_levels_and_a_cycle_is_exact() {
        assert_eq!(levels(&[vec![], vec![0], vec![0], vec![1, 2]]), Ok(vec![0, 1, 1, 2]));
        assert_eq!(levels(&[vec![], vec![3], vec![1, 0], vec![2], vec![3]]), Err(vec![vec![1, 3, 2]]));
        assert_eq!(levels(&[vec![0]]), Err(vec![vec![0]]));
        assert_eq!(levels(&[vec![1], vec![0], vec![3], vec![2]]), Err(vec![vec![0, 1], vec![2, 3]]));
        let long: Vec<Vec<usize>> = (0..50_000_usize).map(|i| i.checked_sub(1).into_iter().collect()).collect();
        assert_eq!(levels(&long).expect("chain")[49_999], 49_999);
    }

    proptest! {
        #[test]
        fn levels_respect_edges_or_the_cycle_is_real(edges in proptest::collection::vec(proptest::collection::vec(0_usize..12, 0..3), 12)) {
            match levels(&edges) {
                Ok(levels) => {
                    for (node, needs) in edges.iter().enumerate() {
                        for need in needs {
                            prop_assert!(levels[*need] < levels[node]);
                        }
                        prop_assert!(!reachable(&edges, node).contains(&node));
                    }
                }
                Err(cycles) => {
                    prop_assert!(!cycles.is_empty());
                    for cycle in cycles {
                        for (i, node) in cycle.iter().enumerate() {
                            prop_assert!(edges[*node].contains(&cycle[(i + 1) % cycle.len()]));
                            prop_assert!(!cycle[..i].contains(node));
                        }
                    }
                }
            }
        }
    }
}
