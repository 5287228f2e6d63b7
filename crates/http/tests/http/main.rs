//! HTTP and HTTPS listeners with real clients and endpoints.

mod changes;
mod client;
mod drain;
mod endpoint;
mod protocols;
mod routing;
mod support;
mod tls;
