//! What the controller knows of one Gateway, and what is under way for it.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use l4way_model::BackendId;
use l4way_resources::api::{GatewayParametersSpec, LogParameters};
use l4way_translate::{Compiled, Provision};
use serde_json::Value;

use super::{
    apply::Failure,
    cluster::Owner,
    former::Former,
    objects::{self, Common, Object, PodId, Settings},
    plan::{self, Documents},
};
use crate::delivery::{Contents, Delivery, Logs, pack};

/// How long a configuration may go unconfirmed before that is told.
pub(crate) const CONFIRM_WITHIN: Duration = Duration::from_secs(3);

const FIRST_RETRY: Duration = Duration::from_millis(250);
/// The longest pause before what was refused is tried again, for somebody has to change something.
const REFUSED_RETRY: Duration = Duration::from_secs(30);
/// The longest pause before what may pass, such as an API server that is away, is tried again.
const LAST_RETRY: Duration = Duration::from_secs(2);

/// Requests of one kind for a Gateway: at most one series at a time, later and later after failures.
#[derive(Debug, Default)]
pub(crate) struct Work {
    running: bool,
    failures: u32,
    retry_at: Option<Instant>,
    /// Why the last series failed.
    pub(crate) failure: Option<Failure>,
}

impl Work {
    /// Whether requests may be made now.
    pub(crate) fn may_start(&self, now: Instant) -> bool {
        !self.running && self.retry_at.is_none_or(|at| at <= now)
    }

    /// Whether requests are under way.
    pub(crate) fn is_running(&self) -> bool {
        self.running
    }

    /// Requests are being made.
    pub(crate) fn start(&mut self) {
        self.running = true;
    }

    /// The requests have ended. Whether the failure is news.
    pub(crate) fn end(&mut self, failure: Option<Failure>, now: Instant) -> bool {
        self.running = false;
        let news = failure.is_some() && failure != self.failure;
        if let Some(failure) = &failure {
            let longest = if failure.is_refusal { REFUSED_RETRY } else { LAST_RETRY };
            let delay = FIRST_RETRY.saturating_mul(1 << self.failures.min(10)).min(longest);
            self.retry_at = Some(now + delay);
            self.failures += 1;
        } else {
            self.retry_at = None;
            self.failures = 0;
        }
        self.failure = failure;
        news
    }

    /// What was asked for has changed: it may fare better.
    fn forgive(&mut self) {
        self.retry_at = None;
        self.failures = 0;
    }

    /// When something is to be tried again.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retry_at.filter(|_| !self.running)
    }
}

/// One Gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) provision: Provision,
    pub(crate) owner: Owner,
    /// Backends that its proxies may have sessions with though no route names them.
    pub(crate) former: Former,
    /// What its proxies are told, or why there is nothing.
    pub(crate) documents: Result<Documents, String>,
    /// When a change was seen that has yet to be delivered.
    changed_at: Option<Instant>,
    /// The Secrets in which the configuration was found.
    secrets: Vec<Arc<Value>>,
    /// Its objects and what is laid over its pods, sealed, for these pods.
    made: Option<Made>,
    pub(crate) delivery: Work,
    pub(crate) infrastructure: Work,
    /// What was said last about its Service, and when to ask again.
    pub(crate) warning: Warning,
    unconfirmed: Option<(String, Instant)>,
    /// Since when it has had no address.
    pub(crate) pending_since: Option<Instant>,
}

#[derive(Debug)]
struct Made {
    pods: Vec<PodId>,
    objects: Vec<Object>,
    overlays: Vec<Object>,
}

/// What others say about a Gateway's Service, in Events.
#[derive(Debug, Default)]
pub(crate) struct Warning {
    pub(crate) text: Option<Arc<str>>,
    work: Work,
    asked: u32,
}

impl Gateway {
    /// A Gateway that was seen first now.
    pub(crate) fn new(provision: Provision, requires: &BTreeSet<String>, now: Instant) -> Self {
        let mut former = Former::default();
        former.follow(&provision.compiled.backends, |_| true, now);
        Self {
            owner: Owner::of(&Common::new(&provision)),
            documents: documents(&provision, &former, requires),
            former,
            provision,
            changed_at: Some(now),
            secrets: Vec::new(),
            made: None,
            delivery: Work::default(),
            infrastructure: Work::default(),
            warning: Warning::default(),
            unconfirmed: None,
            pending_since: None,
        }
    }

    /// Takes over what is asked for now. `is_there` tells of backends that aren't named any more.
    pub(crate) fn follow(
        &mut self,
        provision: Provision,
        is_there: impl Fn(&BackendId) -> bool,
        requires: &BTreeSet<String>,
        now: Instant,
    ) {
        let is_one_gone = self.former.follow(&provision.compiled.backends, is_there, now);
        if provision == self.provision && !is_one_gone {
            return;
        }
        let logs_differ = logs(&provision.parameters) != logs(&self.provision.parameters);
        if provision.compiled != self.provision.compiled || logs_differ || is_one_gone {
            self.documents = documents(&provision, &self.former, requires);
            self.changed_at.get_or_insert(now);
            self.delivery.forgive();
        }
        // Its labels are on the Secrets, too.
        self.secrets.clear();
        self.owner = Owner::of(&Common::new(&provision));
        self.provision = provision;
        self.made = None;
        self.infrastructure.forgive();
    }

