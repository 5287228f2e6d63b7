//! From the change of an endpoint until no new session goes to where it was.

use std::time::Instant;

use l4way_scale_bench::{Pod, Size};

use crate::{
    Result, say,
    stats::{Stats, milliseconds},
};

/// What the columns of [`measure`] are.
pub(crate) const HEADER: &str = "
One endpoint changed, until the workers of a proxy have it: milliseconds.
Target at 100,000 endpoints: 10 ms in 99 of 100.

endpoints  backends  median     99 %    worst  changes";

/// How many changes are measured.
const CHANGES: usize = 2_000;

/// Measures it in a proxy that carries all of an installation.
pub(crate) fn measure(size: Size) -> Result<()> {
    let mut pod = Pod::start(size)?;
    let changes = (0..CHANGES).map(|nth| {
        let slice = pod.replaced(nth);
        let begin = Instant::now();
        pod.change(slice)?;
        Ok(begin.elapsed())
    });
    let stats = Stats::new(changes.collect::<Result<_>>()?);
    say(&format!(
        "{:>9} {:>9} {:>7} {:>8} {:>8} {CHANGES:>8}",
        size.endpoints,
        pod.backends(),
        milliseconds(stats.median()),
        milliseconds(stats.percentile(99)),
        milliseconds(stats.max()),
    ));
    Ok(())
}
