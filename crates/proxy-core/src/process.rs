use std::{sync::Arc, time::Instant};

use crate::{DescriptorBudget, EndpointStore, MemoryBudget};

/// What there is once in a process, whoever carries its sessions: what one of them finds out, the
/// others know, and what one takes or holds, the others can't. Clones are one and the same.
#[derive(Clone, Debug)]
pub struct ProcessWide {
    /// What is known of endpoints.
    pub endpoints: Arc<EndpointStore>,
    /// What sessions may hold of what their peers haven't taken.
    pub memory: Arc<MemoryBudget>,
    /// The descriptors that sessions may use, with a pool for each worker. `None`: whoever carries
    /// sessions has a budget of his own.
    pub descriptors: Option<Arc<DescriptorBudget>>,
}

impl ProcessWide {
    /// What a process has at its beginning that may use so many bytes of memory.
    pub fn new(now: Instant, memory: usize) -> Self {
        Self {
            endpoints: EndpointStore::new(now),
            memory: Arc::new(MemoryBudget::of(memory)),
            descriptors: None,
        }
    }
}
