use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use l4way_model::{ApplyReport, BindFailure, BindFailureKind, Config, GatewayId, ListenerReport};
use l4way_resources::{
    AnyObject, ReadOptions, Renderer, Snapshot, SourceText, api::ObjectKey, read,
    status::StatusAddress,
};
use l4way_translate::{
    Addresses, Compiled, GatewayObserved, Observed, Provision, Proxies, Settings, compile, graph,
    problems, provisions, status,
};
use serde::Deserialize;

use super::render;

/// 2027-01-01: the certificates of the scenarios are valid from 2026 to 2126.
const NOW: i64 = 1_798_761_600;

/// What stands between a scenario's input and what is expected of it.
pub(crate) const EXPECT: &str = "---\nexpect:\n";

/// What a scenario sets besides objects.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ScenarioSettings {
    /// The addresses of Gateways that name none.
    addresses: Vec<IpAddr>,
    /// A pool to take addresses from instead.
    pool: Option<String>,
    /// Who has which address of the pool, by the Gateway's `namespace/name`.
    held: BTreeMap<String, IpAddr>,
    /// The time, in seconds of Unix time; [`NOW`] if it isn't said.
    now: Option<i64>,
    /// Where the proxy serves its metrics.
    admin: Option<SocketAddr>,
    /// The proxy's zone.
    zone: Option<String>,
    /// Whether sessions may go to the proxy's own host; they may if it isn't said.
    local_endpoints: Option<bool>,
    /// Whether it is a cluster.
    in_cluster: bool,
    /// Whether EndpointSlices are known in the cluster.
    knows_slices: bool,
    /// What is seen of the proxies of the Gateways in a cluster, by `namespace/name`.
    observed: BTreeMap<String, GatewaySettings>,
    /// The addresses of all nodes of the cluster.
    nodes: Vec<IpAddr>,
    /// Backends that proxies refuse, by `namespace/name`.
    refused_backends: BTreeMap<String, String>,
    /// Listeners that can't be bound, by `namespace/object/name`.
    failures: BTreeMap<String, Failure>,
    /// Listeners that the proxy doesn't report.
    unreported: Vec<String>,
    /// The objects are read as they are, with their status: such as have one that matters, or such as the API
    /// server would reject, but older versions of it let through.
    unvalidated: bool,
    /// Some objects are invalid, and refused.
    some_invalid: bool,
}

/// What a scenario sees of a Gateway in a cluster.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct GatewaySettings {
    addresses: Vec<IpAddr>,
    /// The addresses of its pods.
    pods: Vec<IpAddr>,
    address_pending: Option<String>,
    /// Why the proxies haven't confirmed; they have if it isn't said.
    waiting: Option<String>,
    note: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    kind: BindFailureKind,
    message: String,
}

#[derive(Deserialize)]
struct SettingsDocument {
    settings: ScenarioSettings,
}

/// A scenario's input.
#[derive(Debug)]
pub(crate) struct Scenario {
    settings: ScenarioSettings,
    /// The objects, in the order of the file.
    pub(crate) objects: Vec<AnyObject>,
    /// What is beside the valid objects.
    others: Snapshot,
}

impl Scenario {
    /// Reads a file, and what it expects.
    ///
    /// # Errors
    /// What is wrong with the input.
    pub(crate) fn read(path: &Path) -> Result<(Self, String), String> {
        let text = fs::read_to_string(path).expect("a scenario can be read");
        let (input, expected) = text.split_once(EXPECT).unwrap_or((&text, ""));
        Ok((Self::parse(input)?, expected.to_owned()))
    }

    fn parse(input: &str) -> Result<Self, String> {
        let input = with_certificates(input);
        let documents = input.split("\n---\n").map(|document| format!("{document}\n"));
        let (settings, objects): (Vec<_>, Vec<_>) =
            documents.partition(|document| document.lines().any(|line| line == "settings:"));
        let settings: ScenarioSettings = settings
            .first()
            .map(|document| {
                let document: SettingsDocument =
                    serde_saphyr::from_str(document).expect("the settings are valid");
                document.settings
            })
            .unwrap_or_default();
        let (objects, others) = if settings.unvalidated {
            let objects = objects.iter().filter_map(|document| unvalidated(document));
            (objects.collect(), Snapshot::default())
        } else {
            validated(&objects.join("---\n"), settings.some_invalid)?
        };
        Ok(Self { settings, objects, others })
    }

    /// What comes of these objects under the scenario's settings, as text.
    pub(crate) fn run(&self, objects: impl IntoIterator<Item = AnyObject>) -> String {
        let mut snapshot = self.others.clone();
        objects.into_iter().for_each(|object| snapshot.insert(object));
        let graph = graph(&snapshot, &self.translate_settings());
        // In a cluster each Gateway has a host to itself.
        let compiled = if self.settings.in_cluster {
            // Of one that isn't accepted the controller looks at what is there.
            let carried = |provision: Provision| match provision.may_run {
                true => provision.compiled,
                false => Compiled::default(),
            };
            provisions(&graph).into_iter().map(carried).collect()
        } else {
            vec![compile(&graph)]
        };
        let status = status(&graph, &self.report(&compiled), &self.observed());
        render::check_observed_generations(&snapshot, &status);
        render::expectation(&compiled, &status, &problems(&graph))
    }

