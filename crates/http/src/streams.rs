//! The tasks of HTTP/2: hyper has one for each stream.

use std::sync::Arc;

use hyper::rt::Executor;
use tokio::{sync::Notify, task_local};

task_local! {
    static CURRENT: Arc<Notify>;
}

/// Runs streams so that each can be ended alone: hyper has no way to end one that waits for its client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streams;

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let end = Arc::new(Notify::new());
        let ended = end.clone();
        tokio::spawn(CURRENT.scope(end, async move {
            tokio::select! {
                _ = stream => {}
                // What is dropped is reset (CANCEL).
                () = ended.notified() => {}
            }
        }));
    }
}

/// What ends the stream that this is called in; none outside of HTTP/2.
pub(crate) fn current() -> Option<Arc<Notify>> {
    CURRENT.try_with(Arc::clone).ok()
}
