use std::net::IpAddr;

use l4way_model as model;
use serde::{Deserialize, Serialize};

use super::{MissingKeyPair, Writer, route::Route};
use crate::KeyPairs;

/// A TCP or UDP listener.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Listener {
    id: model::ListenerId,
    transport: model::Transport,
    addresses: Vec<IpAddr>,
    port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    route: Option<Route>,
}

impl Listener {
    pub(crate) fn write(listener: &model::Listener, writer: &mut Writer) -> Self {
        let model::Listener { id, transport, addresses, port, route } = listener;
        Self {
            id: id.clone(),
            transport: *transport,
            addresses: addresses.clone(),
            port: *port,
            route: route.as_ref().map(|route| Route::write(route, writer)),
        }
    }

    pub(crate) fn read(&self, pairs: &KeyPairs) -> Result<model::Listener, MissingKeyPair> {
        let Self { id, transport, addresses, port, route } = self;
        Ok(model::Listener {
            id: id.clone(),
            transport: *transport,
            addresses: addresses.clone(),
            port: *port,
            route: route.as_ref().map(|route| route.read(pairs)).transpose()?,
        })
    }
}
