use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
    sync::Arc,
};

use l4way_endpoints::{Addresses, Backends, Service, Slices};
use l4way_model::{BackendId, BackendSource, Config, EndpointTable};
use tokio::{sync::watch, time::Instant};

use super::{
    binds,
    index::Delivered,
    intake::Intake,
    slices::{Change, Watches},
    view,
};
use crate::{
    certificates::Warnings,
    cli::ProxyArgs,
    delivery::Acknowledgement,
    dns::{Resolver, Sources},
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
    zone: Option<Arc<str>>,
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
    /// These, and the former ones, with their endpoints.
    endpoints: Backends,
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
            zone: args.zone.as_deref().map(Into::into),
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
        let known = self.slices.known();
        let Some(delivered) = self.intake.take(|namespace| known.knows(namespace), Instant::now())
        else {
            return;
        };
        let missing = namespaces(&delivered.delivery.backends);
        let missing: Vec<_> = missing.iter().filter(|name| !known.knows(name)).collect();
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
        let backends = delivery.backends.clone();
        let mut followed = backends.clone();
        followed.extend(self.former.clone());
        let known = self.slices.known();
        let endpoints = Backends::new(followed, self.zone.clone(), known, &self.addresses.borrow());
        self.resolver.set_names(endpoints.hostnames());
        self.serving.apply(config.clone(), endpoints.table());
        tracing::info!(
            hash = &*delivered.hash,
            listeners = self.serving.report().listeners.len(),
            backends = endpoints.len(),
            "a new configuration is in force"
        );
        let hash = delivered.hash.clone();
        self.in_force = Some(InForce { hash, config, backends, endpoints });
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
        if let Some(in_force) = &self.in_force {
            let mut report = self.serving.report().clone();
            report.refused_backends = in_force.endpoints.refused().clone();
            let answer = Acknowledgement::new(&*in_force.hash, &report);
            self.answers.send_replace(Some(answer));
        }
    }

    fn publish(&mut self) {
        let Some(in_force) = &self.in_force else { return };
        let InForce { hash, config, endpoints, .. } = in_force;
        self.unpublished = false;
        let phase = match self.serving.is_serving() {
            _ if self.leaving => Phase::Leaving,
            true => Phase::Serving,
            false => Phase::Starting,
        };
        self.serving.publish(Arc::new(StatusReport {
            phase,
            notes: view::notes(hash, config, endpoints.refused()),
            overview: view::overview(config, self.serving.report(), endpoints.table()),
            ..StatusReport::starting()
        }));
    }
}

/// The namespaces whose EndpointSlices are needed.
fn namespaces(backends: &BTreeMap<BackendId, BackendSource>) -> BTreeSet<Arc<str>> {
    let slices = backends.iter().filter(|(_, source)| matches!(source, BackendSource::Slices(_)));
    slices.map(|(backend, _)| backend.namespace.clone()).collect()
}

#[cfg(test)]
mod tests;
