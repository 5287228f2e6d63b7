use std::{sync::Arc, time::Instant};

use crate::{DescriptorBudget, EndpointStore, MemoryBudget};

/// State that there is once in a process, for all who carry its sessions: what one of them finds
/// out, the others know, and what one takes or holds, the others can't. Clones are one and the
/// same.
#[derive(Clone, Debug)]
pub struct ProcessWide {
    /// Store of what is known of endpoints.
    pub endpoints: Arc<EndpointStore>,
    /// Budget of memory for bytes that peers haven't taken.
    pub memory: Arc<MemoryBudget>,
    /// Budget of the descriptors that sessions may use, with a pool for each worker. `None`: each
    /// who carries sessions has a budget of his own.
    pub descriptors: Option<Arc<DescriptorBudget>>,
}

impl ProcessWide {
    /// State at the beginning of a process that may use so many bytes of memory.
    pub fn new(now: Instant, memory: usize) -> Self {
        Self {
            endpoints: EndpointStore::new(now),
            memory: Arc::new(MemoryBudget::of(memory)),
            descriptors: None,
        }
    }
}
