use std::{
    collections::{BTreeMap, BTreeSet},
    io, mem,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use l4way_resources::{
    Diagnostic, ForeignPolicy, Manifest, PassedOver, Place, ReadOptions, ReadResult, Refused,
    Severity, Snapshot, SourceText, api::ObjectRef, read,
};

use crate::{
    Follower,
    listing::{Held, Listing, Places},
    look::{Answer, Content, Question, look, read_stream},
    patient::Patient,
    refusal::{Refusal, RefusalKind},
};

/// A file that was written more recently than this may be half written. Less than what the follower
/// waits for quiet, so that it reads again when the file has settled.
const SETTLED: Duration = Duration::from_millis(100);

/// The path that stands for standard input.
pub(crate) const STDIN: &str = "-";

/// Objects from files, from directories of them, and from standard input.
///
/// - Each document stands for itself. An object whose document is refused stays as it was when it was
///   last good, if it ever was; the other documents of its file are used.
/// - What can't be told apart, stays whole: of a file that can't be read, or has a document of which
///   nobody can tell what object it is, no object is gone.
/// - So does a file that is emptied: that is how many programs begin to write one.
/// - A document that is gone takes its object with it, and so does a file that is gone from a
///   directory. A path that was asked for and is gone is an error, and changes nothing of what is in
///   force.
/// - An object that is in two places stays the one that was in force, or else the first: paths in
///   the order given, files by name, documents from the top.
pub struct FileSource {
    paths: Vec<PathBuf>,
    options: ReadOptions,
    disk: Patient<Question, Answer>,
    files: BTreeMap<PathBuf, File>,
    /// The objects in force, and the file that each is from.
    in_force: InForce,
    /// Objects with an error that have no good version in force.
    refused: Vec<Arc<Refused>>,
    /// Policies of other implementations.
    foreign_policies: Vec<Arc<ForeignPolicy>>,
    /// What was said about the last load.
    diagnostics: Vec<Diagnostic>,
    places: Places,
    again: Again,
    has_loaded: bool,
}

/// Objects, and the file that each is from.
type InForce = BTreeMap<ObjectRef, (PathBuf, Manifest)>;

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

/// Why to read again although nobody tells of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// There is no reason.
    No,
    /// A file was being written.
    Unsettled,
    /// Something can't be read for a while.
    Passing,
}

/// A file as it was last read.
#[derive(Default)]
struct File {
    /// What it held, or why it couldn't be read; `None` until it was.
    content: Option<Result<Arc<str>, Refusal>>,
    /// It is no regular file, and is read only once.
    is_stream: bool,
    /// Its valid objects.
    manifests: Vec<Manifest>,
    /// Its objects with an error.
    refused: Vec<Arc<Refused>>,
    /// Where the error is of each of them that can be told.
    errors: BTreeMap<ObjectRef, Option<Place>>,
    /// It holds something of which can't be told what it is.
    is_unclear: bool,
    diagnostics: Vec<Diagnostic>,
    passed_over: PassedOver,
    foreign_policies: Vec<Arc<ForeignPolicy>>,
}

