//! Where each backend's sessions may go: the [`EndpointTable`], from EndpointSlices and the addresses
//! of names.
//!
//! Pods come and go much more often than configurations do, and a proxy may have many thousands. So
//! what follows them, [`Backends`], makes anew no more than the rows that a change is about, and tells
//! which of them are different.
//!
//! No I/O: who watches slices and looks up names passes in what has changed.
//!
//! [`EndpointTable`]: l4way_model::EndpointTable
#![forbid(unsafe_code)]

mod backends;
mod row;
mod slices;
mod sources;

pub use backends::Backends;
pub use slices::{Service, Slices};
pub use sources::{
    Addresses, EndpointSources, endpoint_table, hostnames, hostnames_by_backend, known,
};
