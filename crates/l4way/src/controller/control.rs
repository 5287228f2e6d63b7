//! From the API's objects to what every Gateway has, and to what is said about both.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use kube::Client;
use l4way_model::ApplyReport;
use l4way_resources::{
    Diagnostic, Snapshot,
    api::{ObjectKey, ObjectRef},
    status::{Status, StatusUpdate},
};
use l4way_source_kube::{EventRecorder, EventType, Source, StatusWriter};
use l4way_translate::{GatewayObserved, Graph, Observed, Proxies, graph, provisions, status};
use serde_json::json;
use tokio::{sync::watch, task::JoinSet};

use super::{
    apply::{self, Answer, Failure},
    cluster::{Cluster, Owned, Written},
    events,
    gateway::{CONFIRM_WITHIN, Gateway, Work},
    metrics::Metrics,
    objects::{Common, Kind, ServiceType, Settings, service_type},
    observe::{self, Standing},
    plan::{self, Settled, Steps},
    service_events, strays,
};
use crate::{
    overview::Overview,
    problems,
    report::{Phase, StatusReport},
};

/// How long a Gateway may be without an address before that is told in an Event.
const TELL_PENDING_AFTER: Duration = Duration::from_secs(5);

/// The reason of a Gateway without an address.
const ADDRESS_NOT_ASSIGNED: &str = "AddressNotAssigned";

/// Who the controller talks to.
pub(crate) struct Ports {
    pub(crate) client: Client,
    pub(crate) source: Source,
    pub(crate) writer: StatusWriter,
    pub(crate) events: EventRecorder,
    pub(crate) metrics: Metrics,
    pub(crate) report: watch::Sender<Arc<StatusReport>>,
}

/// Everything that the controller knows and does.
pub(crate) struct Control {
    ports: Ports,
    settings: Settings,
    translation: l4way_translate::Settings,
    leads: bool,
    read: Option<Read>,
    gateways: BTreeMap<ObjectKey, Gateway>,
    written: Written,
    settled: Settled,
    strays: Work,
    jobs: JoinSet<Done>,
    /// The status of each object as it was told last.
    told: BTreeMap<ObjectRef, Status>,
    missing: Vec<String>,
}

/// What was made of the last objects.
struct Read {
    snapshot: Snapshot,
    graph: Graph,
    problems: Vec<Diagnostic>,
}

/// Requests that have ended.
pub(crate) struct Done {
    what: What,
    answers: Vec<Answer>,
    failure: Option<Failure>,
}

enum What {
    Delivery(ObjectKey),
    Infrastructure(ObjectKey),
    Warning(ObjectKey, Option<String>),
    Strays,
}

impl Control {
    pub(crate) fn new(
        ports: Ports,
        settings: Settings,
        translation: l4way_translate::Settings,
    ) -> Self {
        Self {
            ports,
            settings,
            translation,
            leads: false,
            read: None,
            gateways: BTreeMap::new(),
            written: Written::default(),
            settled: Settled::default(),
            strays: Work::default(),
            jobs: JoinSet::new(),
            told: BTreeMap::new(),
            missing: Vec::new(),
        }
    }

    /// Whether this replica leads: the others look at everything and write nothing.
    pub(crate) fn set_leads(&mut self, leads: bool) {
        self.leads = leads;
        self.ports.metrics.leads.set(leads.into());
        self.ports.writer.set_enabled(leads);
        // What the last leader told is on the API server.
        self.told.clear();
    }

    /// Waits until requests have ended, and takes up their answers; for ever if there are none.
    pub(crate) async fn requests(&mut self) {
        match self.jobs.join_next().await {
            Some(Ok(done)) => self.finish(done),
            Some(Err(error)) => tracing::error!(%error, "requests have ended badly"),
            None => std::future::pending().await,
        }
        while let Some(Ok(done)) = self.jobs.try_join_next() {
            self.finish(done);
        }
    }

