//! The thread that takes conntrack's events.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc},
    thread,
    time::{Duration, Instant},
};

use l4way_host::Heart;
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::write,
};

use crate::{
    conntrack::Events,
    netlink::Socket,
    sessions::{EndpointRow, Sessions, Totals},
};

/// The name of the thread.
const THREAD: &str = "conntrack";
/// How often all flows are looked at: how late the bytes of sessions that go on are counted, unless
/// somebody asks.
const LOOK: Duration = Duration::from_secs(10);
/// How long events are left to gather before they are taken: each waking of the thread costs more than
/// taking an event does.
const GATHER: Duration = Duration::from_millis(10);

/// Sessions, and where events of them come from.
#[derive(Debug)]
struct Watched {
    sessions: Sessions,
    events: Socket,
}

/// Who waits for a sign of life: the thread drops them at its next turn, or with itself.
type Asking = Mutex<Vec<mpsc::Sender<()>>>;

/// Counts the sessions that the kernel carries while it is there. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Observer {
    watched: Arc<Mutex<Watched>>,
    asking: Weak<Asking>,
}

impl Observer {
    /// Brings the counters up to date: to be called before they are read. It takes the time that the
    /// kernel needs to tell of all its flows.
    pub fn refresh(&self) {
        self.lock().look();
    }

    /// What is counted beside rows.
    pub fn totals(&self) -> Totals {
        self.lock().sessions.totals
    }

    /// What counts the sessions of each endpoint.
    pub fn endpoints(&self) -> Vec<Arc<EndpointRow>> {
        self.lock().sessions.endpoints()
    }

    /// The thread that takes conntrack's events, to see whether it still does. It answers within the ten
    /// seconds after which it looks at all flows anyway.
    pub fn heart(&self) -> Heart {
        let asking = self.asking.clone();
        Heart::new(THREAD, move |answer| {
            if let Some(asking) = asking.upgrade() {
                asking.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
            }
        })
    }

    /// Takes these events from now on.
    ///
    /// # Errors
    /// If they are not for this process.
    pub(crate) fn subscribe(&self, events: Events) -> io::Result<()> {
        self.lock().events.subscribe(events.groups)
    }

    /// Does something with the sessions as they are now.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Sessions) -> T) -> T {
        let mut watched = self.lock();
        watched.look();
        work(&mut watched.sessions)
    }

    /// What is known of the sessions without a look.
    pub(crate) fn known<T>(&self, ask: impl FnOnce(&Sessions) -> T) -> T {
        ask(&self.lock().sessions)
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn look(&mut self) {
        let Self { sessions, events } = self;
        told(sessions.look(events));
    }

    fn take(&mut self) {
        let Self { sessions, events } = self;
        let lost = sessions.totals.lost_events;
        told(sessions.take(events));
        if sessions.totals.lost_events > lost {
            self.look();
        }
    }
}

fn told(result: io::Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "conntrack can't be asked, sessions on the kernel path go uncounted");
    }
}

/// The thread, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) observer: Observer,
    stop: OwnedFd,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watch {
    /// Watches the flows of sessions, of which these events are wanted.
    ///
    /// # Errors
    /// If events are not for this process, or a thread can't be started.
    pub(crate) fn start(sessions: Sessions, events: Events) -> io::Result<Self> {
        let events = Socket::open(events.groups)?;
        let ready = events.fd.try_clone()?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
        let stopped = stop.try_clone()?;
        let asking = Arc::<Asking>::default();
        let watched = Arc::new(Mutex::new(Watched { sessions, events }));
        let observer = Observer { watched, asking: Arc::downgrade(&asking) };
        let watched = observer.clone();
        let thread = thread::Builder::new()
            .name(THREAD.to_owned())
            .spawn(move || run(&watched, &asking, &ready, &stopped))?;
        Ok(Self { observer, stop, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = write(&self.stop, &1_u64.to_ne_bytes());
        // A panic has been reported by the thread's panic hook.
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

fn run(observer: &Observer, asking: &Asking, events: &OwnedFd, stop: &OwnedFd) {
    let mut next_look = Instant::now() + LOOK;
    loop {
        let mut waiting =
            [events.as_fd(), stop.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let left = next_look.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        // An interrupted wait is over early, that is all.
        let _ = poll(&mut waiting, timeout.as_ref());
        if !waiting[1].revents().is_empty() {
            return;
        }
        asking.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if !waiting[0].revents().is_empty() {
            thread::sleep(GATHER);
            observer.lock().take();
        }
        if Instant::now() >= next_look {
            observer.lock().look();
            next_look = Instant::now() + LOOK;
        }
    }
}
