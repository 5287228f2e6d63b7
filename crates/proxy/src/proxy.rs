use std::{
    io,
    net::SocketAddr,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use l4way_host::{Heart, random_seed};
use l4way_model::{ApplyReport, Config, EndpointTable, ListenerId, SessionTerms};
use l4way_proxy_core::{DescriptorBudget, Limits, Rng};
use l4way_session::SessionCounters;

use crate::{
    EndpointSessions, ProxySettings,
    apply::Applied,
    context::{Context, Tenths},
    loops::{Loops, Traces},
    mailbox::{self, Sender},
    poll::Poll,
    routes::Backends,
    tcp::{Peers, Ring, Tcp},
    worker::{self, Command, Done, Worker},
};

/// A running proxy, seen from the one thread that controls it. Dropping it resets all sessions.
#[derive(Debug)]
pub struct Proxy {
    workers: Workers,
    applied: Applied,
    limits: Limits,
    traces: Arc<Traces>,
    threads: Vec<thread::JoinHandle<()>>,
    /// Disconnected when no worker runs any more.
    finished: mpsc::Receiver<()>,
}

impl Proxy {
    /// Starts workers, with nothing to carry yet. Raises the soft limit of open files to the hard
    /// one.
    ///
    /// # Errors
    /// If threads, epoll instances or eventfds can't be made.
    pub fn start(settings: ProxySettings) -> io::Result<Self> {
        let limits = settings.limits();
        let settings = Arc::new(settings);
        let count = settings.workers.get();
        let counters = Arc::new(SessionCounters::new(count));
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count)
            .map(|_| mailbox::mailbox())
            .collect::<io::Result<Vec<_>>>()?
            .into_iter()
            .unzip();
        let own = || DescriptorBudget::new(limits.session_descriptors, settings.workers);
        let budget = settings.process.descriptors.clone().unwrap_or_else(own);
        let ring = Arc::new(Ring::new(senders.clone()));
        budget.set_sessions(ring.clone());
        let workers = Workers::new(senders, settings, budget, counters);
        let (done, finished) = mpsc::channel();
        let mut proxy = Self {
            workers,
            applied: Applied::default(),
            limits,
            traces: Arc::default(),
            threads: Vec::new(),
            finished,
        };
        for (index, mailbox) in receivers.into_iter().enumerate() {
            let make = proxy.worker_parts(index, ring.clone(), done.clone())?;
            proxy.threads.push(Worker::spawn(index, mailbox, make)?);
        }
        Ok(proxy)
    }

    /// What a worker is made of, to be put together in its thread.
    fn worker_parts(
        &self,
        index: usize,
        ring: Arc<Ring>,
        done: Done,
    ) -> io::Result<impl FnOnce() -> (Context, Tcp, Done) + Send + 'static> {
        let poll = Poll::new()?;
        let Workers { settings, budget, counters, .. } = &self.workers;
        let (settings, counters) = (settings.clone(), counters.worker(index));
        let budget = budget.clone();
        let count = settings.workers.get();
        let udp_session_limit = self.limits.udp_sessions.div_ceil(count);
        let local_ports = self.limits.local_ports.clone();
        let traces = self.traces.clone();
        Ok(move || {
            let now = Instant::now();
            let ctx = Context {
                poll,
                now,
                tenths: Tenths::default(),
                begun: now,
                next_tenth: now,
                rng: Rng::new(random_seed()),
                tap: settings.tap.clone(),
                terms: SessionTerms::default(),
                health: settings.process.endpoints.view(),
                loops: Loops::new(traces),
                settings,
                backends: Backends::default(),
                pool: budget.pool(index).clone(),
                budget,
                worker: index,
                counters,
                local_ports,
                udp_session_limit,
            };
            (ctx, Tcp::new(now, Peers::new(ring, index)), done)
        })
    }

    /// Carries `config` from now on, with these endpoints. Only what differs from before is
    /// touched: established sessions go on, but for those of listeners that are gone, which have
    /// [`ProxySettings::drain_deadline`] left, and stay if their listener is back before. A
    /// listener that can't be bound doesn't keep the others from it.
    ///
    /// `endpoints` are of all backends that there are: of those that `config` names, and of others that
    /// may have sessions from before. One that isn't among them is gone: UDP sessions with it end at
    /// their next datagram, TCP sessions go on, and nothing is kept of it.
    pub fn apply(&mut self, config: Arc<Config>, endpoints: &EndpointTable) -> ApplyReport {
        self.applied.apply(&self.workers, config, endpoints)
    }

    /// Sends new sessions of these backends to these endpoints from now on. A backend that isn't among
    /// them keeps what it has.
    pub fn update_endpoints(&mut self, changes: &EndpointTable) {
        self.applied.update_endpoints(&self.workers, changes);
    }

    /// Waits until the workers have carried out all that they were told.
    pub fn settle(&self) {
        self.workers.ask_all(Command::Settle);
    }

    /// Tries again to bind the listeners that failed. A new report if it differs from the last.
    pub fn retry_failed(&mut self) -> Option<ApplyReport> {
        self.applied.retry_failed(&self.workers)
    }

    /// The clients of UDP sessions that these listeners have, and the addresses that they write to.
    pub fn udp_flows(&self, listeners: &[ListenerId]) -> Vec<(SocketAddr, SocketAddr)> {
        self.applied.udp_flows(&self.workers, listeners)
    }

    /// Takes no new sessions any more. Workers end when their sessions have ended; those that are
    /// left after `within` are reset. Returns at once, see [`wait`](Self::wait).
    pub fn drain(&mut self, within: Duration) {
        let deadline = Instant::now() + within;
        self.workers.send_all(|_| Command::Drain { deadline });
    }

    /// Waits until all workers have ended after [`drain`](Self::drain), but no longer than
    /// `timeout`. Whether they have.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.finished.recv_timeout(timeout) == Err(mpsc::RecvTimeoutError::Disconnected)
    }

    /// Resets all sessions and ends.
    pub fn stop(self) {
        drop(self);
    }

    /// The counters, to be read by any thread at any time, even when the proxy has ended.
    pub fn counters(&self) -> Arc<SessionCounters> {
        self.workers.counters.clone()
    }

    /// How many sessions endpoints have, to be asked by any thread at any time.
    pub fn endpoint_sessions(&self) -> EndpointSessions {
        EndpointSessions::new(&self.workers.mailboxes)
    }

    /// The descriptors that sessions use.
    pub fn budget(&self) -> &Arc<DescriptorBudget> {
        &self.workers.budget
    }

    /// Its workers, to see whether they still get to what they are told.
    pub fn hearts(&self) -> impl Iterator<Item = Heart> {
        self.workers.mailboxes.iter().cloned().enumerate().map(|(index, mailbox)| {
            Heart::new(worker::name(index), move |answer| {
                // A worker that has ended answers by that.
                let _ = mailbox.send(Command::Settle(answer));
            })
        })
    }

    /// What the system allows.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.workers.send_all(|_| Command::Stop);
        for thread in self.threads.drain(..) {
            // A panic has been reported by the thread's panic hook.
            let _ = thread.join();
        }
    }
}

