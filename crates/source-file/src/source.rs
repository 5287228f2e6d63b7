use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use l4way_resources::{
    Diagnostic, Manifest, PassedOver, Place, ReadOptions, Severity, Snapshot, SourceText,
    api::ObjectRef, read,
};

use crate::{Watcher, listing::Listing};

/// A file that was written more recently than this may be half written. Less than what the watcher
/// waits for quiet, so that it calls again when the file has settled.
const SETTLED: Duration = Duration::from_millis(100);

/// The path that stands for standard input.
const STDIN: &str = "-";

/// Objects from files, from directories of them, and from standard input.
///
/// - A file that can't be read, or has an error in it, changes nothing of what is in force. Only
///   when it is first seen is what of it is valid used: nothing better is there.
/// - So does a file that is emptied: that is how many programs begin to write one.
/// - A file that is gone from a directory takes its objects with it. A path that was asked for and
///   is gone is an error, and changes nothing of what is in force.
/// - An object that is in two places stays the one that was in force, or else the first: paths in
///   the order given, files by name, documents from the top.
#[derive(Debug)]
pub struct FileSource {
    paths: Vec<PathBuf>,
    options: ReadOptions,
    files: BTreeMap<PathBuf, File>,
    /// The objects in force, and the file that each is from.
    in_force: BTreeMap<ObjectRef, (PathBuf, Manifest)>,
    /// What was said about the last load.
    diagnostics: Vec<Diagnostic>,
}

/// The objects of all files, and what there is to say about them.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// The objects in force.
    pub snapshot: Snapshot,
    /// Where the objects in force are written.
    pub manifests: BTreeMap<ObjectRef, Manifest>,
    /// Everything wrong, or good to know. An error's object isn't in force as it is written.
    pub diagnostics: Vec<Diagnostic>,
}

/// A file as it was last read.
#[derive(Debug, Default)]
struct File {
    /// What it held, or why it couldn't be read.
    content: Option<Result<Arc<str>, String>>,
    /// What of it is in force; `None` until it could be read.
    manifests: Option<Vec<Manifest>>,
    diagnostics: Vec<Diagnostic>,
    passed_over: PassedOver,
}

