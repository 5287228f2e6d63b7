//! Upgrades from the last release to this l4way and back, under steady traffic: nothing is lost but what
//! sessions on a proxy that is replaced lose when its drain is over.
//!
//! These tests install other versions of l4way, so they have a stage of their own: `make upgrade`.

mod certificate;
mod features;
mod installation;
mod release;
mod scene;
mod watch;
