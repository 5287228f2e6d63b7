//! Waiting for many sockets, with epoll(7).

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
    io::Errno,
};

/// How many events one wait gives at most.
const EVENTS: usize = 64;

/// What a socket is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Something to read.
    Read,
    /// Something to read, and room to write.
    ReadWrite,
    /// Each of both once, when it comes: no later change is needed.
    Edges,
}

/// Sockets, each with a number by which it is told.
pub(crate) struct Poll {
    epoll: OwnedFd,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Watches a socket until it is closed.
    pub(crate) fn add(
        &self,
        socket: impl AsFd,
        number: usize,
        interest: Interest,
    ) -> io::Result<()> {
        let data = EventData::new_u64(number as u64);
        Ok(epoll::add(&self.epoll, socket, data, interest.flags())?)
    }

    /// Watches a socket for something else.
    pub(crate) fn modify(
        &self,
        socket: impl AsFd,
        number: usize,
        interest: Interest,
    ) -> io::Result<()> {
        let data = EventData::new_u64(number as u64);
        Ok(epoll::modify(&self.epoll, socket, data, interest.flags())?)
    }

    /// Waits for sockets to be ready, that time at most, and tells which are.
    pub(crate) fn wait(&self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        // One that is too long for the kernel has no end.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        ready.clear();
        let mut events = [MaybeUninit::uninit(); EVENTS];
        match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok((events, _)) => ready.extend(events.iter().map(Ready::new)),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// A socket that is ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) number: usize,
    /// Something can be read, be it an error.
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Ready {
    fn new(event: &epoll::Event) -> Self {
        let (number, flags) = (event.data.u64() as usize, event.flags);
        let read = EventFlags::IN | EventFlags::HUP | EventFlags::ERR;
        Self { number, read: flags.intersects(read), write: flags.contains(EventFlags::OUT) }
    }
}

impl Interest {
    fn flags(self) -> EventFlags {
        match self {
            Self::Read => EventFlags::IN,
            Self::ReadWrite => EventFlags::IN | EventFlags::OUT,
            Self::Edges => EventFlags::IN | EventFlags::OUT | EventFlags::ET,
        }
    }
}

/// What came of a call on a socket that doesn't wait: nothing, if it would have had to.
pub(crate) fn unless_blocked<T>(result: Result<T, Errno>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn sockets_are_told_by_their_numbers() {
        let (poll, mut ready) = (Poll::new().unwrap(), Vec::new());
        let (near, far) = UnixStream::pair().unwrap();
        poll.add(&near, 7, Interest::Read).unwrap();
        poll.wait(&mut ready, Some(Duration::ZERO)).unwrap();
        assert!(ready.is_empty());
        drop(far);
        poll.wait(&mut ready, None).unwrap();
        assert_eq!((ready.len(), ready[0].number, ready[0].read), (1, 7, true));
        poll.modify(&near, 8, Interest::ReadWrite).unwrap();
        poll.wait(&mut ready, None).unwrap();
        assert_eq!((ready.len(), ready[0].number, ready[0].write), (1, 8, true));
    }
}