impl FileSource {
    /// A source of the objects in these files and directories; `-` is standard input. Nothing is
    /// read yet.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>, options: ReadOptions) -> Self {
        Self {
            paths: paths.into_iter().collect(),
            options,
            files: BTreeMap::new(),
            in_force: BTreeMap::new(),
            diagnostics: Vec::new(),
        }
    }

    /// Reads what there is. Standard input, and what else isn't a regular file, is read only once.
    pub fn load(&mut self) -> Load {
        self.update(Duration::ZERO);
        self.current()
    }

    /// Reads what there is; `None` if that changes neither what is in force nor what there is to
    /// say about it. A file that is being written, which many programs do by emptying it first, is
    /// left as it was until it has settled: the [`Watcher`] calls again then.
    pub fn reload(&mut self) -> Option<Load> {
        self.update(SETTLED).then(|| self.current())
    }

    /// Watches the files and directories, and calls when something about them may have changed:
    /// then is the time to [`Self::reload`]. Watching ends when the watcher is dropped.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn watch(&self, changed: impl Fn() + Send + 'static) -> io::Result<Watcher> {
        Watcher::start(self.watched_paths(), Box::new(changed))
    }

    fn watched_paths(&self) -> Vec<PathBuf> {
        self.paths.iter().filter(|path| path.as_os_str() != STDIN).cloned().collect()
    }

    fn current(&self) -> Load {
        let objects = self.in_force.values().map(|(_, manifest)| manifest.object.clone());
        let manifest = |(key, (_, manifest)): (&ObjectRef, &(PathBuf, Manifest))| {
            (key.clone(), manifest.clone())
        };
        Load {
            snapshot: objects.collect(),
            manifests: self.in_force.iter().map(manifest).collect(),
            diagnostics: self.diagnostics.clone(),
        }
    }

    /// Reads what there is of files that are at least of this age, and tells whether that made a
    /// difference.
    fn update(&mut self, settled: Duration) -> bool {
        let listing = Listing::of(&self.watched_paths());
        let mut diagnostics = about_paths(&listing);
        let order = self.order(&listing);
        let kept: BTreeSet<_> = order.iter().collect();
        self.files.retain(|path, _| kept.contains(path));
        let mut passed_over = PassedOver::default();
        for path in &order {
            let file = self.files.entry(path.clone()).or_default();
            file.update(path, self.options, settled);
            diagnostics.extend(file.diagnostics.iter().cloned());
            passed_over.merge(&file.passed_over);
        }
        let in_force = self.resolve(&order, &mut diagnostics);
        diagnostics.extend(passed_over.diagnostics());
        let changed = self.diagnostics != diagnostics || !same(&self.in_force, &in_force);
        self.in_force = in_force;
        self.diagnostics = diagnostics;
        changed
    }

    /// The files to use, in order: those that are there, those that may still be there, in a
    /// directory that can't be looked through now, and those of a path that was asked for and is
    /// gone as a whole, which is a mistake or a mount that comes back.
    fn order(&self, listing: &Listing) -> Vec<PathBuf> {
        let stdin = Some(PathBuf::from(STDIN)).filter(|stdin| self.paths.contains(stdin));
        let mut order: Vec<_> = stdin.into_iter().chain(listing.files.iter().cloned()).collect();
        let listed: BTreeSet<_> = order.iter().cloned().collect();
        let unseen = self.files.keys().filter(|path| {
            let hides = |(failed, error): &(PathBuf, io::Error)| {
                let is_removed = error.kind() == io::ErrorKind::NotFound;
                (!is_removed || self.paths.contains(failed)) && path.starts_with(failed)
            };
            !listed.contains(*path) && listing.failed.iter().any(hides)
        });
        order.extend(unseen.cloned());
        order
    }

    /// Decides which manifest of each object is in force.
    fn resolve(
        &self,
        order: &[PathBuf],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> BTreeMap<ObjectRef, (PathBuf, Manifest)> {
        let mut places: BTreeMap<ObjectRef, Vec<(&PathBuf, &Manifest)>> = BTreeMap::new();
        for path in order {
            for manifest in self.files.get(path).into_iter().flat_map(File::in_force) {
                places.entry(manifest.reference()).or_default().push((path, manifest));
            }
        }
        let mut in_force = BTreeMap::new();
        for (key, mut places) in places {
            let before = self.in_force.get(&key);
            // A stable sort: the place that was in force comes first, the others stay in order.
            places.sort_by_key(|(path, _)| before.is_none_or(|(owner, _)| owner != *path));
            let mut places = places.into_iter();
            let Some((path, manifest)) = places.next() else { continue };
            diagnostics.extend(places.map(|(_, other)| twice(&key, other, manifest)));
            let manifest = with_generation(manifest.clone(), before.map(|(_, manifest)| manifest));
            in_force.insert(key, (path.clone(), manifest));
        }
        in_force
    }
}

impl File {
    fn in_force(&self) -> &[Manifest] {
        self.manifests.as_deref().unwrap_or_default()
    }

    fn update(&mut self, path: &Path, options: ReadOptions, settled: Duration) {
        if self.content.is_some() && is_stream(path) {
            return;
        }
        let content = content(path).map_err(|error| error.to_string());
        // After reading: whoever writes meanwhile is noticed too.
        if self.content.as_ref() == Some(&content) || is_younger(path, settled) {
            return;
        }
        match &content {
            Ok(text) if text.trim().is_empty() && !self.in_force().is_empty() => {
                let message = "is empty, and held objects before";
                self.diagnostics = vec![
                    about(path, Severity::Error, message)
                        .with_help("remove the file, or comment its objects out, to remove them"),
                ];
                self.keep(path);
            }
            Ok(text) => {
                let result = read(&SourceText::new(name(path), text.clone()), options);
                self.diagnostics = result.diagnostics;
                self.passed_over = result.passed_over;
                self.take(result.manifests, path);
            }
            Err(error) => {
                let message = format!("can't be read: {error}");
                self.diagnostics = vec![about(path, Severity::Error, message)];
                self.keep(path);
            }
        }
        self.content = Some(content);
    }

