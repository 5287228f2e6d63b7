//! What the controller knows of one Gateway, and what is under way for it.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use l4way_delivery::{Contents, Delivery, KeyPairs, Logs, pack};
use l4way_model::{BackendId, BackendSource, SessionTerms};
use l4way_resources::api::{GatewayParametersSpec, LogParameters};
use l4way_translate::{Compiled, Provision};
use serde_json::Value;

use super::{
    former::Former,
    kept::kept,
    objects::{self, Common, Leaving, Object, ObjectNames, PodId, Settings},
    observe::{self, Standing},
    ownership::{Owned, Owner},
    plan::{self, Documents},
    work::Work,
};
use crate::clock;

/// How long a configuration may go unconfirmed before that is told.
pub(crate) const CONFIRM_WITHIN: Duration = Duration::from_secs(3);

/// One Gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) provision: Provision,
    pub(crate) owner: Owner,
    /// What its objects are called.
    pub(crate) names: ObjectNames,
    /// Backends that its proxies may have sessions with though no route names them.
    pub(crate) former: Former,
    /// What its proxies are told, or why there is nothing.
    pub(crate) documents: Result<Documents, String>,
    /// While it isn't accepted: what its proxies go on carrying, once that is known.
    kept: Option<Box<Provision>>,
    /// When a change was seen that has yet to be delivered.
    changed_at: Option<Instant>,
    /// The Secrets in which the configuration was found.
    secrets: Vec<Arc<Value>>,
    /// Its objects and what is laid over its pods, sealed, for these pods and ports.
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
    leaving: Leaving,
    objects: Vec<Object>,
    overlays: Vec<Object>,
}

/// What others say about a Gateway's Service, in Events.
#[derive(Debug, Default)]
pub(crate) struct Warning {
    pub(crate) text: Option<Arc<str>>,
    is_asking: bool,
    ask_at: Option<Instant>,
    asked: u32,
}

impl Gateway {
    /// A Gateway that was seen first now.
    pub(crate) fn new(provision: Provision, requires: &BTreeSet<String>, now: Instant) -> Self {
        let mut former = Former::default();
        former.follow(&provision.compiled.backends, |_| true, now);
        Self {
            owner: Owner::new(provision.gateway.namespace.clone(), provision.uid.clone()),
            names: ObjectNames::new(&provision.gateway.name, &provision.class),
            documents: documents(&provision, &former, requires),
            kept: None,
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
        let was_kept = self.kept.take().is_some();
        let is_other = provision.compiled != self.provision.compiled
            || provision.may_run != self.provision.may_run;
        if is_other || logs_differ || is_one_gone || was_kept {
            self.documents = documents(&provision, &self.former, requires);
            self.changed_at.get_or_insert(now);
            self.delivery.forgive(now);
        }
        // Its labels are on the Secrets, too.
        self.secrets.clear();
        if provision.class != self.provision.class {
            self.names = ObjectNames::new(&provision.gateway.name, &provision.class);
        }
        self.provision = provision;
        self.made = None;
        self.infrastructure.forgive(now);
    }

    /// Chooses the names of its objects by what it has. `comes_second` is whether another Gateway has the same plain
    /// name and goes first.
    pub(crate) fn choose_names(&mut self, owned: &Owned, comes_second: bool) {
        if self.names.choose(owned, comes_second) {
            self.secrets.clear();
            self.made = None;
        }
    }

    /// What all its objects have in common.
    pub(crate) fn common(&self) -> Common<'_> {
        Common::new(&self.provision, &self.names)
    }

    /// What its proxies carry: what is asked for or, while it isn't accepted, what is kept of what they
    /// carried before.
    pub(crate) fn carried(&self) -> &Provision {
        self.kept.as_deref().unwrap_or(&self.provision)
    }

    /// Whether there is something to deliver.
    pub(crate) fn may_deliver(&self) -> bool {
        self.provision.may_run || self.kept.is_some()
    }

    /// Reads, if it isn't accepted, what was delivered to its proxies, and keeps of it what holds still.
    ///
    /// # Errors
    /// If that can't be read, which is news.
    pub(crate) fn keep(
        &mut self,
        owned: &Owned,
        requires: &BTreeSet<String>,
    ) -> Result<(), String> {
        let names = &self.names.documents;
        if self.provision.may_run || self.kept.is_some() || !plan::is_written(names, owned) {
            return Ok(());
        }
        let read = plan::delivered::<Delivery>(names, owned).and_then(|delivery| {
            let there = plan::delivered::<KeyPairs>(names, owned).unwrap_or_default();
            let pairs = KeyPairs::of(&self.provision.compiled.config).or(&there);
            let config = delivery.config(&pairs, SessionTerms::default());
            config.map(|config| (delivery, config)).map_err(|error| format!("{error:?}"))
        });
        let (delivery, config) = match read {
            Ok(read) => read,
            Err(error) => {
                let error = Err(format!("What its proxies carry can't be read: {error}."));
                let is_news = self.documents != error;
                self.documents = error.clone();
                return if is_news { error.map(drop) } else { Ok(()) };
            }
        };
        let compiled = kept(config, &self.provision.compiled);
        let followed = compiled.backends.iter();
        let followed = followed.filter(|(_, source)| matches!(source, BackendSource::Slices(_)));
        let endpoint_namespaces = followed.map(|(id, _)| id.namespace.clone()).collect();
        let logs = delivery.logs().cloned().unwrap_or_default();
        self.documents = pack_all(&compiled, &self.former, &logs, requires);
        self.kept =
            Some(Box::new(Provision { compiled, endpoint_namespaces, ..self.provision.clone() }));
        self.delivery.forgive(Instant::now());
        Ok(())
    }

