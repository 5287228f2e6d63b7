//! What one side of an exchange has sent of a body, and the other has not taken yet.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use hyper::body::{Buf, Bytes};
use l4way_proxy_core::{MemoryBudget, MemoryLoad};

use crate::ongoing::{Exchange, Way};

/// What is read at once at least. hyper's buffer is the next power of two, and 8 KiB or more; a read that
/// filled it would double it.
const READ_LEAST: usize = (8 << 10) - 1;
/// What is read at once while there are `FEW` exchanges. What is held can't tell that there are many: a crowd
/// that comes at once holds nothing yet.
pub(crate) const READ: usize = (32 << 10) - 1;
const FEW: usize = 32;
/// What is read at once of a body of which `PROVEN` bytes have been taken, while less than `MUCH` is held of
/// all bodies. That is more than sockets hold of a body: somebody reads.
const READ_MOST: usize = (64 << 10) - 1;
const PROVEN: u64 = 1 << 20;
const MUCH: usize = 32 << 20;

/// One direction of an exchange: its request's body or its answer's.
///
/// Of a body that is held nothing more is read, so there is never more than one chunk of it here. A socket's
/// own buffer is full then, so nobody waits for the bytes that aren't read.
#[derive(Debug)]
pub(crate) struct Flow {
    budget: Arc<MemoryBudget>,
    /// What it costs of the budget.
    held: AtomicUsize,
    /// Bytes that were taken.
    taken: AtomicU64,
    /// Who reads on when nothing is held any more.
    reader: Mutex<Option<Waker>>,
    begun: Instant,
    /// When it last got further, in milliseconds after `begun`.
    moved: AtomicU64,
    open: AtomicBool,
}

impl Flow {
    pub(crate) fn new(budget: Arc<MemoryBudget>, now: Instant) -> Self {
        let (held, taken, reader, moved, open) = Default::default();
        Self { budget, held, taken, reader, begun: now, moved, open }
    }

    /// It is being read, and more of it is to come.
    pub(crate) fn open(&self) {
        if !self.open.swap(true, Relaxed) {
            self.moves();
        }
    }

    /// All of it has come.
    pub(crate) fn close(&self) {
        self.open.store(false, Relaxed);
    }

    /// Whether more of it is to come.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    /// What it costs of the budget.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// Whether something is held.
    pub(crate) fn is_held(&self) -> bool {
        self.held() > 0
    }

    /// How long it has been since it last got further.
    pub(crate) fn silence(&self, now: Instant) -> Duration {
        let moved = self.begun + Duration::from_millis(self.moved.load(Relaxed));
        now.saturating_duration_since(moved)
    }

    /// Waits until nothing is held; how much may be read at once then, if there are so many exchanges.
    pub(crate) fn poll_read_size(&self, exchanges: usize, waker: &Waker) -> Poll<usize> {
        if self.is_held() {
            let mut reader = self.reader();
            if self.is_held() {
                *reader = Some(waker.clone());
                return Poll::Pending;
            }
        }
        let held = self.budget.held();
        Poll::Ready(if held >= MUCH || self.budget.load() >= MemoryLoad::Heavy {
            READ_LEAST
        } else if self.taken.load(Relaxed) >= PROVEN {
            READ_MOST
        } else if exchanges <= FEW {
            READ
        } else {
            READ_LEAST
        })
    }

    fn reader(&self) -> MutexGuard<'_, Option<Waker>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moves(&self) {
        self.moved.store(self.begun.elapsed().as_millis() as u64, Relaxed);
    }

    fn hold(&self, cost: usize) {
        self.held.fetch_add(cost, Relaxed);
        self.budget.hold(cost);
        self.moves();
    }

    fn take(&self, bytes: usize) {
        self.taken.fetch_add(bytes as u64, Relaxed);
        self.moves();
    }

    fn release(&self, cost: usize) {
        self.budget.give_back(cost);
        if self.held.fetch_sub(cost, Relaxed) == cost
            && let Some(reader) = self.reader().take()
        {
            reader.wake();
        }
    }
}

/// A piece of a body, which is held as long as this is there. The exchange lasts as long.
#[derive(Debug)]
pub(crate) struct Chunk {
    bytes: Bytes,
    /// Whose it is; none if it is of an answer of l4way's own.
    of: Option<(Arc<Exchange>, Way)>,
    /// What it costs of the budget.
    cost: usize,
}

impl Chunk {
    /// A chunk of a body.
    pub(crate) fn new(bytes: Bytes, exchange: Arc<Exchange>, way: Way) -> Self {
        // The buffer that it was read into, and one for the next: hyper gets it before it can be read.
        let buffers = 2 * bytes.len().max(READ_LEAST + 1);
        let cost = if bytes.is_empty() { 0 } else { buffers + exchange.unread(way) };
        exchange.flow(way).hold(cost);
        Self { bytes, of: Some((exchange, way)), cost }
    }

    /// What l4way says itself.
    pub(crate) fn own(text: String) -> Self {
        Self { bytes: text.into(), of: None, cost: 0 }
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if let Some((exchange, way)) = &self.of {
            exchange.flow(*way).take(count);
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Some((exchange, way)) = &self.of {
            exchange.flow(*way).release(self.cost);
        }
    }
}
