//! The admin socket: a Unix socket for this user only, through which goes what others must not see or
//! do. Where it is, so that a server and who asks it agree, and how it is made.

use std::{
    env, fs,
    io::{self, ErrorKind},
    net::SocketAddr,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use rustix::{
    fs::{CWD, FlockOperation, Mode, OFlags, chmod, flock, openat},
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
    },
    process::geteuid,
};

/// Where the socket is in a pod. `/dev/shm` is the pod's own, there without any volume, and may be written
/// to where the image may not.
const IN_POD: &str = "/dev/shm/l4way/admin.sock";
/// Whether this is a pod: Kubernetes tells every container where the API server is.
const POD_VARIABLE: &str = "KUBERNETES_SERVICE_HOST";
/// The most bytes of a socket's path (unix(7)); Linux has room for one more, many programs don't.
const LONGEST_PATH: usize = 107;
/// How many connections wait to be accepted at most.
const BACKLOG: i32 = 64;

/// Where the socket of the l4way is that has this admin address, unless its command line says otherwise:
/// in a pod at one place, else in a folder of the user's. The network namespace is a part of its name, as
/// another may have the same address.
pub(crate) fn default_path(admin_address: SocketAddr) -> PathBuf {
    if env::var_os(POD_VARIABLE).is_some() {
        return IN_POD.into();
    }
    let namespace = fs::metadata("/proc/self/ns/net").map_or(0, |namespace| namespace.ino());
    let variable = |name| env::var(name).ok();
    let folder = folder(
        geteuid().as_raw(),
        variable("RUNTIME_DIRECTORY").as_deref(),
        variable("XDG_RUNTIME_DIR").as_deref(),
    );
    folder.join(format!("{admin_address}@{namespace}.sock"))
}

/// The folder of a user's sockets: what systemd has made for the service (`RuntimeDirectory=` in
/// systemd.exec(5)), root's, which is the same whoever root was before, or that of the user's session.
fn folder(user: u32, service: Option<&str>, session: Option<&str>) -> PathBuf {
    let absolute = |path: &&str| path.starts_with('/');
    let service = service.and_then(|folders| folders.split(':').next()).filter(absolute);
    match (service, session.filter(absolute)) {
        (Some(service), _) => service.into(),
        _ if user == 0 => "/run/l4way".into(),
        (None, Some(session)) => Path::new(session).join("l4way"),
        (None, None) => format!("/dev/shm/l4way-{user}").into(),
    }
}

/// Checks that a path is one that a socket can have.
///
/// # Errors
/// A clause for a person.
pub(crate) fn check_path(text: &str) -> Result<PathBuf, String> {
    address(text.as_ref()).map(|_| text.into()).map_err(|error| error.to_string())
}

fn address(path: &Path) -> io::Result<SocketAddrUnix> {
    let length = path.as_os_str().len();
    if length > LONGEST_PATH {
        let why = format!("has {length} bytes, and the path of a socket {LONGEST_PATH} at most");
        return Err(io::Error::new(ErrorKind::InvalidInput, why));
    }
    Ok(SocketAddrUnix::new(path)?)
}

/// The socket's file, if there is one, which is removed when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct File(Arc<Mutex<Option<Made>>>);

/// The same for who only makes it.
#[derive(Clone, Debug)]
pub(super) struct Maker(Weak<Mutex<Option<Made>>>);

/// A file that was made, so that no other is removed.
#[derive(Debug)]
struct Made {
    path: PathBuf,
    identity: Identity,
}

/// Device, inode and when that was changed last: an inode's number may soon be another file's.
type Identity = (u64, u64, i64, i64);

fn identity(file: &fs::Metadata) -> Identity {
    (file.dev(), file.ino(), file.ctime(), file.ctime_nsec())
}

impl File {
    /// What makes it.
    pub(super) fn maker(&self) -> Maker {
        Maker(Arc::downgrade(&self.0))
    }
}

impl Maker {
    /// Listens there, for this user only. The file of a process that is gone is replaced.
    ///
    /// # Errors
    /// If another process answers there, something else is there, or it can't be made.
    pub(super) fn listen(&self, path: &Path) -> io::Result<OwnedFd> {
        let address = address(path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        // What the command line names is its author's: only folders of ours are made.
        if is_ours(folder) {
            make_private(folder)?;
        }
        // Of two that find the same old file, one comes after the other.
        let lock = openat(
            CWD,
            folder,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        remove_stale(path, &address)?;
        let socket = new_socket()?;
        bind(&socket, &address)?;
        // Nobody can connect before it listens.
        chmod(path, Mode::RUSR | Mode::WUSR)?;
        let file = fs::symlink_metadata(path)?;
        let made = Made { path: path.to_owned(), identity: identity(&file) };
        if let Some(file) = self.0.upgrade() {
            *file.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
        }
        listen(&socket, BACKLOG)?;
        Ok(socket)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let is_ours = |file: fs::Metadata| identity(&file) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether it is a folder that only l4way uses, by its name.
fn is_ours(folder: &Path) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let user = geteuid().as_raw();
    name == "l4way" || name == format!("l4way-{user}")
}

/// Makes a folder that others can't write to, if there is none.
fn make_private(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => return made,
    }
    // systemd's may be a link.
    let found = fs::metadata(folder)?;
    if found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    let why = format!("{} isn't a folder that only this user may write to", folder.display());
    Err(io::Error::new(ErrorKind::PermissionDenied, why))
}

/// Removes the socket of a process that is gone.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "something else has this name"));
    }
    match connect(&new_socket()?, address) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path),
        // A queue that is full is somebody's, too.
        Ok(()) | Err(Errno::AGAIN) => {
            Err(io::Error::new(ErrorKind::AddrInUse, "another process answers there"))
        }
        Err(error) => Err(error.into()),
    }
}

fn new_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::PermissionsExt, net::UnixListener};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn it_is_this_users_only_and_goes_with_its_owner() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("l4way/admin.sock");
        let file = File::default();
        let _socket = file.maker().listen(&path).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let error = File::default().maker().listen(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_process_has_left_is_replaced_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        let file = File::default();
        let socket = file.maker().listen(&path).unwrap();
        // Its successor's isn't its own.
        drop(socket);
        let successor = File::default();
        let _socket = successor.maker().listen(&path).unwrap();
        drop(file);
        assert!(path.exists());
        drop(successor);

        fs::write(&path, "somebody's").unwrap();
        let error = File::default().maker().listen(&path).unwrap_err();
        assert!(error.to_string().contains("something else"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's");
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_not_used() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("l4way");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        let error = File::default().maker().listen(&folder.join("admin.sock")).unwrap_err();
        assert!(error.to_string().contains("only this user"), "{error}");
    }

    #[test]
    fn the_path_of_a_socket_is_short() {
        let long = format!("/{}", "x".repeat(107));
        let error = check_path(&long).unwrap_err();
        assert!(error.contains("108 bytes") && error.contains("107"), "{error}");
        assert_eq!(check_path(&long[..107]), Ok(long[..107].into()));
    }

    #[test]
    fn each_user_has_a_folder() {
        let session = Some("/run/user/1000");
        for (user, service, session, expected) in [
            (0, None, session, "/run/l4way"),
            (1000, None, session, "/run/user/1000/l4way"),
            (1000, None, Some("relative"), "/dev/shm/l4way-1000"),
            (65_532, None, None, "/dev/shm/l4way-65532"),
            (61_184, Some("/run/l4way:/run/more"), None, "/run/l4way"),
        ] {
            assert_eq!(folder(user, service, session), Path::new(expected));
        }
    }
}
