//! How many sessions endpoints have: each worker knows its own.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use l4way_model::{BackendId, EndpointPlace};

use crate::{mailbox::Sender, routes::Backends, worker::Command};

/// Asks the workers how many sessions endpoints have, TCP and UDP. For any thread but a worker's. Cheap to
/// share.
#[derive(Clone, Debug)]
pub struct EndpointSessions {
    mailboxes: Arc<[Sender<Command>]>,
}

/// Endpoints by their backends, each with its position in the question.
#[derive(Debug)]
pub(crate) struct Question(BTreeMap<BackendId, Vec<(usize, EndpointPlace)>>);

/// The sessions of endpoints that have any, by their positions in the question.
pub(crate) type Answer = Vec<(usize, u32)>;

impl EndpointSessions {
    pub(crate) fn new(mailboxes: &[Sender<Command>]) -> Self {
        Self { mailboxes: mailboxes.into() }
    }

    /// How many sessions each of these endpoints has, in the same order: 0 where the table has changed.
    /// `None` if a worker doesn't answer within that time. A worker looks at each endpoint that is asked
    /// for, so ask for some thousand at a time at most.
    pub fn count(&self, endpoints: &[EndpointPlace], within: Duration) -> Option<Vec<u64>> {
        let deadline = Instant::now() + within;
        let mut by_backend = BTreeMap::<_, Vec<_>>::new();
        for (position, place) in endpoints.iter().enumerate() {
            let of = by_backend.entry(place.backend.clone()).or_default();
            of.push((position, place.clone()));
        }
        let question = Arc::new(Question(by_backend));
        let (answer, answers) = mpsc::channel();
        for mailbox in &*self.mailboxes {
            let (question, answer) = (question.clone(), answer.clone());
            // A worker that has ended has no sessions.
            let _ = mailbox.send(Command::EndpointSessions { question, answer });
        }
        drop(answer);
        let mut counts = vec![0; endpoints.len()];
        loop {
            match answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(of_worker) => {
                    let of_worker: Answer = of_worker;
                    of_worker.iter().for_each(|(position, n)| counts[*position] += u64::from(*n));
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return Some(counts),
                Err(mpsc::RecvTimeoutError::Timeout) => return None,
            }
        }
    }
}

impl Question {
    /// What a worker with these backends answers.
    pub(crate) fn answer(&self, backends: &Backends) -> Answer {
        let mut answer = Answer::new();
        for of_backend in backends.iter() {
            let Some(first) = of_backend.first() else { continue };
            for (position, place) in self.0.get(first.of().backend).into_iter().flatten() {
                let upstream = of_backend.get(place.index);
                let upstream = upstream.filter(|upstream| upstream.address == place.address);
                let sessions = upstream.map_or(0, |upstream| upstream.sessions());
                if sessions > 0 {
                    answer.push((*position, sessions));
                }
            }
        }
        answer
    }
}