    /// When to look again though nothing changes.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let now = Instant::now();
        let gateways = self.gateways.values().flat_map(|gateway| {
            let pending = gateway.pending_since.map(|since| since + TELL_PENDING_AFTER);
            [gateway.deadline(now), pending.filter(|at| *at > now)]
        });
        gateways.chain([self.strays.retry_at()]).flatten().min()
    }

    /// Looks at everything, and does what there is to do.
    pub(crate) async fn pass(&mut self) {
        let now = Instant::now();
        let Some(snapshot) = self.ports.source.snapshot() else { return };
        self.tell_missing();
        self.read(snapshot, now);
        let cluster = Cluster::new(&self.ports.source, &mut self.written);
        if self.leads {
            // What users wait for goes first, and is on its way before anything else is looked at.
            if self.deliver(&cluster, now) {
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
            }
            self.provide(&cluster, now);
            self.remove_strays(&cluster, now);
        }
        self.publish(&cluster, now);
        self.settled.tidy(&cluster);
        self.ports.metrics.passes.inc();
        self.ports.metrics.pass_time.observe(now.elapsed().as_secs_f64());
    }

    fn tell_missing(&mut self) {
        let missing = self.ports.source.missing();
        if missing != self.missing {
            self.ports.metrics.set_missing(&missing);
            self.missing = missing;
        }
    }

    /// Relates the objects to each other, if any has changed.
    fn read(&mut self, snapshot: Snapshot, now: Instant) {
        if self.read.as_ref().is_some_and(|read| read.snapshot.is_same(&snapshot)) {
            return;
        }
        let graph = graph(&snapshot, &self.translation);
        let problems = problems::of_graph(&graph);
        let mut before = std::mem::take(&mut self.gateways);
        for provision in provisions(&graph) {
            let key = provision.gateway.clone();
            let gateway = match before.remove(&key) {
                Some(mut gateway) if gateway.provision.uid == provision.uid => {
                    gateway.follow(provision, now);
                    gateway
                }
                _ => Gateway::new(provision, now),
            };
            self.gateways.insert(key, gateway);
        }
        self.ports.metrics.gateways.set(i64::try_from(self.gateways.len()).unwrap_or(i64::MAX));
        self.read = Some(Read { snapshot, graph, problems });
    }

    /// Writes the configurations that aren't in their Secrets. Whether there are any.
    fn deliver(&mut self, cluster: &Cluster, now: Instant) -> bool {
        let mut any = false;
        for (key, gateway) in &mut self.gateways {
            let Ok(packed) = &gateway.packed else { continue };
            if !gateway.provision.may_run || !gateway.delivery.may_start(now) {
                continue;
            }
            let common = Common::new(&gateway.provision);
            let secret = |name: &str, data| {
                let parts = json!({"type": "l4way.dev/config", "data": data});
                common.object(Kind::Secret, name, parts)
            };
            let owned = cluster.of(&gateway.owner);
            let secrets = plan::secrets(owned);
            if gateway.is_delivered_in(&secrets) {
                continue;
            }
            let steps = plan::delivery(
                &common.names,
                packed,
                owned,
                &key.namespace,
                &mut self.settled,
                secret,
            );
            if steps.is_empty() {
                if let Some(since) = gateway.delivered(secrets) {
                    self.ports.metrics.delivered(now - since);
                }
                continue;
            }
            any = true;
            gateway.delivery.start();
            request(&mut self.jobs, &self.ports.client, What::Delivery(key.clone()), steps);
        }
        any
    }

    /// Makes and repairs the Gateways' objects.
    fn provide(&mut self, cluster: &Cluster, now: Instant) {
        for (key, gateway) in &mut self.gateways {
            if !gateway.provision.may_run || !gateway.infrastructure.may_start(now) {
                continue;
            }
            let owned = cluster.of(&gateway.owner);
            let names = Common::new(&gateway.provision).names;
            let is_delivered = plan::hash_in_force(&names, owned, &key.namespace).is_some();
            let pods = observe::live_pods(owned);
            let is_marked = |pod: &super::objects::PodId| {
                let key = ObjectKey::new(key.namespace.clone(), &*pod.name);
                owned.get(&(Kind::Pod, key)).is_some_and(|pod| plan::mark(pod).is_some())
            };
            let (objects, overlays) = gateway.made(&self.settings, pods, is_marked);
            let steps =
                plan::infrastructure(objects, overlays, owned, &mut self.settled, is_delivered);
            if !steps.is_empty() {
                gateway.infrastructure.start();
                request(
                    &mut self.jobs,
                    &self.ports.client,
                    What::Infrastructure(key.clone()),
                    steps,
                );
            }
        }
    }

    /// Takes away what was made for Gateways that are no longer ours.
    fn remove_strays(&mut self, cluster: &Cluster, now: Instant) {
        let Some(read) = &self.read else { return };
        if !self.strays.may_start(now) {
            return;
        }
        let ours: BTreeSet<_> = self.gateways.values().map(|gateway| &gateway.owner).collect();
        let controller = &self.translation.controller_name;
        let steps = strays::find(cluster, &ours, &read.snapshot, controller);
        if !steps.is_empty() {
            self.strays.start();
            request(&mut self.jobs, &self.ports.client, What::Strays, vec![steps]);
        }
    }

    /// Takes up the answers to requests.
    fn finish(&mut self, done: Done) {
        let now = Instant::now();
        let Done { what, answers, failure } = done;
        for answer in answers {
            match answer {
                Answer::Applied(object, answer) => {
                    self.settled.answered(&object, &answer);
                    self.ports.metrics.wrote(object.kind.as_str());
                    self.written.applied(&self.ports.source, object.kind, object.key, answer);
                }
                Answer::Deleted(kind, key, uid) => {
                    self.ports.metrics.wrote(kind.as_str());
                    self.written.deleted(&self.ports.source, kind, key, &uid);
                }
            }
        }
        if let Some(failure) = &failure {
            self.ports.metrics.failed(failure.reason);
        }
        let (key, work) = match &what {
            What::Warning(key, text) => {
                if let Some(gateway) = self.gateways.get_mut(key) {
                    gateway.warning.end(text.clone(), now);
                }
                return;
            }
            What::Strays => (None, Some(&mut self.strays)),
            What::Delivery(key) => {
                (Some(key), self.gateways.get_mut(key).map(|gateway| &mut gateway.delivery))
            }
            What::Infrastructure(key) => {
                (Some(key), self.gateways.get_mut(key).map(|gateway| &mut gateway.infrastructure))
            }
        };
        let Some(work) = work else { return };
        if work.end(failure, now)
            && let Some(Failure { message, is_refusal, .. }) = &work.failure
        {
            tracing::warn!("{message}; it is tried again");
            if let Some(key) = key.filter(|_| *is_refusal) {
                let object = ObjectRef::new("Gateway", key.clone());
                self.ports.events.event(&object, EventType::Warning, "NotProvided", message);
            }
        }
    }

    /// Says how everything is.
    fn publish(&mut self, cluster: &Cluster, now: Instant) {
        let (report, observed, held) = self.observe(cluster, now);
        let Some(read) = &self.read else { return };
        let updates = status(&read.graph, &report, &observed);
        let mut told = BTreeMap::new();
        let mut news = false;
        for update in &updates {
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
            // That is told when it lasts.
            if reason != ADDRESS_NOT_ASSIGNED {
                self.ports.events.event(&update.object, EventType::Warning, &reason, &message);
            }
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
            let proxies = match proxies(gateway, owned, &mut report, now) {
                Word::Said(proxies) => proxies,
                Word::Held => {
                    held.insert(key.clone());
                    Proxies::Confirmed
                }
            };
            let common = Common::new(&gateway.provision);
            let warning = gateway.warning.text.as_deref();
            let reach = observe::reach(&common, owned, &cluster.nodes, warning);
            let service = ObjectKey::new(key.namespace.clone(), &*common.names.base);
            let waits_for_others = service_type(&gateway.provision.parameters)
                == ServiceType::LoadBalancer
                && owned.contains_key(&(Kind::Service, service.clone()));
            match &reach.pending {
                Some(pending) if waits_for_others => {
                    let since = *gateway.pending_since.get_or_insert(now);
                    if self.leads && now - since >= TELL_PENDING_AFTER {
                        let object = ObjectRef::new("Gateway", key.clone());
                        let warning = EventType::Warning;
                        self.ports.events.event(&object, warning, ADDRESS_NOT_ASSIGNED, pending);
                    }
                    if gateway.warning.is_due(now) {
                        gateway.warning.start();
                        let (client, key) = (self.ports.client.clone(), key.clone());
                        self.jobs.spawn(async move {
                            let text = service_events::last_warning(client, service).await;
                            let what = What::Warning(key, text);
                            Done { what, answers: Vec::new(), failure: None }
                        });
                    }
                }
                _ => {
                    gateway.pending_since = None;
                    gateway.warning = Default::default();
                }
            }
            let observe::Reach { addresses, pending: address_pending, note } = reach;
            let now_observed = GatewayObserved { addresses, address_pending, proxies, note };
            observed.gateways.insert(key.clone(), now_observed);
        }
        let unconfirmed = i64::try_from(held.len()).unwrap_or(i64::MAX);
        self.ports.metrics.unconfirmed.set(unconfirmed);
        (report, observed, held)
    }
}

