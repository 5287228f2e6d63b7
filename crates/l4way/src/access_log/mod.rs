//! The access log: one JSON object a line for each session that ended.
//!
//! The proxy's workers put records into a bounded channel and never wait; a thread of its own writes
//! what has come, in batches as large as the records come fast. Only that thread ever waits for a
//! reader, such as that of a FIFO. `docs/access-log.md` lists the fields.

mod line;
mod switch;

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use l4way_session::SessionRecord;
use rustix::fs::OFlags;
use tracing::{error, info};

pub(crate) use self::switch::Switch;

/// How many records wait at most while others are written; the proxy drops what comes beyond.
const QUEUE: usize = 16_384;
/// How long records gather after some have been written: a thread that waits for each has workers wake it
/// for each.
const GATHER: Duration = Duration::from_millis(5);
/// How long the end of the process waits while nothing is written.
const FINISH: Duration = Duration::from_secs(2);
/// How long it takes until a reader is tried again that takes nothing now.
const RETRY: Duration = Duration::from_millis(20);
/// How much is written at once, at most a line more.
const BATCH_BYTES: usize = 64 * 1024;

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Standard output.
    Stdout,
    /// This file, at its end.
    File(PathBuf),
}

/// The running access log. Its thread ends when every sender of records is gone.
#[derive(Debug)]
struct AccessLog {
    output: Output,
    shared: Arc<Shared>,
    /// Has nothing more when the thread has ended, and something for each batch.
    progress: Receiver<()>,
}

/// What the thread shares with the handle.
struct Shared {
    /// What is to be written to from now on, once the thread has taken it.
    reopened: Mutex<Option<Sink>>,
    unwritten: Arc<AtomicU64>,
}

/// An open output.
struct Sink {
    writer: Box<dyn Write + Send>,
    /// Whether what was written last ends within a line.
    torn: bool,
}

impl AccessLog {
    /// Opens the output; returns the log, and where to put the records for it. Records that can't be
    /// written are counted in `unwritten`.
    ///
    /// # Errors
    /// If the file can't be opened, or no thread started.
    fn start(
        output: Output,
        unwritten: Arc<AtomicU64>,
    ) -> io::Result<(Self, SyncSender<SessionRecord>)> {
        let sink = output.open()?;
        let shared = Arc::new(Shared { reopened: Mutex::default(), unwritten });
        let (sender, records) = sync_channel(QUEUE);
        let (written, progress) = sync_channel(1);
        let mut writer = Writer { shared: shared.clone(), sink, written, failing: false };
        thread::Builder::new()
            .name("access-log".into())
            .spawn(move || writer.write_all(&records))?;
        Ok((Self { output, shared, progress }, sender))
    }

    /// Opens the file again, by its name: after it was moved away, as logrotate(8) does, further
    /// records go to a new one, also if the old one's reader has stalled. Standard output stays as it is.
    ///
    /// # Errors
    /// If the file can't be opened. Then the old one stays in use.
    fn reopen(&self) -> io::Result<()> {
        if let Output::File(_) = self.output {
            *self.shared.reopened() = Some(self.output.open()?);
        }
        Ok(())
    }

    /// Waits until the last record is written, or the log's reader has stalled. Every sender has to
    /// be gone, or to go meanwhile.
    fn finish(self) {
        loop {
            match self.progress.recv_timeout(FINISH) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    error!("the access log isn't read: its last records are lost");
                    return;
                }
            }
        }
    }
}

impl Output {
    /// The output that a path on the command line means: `-` is standard output.
    pub(crate) fn of(path: &Path) -> Self {
        if path.as_os_str() == "-" { Self::Stdout } else { Self::File(path.to_owned()) }
    }

    fn open(&self) -> io::Result<Sink> {
        let writer: Box<dyn Write + Send> = match self {
            Self::Stdout => Box::new(io::stdout()),
            Self::File(path) => Box::new(open(path)?),
        };
        Ok(Sink { writer, torn: false })
    }
}

