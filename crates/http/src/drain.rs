//! When connections have to end.

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// Tells a socket's connections to end.
#[derive(Debug)]
pub(crate) struct Drain(watch::Sender<Option<Instant>>);

/// A connection's side of a [`Drain`].
#[derive(Clone, Debug)]
pub(crate) struct Drained(watch::Receiver<Option<Instant>>);

impl Drain {
    pub(crate) fn new() -> Self {
        Self(watch::channel(None).0)
    }

    /// Has them end until `deadline`, or the one that they were given before if that is earlier.
    pub(crate) fn begin(&self, deadline: Instant) {
        self.0.send_modify(|known| *known = Some(known.map_or(deadline, |at| at.min(deadline))));
    }

    /// Lets those that are left go on, whatever deadline they had: what they came by is back. Most end
    /// after their requests all the same.
    pub(crate) fn take_back(&self) {
        self.0.send_replace(None);
    }

    /// The side of one connection more, or of a socket.
    pub(crate) fn drained(&self) -> Drained {
        Drained(self.0.subscribe())
    }

    /// Whether nobody is left to be told.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_closed()
    }
}

impl Drained {
    /// Waits until the drain begins.
    pub(crate) async fn begun(&mut self) {
        if self.0.wait_for(Option::is_some).await.is_err() {
            // The control side is gone, and the runtime is about to be.
            std::future::pending().await
        }
    }

    /// Waits until the drain's deadline has passed.
    pub(crate) async fn expired(&mut self) {
        loop {
            self.begun().await;
            let deadline = *self.0.borrow_and_update();
            let Some(deadline) = deadline else { continue };
            tokio::select! {
                () = sleep_until(deadline) => return,
                Ok(()) = self.0.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_deadline_only_comes_nearer_until_it_is_taken_back() {
        let drain = Drain::new();
        let drained = drain.drained();
        let now = Instant::now();
        let deadline = || *drained.0.borrow();
        assert_eq!(deadline(), None);
        drain.begin(now + Duration::from_secs(2));
        drain.begin(now + Duration::from_secs(1));
        drain.begin(now + Duration::from_secs(3));
        assert_eq!(deadline(), Some(now + Duration::from_secs(1)));
        drain.take_back();
        assert_eq!(deadline(), None);
        drain.begin(now + Duration::from_secs(4));
        assert_eq!(deadline(), Some(now + Duration::from_secs(4)));
        drop(drained);
        assert!(drain.is_over());
    }
}
