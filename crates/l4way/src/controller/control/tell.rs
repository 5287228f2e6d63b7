//! What is said of Gateways, routes and the rest: in their status, in Events, and to whoever asks this
//! process.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use l4way_model::{ApplyReport, GatewayId};
use l4way_observe::{Overview, Phase, StatusReport};
use l4way_resources::{
    Snapshot,
    api::ObjectKey,
    status::{Condition, Status, StatusUpdate},
};
use l4way_source_kube::EventType;
use l4way_translate::{GatewayObserved, Observed, Proxies, status};
use serde_json::Value;

use super::{Control, Done, TELL_PENDING_AFTER, Whom};
use crate::controller::{
    cluster::Cluster,
    endpoint_events::{EndpointEvent, Seen},
    events,
    gateway::{CONFIRM_WITHIN, Gateway, Warning},
    objects::{Kind, ServiceType, Settings, network_policy, service_type},
    observe::{self, Standing},
    ownership::Owned,
    service_events,
    work::Work,
};

/// The reasons of a Gateway without an address, or without the one that it asks for. They are told
/// when they last.
const ADDRESS_REASONS: [&str; 2] = ["AddressNotAssigned", "AddressNotUsable"];

/// What is said of a Gateway in the host network, where others have NetworkPolicies.
const UNGUARDED: &str =
    "No NetworkPolicy restricts who reads its proxies' metrics: they are in the host network.";

impl Control {
    /// Says how everything is.
    pub(super) fn publish(&mut self, cluster: &Cluster, now: Instant) {
        let (report, observed, held) = self.observe(cluster, now);
        if self.leads {
            self.ask_about_services(cluster, now);
            self.tell_endpoints(cluster, now);
        }
        let Some(read) = &self.read else { return };
        let updates = status(&read.graph, &report, &observed);
        let mut told = BTreeMap::new();
        let mut news = false;
        for update in &updates {
            if self.leads {
                self.tell_pending(update, now);
            }
            let before = self.told.remove(&update.object);
            // The last word stands until there is a new one.
            if is_held(update, &held, &read.snapshot) {
                told.extend(before.map(|before| (update.object.clone(), before)));
                continue;
            }
            if before.as_ref() != Some(&update.status) {
                news = true;
                if self.leads {
                    self.tell(update);
                }
            }
            told.insert(update.object.clone(), update.status.clone());
        }
        news |= !self.told.is_empty();
        self.told = told;
        if news {
            let unheld = self.told.iter().map(|(object, status)| StatusUpdate {
                object: object.clone(),
                status: status.clone(),
            });
            self.ports.writer.write(unheld.collect());
        }
        if news || self.ports.report.borrow().phase == Phase::Starting {
            self.ports.report.send_replace(Arc::new(StatusReport {
                phase: Phase::Serving,
                problems: read.problems.clone(),
                overview: Overview::new(&read.snapshot, &updates),
                objects: updates,
                ..StatusReport::starting()
            }));
        }
    }

    /// Tells in Events what a person should know of an object.
    fn tell(&self, update: &StatusUpdate) {
        let current = self.ports.source.current(&update.object);
        for (reason, message) in events::news(update, current.as_deref()) {
            if !ADDRESS_REASONS.contains(&&*reason) {
                self.ports.events.event(&update.object, EventType::Warning, &reason, &message);
            }
        }
    }

    /// Tells in an Event of a Gateway that has been without its address for a while.
    fn tell_pending(&self, update: &StatusUpdate, now: Instant) {
        let Status::Gateway(status) = &update.status else { return };
        let gateway = self.gateways.get(&update.object.key);
        let since = gateway.and_then(|gateway| gateway.pending_since);
        if since.is_none_or(|since| now - since < TELL_PENDING_AFTER) {
            return;
        }
        let told = |condition: &&Condition| ADDRESS_REASONS.contains(&&*condition.reason);
        if let Some(Condition { reason, message, .. }) = status.conditions.iter().find(told) {
            self.ports.events.event(&update.object, EventType::Warning, reason, message);
        }
    }

    /// Tells in Events of backends of which proxies pass endpoints over.
    fn tell_endpoints(&mut self, cluster: &Cluster, now: Instant) {
        let mut seen = Seen::default();
        for gateway in self.gateways.values() {
            let names = &gateway.names.documents;
            let owned = cluster.of(&gateway.owner);
            let key = &gateway.provision.gateway;
            let id = GatewayId::new(key.namespace.clone(), key.name.clone());
            for summary in observe::endpoint_summaries(names, owned) {
                seen.add(&id, summary);
            }
        }
        for event in self.endpoint_events.news(&seen, now) {
            let EndpointEvent { object, kind, reason, message } = event;
            self.ports.events.event_again(&object, kind, reason, &message);
        }
    }

    /// How every Gateway's proxies and addresses are, and the Gateways of which nothing is said yet.
    fn observe(
        &mut self,
        cluster: &Cluster,
        now: Instant,
    ) -> (ApplyReport, Observed, BTreeSet<ObjectKey>) {
        let mut report = ApplyReport::default();
        let mut observed = Observed::default();
        let mut held = BTreeSet::new();
        for (key, gateway) in &mut self.gateways {
            let owned = cluster.of(&gateway.owner);
            let proxies = match proxies(gateway, &self.settings, owned, &mut report, now) {
                Word::Said(proxies) => proxies,
                Word::Held => {
                    held.insert(key.clone());
                    Proxies::Confirmed
                }
            };
            let seen = seen(gateway, &self.settings, owned, &cluster.nodes, proxies);
            note_pending(gateway, &seen, now);
            observed.gateways.insert(key.clone(), seen);
        }
        let unconfirmed = i64::try_from(held.len()).unwrap_or(i64::MAX);
        self.ports.metrics.unconfirmed.set(unconfirmed);
        (report, observed, held)
    }

