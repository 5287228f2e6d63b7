//! `/metrics`: what the proxy counts and how the configuration is, in the OpenMetrics text format,
//! which Prometheus reads. `docs/metrics.md` lists every metric.

mod endpoints;
mod http;
mod kernel;
mod tls;

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use l4way_model::{ListenerId, PathReport, Transport};
use l4way_proxy_core::MemoryBudget;
use l4way_session::{HandshakeSnapshot, HistogramSnapshot, Labels, RowSnapshot, WorkerSnapshot};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use crate::{
    certificates::Certificate, data_plane::CounterSnapshot, endpoint_health::EndpointHealth,
    kernel_path::KernelSnapshot,
};

/// What is known outside of the proxy: how the configuration is, and the access log.
#[derive(Clone, Debug, Default)]
pub(crate) struct ControlMetrics {
    /// Files that can't be used as they are: an earlier version of their objects is in force, or
    /// none.
    pub(crate) bad_files: u64,
    /// Objects that break a rule of the API.
    pub(crate) invalid_objects: u64,
    /// Listeners that should be bound and aren't.
    pub(crate) unbound_listeners: u64,
    /// Routes that get no traffic because each of their listeners has an older route.
    pub(crate) superseded_routes: u64,
    /// Times that the manifests were read, the first included.
    pub(crate) reloads: u64,
    /// When the manifests were last read with nothing wrong in them.
    pub(crate) last_good_reload: Option<SystemTime>,
    /// Descriptors that sessions may use at a time.
    pub(crate) session_descriptors: u64,
    /// Records that the access log could not write.
    pub(crate) unwritten_records: u64,
    /// The certificates that listeners show.
    pub(crate) certificates: Vec<Certificate>,
    /// Who carries the sessions of listeners, where the kernel may.
    pub(crate) paths: BTreeMap<ListenerId, PathReport>,
    /// What is known of endpoints.
    pub(crate) endpoints: Option<EndpointHealth>,
    /// What sessions hold, and may hold.
    pub(crate) memory: Option<Arc<MemoryBudget>>,
}

/// All metrics at one time, as OpenMetrics text 1.0.0.
pub(crate) fn render(counters: &CounterSnapshot, control: &ControlMetrics) -> String {
    let CounterSnapshot { sessions, http, kernel, descriptors } = counters;
    let handshakes = sessions.handshakes.clone();
    let rows = sessions.rows.iter().map(|row| (session_labels(&row.labels), row.clone()));
    let scrape = Scrape {
        rows: rows.collect(),
        handshakes,
        workers: sessions.workers.clone(),
        http: http.clone(),
        kernel: kernel.clone(),
        descriptors: *descriptors as u64,
        control: control.clone(),
    };
    let mut registry = Registry::with_prefix("l4way");
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    text::encode(&mut text, &registry).expect("writing to a string doesn't fail");
    text
}

