//! From the API's objects to what every Gateway has, and to what is said about both.

mod tell;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use kube::Client;
use l4way_delivery::DocumentKind;
use l4way_observe::StatusReport;
use l4way_resources::{
    Diagnostic, Snapshot,
    api::{self, ObjectKey, ObjectRef},
    status::Status,
};
use l4way_source_kube::{EventRecorder, EventType, Source, StatusWriter};
use l4way_translate::{Graph, ProxyAddresses, graph, provisions};
use tokio::{sync::watch, task::JoinSet};

use super::{
    apply::{self, Answer, Failure},
    cluster::{Cluster, Written},
    endpoint_events::EndpointEvents,
    gateway::Gateway,
    metrics::Metrics,
    objects::{self, CLASS_NAME, Kind, Leaving, Settings, label, network_policy},
    observe,
    ownership::{Owned, Owner},
    plan::{self, Settled, Step},
    reading::Reading,
    strays,
    work::{Id, Work},
};
use crate::{clock, problems};

/// How long a Gateway may be without an address before that is told in an Event.
const TELL_PENDING_AFTER: Duration = Duration::from_secs(5);

/// How long everything else waits for configurations that are being written.
const DELIVERY_ALONE: Duration = Duration::from_millis(50);

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
    reading: Reading,
    read: Option<Read>,
    gateways: BTreeMap<ObjectKey, Gateway>,
    written: Written,
    settled: Settled,
    strays: Work,
    /// Since when there has always been a configuration on its way into its Secret.
    delivering_since: Option<Instant>,
    jobs: JoinSet<Done>,
    /// The status of each object as it was told last.
    told: BTreeMap<ObjectRef, Status>,
    endpoint_events: EndpointEvents,
    missing: Vec<String>,
    /// When everything was looked at last.
    looked_at: Instant,
}

/// What was made of the last objects.
struct Read {
    snapshot: Snapshot,
    graph: Graph,
    problems: Vec<Diagnostic>,
    /// When there is something else to say of a certificate, in seconds of Unix time.
    next_time: Option<i64>,
}

/// A request that has ended.
pub(crate) enum Done {
    /// One that changes an object.
    Step(Whose, Id, Result<Answer, Failure>),
    /// One for what was said last about a Gateway's Service.
    Warning(Whom, Option<String>),
}

/// What an object is made or taken away for.
#[derive(Clone)]
pub(crate) enum Whose {
    /// What this Gateway's proxies are told.
    Delivery(Whom),
    /// The rest of what this Gateway has.
    Infrastructure(Whom),
    /// No Gateway.
    Strays,
}

/// The Gateway that requests were for. Another of the same name may have come in its place since.
#[derive(Clone)]
pub(crate) struct Whom {
    key: ObjectKey,
    owner: Owner,
}

impl Whose {
    fn gateway(&self) -> Option<&ObjectKey> {
        match self {
            Self::Delivery(whom) | Self::Infrastructure(whom) => Some(&whom.key),
            Self::Strays => None,
        }
    }
}

impl Whom {
    fn new(gateway: &Gateway) -> Self {
        Self { key: gateway.provision.gateway.clone(), owner: gateway.owner.clone() }
    }

