use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use clap::ValueEnum;
use l4way_delivery::{
    self, Acknowledgement, Answer, ConfigError, Delivery, DocumentKind, KeyPairs, Refusal, Refused,
};
use l4way_endpoints::{Addresses, Backends, Service, Slices, hostnames_by_backend};
use l4way_model::{BackendId, BackendSource, Config, EndpointTable, SessionTerms};
use l4way_observe::{Phase, StatusReport};
use tokio::{sync::watch, time::Instant};

use super::{
    binds,
    index::Arrival,
    intake::Intake,
    slices::{Change, Watches},
    view,
};
use crate::{
    certificates::Warnings,
    cli::{LogFormat, ProxyArgs},
    dns::{Resolver, Sources},
    serving::{Logs, Serving},
};

/// How often the controller is told where nobody answers: a Lease is for little, and who is gone for a moment
/// is worth no word.
const ENDPOINTS_INTERVAL: Duration = Duration::from_secs(10);

/// Everything between what is followed and the data plane, and what is in force now.
pub(super) struct Pod {
    serving: Serving,
    slices: Watches,
    resolver: Resolver,
    addresses: watch::Receiver<Addresses>,
    answers: watch::Sender<Answer>,
    zone: Option<Arc<str>>,
    pod_ips: Vec<IpAddr>,
    /// The terms of sessions while a configuration says nothing of them: those of the command line.
    terms: SessionTerms,
    intake: Intake<Waiting>,
    /// The latest key pairs that this l4way can read.
    keys: Keys,
    in_force: Option<InForce>,
    /// Backends that no configuration names any more but that still have sessions. They are followed,
    /// so that a UDP session moves on when its endpoint goes, and isn't sent to nobody.
    former: BTreeMap<BackendId, BackendSource>,
    /// Something that `/status` shows is different.
    unpublished: bool,
    leaving: bool,
    expiry: Warnings,
    /// When the controller may be told again where nobody answers.
    tells_endpoints_at: Instant,
}

/// A configuration that has yet to be put in force.
struct Waiting {
    hash: Arc<str>,
    delivery: Arc<Delivery>,
    /// What it says; missing until the key pairs that it names have arrived.
    config: Option<Config>,
}

/// Key pairs that have arrived.
#[derive(Default)]
struct Keys {
    /// What names them; nothing before the first have come.
    hash: Option<Arc<str>>,
    pairs: Arc<KeyPairs>,
    /// Begins to follow them. A Gateway that needs none has none, and a controller of before there were
    /// any doesn't let its proxies ask for them.
    follow: Option<Box<dyn FnOnce()>>,
}

/// The configuration in force.
struct InForce {
    hash: Arc<str>,
    delivery: Arc<Delivery>,
    config: Arc<Config>,
    backends: BTreeMap<BackendId, BackendSource>,
    /// These, and the former ones, with their endpoints.
    endpoints: Backends,
}

impl Pod {
    pub(super) fn new(
        args: &ProxyArgs,
        serving: Serving,
        slices: Watches,
        answers: watch::Sender<Answer>,
        follow_keys: impl FnOnce() + 'static,
    ) -> Self {
        let resolver = Resolver::start(Sources::default());
        Self {
            serving,
            slices,
            addresses: resolver.subscribe(),
            resolver,
            answers,
            zone: args.zone.as_deref().map(Into::into),
            pod_ips: args.pod.pod_ips.clone(),
            terms: args.sessions.terms(),
            intake: Intake::default(),
            keys: Keys { follow: Some(Box::new(follow_keys)), ..Keys::default() },
            in_force: None,
            former: BTreeMap::new(),
            unpublished: false,
            leaving: false,
            expiry: Warnings::default(),
            tells_endpoints_at: Instant::now() + ENDPOINTS_INTERVAL,
        }
    }

    /// Tells when [`addresses_changed`](Self::addresses_changed) is to be called.
    pub(super) fn addresses(&self) -> watch::Receiver<Addresses> {
        self.resolver.subscribe()
    }

