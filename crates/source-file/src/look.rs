//! All that asks the file system what there is. Each function may take for ever.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, DirEntry, File, FileType, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::fs::OFlags;

use crate::{listing::MOST_PATHS, patient::Patient, refusal::Refusal, source::STDIN, text::text};

/// How many bytes a file may have: a hundred thousand endpoints.
pub(crate) const MOST_BYTES: u64 = 16 << 20;

/// A path to look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Question {
    pub(crate) path: PathBuf,
    /// Somebody has named it himself, and it wasn't merely found in a directory.
    pub(crate) given: bool,
}

/// What is at a path; `None` if that is no manifest's business.
pub(crate) type Answer = Result<Option<Found>, Refusal>;

/// What is at a path.
#[derive(Debug)]
pub(crate) struct Found {
    /// The path without symbolic links.
    pub(crate) real: PathBuf,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    Directory {
        /// What in it is to be looked at, in order.
        names: Vec<OsString>,
        /// Which directory of this name it is.
        id: DirectoryId,
    },
    /// A regular file, with what it holds.
    File(Content),
    /// A pipe, a terminal or the like: it can be read once, and may take as long as it likes. With what
    /// to say of it where that can't be waited for.
    Stream(Refusal),
}

/// A directory's device and inode.
pub(crate) type DirectoryId = (u64, u64);

/// What a file holds.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) text: Result<Arc<str>, Refusal>,
    /// How long before it was read it had been written; `None` for what seems to be of the future.
    pub(crate) age: Option<Duration>,
}

/// Looks whether there is something at a path.
///
/// # Errors
/// If there is nothing, or it must not be looked at. Where nobody answers for a while, it may be there.
pub fn look_for(path: &Path) -> io::Result<()> {
    let exists = |path: &PathBuf| path.metadata().map(drop);
    Patient::new(exists).ask(&path.to_owned()).unwrap_or(Ok(()))
}

/// Looks at a path, and reads the regular file that is there.
pub(crate) fn look(question: &Question) -> Answer {
    let Question { path, given } = question;
    let is_manifest = *given || has_manifests(path);
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(_) if !is_manifest || (!given && has_gone(path)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let kind = metadata.file_type();
    let what = if kind.is_dir() {
        directory(path, &metadata)?
    } else if !is_manifest {
        return Ok(None);
    } else if kind.is_file() {
        What::File(regular_file(path))
    } else if *given {
        What::Stream(not_regular(kind))
    } else {
        return Err(not_regular(kind));
    };
    // What is named by a descriptor (/dev/fd) may have no other name.
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    Ok(Some(Found { real, what }))
}

/// Whether nothing is there, not even a link that leads nowhere.
fn has_gone(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn directory(path: &Path, metadata: &Metadata) -> Result<What, Refusal> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if is_to_be_looked_at(&entry) {
            names.push(entry.file_name());
        }
        if names.len() > MOST_PATHS {
            break;
        }
    }
    names.sort();
    Ok(What::Directory { names, id: (metadata.dev(), metadata.ino()) })
}

/// Whether an entry may be a manifest or a directory, which of a link only its end tells.
///
/// Hidden names are editors' and git's, and where ConfigMap mounts keep what the names that count link
/// to.
fn is_to_be_looked_at(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let may_be_directory = || entry.file_type().is_ok_and(|it| it.is_dir() || it.is_symlink());
    !name.as_encoded_bytes().starts_with(b".")
        && (has_manifests(Path::new(&name)) || may_be_directory())
}

/// Whether a file's name says that it holds manifests.
fn has_manifests(path: &Path) -> bool {
    let extension = path.extension().map(OsStr::to_ascii_lowercase);
    extension.is_some_and(|it| it == "yaml" || it == "yml" || it == "json")
}

fn regular_file(path: &Path) -> Content {
    match read_regular_file(path) {
        Ok((bytes, age)) => Content { text: text(bytes), age },
        Err(refusal) => Content { text: Err(refusal), age: None },
    }
}

