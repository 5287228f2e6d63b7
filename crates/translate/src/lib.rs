//! From a snapshot of objects to what a proxy runs and what is said about each object, in three
//! stages. Each is a function of its arguments alone: no I/O, no clock, nothing changed in place.
//!
//! 1. [`graph()`] relates the objects to each other. What is wrong with one hangs on its node, and
//!    invalid things stay in.
//! 2. [`compile()`] takes from the graph what can run.
//!    [`provisions()`] tells what has to be there in a cluster for it to run.
//! 3. [`status()`] puts into words what the graph says of each object, together with what the proxy
//!    reported. [`problems()`] does so for a person who checks manifests before any proxy runs.
#![forbid(unsafe_code)]

mod compile;
mod conditions;
mod finding;
mod graph;
mod problems;
mod provision;
mod settings;
mod status;
mod suggest;

pub use compile::{Compiled, compile};
pub use graph::{Graph, graph, service_endpoints};
pub use problems::{Problem, problems};
pub use provision::{Provision, provisions};
pub use settings::{
    AddressPool, Addresses, InvalidAddressPool, POD_ADMIN_PORT, ProxyAddresses, Settings,
};
pub use status::{GatewayObserved, Observed, Proxies, status};
