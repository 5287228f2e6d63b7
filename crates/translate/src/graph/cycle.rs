//! Which nodes of a directed graph are on a cycle.

/// The places of the nodes from which a way leads back to themselves. `next` has the places to which
/// each node leads. Linear in nodes and edges (Kosaraju's algorithm), and without recursion.
pub(crate) fn on_cycle(next: &[Vec<usize>]) -> Vec<usize> {
    let mut before = vec![Vec::new(); next.len()];
    for (from, all) in next.iter().enumerate() {
        all.iter().for_each(|&to| before[to].push(from));
    }
    let mut seen = vec![false; next.len()];
    let mut finished = Vec::with_capacity(next.len());
    for start in 0..next.len() {
        finish(start, next, &mut seen, &mut finished);
    }
    let mut seen = vec![false; next.len()];
    let mut found = Vec::new();
    for &start in finished.iter().rev() {
        let mut component = Vec::new();
        finish(start, &before, &mut seen, &mut component);
        if component.len() > 1 || component.iter().any(|&only| next[only].contains(&only)) {
            found.extend(component);
        }
    }
    found.sort_unstable();
    found
}

/// Adds the nodes that can be reached from `start` and weren't seen, each behind those that it leads to.
fn finish(start: usize, next: &[Vec<usize>], seen: &mut [bool], finished: &mut Vec<usize>) {
    if std::mem::replace(&mut seen[start], true) {
        return;
    }
    let mut path = vec![(start, next[start].iter())];
    while let Some((node, left)) = path.last_mut() {
        match left.next() {
            Some(&to) if !std::mem::replace(&mut seen[to], true) => {
                path.push((to, next[to].iter()));
            }
            Some(_) => {}
            None => {
                finished.push(*node);
                path.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn only_what_leads_back_to_itself_is_on_a_cycle() {
        // 0 leads to the cycle of 1 and 2, which leads to 3, which leads to itself; 4 leads nowhere.
        let next = [vec![1], vec![2], vec![1, 3], vec![3, 4], vec![]];
        assert_eq!(on_cycle(&next), [1, 2, 3]);
        assert!(on_cycle(&[]).is_empty());
    }

    /// The same by trying every way.
    fn by_trying(next: &[Vec<usize>]) -> Vec<usize> {
        let leads_back = |start: &usize| {
            let mut reached = vec![false; next.len()];
            let mut left = next[*start].clone();
            while let Some(node) = left.pop() {
                if !std::mem::replace(&mut reached[node], true) {
                    left.extend(&next[node]);
                }
            }
            reached[*start]
        };
        (0..next.len()).filter(leads_back).collect()
    }

    proptest! {
        #[test]
        fn it_is_what_trying_finds(next in vec(vec(0_usize..9, 0..4), 9)) {
            prop_assert_eq!(on_cycle(&next), by_trying(&next));
        }
    }
}
