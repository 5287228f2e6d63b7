//! One direction of a session: bytes from one socket to the other.

use super::side::{Failure, Io, Read, Side};

/// What is read at once from a socket of which nothing is known yet.
const READ_FIRST: usize = 64 << 10;
/// What is read at once from a socket that always has more, toward one that takes it all. It should
/// stay in the second-level cache until it is written: on cores with 512 KiB of it, 1 MiB cost a fifth
/// more CPU time than this, on cores with 1 MiB a few percent less.
const READ_MOST: usize = 256 << 10;
/// What is read at once toward a socket that takes little.
const READ_LEAST: usize = 16 << 10;
/// Bytes that a direction moves before other sessions get their turn.
const TURN: usize = 2 << 20;

/// Which socket failed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Broken {
    /// The one that is read.
    From(Failure),
    /// The one that is written.
    To(Failure),
}

/// How far a direction got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// It has to wait for an event.
    AllThereIs,
    /// Its turn is over, and there may be more.
    Turn,
}

/// One direction of a session.
#[derive(Debug)]
pub(super) struct Flow {
    /// What was read and isn't written yet, from `written` on. Empty in nearly all sessions; while
    /// it isn't, nothing is read.
    unsent: Vec<u8>,
    written: usize,
    read_size: usize,
    /// The socket that is read has said that no more will come.
    pub(super) at_end: bool,
    /// The socket that is written was told so too.
    pub(super) finished: bool,
    /// Bytes that were written.
    pub(super) bytes: u64,
}

impl Flow {
    pub(super) fn new() -> Self {
        Self {
            unsent: Vec::new(),
            written: 0,
            read_size: READ_FIRST,
            at_end: false,
            finished: false,
            bytes: 0,
        }
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Reads what is there before there is anything to write it to.
    pub(super) fn read_early(&mut self, io: &mut Io, from: &mut Side) -> Result<(), Failure> {
        match from.read(&mut io.received, &mut io.sending, READ_LEAST)? {
            Read::Bytes(bytes) => {
                let bytes = bytes.to_vec();
                self.hold(io, bytes);
            }
            Read::End => self.at_end = true,
            Read::Nothing => {}
        }
        Ok(())
    }

    /// Moves what there is, for a turn. `alone` says that the other direction has finished, so
    /// that closing the sockets will tell the end of this one.
    pub(super) fn pump(
        &mut self,
        io: &mut Io,
        from: &mut Side,
        to: &mut Side,
        alone: bool,
    ) -> Result<Moved, Broken> {
        let mut left = TURN;
        loop {
            if !self.flush(io, to).map_err(Broken::To)? {
                return Ok(Moved::AllThereIs);
            }
            if self.at_end {
                if !self.finished {
                    self.finished = to.finish(&mut io.sending, alone).map_err(Broken::To)?;
                }
                return Ok(Moved::AllThereIs);
            }
            if !from.readable {
                return Ok(Moved::AllThereIs);
            }
            if left == 0 {
                return Ok(Moved::Turn);
            }
            let n = self.copy(io, from, to)?;
            left = left.saturating_sub(n);
        }
    }

    /// Reads once and writes what came.
    fn copy(&mut self, io: &mut Io, from: &mut Side, to: &mut Side) -> Result<usize, Broken> {
        let size = if io.sending.unsent > io.sending.budget { READ_LEAST } else { self.read_size };
        let read = from.read(&mut io.received, &mut io.sending, size).map_err(Broken::From)?;
        let bytes = match read {
            Read::Bytes(bytes) => bytes,
            Read::End => {
                self.at_end = true;
                return Ok(0);
            }
            Read::Nothing => return Ok(0),
        };
        let written = to.write(&mut io.sending, bytes).map_err(Broken::To)?;
        self.bytes += written as u64;
        let n = bytes.len();
        if written < n {
            let rest = bytes[written..].to_vec();
            self.hold(io, rest);
        }
        if !to.writable {
            self.read_size = (size / 2).max(READ_LEAST);
        } else if from.readable {
            self.read_size = READ_MOST;
        }
        Ok(n)
    }

    /// Keeps what can't be written yet.
    pub(super) fn hold(&mut self, io: &mut Io, bytes: Vec<u8>) {
        self.unsent = bytes;
        self.written = 0;
        io.sending.unsent += self.unsent.len();
    }

    /// Writes what was held. False if not all of it could be written.
    pub(super) fn flush(&mut self, io: &mut Io, to: &mut Side) -> Result<bool, Failure> {
        if !to.flush(&mut io.sending)? {
            return Ok(false);
        }
        while self.has_unsent() {
            if !to.writable {
                return Ok(false);
            }
            let n = to.write(&mut io.sending, &self.unsent[self.written..])?;
            self.bytes += n as u64;
            self.written += n;
            if self.written == self.unsent.len() {
                self.release(io);
            }
        }
        to.flush(&mut io.sending)
    }

    /// Forgets what was held.
    pub(super) fn release(&mut self, io: &mut Io) {
        io.sending.unsent -= self.unsent.len();
        self.unsent = Vec::new();
        self.written = 0;
    }
}
