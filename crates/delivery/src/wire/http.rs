use std::net::IpAddr;

use l4way_model as model;
use serde::{Deserialize, Serialize};

use super::{MissingKeyPair, Writer, route::Route};
use crate::KeyPairs;

/// The HTTP listeners that share a port.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct HttpPort {
    addresses: Vec<IpAddr>,
    port: u16,
    listeners: Vec<HttpListener>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct HttpListener {
    id: model::ListenerId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hostname: Option<model::Hostname>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rules: Vec<HttpRule>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct HttpRule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hostname: Option<model::Hostname>,
    #[serde(default = "every_path", skip_serializing_if = "is_every_path")]
    path: model::PathMatch,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<model::HeaderMatch>,
    route: Route,
}

impl HttpPort {
    pub(crate) fn write(port: &model::HttpPort, writer: &mut Writer) -> Self {
        let model::HttpPort { addresses, port, listeners } = port;
        let listeners = listeners.iter().map(|listener| HttpListener::write(listener, writer));
        Self { addresses: addresses.clone(), port: *port, listeners: listeners.collect() }
    }

    pub(crate) fn read(&self, pairs: &KeyPairs) -> Result<model::HttpPort, MissingKeyPair> {
        let Self { addresses, port, listeners } = self;
        let listeners = listeners.iter().map(|listener| listener.read(pairs));
        Ok(model::HttpPort {
            addresses: addresses.clone(),
            port: *port,
            listeners: listeners.collect::<Result<_, _>>()?,
        })
    }
}

impl HttpListener {
    fn write(listener: &model::HttpListener, writer: &mut Writer) -> Self {
        let model::HttpListener { id, hostname, rules } = listener;
        let rules = rules.iter().map(|rule| HttpRule::write(rule, writer));
        Self { id: id.clone(), hostname: hostname.clone(), rules: rules.collect() }
    }

    fn read(&self, pairs: &KeyPairs) -> Result<model::HttpListener, MissingKeyPair> {
        let Self { id, hostname, rules } = self;
        let rules = rules.iter().map(|rule| rule.read(pairs));
        Ok(model::HttpListener {
            id: id.clone(),
            hostname: hostname.clone(),
            rules: rules.collect::<Result<_, _>>()?,
        })
    }
}

impl HttpRule {
    pub(super) fn write(rule: &model::HttpRule, writer: &mut Writer) -> Self {
        let model::HttpRule { hostname, path, headers, route } = rule;
        Self {
            hostname: hostname.clone(),
            path: path.clone(),
            headers: headers.clone(),
            route: Route::write(route, writer),
        }
    }

    pub(super) fn read(&self, pairs: &KeyPairs) -> Result<model::HttpRule, MissingKeyPair> {
        let Self { hostname, path, headers, route } = self;
        Ok(model::HttpRule {
            hostname: hostname.clone(),
            path: path.clone(),
            headers: headers.clone(),
            route: route.read(pairs)?,
        })
    }
}

/// The path of a rule that names none (Gateway API, `HTTPRouteMatch`).
fn every_path() -> model::PathMatch {
    model::PathMatch::Prefix("/".into())
}

fn is_every_path(path: &model::PathMatch) -> bool {
    *path == every_path()
}
