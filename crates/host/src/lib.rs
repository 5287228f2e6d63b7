//! The host and the process, for whoever carries sessions: sockets to listen on, and the process
//! that has a port; limits and memory; threads that give signs of life.
#![forbid(unsafe_code)]

mod heart;
mod limits;
mod listen;
mod memory;
mod port_holder;
mod socket;

pub use heart::Heart;
pub use limits::{local_ports, raise_descriptors};
pub use listen::{bind_udp_shared, listen_tcp, listen_tcp_shared};
pub use memory::memory;
pub use socket::{
    is_connected_to_itself, is_in_the_way, local_address, random_seed, set_keepalive,
};
