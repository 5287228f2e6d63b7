//! Work that may never end, such as a system call that asks a server that is gone.

use std::{
    collections::BTreeMap,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

/// How long to wait for an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait while others are late already, so that many of them don't add up.
const PATIENCE_WHEN_LATE: Duration = Duration::from_secs(1);
/// How many answers may be late, each with its thread. Further questions aren't asked then.
const MOST_LATE: usize = 8;

/// Answers questions on a thread beside, and waits only so long for each. An answer that comes later
/// is given to who asks again.
pub(crate) struct Patient<Q, A> {
    answer: fn(&Q) -> A,
    patience: [Duration; 2],
    thread: Option<Sender<Asked<Q, A>>>,
    late: BTreeMap<Q, Late<A>>,
}

/// A question, and where its answer goes.
type Asked<Q, A> = (Q, Sender<A>);

/// An answer that wasn't there in time.
struct Late<A> {
    coming: Receiver<A>,
    come: Option<A>,
    /// It was asked for again meanwhile, since something may have changed: it may be out of date.
    is_stale: bool,
}

impl<Q: Clone + Ord + Send + 'static, A: Send + 'static> Patient<Q, A> {
    pub(crate) fn new(answer: fn(&Q) -> A) -> Self {
        let patience = [PATIENCE, PATIENCE_WHEN_LATE];
        Self { answer, patience, thread: None, late: BTreeMap::new() }
    }

    /// The answer; `None` if it isn't there in time.
    pub(crate) fn ask(&mut self, question: &Q) -> Option<A> {
        if let Some(late) = self.late.get_mut(question) {
            if !late.has_come() {
                late.is_stale = true;
                return None;
            }
            let late = self.late.remove(question)?;
            if !late.is_stale {
                return late.come;
            }
        }
        if self.late.len() >= MOST_LATE {
            return None;
        }
        let (sender, coming) = mpsc::channel();
        if !self.send((question.clone(), sender)) {
            return Some((self.answer)(question));
        }
        let patience = self.patience[usize::from(!self.late.is_empty())];
        match coming.recv_timeout(patience) {
            Ok(answer) => Some(answer),
            // It has panicked.
            Err(RecvTimeoutError::Disconnected) => {
                self.thread = None;
                None
            }
            Err(RecvTimeoutError::Timeout) => {
                // Its thread ends when it has answered.
                self.thread = None;
                let late = Late { coming, come: None, is_stale: false };
                self.late.insert(question.clone(), late);
                None
            }
        }
    }

    /// Whether an answer has come that was late.
    pub(crate) fn has_news(&mut self) -> bool {
        // Each is looked at, or one that has come would hide the next.
        self.late.values_mut().filter_map(|late| late.has_come().then_some(())).count() > 0
    }

    /// Whether answers are late.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.late.is_empty()
    }

    /// Asks a thread; whether there is one.
    fn send(&mut self, asked: Asked<Q, A>) -> bool {
        if self.thread.is_none() {
            self.thread = start(self.answer);
        }
        self.thread.as_ref().is_some_and(|thread| thread.send(asked).is_ok())
    }
}

/// A thread that answers until nobody can ask it any more; `None` if the system gives no more threads.
fn start<Q: Send + 'static, A: Send + 'static>(answer: fn(&Q) -> A) -> Option<Sender<Asked<Q, A>>> {
    let (thread, asked) = mpsc::channel::<Asked<Q, A>>();
    let work = move || {
        for (question, sender) in asked {
            // Who has asked may be gone by now.
            drop(sender.send(answer(&question)));
        }
    };
    thread::Builder::new().name("file-read".to_owned()).spawn(work).ok().map(|_| thread)
}

impl<A> Late<A> {
    fn has_come(&mut self) -> bool {
        if self.come.is_none() {
            self.come = self.coming.try_recv().ok();
        }
        self.come.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    /// Which questions get no answer for now.
    struct Server {
        silent: Mutex<Vec<u32>>,
        changed: Condvar,
    }

    impl Server {
        const fn new() -> Self {
            Self { silent: Mutex::new(Vec::new()), changed: Condvar::new() }
        }

        fn is_silent_about(&self, questions: &[u32]) {
            *self.silent.lock().unwrap() = questions.to_vec();
            self.changed.notify_all();
        }

        fn answer(&self, question: u32) -> u32 {
            let silent = self.silent.lock().unwrap();
            drop(self.changed.wait_while(silent, |silent| silent.contains(&question)).unwrap());
            question * 10
        }
    }

    fn impatient(answer: fn(&u32) -> u32) -> Patient<u32, u32> {
        Patient { patience: [Duration::from_millis(10); 2], ..Patient::new(answer) }
    }

    fn until_news(patient: &mut Patient<u32, u32>) {
        while !patient.has_news() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn who_does_not_answer_keeps_nobody_else_waiting() {
        static SERVER: Server = Server::new();
        let mut patient = impatient(|question| SERVER.answer(*question));
        SERVER.is_silent_about(&[1]);
        assert_eq!(patient.ask(&1), None);
        assert!(patient.is_waiting() && !patient.has_news());
        while patient.ask(&2) != Some(20) {}
        SERVER.is_silent_about(&[]);
        until_news(&mut patient);
        assert_eq!(patient.ask(&1), Some(10));
        assert!(!patient.is_waiting());
    }

    #[test]
    fn an_answer_that_was_asked_for_again_is_asked_for_anew() {
        static SERVER: Server = Server::new();
        let mut patient = impatient(|question| SERVER.answer(*question));
        SERVER.is_silent_about(&[1]);
        assert_eq!((patient.ask(&1), patient.ask(&1)), (None, None));
        SERVER.is_silent_about(&[]);
        until_news(&mut patient);
        SERVER.is_silent_about(&[1]);
        assert_eq!(patient.ask(&1), None, "the old answer may be out of date");
        SERVER.is_silent_about(&[]);
        until_news(&mut patient);
        assert_eq!(patient.ask(&1), Some(10));
    }

    #[test]
    fn not_too_many_are_waited_for() {
        static SERVER: Server = Server::new();
        let mut patient = impatient(|question| SERVER.answer(*question));
        let all: Vec<u32> = (0..20).collect();
        SERVER.is_silent_about(&all);
        assert!(all.iter().all(|question| patient.ask(question).is_none()));
        assert_eq!(patient.late.len(), MOST_LATE);
        SERVER.is_silent_about(&[]);
        while !all.iter().all(|question| patient.ask(question) == Some(question * 10)) {
            thread::sleep(Duration::from_millis(1));
        }
    }
}
