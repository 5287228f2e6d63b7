use std::{sync::Arc, time::Duration};

use l4way_model::ListenerId;

use crate::{
    CloseClass, CloseReason,
    counters::{BUCKETS_US, HandshakeKind, Labels, WorkerCounters},
};

/// All counters at one time, summed over who writes them.
#[derive(Clone, Debug, Default)]
pub struct SessionSnapshot {
    /// One row for each listener, route and backend, in the order of their labels.
    pub rows: Vec<RowSnapshot>,
    /// The TLS handshakes of each listener, in the order of their ids.
    pub handshakes: Vec<HandshakeSnapshot>,
    /// Counters of each worker that belong to no listener.
    pub workers: Vec<WorkerSnapshot>,
}

/// The counters of one listener, route and backend. All but [`active`](Self::active) only grow.
#[derive(Clone, Debug)]
pub struct RowSnapshot {
    /// The sessions that it is about.
    pub labels: Arc<Labels>,
    /// Sessions begun; refused ones aren't.
    pub opened: u64,
    /// By [`CloseReason`], in the order of [`CloseReason::ALL`].
    pub(crate) ended: [u64; CloseReason::ALL.len()],
    /// Payload bytes from clients to endpoints.
    pub bytes_upstream: u64,
    /// Payload bytes from endpoints to clients.
    pub bytes_downstream: u64,
    /// Datagrams from clients to endpoints.
    pub datagrams_upstream: u64,
    /// Datagrams from endpoints to clients.
    pub datagrams_downstream: u64,
    /// Datagrams from clients that the kernel would not send on to endpoints: too long, no room, …
    pub dropped_upstream: u64,
    /// Datagrams from endpoints that the kernel would not send on to clients.
    pub dropped_downstream: u64,
    /// TCP: time from the choice of the endpoint until it accepted, failed attempts included.
    pub connect_time: HistogramSnapshot,
    /// UDP: time from a session's first datagram to the first reply.
    pub first_reply: HistogramSnapshot,
    /// UDP: sessions that ended without any reply.
    pub unanswered: u64,
}

impl RowSnapshot {
    pub(crate) fn new(labels: Arc<Labels>) -> Self {
        Self {
            labels,
            opened: 0,
            ended: [0; CloseReason::ALL.len()],
            bytes_upstream: 0,
            bytes_downstream: 0,
            datagrams_upstream: 0,
            datagrams_downstream: 0,
            dropped_upstream: 0,
            dropped_downstream: 0,
            connect_time: HistogramSnapshot::default(),
            first_reply: HistogramSnapshot::default(),
            unanswered: 0,
        }
    }

    /// Sessions that ended, or were refused, for this reason.
    pub fn count(&self, reason: CloseReason) -> u64 {
        self.ended[reason as usize]
    }

    /// Sessions that were begun and have ended, by reason, those without any left out.
    pub fn ended(&self) -> impl Iterator<Item = (CloseReason, u64)> + '_ {
        self.reasons().filter(|(reason, _)| reason.class() != CloseClass::Refused)
    }

    /// Sessions that were refused, by reason, those without any left out; for UDP, datagrams. Of UDP, the datagrams of
    /// clients that got no session.
    pub fn refused(&self) -> impl Iterator<Item = (CloseReason, u64)> + '_ {
        self.reasons().filter(|(reason, _)| reason.class() == CloseClass::Refused)
    }

    /// Sessions there are.
    pub fn active(&self) -> u64 {
        self.opened.saturating_sub(self.ended().map(|(_, count)| count).sum())
    }

    fn reasons(&self) -> impl Iterator<Item = (CloseReason, u64)> + '_ {
        let all = CloseReason::ALL.iter().map(|&reason| (reason, self.count(reason)));
        all.filter(|&(_, count)| count > 0)
    }
}

/// The TLS handshakes of one listener's clients, those of HTTPS among them. They only grow.
#[derive(Clone, Debug)]
pub struct HandshakeSnapshot {
    /// The listener. One without a name stands for clients of a Gateway that no listener is for.
    pub listener: ListenerId,
    pub(crate) succeeded: [u64; HandshakeKind::ALL.len()],
    pub(crate) failed: [u64; CloseReason::ALL.len()],
    /// Time from the accepted connection to the end of a handshake that succeeded.
    pub time: HistogramSnapshot,
}

impl HandshakeSnapshot {
    pub(crate) fn new(listener: ListenerId) -> Self {
        Self {
            listener,
            succeeded: Default::default(),
            failed: [0; CloseReason::ALL.len()],
            time: HistogramSnapshot::default(),
        }
    }

