//! l4way in a Kubernetes cluster, as its users meet it: kubectl, nc, and what status, events, metrics
//! and `l4way check` tell.
//!
//! `make e2e` runs them. They need the project's cluster (e2e/cluster) with l4way installed, and run
//! inside its network namespace. Each test has a namespace of its own, but for the tutorial, which is
//! in `default`, as its text has it.
#![allow(clippy::print_stderr, reason = "a failing test shows what the cluster has")]

mod audit;
mod kills;
mod lifecycle;
mod options;
mod overview;
mod ownership;
mod parameters;
mod reach;
mod resilience;
mod status;
mod support;
mod traffic;
mod troubleshooting;
mod tutorial;
mod upgrade;