    pub(super) fn serving(&mut self) -> &mut Serving {
        &mut self.serving
    }

    /// Takes a configuration in, to be put in force as soon as the endpoints of its backends and its key
    /// pairs are known. One that can't be taken is refused, and what is in force or waits stays.
    pub(super) fn deliver(&mut self, arrival: Arrival<Delivery>) {
        let Arrival { hash, document } = arrival;
        match document.and_then(|delivery| self.waiting(&hash, delivery)) {
            Ok(waiting) => {
                self.accept(DocumentKind::Config);
                if self.in_force.as_ref().is_some_and(|in_force| in_force.hash == hash) {
                    self.intake.clear();
                } else {
                    let namespaces = namespaces(&waiting.delivery.backends());
                    self.intake.offer(waiting, namespaces, Instant::now());
                }
            }
            Err(refusal) => self.refuse(DocumentKind::Config, &hash, refusal),
        }
        self.follow_namespaces();
        self.take_delivery();
    }

    /// A configuration as it waits, with what key pairs there are.
    fn waiting(&mut self, hash: &Arc<str>, delivery: Arc<Delivery>) -> Result<Waiting, Refusal> {
        let config = match delivery.config(&self.keys.pairs, self.terms) {
            Ok(config) => Some(config),
            Err(ConfigError::MissingKeyPair(missing)) => {
                tracing::info!(hash = &**hash, "the configuration waits: {missing}");
                self.keys.follow.take().into_iter().for_each(|follow| follow());
                None
            }
            Err(ConfigError::DuplicateBind(duplicate)) => {
                return Err(Refusal::contradiction(&duplicate));
            }
        };
        Ok(Waiting { hash: hash.clone(), delivery, config })
    }

    /// Takes key pairs in: they are used from the next handshake on.
    pub(super) fn deliver_keys(&mut self, arrival: Arrival<KeyPairs>) {
        let Arrival { hash, document } = arrival;
        match document {
            Ok(pairs) => {
                self.accept(DocumentKind::Keys);
                self.keys.hash = Some(hash);
                self.keys.pairs = pairs;
                self.renew();
                if let Some(waiting) = self.intake.waiting() {
                    waiting.config = waiting.delivery.config(&self.keys.pairs, self.terms).ok();
                }
                self.take_delivery();
            }
            Err(refusal) => self.refuse(DocumentKind::Keys, &hash, refusal),
        }
    }

    /// Puts renewed key pairs in the place of those in force. One that isn't there any more stays in force
    /// as long as its configuration does.
    fn renew(&mut self) {
        let Some(InForce { delivery, config, endpoints, .. }) = &mut self.in_force else { return };
        let pairs = self.keys.pairs.or(&KeyPairs::of(config));
        match delivery.config(&pairs, self.terms) {
            Ok(renewed) => {
                let renewed = binds::in_pod(&renewed, &self.pod_ips);
                if renewed != **config {
                    *config = Arc::new(renewed);
                    self.serving.apply(config.clone(), endpoints.table());
                    tracing::info!("renewed key pairs are in force");
                }
            }
            Err(error) => tracing::error!("key pairs can't be renewed: {error:?}"),
        }
        self.answer();
        self.publish();
    }

    /// What was refused of this kind of document has been followed by something better.
    fn accept(&mut self, kind: DocumentKind) {
        let accepted = |answer: &mut Answer| answer.identity.refused.remove(&kind).is_some();
        if self.answers.send_if_modified(accepted) {
            self.unpublished = true;
        }
    }

    /// Says that this document can't be taken.
    fn refuse(&mut self, kind: DocumentKind, hash: &str, refusal: Refusal) {
        let noun = kind.noun();
        let version = env!("CARGO_PKG_VERSION");
        tracing::error!(
            hash,
            "this l4way, {version}, refuses the {noun} because {refusal}; what is in force stays"
        );
        let refused = Refused { hash: hash.to_owned(), refusal };
        self.answers.send_modify(|answer| drop(answer.identity.refused.insert(kind, refused)));
        self.publish();
    }