    fn find<'a>(&self, gateways: &'a mut BTreeMap<ObjectKey, Gateway>) -> Option<&'a mut Gateway> {
        gateways.get_mut(&self.key).filter(|gateway| gateway.owner == self.owner)
    }
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
            reading: Reading::default(),
            read: None,
            gateways: BTreeMap::new(),
            written: Written::default(),
            settled: Settled::default(),
            strays: Work::default(),
            delivering_since: None,
            jobs: JoinSet::new(),
            told: BTreeMap::new(),
            endpoint_events: EndpointEvents::default(),
            missing: Vec::new(),
            looked_at: Instant::now(),
        }
    }

    /// Whether this replica leads: the others look at everything and write nothing.
    pub(crate) fn set_leads(&mut self, leads: bool) {
        self.leads = leads;
        self.ports.metrics.leads.set(leads.into());
        self.ports.writer.set_enabled(leads);
        // What the last leader told is on the API server.
        self.told.clear();
        self.endpoint_events.clear();
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

    /// When to look again though nothing changes. What was due when everything was looked at was seen to then.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let last = self.looked_at;
        let alone = self.delivering_since.map(|since| since + DELIVERY_ALONE);
        let gateways = self.gateways.values().flat_map(|gateway| {
            let pending = gateway.pending_since.map(|since| since + TELL_PENDING_AFTER);
            [gateway.deadline(last), pending.filter(|at| *at > last)]
        });
        let certificates = self.read.as_ref().and_then(|read| read.next_time);
        let certificates = certificates.map(|time| Instant::now() + clock::until(time));
        let others = [
            self.strays.retry_after(last),
            alone.filter(|at| *at > last),
            certificates,
            self.endpoint_events.due(),
            self.reading.is_behind().then(Instant::now),
        ];
        gateways.chain(others).flatten().min()
    }

    /// Looks at everything, and does what there is to do.
    pub(crate) fn pass(&mut self) {
        let now = Instant::now();
        let Some(newest) = self.ports.source.snapshot() else { return };
        let snapshot = self.reading.next(newest);
        self.looked_at = now;
        self.tell_missing();
        let cluster = Cluster::new(&self.ports.source, &snapshot.gateways, &mut self.written);
        let proxies = observe::of_proxies(&snapshot.gateways, &cluster);
        let provided = provided(&snapshot, &cluster);
        self.read(snapshot, proxies, provided, now);
        self.choose_names(&cluster);
        if self.leads {
            self.deliver(&cluster, now);
            if self.waits_for_delivery(now) {
                return;
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

    /// Relates the objects to each other, if any has changed, a proxy is elsewhere, or the time of a certificate
    /// has come.
    fn read(
        &mut self,
        snapshot: Snapshot,
        proxies: ProxyAddresses,
        provided: BTreeSet<ObjectKey>,
        now: Instant,
    ) {
        let is_as_read = |read: &Read| {
            read.snapshot.is_same(&snapshot)
                && self.translation.proxies == proxies
                && self.translation.provided == provided
                && !clock::has_come(read.next_time)
        };
        let waits = self.reading.holds() && !self.ports.source.has_wanted();
        if waits || self.read.as_ref().is_some_and(is_as_read) {
            return;
        }
        self.translation.proxies = proxies;
        self.translation.provided = provided;
        self.translation.now = clock::unix_time();
        let former = self.gateways.values().flat_map(|gateway| gateway.former.known());
        self.translation.former = former.cloned().collect();
        let graph = graph(&snapshot, &self.translation);
        if !self.ports.source.want(graph.contents()) {
            self.reading.hold(snapshot);
            return;
        }
        self.reading.release();
        let problems = problems::of_graph(&graph);
        let mut before = std::mem::take(&mut self.gateways);
        for provision in provisions(&graph) {
            let key = provision.gateway.clone();
            let gateway = match before.remove(&key) {
                Some(mut gateway) if gateway.provision.uid == provision.uid => {
                    let is_there = |backend: &_| graph.source(backend).is_some();
                    gateway.follow(provision, is_there, &self.settings.requires, now);
                    gateway
                }
                _ => Gateway::new(provision, &self.settings.requires, now),
            };
            self.gateways.insert(key, gateway);
        }
        self.ports.metrics.gateways.set(i64::try_from(self.gateways.len()).unwrap_or(i64::MAX));
        let next_time = graph.next_time();
        self.read = Some(Read { snapshot, graph, problems, next_time });
    }

    /// Chooses the names of the Gateways' objects. Of Gateways that would have the same names the oldest goes first.
    fn choose_names(&mut self, cluster: &Cluster) {
        let Some(read) = &self.read else { return };
        let gateways = &read.snapshot.gateways;
        let running = self.gateways.iter().filter(|(_, gateway)| gateway.provision.may_run);
        let running = running.map(|(key, gateway)| (key, &gateway.names));
        let second = objects::second(running, |key| {
            gateways.get(key).map(|gateway| gateway.metadata.age_order())
        });
        for (key, gateway) in &mut self.gateways {
            let owned = cluster.of(&gateway.owner);
            gateway.choose_names(owned, second.contains(key));
        }
    }

    /// Whether all else has to wait: what users wait for goes first, and has the API server to itself
    /// for a moment.
    fn waits_for_delivery(&mut self, now: Instant) -> bool {
        if !self.gateways.values().any(|gateway| gateway.delivery.is_running()) {
            self.delivering_since = None;
            return false;
        }
        now < *self.delivering_since.get_or_insert(now) + DELIVERY_ALONE
    }

    /// Writes the configurations that aren't in their Secrets.
    fn deliver(&mut self, cluster: &Cluster, now: Instant) {
        for (key, gateway) in &mut self.gateways {
            let owned = cluster.of(&gateway.owner);
            if let Err(error) = gateway.keep(owned, &self.settings.requires) {
                tracing::error!(gateway = %key, "{error} It stays as it is.");
            }
            let Ok(documents) = &gateway.documents else { continue };
            if !gateway.may_deliver() {
                continue;
            }
            let secrets = plan::secrets(owned);
            if gateway.is_delivered_in(&secrets) {
                continue;
            }
            let names = &gateway.names.documents;
            let is_busy = |document: DocumentKind| {
                let secrets: Vec<_> = names.secrets(document).collect();
                gateway.delivery.is_any_running(|(_, key)| secrets.iter().any(|s| **s == *key.name))
            };
            let keys = names.secrets(DocumentKind::Keys).collect::<BTreeSet<_>>();
            let have_keys_failed =
                gateway.delivery.failed().any(|(_, key)| keys.contains(&*key.name));
            let (common, settled) = (gateway.common(), &mut self.settled);
            let steps =
                plan::delivery(&common, documents, owned, settled, is_busy, have_keys_failed);
            // Of what is busy not all is among the steps.
            if !gateway.delivery.is_running() {
                gateway.delivery.retain(|id| steps.iter().any(|step| step.id() == *id));
            }
            if steps.is_empty() && !gateway.delivery.is_running() {
                if let Some(since) = gateway.delivered(secrets) {
                    self.ports.metrics.delivered(now - since);
                }
                continue;
            }
            let whose = Whose::Delivery(Whom::new(gateway));
            request(&mut self.jobs, &self.ports.client, &whose, &mut gateway.delivery, steps, now);
        }
    }

    /// Makes and repairs the Gateways' objects.
    fn provide(&mut self, cluster: &Cluster, now: Instant) {
        for (key, gateway) in &mut self.gateways {
            let owned = cluster.of(&gateway.owner);
            let steps = if gateway.provision.may_run {
                let names = &gateway.names.documents;
                let is_delivered = plan::is_delivered(names, owned, &key.namespace);
                let pods = observe::live_pods(owned);
                let is_marked = |pod: &super::objects::PodId| {
                    let key = ObjectKey::new(key.namespace.clone(), &*pod.name);
                    owned.get(&(Kind::Pod, key)).is_some_and(|pod| plan::mark(pod).is_some())
                };
                let leaving = leaving(gateway, &self.settings, owned);
                let (objects, overlays) = gateway.made(&self.settings, pods, leaving, is_marked);
                plan::infrastructure(objects, overlays, owned, &mut self.settled, is_delivered)
            } else if gateway.may_deliver() {
                let bindings = gateway.endpoint_bindings(&self.settings);
                plan::endpoint_bindings(&bindings, owned, &mut self.settled)
            } else {
                continue;
            };
            gateway.infrastructure.retain(|id| steps.iter().any(|step| step.id() == *id));
            let whose = Whose::Infrastructure(Whom::new(gateway));
            let work = &mut gateway.infrastructure;
            request(&mut self.jobs, &self.ports.client, &whose, work, steps, now);
        }
    }

    /// Takes away what was made for Gateways that are no longer ours.
    fn remove_strays(&mut self, cluster: &Cluster, now: Instant) {
        let Some(read) = &self.read else { return };
        let ours: BTreeSet<_> = self.gateways.values().map(|gateway| &gateway.owner).collect();
        let steps = strays::find(cluster, &ours, &read.snapshot, &self.translation);
        self.strays.retain(|id| steps.iter().any(|step| step.id() == *id));
        let work = &mut self.strays;
        request(&mut self.jobs, &self.ports.client, &Whose::Strays, work, steps, now);
    }

    /// Takes up the answer to a request.
    fn finish(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Warning(whom, text) => {
                if let Some(gateway) = whom.find(&mut self.gateways) {
                    gateway.warning.end(text, now);
                }
            }
            Done::Step(whose, id, Ok(answer)) => {
                self.take_up(answer);
                if let Some(work) = self.work(&whose) {
                    work.end(id, None, now);
                }
            }
            Done::Step(whose, id, Err(failure)) => {
                self.ports.metrics.failed(failure.reason);
                let is_given_up =
                    failure.reason == apply::FOREIGN && self.give_up_name(&whose, &id);
                // Under another name it hasn't failed yet.
                let failure = (!is_given_up).then_some(failure);
                let Some(work) = self.work(&whose) else { return };
                let is_news = work.end(id, failure.as_ref(), now);
                if let Some(failure) = failure.filter(|_| is_news) {
                    self.tell_failure(whose.gateway(), &failure);
                }
            }
        }
    }

    /// The requests of which this was one, unless its Gateway is gone.
    fn work(&mut self, whose: &Whose) -> Option<&mut Work> {
        match whose {
            Whose::Delivery(whom) => {
                whom.find(&mut self.gateways).map(|gateway| &mut gateway.delivery)
            }
            Whose::Infrastructure(whom) => {
                whom.find(&mut self.gateways).map(|gateway| &mut gateway.infrastructure)
            }
            Whose::Strays => Some(&mut self.strays),
        }
    }

    /// Tells of a request that has failed, also in an Event of its Gateway if somebody has to see to it.
    fn tell_failure(&self, gateway: Option<&ObjectKey>, failure: &Failure) {
        let Failure { message, is_refusal, reason } = failure;
        if apply::IS_NO_NEWS.contains(reason) {
            return;
        }
        tracing::warn!("{message}; it is tried again");
        if let Some(key) = gateway.filter(|_| *is_refusal) {
            let object = ObjectRef::new("Gateway", key.clone());
            self.ports.events.event(&object, EventType::Warning, "NotProvided", message);
        }
    }

    /// Gives up a name that is somebody else's, and tells which is in its place. Whether there is one.
    fn give_up_name(&mut self, whose: &Whose, (kind, key): &Id) -> bool {
        let (Whose::Delivery(whom) | Whose::Infrastructure(whom)) = whose else { return false };
        let Some(gateway) = whom.find(&mut self.gateways) else { return false };
        let Some(name) = gateway.names.give_up(*kind, &key.name) else { return false };
        let kind = kind.as_str();
        let message = format!("{kind} {key} is somebody else's, so the Gateway's is named {name}");
        tracing::info!(gateway = %whom.key, "{message}");
        let object = ObjectRef::new("Gateway", whom.key.clone());
        self.ports.events.event(&object, EventType::Normal, "NameTaken", &message);
        true
    }

    /// Takes up what the API server has made of an object.
    fn take_up(&mut self, answer: Answer) {
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
}

/// The ports of former listeners that the Gateway's NetworkPolicy still admits, and until when: for as long as
/// pods have to end, from when no ready one has the listeners any more.
fn leaving(gateway: &Gateway, settings: &Settings, owned: &Owned) -> Leaving {
    let common = gateway.common();
    if !network_policy::is_wanted(&common, settings) {
        return Leaving::new();
    }
    let Some(policy) = observe::network_policy(&common, owned) else { return Leaving::new() };
    let now = clock::unix_time();
    let mut leaving = network_policy::leaving(&common, policy, now);
    if leaving.values().any(Option::is_none) && gateway.is_everywhere(owned) {
        let until = now + observe::grace_seconds(owned);
        leaving.values_mut().for_each(|known| _ = known.get_or_insert(until));
        leaving.retain(|_, known| known.is_none_or(|until| until > now));
    }
    leaving
}

/// The Gateways whose class is gone, and that something was made for as one of that class.
fn provided(snapshot: &Snapshot, cluster: &Cluster) -> BTreeSet<ObjectKey> {
    let is_provided = |gateway: &api::Gateway| {
        let class = &gateway.spec.gateway_class_name;
        let made = cluster.of(&Owner::of(&gateway.metadata)).values();
        !snapshot.gateway_classes.contains_key(&ObjectKey::new("", class.clone()))
            && made.into_iter().any(|made| made["metadata"]["labels"][CLASS_NAME] == label(class))
    };
    let provided = snapshot.gateways.iter().filter(|(_, gateway)| is_provided(gateway));
    provided.map(|(key, _)| key.clone()).collect()
}

/// Makes those requests that may be made now. Their answers come back as the jobs' ends.
fn request(
    jobs: &mut JoinSet<Done>,
    client: &Client,
    whose: &Whose,
    work: &mut Work,
    steps: Vec<Step>,
    now: Instant,
) {
    for step in steps {
        let id = step.id();
        if !work.may_start(&id, now) {
            continue;
        }
        work.start(id.clone());
        let (client, whose) = (client.clone(), whose.clone());
        jobs.spawn(async move { Done::Step(whose, id, apply::request(&client, step).await) });
    }
}