    /// What lets its proxies follow the endpoints of what they carry, sealed.
    pub(crate) fn endpoint_bindings(&self, settings: &Settings) -> Vec<Object> {
        let common = Common::new(self.carried(), &self.names);
        let mut bindings: Vec<_> = objects::endpoint_bindings(&common, settings).collect();
        bindings.iter_mut().for_each(plan::seal);
        bindings
    }

    /// Whether its configuration was found in just these Secrets.
    pub(crate) fn is_delivered_in(&self, secrets: &[Arc<Value>]) -> bool {
        !secrets.is_empty()
            && self.secrets.len() == secrets.len()
            && self.secrets.iter().zip(secrets).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    /// Whether every ready proxy runs what its proxies are told now.
    pub(crate) fn is_everywhere(&self, owned: &Owned) -> bool {
        let Ok(documents) = &self.documents else { return false };
        let config = &self.carried().compiled.config;
        let (standing, _) = observe::standing(&self.names, owned, config, documents.delivered());
        matches!(standing, Standing::Confirmed | Standing::NoneReady(_))
    }

    /// Its configuration is in these Secrets; since when it was not.
    pub(crate) fn delivered(&mut self, secrets: Vec<Arc<Value>>) -> Option<Instant> {
        self.secrets = secrets;
        self.changed_at.take()
    }

    /// Its objects and what is laid over its pods, sealed. `leaving` are ports that sessions of former
    /// listeners may still use; `is_marked` tells of pods over which something was laid before.
    pub(crate) fn made(
        &mut self,
        settings: &Settings,
        pods: Vec<PodId>,
        leaving: Leaving,
        is_marked: impl Fn(&PodId) -> bool,
    ) -> (&[Object], &[Object]) {
        let made = match self.made.take() {
            Some(made) if made.pods == pods && made.leaving == leaving => made,
            _ => make(&self.common(), settings, pods, leaving, is_marked),
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

    /// When to look at it again after this time though nothing changes.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let told = self.unconfirmed.as_ref().map(|(_, since)| *since + CONFIRM_WITHIN);
        let leaving = self.made.iter().flat_map(|made| made.leaving.values().flatten());
        let closes = leaving.copied().filter(|time| !clock::has_come(Some(*time))).min();
        [
            told.filter(|at| *at > now),
            closes.map(|time| now + clock::until(time)),
            self.delivery.retry_after(now),
            self.infrastructure.retry_after(now),
            self.warning.ask_at.filter(|at| *at > now && !self.warning.is_asking),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

impl Warning {
    /// Whether to ask now for what is said about the Service.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        !self.is_asking && self.ask_at.is_none_or(|at| at <= now)
    }

    pub(crate) fn start(&mut self) {
        self.is_asking = true;
    }

    /// This was said last. It is asked for again, later and later.
    pub(crate) fn end(&mut self, text: Option<String>, now: Instant) {
        self.text = text.map(Into::into);
        self.is_asking = false;
        self.ask_at = Some(now + Duration::from_secs(1 << self.asked.min(6)));
        self.asked += 1;
    }
}

fn documents(
    provision: &Provision,
    former: &Former,
    requires: &BTreeSet<String>,
) -> Result<Documents, String> {
    if !provision.may_run {
        return Err("It isn't accepted, and nothing was delivered before.".to_owned());
    }
    pack_all(&provision.compiled, former, &logs(&provision.parameters), requires)
}

fn pack_all(
    Compiled { config, backends }: &Compiled,
    former: &Former,
    logs: &Logs,
    requires: &BTreeSet<String>,
) -> Result<Documents, String> {
    let mut backends = Cow::Borrowed(backends);
    if former.gone().next().is_some() {
        backends.to_mut().extend(former.gone());
    }
    let contents = Contents { config, backends: &backends, logs, requires };
    let (config, keys) = Delivery::new(contents);
    let config = pack(&config).map_err(|error| error.to_string())?;
    let key_names = keys.names();
    let keys = (!keys.is_empty()).then(|| pack(&keys)).transpose();
    Ok(Documents { config, keys: keys.map_err(|error| error.to_string())?, key_names })
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
    common: &Common<'_>,
    settings: &Settings,
    pods: Vec<PodId>,
    leaving: Leaving,
    is_marked: impl Fn(&PodId) -> bool,
) -> Made {
    let provision = common.provision;
    let mut objects = objects::desired(common, settings, &pods, &leaving);
    let asks = !provision.labels.is_empty() || !provision.annotations.is_empty();
    let overlaid = pods.iter().filter(|pod| asks || is_marked(pod));
    let mut overlays: Vec<_> = overlaid.map(|pod| objects::pod_metadata(common, pod)).collect();
    objects.iter_mut().chain(&mut overlays).for_each(plan::seal);
    Made { pods, leaving, objects, overlays }
}