    /// When [`take_delivery`](Self::take_delivery) is to be called at the latest.
    pub(super) fn waits_until(&mut self) -> Option<Instant> {
        // Without its key pairs a configuration isn't taken, however long it waits.
        let is_complete = self.intake.waiting().is_some_and(|waiting| waiting.config.is_some());
        self.intake.waits_until().filter(|_| is_complete)
    }

    /// Puts the configuration that waits in force, if it has waited for long enough.
    pub(super) fn take_delivery(&mut self) {
        let is_complete = self.intake.waiting().is_some_and(|waiting| waiting.config.is_some());
        let known = self.slices.known();
        let taken = is_complete
            .then(|| self.intake.take(|namespace| known.knows(namespace), Instant::now()))
            .flatten();
        let Some(Waiting { hash, delivery, config: Some(config) }) = taken else { return };
        let missing = namespaces(&delivery.backends());
        let missing: Vec<_> = missing.iter().filter(|name| !known.knows(name)).collect();
        if !missing.is_empty() {
            tracing::warn!(
                namespaces = ?missing,
                "the configuration is put in force without the EndpointSlices of these namespaces: \
                 sessions for their backends are refused until they are there"
            );
        }
        self.put_in_force(hash, delivery, &config);
        self.follow_namespaces();
    }

    fn put_in_force(&mut self, hash: Arc<str>, delivery: Arc<Delivery>, config: &Config) {
        let config = Arc::new(binds::in_pod(config, &self.pod_ips));
        if let Some(before) = self.in_force.take() {
            self.former.extend(before.backends);
        }
        let backends = delivery.backends();
        self.former.retain(|backend, _| !backends.contains_key(backend));
        let mut followed = backends.clone();
        followed.extend(self.former.clone());
        let known = self.slices.known();
        let endpoints = Backends::new(followed, self.zone.clone(), known, &self.addresses.borrow());
        self.resolver.set_names(endpoints.hostnames());
        self.serving.set_names(hostnames_by_backend(&l4way_endpoints::known(backends.clone())));
        if let Some(logs) = delivery.logs() {
            self.serving.set_logs(&wanted(logs));
        }
        self.serving.apply(config.clone(), endpoints.table());
        tracing::info!(
            hash = &*hash,
            listeners = self.serving.report().listeners.len(),
            backends = endpoints.len(),
            "a new configuration is in force"
        );
        self.in_force = Some(InForce { hash, delivery, config, backends, endpoints });
        self.answer();
        self.publish();
    }

    /// Takes in what has changed of the EndpointSlices.
    pub(super) fn slices(&mut self, changes: impl Iterator<Item = Change>) {
        let services: HashSet<Service> =
            changes.flat_map(|change| self.slices.take(change)).collect();
        self.change_endpoints(|endpoints, known, addresses| {
            endpoints.slices_changed(&services, known, addresses)
        });
        self.take_delivery();
    }

    /// Takes in what has changed of the addresses of names.
    pub(super) fn addresses_changed(&mut self) {
        self.change_endpoints(|endpoints, _, addresses| endpoints.addresses_changed(addresses));
    }

    /// Changes where the endpoints are, and sends sessions of the backends that differ there.
    fn change_endpoints(
        &mut self,
        change: impl FnOnce(&mut Backends, &Slices, &Addresses) -> EndpointTable,
    ) {
        let Some(InForce { endpoints, .. }) = &mut self.in_force else { return };
        let refused = endpoints.refused().clone();
        let changes = change(endpoints, self.slices.known(), &self.addresses.borrow());
        self.resolver.set_names(endpoints.hostnames());
        if !changes.0.is_empty() {
            self.serving.update_endpoints(&changes);
            self.unpublished = true;
        }
        if *endpoints.refused() != refused {
            self.unpublished = true;
            self.answer();
        }
    }

    /// Does what is to be done now and then: warns of certificates that expire, tries ports again that
    /// could not be bound, and brings `/status` up to date.
    pub(super) fn tick(&mut self) {
        self.expiry.look_at(&self.serving.certificates());
        if self.serving.retry_failed() {
            self.answer();
            self.unpublished = true;
        }
        self.forget_former();
        self.tell_endpoints(Instant::now());
        if self.unpublished {
            self.publish();
        }
    }

