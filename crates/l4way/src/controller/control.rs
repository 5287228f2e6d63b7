//! From the API's objects to what every Gateway has, and to what is said about both.

mod tell;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use kube::Client;
use l4way_resources::{
    Diagnostic, Snapshot,
    api::{ObjectKey, ObjectRef},
    status::Status,
};
use l4way_source_kube::{EventRecorder, EventType, Source, StatusWriter};
use l4way_translate::{Graph, ProxyAddresses, graph, provisions};
use tokio::{sync::watch, task::JoinSet};

use super::{
    apply::{self, Answer, Failure},
    cluster::{Cluster, Written},
    endpoint_events::EndpointEvents,
    gateway::{Gateway, Work},
    metrics::Metrics,
    objects::{Common, Kind, Settings},
    observe,
    plan::{self, Settled, Steps},
    strays,
};
use crate::{clock, problems, report::StatusReport};

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
}

/// What was made of the last objects.
struct Read {
    snapshot: Snapshot,
    graph: Graph,
    problems: Vec<Diagnostic>,
    /// When there is something else to say of a certificate, in seconds of Unix time.
    next_time: Option<i64>,
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
            delivering_since: None,
            jobs: JoinSet::new(),
            told: BTreeMap::new(),
            endpoint_events: EndpointEvents::default(),
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

    /// When to look again though nothing changes.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let now = Instant::now();
        let alone = self.delivering_since.map(|since| since + DELIVERY_ALONE);
        let gateways = self.gateways.values().flat_map(|gateway| {
            let pending = gateway.pending_since.map(|since| since + TELL_PENDING_AFTER);
            [gateway.deadline(now), pending.filter(|at| *at > now)]
        });
        let certificates = self.read.as_ref().and_then(|read| read.next_time);
        let certificates = certificates.map(|time| now + clock::until(time));
        let others = [
            self.strays.retry_at(),
            alone.filter(|at| *at > now),
            certificates,
            self.endpoint_events.due(),
        ];
        gateways.chain(others).flatten().min()
    }

    /// Looks at everything, and does what there is to do.
    pub(crate) fn pass(&mut self) {
        let now = Instant::now();
        let Some(snapshot) = self.ports.source.snapshot() else { return };
        self.tell_missing();
        let cluster = Cluster::new(&self.ports.source, &mut self.written);
        let proxies = observe::of_proxies(&snapshot.gateways, &cluster);
        self.read(snapshot, proxies, now);
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
    fn read(&mut self, snapshot: Snapshot, proxies: ProxyAddresses, now: Instant) {
        let is_as_read = |read: &Read| {
            read.snapshot.is_same(&snapshot)
                && self.translation.proxies == proxies
                && !clock::has_come(read.next_time)
        };
        if self.read.as_ref().is_some_and(is_as_read) {
            return;
        }
        self.translation.proxies = proxies;
        self.translation.now = clock::unix_time();
        let former = self.gateways.values().flat_map(|gateway| gateway.former.known());
        self.translation.former = former.cloned().collect();
        let graph = graph(&snapshot, &self.translation);
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
            let Ok(documents) = &gateway.documents else { continue };
            if !gateway.provision.may_run || !gateway.delivery.may_start(now) {
                continue;
            }
            let owned = cluster.of(&gateway.owner);
            let secrets = plan::secrets(owned);
            if gateway.is_delivered_in(&secrets) {
                continue;
            }
            let common = Common::new(&gateway.provision);
            let steps = plan::delivery(&common, documents, owned, &mut self.settled);
            if steps.is_empty() {
                if let Some(since) = gateway.delivered(secrets) {
                    self.ports.metrics.delivered(now - since);
                }
                continue;
            }
            gateway.delivery.start();
            request(&mut self.jobs, &self.ports.client, What::Delivery(key.clone()), steps);
        }
    }

    /// Makes and repairs the Gateways' objects.
    fn provide(&mut self, cluster: &Cluster, now: Instant) {
        for (key, gateway) in &mut self.gateways {
            if !gateway.provision.may_run || !gateway.infrastructure.may_start(now) {
                continue;
            }
            let owned = cluster.of(&gateway.owner);
            let names = Common::new(&gateway.provision).names;
            let is_delivered = plan::is_delivered(&names, owned, &key.namespace);
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
            && let Some(Failure { message, is_refusal, reason }) = &work.failure
            && *reason != apply::ENDING
        {
            tracing::warn!("{message}; it is tried again");
            if let Some(key) = key.filter(|_| *is_refusal) {
                let object = ObjectRef::new("Gateway", key.clone());
                self.ports.events.event(&object, EventType::Warning, "NotProvided", message);
            }
        }
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
