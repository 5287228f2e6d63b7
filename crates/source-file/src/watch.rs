use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};

use crate::listing::Listing;

/// How long it has to be quiet before a change counts: an editor or `cp` makes several at once.
const QUIET: Duration = Duration::from_millis(150);
/// How long to wait for quiet at most.
const QUIET_AT_MOST: Duration = Duration::from_secs(1);
/// How often to look if the system can't tell.
const POLL: Duration = Duration::from_secs(2);

/// Tells when watched files may have changed, until it is dropped.
///
/// The directories are watched, not the files, since editors and ConfigMap mounts put new files in
/// the place of old ones. If the system can't watch any more of them (inotify's limits), it looks
/// every 2 s, and says so in the log.
#[derive(Debug)]
pub struct Watcher {
    messages: Sender<Message>,
}

enum Message {
    Event(notify::Result<Event>),
    Stop,
}

impl Watcher {
    pub(crate) fn start(paths: Vec<PathBuf>, changed: Box<dyn Fn() + Send>) -> io::Result<Self> {
        let (messages, received) = mpsc::channel();
        let sender = messages.clone();
        let mut watch = Watch::new(paths, sender);
        // From here on no change is missed, even before the thread runs.
        watch.refresh();
        thread::Builder::new()
            .name("file-watch".to_owned())
            .spawn(move || watch.run(&received, &*changed))?;
        Ok(Self { messages })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // If the thread is gone already, there is nobody to tell.
        drop(self.messages.send(Message::Stop));
    }
}

struct Watch {
    paths: Vec<PathBuf>,
    /// `None` when looking every [`POLL`].
    system: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    /// Directories in which every change matters.
    directories: BTreeSet<PathBuf>,
    /// Files that matter wherever they are.
    files: BTreeSet<PathBuf>,
}

impl Watch {
    fn new(paths: Vec<PathBuf>, messages: Sender<Message>) -> Self {
        let handler = move |event| drop(messages.send(Message::Event(event)));
        let system = notify::recommended_watcher(handler);
        let system = system.map_err(|error| warn_of_polling(&error)).ok();
        Self {
            paths,
            system,
            watched: BTreeSet::new(),
            directories: BTreeSet::new(),
            files: BTreeSet::new(),
        }
    }

    fn run(mut self, messages: &Receiver<Message>, changed: &dyn Fn()) {
        loop {
            let relevant = match self.next(messages) {
                Ok(Message::Event(event)) => self.matters(&event),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => true,
            };
            if !relevant {
                continue;
            }
            let mut calm = self.system.is_none();
            loop {
                if !calm {
                    match quiet(messages) {
                        Quiet::Calm => calm = true,
                        Quiet::Busy => {}
                        Quiet::Stopped => return,
                    }
                }
                // New directories are watched before anybody looks into them, so nothing is missed.
                self.refresh();
                changed();
                if calm {
                    break;
                }
            }
        }
    }

    fn next(&self, messages: &Receiver<Message>) -> Result<Message, RecvTimeoutError> {
        match self.system {
            Some(_) => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            None => messages.recv_timeout(POLL),
        }
    }