type SessionLabel = (&'static str, String);

/// The labels of every metric about sessions; one that doesn't apply is empty, which is the same to
/// Prometheus as none.
fn session_labels(labels: &Labels) -> Vec<SessionLabel> {
    vec![
        ("gateway", labels.listener.gateway.to_string()),
        ("listener", listener_name(&labels.listener)),
        ("route", labels.route.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("backend", labels.backend.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("protocol", labels.transport.to_string()),
    ]
}

/// A listener's name within its Gateway: `name`, or `namespace/set/name` for a ListenerSet's.
pub(crate) fn listener_name(listener: &ListenerId) -> String {
    match listener.listener_set {
        Some(_) => listener.to_string(),
        None => listener.name.to_string(),
    }
}

#[derive(Debug)]
struct Scrape {
    rows: Vec<(Vec<SessionLabel>, RowSnapshot)>,
    handshakes: Vec<HandshakeSnapshot>,
    workers: Vec<WorkerSnapshot>,
    http: l4way_http::HttpSnapshot,
    kernel: Option<KernelSnapshot>,
    descriptors: u64,
    control: ControlMetrics,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut encoder = Encoder(encoder);
        self.sessions(&mut encoder)?;
        self.traffic(&mut encoder)?;
        self.times(&mut encoder)?;
        tls::handshakes(&self.handshakes, &mut encoder)?;
        tls::certificates(&self.control.certificates, &mut encoder)?;
        http::encode(&self.http, &mut encoder)?;
        kernel::encode(self.kernel.as_ref(), &self.control.paths, &mut encoder)?;
        endpoints::encode(self.control.endpoints.as_ref(), &mut encoder)?;
        self.workers(&mut encoder)?;
        self.access_log(&mut encoder)?;
        self.control(&mut encoder)
    }
}

impl Scrape {
    fn rows(&self) -> impl Iterator<Item = (&[SessionLabel], &RowSnapshot)> {
        self.rows.iter().map(|(labels, row)| (labels.as_slice(), row))
    }

    /// The rows that may have sessions: without a backend there are refused ones only.
    fn begun(&self) -> impl Iterator<Item = (&[SessionLabel], &RowSnapshot)> {
        self.rows().filter(|(_, row)| row.labels.backend.is_some() || row.opened > 0)
    }

    /// Those of one protocol, for metrics that mean nothing to the other.
    fn begun_of(
        &self,
        transport: Transport,
    ) -> impl Iterator<Item = (&[SessionLabel], &RowSnapshot)> {
        self.begun().filter(move |(_, row)| row.labels.transport == transport)
    }

    fn sessions(&self, encoder: &mut Encoder<'_>) -> fmt::Result {
        encoder.counters(
            "sessions_opened",
            "Sessions begun. Refused ones aren't.",
            None,
            self.begun().map(|(labels, row)| (labels, row.opened)),
        )?;
        encoder.gauges(
            "sessions_active",
            "Sessions there are.",
            self.begun().map(|(labels, row)| (labels, row.active())),
        )?;
        encoder.counters(
            "sessions_refused",
            "Sessions refused because of the configuration or the TLS handshake, by reason.",
            None,
            self.rows().flat_map(|(labels, row)| {
                row.refused()
                    .map(move |(reason, count)| ((labels, [("reason", reason.as_str())]), count))
            }),
        )?;
        encoder.counters(
            "sessions_ended",
            "Sessions ended, by reason. class is error if something went wrong, else normal.",
            None,
            self.begun().flat_map(|(labels, row)| {
                row.ended().map(move |(reason, count)| {
                    let class = reason.class().as_str();
                    ((labels, [("reason", reason.as_str()), ("class", class)]), count)
                })
            }),
        )?;
        encoder.counters(
            "sessions_unanswered",
            "UDP sessions that ended without any reply.",
            None,
            self.begun_of(Transport::Udp).map(|(labels, row)| (labels, row.unanswered)),
        )
    }

    fn traffic(&self, encoder: &mut Encoder<'_>) -> fmt::Result {
        encoder.counters(
            "session",
            "Payload bytes, by direction: upstream is from the client to the endpoint.",
            Some(&Unit::Bytes),
            self.begun().flat_map(|(labels, row)| {
                directions(labels, row.bytes_upstream, row.bytes_downstream)
            }),
        )?;
        encoder.counters(
            "session_datagrams",
            "UDP datagrams, by direction: upstream is from the client to the endpoint.",
            None,
            self.begun_of(Transport::Udp).flat_map(|(labels, row)| {
                directions(labels, row.datagrams_upstream, row.datagrams_downstream)
            }),
        )
    }

    fn times(&self, encoder: &mut Encoder<'_>) -> fmt::Result {
        encoder.histograms(
            "connect",
            "Time from the choice of a TCP session's endpoint until it accepted, failed attempts \
             included.",
            self.begun_of(Transport::Tcp).map(|(labels, row)| (labels, &row.connect_time)),
        )?;
        encoder.histograms(
            "first_reply",
            "Time from a UDP session's first datagram to the first reply.",
            self.begun_of(Transport::Udp).map(|(labels, row)| (labels, &row.first_reply)),
        )
    }

    fn workers(&self, encoder: &mut Encoder<'_>) -> fmt::Result {
        let workers = || self.workers.iter().enumerate();
        encoder.counters(
            "accept_pauses",
            "Times that a worker stopped accepting for a while: out_of_resources if the system had \
             no descriptor or memory, session_limit if there were as many sessions as there may be.",
            None,
            workers().flat_map(|(index, worker)| {
                let causes = [
                    ("out_of_resources", worker.accept_pauses),
                    ("session_limit", worker.limit_pauses),
                ];
                causes.map(|(cause, count)| {
                    ([("worker", index.to_string()), ("cause", cause.to_owned())], count)
                })
            }),
        )?;
        encoder.counters(
            "hand_offs",
            "Connections that a worker accepted and handed to one with fewer.",
            None,
            workers().map(|(index, worker)| ([("worker", index.to_string())], worker.hand_offs)),
        )?;
        encoder.gauge(
            "session_descriptors_max",
            "Descriptors that sessions may use at a time: two for TCP and a client of HTTP, one for UDP.",
            None,
            self.control.session_descriptors,
        )?;
        encoder.gauge(
            "session_descriptors_used",
            "Descriptors that sessions use.",
            None,
            self.descriptors,
        )?;
        let Some(memory) = &self.control.memory else { return Ok(()) };
        encoder.gauge(
            "memory_budget_bytes",
            "What sessions may hold of what one side has sent and the other not taken.",
            None,
            memory.limit() as u64,
        )?;
        encoder.gauge(
            "memory_held_bytes",
            "What sessions hold of what one side has sent and the other not taken.",
            None,
            memory.held() as u64,
        )
    }

    fn access_log(&self, encoder: &mut Encoder<'_>) -> fmt::Result {
        let no_room: u64 = self.workers.iter().map(|worker| worker.records_dropped).sum();
        let of_kernel = self.kernel.as_ref().map_or(0, |kernel| kernel.totals.records_dropped);
        let no_room = no_room + self.http.records_dropped + of_kernel;
        encoder.counters(
            "access_log_records_dropped",
            "Sessions that the access log lacks: queue_full if they came faster than they could be \
             written, write_failed if writing failed.",
            None,
            [("queue_full", no_room), ("write_failed", self.control.unwritten_records)]
                .map(|(cause, count)| ([("cause", cause)], count))
                .into_iter(),
        )
    }

    fn control(&self, encoder: &mut Encoder<'_>) -> fmt::Result {
        let control = &self.control;
        let gauges = [
            (
                "bad_files",
                "Files that can't be used: an earlier version of their objects is in force, or none.",
                control.bad_files,
            ),
            ("invalid_objects", "Objects that break a rule of the API.", control.invalid_objects),
            (
                "unbound_listeners",
                "Listeners that should be bound and aren't.",
                control.unbound_listeners,
            ),
            (
                "superseded_routes",
                "Routes without traffic because each of their listeners has an older route.",
                control.superseded_routes,
            ),
        ];
        for (name, help, value) in gauges {
            encoder.gauge(name, help, None, value)?;
        }
        encoder.counter("reloads", "Times that the manifests were read.", control.reloads)?;
        if let Some(time) = control.last_good_reload {
            encoder.gauge(
                "last_good_reload_timestamp",
                "When the manifests were last read with nothing wrong in them.",
                Some(&Unit::Seconds),
                time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            )?;
        }
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        encoder.info("build", "What runs.", &version)
    }
}

/// The samples of what goes both ways.
fn directions(
    labels: &[SessionLabel],
    upstream: u64,
    downstream: u64,
) -> impl Iterator<Item = (impl EncodeLabelSet, u64)> {
    [("upstream", upstream), ("downstream", downstream)]
        .into_iter()
        .map(move |(direction, count)| ((labels, [("direction", direction)]), count))
}

/// Writes one metric with its samples at a time.
struct Encoder<'a>(DescriptorEncoder<'a>);

impl Encoder<'_> {
    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        samples: impl Iterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        for (labels, value) in samples {
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0
            .encode_descriptor(name, help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl Iterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn gauges_of<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        unit: &Unit,
        samples: impl Iterator<Item = (L, i64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, Some(unit), MetricType::Gauge)?;
        for (labels, value) in samples {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn info(&mut self, name: &str, help: &str, labels: &impl EncodeLabelSet) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(labels)
    }

    /// Histograms of seconds.
    fn histograms<'h, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl Iterator<Item = (L, &'h HistogramSnapshot)>,
    ) -> fmt::Result {
        let unit = Unit::Seconds;
        let mut metric =
            self.0.encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
        for (labels, histogram) in samples {
            let buckets = buckets(histogram);
            let (sum, count) = (histogram.sum.as_secs_f64(), histogram.count());
            metric
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

/// Upper bounds in seconds, and how many durations are in each bucket alone: the encoder sums up.
fn buckets(histogram: &HistogramSnapshot) -> Vec<(f64, u64)> {
    let mut below = 0;
    let cumulative = histogram.cumulative().map(|(bound, up_to)| {
        let bound = bound.map_or(f64::INFINITY, |bound| bound.as_secs_f64());
        let count = up_to - below;
        below = up_to;
        (bound, count)
    });
    cumulative.collect()
}

#[cfg(test)]
mod tests;
