//! Whether the threads that carry sessions still get to what they are told.
//!
//! Nobody looks at a clock: who asks counts its own steps. A process that is stopped, moved or has no
//! processor for minutes counts one at most, and so is not taken for one that hangs.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError},
    },
    time::Duration,
};

use l4way_host::Heart;
use tokio::{
    sync::watch,
    time::{self, MissedTickBehavior},
};

/// How far apart steps are at least.
const STEP: Duration = Duration::from_secs(1);
/// After how many steps without an answer a thread counts as one that hangs.
const PATIENCE: u32 = 30;

/// The names of the threads that hang.
pub(crate) type Hanging = Vec<Arc<str>>;

/// Asks threads for signs of life.
pub(crate) struct Heartbeats<F> {
    /// The threads that there are.
    hearts: F,
    asked: BTreeMap<Arc<str>, Asked>,
}

/// What a thread was asked last.
struct Asked {
    answered: Receiver<()>,
    /// How many steps ago.
    steps: u32,
}

impl Asked {
    fn hangs(&self) -> bool {
        self.steps >= PATIENCE
    }
}

impl<F: Fn() -> Vec<Heart>> Heartbeats<F> {
    /// Of the threads that `hearts` gives.
    pub(crate) fn of(hearts: F) -> Self {
        Self { hearts, asked: BTreeMap::new() }
    }

    /// Asks until the process ends. `hanging` gets the threads that hang, and the log their names.
    pub(crate) async fn watch(mut self, hanging: watch::Sender<Hanging>) {
        let mut steps = time::interval(STEP);
        steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            steps.tick().await;
            self.step();
            let now = self.hanging();
            hanging.send_if_modified(|before| {
                tell(before, &now);
                let changed = *before != now;
                *before = now;
                changed
            });
        }
    }

    /// Looks at the answers, and asks those again who have answered.
    fn step(&mut self) {
        for heart in (self.hearts)() {
            match self.asked.get_mut(heart.name()) {
                Some(asked) if asked.answered.try_recv() == Err(TryRecvError::Empty) => {
                    asked.steps += 1;
                }
                _ => {
                    let asked = Asked { answered: heart.ask(), steps: 0 };
                    self.asked.insert(heart.name().clone(), asked);
                }
            }
        }
    }

    fn hanging(&self) -> Hanging {
        let hanging = self.asked.iter().filter(|(_, asked)| asked.hangs());
        hanging.map(|(name, _)| name.clone()).collect()
    }
}

fn tell(before: &Hanging, now: &Hanging) {
    for name in now.iter().filter(|name| !before.contains(name)) {
        tracing::error!(
            thread = &**name,
            "a thread has done nothing for {PATIENCE} s: /healthz fails until it goes on"
        );
    }
    for name in before.iter().filter(|name| !now.contains(name)) {
        tracing::info!(
            thread = &**name,
            "the thread goes on: /healthz doesn't fail for it any more"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    /// A thread that gets to what it is told when the test lets it.
    #[derive(Clone, Default)]
    struct Slow(Arc<Mutex<Vec<mpsc::Sender<()>>>>);

    impl Slow {
        fn heart(&self) -> Heart {
            let asked = self.0.clone();
            Heart::new("slow", move |answer| asked.lock().unwrap().push(answer))
        }

        fn answer(&self) {
            self.0.lock().unwrap().clear();
        }
    }

    #[test]
    fn a_thread_hangs_once_it_has_not_answered_for_so_many_steps() {
        let slow = Slow::default();
        let quick = Heart::new("quick", drop);
        let hearts = [slow.heart(), quick];
        let mut heartbeats = Heartbeats::of(move || hearts.to_vec());
        // It is asked in the first.
        for _ in 0..PATIENCE {
            heartbeats.step();
            assert_eq!(heartbeats.hanging(), Hanging::new());
        }
        heartbeats.step();
        assert_eq!(heartbeats.hanging(), [Arc::from("slow")]);
        assert_eq!(slow.0.lock().unwrap().len(), 1, "it is asked once, however long it takes");
        slow.answer();
        heartbeats.step();
        assert_eq!(heartbeats.hanging(), Hanging::new());
        // Answers that come late, but come, are enough.
        for _ in 0..3 {
            (1..PATIENCE).for_each(|_| heartbeats.step());
            slow.answer();
            heartbeats.step();
            assert_eq!(heartbeats.hanging(), Hanging::new());
        }
    }
}