/// What a regular file holds, and how old that is.
fn read_regular_file(path: &Path) -> Result<(Vec<u8>, Option<Duration>), Refusal> {
    // Who has put something else in its place meanwhile doesn't make us wait for it (open(2), fifo(7)).
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    let kind = file.metadata()?.file_type();
    if !kind.is_file() {
        return Err(not_regular(kind));
    }
    let bytes = read(&file)?;
    // After reading: whoever writes meanwhile is noticed too.
    let written = file.metadata().and_then(|metadata| metadata.modified());
    Ok((bytes, written.ok().and_then(|written| written.elapsed().ok())))
}

/// Reads what isn't a regular file to its end, or standard input.
pub(crate) fn read_stream(path: &Path) -> Result<Arc<str>, Refusal> {
    let bytes =
        if path.as_os_str() == STDIN { read(io::stdin())? } else { read(File::open(path)?)? };
    text(bytes)
}

/// Reads to the end, which has to come some day.
fn read(from: impl Read) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    from.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        let message = format!("can't be read: it has more than {} MiB", MOST_BYTES >> 20);
        return Err(Refusal::lasting(message).with_help("divide it among several files"));
    }
    Ok(bytes)
}

/// Says what a name in a directory stands for that no manifest is in.
pub(crate) fn not_regular(kind: FileType) -> Refusal {
    let what = if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    let message = format!(
        "can't be read: it is {what}, which is read only if it is named itself, at the start"
    );
    Refusal::lasting(message).with_help("remove it, or give it a name that isn't a manifest's")
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use rustix::fs::{CWD, FileType as Kind, Mode, mknodat};

    use super::*;

    fn asked(path: &Path, given: bool) -> Answer {
        look(&Question { path: path.to_owned(), given })
    }

    fn refused(path: &Path) -> String {
        asked(path, false).expect_err("it can't be read").diagnostic(path).to_string()
    }

    #[test]
    fn only_regular_files_are_opened() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        mknodat(CWD, at("fifo.yaml"), Kind::Fifo, Mode::RUSR, 0).expect("a FIFO");
        let _listener = UnixListener::bind(at("socket.yaml")).expect("a socket");
        symlink("/dev/zero", at("device.yaml")).expect("a link");
        symlink("loop.yaml", at("loop.yaml")).expect("a link");
        symlink("nothing", at("dangling.yaml")).expect("a link");
        for (name, what) in [
            ("fifo.yaml", "it is a FIFO"),
            ("socket.yaml", "it is a socket"),
            ("device.yaml", "it is a device"),
            ("loop.yaml", "symbolic links"),
            ("dangling.yaml", "No such file"),
        ] {
            let said = refused(&at(name));
            assert!(said.contains(name) && said.contains(what), "{said}");
        }
        let fifo = asked(&at("fifo.yaml"), true).expect("it may be read").expect("it is there");
        assert!(matches!(fifo.what, What::Stream(_)));
    }

    #[test]
    fn what_is_no_manifest_is_nobodys_mistake() {
        let directory = tempfile::tempdir().expect("a directory");
        let link = directory.path().join("link");
        symlink("nothing", &link).expect("a link");
        assert!(matches!(asked(&link, false), Ok(None)));
        assert!(asked(&link, true).is_err(), "somebody has named it");
        assert!(matches!(asked(&directory.path().join("gone.yaml"), false), Ok(None)));
    }

    #[test]
    fn a_file_has_a_bound() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let held = || regular_file(file.path()).text.map(|text| text.len() as u64);
        file.as_file().set_len(MOST_BYTES).expect("a size");
        assert!(held().is_ok());
        file.as_file().set_len(1 << 30).expect("a size");
        let said = held().expect_err("it is too large").diagnostic(file.path()).to_string();
        assert!(said.contains("16 MiB"), "{said}");
    }
}
