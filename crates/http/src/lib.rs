//! HTTP and HTTPS listeners: the requests of a [`model::Config`] to endpoints, by host, path and
//! headers.
//!
//! # Threads
//! [`HttpProxy`] is the control side, for one thread at a time. Everything else is tasks of a tokio
//! runtime on a thread of its own, `http`: one that accepts for each socket, one for each
//! connection of either side, one for each upgraded connection. Clients of HTTPS listeners are
//! accepted by `l4way-proxy`'s workers, which find the listener by the name that they ask for, and
//! come by way of [`HttpProxy::https`].
//!
//! # What a request sees
//! Each socket has a view: the listeners of its port and every backend's endpoints. A request takes
//! the view that is in force when its head has been read, and keeps it to its end, so a change is
//! seen as a whole or not at all.
//!
//! # Use
//! [`HttpProxy::start`] begins with nothing to carry. For a new configuration [`HttpProxy::prepare`]
//! comes first, so that ports are free for whoever wants them next, and HTTPS clients are welcome as soon
//! as somebody accepts them; then [`HttpProxy::listen`].
//! [`HttpProxy::update_endpoints`] and [`HttpProxy::retry_failed`] are called in between, and
//! [`HttpProxy::drain`] ends it. [`HttpProxy::counters`] is for metrics.
//!
//! [`model::Config`]: l4way_model::Config
#![forbid(unsafe_code)]

mod accept;
mod answer;
mod body;
mod connection;
mod control;
mod counters;
mod downstream;
mod drain;
mod endpoints;
mod exchange;
mod flow;
mod forward;
mod forwarding;
mod framing;
#[cfg(test)]
mod fuzz;
mod headers;
mod host;
mod https;
mod inlet;
mod loops;
mod metered;
mod ongoing;
mod path;
mod pool;
mod pulse;
mod record;
mod room;
mod settings;
mod snapshot;
mod streams;
mod table;
mod target;
mod upgrade;
mod watch;

pub use control::{EndpointRequests, HttpProxy};
pub use counters::{ErrorReason, HttpCounters, RequestLabels};
pub use settings::{HttpSettings, Timeouts};
pub use snapshot::{HttpSnapshot, RequestRowSnapshot};
