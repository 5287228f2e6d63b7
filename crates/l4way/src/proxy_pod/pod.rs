use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
    sync::Arc,
};

use l4way_model::{BackendId, BackendSource, Config, EndpointSource, EndpointTable};
use l4way_translate::service_endpoints;
use tokio::{sync::watch, time::Instant};

use super::{
    binds,
    index::Delivered,
    intake::Intake,
    slices::{Change, Service, Store, Watches},
    view,
};
use crate::{
    certificates::Warnings,
    cli::ProxyArgs,
    delivery::Acknowledgement,
    dns::{self, Addresses, EndpointSources, Resolver, Sources},
    report::{Phase, StatusReport},
    serving::Serving,
};

/// Everything between what is followed and the data plane, and what is in force now.
pub(super) struct Pod {
    serving: Serving,
    slices: Watches,
    resolver: Resolver,
    addresses: watch::Receiver<Addresses>,
    answers: watch::Sender<Option<Acknowledgement>>,
    zone: Option<String>,
    pod_ips: Vec<IpAddr>,
    intake: Intake<Arc<Delivered>>,
    in_force: Option<InForce>,
    /// Backends that no configuration names any more but that still have sessions. They are followed,
    /// so that a UDP session moves on when its endpoint goes, and isn't sent to nobody.
    former: BTreeMap<BackendId, BackendSource>,
    /// Something that `/status` shows is different.
    unpublished: bool,
    leaving: bool,
    expiry: Warnings,
}

/// The configuration in force.
struct InForce {
    hash: Arc<str>,
    config: Arc<Config>,
    backends: BTreeMap<BackendId, BackendSource>,
    /// Where the endpoints are, the EndpointSlices read.
    sources: EndpointSources,
    endpoints: EndpointTable,
    /// Backends with endpoints that are left out, and why.
    refused: BTreeMap<BackendId, String>,
}

impl Pod {
    pub(super) fn new(
        args: &ProxyArgs,
        serving: Serving,
        slices: Watches,
        answers: watch::Sender<Option<Acknowledgement>>,
    ) -> Self {
        let resolver = Resolver::start(Sources::default());
        Self {
            serving,
            slices,
            addresses: resolver.subscribe(),
            resolver,
            answers,
            zone: args.zone.clone(),
            pod_ips: args.pod.pod_ips.clone(),
            intake: Intake::default(),
            in_force: None,
            former: BTreeMap::new(),
            unpublished: false,
            leaving: false,
            expiry: Warnings::default(),
        }
    }

    /// Tells when [`addresses_changed`](Self::addresses_changed) is to be called.
    pub(super) fn addresses(&self) -> watch::Receiver<Addresses> {
        self.resolver.subscribe()
    }

    pub(super) fn serving(&mut self) -> &mut Serving {
        &mut self.serving
    }

    /// Takes a configuration in, to be put in force as soon as the endpoints of its backends are
    /// known.
    pub(super) fn deliver(&mut self, delivered: Arc<Delivered>) {
        if self.in_force.as_ref().is_some_and(|in_force| in_force.hash == delivered.hash) {
            self.intake.clear();
        } else {
            let namespaces = namespaces(&delivered.delivery.backends);
            self.intake.offer(delivered, namespaces, Instant::now());
        }
        self.follow_namespaces();
        self.take_delivery();
    }

    /// When [`take_delivery`](Self::take_delivery) is to be called at the latest.
    pub(super) fn waits_until(&self) -> Option<Instant> {
        self.intake.waits_until()
    }

    /// Puts the configuration that waits in force, if it has waited for long enough.
    pub(super) fn take_delivery(&mut self) {
        let store = self.slices.store();
        let Some(delivered) = self.intake.take(|namespace| store.knows(namespace), Instant::now())
        else {
            return;
        };
        let missing = namespaces(&delivered.delivery.backends);
        let missing: Vec<_> = missing.iter().filter(|name| !store.knows(name)).collect();
        if !missing.is_empty() {
            tracing::warn!(
                namespaces = ?missing,
                "the configuration is put in force without the EndpointSlices of these namespaces: \
                 sessions for their backends are refused until they are there"
            );
        }
        self.put_in_force(&delivered);
        self.follow_namespaces();
    }