impl FileSource {
    /// A source of the objects in these files and directories; `-` is standard input. Nothing is
    /// read yet.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>, options: ReadOptions) -> Self {
        Self {
            paths: paths.into_iter().collect(),
            options,
            disk: Patient::new(look),
            files: BTreeMap::new(),
            in_force: BTreeMap::new(),
            refused: Vec::new(),
            foreign_policies: Vec::new(),
            diagnostics: Vec::new(),
            places: Places::default(),
            again: Again::No,
            has_loaded: false,
        }
    }

    /// Reads what there is. Standard input, and what else is named that isn't a regular file, is read
    /// the first time only, to its end.
    pub fn load(&mut self) -> Load {
        self.update(Duration::ZERO);
        self.current()
    }

    /// Reads what there is; `None` if that changes neither what is in force nor what there is to
    /// say about it. A file that is being written, which many programs do by emptying it first, is
    /// left as it was until it has settled.
    pub fn reload(&mut self) -> Option<Load> {
        self.update(SETTLED).then(|| self.current())
    }

    /// Goes on reading on a thread of its own: gives what there is at once, and then whenever it has
    /// changed, until the follower is dropped.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn follow(self, loaded: impl Fn(Load) + Send + 'static) -> io::Result<Follower> {
        Follower::start(self, Box::new(loaded))
    }

    /// Where something may change, as it was last seen.
    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// Why to read again although nobody tells of a change.
    pub(crate) fn again(&self) -> Again {
        self.again
    }

    /// Whether a file system has not answered yet.
    pub(crate) fn is_waiting(&self) -> bool {
        self.disk.is_waiting()
    }

    /// Whether a file system has answered that was waited for.
    pub(crate) fn has_news(&mut self) -> bool {
        self.disk.has_news()
    }

    fn watched_paths(&self) -> Vec<PathBuf> {
        self.paths.iter().filter(|path| path.as_os_str() != STDIN).cloned().collect()
    }

    fn current(&self) -> Load {
        let objects = self.in_force.values().map(|(_, manifest)| manifest.object.clone());
        let manifest = |(key, (_, manifest)): (&ObjectRef, &(PathBuf, Manifest))| {
            (key.clone(), manifest.clone())
        };
        let mut snapshot: Snapshot = objects.collect();
        snapshot.refused.clone_from(&self.refused);
        snapshot.foreign_policies.clone_from(&self.foreign_policies);
        Load {
            snapshot,
            manifests: self.in_force.iter().map(manifest).collect(),
            diagnostics: self.diagnostics.clone(),
        }
    }

    /// Reads what there is of files that are at least of this age, and tells whether that made a
    /// difference.
    fn update(&mut self, settled: Duration) -> bool {
        let mut listing = Listing::of(&self.watched_paths(), &mut self.disk);
        let mut diagnostics = about_paths(&listing);
        let order = self.order(&listing);
        self.again = Again::of(&listing, settled);
        self.move_owners(&listing);
        self.take(&mut listing, settled);
        let kept: BTreeSet<_> = order.iter().collect();
        self.files.retain(|path, _| kept.contains(path));
        let mut passed_over = PassedOver::default();
        for file in order.iter().filter_map(|path| self.files.get(path)) {
            diagnostics.extend(file.diagnostics.iter().cloned());
            passed_over.merge(&file.passed_over);
        }
        let (in_force, refused) = self.resolve(&order, &mut diagnostics);
        let files = order.iter().filter_map(|path| self.files.get(path));
        let foreign_policies: Vec<_> =
            files.flat_map(|file| &file.foreign_policies).cloned().collect();
        diagnostics.extend(passed_over.diagnostics());
        let changed = self.diagnostics != diagnostics
            || self.refused != refused
            || self.foreign_policies != foreign_policies
            || !same(&self.in_force, &in_force);
        self.refused = refused;
        self.foreign_policies = foreign_policies;
        self.in_force = in_force;
        self.diagnostics = diagnostics;
        self.places = listing.places;
        changed
    }

    /// The files to use, in order: those that are there, those that may still be there, in a
    /// directory that can't be looked through now, and those of a path that was asked for and is
    /// gone as a whole, which is a mistake or a mount that comes back.
    fn order(&self, listing: &Listing) -> Vec<PathBuf> {
        let stdin = Some(PathBuf::from(STDIN)).filter(|stdin| self.paths.contains(stdin));
        let listed = listing.files.iter().map(|(path, _)| path.clone());
        let mut order: Vec<_> = stdin.into_iter().chain(listed).collect();
        let listed: BTreeSet<_> = order.iter().cloned().collect();
        let unseen = self.files.keys().filter(|path| {
            let hides = |(failed, refusal): &(PathBuf, Refusal)| {
                let is_removed = refusal.kind == RefusalKind::Missing;
                (!is_removed || self.paths.contains(failed)) && path.starts_with(failed)
            };
            !listed.contains(*path) && listing.failed.iter().any(hides)
        });
        order.extend(unseen.cloned());
        order
    }

    /// Gives what is in force out of a file that has another name now to that name: the new file holds
    /// what the old one did.
    fn move_owners(&mut self, listing: &Listing) {
        let listed: BTreeSet<_> = listing.files.iter().map(|(path, _)| path).collect();
        let mut gone: BTreeMap<_, _> = BTreeMap::new();
        for (path, file) in self.files.iter().filter(|(path, _)| !listed.contains(path)) {
            if let Some(Ok(text)) = &file.content
                && !text.trim().is_empty()
            {
                gone.insert(text, path);
            }
        }
        let mut moved = BTreeMap::new();
        for (path, held) in &listing.files {
            if let Held::Content(Content { text: Ok(text), .. }) = held
                && !self.files.contains_key(path)
                && let Some(from) = gone.remove(text)
            {
                moved.insert(from, path);
            }
        }
        for (owner, _) in self.in_force.values_mut() {
            if let Some(to) = moved.get(owner) {
                owner.clone_from(to);
            }
        }
    }

    /// Takes up what is new in the files that have settled.
    fn take(&mut self, listing: &mut Listing, settled: Duration) {
        let holders: BTreeSet<_> = self.in_force.values().map(|(path, _)| path.clone()).collect();
        let is_first = !mem::replace(&mut self.has_loaded, true);
        if self.paths.iter().any(|path| path.as_os_str() == STDIN) {
            let file = self.files.entry(STDIN.into()).or_default();
            file.read_once(Path::new(STDIN), self.options, Ok(()));
        }
        for (path, held) in listing.files.drain(..) {
            let file = self.files.entry(path.clone()).or_default();
            match held {
                Held::Content(content) if is_younger(&content, settled) => {}
                Held::Content(content) => {
                    file.update(&path, content.text, self.options, holders.contains(&path));
                }
                Held::Stream(refusal) => {
                    let may_read = if is_first { Ok(()) } else { Err(refusal) };
                    file.read_once(&path, self.options, may_read);
                }
            }
        }
    }

    /// Decides which manifest of each object is in force, and which objects are there that can't be used.
    fn resolve(
        &self,
        order: &[PathBuf],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> (InForce, Vec<Arc<Refused>>) {
        let mut places: BTreeMap<ObjectRef, Vec<(&PathBuf, &Manifest)>> = BTreeMap::new();
        for path in order {
            for manifest in self.files.get(path).into_iter().flat_map(|file| &file.manifests) {
                places.entry(manifest.reference()).or_default().push((path, manifest));
            }
        }
        let kept = self.kept(order, &places);
        diagnostics.extend(kept.iter().flat_map(|(path, keys)| self.about_kept(path, keys)));
        for (path, key) in kept.iter().flat_map(|(path, keys)| keys.iter().map(|key| (*path, *key)))
        {
            let (_, manifest) = &self.in_force[key];
            places.entry(key.clone()).or_default().insert(0, (path, manifest));
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
        let refused = order.iter().flat_map(|path| {
            let kept = kept.get(path).map(Vec::as_slice).unwrap_or_default();
            let refused = self.files.get(path).into_iter().flat_map(|file| &file.refused);
            refused.filter(|refused| match refused.reference() {
                Some(reference) => !in_force.contains_key(&reference),
                // It may be what an object has become that stays in force.
                None => !kept.iter().any(|kept| refused.may_be(&kept.kind, &kept.key)),
            })
        });
        let refused = refused.cloned().collect();
        (in_force, refused)
    }

    /// The objects of which the version in force stays, by the file for which it does: their own file
    /// holds them in a form that can't be used, or it may; or no file has them valid any more, and
    /// another one has them refused.
    fn kept<'a>(
        &'a self,
        order: &'a [PathBuf],
        valid: &BTreeMap<ObjectRef, Vec<(&PathBuf, &Manifest)>>,
    ) -> BTreeMap<&'a PathBuf, Vec<&'a ObjectRef>> {
        let mut refused = BTreeMap::new();
        for path in order {
            for key in self.files.get(path).into_iter().flat_map(|file| file.errors.keys()) {
                refused.entry(key).or_insert(path);
            }
        }
        let mut kept: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, (owner, _)) in &self.in_force {
            let places = valid.get(key).map(Vec::as_slice).unwrap_or_default();
            let owner = self.files.get_key_value(owner).filter(|(path, file)| {
                file.may_hold(key) && places.iter().all(|(place, _)| place != path)
            });
            let keeper = match owner {
                Some((path, _)) => Some(path),
                None if places.is_empty() => refused.get(key).copied(),
                None => None,
            };
            if let Some(path) = keeper {
                kept.entry(path).or_default().push(key);
            }
        }
        kept
    }

    /// Says which objects stay as they were, for what is wrong in a file.
    fn about_kept(&self, path: &Path, keys: &[&ObjectRef]) -> Vec<Diagnostic> {
        let Some(file) = self.files.get(path).filter(|file| !file.is_unread()) else {
            return Vec::new();
        };
        let place = |key: &ObjectRef| file.errors.get(key);
        let (told, untold): (Vec<&ObjectRef>, _) =
            keys.iter().copied().partition(|key| place(key).is_some());
        let mut notes: Vec<_> = told
            .into_iter()
            .map(|key| {
                let message = format!("the last good version of {key} stays in force");
                let note = Diagnostic::new(Severity::Note, message).with_object(key.clone());
                match place(key).cloned().flatten() {
                    Some(place) => note.at(place),
                    None => note.at(Place::file(name(path))),
                }
            })
            .collect();
        if !untold.is_empty() {
            let message = format!("the last good version of {} stays in force", several(&untold));
            notes.push(about(path, Severity::Note, message));
        }
        notes
    }
}

