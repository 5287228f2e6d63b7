//! How many sessions endpoints have, whoever carries them.

use std::{collections::HashMap, time::Duration};

use l4way_model::{BackendId, EndpointAddress, EndpointPlace};

use crate::kernel_path::KernelCounters;

/// How long workers have to answer.
const WITHIN: Duration = Duration::from_secs(1);
/// For how many endpoints they are asked at a time, so that no session waits for an answer.
const AT_A_TIME: usize = 1_000;
/// How old what is known of the kernel's sessions may be.
const KERNEL_AGE: Duration = Duration::from_secs(1);

/// Counts the sessions of endpoints. Cheap to share.
#[derive(Clone, Debug)]
pub(crate) struct EndpointSessions {
    pub(super) sessions: l4way_proxy::EndpointSessions,
    pub(super) http: l4way_http::EndpointRequests,
    pub(super) kernel: KernelCounters,
}

impl EndpointSessions {
    /// How many sessions each of these endpoints has, in the same order; requests of HTTP that are on their
    /// way, too. `None` if a worker is too busy to say. It may take a second.
    pub(crate) fn count(&self, endpoints: &[EndpointPlace]) -> Option<Vec<u64>> {
        let mut counts = self.http.count(endpoints);
        for (counts, endpoints) in counts.chunks_mut(AT_A_TIME).zip(endpoints.chunks(AT_A_TIME)) {
            let of_workers = self.sessions.count(endpoints, WITHIN)?;
            counts.iter_mut().zip(of_workers).for_each(|(count, sessions)| *count += sessions);
        }
        let of_kernel = self.of_kernel();
        for (count, EndpointPlace { backend, address, .. }) in counts.iter_mut().zip(endpoints) {
            *count += of_kernel.get(&(backend.clone(), address.clone())).copied().unwrap_or(0);
        }
        Some(counts)
    }

    fn of_kernel(&self) -> HashMap<(BackendId, EndpointAddress), u64> {
        let mut counts = HashMap::new();
        for row in self.kernel.endpoints(KERNEL_AGE) {
            if let Some(backend) = &row.labels.backend {
                let key = (backend.clone(), EndpointAddress::Ip(row.endpoint));
                *counts.entry(key).or_default() += row.active();
            }
        }
        counts
    }
}
