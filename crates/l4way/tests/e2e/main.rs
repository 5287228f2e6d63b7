//! l4way as its users meet it: the binary, real clients, real sockets.
//!
//! Each test runs l4way on loopback addresses of its own, so that manifests keep their ports, or in
//! network namespaces that it makes and removes. It needs root for those, and says so.
#![allow(clippy::print_stderr, reason = "a failing test shows the log")]

mod addresses;
mod admin;
mod check;
mod client;
mod controller;
mod crds;
mod dead_endpoints;
mod directories;
mod docs;
mod forwarding;
mod h2spec;
mod kernel_path;
mod l4way;
mod limits;
mod manifests;
mod memory;
mod namespaces;
mod refused;
mod reload;
mod returns;
mod secrecy;
mod signals;
mod soak;
mod stalled;
mod tls;
mod tutorial;