impl Again {
    fn of(listing: &Listing, settled: Duration) -> Self {
        let contents = listing.files.iter().filter_map(|(_, held)| match held {
            Held::Content(content) => Some(content),
            Held::Stream(_) => None,
        });
        let failed = listing.failed.iter().map(|(_, refusal)| refusal);
        let refusals = contents.clone().filter_map(|content| content.text.as_ref().err());
        if contents.clone().any(|content| is_younger(content, settled)) {
            Self::Unsettled
        } else if failed.chain(refusals).any(|refusal| refusal.kind == RefusalKind::Passing) {
            Self::Passing
        } else {
            Self::No
        }
    }
}

impl File {
    /// Whether an object is in it that isn't valid, or may be.
    fn may_hold(&self, key: &ObjectRef) -> bool {
        self.is_unread() || self.is_unclear || self.errors.contains_key(key)
    }

    /// Whether it has not settled since it was first seen.
    fn is_unread(&self) -> bool {
        self.content.is_none()
    }

    /// Reads what can be read only once, and as long as that takes: at first. Later, somebody has put it
    /// where something else was.
    fn read_once(&mut self, path: &Path, options: ReadOptions, may_read: Result<(), Refusal>) {
        if self.is_stream {
            return;
        }
        self.is_stream = may_read.is_ok();
        self.update(path, may_read.and_then(|()| read_stream(path)), options, false);
    }

