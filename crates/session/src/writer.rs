use std::{collections::BTreeMap, sync::Arc};

/// Writer of rows: one thread, which therefore needs no locked instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Writer {
    /// A worker, by its number.
    Worker(usize),
    /// The thread that serves HTTP and HTTPS.
    Http,
    /// The one that counts the sessions which the kernel carries.
    Kernel,
}

/// Rows that are about the same, one for each writer that has asked for its own.
#[derive(Debug)]
pub(crate) struct ByWriter<T>(BTreeMap<Writer, Arc<T>>);

impl<T> Default for ByWriter<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> ByWriter<T> {
    /// The writer's row, which `new` makes if it is the first to ask.
    pub(crate) fn get(&mut self, writer: Writer, new: impl FnOnce() -> T) -> Arc<T> {
        self.0.entry(writer).or_insert_with(|| Arc::new(new())).clone()
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &T> {
        self.0.values().map(|row| &**row)
    }

    /// True while a writer has its row.
    pub(crate) fn is_used(&self) -> bool {
        self.0.values().any(|row| Arc::strong_count(row) > 1)
    }
}
