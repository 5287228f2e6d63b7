use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};

use crate::{listing::Places, look::DirectoryId};

/// Something has happened to a file, or watching has failed.
pub(crate) type Event = notify::Result<notify::Event>;

/// Watches the directories that matter, not the files, since editors and ConfigMap mounts put new files
/// in the place of old ones.
pub(crate) struct Watch {
    /// `None` if the system can't watch so many.
    system: Option<RecommendedWatcher>,
    /// What is watched, with which directory of its name it was.
    watched: BTreeMap<PathBuf, Option<DirectoryId>>,
    /// Directories in which every change matters.
    directories: BTreeSet<PathBuf>,
    /// Files that matter wherever they are.
    files: BTreeSet<PathBuf>,
}

impl Watch {
    /// Watches nothing yet, and tells of what happens.
    pub(crate) fn new(tell: impl Fn(Event) + Send + 'static) -> Self {
        let system = notify::recommended_watcher(tell);
        let system = system.map_err(|error| warn_of_polling(&error)).ok();
        Self {
            system,
            watched: BTreeMap::new(),
            directories: BTreeSet::new(),
            files: BTreeSet::new(),
        }
    }

    /// Whether changes are told of.
    pub(crate) fn tells(&self) -> bool {
        self.system.is_some()
    }

    /// Whether an event may be about manifests.
    pub(crate) fn matters(&self, event: &Event) -> bool {
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

    /// One of a system that can't watch anything.
    #[cfg(test)]
    pub(crate) fn blind() -> Self {
        Self { system: None, ..Self::new(|_| ()) }
    }

    /// Watches just the directories that matter now; whether one of them wasn't watched when it was
    /// looked at.
    ///
    /// They have been looked at just now, so that the system doesn't wait for a server that is gone.
    pub(crate) fn refresh(&mut self, places: &Places) -> bool {
        self.directories = places.directories.keys().map(|path| absolute(path)).collect();
        // The paths themselves may go and come back; links lead elsewhere.
        self.files = places.files.iter().map(|path| absolute(path)).collect();
        let parents = self.files.iter().filter_map(|path| path.parent().map(Path::to_owned));
        let mut wanted: BTreeMap<_, _> = parents.map(|path| (path, None)).collect();
        wanted.extend(places.directories.iter().map(|(path, id)| (absolute(path), Some(*id))));
        let Some(system) = &mut self.system else { return false };
        for gone in self.watched.keys().filter(|path| !wanted.contains_key(*path)) {
            // The system may have stopped by itself, as the directory is gone.
            drop(system.unwatch(gone));
        }
        let mut watched = BTreeMap::new();
        for (directory, id) in wanted {
            // Anew even if it is watched: it may be another directory of the same name.
            match system.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => drop(watched.insert(directory, id)),
                Err(error) if is_limit(&error) => {
                    warn_of_polling(&error);
                    self.system = None;
                    return true;
                }
                // What can't be looked at is reported by whoever loads.
                Err(error) => tracing::debug!(%error, ?directory, "directory is not watched"),
            }
        }
        let sees_more = watched.iter().any(|(path, id)| self.watched.get(path) != Some(id));
        self.watched = watched;
        sees_more
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
        "files can't be watched, so they are looked at every 2 s; \
         sysctl fs.inotify.max_user_watches and max_user_instances are the limits"
    );
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use notify::{
        Event,
        event::{AccessKind, CreateKind, DataChange, Flag, ModifyKind},
    };

    use super::*;

    fn places(directory: &Path, id: DirectoryId) -> Places {
        let directory = directory.to_owned();
        Places {
            files: BTreeSet::from([directory.clone()]),
            directories: BTreeMap::from([(directory, id)]),
        }
    }

    #[test]
    fn only_what_may_change_manifests_matters() {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let root = directory.path().to_owned();
        let mut watch = Watch::new(|_| ());
        watch.refresh(&places(&root, (0, 0)));
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
    fn a_directory_that_was_not_watched_is_looked_at_again() {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let mut watch = Watch::new(|_| ());
        let (one, other) = (places(directory.path(), (0, 1)), places(directory.path(), (0, 2)));
        let sees_more = [&one, &one, &other, &other].map(|places| watch.refresh(places));
        assert_eq!(sees_more, [true, false, true, false]);
    }
}
