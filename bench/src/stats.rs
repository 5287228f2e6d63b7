//! What many measurements of the same thing say together.

/// Measurements in ascending order, at least one.
#[derive(Clone, Debug)]
pub(crate) struct Stats(Vec<f64>);

/// How often the bootstrap draws.
const DRAWS: usize = 10_000;

impl Stats {
    /// Of at least one measurement.
    pub(crate) fn new(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        Self(values)
    }

    pub(crate) fn min(&self) -> f64 {
        self.quantile(0.0)
    }

    pub(crate) fn lower_quartile(&self) -> f64 {
        self.quantile(0.25)
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub(crate) fn upper_quartile(&self) -> f64 {
        self.quantile(0.75)
    }

    /// The 95 % interval of the median by bootstrap: how far it is from the medians of as many
    /// measurements, drawn from these with replacement. The same measurements have the same interval.
    pub(crate) fn interval(&self) -> (f64, f64) {
        let mut random = SplitMix(0);
        let mut draw = || {
            let drawn = self.0.iter().map(|_| self.0[random.below(self.0.len())]);
            Self::new(drawn.collect()).median()
        };
        let medians = Self::new((0..DRAWS).map(|_| draw()).collect());
        (medians.quantile(0.025), medians.quantile(0.975))
    }

    /// The value that this share of the measurements doesn't exceed, between two of them by
    /// interpolation.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let position = share * (self.0.len() - 1) as f64;
        let below = self.0[position as usize];
        let above = self.0[position.ceil() as usize];
        below + (above - below) * position.fract()
    }
}

/// Steele, Lea and Flood's SplitMix64.
struct SplitMix(u64);

impl SplitMix {
    /// A number below `bound`, each as likely as any other but for 2^-64 times `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((u128::from(mixed) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quartiles_lie_between_measurements() {
        let stats = Stats::new(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!((stats.min(), stats.lower_quartile()), (1.0, 1.75));
        assert_eq!((stats.median(), stats.upper_quartile()), (2.5, 3.25));
        let odd = Stats::new(vec![9.0, 1.0, 5.0]);
        assert_eq!((odd.lower_quartile(), odd.median(), odd.upper_quartile()), (3.0, 5.0, 7.0));
    }

    #[test]
    fn what_never_varies_has_no_interval() {
        for count in [1, 2, 31] {
            assert_eq!(Stats::new(vec![1.5; count]).interval(), (1.5, 1.5));
        }
    }

    /// By order statistics, the 95 % interval of the median of 1 to 31 is 10 to 22.
    #[test]
    fn the_interval_is_what_theory_says() {
        let (low, high) = Stats::new((1..=31).map(f64::from).collect()).interval();
        assert!((9.0..=12.0).contains(&low) && (20.0..=23.0).contains(&high), "{low} to {high}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn the_interval_holds_the_median(values in prop::collection::vec(0.1..10.0, 1..40)) {
            let stats = Stats::new(values);
            let (low, high) = stats.interval();
            prop_assert!(stats.min() <= low && low <= stats.median());
            prop_assert!(stats.median() <= high && high <= stats.quantile(1.0));
        }

        #[test]
        fn draws_are_in_bounds(seed: u64, bound in 1..1000_usize) {
            prop_assert!(SplitMix(seed).below(bound) < bound);
        }
    }
}