    /// Whether its configuration was found in just these Secrets.
    pub(crate) fn is_delivered_in(&self, secrets: &[Arc<Value>]) -> bool {
        !secrets.is_empty()
            && self.secrets.len() == secrets.len()
            && self.secrets.iter().zip(secrets).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    /// Its configuration is in these Secrets; since when it was not.
    pub(crate) fn delivered(&mut self, secrets: Vec<Arc<Value>>) -> Option<Instant> {
        self.secrets = secrets;
        self.changed_at.take()
    }

    /// Its objects and what is laid over its pods, sealed. `is_marked` tells of pods over which
    /// something was laid before.
    pub(crate) fn made(
        &mut self,
        settings: &Settings,
        pods: Vec<PodId>,
        is_marked: impl Fn(&PodId) -> bool,
    ) -> (&[Object], &[Object]) {
        let made = match self.made.take() {
            Some(made) if made.pods == pods => made,
            _ => make(&self.provision, settings, pods, is_marked),
        };
        let made = self.made.insert(made);
        (&made.objects, &made.overlays)
    }

    /// Since when some proxy has still to confirm this delivery.
    pub(crate) fn unconfirmed(&mut self, delivery: &str, now: Instant) -> Instant {
        match &self.unconfirmed {
            Some((same, since)) if same == delivery => *since,
            _ => {
                self.unconfirmed = Some((delivery.to_owned(), now));
                now
            }
        }
    }

    /// All have confirmed it.
    pub(crate) fn confirmed(&mut self) {
        self.unconfirmed = None;
    }

    /// When to look at it again though nothing changes.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let told = self.unconfirmed.as_ref().map(|(_, since)| *since + CONFIRM_WITHIN);
        [
            told.filter(|at| *at > now),
            self.delivery.retry_at(),
            self.infrastructure.retry_at(),
            self.warning.work.retry_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

impl Warning {
    /// Whether to ask now for what is said about the Service.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.work.may_start(now)
    }

    pub(crate) fn start(&mut self) {
        self.work.start();
    }

    /// This was said last. It is asked for again, later and later.
    pub(crate) fn end(&mut self, text: Option<String>, now: Instant) {
        self.text = text.map(Into::into);
        self.work.end(None, now);
        let delay = Duration::from_secs(1 << self.asked.min(6));
        self.work.retry_at = Some(now + delay);
        self.asked += 1;
    }
}

fn documents(
    provision: &Provision,
    former: &Former,
    requires: &BTreeSet<String>,
) -> Result<Documents, String> {
    let Compiled { config, backends } = &provision.compiled;
    let mut backends = Cow::Borrowed(backends);
    if former.gone().next().is_some() {
        backends.to_mut().extend(former.gone());
    }
    let logs = logs(&provision.parameters);
    let contents = Contents { config, backends: &backends, logs: &logs, requires };
    let (config, keys) = Delivery::new(contents);
    let config = pack(&config).map_err(|error| error.to_string())?;
    let keys = (!keys.is_empty()).then(|| pack(&keys)).transpose();
    Ok(Documents { config, keys: keys.map_err(|error| error.to_string())? })
}

fn logs(parameters: &GatewayParametersSpec) -> Logs {
    let defaults = Logs::default();
    let LogParameters { level, format } = parameters.log.clone().unwrap_or_default();
    let lower = |name: Option<Arc<str>>| name.map(|name| name.to_lowercase().into());
    Logs {
        level: lower(level).unwrap_or(defaults.level),
        format: lower(format).unwrap_or(defaults.format),
        access_log: parameters.access_log.as_deref() == Some("Stdout"),
    }
}

fn make(
    provision: &Provision,
    settings: &Settings,
    pods: Vec<PodId>,
    is_marked: impl Fn(&PodId) -> bool,
) -> Made {
    let mut objects = objects::desired(provision, settings, &pods);
    let asks = !provision.labels.is_empty() || !provision.annotations.is_empty();
    let overlaid = pods.iter().filter(|pod| asks || is_marked(pod));
    let mut overlays: Vec<_> = overlaid.map(|pod| objects::pod_metadata(provision, pod)).collect();
    objects.iter_mut().chain(&mut overlays).for_each(plan::seal);
    Made { pods, objects, overlays }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_tried_again_later_and_later() {
        let failed = |is_refusal| {
            Some(Failure { message: "no".to_owned(), is_refusal, reason: "forbidden" })
        };
        let failure = || failed(true);
        let mut work = Work::default();
        let now = Instant::now();
        assert!(work.may_start(now));
        work.start();
        assert!(!work.may_start(now));
        assert!(work.end(failure(), now), "the first is news");
        assert!(!work.may_start(now) && work.may_start(now + FIRST_RETRY));
        assert!(!work.end(failure(), now), "the same again isn't");
        assert_eq!(work.retry_at(), Some(now + 2 * FIRST_RETRY));
        work.forgive();
        assert!(work.may_start(now));
        for _ in 0..40 {
            work.end(failure(), now);
        }
        assert_eq!(work.retry_at(), Some(now + REFUSED_RETRY));
        work.end(failed(false), now);
        assert_eq!(work.retry_at(), Some(now + LAST_RETRY));
        work.end(None, now);
        assert_eq!(work.retry_at(), None);
    }
}
