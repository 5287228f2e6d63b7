//! Where inputs are.

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash, Hasher},
    io,
    path::{Path, PathBuf},
};

/// The project's folder for fuzzing.
pub(crate) fn fuzz() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The files of a folder and of those in it, in the order of their names; none if there is no such folder.
///
/// # Panics
/// If something of it can't be read.
pub(crate) fn read(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => panic!("{}: {error}", folder.display()),
    };
    let mut paths: Vec<_> =
        entries.map(|entry| entry.expect("a folder can be listed").path()).collect();
    paths.sort();
    let read_one = |path: PathBuf| match path.is_dir() {
        true => read(&path),
        false => {
            let input = fs::read(&path);
            let input = input.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            vec![(path, input)]
        }
    };
    paths.into_iter().flat_map(read_one).collect()
}

/// Writes an input into `folder`, by a name that is its content's. Returns where it is.
///
/// # Panics
/// If it can't be written.
pub(crate) fn write(folder: &Path, input: &[u8]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let path = folder.join(format!("{:016x}", hasher.finish()));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&path, input))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// `make fuzz` runs the targets of the list; a corpus without one is run by nobody.
    #[test]
    fn every_corpus_is_of_a_target_in_the_list() {
        let targets = fs::read_to_string(fuzz().join("targets")).unwrap();
        let lines = targets.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let listed: BTreeSet<_> =
            lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
        assert!(!listed.is_empty());
        for entry in fs::read_dir(fuzz().join("corpus")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(listed.contains(&name), "{name} isn't in fuzz/targets");
        }
    }
}
