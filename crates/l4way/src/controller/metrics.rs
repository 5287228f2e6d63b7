//! What the controller counts, for `/metrics`.

use std::{
    sync::atomic::{AtomicI64, AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

type Label = (&'static str, String);

/// From 1 ms to some 8 s.
fn delays() -> Histogram {
    Histogram::new((0..14).map(|power| 0.001 * f64::from(1 << power)))
}

/// The controller's own metrics. A clone counts in the same place.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) passes: Counter<u64, AtomicU64>,
    pub(crate) pass_time: Histogram,
    writes: Family<Vec<Label>, Counter>,
    errors: Family<Vec<Label>, Counter>,
    missing: Family<Vec<Label>, Gauge>,
    pub(crate) leads: Gauge<i64, AtomicI64>,
    pub(crate) gateways: Gauge<i64, AtomicI64>,
    pub(crate) unconfirmed: Gauge<i64, AtomicI64>,
    delivery: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            passes: Counter::default(),
            pass_time: delays(),
            writes: Family::default(),
            errors: Family::default(),
            missing: Family::default(),
            leads: Gauge::default(),
            gateways: Gauge::default(),
            unconfirmed: Gauge::default(),
            delivery: delays(),
        }
    }

    /// An object was written or deleted.
    pub(crate) fn wrote(&self, kind: &str) {
        self.writes.get_or_create(&vec![("kind", kind.to_owned())]).inc();
    }

    /// A request failed.
    pub(crate) fn failed(&self, reason: &str) {
        self.errors.get_or_create(&vec![("reason", reason.to_owned())]).inc();
    }

    /// A configuration is in its Secrets, this long after the change was seen.
    pub(crate) fn delivered(&self, after: Duration) {
        self.delivery.observe(after.as_secs_f64());
    }

    /// These kinds' CRDs are missing, and no others.
    pub(crate) fn set_missing(&self, kinds: &[String]) {
        self.missing.clear();
        for kind in kinds {
            self.missing.get_or_create(&vec![("kind", kind.clone())]).set(1);
        }
    }

    /// All metrics, as OpenMetrics text 1.0.0. The registry ends each text with a full stop.
    pub(crate) fn render(&self) -> String {
        let mut registry = Registry::with_prefix("l4way_controller");
        let Self { passes, pass_time, writes, errors, missing, leads, .. } = self.clone();
        let Self { gateways, unconfirmed, delivery, .. } = self.clone();
        registry.register("reconciles", "Times that everything was looked at", passes);
        registry.register_with_unit(
            "reconcile_duration",
            "How long it took to look at everything, without waiting for requests",
            Unit::Seconds,
            pass_time,
        );
        registry.register("writes", "Objects written or deleted, by kind", writes);
        registry.register("errors", "Requests that failed, by reason", errors);
        registry.register("missing_crds", "Kinds whose CRDs aren't installed", missing);
        registry.register("is_leader", "Whether this replica leads", leads);
        registry.register("gateways", "Gateways of l4way's classes", gateways);
        registry.register(
            "deliveries_unconfirmed",
            "Gateways whose proxies have still to confirm their configuration",
            unconfirmed,
        );
        registry.register_with_unit(
            "delivery_duration",
            "From a change that was seen to the configuration in its Secrets",
            Unit::Seconds,
            delivery,
        );
        let mut text = String::new();
        text::encode(&mut text, &registry).expect("writing to a string doesn't fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_rendered() {
        let metrics = Metrics::new();
        metrics.wrote("Secret");
        metrics.failed("forbidden");
        metrics.set_missing(&["TLSRoute".to_owned()]);
        metrics.set_missing(&["UDPRoute".to_owned()]);
        metrics.delivered(Duration::from_millis(3));
        let text = metrics.render();
        for line in [
            "l4way_controller_writes_total{kind=\"Secret\"} 1",
            "l4way_controller_errors_total{reason=\"forbidden\"} 1",
            "l4way_controller_missing_crds{kind=\"UDPRoute\"} 1",
            "l4way_controller_delivery_duration_seconds_count 1",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(!text.contains("TLSRoute"), "{text}");
    }
}