    /// Whether an event may be about manifests.
    fn matters(&self, event: &notify::Result<Event>) -> bool {
        let Ok(event) = event else { return true };
        let read = matches!(
            event.kind,
            EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write)
        );
        let about_ours = |path: &PathBuf| {
            let inside = path.parent().is_some_and(|parent| self.directories.contains(parent));
            // ConfigMap mounts turn `..data` to another directory.
            let turned = path.file_name().is_some_and(|name| name == "..data");
            inside || turned || self.files.contains(path) || self.directories.contains(path)
        };
        event.need_rescan() || (!read && event.paths.iter().any(about_ours))
    }

    /// Watches just the directories that matter now.
    fn refresh(&mut self) {
        let listing = Listing::of(&self.paths);
        self.directories = listing.directories.iter().map(|path| absolute(path)).collect();
        // The paths themselves may go and come back; links lead elsewhere.
        let linked = listing.files.iter().filter_map(|path| path.canonicalize().ok());
        self.files = self.paths.iter().map(|path| absolute(path)).chain(linked).collect();
        let parents = self.files.iter().filter_map(|path| path.parent().map(Path::to_owned));
        let wanted: BTreeSet<_> = self.directories.iter().cloned().chain(parents).collect();
        let Some(system) = &mut self.system else { return };
        for gone in self.watched.difference(&wanted) {
            // The system may have stopped by itself, as the directory is gone.
            drop(system.unwatch(gone));
        }
        let mut watched = BTreeSet::new();
        for directory in wanted {
            // Anew even if it is watched: it may be another directory of the same name.
            match system.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => drop(watched.insert(directory)),
                Err(error) if is_limit(&error) => {
                    warn_of_polling(&error);
                    self.system = None;
                    return;
                }
                // What can't be looked at is reported by whoever loads.
                Err(error) => tracing::debug!(%error, ?directory, "directory is not watched"),
            }
        }
        self.watched = watched;
    }
}

/// How a wait for quiet ended.
enum Quiet {
    /// Nothing has happened for a while.
    Calm,
    /// It was never quiet, and has been long enough to look all the same.
    Busy,
    /// It is time to stop.
    Stopped,
}

/// Waits until nothing has happened for a while, but not for ever.
fn quiet(messages: &Receiver<Message>) -> Quiet {
    let began = Instant::now();
    loop {
        match messages.recv_timeout(QUIET) {
            Ok(Message::Event(_)) if began.elapsed() < QUIET_AT_MOST => {}
            Ok(Message::Event(_)) => return Quiet::Busy,
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return Quiet::Stopped,
            Err(RecvTimeoutError::Timeout) => return Quiet::Calm,
        }
    }
}

fn is_limit(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => true,
        notify::ErrorKind::Io(error) => error.kind() == io::ErrorKind::StorageFull,
        _ => false,
    }
}

fn warn_of_polling(error: &notify::Error) {
    tracing::warn!(
        %error,
        "files can't be watched, so they are looked at every {} s; \
         sysctl fs.inotify.max_user_watches and max_user_instances are the limits",
        POLL.as_secs()
    );
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use notify::event::{AccessKind, CreateKind, DataChange, Flag, ModifyKind};

    use super::*;

    #[test]
    fn only_what_may_change_manifests_matters() {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let root = directory.path().to_owned();
        let (messages, _events) = mpsc::channel();
        let mut watch = Watch::new(vec![root.clone()], messages);
        watch.refresh();
        let matters =
            |kind, path: &Path| watch.matters(&Ok(Event::new(kind).add_path(path.to_owned())));
        let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        assert!(matters(written, &root.join("a.yaml")));
        assert!(matters(EventKind::Create(CreateKind::Folder), &root));
        assert!(matters(EventKind::Access(AccessKind::Close(AccessMode::Write)), &root.join("a")));
        assert!(matters(written, Path::new("/mount/..data")));
        assert!(watch.matters(&Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan))));
        // Reading, which a change leads to, would be a loop.
        assert!(!matters(
            EventKind::Access(AccessKind::Open(AccessMode::Any)),
            &root.join("a.yaml")
        ));
        assert!(!matters(EventKind::Access(AccessKind::Close(AccessMode::Read)), &root.join("a")));
        assert!(!matters(written, &root.with_file_name("other")));
    }

    #[test]
    fn without_events_it_looks_by_itself() {
        let (messages, received) = mpsc::channel();
        let mut watch = Watch::new(Vec::new(), messages.clone());
        watch.system = None;
        let (told, changes) = mpsc::channel();
        let looking = thread::spawn(move || {
            watch.run(&received, &|| told.send(()).expect("the test waits for it"));
        });
        changes.recv().expect("it looks");
        messages.send(Message::Stop).expect("the thread runs");
        looking.join().expect("the thread stops when told");
    }
}