    /// Asks what is said about Services whose address hasn't come.
    fn ask_about_services(&mut self, cluster: &Cluster, now: Instant) {
        for (key, gateway) in &mut self.gateways {
            if gateway.pending_since.is_none()
                || service_type(&gateway.provision.parameters) != ServiceType::LoadBalancer
                || !gateway.warning.is_due(now)
            {
                continue;
            }
            let service = ObjectKey::new(key.namespace.clone(), gateway.names.of(Kind::Service));
            let made = cluster.of(&gateway.owner).get(&(Kind::Service, service.clone()));
            let uid = made.and_then(|made| made["metadata"]["uid"].as_str());
            if let Some(uid) = uid.map(str::to_owned) {
                gateway.warning.start();
                let (client, whom) = (self.ports.client.clone(), Whom::new(gateway));
                self.jobs.spawn(async move {
                    let text = service_events::last_warning(client, service, uid).await;
                    Done::Warning(whom, text)
                });
            }
        }
    }
}

/// What is to be said of a Gateway's proxies.
enum Word {
    Said(Proxies),
    /// Nothing yet: the proxies are about to confirm.
    Held,
}

/// How a Gateway's proxies are; what they report goes into the report.
fn proxies(
    gateway: &mut Gateway,
    settings: &Settings,
    owned: &Owned,
    report: &mut ApplyReport,
    now: Instant,
) -> Word {
    let common = gateway.common();
    let waiting = |text: String| Word::Said(Proxies::Waiting(text));
    let documents = match &gateway.documents {
        Ok(documents) => documents,
        Err(error) => return waiting(error.clone()),
    };
    let delivered = documents.delivered();
    let config = &gateway.carried().compiled.config;
    let (mut standing, reported) = observe::standing(&gateway.names, owned, config, delivered);
    if standing == Standing::Confirmed
        && network_policy::is_wanted(&common, settings)
        && let Some(why) = observe::closed_port(&common, owned)
    {
        standing = Standing::Unconfirmed(why);
    }
    // A certificate that is renewed is another delivery, too.
    let id = format!("{} {}", delivered.config, delivered.keys.unwrap_or_default());
    report.listeners.extend(reported.listeners);
    report.refused_backends.extend(reported.refused_backends);
    report.paths.extend(reported.paths);
    let works = [&gateway.infrastructure, &gateway.delivery];
    if let Some(refusal) = works.into_iter().find_map(Work::refusal) {
        return waiting(refusal.message.clone());
    }
    let failure = works.into_iter().flat_map(Work::failures).next();
    let failure = failure.map(|failure| failure.message.clone());
    match standing {
        Standing::Confirmed => {
            gateway.confirmed();
            Word::Said(Proxies::Confirmed)
        }
        Standing::NoneReady(why) => {
            gateway.confirmed();
            waiting(failure.unwrap_or(why))
        }
        Standing::Refused(why) => {
            gateway.confirmed();
            Word::Said(Proxies::Refusing(why))
        }
        Standing::Unconfirmed(who) => {
            if now - gateway.unconfirmed(&id, now) < CONFIRM_WITHIN {
                Word::Held
            } else {
                waiting(failure.unwrap_or(who))
            }
        }
    }
}

/// What is seen of a Gateway.
fn seen(
    gateway: &Gateway,
    settings: &Settings,
    owned: &Owned,
    nodes: &BTreeMap<ObjectKey, Arc<Value>>,
    proxies: Proxies,
) -> GatewayObserved {
    let refusal = gateway.infrastructure.refusal_of(Kind::Service);
    let refusal = refusal.map(|failure| &*failure.message);
    let why_not = refusal.or(gateway.warning.text.as_deref());
    let common = gateway.common();
    let reach = observe::reach(&common, owned, nodes, why_not);
    let is_unguarded =
        settings.metrics_from.is_some() && !network_policy::is_wanted(&common, settings);
    let unguarded = is_unguarded.then(|| UNGUARDED.to_owned());
    let notes: Vec<_> = reach.note.into_iter().chain(unguarded).collect();
    GatewayObserved {
        addresses: reach.addresses,
        address_pending: reach.pending,
        proxies,
        note: (!notes.is_empty()).then(|| notes.join(" ")),
    }
}

/// Remembers since when there is no address, or one that was asked for isn't there.
fn note_pending(gateway: &mut Gateway, seen: &GatewayObserved, now: Instant) {
    let has = |asked: &IpAddr| seen.addresses.iter().any(|a| a.value == asked.to_string());
    if seen.addresses.is_empty() || !gateway.provision.addresses.iter().all(has) {
        gateway.pending_since.get_or_insert(now);
    } else {
        gateway.pending_since = None;
        gateway.warning = Warning::default();
    }
}

/// Whether nothing is said of the object yet: it is a Gateway of these, or a ListenerSet of one.
fn is_held(update: &StatusUpdate, held: &BTreeSet<ObjectKey>, snapshot: &Snapshot) -> bool {
    if held.is_empty() {
        return false;
    }
    let key = &update.object.key;
    match &update.status {
        Status::Gateway(_) => held.contains(key),
        Status::ListenerSet(_) => snapshot.listener_sets.get(key).is_some_and(|set| {
            let parent = &set.spec.parent_ref;
            let namespace = parent.namespace.as_ref().unwrap_or(&key.namespace);
            held.contains(&ObjectKey::new(namespace.clone(), parent.name.clone()))
        }),
        _ => false,
    }
}
