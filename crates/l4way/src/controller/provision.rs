//! Stands in for `l4way_translate::Provision` until that has landed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use l4way_model::{BackendId, BackendSource, Config, Transport};
use l4way_resources::api::{GatewayParametersSpec, ObjectKey};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Compiled {
    pub(crate) config: Config,
    pub(crate) backends: BTreeMap<BackendId, BackendSource>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Provision {
    pub(crate) gateway: ObjectKey,
    pub(crate) uid: Option<Arc<str>>,
    pub(crate) generation: i64,
    pub(crate) class: Arc<str>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) parameters: GatewayParametersSpec,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ports: BTreeSet<(u16, Transport)>,
    pub(crate) compiled: Compiled,
    pub(crate) endpoint_namespaces: BTreeSet<Arc<str>>,
    pub(crate) may_run: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    pub(crate) gateways: BTreeMap<ObjectKey, GatewayObserved>,
}

#[derive(Clone, Debug)]
pub(crate) struct GatewayObserved {
    pub(crate) addresses: Vec<l4way_resources::status::StatusAddress>,
    pub(crate) address_pending: Option<String>,
    pub(crate) proxies: Proxies,
    pub(crate) note: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Proxies {
    Confirmed,
    Waiting(String),
}

pub(crate) fn provisions(_graph: &l4way_translate::Graph) -> Vec<Provision> {
    Vec::new()
}

pub(crate) fn status(
    graph: &l4way_translate::Graph,
    report: &l4way_model::ApplyReport,
    _observed: &Observed,
) -> Vec<l4way_resources::status::StatusUpdate> {
    l4way_translate::status(graph, report)
}

pub(crate) fn in_cluster() -> l4way_translate::Settings {
    l4way_translate::Settings { local_endpoints: false, ..Default::default() }
}
