//! Threads that can be asked for a sign of life.

use std::{
    fmt,
    sync::{Arc, mpsc},
};

/// A thread that answers when it gets to it. Cheap to clone.
#[derive(Clone)]
pub struct Heart {
    name: Arc<str>,
    ask: Arc<dyn Fn(mpsc::Sender<()>) + Send + Sync>,
}

impl Heart {
    /// The heart of the thread of this name. `ask` has the thread drop what it is given, or drops it at
    /// once if the thread has ended. It never waits.
    pub fn new(
        name: impl Into<Arc<str>>,
        ask: impl Fn(mpsc::Sender<()>) + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), ask: Arc::new(ask) }
    }

    /// The thread's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Asks for a sign of life. Nothing is ever received: once the thread has got to it, or has ended as it
    /// was to, the channel is disconnected.
    pub fn ask(&self) -> mpsc::Receiver<()> {
        let (answer, answered) = mpsc::channel();
        (self.ask)(answer);
        answered
    }
}

impl fmt::Debug for Heart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Heart").field(&self.name).finish()
    }
}