    fn put_in_force(&mut self, delivered: &Delivered) {
        let delivery = &delivered.delivery;
        let config = Arc::new(binds::in_pod(&delivery.config, &self.pod_ips));
        if let Some(before) = self.in_force.take() {
            self.former.extend(before.backends);
        }
        self.former.retain(|backend, source| {
            matches!(source, BackendSource::Slices(_)) && !delivery.backends.contains_key(backend)
        });
        let zone = self.zone.as_deref();
        let sources = delivery.backends.iter().chain(&self.former).map(|(backend, source)| {
            (backend.clone(), sources(backend, source, self.slices.store(), zone))
        });
        let sources: EndpointSources = sources.collect();
        self.resolver.set_names(dns::hostnames(&sources));
        let (endpoints, refused) = dns::without_local(&sources, &self.addresses.borrow());
        self.serving.apply(config.clone(), &endpoints);
        tracing::info!(
            hash = &*delivered.hash,
            listeners = self.serving.report().listeners.len(),
            backends = sources.len(),
            "a new configuration is in force"
        );
        let hash = delivered.hash.clone();
        let backends = delivery.backends.clone();
        let in_force = InForce { hash, config, backends, sources, endpoints, refused };
        self.in_force = Some(in_force);
        self.answer();
        self.publish();
    }

    /// Takes in what has changed of the EndpointSlices.
    pub(super) fn slices(&mut self, changes: impl Iterator<Item = Change>) {
        let services: HashSet<Service> =
            changes.flat_map(|change| self.slices.take(change)).collect();
        let zone = self.zone.as_deref();
        if let Some(InForce { backends, sources: known, .. }) = &mut self.in_force {
            let mut different = false;
            for (backend, source) in backends.iter().chain(&self.former) {
                let service = (backend.namespace.clone(), backend.name.clone());
                if matches!(source, BackendSource::Slices(_)) && services.contains(&service) {
                    let now = sources(backend, source, self.slices.store(), zone);
                    different |= known.insert(backend.clone(), now.clone()) != Some(now);
                }
            }
            if different {
                self.resolver.set_names(dns::hostnames(known));
                self.refresh_endpoints();
            }
        }
        self.take_delivery();
    }

    /// Takes in what has changed of the addresses of names.
    pub(super) fn addresses_changed(&mut self) {
        self.refresh_endpoints();
    }

    /// Sends sessions to the endpoints that there are now.
    fn refresh_endpoints(&mut self) {
        let Some(in_force) = &mut self.in_force else { return };
        let (endpoints, refused) = dns::without_local(&in_force.sources, &self.addresses.borrow());
        self.serving.update_endpoints(&endpoints);
        in_force.endpoints = endpoints;
        let refused = std::mem::replace(&mut in_force.refused, refused);
        self.unpublished = true;
        if in_force.refused != refused {
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
        if self.unpublished {
            self.publish();
        }
    }

    /// Follows no longer the former backends whose last session has ended.
    fn forget_former(&mut self) {
        if self.former.is_empty() {
            return;
        }
        let busy = self.serving.busy_backends();
        let idle: Vec<_> =
            self.former.keys().filter(|backend| !busy.contains(*backend)).cloned().collect();
        for backend in &idle {
            self.former.remove(backend);
            if let Some(in_force) = &mut self.in_force {
                in_force.sources.remove(backend);
            }
        }
        if !idle.is_empty() {
            self.refresh_endpoints();
            self.follow_namespaces();
        }
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
        if let Some(in_force) = &self.in_force {
            let mut report = self.serving.report().clone();
            report.refused_backends = in_force.refused.clone();
            let answer = Acknowledgement::new(&*in_force.hash, &report);
            self.answers.send_replace(Some(answer));
        }
    }

    fn publish(&mut self) {
        let Some(in_force) = &self.in_force else { return };
        let InForce { hash, config, endpoints, refused, .. } = in_force;
        self.unpublished = false;
        let phase = match self.serving.is_serving() {
            _ if self.leaving => Phase::Leaving,
            true => Phase::Serving,
            false => Phase::Starting,
        };
        self.serving.publish(Arc::new(StatusReport {
            phase,
            notes: view::notes(hash, config, refused),
            overview: view::overview(config, self.serving.report(), endpoints),
            ..StatusReport::starting()
        }));
    }
}

/// The namespaces whose EndpointSlices are needed.
fn namespaces(backends: &BTreeMap<BackendId, BackendSource>) -> BTreeSet<Arc<str>> {
    let slices = backends.iter().filter(|(_, source)| matches!(source, BackendSource::Slices(_)));
    slices.map(|(backend, _)| backend.namespace.clone()).collect()
}

/// Where the endpoints of a backend are.
fn sources(
    backend: &BackendId,
    source: &BackendSource,
    store: &Store,
    zone: Option<&str>,
) -> Vec<EndpointSource> {
    match source {
        BackendSource::Known(sources) => sources.clone(),
        BackendSource::Slices(port) => {
            let slices = store.of(&backend.namespace, &backend.name);
            service_endpoints(port, backend.transport, &slices, zone)
        }
    }
}

#[cfg(test)]
mod tests;
