//! A queue into a worker's loop: whoever writes wakes the worker up, if nobody has yet.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use rustix::event::{EventfdFlags, eventfd};

/// A mailbox: the end to write to, and the worker's end.
pub(crate) fn mailbox<T>() -> io::Result<(Sender<T>, Receiver<T>)> {
    let (sender, receiver) = mpsc::channel();
    let bell = Arc::new(Bell {
        eventfd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        rung: AtomicBool::new(false),
    });
    Ok((Sender { sender, bell: bell.clone() }, Receiver { receiver, bell }))
}

#[derive(Debug)]
struct Bell {
    eventfd: OwnedFd,
    /// Saves a system call for each message but the first.
    rung: AtomicBool,
}

/// The end that anybody may write to.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    sender: mpsc::Sender<T>,
    bell: Arc<Bell>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), bell: self.bell.clone() }
    }
}

impl<T> Sender<T> {
    /// Leaves a message; gives it back if the worker has ended.
    pub(crate) fn send(&self, message: T) -> Result<(), T> {
        self.sender.send(message).map_err(|mpsc::SendError(message)| message)?;
        if !self.bell.rung.swap(true, Ordering::AcqRel) {
            // It can only fail if the counter is full, and then the worker wakes up anyway.
            let _ = rustix::io::write(&self.bell.eventfd, &1_u64.to_ne_bytes());
        }
        Ok(())
    }
}

/// The worker's end.
#[derive(Debug)]
pub(crate) struct Receiver<T> {
    receiver: mpsc::Receiver<T>,
    bell: Arc<Bell>,
}

impl<T> Receiver<T> {
    /// Becomes readable, by an edge, when messages wait.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.eventfd.as_fd()
    }

    /// Every message that waits. Call it after each wake-up.
    pub(crate) fn drain(&self) -> impl Iterator<Item = T> + '_ {
        // Before looking: a message that comes after the last look rings again. The eventfd isn't
        // read, as with edge triggering every write to it is an event of its own.
        self.bell.rung.swap(false, Ordering::AcqRel);
        self.receiver.try_iter()
    }
}
