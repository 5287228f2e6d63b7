use crate::Rng;

/// The index of the endpoint that a session should take, out of `count`: the one with fewer sessions
/// of two that are drawn at random. That is nearly as even as the least of all, reads two counts
/// only, and doesn't send everybody to the same newcomer (Mitzenmacher, "The Power of Two Choices").
///
/// `tried` holds the indices that have failed this session, in rising order and without repeats; they
/// are left out. `None` if nothing is left.
pub fn less_loaded(
    rng: &mut Rng,
    count: usize,
    tried: &[usize],
    sessions: impl Fn(usize) -> u32,
) -> Option<usize> {
    let left = count.checked_sub(tried.len()).filter(|&left| left > 0)?;
    let untried = |nth: usize| tried.iter().fold(nth, |index, &t| index + usize::from(t <= index));
    let first = rng.below(left);
    if left == 1 {
        return Some(untried(first));
    }
    // The second is drawn from the others, so that the two always differ.
    let second = (first + 1 + rng.below(left - 1)) % left;
    let (first, second) = (untried(first), untried(second));
    Some(if sessions(second) < sessions(first) { second } else { first })
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::{Rng, less_loaded};

    #[test]
    fn sessions_spread_evenly() {
        let mut rng = Rng::new(42);
        let mut sessions = [0_u32; 10];
        for _ in 0..10_000 {
            let index = less_loaded(&mut rng, 10, &[], |i| sessions[i]).expect("ten endpoints");
            sessions[index] += 1;
        }
        assert!(sessions.iter().all(|&n| (990..=1_010).contains(&n)), "{sessions:?}");
    }

    #[test]
    fn of_two_the_idle_one_is_always_taken() {
        let mut rng = Rng::new(1);
        assert!((0..100).all(|_| less_loaded(&mut rng, 2, &[], |i| [9, 0][i]) == Some(1)));
    }

    proptest! {
        #[test]
        fn what_was_tried_is_left_out(
            seed: u64,
            count in 0..20_usize,
            tried in proptest::collection::btree_set(0..20_usize, 0..20),
        ) {
            let tried: Vec<_> = tried.into_iter().filter(|&t| t < count).collect();
            match less_loaded(&mut Rng::new(seed), count, &tried, |_| 0) {
                Some(index) => prop_assert!(index < count && !tried.contains(&index)),
                None => prop_assert_eq!(tried.len(), count),
            }
        }
    }
}
