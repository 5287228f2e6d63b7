use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, api::PostParams};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info, warn};

use crate::{
    connect::{Chain, Clients},
    fence::{Fence, boot_time},
};

/// How long others wait for a sign of life before they take over.
const LEASE_DURATION: Duration = Duration::from_secs(12);
const RENEW_EVERY: Duration = Duration::from_secs(3);
const RETRY_EVERY: Duration = Duration::from_secs(2);
const AFTER_FAILURE: Duration = Duration::from_millis(500);
/// Without a renewal for this long, this process no longer leads. Well before others may.
const GIVE_UP_AFTER: Duration = Duration::from_secs(9);
const REQUEST_TIMEOUT: Duration = Duration::from_millis(2500);

/// Takes part in the election of one leader, by a Lease.
///
/// Nobody's clock is trusted: what counts is how long a record hasn't changed while this process
/// looked at it. Without the Lease, the ordinary client changes nothing: a process that was stopped, or a
/// machine that slept, may go on when another has led for long.
#[derive(Debug)]
pub struct Leader {
    leading: watch::Receiver<bool>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Leader {
    /// Stands for election, in a task on the current tokio runtime. The identity has to be this
    /// process' own, such as its Pod's name and UID.
    pub fn start(clients: &Clients, namespace: &str, name: &str, identity: &str) -> Self {
        clients.fence.close();
        let (tell, leading) = watch::channel(false);
        let (stop, stopped) = oneshot::channel();
        let candidate = Candidate {
            leases: Api::namespaced(clients.lease.clone(), namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            election: Election { identity: identity.to_owned(), observed: None },
            tell,
            fence: clients.fence.clone(),
            renewed: None,
        };
        let task = tokio::spawn(candidate.run(stopped));
        Self { leading, stop: Some(stop), task }
    }

    /// Whether this process leads, and changes of that.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.leading.clone()
    }

    /// Whether this process leads.
    pub fn is_leader(&self) -> bool {
        *self.leading.borrow()
    }

    /// Leaves the election. If this process leads, another takes over at once.
    pub async fn release(mut self) {
        drop(self.stop.take());
        if let Err(error) = (&mut self.task).await {
            warn!(%error, "the election ended badly; another takes over when the Lease expires");
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Candidate {
    leases: Api<Lease>,
    namespace: String,
    name: String,
    election: Election,
    tell: watch::Sender<bool>,
    fence: Fence,
    /// When the last renewal that succeeded was begun, while this process leads, as [`boot_time`] counts.
    renewed: Option<Duration>,
}

/// What is known of the election.
struct Election {
    identity: String,
    /// Another's record, by its resourceVersion, and since when it has been this one.
    observed: Option<(String, Instant)>,
}

#[derive(Debug, PartialEq)]
enum Step {
    /// Nobody has made the Lease.
    Create,
    /// It is free, or its holder gives no sign of life.
    Take,
    /// It is this process'.
    Renew,
    /// It is another's.
    Wait,
}

impl Election {
    fn step(&mut self, lease: Option<&Lease>, now: Instant) -> Step {
        let Some(lease) = lease else { return Step::Create };
        let spec = lease.spec.as_ref();
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            self.observed = None;
            return if holder.is_empty() { Step::Take } else { Step::Renew };
        }
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
        let duration = seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let duration = duration.map_or(LEASE_DURATION, Duration::from_secs);
        match &self.observed {
            Some((seen, since)) if *seen == version => {
                if now.duration_since(*since) > duration {
                    Step::Take
                } else {
                    Step::Wait
                }
            }
            _ => {
                self.observed = Some((version, now));
                Step::Wait
            }
        }
    }

    /// The record of this process, in place of the one there was.
    fn claim(&self, old: Option<&LeaseSpec>, now: Timestamp) -> LeaseSpec {
        let ours = old.filter(|old| old.holder_identity.as_ref() == Some(&self.identity));
        let transitions = old.and_then(|old| old.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: ours.map_or(Some(MicroTime(now)), |ours| ours.acquire_time.clone()),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(transitions + i32::from(old.is_some() && ours.is_none())),
            ..old.cloned().unwrap_or_default()
        }
    }
}

impl Candidate {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        loop {
            let pause = self.round().await;
            tokio::select! {
                () = sleep(pause) => {}
                _ = &mut stopped => break,
            }
        }
        let led = self.renewed.is_some();
        self.set(false);
        if led && let Err(error) = within(REQUEST_TIMEOUT, self.give_up()).await {
            warn!(error, "the Lease can't be given up; another takes over when it expires");
        }
    }

    /// One look at the Lease; how long to wait before the next.
    async fn round(&mut self) -> Duration {
        let begun = boot_time();
        let left = self.renewed.map(|renewed| (renewed + GIVE_UP_AFTER).saturating_sub(begun));
        let limit = left.map_or(REQUEST_TIMEOUT, |left| left.min(REQUEST_TIMEOUT));
        match within(limit, self.look(Instant::now())).await {
            Ok(true) => {
                self.renewed = Some(begun);
                self.fence.open_until(begun + GIVE_UP_AFTER);
                self.set(true);
                return RENEW_EVERY;
            }
            Ok(false) => {
                self.renewed = None;
                self.set(false);
                return RETRY_EVERY;
            }
            Err(error) => debug!(error, lease = self.name, "no look at the leader's Lease"),
        }
        let Some(renewed) = self.renewed else { return AFTER_FAILURE };
        let left = (renewed + GIVE_UP_AFTER).saturating_sub(boot_time());
        if left.is_zero() {
            warn!(lease = self.name, "couldn't renew the leader's Lease in time");
            self.renewed = None;
            self.set(false);
        }
        left.min(AFTER_FAILURE)
    }

    /// Reads the Lease and does what it calls for; whether this process leads.
    async fn look(&mut self, now: Instant) -> Result<bool, kube::Error> {
        let lease = self.leases.get_opt(&self.name).await?;
        let step = self.election.step(lease.as_ref(), now);
        let params = PostParams::default();
        let old = lease.as_ref().and_then(|lease| lease.spec.as_ref());
        let spec = Some(self.election.claim(old, Timestamp::now()));
        match (step, lease) {
            (Step::Wait, _) => return Ok(false),
            (Step::Create, _) | (_, None) => {
                let metadata = ObjectMeta {
                    name: Some(self.name.clone()),
                    namespace: Some(self.namespace.clone()),
                    ..ObjectMeta::default()
                };
                self.leases.create(&params, &Lease { metadata, spec }).await?
            }
            // The resourceVersion is the one that was read: of two that try, one fails.
            (Step::Take | Step::Renew, Some(lease)) => {
                self.leases.replace(&self.name, &params, &Lease { spec, ..lease }).await?
            }
        };
        Ok(true)
    }

    async fn give_up(&self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else { return Ok(()) };
        let ours = Some(&self.election.identity);
        if let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == ours)
        {
            spec.holder_identity = None;
            self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }

    fn set(&self, leading: bool) {
        if !leading {
            self.fence.close();
        }
        let changed = self.tell.send_if_modified(|now| std::mem::replace(now, leading) != leading);
        if changed && leading {
            info!(lease = self.name, identity = self.election.identity, "leads");
        } else if changed {
            info!(lease = self.name, identity = self.election.identity, "leads no longer");
        }
    }
}

async fn within<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, String> {
    match timeout(limit, request).await {
        Ok(result) => result.map_err(|error| Chain(&error).to_string()),
        Err(_) => Err("no answer".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn election() -> Election {
        Election { identity: "me".to_owned(), observed: None }
    }

    fn lease(holder: &str, version: &str) -> Lease {
        let mut lease = Lease::default();
        lease.metadata.resource_version = Some(version.to_owned());
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(holder.to_owned()).filter(|holder| !holder.is_empty()),
            lease_duration_seconds: Some(12),
            // A clock that is far off.
            renew_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
            lease_transitions: Some(4),
            ..LeaseSpec::default()
        });
        lease
    }

    #[test]
    fn a_holder_is_dead_when_its_record_stays_the_same() {
        let mut election = election();
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(election.step(Some(&lease("other", "1")), now), Step::Wait);
        assert_eq!(election.step(Some(&lease("other", "1")), after(12)), Step::Wait);
        assert_eq!(election.step(Some(&lease("other", "2")), after(13)), Step::Wait);
        assert_eq!(election.step(Some(&lease("other", "2")), after(25)), Step::Wait);
        assert_eq!(election.step(Some(&lease("other", "2")), after(26)), Step::Take);
    }

    #[test]
    fn a_free_lease_is_taken_at_once() {
        let now = Instant::now();
        assert_eq!(election().step(None, now), Step::Create);
        assert_eq!(election().step(Some(&lease("", "1")), now), Step::Take);
        assert_eq!(election().step(Some(&lease("me", "1")), now), Step::Renew);
    }

    #[test]
    fn a_new_holder_is_counted_and_a_renewal_is_not() {
        let now = Timestamp::from_second(1000).unwrap();
        let claim = |old: &Lease| election().claim(old.spec.as_ref(), now);
        assert_eq!(claim(&lease("other", "1")).lease_transitions, Some(5));
        assert_eq!(claim(&lease("other", "1")).acquire_time, Some(MicroTime(now)));
        assert_eq!(claim(&lease("me", "1")).lease_transitions, Some(4));
        assert_eq!(claim(&lease("me", "1")).renew_time, Some(MicroTime(now)));
        assert_eq!(claim(&lease("me", "1")).acquire_time, None);
        assert_eq!(election().claim(None, now).lease_transitions, Some(0));
    }
}
