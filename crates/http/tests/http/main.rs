//! HTTP and HTTPS listeners with real clients and endpoints.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod changes;
mod client;
mod drain;
mod endpoint;
mod forwarding;
mod framing;
mod loops;
mod memory;
mod protocols;
mod room;
mod routing;
mod support;
mod targets;
mod timeouts;
mod tls;
