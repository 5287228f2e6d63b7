use std::sync::Arc;

use l4way_model as model;
use serde::{Deserialize, Serialize};

use super::{MissingKeyPair, Writer, pair::KeyPairRef};
use crate::KeyPairs;

/// Where sessions or requests go.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Route {
    id: model::RouteId,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    targets: Vec<WeightedTarget>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct WeightedTarget {
    #[serde(default = "one", skip_serializing_if = "is_one")]
    weight: u32,
    target: Target,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Target {
    Backend(model::BackendId),
    TlsBackend(model::BackendId, BackendTls),
    Refused(model::RefusedReason),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct BackendTls {
    server_name: Arc<str>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    alternative_names: Vec<model::AlternativeName>,
    authorities: model::Authorities,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_certificate: Option<KeyPairRef>,
}

impl Route {
    pub(super) fn write(route: &model::Route, writer: &mut Writer) -> Self {
        let model::Route { id, targets } = route;
        let targets = targets.iter().map(|target| WeightedTarget::write(target, writer));
        Self { id: id.clone(), targets: targets.collect() }
    }

    pub(super) fn read(&self, pairs: &KeyPairs) -> Result<model::Route, MissingKeyPair> {
        let Self { id, targets } = self;
        let targets = targets.iter().map(|target| target.read(pairs));
        Ok(model::Route { id: id.clone(), targets: targets.collect::<Result<_, _>>()? })
    }
}

impl WeightedTarget {
    fn write(target: &model::WeightedTarget, writer: &mut Writer) -> Self {
        let model::WeightedTarget { weight, target } = target;
        Self { weight: *weight, target: Target::write(target, writer) }
    }

    fn read(&self, pairs: &KeyPairs) -> Result<model::WeightedTarget, MissingKeyPair> {
        Ok(model::WeightedTarget { weight: self.weight, target: self.target.read(pairs)? })
    }
}

impl Target {
    fn write(target: &model::Target, writer: &mut Writer) -> Self {
        match target {
            model::Target::Backend(backend) => Self::Backend(backend.clone()),
            model::Target::TlsBackend(backend, tls) => {
                Self::TlsBackend(backend.clone(), BackendTls::write(tls, writer))
            }
            model::Target::Refused(reason) => Self::Refused(*reason),
        }
    }

    fn read(&self, pairs: &KeyPairs) -> Result<model::Target, MissingKeyPair> {
        Ok(match self {
            Self::Backend(backend) => model::Target::Backend(backend.clone()),
            Self::TlsBackend(backend, tls) => {
                model::Target::TlsBackend(backend.clone(), Arc::new(tls.read(pairs)?))
            }
            Self::Refused(reason) => model::Target::Refused(*reason),
        })
    }
}

impl BackendTls {
    fn write(tls: &model::BackendTls, writer: &mut Writer) -> Self {
        let model::BackendTls { server_name, alternative_names, authorities, client_certificate } =
            tls;
        Self {
            server_name: server_name.clone(),
            alternative_names: alternative_names.clone(),
            authorities: authorities.clone(),
            client_certificate: client_certificate.as_ref().map(|pair| writer.pair(pair)),
        }
    }

    fn read(&self, pairs: &KeyPairs) -> Result<model::BackendTls, MissingKeyPair> {
        let Self { server_name, alternative_names, authorities, client_certificate } = self;
        Ok(model::BackendTls {
            server_name: server_name.clone(),
            alternative_names: alternative_names.clone(),
            authorities: authorities.clone(),
            client_certificate: client_certificate
                .as_ref()
                .map(|pair| pair.read(pairs))
                .transpose()?,
        })
    }
}

/// The weight of a target that names none (Gateway API, `BackendRef`).
fn one() -> u32 {
    1
}

fn is_one(weight: &u32) -> bool {
    *weight == one()
}
