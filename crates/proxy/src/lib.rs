//! The data plane: it carries the TCP connections and UDP datagrams of a [`model::Config`] to
//! endpoints.
//!
//! # Threads
//! [`Proxy`] is the control side, for one thread at a time. Each worker is a thread with a readiness
//! loop (epoll(7), edge-triggered) over sockets, sessions, buffers and counters of its own. It takes
//! no lock but for one session in sixteen, which leaves a trace by which sessions are known that come back;
//! and all that others write of what it reads is its mailbox, through which commands come, those traces,
//! and what is taken of the [`DescriptorBudget`]. Each socket to listen on exists once per worker
//! (`SO_REUSEPORT`); a worker that accepts a connection gives it to another one that has clearly
//! fewer, and from then on a session stays with its worker.
//!
//! # Use
//! [`Proxy::start`] begins with nothing to carry; [`Proxy::apply`] and [`Proxy::update_endpoints`]
//! change that while it runs; [`Proxy::retry_failed`], called now and then, binds what was taken
//! before; [`Proxy::drain`] and [`Proxy::stop`] end it. [`Proxy::counters`] is for metrics,
//! [`ProxySettings::tap`] for an access log.
//!
//! [`DescriptorBudget`]: l4way_proxy_core::DescriptorBudget
//! [`model::Config`]: l4way_model::Config
#![deny(unsafe_code)]

mod apply;
mod compile;
mod context;
mod endpoint_sessions;
mod https;
mod keys;
mod loops;
mod mailbox;
mod poll;
mod proxy;
mod routes;
mod settings;
mod slab;
mod tcp;
mod tls;
mod udp;
mod worker;

pub use endpoint_sessions::EndpointSessions;
pub use https::{HttpsClient, HttpsSink};
pub use proxy::Proxy;
pub use settings::ProxySettings;
