//! Standard output and standard error of a process that serves: their readers may stall, and nobody
//! but a thread of their own waits for them.

use std::{
    io::{self, ErrorKind, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// How many bytes wait at most while others are written. What comes beyond is dropped.
const CAPACITY: usize = 1 << 20;
/// How long it takes until a reader is tried again that takes nothing now, where its pipe doesn't wait.
const RETRY: Duration = Duration::from_millis(20);
/// How long the end of the process waits for what is left to be written.
const FINISH: Duration = Duration::from_secs(2);

/// Where texts go to be written by another thread, each as a whole or not at all. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Outlet(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Something waits, or all is written.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    is_writing: bool,
    /// How many texts were dropped since it was last told.
    dropped: u64,
}

impl Outlet {
    /// Starts the thread that writes to `output`. Once it goes on after texts were dropped, `tell` is
    /// told how many; it may put a text itself.
    ///
    /// # Errors
    /// If the thread can't be started.
    pub(crate) fn start(
        name: &str,
        output: impl Write + Send + 'static,
        tell: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let writer = shared.clone();
        let write = move || writer.write_all(output, tell);
        thread::Builder::new().name(name.to_owned()).spawn(write)?;
        Ok(Self(shared))
    }

    /// Has a text written, unless too much waits.
    pub(crate) fn put(&self, text: &[u8]) {
        let mut state = self.0.state();
        if state.waiting.len() + text.len() > CAPACITY {
            state.dropped += 1;
            return;
        }
        state.waiting.extend_from_slice(text);
        drop(state);
        self.0.changed.notify_all();
    }

    /// Waits until all is written, but for a moment only. Whether it is.
    pub(crate) fn finish(&self) -> bool {
        let is_at_work = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        let waited = self.0.changed.wait_timeout_while(self.0.state(), FINISH, is_at_work);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is put, until the process ends.
    fn write_all(&self, mut output: impl Write, tell: impl Fn(u64)) {
        let mut batch = Vec::new();
        loop {
            let dropped = self.take(&mut batch);
            // What is told comes after what waited before the first was dropped.
            if dropped > 0 {
                tell(dropped);
            }
            write(&mut output, &batch);
        }
    }

    /// Takes what waits, once there is something, and how many texts were dropped after it.
    fn take(&self, batch: &mut Vec<u8>) -> u64 {
        batch.clear();
        let mut state = self.state();
        state.is_writing = false;
        self.changed.notify_all();
        let waits = |state: &mut State| state.waiting.is_empty();
        let mut state =
            self.changed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
        state.is_writing = true;
        mem::swap(&mut state.waiting, batch);
        mem::take(&mut state.dropped)
    }
}

/// Writes a batch, or gives it up if that can't be done.
fn write(output: &mut impl Write, mut batch: &[u8]) {
    while !batch.is_empty() {
        match output.write(batch) {
            Ok(0) => return,
            Ok(written) => batch = &batch[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(_) => return,
        }
    }
    let _ = output.flush();
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// An output whose reader takes what is written when the test does.
    struct Slow(Sender<Vec<u8>>, Receiver<()>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            self.1.recv().map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_reader_costs_texts_which_are_counted_in_their_place() {
        let (begun, written) = channel();
        let (go_on, told_to) = channel();
        let (tell, told) = channel();
        let tell = move |dropped| tell.send(dropped).unwrap();
        let outlet = Outlet::start("test", Slow(begun, told_to), tell).unwrap();
        outlet.put(b"first");
        assert_eq!(written.recv().unwrap(), b"first");
        outlet.put(b"second");
        outlet.put(&vec![b'x'; CAPACITY - 6]);
        outlet.put(b"dropped");
        outlet.put(b"dropped");
        assert!(!outlet.finish(), "the reader has stalled");
        go_on.send(()).unwrap();
        assert_eq!(told.recv().unwrap(), 2);
        outlet.put(b"third");
        let second = written.recv().unwrap();
        assert_eq!((&second[..6], second.len()), (&b"second"[..], CAPACITY));
        go_on.send(()).unwrap();
        assert_eq!(written.recv().unwrap(), b"third");
        go_on.send(()).unwrap();
        assert!(outlet.finish());
        assert!(told.try_recv().is_err(), "it is told once");
    }

    #[test]
    fn an_output_that_is_gone_stops_nothing() {
        let (begun, written) = channel();
        drop(written);
        let outlet = Outlet::start("test", Slow(begun, channel().1), |_| {}).unwrap();
        outlet.put(b"first");
        assert!(outlet.finish());
        outlet.put(b"second");
        assert!(outlet.finish());
    }
}
