use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crate::{
    look::{Answer, Content, DirectoryId, Found, Question, What},
    patient::{PATIENCE, Patient},
    refusal::Refusal,
};

/// How many paths are looked at: a link to `/` has no end that anybody would wait for.
pub(crate) const MOST_PATHS: usize = 100_000;
/// How many bytes all files together may have.
const MOST_BYTES_IN_ALL: usize = 64 << 20;

/// What is at the paths that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The files with manifests, in order: that of the paths, and by name within a directory.
    pub(crate) files: Vec<(PathBuf, Held)>,
    /// What couldn't be looked at.
    pub(crate) failed: Vec<(PathBuf, Refusal)>,
    /// Directories that were asked for and hold no manifests.
    pub(crate) empty: Vec<PathBuf>,
    /// Where something may change.
    pub(crate) places: Places,
    /// The true paths of what has been seen, so that symbolic links make no loop and no file is
    /// used twice.
    seen: BTreeSet<PathBuf>,
    bytes: usize,
}

/// What a file holds.
#[derive(Debug)]
pub(crate) enum Held {
    Content(Content),
    /// Who reads it may have to wait for ever; why it isn't read.
    Stream(Refusal),
}

/// Where something may change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// Directories in which every change matters, each with which of its name it is.
    pub(crate) directories: BTreeMap<PathBuf, DirectoryId>,
    /// What was asked for, and where links lead.
    pub(crate) files: BTreeSet<PathBuf>,
}

impl Listing {
    /// Looks at files, and through directories and those in them.
    pub(crate) fn of(paths: &[PathBuf], disk: &mut Patient<Question, Answer>) -> Self {
        let mut listing = Self::default();
        for path in paths {
            let before = listing.files.len();
            listing.add_all(path, disk);
            if listing.files.len() == before && listing.places.directories.contains_key(path) {
                listing.empty.push(path.clone());
            }
        }
        listing
    }

    /// Adds what is at a path and below it.
    fn add_all(&mut self, root: &Path, disk: &mut Patient<Question, Answer>) {
        let mut next = vec![Question { path: root.to_owned(), given: true }];
        while let Some(question) = next.pop() {
            if self.seen.len() + next.len() >= MOST_PATHS {
                self.failed.push((root.to_owned(), too_many_paths()));
                return;
            }
            let answer = disk.ask(&question);
            if question.given && answer.is_some() {
                self.places.files.insert(root.to_owned());
            }
            match answer {
                Some(Ok(None)) => {}
                Some(Ok(Some(found))) => {
                    let inside = self.add(&question.path, found);
                    next.extend(
                        inside.into_iter().rev().map(|path| Question { path, given: false }),
                    );
                }
                Some(Err(refusal)) => self.failed.push((question.path, refusal)),
                None => self.failed.push((question.path, late())),
            }
        }
    }

    /// Adds what is at a path; gives what is in it.
    fn add(&mut self, path: &Path, found: Found) -> Vec<PathBuf> {
        if !self.seen.insert(found.real.clone()) {
            return Vec::new();
        }
        let held = match found.what {
            What::Directory { names, id } => {
                self.places.directories.insert(path.to_owned(), id);
                return names.into_iter().map(|name| path.join(name)).collect();
            }
            What::File(content) => Held::Content(self.bounded(content)),
            What::Stream(refusal) => Held::Stream(refusal),
        };
        self.places.files.insert(found.real);
        self.files.push((path.to_owned(), held));
        Vec::new()
    }

    /// Leaves a file out that makes all of them too large.
    fn bounded(&mut self, mut content: Content) -> Content {
        let bytes = content.text.as_ref().map_or(0, |text| text.len());
        if self.bytes + bytes > MOST_BYTES_IN_ALL {
            let most = MOST_BYTES_IN_ALL >> 20;
            let message = format!("can't be read: with it, all files have more than {most} MiB");
            content.text = Err(Refusal::lasting(message));
        } else {
            self.bytes += bytes;
        }
        content
    }
}

fn too_many_paths() -> Refusal {
    let message = format!("can't be read as a whole: there are more than {MOST_PATHS} paths in it");
    Refusal::lasting(message).with_help("a symbolic link in it may lead to a large directory")
}

fn late() -> Refusal {
    let message = format!(
        "can't be read: its file system has not answered within {} s, and is waited for",
        PATIENCE.as_secs()
    );
    Refusal::lasting(message).with_help("if it is a network's or FUSE's, its server may be gone")
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    fn crowded(question: &Question) -> Answer {
        let names = (0..=MOST_PATHS).map(|n| n.to_string().into()).collect();
        let what = What::Directory { names, id: (0, 0) };
        Ok(Some(Found { real: question.path.clone(), what }))
    }

    #[test]
    fn a_directory_without_end_is_left() {
        let listing = Listing::of(&["/".into()], &mut Patient::new(crowded));
        let [(path, refusal)] = &*listing.failed else { panic!("{:?}", listing.failed) };
        assert!(refusal.diagnostic(path).to_string().contains("more than 100000 paths"));
    }

    /// Each file has a quarter of what all may have.
    fn large(question: &Question) -> Answer {
        let text = Arc::from(" ".repeat(MOST_BYTES_IN_ALL / 4));
        let what = What::File(Content { text: Ok(text), age: Some(Duration::MAX) });
        Ok(Some(Found { real: question.path.clone(), what }))
    }

    #[test]
    fn all_files_together_have_a_bound() {
        let paths: Vec<_> = (1..=5).map(|n| PathBuf::from(format!("{n}.yaml"))).collect();
        let listing = Listing::of(&paths, &mut Patient::new(large));
        let is_read = |(_, held): &(PathBuf, Held)| matches!(held, Held::Content(content) if content.text.is_ok());
        let read: Vec<_> = listing.files.iter().map(is_read).collect();
        assert_eq!(read, [true, true, true, true, false]);
    }
}
