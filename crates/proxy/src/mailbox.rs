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

    /// Has the next message wake the worker up again. Call it after a wake-up, before looking: the
    /// eventfd isn't read, as with edge triggering every write to it is an event of its own.
    pub(crate) fn acknowledge(&self) {
        self.bell.rung.swap(false, Ordering::AcqRel);
    }

    /// The next message, if one waits.
    pub(crate) fn next(&self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;
    use crate::poll::{Events, Interest, Poll, Token};

    #[test]
    fn every_message_is_read_however_the_wake_ups_fall() {
        const MESSAGES: usize = 20_000;
        let (sender, receiver) = mailbox().unwrap();
        let poll = Poll::new().unwrap();
        poll.add(receiver.as_fd(), Token::Mailbox, Interest::Read).unwrap();
        let senders = [sender.clone(), sender];
        let senders = senders.map(|sender| {
            thread::spawn(move || (0..MESSAGES).for_each(|n| sender.send(n).unwrap()))
        });
        let mut events = Events::new();
        let mut read = 0;
        while read < 2 * MESSAGES {
            poll.wait(&mut events, Some(Duration::from_secs(30))).unwrap();
            assert!(events.len() > 0, "asleep with {read} messages read");
            receiver.acknowledge();
            while receiver.next().is_some() {
                read += 1;
            }
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    }
}
