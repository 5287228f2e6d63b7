//! The proxy's decisions, without I/O: which target and endpoint a session takes, which UDP flows
//! there are, what is due when, what a TLS client wants, and how one configuration turns into the
//! next.
//!
//! Nothing here reads a clock or draws random numbers: the time and the seeds are passed in, so that
//! a test can replay anything.
#![forbid(unsafe_code)]

mod budget;
mod endpoint;
mod flow;
mod greeting;
mod health;
mod hostnames;
mod limits;
mod memory;
mod pick;
mod plan;
mod process;
mod rng;
mod seldom;
mod silent;
mod timers;

pub use budget::{Allowance, BudgetKind, DescriptorBudget, DescriptorPool, Descriptors, MakeRoom};
pub use flow::{FlowId, FlowKey, FlowTable};
pub use greeting::{
    Alert, ClientHello, Greeting, GreetingError, MAX_GREETING, SSL_REQUEST, read_greeting,
};
pub use health::{
    EndpointFailure, EndpointKey, EndpointOf, EndpointState, EndpointStore, HealthChange,
    HealthView, PassedOver,
};
pub use hostnames::Hostnames;
pub use limits::{Limits, WantedLimits};
pub use memory::{MemoryBudget, MemoryLoad};
pub use pick::WeightedPick;
pub use plan::{HandOver, Plan, plan};
pub use process::ProcessWide;
pub use rng::Rng;
pub use seldom::Seldom;
pub use silent::longest_silent_of_most;
pub use timers::{TimerId, Timers};