/// Opens a file, without ever waiting: the reader of a FIFO may come later, and come and go.
fn open(path: &Path) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    match fs::metadata(path) {
        // Open for reading, too, it needs no reader, and keeps for the next what the last has left
        // (fifo(7)).
        Ok(file) if file.file_type().is_fifo() => options.read(true).write(true),
        _ => options.create(true).append(true),
    };
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    options.custom_flags(flags).open(path).map_err(|error| {
        io::Error::new(error.kind(), format!("access log {}: {error}", path.display()))
    })
}

impl Shared {
    fn reopened(&self) -> MutexGuard<'_, Option<Sink>> {
        self.reopened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("unwritten", &self.unwritten).finish_non_exhaustive()
    }
}

/// The thread's side.
struct Writer {
    shared: Arc<Shared>,
    sink: Sink,
    /// Gets something for each batch, if it is taken.
    written: SyncSender<()>,
    /// Whether the last write failed, which is said once.
    failing: bool,
}

impl Writer {
    /// Writes records as they come, until there are no more senders.
    fn write_all(&mut self, records: &Receiver<SessionRecord>) {
        let mut batch = Vec::new();
        while let Ok(first) = records.recv() {
            batch.clear();
            line::append(&mut batch, &first);
            while batch.len() < BATCH_BYTES
                && let Ok(next) = records.try_recv()
            {
                line::append(&mut batch, &next);
            }
            self.write(&batch);
            let _ = self.written.try_send(());
            if batch.len() < BATCH_BYTES {
                thread::sleep(GATHER);
            }
        }
    }

    /// Writes a batch, or as much of it as can be; counts the lines that can't.
    fn write(&mut self, mut batch: &[u8]) {
        let (written, result) = loop {
            if let Some(sink) = self.shared.reopened().take() {
                self.sink = sink;
            }
            let shared = &self.shared;
            let (written, result) = self.sink.append(batch, || shared.reopened().is_none());
            match result {
                // The reader takes nothing, and there is another place by now.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    batch = &batch[start_of_line(batch, written)..];
                }
                result => break (written, result),
            }
        };
        let unwritten = batch[written..].iter().filter(|byte| **byte == b'\n').count();
        self.shared.unwritten.fetch_add(unwritten as u64, Relaxed);
        match result {
            Ok(()) if self.failing => info!("the access log is written again"),
            Err(error) if !self.failing => {
                error!(%error, "the access log can't be written: its records are dropped");
            }
            _ => {}
        }
        self.failing = unwritten > 0;
    }
}

/// Where the line begins of which the first `written` bytes have a part.
fn start_of_line(lines: &[u8], written: usize) -> usize {
    lines[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

impl Sink {
    /// Writes whole lines, after what an error may have left of the last one; tells how much it
    /// wrote. It waits for a reader as long as it `may_wait`.
    fn append(&mut self, lines: &[u8], may_wait: impl Fn() -> bool) -> (usize, io::Result<()>) {
        if self.torn
            && let (_, Err(error)) = self.write(b"\n", &may_wait)
        {
            return (0, Err(error));
        }
        self.write(lines, &may_wait)
    }

    fn write(&mut self, bytes: &[u8], may_wait: &impl Fn() -> bool) -> (usize, io::Result<()>) {
        let mut written = 0;
        let mut result = Ok(());
        while written < bytes.len() && result.is_ok() {
            match self.writer.write(&bytes[written..]) {
                Ok(0) => result = Err(ErrorKind::WriteZero.into()),
                Ok(length) => written += length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && may_wait() => {
                    thread::sleep(RETRY);
                }
                Err(error) => result = Err(error),
            }
        }
        if let Some(last) = bytes[..written].last() {
            self.torn = *last != b'\n';
        }
        (written, result.and_then(|()| self.writer.flush()))
    }
}

#[cfg(test)]
mod tests;