    /// Tells the controller where nobody answers, if that is different.
    fn tell_endpoints(&mut self, now: Instant) {
        if now < self.tells_endpoints_at {
            return;
        }
        self.tells_endpoints_at = now + ENDPOINTS_INTERVAL;
        let endpoints = self.serving.endpoint_summary();
        self.answers.send_if_modified(|answer| {
            let is_different = answer.endpoints != endpoints;
            answer.endpoints = endpoints;
            is_different
        });
    }

    /// Follows no longer the former backends whose last session has ended.
    fn forget_former(&mut self) {
        if self.former.is_empty() {
            return;
        }
        let busy = self.serving.busy_backends();
        let idle: Vec<_> =
            self.former.keys().filter(|backend| !busy.contains(*backend)).cloned().collect();
        if idle.is_empty() {
            return;
        }
        self.former.retain(|backend, _| !idle.contains(backend));
        self.change_endpoints(|endpoints, _, _| endpoints.remove(&idle));
        self.follow_namespaces();
    }

    /// Isn't ready any more. Whether it was.
    pub(super) fn leave(&mut self) -> bool {
        let was_ready = self.serving.phase() == Phase::Serving;
        self.leaving = true;
        self.serving.set_phase(Phase::Leaving);
        if was_ready {
            tracing::info!("leaving: sessions are taken until the Service has dropped this pod");
        }
        was_ready
    }

    /// Ends all sessions.
    pub(super) fn end(self) {
        self.serving.end();
    }

    /// Follows the EndpointSlices that are needed by what is in force and by what waits.
    fn follow_namespaces(&mut self) {
        let mut wanted: BTreeSet<_> = self.intake.namespaces().cloned().collect();
        if let Some(in_force) = &self.in_force {
            wanted.extend(namespaces(&in_force.backends));
        }
        wanted.extend(namespaces(&self.former));
        self.slices.follow(&wanted);
    }

    /// Answers the controller.
    fn answer(&self) {
        let Some(InForce { hash, config, endpoints, .. }) = &self.in_force else { return };
        let mut report = self.serving.report().clone();
        report.refused_backends = endpoints.refused().clone();
        let keys = self.keys.hash.as_deref().filter(|_| config.key_pairs().next().is_some());
        let said = Acknowledgement::new(&**hash, keys.map(str::to_owned), &report);
        self.answers.send_modify(|answer| answer.acknowledgement = Some(said));
    }

    fn publish(&mut self) {
        self.unpublished = false;
        let phase = match self.in_force.is_some() && self.serving.is_serving() {
            _ if self.leaving => Phase::Leaving,
            true => Phase::Serving,
            false => Phase::Starting,
        };
        let mut report = StatusReport { phase, ..StatusReport::starting() };
        if let Some(InForce { hash, config, endpoints, .. }) = &self.in_force {
            report.notes = view::notes(hash, config, endpoints.refused());
            report.overview = view::overview(config, self.serving.report());
        }
        report.notes.extend(view::refusals(&self.answers.borrow().identity));
        self.serving.publish(Arc::new(report));
    }
}

/// The logs that a configuration asks for. A format that this l4way doesn't know is the default.
fn wanted(logs: &l4way_delivery::Logs) -> Logs {
    let l4way_delivery::Logs { level, format, access_log } = logs;
    Logs {
        level: level.to_string(),
        format: LogFormat::from_str(format, true).unwrap_or(LogFormat::Json),
        access_log: *access_log,
    }
}

/// The namespaces whose EndpointSlices are needed.
fn namespaces(backends: &BTreeMap<BackendId, BackendSource>) -> BTreeSet<Arc<str>> {
    let slices = backends.iter().filter(|(_, source)| matches!(source, BackendSource::Slices(_)));
    slices.map(|(backend, _)| backend.namespace.clone()).collect()
}

#[cfg(test)]
mod tests;
