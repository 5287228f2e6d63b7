/// 2^64 divided by the golden ratio: of all steps, multiples of this one stay the most evenly spread
/// modulo 2^64 (Knuth, The Art of Computer Programming 6.4).
const GOLDEN_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Picks a route's target for each session by weight.
///
/// The picks are an additive recurrence, not independent random numbers: each one steps by the golden
/// ratio over the targets' shares laid end to end. Any number of picks, from the first one on, is
/// within a few of the exact shares, where random ones would stray by their square root; and unlike
/// a round robin the order doesn't lock in step with clients that come in a fixed rhythm.
#[derive(Clone, Debug)]
pub struct WeightedPick {
    /// Where each target's share ends; the last one is the sum of the weights.
    ends: Box<[u64]>,
    /// The place in the shares, as a fraction of 2^64.
    at: u64,
}

impl WeightedPick {
    /// A pick among targets of these weights, starting at a place of the shares that `seed` gives.
    /// Let each worker have its own seed, so that they don't all begin with the same target.
    pub fn new(weights: impl IntoIterator<Item = u32>, seed: u64) -> Self {
        let ends = weights
            .into_iter()
            .scan(0, |sum, weight| {
                *sum += u64::from(weight);
                Some(*sum)
            })
            .collect();
        Self { ends, at: seed }
    }

    /// The index of the next session's target; `None` if the weights sum to 0.
    pub fn pick(&mut self) -> Option<usize> {
        let sum = self.ends.last().copied().filter(|&sum| sum > 0)?;
        self.at = self.at.wrapping_add(GOLDEN_STEP);
        let place = ((u128::from(self.at) * u128::from(sum)) >> 64) as u64;
        Some(self.ends.partition_point(|&end| end <= place))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_weight_there_is_no_pick() {
        assert_eq!(WeightedPick::new([], 1).pick(), None);
        assert_eq!(WeightedPick::new([0, 0], 1).pick(), None);
    }

    #[test]
    fn halves_interleave_from_every_start() {
        for seed in [0, 1, u64::MAX / 2, u64::MAX] {
            let mut pick = WeightedPick::new([50, 50], seed);
            let first = (0..1_000).filter(|_| pick.pick() == Some(0)).count();
            assert!((495..=505).contains(&first), "{first} of 1,000 from {seed}");
        }
    }

    #[test]
    fn a_client_that_takes_every_other_pick_sees_the_shares_too() {
        let mut pick = WeightedPick::new([1, 1], 3);
        let mut mine = 0;
        for n in 0..2_000 {
            let target = pick.pick();
            mine += u32::from(n % 2 == 0 && target == Some(0));
        }
        assert!((480..=520).contains(&mine), "{mine} of 1,000");
    }

    fn weights() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::vec(prop_oneof![Just(0), 1..=10_u32, 0..=1_000_000_u32], 1..=256)
    }

    proptest! {
        #[test]
        fn every_prefix_is_within_a_few_of_the_shares(
            weights in weights(),
            seed: u64,
            picks in 1..3_000_usize,
        ) {
            let sum: u64 = weights.iter().copied().map(u64::from).sum();
            let mut pick = WeightedPick::new(weights.iter().copied(), seed);
            let mut counts = vec![0_u32; weights.len()];
            for n in 1..=picks {
                let Some(target) = pick.pick() else {
                    prop_assert_eq!(sum, 0);
                    return Ok(());
                };
                prop_assert!(weights[target] > 0, "picked weight 0");
                counts[target] += 1;
                let exact = n as f64 * f64::from(weights[target]) / sum as f64;
                let off = (f64::from(counts[target]) - exact).abs();
                prop_assert!(off <= 2.0 + (n as f64).ln(), "{off} off after {n} picks");
            }
            for (weight, count) in weights.iter().zip(counts) {
                let exact = picks as f64 * f64::from(*weight) / sum as f64;
                let off = (f64::from(count) - exact).abs();
                prop_assert!(off <= 2.0 + (picks as f64).ln(), "{off} off after {picks} picks");
            }
        }
    }
}
