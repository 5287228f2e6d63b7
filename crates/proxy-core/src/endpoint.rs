use crate::{EndpointState, Rng};

/// How often an endpoint is drawn anew in the place of one that is passed over, before all are looked at.
const DRAWS: usize = 8;

/// The index of the endpoint that a session should take, out of `count`: the one with fewer sessions
/// of two that are drawn at random. That is nearly as even as the least of all, reads two counts
/// only, and doesn't send everybody to the same newcomer (Mitzenmacher, "The Power of Two Choices").
///
/// `tried` holds the indices that have failed this session, in rising order and without repeats; they
/// are left out. `None` if nothing is left. One that `state` calls passed over is taken only if all that are
/// left are; one that it calls due is taken at once, for the session is to try it.
pub(crate) fn less_loaded(
    rng: &mut Rng,
    count: usize,
    tried: &[usize],
    mut state: impl FnMut(usize) -> EndpointState,
    sessions: impl Fn(usize) -> u32,
) -> Option<usize> {
    let left = count.checked_sub(tried.len()).filter(|&left| left > 0)?;
    let untried = |nth: usize| tried.iter().fold(nth, |index, &t| index + usize::from(t <= index));
    let first = match draw(rng, left, None, |nth| state(untried(nth))) {
        Drawn::Taken(first) => first,
        Drawn::Due(first) => return Some(untried(first)),
        // Each may be the one that answers again.
        Drawn::Nothing => {
            let first = rng.below(left);
            let second = (first + 1 + rng.below((left - 1).max(1))) % left;
            return Some(less_loaded_of(untried(first), untried(second), sessions));
        }
    };
    let second = match draw(rng, left, Some(first), |nth| state(untried(nth))) {
        Drawn::Taken(second) => second,
        Drawn::Due(second) => return Some(untried(second)),
        Drawn::Nothing => return Some(untried(first)),
    };
    Some(less_loaded_of(untried(first), untried(second), sessions))
}

fn less_loaded_of(first: usize, second: usize, sessions: impl Fn(usize) -> u32) -> usize {
    if sessions(second) < sessions(first) { second } else { first }
}

/// What came of drawing an endpoint.
enum Drawn {
    /// Nothing speaks against this one.
    Taken(usize),
    /// The session is to try this one.
    Due(usize),
    /// Each is passed over.
    Nothing,
}

/// Draws one of `left` that isn't passed over, and isn't the `first` one. Most are fine nearly always. If
/// they aren't, one is found by looking at each, from a random one on.
fn draw(
    rng: &mut Rng,
    left: usize,
    first: Option<usize>,
    mut state: impl FnMut(usize) -> EndpointState,
) -> Drawn {
    let others = left - usize::from(first.is_some());
    if others == 0 {
        return Drawn::Nothing;
    }
    // Drawn from the others, so that the two always differ.
    let other = |nth: usize| first.map_or(nth, |first| (first + 1 + nth) % left);
    let begin = rng.below(others);
    let drawn = std::iter::once(begin).chain((1..DRAWS.min(others)).map(|_| rng.below(others)));
    let mut look = |nth: usize| match state(other(nth)) {
        EndpointState::Taken => Some(Drawn::Taken(other(nth))),
        EndpointState::Due => Some(Drawn::Due(other(nth))),
        EndpointState::PassedOver => None,
    };
    for nth in drawn {
        if let Some(drawn) = look(nth) {
            return drawn;
        }
    }
    (0..others).find_map(|nth| look((begin + nth) % others)).unwrap_or(Drawn::Nothing)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_set, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn fine(_: usize) -> EndpointState {
        EndpointState::Taken
    }

    #[test]
    fn sessions_spread_evenly() {
        let mut rng = Rng::new(42);
        let mut sessions = [0_u32; 10];
        for _ in 0..10_000 {
            let index = less_loaded(&mut rng, 10, &[], fine, |i| sessions[i]).expect("ten");
            sessions[index] += 1;
        }
        assert!(sessions.iter().all(|&n| (990..=1_010).contains(&n)), "{sessions:?}");
    }

    #[test]
    fn sessions_spread_evenly_over_those_that_are_left() {
        let mut rng = Rng::new(42);
        let mut sessions = [0_u32; 10];
        let state = |index| match index {
            0..4 => EndpointState::Taken,
            _ => EndpointState::PassedOver,
        };
        for _ in 0..10_000 {
            let index = less_loaded(&mut rng, 10, &[], state, |i| sessions[i]).expect("four");
            sessions[index] += 1;
        }
        assert!(sessions[..4].iter().all(|&n| (2_400..=2_600).contains(&n)), "{sessions:?}");
        assert_eq!(sessions[4..], [0; 6]);
    }

    #[test]
    fn of_two_the_idle_one_is_always_taken() {
        let mut rng = Rng::new(1);
        assert!((0..100).all(|_| less_loaded(&mut rng, 2, &[], fine, |i| [9, 0][i]) == Some(1)));
    }

    proptest! {
        #[test]
        fn what_was_tried_is_left_out(
            seed: u64,
            count in 0..20_usize,
            tried in btree_set(0..20_usize, 0..20),
        ) {
            let tried: Vec<_> = tried.into_iter().filter(|&t| t < count).collect();
            match less_loaded(&mut Rng::new(seed), count, &tried, fine, |_| 0) {
                Some(index) => prop_assert!(index < count && !tried.contains(&index)),
                None => prop_assert_eq!(tried.len(), count),
            }
        }

        /// Any of them dead: a living one is found as long as there is one that wasn't tried.
        #[test]
        fn one_that_is_passed_over_is_the_last_resort(
            seed: u64,
            count in 1..40_usize,
            dead in btree_set(0..40_usize, 0..40),
            tried in btree_set(0..40_usize, 0..40),
            loads in proptest::collection::vec(0..5_u32, 40),
        ) {
            let tried: Vec<_> = tried.into_iter().filter(|&t| t < count).collect();
            let state = |index: usize| match dead.contains(&index) {
                true => EndpointState::PassedOver,
                false => EndpointState::Taken,
            };
            let mut rng = Rng::new(seed);
            let chosen = less_loaded(&mut rng, count, &tried, state, |i| loads[i]);
            let mut living = (0..count).filter(|i| !dead.contains(i) && !tried.contains(i));
            if living.next().is_some() {
                prop_assert!(chosen.is_some_and(|i| !dead.contains(&i) && !tried.contains(&i)));
            } else {
                prop_assert_eq!(chosen.is_some(), tried.len() < count);
            }
        }

        /// Who is told that an endpoint is due begins a trial, and so has to go there.
        #[test]
        fn one_that_is_due_is_taken_by_who_is_told(seed: u64, due in 0..10_usize) {
            let mut told = None;
            let state = |index| {
                if index == due {
                    told = Some(index);
                    return EndpointState::Due;
                }
                EndpointState::Taken
            };
            let chosen = less_loaded(&mut Rng::new(seed), 10, &[], state, |_| 0);
            prop_assert!(told.is_none() || chosen == told);
        }
    }
}