    /// Handshakes that succeeded, by how, those without any left out.
    pub fn succeeded(&self) -> impl Iterator<Item = (HandshakeKind, u64)> + '_ {
        HandshakeKind::ALL.into_iter().zip(self.succeeded).filter(|&(_, count)| count > 0)
    }

    /// Handshakes that failed, by reason, those without any left out.
    pub fn failed(&self) -> impl Iterator<Item = (CloseReason, u64)> + '_ {
        let all = CloseReason::ALL.iter().map(|&reason| (reason, self.failed[reason as usize]));
        all.filter(|&(_, count)| count > 0)
    }
}

/// Durations, counted in buckets.
#[derive(Clone, Debug, Default)]
pub struct HistogramSnapshot {
    pub(crate) buckets: [u64; BUCKETS_US.len() + 1],
    /// The sum of all durations.
    pub sum: Duration,
}

impl HistogramSnapshot {
    /// The buckets: an inclusive upper bound, `None` for infinity, and how many durations were up
    /// to it, those of the smaller buckets included (as Prometheus has it).
    pub fn cumulative(&self) -> impl Iterator<Item = (Option<Duration>, u64)> + '_ {
        let bounds = BUCKETS_US.iter().map(|&us| Some(Duration::from_micros(us))).chain([None]);
        let sums = self.buckets.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        bounds.zip(sums)
    }

    /// Number of durations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// Counters of a worker that belong to no listener.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorkerSnapshot {
    /// Times that accepting was paused for lack of descriptors or memory (accept(2) failed).
    pub accept_pauses: u64,
    /// Times that the session limit stopped accepting until sessions end.
    pub limit_pauses: u64,
    /// Accepted connections that were handed to a less loaded worker.
    pub hand_offs: u64,
    /// Session records that the sink had no room for.
    pub records_dropped: u64,
}

impl WorkerSnapshot {
    pub(crate) fn of(counters: &WorkerCounters) -> Self {
        Self {
            accept_pauses: counters.accept_pauses.get(),
            limit_pauses: counters.limit_pauses.get(),
            hand_offs: counters.hand_offs.get(),
            records_dropped: counters.records_dropped.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{iter, time::Duration};

    use l4way_model::{GatewayId, ListenerId, RefusedReason, Transport};

    use crate::{CloseReason, Labels, SessionCounters, Toward, Writer};

    fn labels() -> Labels {
        let gateway = GatewayId::new("ns", "gw");
        let listener = ListenerId { gateway, listener_set: None, name: "l".into() };
        Labels { transport: Transport::Tcp, listener, route: None, backend: None }
    }

    #[test]
    fn a_row_is_the_sum_of_the_workers_rows() {
        let counters = SessionCounters::new(2);
        let rows =
            [counters.row(labels(), Writer::Worker(0)), counters.row(labels(), Writer::Worker(1))];
        for row in &rows {
            (0..3).for_each(|_| row.open());
            row.end(CloseReason::Closed);
            row.refuse(RefusedReason::NoEndpoint, 2);
            row.add_bytes(Toward::Upstream, 10);
            row.connected(Duration::from_micros(100));
            row.connected(Duration::from_secs(60));
        }
        let snapshot = counters.snapshot();
        let [row] = &snapshot.rows[..] else { panic!("{snapshot:?}") };
        assert_eq!((row.opened, row.active()), (6, 4));
        assert!(row.ended().eq([(CloseReason::Closed, 2)]));
        assert!(row.refused().eq([(CloseReason::NoEndpoint, 4)]));
        assert_eq!((row.bytes_upstream, row.bytes_downstream), (20, 0));
        assert_eq!(row.connect_time.count(), 4);
        let buckets: Vec<_> = row.connect_time.cumulative().collect();
        assert_eq!(buckets[0], (Some(Duration::from_micros(100)), 2));
        assert_eq!(buckets.last(), Some(&(None, 4)));
        assert_eq!(row.connect_time.sum, Duration::from_micros(200) + Duration::from_secs(120));
    }

    #[test]
    fn a_row_lasts_while_anybody_may_count_in_it_and_one_look_longer() {
        let counters = SessionCounters::new(1);
        let row = counters.row(labels(), Writer::Worker(0));
        let rows = || counters.snapshot().rows.len();
        assert!(iter::repeat_with(rows).take(3).all(|rows| rows == 1));
        row.end(CloseReason::Closed);
        drop(row);
        assert_eq!((rows(), rows()), (1, 0));
    }
}
