//! Reads again whenever something has changed.

use std::{
    io,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use crate::{
    FileSource, Load,
    source::Again,
    watch::{Event, Watch},
};

/// How long it has to be quiet before a change counts: an editor or `cp` makes several at once.
const QUIET: Duration = Duration::from_millis(150);
/// How long to wait for quiet at most.
const QUIET_AT_MOST: Duration = Duration::from_secs(1);
/// How often to look where nobody tells of a change.
const POLL: Duration = Duration::from_secs(2);

/// How often to look at once after another. There are file systems in which no directory is the same
/// when it is looked at again.
const MOST_IN_A_ROW: u32 = 8;

/// Reads files on a thread of its own, again when they may have changed, until it is dropped.
///
/// If the system can't watch any more directories (inotify's limits), it looks every 2 s, and says so in
/// the log.
#[derive(Debug)]
pub struct Follower {
    messages: Sender<Message>,
}

pub(crate) enum Message {
    Event(Event),
    Reload,
    Stop,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Look what has changed.
    Look,
    /// Read all, and give it whatever it is.
    Reload,
    Stop,
}

impl Follower {
    pub(crate) fn start(source: FileSource, loaded: Box<dyn Fn(Load) + Send>) -> io::Result<Self> {
        let (messages, received) = mpsc::channel();
        let sender = messages.clone();
        let watch = Watch::new(move |event| drop(sender.send(Message::Event(event))));
        let following = Following { source, watch, messages: received };
        thread::Builder::new().name("files".to_owned()).spawn(move || following.run(&*loaded))?;
        Ok(Self { messages })
    }

    /// Reads everything now, and gives it even if nothing is different.
    pub fn reload(&self) {
        // The thread ends when it is told to, or with the process.
        drop(self.messages.send(Message::Reload));
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // If the thread is gone already, there is nobody to tell.
        drop(self.messages.send(Message::Stop));
    }
}

/// What the thread has.
struct Following {
    source: FileSource,
    watch: Watch,
    messages: Receiver<Message>,
}

impl Following {
    fn run(mut self, loaded: &dyn Fn(Load)) {
        let mut next = Next::Reload;
        let mut in_a_row = 0;
        loop {
            match next {
                Next::Reload => loaded(self.source.load()),
                Next::Look => self.source.reload().into_iter().for_each(loaded),
                Next::Stop => return,
            }
            // What has come into a directory before it was watched, nobody tells of.
            let sees_more = self.watch.refresh(self.source.places());
            in_a_row = if sees_more { in_a_row + 1 } else { 0 };
            next = if (1..=MOST_IN_A_ROW).contains(&in_a_row) { Next::Look } else { self.wait() };
        }
    }

    /// Waits until there is something to do. Events that don't matter put nothing off: beside the files there may be
    /// a directory in which something happens all the time.
    fn wait(&mut self) -> Next {
        let mut due = self.due();
        loop {
            match self.receive(due) {
                Ok(Message::Event(event)) if self.watch.matters(&event) => return self.quiet(),
                Ok(Message::Event(_)) => {}
                Ok(Message::Reload) => return Next::Reload,
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return Next::Stop,
                Err(RecvTimeoutError::Timeout) if self.is_time() => return Next::Look,
                Err(RecvTimeoutError::Timeout) => due = self.due(),
            }
        }
    }

    /// When to see whether to look again although nobody has told of a change; `None` if there is no reason to.
    fn due(&self) -> Option<Instant> {
        let within = match self.source.again() {
            Again::Unsettled => QUIET,
            Again::No if self.watch.tells() && !self.source.is_waiting() => return None,
            Again::Passing | Again::No => POLL,
        };
        Some(Instant::now() + within)
    }

    fn receive(&self, due: Option<Instant>) -> Result<Message, RecvTimeoutError> {
        let Some(due) = due else {
            return self.messages.recv().map_err(|_| RecvTimeoutError::Disconnected);
        };
        // A channel that always has something is never late by itself.
        match due.checked_duration_since(Instant::now()) {
            Some(left) => self.messages.recv_timeout(left),
            None => Err(RecvTimeoutError::Timeout),
        }
    }

    /// Whether to look again although nobody has told of a change.
    fn is_time(&mut self) -> bool {
        // Where only an answer is waited for, who asks meanwhile makes it out of date.
        !self.watch.tells() || self.source.again() != Again::No || self.source.has_news()
    }

    /// Waits until nothing has happened for a while, but not for ever.
    fn quiet(&self) -> Next {
        let began = Instant::now();
        loop {
            match self.messages.recv_timeout(QUIET) {
                Ok(Message::Event(_)) if began.elapsed() < QUIET_AT_MOST => {}
                Ok(Message::Event(_)) | Err(RecvTimeoutError::Timeout) => return Next::Look,
                Ok(Message::Reload) => return Next::Reload,
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return Next::Stop,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use l4way_resources::ReadOptions;

    use super::*;

    /// What follows a directory that nobody tells of.
    struct Blind {
        directory: tempfile::TempDir,
        messages: Sender<Message>,
        loads: Receiver<Load>,
        thread: thread::JoinHandle<()>,
    }

    impl Blind {
        /// Follows an empty directory, once it has been read.
        fn start() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let (messages, received) = mpsc::channel();
            let source = FileSource::new([directory.path().to_owned()], ReadOptions::default());
            let following = Following { source, watch: Watch::blind(), messages: received };
            let (told, loads) = mpsc::channel();
            let thread = thread::spawn(move || {
                following.run(&|load| told.send(load).expect("the test waits for it"));
            });
            assert_eq!(loads.recv().expect("the first").snapshot.config_maps.len(), 0);
            Self { directory, messages, loads, thread }
        }

        /// Writes a file, and waits until it has been read.
        fn sees_a_file(&self) {
            let text = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}";
            fs::write(self.directory.path().join("a.yaml"), text).expect("a file");
            // That there is a file at all is told before it has settled.
            while self.loads.recv().expect("the change").snapshot.config_maps.is_empty() {}
        }

        fn stop(self) {
            self.messages.send(Message::Stop).expect("the thread runs");
            self.thread.join().expect("it stops when told");
        }
    }

    #[test]
    fn without_events_it_looks_by_itself() {
        let blind = Blind::start();
        blind.sees_a_file();
        blind.messages.send(Message::Reload).expect("the thread runs");
        let load = blind.loads.recv().expect("what was asked for");
        assert_eq!(load.snapshot.config_maps.len(), 1);
        blind.stop();
    }

    #[test]
    fn events_that_do_not_matter_put_nothing_off() {
        let blind = Blind::start();
        let noise = blind.messages.clone();
        thread::spawn(move || {
            let other = || Ok(notify::Event::new(notify::EventKind::Any));
            while noise.send(Message::Event(other())).is_ok() {
                thread::sleep(QUIET / 10);
            }
        });
        blind.sees_a_file();
        blind.stop();
    }
}
