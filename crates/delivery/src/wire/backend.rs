use std::sync::Arc;

use l4way_model as model;
use serde::{Deserialize, Serialize};

use super::is_default;

/// How to come by all endpoints of a backend.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum BackendSource {
    Known(Vec<EndpointSource>),
    Slices(ServicePort),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum EndpointSource {
    Address(Endpoint),
    Dns { hostname: Arc<str>, port: u16 },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    address: model::EndpointAddress,
}

/// A Service's port, as far as its EndpointSlices are read by it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServicePort {
    #[serde(default, skip_serializing_if = "str::is_empty")]
    name: Arc<str>,
    #[serde(default, skip_serializing_if = "is_default")]
    publish_not_ready: bool,
}

impl BackendSource {
    pub(crate) fn write(source: &model::BackendSource) -> Self {
        match source {
            model::BackendSource::Known(endpoints) => {
                Self::Known(endpoints.iter().map(EndpointSource::write).collect())
            }
            model::BackendSource::Slices(port) => Self::Slices(ServicePort::write(port)),
        }
    }

    pub(crate) fn read(&self) -> model::BackendSource {
        match self {
            Self::Known(endpoints) => {
                model::BackendSource::Known(endpoints.iter().map(EndpointSource::read).collect())
            }
            Self::Slices(port) => model::BackendSource::Slices(port.read()),
        }
    }
}

impl EndpointSource {
    fn write(source: &model::EndpointSource) -> Self {
        match source {
            model::EndpointSource::Address(model::Endpoint { address }) => {
                Self::Address(Endpoint { address: address.clone() })
            }
            model::EndpointSource::Dns { hostname, port } => {
                Self::Dns { hostname: hostname.clone(), port: *port }
            }
        }
    }

    fn read(&self) -> model::EndpointSource {
        match self {
            Self::Address(Endpoint { address }) => {
                model::EndpointSource::Address(model::Endpoint { address: address.clone() })
            }
            Self::Dns { hostname, port } => {
                model::EndpointSource::Dns { hostname: hostname.clone(), port: *port }
            }
        }
    }
}

impl ServicePort {
    fn write(port: &model::ServicePort) -> Self {
        let model::ServicePort { name, publish_not_ready } = port;
        Self { name: name.clone(), publish_not_ready: *publish_not_ready }
    }

    fn read(&self) -> model::ServicePort {
        let Self { name, publish_not_ready } = self;
        model::ServicePort { name: name.clone(), publish_not_ready: *publish_not_ready }
    }
}
