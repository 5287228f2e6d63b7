//! The figures, beside what they should be and what a peer's are.

use std::{fmt::Write, time::Duration};

use serde_json::json;

use crate::{
    changes::{Changes, Listeners},
    held::Lost,
    memory::Memory,
    stats::Stats,
    strangers::Strangers,
};

/// All that was measured.
pub(crate) struct Report {
    /// The machine's load before and after.
    pub(crate) load: (String, String),
    pub(crate) baseline: Stats,
    pub(crate) first_byte: Stats,
    pub(crate) route: Changes,
    pub(crate) endpoint: Changes,
    pub(crate) listener: Listeners,
    pub(crate) sessions: usize,
    pub(crate) hold: Duration,
    pub(crate) lost: Lost,
    /// Bytes of the largest proxy.
    pub(crate) resident: u64,
    pub(crate) strangers: Strangers,
}

/// A line of the table.
struct Row {
    what: String,
    ours: String,
    target: &'static str,
    peer: &'static str,
    multiple: String,
}

impl Row {
    fn new(what: impl Into<String>, ours: impl Into<String>) -> Self {
        let (what, ours) = (what.into(), ours.into());
        Self { what, ours, target: "", peer: "", multiple: String::new() }
    }
}

impl Report {
    /// Whether every session and every new connection was served.
    pub(crate) fn is_lossless(&self) -> bool {
        let failed = self.route.failed + self.endpoint.failed;
        self.lost.tcp + self.lost.udp + failed == 0
    }

    /// For a person.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("load of the machine: {} to {}\n\n", self.load.0, self.load.1);
        let header = Row {
            target: "target",
            peer: "peer",
            multiple: "x API".to_owned(),
            ..Row::new("", "l4way")
        };
        for row in [header].into_iter().chain(self.rows()) {
            let Row { what, ours, target, peer, multiple } = row;
            let line = format!("{what:<44} {ours:>10} {target:>10} {peer:>10} {multiple:>6}");
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text + "\nx API: as a multiple of what an API write seen by a watch costs in the same run, \
                p50 to p50 and p99 to p99.\n\
                peer: Envoy Gateway 1.9.1 on such a cluster, measured before, not in this run.\n"
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = self.first_byte_rows();
        rows.extend(self.change_rows());
        rows.extend(self.session_rows());
        rows.extend(self.stranger_rows());
        rows
    }

    fn first_byte_rows(&self) -> Vec<Row> {
        let first = &self.first_byte;
        let what = format!("Gateway to first byte, median of {}", first.count());
        vec![
            Row { target: "4 s", peer: "10.9 s", ..Row::new(what, seconds(first.percentile(50))) },
            Row::new("  fastest", seconds(first.min())),
            Row::new("  slowest", seconds(first.max())),
        ]
    }

    fn change_rows(&self) -> Vec<Row> {
        let mut rows = vec![
            Row::new("API write seen by a watch, p50", milliseconds(self.baseline.percentile(50))),
            Row::new("  p99", milliseconds(self.baseline.percentile(99))),
        ];
        let peer = ["16 ms", "32 ms"];
        let target = ["16 ms", "50 ms"];
        for (what, stats, targets, peers) in [
            ("route change", &self.route.durations, target, peer),
            ("endpoint change", &self.endpoint.durations, target, [""; 2]),
            ("listener added, at the pod", &self.listener.pod, target, [""; 2]),
            ("listener added, at the Gateway's address", &self.listener.address, [""; 2], [""; 2]),
        ] {
            let whats = [format!("{what}, p50"), "  p99".to_owned()];
            for (index, (percent, what)) in [50, 99].into_iter().zip(whats).enumerate() {
                let ours = stats.percentile(percent);
                rows.push(Row {
                    target: targets[index],
                    peer: peers[index],
                    multiple: self.multiple(ours, percent),
                    ..Row::new(what, milliseconds(ours))
                });
            }
            rows.push(Row::new("  slowest", milliseconds(stats.max())));
        }
        rows
    }

    /// A duration as a multiple of the bare API's.
    fn multiple(&self, ours: Duration, percent: usize) -> String {
        let bare = self.baseline.percentile(percent).as_secs_f64();
        format!("{:.1}", ours.as_secs_f64() / bare)
    }

    fn session_rows(&self) -> Vec<Row> {
        let Lost { tcp, udp } = self.lost;
        let of = |lost: usize| format!("{lost} of {}", self.sessions);
        let failed = self.route.failed + self.endpoint.failed;
        let resident = self.resident as f64 / 1e6;
        let what = format!("connections lost in 6 changes and {} s after", self.hold.as_secs());
        vec![
            Row { target: "0", peer: "20 of 20", ..Row::new(what, of(tcp)) },
            Row { target: "0", ..Row::new("UDP flows lost", of(udp)) },
            Row {
                target: "0",
                ..Row::new("new connections failed in changes", failed.to_string())
            },
            Row {
                target: "25 MB",
                ..Row::new("resident memory of a proxy", format!("{resident:.1} MB"))
            },
        ]
    }

    fn stranger_rows(&self) -> Vec<Row> {
        let Strangers { count, before, after, restarted, ready_within } = &self.strangers;
        let row = |what: String, memory: &Memory| {
            let (resident, peak) = (memory.resident as f64 / 1e6, memory.peak as f64 / 1e6);
            Row::new(what, format!("{resident:.0}, {peak:.0} MB"))
        };
        let strangers = format!("{count} Secrets, {count} ConfigMaps");
        vec![
            row("memory of a controller, and its most".to_owned(), before),
            row(format!("  after {strangers}"), after),
            row("  restarted with them".to_owned(), restarted),
            Row::new("  until it is ready", seconds(*ready_within)),
        ]
    }

    /// For a program, in milliseconds and bytes.
    pub(crate) fn json(&self) -> String {
        let figures = |stats: &Stats| {
            let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
            json!({
                "count": stats.count(),
                "p50": milliseconds(stats.percentile(50)),
                "p99": milliseconds(stats.percentile(99)),
                "max": milliseconds(stats.max()),
            })
        };
        let value = json!({
            "load": [self.load.0, self.load.1],
            "apiWriteToWatch": figures(&self.baseline),
            "firstByte": figures(&self.first_byte),
            "routeChange": figures(&self.route.durations),
            "endpointChange": figures(&self.endpoint.durations),
            "listenerAddedAtPod": figures(&self.listener.pod),
            "listenerAddedAtAddress": figures(&self.listener.address),
            "sessions": self.sessions,
            "holdSeconds": self.hold.as_secs(),
            "lostConnections": self.lost.tcp,
            "lostUdpFlows": self.lost.udp,
            "failedConnections": self.route.failed + self.endpoint.failed,
            "residentBytes": self.resident,
            "strangers": self.strangers_json(),
        });
        format!("{value:#}\n")
    }

    fn strangers_json(&self) -> serde_json::Value {
        let Strangers { count, before, after, restarted, ready_within } = &self.strangers;
        json!({
            "secrets": count,
            "configMaps": count,
            "controllerBefore": memory_json(before),
            "controllerAfter": memory_json(after),
            "controllerRestarted": memory_json(restarted),
            "readyWithin": ready_within.as_secs_f64() * 1e3,
        })
    }
}

fn memory_json(memory: &Memory) -> serde_json::Value {
    json!({ "residentBytes": memory.resident, "peakBytes": memory.peak })
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}