/// What is to be said of a Gateway's proxies.
enum Word {
    Said(Proxies),
    /// Nothing yet: the proxies are about to confirm.
    Held,
}

/// How a Gateway's proxies are; what they report goes into the report.
fn proxies(gateway: &mut Gateway, owned: &Owned, report: &mut ApplyReport, now: Instant) -> Word {
    let names = Common::new(&gateway.provision).names;
    let waiting = |text: String| Word::Said(Proxies::Waiting(text));
    let packed = match &gateway.packed {
        Ok(packed) => packed,
        Err(error) => return waiting(error.clone()),
    };
    let hash = packed.hash.clone();
    let config = &gateway.provision.compiled.config;
    let (standing, reported) = observe::standing(&names, owned, config, &hash);
    report.listeners.extend(reported.listeners);
    report.refused_backends.extend(reported.refused_backends);
    let works = [&gateway.infrastructure, &gateway.delivery];
    let failures = works.into_iter().filter_map(|work| work.failure.as_ref());
    if let Some(refusal) = failures.clone().find(|failure| failure.is_refusal) {
        return waiting(refusal.message.clone());
    }
    let failure = failures.map(|failure| failure.message.clone()).next();
    match standing {
        Standing::Confirmed => {
            gateway.confirmed();
            Word::Said(Proxies::Confirmed)
        }
        Standing::NoneReady(why) => {
            gateway.confirmed();
            waiting(failure.unwrap_or(why))
        }
        Standing::Unconfirmed(who) => {
            if now - gateway.unconfirmed(&hash, now) < CONFIRM_WITHIN {
                Word::Held
            } else {
                waiting(failure.unwrap_or(who))
            }
        }
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

/// Makes requests, whose answers come back as the jobs' ends.
fn request(jobs: &mut JoinSet<Done>, client: &Client, what: What, steps: Steps) {
    let client = client.clone();
    jobs.spawn(async move {
        let (answers, failure) = apply::run(client, steps).await;
        Done { what, answers, failure }
    });
}