    /// Puts a version in force, if it is good or nothing better is there.
    fn take(&mut self, manifests: Vec<Manifest>, path: &Path) {
        if self.manifests.is_none() || !self.diagnostics.iter().any(Diagnostic::is_error) {
            self.manifests = Some(manifests);
        } else {
            self.keep(path);
        }
    }

    /// Says that what was in force stays so.
    fn keep(&mut self, path: &Path) {
        if self.manifests.is_some() {
            let message = "the last good version of this file's objects stays in force";
            self.diagnostics.push(about(path, Severity::Note, message));
        }
    }
}

fn about(path: &Path, severity: Severity, message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(severity, message).at(Place::file(name(path)))
}

fn about_paths(listing: &Listing) -> Vec<Diagnostic> {
    let failed = listing
        .failed
        .iter()
        .map(|(path, error)| about(path, Severity::Error, format!("can't be read: {error}")));
    let empty = listing.empty.iter().map(|path| {
        about(path, Severity::Warning, "there are no manifests in this directory")
            .with_help("their names end in .yaml, .yml or .json")
    });
    failed.chain(empty).collect()
}

fn twice(key: &ObjectRef, other: &Manifest, in_force: &Manifest) -> Diagnostic {
    Diagnostic::new(Severity::Error, format!("{key} is there twice; this one isn't used"))
        .with_object(key.clone())
        .at(other.place_at("/metadata/name"))
        .with_related("this one is in force", in_force.place_at("/metadata/name"))
        .with_help("remove one of them, or give it another name")
}

/// Counts an object's changes, as an API server does. An object that didn't change stays as it is.
fn with_generation(mut manifest: Manifest, before: Option<&Manifest>) -> Manifest {
    let Some(before) = before else { return manifest };
    let generation = before.object.metadata().generation;
    let same = manifest.object.clone().with_generation(generation);
    manifest.object = if same == before.object {
        before.object.clone()
    } else {
        same.with_generation(generation + 1)
    };
    manifest
}

fn same(
    before: &BTreeMap<ObjectRef, (PathBuf, Manifest)>,
    after: &BTreeMap<ObjectRef, (PathBuf, Manifest)>,
) -> bool {
    let place = |manifest: &Manifest| manifest.place();
    before.len() == after.len()
        && before.iter().zip(after).all(|((key, (_, was)), (other_key, (_, is)))| {
            key == other_key && was.object == is.object && place(was) == place(is)
        })
}

/// Whether reading it again would give nothing, or wait.
fn is_stream(path: &Path) -> bool {
    path.as_os_str() == STDIN || fs::metadata(path).is_ok_and(|metadata| !metadata.is_file())
}

/// Whether the file was written less than `age` ago.
fn is_younger(path: &Path, age: Duration) -> bool {
    let written = fs::metadata(path).and_then(|metadata| metadata.modified());
    // One that seems to be written in the future tells nothing.
    written.is_ok_and(|written| written.elapsed().is_ok_and(|elapsed| elapsed < age))
}

fn content(path: &Path) -> io::Result<Arc<str>> {
    let text = if path.as_os_str() == STDIN {
        io::read_to_string(io::stdin())?
    } else {
        fs::read_to_string(path)?
    };
    Ok(text.into())
}

/// What diagnostics call a path.
fn name(path: &Path) -> String {
    if path.as_os_str() == STDIN { "<stdin>".to_owned() } else { path.display().to_string() }
}
