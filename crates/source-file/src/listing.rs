use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// What is at the paths that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The files with manifests, in order: that of the paths, and by name within a directory.
    pub(crate) files: Vec<PathBuf>,
    /// The directories that were looked through.
    pub(crate) directories: BTreeSet<PathBuf>,
    /// What couldn't be looked at.
    pub(crate) failed: Vec<(PathBuf, io::Error)>,
    /// Directories that were asked for and hold no manifests.
    pub(crate) empty: Vec<PathBuf>,
    /// The true paths of what has been seen, so that symbolic links make no loop and no file is
    /// read twice.
    seen: BTreeSet<PathBuf>,
}

impl Listing {
    /// Looks at files, and through directories and those in them.
    pub(crate) fn of(paths: &[PathBuf]) -> Self {
        let mut listing = Self::default();
        for path in paths {
            let before = listing.files.len();
            listing.add(path);
            if listing.files.len() == before && listing.directories.contains(path) {
                listing.empty.push(path.clone());
            }
        }
        listing
    }

    fn add(&mut self, path: &Path) {
        if let Err(error) = self.try_add(path) {
            self.failed.push((path.to_owned(), error));
        }
    }

    fn try_add(&mut self, path: &Path) -> io::Result<()> {
        if !self.seen.insert(fs::canonicalize(path)?) {
            return Ok(());
        }
        if !fs::metadata(path)?.is_dir() {
            self.files.push(path.to_owned());
            return Ok(());
        }
        self.directories.insert(path.to_owned());
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.push(entry?.file_name());
        }
        names.sort();
        for name in names {
            let path = path.join(&name);
            // Hidden names are editors' and git's, and where ConfigMap mounts keep what the names
            // that count link to.
            let hidden = name.as_encoded_bytes().starts_with(b".");
            if !hidden && (path.is_dir() || has_manifests(&path)) {
                self.add(&path);
            }
        }
        Ok(())
    }
}

/// Whether a file's name says that it holds manifests.
fn has_manifests(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    extension
        .is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}
