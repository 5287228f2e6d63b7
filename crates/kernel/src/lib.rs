//! The kernel path: nftables NAT, made from the same [`Config`] as the proxy's listeners, carries TCP
//! and UDP sessions that need nothing from user space, and conntrack tells what became of them.
//!
//! # Beside the proxy, not in its place
//! The proxy keeps its sockets. Rules catch the first packets of new clients on the way to them, so
//! that whatever no rule catches is the proxy's: a listener that the kernel can't carry, clients on
//! an address that it can't serve, the time before the rules are there and after they are gone. The
//! sessions that there are stay with whom they began.
//!
//! # What is in the kernel
//! One table, `inet l4way`, which this process owns where Linux is 6.9 or newer. It stays if the
//! process dies, and new sessions go on; the next process in the network namespace takes it over.
//! Nobody else's table is touched.
//!
//! # What it can't know
//! How long a connection took, which side reset it, and how many bytes of TCP's headers are options:
//! `docs/kernel-path.md` lists it.
//!
//! [`Config`]: l4way_model::Config
#![forbid(unsafe_code)]

mod conntrack;
mod host;
mod lock;
mod netlink;
mod nftables;
mod path;
mod plan;
mod ruleset;
mod sessions;
mod watch;

pub use path::{KernelPath, KernelSettings, ProxiedFlows, SourceAddress};
pub use sessions::{EndpointRow, Totals};
pub use watch::Observer;
