//! Which process the kernel path of a network namespace belongs to.

use std::{io, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept, bind, connect, listen,
        socket_with, sockopt,
    },
    process::geteuid,
};

/// The abstract name (unix(7)) that the process listens on. It goes with the process, and is a name of this
/// network namespace, as the table is.
const NAME: &[u8] = b"l4way/kernel-path";

/// How many may ask at once who has the lock.
const BACKLOG: i32 = 128;

/// The lock, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(OwnedFd);

impl Lock {
    /// Takes the lock. Any user may take a name, but that of a user who may not change the table is no lock:
    /// it is passed over, and said. If two are wrong about that, the table still is one's only, where the
    /// kernel knows owners of tables.
    ///
    /// # Errors
    /// EADDRINUSE if another l4way has it.
    pub(crate) fn take() -> io::Result<Self> {
        Self::take_name(NAME)
    }

    fn take_name(name: &[u8]) -> io::Result<Self> {
        let address = SocketAddrUnix::new_abstract_name(name)?;
        let socket = new_socket()?;
        match bind(&socket, &address) {
            Ok(()) => listen(&socket, BACKLOG)?,
            Err(Errno::ADDRINUSE) if !is_ours(&address)? => tracing::warn!(
                "a process of another user has the name of the kernel path's lock: it is passed over"
            ),
            Err(error) => return Err(error.into()),
        }
        Ok(Self(socket))
    }

    /// Lets go of those who have asked, so that there is room for others.
    pub(crate) fn answer(&self) {
        while accept(&self.0).is_ok() {}
    }
}

/// Whether a process listens on the name that may change the table: root's, or one of our own user.
fn is_ours(address: &SocketAddrUnix) -> io::Result<bool> {
    let socket = new_socket()?;
    if connect(&socket, address).is_err() {
        return Ok(false);
    }
    let holder = sockopt::socket_peercred(&socket);
    Ok(holder.is_ok_and(|holder| holder.uid.is_root() || holder.uid == geteuid()))
}

fn new_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use rustix::{process::Uid, thread::set_thread_res_uid};

    use super::*;

    #[test]
    fn one_process_of_ours_has_the_lock() {
        let name = format!("l4way/test-{}", std::process::id());
        let held = Lock::take_name(name.as_bytes()).unwrap();
        let error = Lock::take_name(name.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        // However many ask.
        for _ in 0..2 * BACKLOG {
            held.answer();
            assert!(Lock::take_name(name.as_bytes()).is_err());
        }
        drop(held);
        Lock::take_name(name.as_bytes()).unwrap();
    }

    #[test]
    fn a_name_that_another_user_has_is_no_lock() {
        for listens in [false, true] {
            let name = format!("l4way/squatted-{}-{listens}", std::process::id());
            let squatted = name.clone();
            let (ready, is_ready) = mpsc::channel();
            let (end, is_over) = mpsc::channel::<()>();
            let squatter = thread::spawn(move || {
                // Of this thread alone. It needs root, as the kernel path does.
                let nobody = Uid::from_raw(65_534);
                set_thread_res_uid(nobody, nobody, nobody).expect("root may become anybody");
                let socket = new_socket().unwrap();
                let address = SocketAddrUnix::new_abstract_name(squatted.as_bytes()).unwrap();
                bind(&socket, &address).unwrap();
                if listens {
                    listen(&socket, 1).unwrap();
                }
                ready.send(()).unwrap();
                let _ = is_over.recv();
            });
            is_ready.recv().unwrap();
            Lock::take_name(name.as_bytes()).unwrap();
            drop(end);
            squatter.join().unwrap();
        }
    }
}
