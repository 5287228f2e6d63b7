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
