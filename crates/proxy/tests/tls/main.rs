//! TLS listeners, over real sockets and with rustls at both ends.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod abuse;
mod certificates;
#[path = "../common/mod.rs"]
mod common;
mod endpoints;
mod names;
mod postgres;
mod returns;
mod sessions;
mod support;
