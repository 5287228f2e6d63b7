//! What counters say, and the figures that come of how much they grew.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::mode::Unit;

/// What counters say at one time.
pub(crate) struct Reading {
    pub(crate) at: Instant,
    /// Operations or bytes.
    pub(crate) done: u64,
    /// CPU time of the gateway's processes, if it has any.
    pub(crate) gateway: Option<Duration>,
    /// CPU time of this process, with its clients and its backend.
    pub(crate) bench: Duration,
    /// CPU time of the clients.
    pub(crate) clients: Duration,
    /// CPU time that nobody used.
    pub(crate) idle: Duration,
}

impl Reading {
    /// The values of the unit's figures but latency.
    pub(crate) fn values_since(&self, before: &Self, unit: Unit) -> Vec<Option<f64>> {
        let seconds = |of: fn(&Self) -> Duration| of(self).saturating_sub(of(before)).as_secs_f64();
        let done = (self.done - before.done) as f64;
        let elapsed = (self.at - before.at).as_secs_f64();
        let gateway = self.gateway.map(|_| seconds(|reading| reading.gateway.unwrap_or_default()));
        let idle = seconds(|reading| reading.idle);
        let available = elapsed * thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        let others =
            available - idle - gateway.unwrap_or_default() - seconds(|reading| reading.bench);
        let percent = |seconds: f64| Some(100.0 * seconds / available);
        // As operations and in µs for each, or in MB and in ms for each GB.
        let (amount, cost) = match unit {
            Unit::Operations => (1.0, 1e6),
            Unit::Bytes => (1e-6, 1e3 * 1e9),
        };
        vec![
            Some(done * amount / elapsed),
            gateway.map(|seconds| seconds * cost / done),
            Some((available - idle).max(0.0) * cost / done),
            percent(seconds(|reading| reading.clients)),
            percent(others.max(0.0)),
            percent(idle),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_for_each_operation_or_gigabyte() {
        let at = Instant::now();
        let cpus = thread::available_parallelism().unwrap().get() as u32;
        let reading = |seconds: u64, done, gateway| Reading {
            at: at + Duration::from_secs(seconds),
            done,
            gateway,
            bench: Duration::ZERO,
            clients: Duration::from_millis(500) * cpus * seconds as u32,
            idle: Duration::from_millis(100) * cpus * seconds as u32,
        };
        let used = Some(Duration::from_millis(200));
        let values = reading(1, 1000, used)
            .values_since(&reading(0, 0, Some(Duration::ZERO)), Unit::Operations);
        let rounded: Vec<Option<f64>> =
            values.iter().map(|value| value.map(|value| (value * 1e3).round() / 1e3)).collect();
        assert_eq!(rounded[..2], [Some(1000.0), Some(200.0)]);
        assert_eq!(rounded[2], Some(900.0 * f64::from(cpus)));
        assert_eq!((rounded[3], rounded[5]), (Some(50.0), Some(10.0)));
        let bulk = reading(2, 4_000_000, None).values_since(&reading(0, 0, None), Unit::Bytes);
        assert_eq!(bulk[..2], [Some(2.0), None]);
    }
}