    fn translate_settings(&self) -> Settings {
        let mut settings =
            if self.settings.in_cluster { Settings::in_cluster() } else { Settings::default() };
        if !self.settings.addresses.is_empty() {
            settings.addresses = Addresses::Shared(self.settings.addresses.clone());
        }
        if let Some(pool) = &self.settings.pool {
            let held = self.settings.held.iter().map(|(gateway, address)| {
                let (namespace, name) = gateway.split_once('/').expect("namespace/name");
                (GatewayId::new(namespace, name), *address)
            });
            let pool = pool.parse().expect("the pool is valid");
            settings.addresses = Addresses::Pool { pool, held: held.collect() };
        }
        settings.knows_slices |= self.settings.knows_slices;
        settings.local_endpoints =
            self.settings.local_endpoints.unwrap_or(settings.local_endpoints);
        settings.now = self.settings.now.unwrap_or(NOW);
        settings.admin = self.settings.admin;
        settings.zone = self.settings.zone.as_deref().map(Into::into);
        settings.proxies.nodes = self.settings.nodes.iter().copied().collect();
        let pods = self.settings.observed.iter().map(|(gateway, seen)| {
            let (namespace, name) = gateway.split_once('/').expect("namespace/name");
            (ObjectKey::new(namespace, name), seen.pods.iter().copied().collect())
        });
        settings.proxies.pods = pods.collect();
        settings
    }

    /// What a proxy would report that runs the configuration, but for what the scenario says.
    fn report(&self, compiled: &[Compiled]) -> ApplyReport {
        let configs = || compiled.iter().map(|compiled| &compiled.config);
        let listeners = configs().flat_map(Config::listeners);
        let listeners = listeners.map(|listener| (&listener.id, listener.binds().next()));
        let tls = configs().flat_map(Config::tls_ports).flat_map(|port| {
            port.listeners.iter().map(|listener| (&listener.id, port.binds().next()))
        });
        let http = configs().flat_map(Config::http_ports).flat_map(|port| {
            port.listeners.iter().map(|listener| (&listener.id, port.binds().next()))
        });
        let reports = listeners.chain(tls).chain(http).filter_map(|(id, bind)| {
            let name = id.to_string();
            if self.settings.unreported.contains(&name) {
                return None;
            }
            let report = match self.settings.failures.get(&name) {
                Some(failure) => ListenerReport::Failed(BindFailure {
                    bind: bind.expect("a listener has an address"),
                    kind: failure.kind,
                    message: failure.message.clone(),
                }),
                None => ListenerReport::Bound,
            };
            Some((id.clone(), report))
        });
        let backends = compiled.iter().flat_map(|compiled| compiled.backends.keys());
        let refused = backends.filter_map(|id| {
            let name = format!("{}/{}", id.namespace, id.name);
            Some((id.clone(), self.settings.refused_backends.get(&name)?.clone()))
        });
        ApplyReport {
            listeners: reports.collect(),
            refused_backends: refused.collect(),
            ..ApplyReport::default()
        }
    }

    /// What is seen in a cluster.
    fn observed(&self) -> Observed {
        let gateways = self.settings.observed.iter().map(|(gateway, seen)| {
            let (namespace, name) = gateway.split_once('/').expect("namespace/name");
            let addresses = seen.addresses.iter().map(|address| StatusAddress {
                kind: "IPAddress".into(),
                value: address.to_string(),
            });
            let observed = GatewayObserved {
                addresses: addresses.collect(),
                address_pending: seen.address_pending.clone(),
                proxies: seen.waiting.clone().map_or(Proxies::Confirmed, Proxies::Waiting),
                note: seen.note.clone(),
            };
            (ObjectKey::new(namespace, name), observed)
        });
        Observed { gateways: gateways.collect() }
    }
}

/// The input with the certificates and keys that `"@any.crt"` and its like stand for.
fn with_certificates(input: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/certificates");
    let mut text = input.to_owned();
    for name in ["any", "wildcard", "foo", "bar"] {
        for file in [format!("{name}.crt"), format!("{name}.key")] {
            let mark = format!("@{file}");
            if text.contains(&mark) {
                let pem = fs::read_to_string(directory.join(&file)).expect("it is there");
                text = text.replace(&mark, &pem.replace('\n', "\\n"));
            }
        }
    }
    text
}

/// The objects, as `l4way` reads them from files.
fn validated(text: &str, some_invalid: bool) -> Result<(Vec<AnyObject>, Snapshot), String> {
    let source = SourceText::new("scenario", text);
    let result = read(&source, ReadOptions::default());
    let renderer = Renderer::plain();
    let errors = result.diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
    let errors: String = errors.map(|error| renderer.render(error)).collect();
    if errors.is_empty() != some_invalid {
        let others = Snapshot {
            refused: result.refused,
            foreign_policies: result.foreign_policies,
            ..Snapshot::default()
        };
        Ok((result.manifests.into_iter().map(|manifest| manifest.object).collect(), others))
    } else {
        Err(format!("the input is not valid:\n{errors}"))
    }
}

fn unvalidated(document: &str) -> Option<AnyObject> {
    let value: serde_json::Value = serde_saphyr::from_str(document).expect("the input is YAML");
    let kind = value.get("kind")?.as_str()?.to_owned();
    Some(AnyObject::from_value(&kind, &value)?.expect("the input has its kind's shape"))
}