    /// Takes up what the file holds now. `holds`: objects of it are in force.
    fn update(
        &mut self,
        path: &Path,
        content: Result<Arc<str>, Refusal>,
        options: ReadOptions,
        holds: bool,
    ) {
        if self.content.as_ref() == Some(&content) {
            return;
        }
        self.manifests.clear();
        self.refused.clear();
        self.errors.clear();
        self.foreign_policies.clear();
        self.is_unclear = true;
        match &content {
            Ok(text) if text.trim().is_empty() && holds => {
                let message = "is empty, and held objects before";
                self.diagnostics = vec![
                    about(path, Severity::Error, message)
                        .with_help("remove the file, or comment its objects out, to remove them"),
                ];
            }
            Ok(text) => {
                self.take(read(&SourceText::new(name(path), text.clone()), options));
                // Without a last end of line it may not have been written to its end yet.
                let has_errors = self.diagnostics.iter().any(Diagnostic::is_error);
                self.is_unclear |= has_errors && !text.ends_with('\n');
            }
            Err(refusal) => self.diagnostics = vec![refusal.diagnostic(path)],
        }
        self.content = Some(content);
    }

    fn take(&mut self, result: ReadResult) {
        let errors = || result.diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
        let of_object =
            errors().filter_map(|error| Some((error.object.clone()?, error.place.clone())));
        self.errors = of_object.collect();
        self.is_unclear = errors().any(is_of_unknown);
        self.manifests = result.manifests;
        self.refused = result.refused;
        self.diagnostics = result.diagnostics;
        self.passed_over = result.passed_over;
        self.foreign_policies = result.foreign_policies;
    }
}

/// Whether an error leaves open what object it is about: it has no name, or not its own.
fn is_of_unknown(error: &Diagnostic) -> bool {
    let names = ["metadata.name", "metadata.namespace"];
    error.object.is_none() || error.field.as_deref().is_some_and(|field| names.contains(&field))
}

fn about(path: &Path, severity: Severity, message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(severity, message).at(Place::file(name(path)))
}

fn about_paths(listing: &Listing) -> Vec<Diagnostic> {
    let failed = listing.failed.iter().map(|(path, refusal)| refusal.diagnostic(path));
    let empty = listing.empty.iter().map(|path| {
        about(path, Severity::Warning, "there are no manifests in this directory")
            .with_help("their names end in .yaml, .yml or .json")
    });
    failed.chain(empty).collect()
}

/// The first few, and how many there are beyond.
fn several(keys: &[&ObjectRef]) -> String {
    const FEW: usize = 3;
    let few: Vec<_> = keys.iter().take(FEW).map(ToString::to_string).collect();
    let few = few.join(", ");
    match keys.len().saturating_sub(FEW) {
        0 => few,
        more => format!("{few} and {more} more"),
    }
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

fn same(before: &InForce, after: &InForce) -> bool {
    let place = |manifest: &Manifest| manifest.place();
    before.len() == after.len()
        && before.iter().zip(after).all(|((key, (_, was)), (other_key, (_, is)))| {
            key == other_key && was.object == is.object && place(was) == place(is)
        })
}

/// Whether the file was written less than `age` before it was read.
fn is_younger(content: &Content, age: Duration) -> bool {
    content.age.is_some_and(|written| written < age)
}

/// What diagnostics call a path. Characters that steer a terminal or end a line of a log are escaped.
pub(crate) fn name(path: &Path) -> String {
    if path.as_os_str() == STDIN {
        return "<stdin>".to_owned();
    }
    let mut name = String::new();
    for character in path.to_string_lossy().chars() {
        if character.is_control() {
            name.extend(character.escape_default());
        } else {
            name.push(character);
        }
    }
    name
}