/// The way to the workers.
#[derive(Debug)]
pub(crate) struct Workers {
    mailboxes: Vec<Sender<Command>>,
    pub(crate) settings: Arc<ProxySettings>,
    pub(crate) budget: Arc<DescriptorBudget>,
    pub(crate) counters: Arc<SessionCounters>,
}

impl Workers {
    /// Those that read the other ends of these mailboxes.
    pub(crate) fn new(
        mailboxes: Vec<Sender<Command>>,
        settings: Arc<ProxySettings>,
        budget: Arc<DescriptorBudget>,
        counters: Arc<SessionCounters>,
    ) -> Self {
        Self { mailboxes, settings, budget, counters }
    }

    /// Sends each worker the command that `make` gives for its index.
    pub(crate) fn send_all(&self, mut make: impl FnMut(usize) -> Command) {
        for (index, mailbox) in self.mailboxes.iter().enumerate() {
            // A worker that has ended has nothing to do with it.
            let _ = mailbox.send(make(index));
        }
    }

    /// Sends each worker a command and waits until all have carried it out.
    pub(crate) fn ask_all(&self, mut make: impl FnMut(Done) -> Command) {
        let (done, finished) = mpsc::channel();
        self.send_all(|_| make(done.clone()));
        drop(done);
        // Nothing is ever sent: it ends when the last worker has dropped its sender.
        let _ = finished.recv();
    }
}
