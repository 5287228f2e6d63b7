//! `l4way controller`: in a cluster, what gives every Gateway its proxies.

mod objects;
mod provision;
