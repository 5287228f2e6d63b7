//! The flow table as one would write it without caring for speed, and a comparison of the two. The
//! property test and the fuzz target (`tests/fuzz.rs`) both drive it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use l4way_proxy_core::{FlowId, FlowKey, FlowTable};

const TIMEOUT: Duration = Duration::from_secs(60);

/// Something that happens to a table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A new flow, unless there is one with its key.
    Insert(FlowKey),
    /// A new flow; the longest idle makes room for it if need be.
    InsertEvicting(FlowKey),
    /// A datagram of a flow.
    Touch(FlowKey),
    /// The end of a flow.
    Remove(FlowKey),
    /// What a caller does that kept an id for too long.
    UseStale(usize),
    /// Time passes, and what has expired leaves.
    Expire(Duration),
}

impl Step {
    /// Reads steps from arbitrary bytes, three for each.
    pub(crate) fn decode(bytes: &[u8]) -> impl Iterator<Item = Self> + '_ {
        bytes.chunks_exact(3).map(|chunk| {
            let key = key(chunk[1], chunk[2]);
            match chunk[0] % 8 {
                0 | 1 => Self::Insert(key),
                2 => Self::InsertEvicting(key),
                3 | 4 => Self::Touch(key),
                5 => Self::Remove(key),
                6 => Self::UseStale(usize::from(chunk[1])),
                _ => Self::Expire(Duration::from_secs(u64::from(chunk[1] % 64))),
            }
        })
    }
}

/// Few enough keys that steps meet each other's flows, yet all kinds of them.
fn key(a: u8, b: u8) -> FlowKey {
    let client = match a & 1 {
        0 => IpAddr::from(Ipv4Addr::new(192, 0, 2, a >> 4)),
        _ => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(a >> 4)).into(),
    };
    let local = (a & 2 != 0).then(|| Ipv4Addr::new(127, 0, 0, b >> 6).into());
    FlowKey {
        socket: u32::from(a >> 2 & 1),
        client: SocketAddr::new(client, 40_000 + u16::from(b & 3)),
        local,
    }
}

/// The flows in the order of how long they have been idle, the longest first.
#[derive(Default)]
struct Model(Vec<(FlowKey, FlowId, Instant)>);

impl Model {
    fn position(&self, key: &FlowKey) -> Option<usize> {
        self.0.iter().position(|(k, ..)| k == key)
    }
}

/// Takes a table of `capacity` and the model through `steps`.
///
/// # Panics
/// If the two ever differ.
pub(crate) fn compare(capacity: usize, steps: impl IntoIterator<Item = Step>) {
    let mut now = Instant::now();
    let mut table = FlowTable::new(capacity);
    let mut model = Model::default();
    let mut stale = Vec::new();
    for step in steps {
        match step {
            Step::Insert(key) => insert(&mut table, &mut model, capacity, key, now),
            Step::InsertEvicting(key) => {
                if table.is_full() && table.find(&key).is_none() && capacity > 0 {
                    let (id, seen) = table.longest_idle().expect("a full table has flows");
                    let (evicted, expected, expected_seen) = model.0.remove(0);
                    assert_eq!((id, seen), (expected, expected_seen));
                    assert_eq!(table.remove(id), Some((evicted, evicted)));
                    stale.push(id);
                }
                insert(&mut table, &mut model, capacity, key, now);
            }
            Step::Touch(key) => {
                let id = table.find(&key);
                assert_eq!(id.is_some(), model.position(&key).is_some());
                if let (Some(id), Some(position)) = (id, model.position(&key)) {
                    table.touch(id, now);
                    let (key, id, _) = model.0.remove(position);
                    model.0.push((key, id, now));
                }
            }
            Step::Remove(key) => {
                if let Some(position) = model.position(&key) {
                    let (key, id, _) = model.0.remove(position);
                    assert_eq!(table.remove(id), Some((key, key)));
                    stale.push(id);
                }
            }
            Step::UseStale(index) => {
                if let Some(&id) = stale.get(index) {
                    table.touch(id, now);
                    assert_eq!((table.get(id), table.key(id)), (None, None));
                    assert_eq!(table.get_mut(id), None);
                    assert_eq!(table.remove(id), None);
                }
            }
            Step::Expire(after) => {
                now += after;
                while let Some(id) = table.expired(now, TIMEOUT) {
                    let (key, expected, seen) = model.0.remove(0);
                    assert_eq!(id, expected);
                    assert!(now - seen >= TIMEOUT, "expired early");
                    assert_eq!(table.remove(id), Some((key, key)));
                    stale.push(id);
                }
                assert!(model.0.iter().all(|(.., seen)| now - *seen < TIMEOUT), "expired late");
            }
        }
        assert_same(&table, &model, capacity);
    }
}

fn insert(
    table: &mut FlowTable<FlowKey>,
    model: &mut Model,
    capacity: usize,
    key: FlowKey,
    now: Instant,
) {
    let fits = model.0.len() < capacity && model.position(&key).is_none();
    match table.insert(key, key, now) {
        Ok(id) => {
            assert!(fits, "took a flow too many");
            model.0.push((key, id, now));
        }
        Err(value) => {
            assert!(!fits, "refused a flow that fits");
            assert_eq!(value, key);
        }
    }
}

fn assert_same(table: &FlowTable<FlowKey>, model: &Model, capacity: usize) {
    assert_eq!(table.len(), model.0.len());
    assert_eq!(table.is_empty(), model.0.is_empty());
    assert_eq!(table.is_full(), model.0.len() >= capacity);
    assert!(
        table.iter().eq(model.0.iter().map(|(key, id, _)| (*id, key, key))),
        "flows or their order differ"
    );
    for (key, id, _) in &model.0 {
        assert_eq!(table.find(key), Some(*id));
        assert_eq!(table.get(*id), Some(key));
    }
}
