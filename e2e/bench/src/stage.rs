use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use crate::{
    Result,
    cluster::{Cluster, Kind},
    objects::{Transport, application, gateway, service},
    probe, say,
};

/// The applications, which all measurements share, and how Gateways are made.
pub(crate) struct Stage<'a> {
    pub(crate) cluster: &'a Cluster,
    class: &'a str,
}

/// A Gateway that serves.
#[derive(Debug)]
pub(crate) struct Served {
    /// Its address.
    pub(crate) address: IpAddr,
    /// Its proxy's own.
    pub(crate) pod: IpAddr,
}

impl<'a> Stage<'a> {
    /// Applications that say who they are. An `echo` answers with what it is sent.
    const APPLICATIONS: [(&'static str, Transport, &'static str); 6] = [
        ("a", Transport::Tcp, "a"),
        ("b", Transport::Tcp, "b"),
        ("echo", Transport::Tcp, ""),
        ("other", Transport::Tcp, "other"),
        ("udp-echo", Transport::Udp, ""),
        ("udp-other", Transport::Udp, "other"),
    ];

    /// Starts the applications, and waits until they answer.
    pub(crate) fn set(cluster: &'a Cluster, class: &'a str) -> Result<Self> {
        let stage = Self { cluster, class };
        say("starting the applications");
        for (name, transport, text) in Self::APPLICATIONS {
            cluster.apply(&application(name, transport, text), Kind::DEPLOYMENT)?;
            cluster.apply(&service(name, transport, true), Kind::SERVICE)?;
        }
        for (name, ..) in Self::APPLICATIONS {
            stage.wait_available(name, 1)?;
        }
        Ok(stage)
    }

    /// Waits until so many pods of a Deployment are ready.
    pub(crate) fn wait_available(&self, name: &str, replicas: u64) -> Result<()> {
        let is_available = |deployment: Option<&Value>| {
            deployment.is_some_and(|deployment| {
                deployment["status"]["availableReplicas"].as_u64() == Some(replicas)
            })
        };
        self.cluster.wait(Kind::DEPLOYMENT, name, is_available).map(drop)
    }

    /// Makes a Gateway, or changes its listeners.
    pub(crate) fn gateway(&self, name: &str, listeners: &[Value]) -> Result<()> {
        self.cluster.apply(&gateway(name, self.class, listeners), Kind::GATEWAY)
    }

    /// The address of a Gateway, once it has one.
    pub(crate) fn address(&self, gateway: &str) -> Result<IpAddr> {
        let address =
            |gateway: &Value| gateway["status"]["addresses"][0]["value"].as_str()?.parse().ok();
        let has_address =
            |gateway: Option<&Value>| gateway.is_some_and(|gateway| address(gateway).is_some());
        let gateway = self.cluster.wait(Kind::GATEWAY, gateway, has_address)?;
        gateway.as_ref().and_then(address).ok_or_else(|| "a Gateway has no address".to_owned())
    }

    /// Waits until an application answers at a port of a Gateway. Its address may have been another's
    /// a moment ago, and be led to that one's proxy still.
    pub(crate) fn serves(&self, gateway: &str, port: u16) -> Result<Served> {
        self.cluster.wait(Kind::GATEWAY, gateway, |gateway| gateway.is_some_and(is_programmed))?;
        let address = self.address(gateway)?;
        probe::tcp(SocketAddr::new(address, port), |answer| !answer.is_empty())?;
        let pods = self.pods(&format!("gateway.networking.k8s.io/gateway-name={gateway}"))?;
        let [(pod, _)] = pods[..] else {
            return Err(format!("Gateway {gateway} has {} pods instead of one", pods.len()));
        };
        Ok(Served { address, pod })
    }

    /// The addresses and UIDs of the running pods with a label.
    pub(crate) fn pods(&self, label: &str) -> Result<Vec<(IpAddr, String)>> {
        let pods = self.cluster.list(Kind::POD, label)?;
        let running = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let pods = running.filter_map(|pod| {
            let address = pod["status"]["podIP"].as_str()?.parse().ok()?;
            Some((address, pod["metadata"]["uid"].as_str()?.to_owned()))
        });
        Ok(pods.collect())
    }
}

fn is_programmed(gateway: &Value) -> bool {
    let conditions = gateway["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Programmed" && condition["status"] == "True")
}
