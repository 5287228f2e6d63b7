//! Reads the contents that are wanted.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use kube::{Api, Client};
use l4way_resources::api::ObjectRef;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use crate::{
    backoff::Backoff,
    follow::{BELIEVED, Cause},
    kinds::Kind,
    object::Object,
    source::Shared,
    state::{Slot, read},
};

/// How many objects are read at once. Each may have more than 1 MiB.
const AT_ONCE: usize = 8;
const FIRST_RETRY: Duration = Duration::from_millis(50);
/// The longest pause before an object is tried again that the API server refuses.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// An object, or that there is none, or why it isn't known.
type Answer = Result<Option<Object>, Cause>;

/// Reads what is wanted until it is aborted.
pub(crate) async fn read_wanted(client: Client, shared: Arc<Shared>) {
    let mut reads = FuturesUnordered::new();
    let mut reader = Reader::new(shared.clone());
    loop {
        while reads.len() < AT_ONCE
            && let Some(object) = reader.next()
        {
            reads.push(get(client.clone(), object));
        }
        let retry_at = reader.retry_at();
        let retry = async {
            match retry_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((object, answer)) = reads.next() => reader.take(&object, answer),
            () = shared.wanted() => {}
            () = retry => reader.retry(),
        }
    }
}

async fn get(client: Client, object: ObjectRef) -> (ObjectRef, Answer) {
    let answer = get_one(client, &object).await;
    (object, answer)
}

async fn get_one(client: Client, object: &ObjectRef) -> Answer {
    let Some(kind) = Kind::named(&object.kind) else { return Ok(None) };
    let resource = kind.resource("v1");
    let api: Api<Object> = Api::namespaced_with(client, &object.key.namespace, &resource);
    api.get_opt(&object.key.name).await.map_err(|error| Cause::of(&error))
}

/// What becomes of answers.
struct Reader {
    shared: Arc<Shared>,
    /// Objects that the API server refuses.
    refused: BTreeMap<ObjectRef, Refused>,
    /// Nothing is read before this time: the API server can't be reached, or has too much to do.
    resume_at: Option<Instant>,
    pause: Backoff,
}

struct Refused {
    times: u32,
    retry_at: Option<Instant>,
    backoff: Backoff,
}

impl Reader {
    fn new(shared: Arc<Shared>) -> Self {
        let pause = Backoff::following();
        Self { shared, refused: BTreeMap::new(), resume_at: None, pause }
    }

    fn next(&self) -> Option<ObjectRef> {
        if self.resume_at.is_some() {
            return None;
        }
        self.shared.lock().next_wanted()
    }

    /// When something is to be tried again.
    fn retry_at(&self) -> Option<Instant> {
        let refused = self.refused.values().filter_map(|refused| refused.retry_at);
        refused.chain(self.resume_at).min()
    }

    fn retry(&mut self) {
        let now = Instant::now();
        self.resume_at = self.resume_at.filter(|at| *at > now);
        let mut state = self.shared.lock();
        self.refused.retain(|object, refused| {
            if refused.retry_at.is_none_or(|at| at > now) {
                return true;
            }
            refused.retry_at = None;
            state.retry(object)
        });
    }

    fn take(&mut self, object: &ObjectRef, answer: Answer) {
        let now = Instant::now();
        match answer {
            Ok(read) => self.answered(object, read),
            Err(Cause::Connection(error)) => {
                self.shared.connection.lost(&error);
                self.put_off(object, now);
            }
            Err(Cause::Status(429 | 503 | 504, error)) => {
                debug!(%object, error, "the API server has too much to do");
                self.put_off(object, now);
            }
            Err(Cause::Status(_, error) | Cause::Other(error)) => self.refuse(object, &error, now),
        }
    }

    fn answered(&mut self, object: &ObjectRef, answer: Option<Object>) {
        self.pause.reset();
        if self.refused.remove(object).is_some_and(|refused| refused.times >= BELIEVED) {
            info!(%object, "can be read now");
        }
        let read = answer.and_then(|answer| {
            let kind = Kind::named(&object.kind)?;
            Some(read(Slot::Kind(kind.name), &kind.resource("v1"), answer))
        });
        self.shared.update(|state| state.take_contents(object, read));
    }

    /// Everybody waits for the API server.
    fn put_off(&mut self, object: &ObjectRef, now: Instant) {
        let mut state = self.shared.lock();
        state.read_failed(object);
        state.retry(object);
        self.resume_at = Some(now + self.pause.delay(now));
    }

    fn refuse(&mut self, object: &ObjectRef, error: &str, now: Instant) {
        let refused = self.refused.entry(object.clone()).or_insert_with(|| Refused {
            times: 0,
            retry_at: None,
            backoff: Backoff::new(FIRST_RETRY, LAST_RETRY),
        });
        refused.times += 1;
        refused.retry_at = Some(now + refused.backoff.delay(now));
        self.shared.lock().read_failed(object);
        if refused.times < BELIEVED {
            return;
        }
        if refused.times == BELIEVED {
            warn!(
                %object, error,
                "can't be read; it is tried again. Let l4way's service account `get` it, if that is what \
                 is missing"
            );
        }
        self.shared.update(|state| state.give_up(object, error));
    }
}
