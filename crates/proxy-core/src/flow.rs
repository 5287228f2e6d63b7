use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use hashbrown::{HashTable, hash_table::Entry};

/// No slot: the end of a list.
const NONE: u32 = u32::MAX;

/// What makes datagrams one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The listening socket that receives them, as the caller numbers its sockets.
    pub socket: u32,
    /// The client that sends them.
    pub client: SocketAddr,
    /// The address that the client sends to, where the socket has more than one.
    pub local: Option<IpAddr>,
}

/// Names a flow while it is in its table. It doesn't name another one later (not before 2^32 flows
/// have had the same slot), so a stale id is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId {
    slot: u32,
    generation: u32,
}

/// A bounded table of flows, in the order of how long they have been idle.
///
/// Finding, inserting, touching and removing a flow take constant time, and none allocates once the
/// table has grown to the number of flows it holds. The hash is keyed (`SipHash` unless the caller
/// chooses another), so that clients can't choose addresses that collide.
#[derive(Debug)]
pub struct FlowTable<V, S = RandomState> {
    capacity: usize,
    hasher: S,
    /// Slots of the flows, by the hash of their keys.
    index: HashTable<u32>,
    slots: Vec<Slot<V>>,
    /// A list of free slots through `Slot::next`.
    free: u32,
    longest_idle: u32,
    last_seen: u32,
}

#[derive(Debug)]
struct Slot<V> {
    generation: u32,
    /// The flow that has been idle a little longer.
    previous: u32,
    /// The flow that was seen a little later; of a free slot the next free one.
    next: u32,
    flow: Option<Flow<V>>,
}

#[derive(Debug)]
struct Flow<V> {
    key: FlowKey,
    seen: Instant,
    value: V,
}

impl<V> FlowTable<V> {
    /// An empty table that holds `capacity` flows at most.
    pub fn new(capacity: usize) -> Self {
        Self::with_hasher(capacity, RandomState::new())
    }
}

impl<V, S: BuildHasher> FlowTable<V, S> {
    /// An empty table that holds `capacity` flows at most and hashes keys with `hasher`.
    pub fn with_hasher(capacity: usize, hasher: S) -> Self {
        Self {
            capacity: capacity.min(NONE as usize),
            hasher,
            index: HashTable::new(),
            slots: Vec::new(),
            free: NONE,
            longest_idle: NONE,
            last_seen: NONE,
        }
    }

    /// How many flows there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Whether a flow must leave before another one can come.
    pub fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// The flow with this key.
    pub fn find(&self, key: &FlowKey) -> Option<FlowId> {
        let slot = *self.index.find(self.hasher.hash_one(key), |&slot| {
            self.slots[slot as usize].flow.as_ref().is_some_and(|flow| flow.key == *key)
        })?;
        Some(self.id(slot))
    }

    /// Adds a flow that was seen now.
    ///
    /// # Errors
    /// Gives `value` back if the table is full or has a flow with this key.
    pub fn insert(&mut self, key: FlowKey, value: V, now: Instant) -> Result<FlowId, V> {
        if self.is_full() {
            return Err(value);
        }
        let (slots, hasher) = (&mut self.slots, &self.hasher);
        let key_at = |slot: u32| slots[slot as usize].flow.as_ref().map(|flow| flow.key);
        let entry = self.index.entry(
            hasher.hash_one(key),
            |&slot| key_at(slot) == Some(key),
            |&slot| key_at(slot).map_or(0, |key| hasher.hash_one(key)),
        );
        let Entry::Vacant(entry) = entry else { return Err(value) };
        let flow = Some(Flow { key, seen: now, value });
        let slot = match self.free {
            NONE => {
                let slot = slots.len() as u32;
                slots.push(Slot { generation: 0, previous: NONE, next: NONE, flow });
                slot
            }
            slot => {
                self.free = slots[slot as usize].next;
                slots[slot as usize].flow = flow;
                slot
            }
        };
        entry.insert(slot);
        self.link_last(slot);
        Ok(self.id(slot))
    }

    /// A flow's key.
    pub fn key(&self, id: FlowId) -> Option<&FlowKey> {
        self.flow(id).map(|flow| &flow.key)
    }

    /// When a datagram of the flow was seen last.
    pub fn seen(&self, id: FlowId) -> Option<Instant> {
        self.flow(id).map(|flow| flow.seen)
    }

    /// A flow's value.
    pub fn get(&self, id: FlowId) -> Option<&V> {
        self.flow(id).map(|flow| &flow.value)
    }

    /// A flow's value, to change.
    pub fn get_mut(&mut self, id: FlowId) -> Option<&mut V> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        slot.flow.as_mut().map(|flow| &mut flow.value)
    }

    /// Notes that a datagram of the flow, in whichever direction, was seen now. `now` must not go
    /// back. A stale id is ignored.
    pub fn touch(&mut self, id: FlowId, now: Instant) {
        if self.flow(id).is_none() {
            return;
        }
        if self.last_seen != id.slot {
            self.unlink(id.slot);
            self.link_last(id.slot);
        }
        if let Some(flow) = &mut self.slots[id.slot as usize].flow {
            flow.seen = now;
        }
    }

    /// Takes a flow out. `None` if the id is stale.
    pub fn remove(&mut self, id: FlowId) -> Option<(FlowKey, V)> {
        let key = *self.key(id)?;
        if let Ok(entry) = self.index.find_entry(self.hasher.hash_one(key), |&slot| slot == id.slot)
        {
            entry.remove();
        }
        self.unlink(id.slot);
        let slot = &mut self.slots[id.slot as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.next = self.free;
        self.free = id.slot;
        slot.flow.take().map(|flow| (flow.key, flow.value))
    }

    /// The flow that has been idle longest, and since when.
    pub fn longest_idle(&self) -> Option<(FlowId, Instant)> {
        let slot = self.slots.get(self.longest_idle as usize)?;
        slot.flow.as_ref().map(|flow| (self.id(self.longest_idle), flow.seen))
    }

    /// The flow that has been idle longest, if it has been for `timeout` or more.
    pub fn expired(&self, now: Instant, timeout: Duration) -> Option<FlowId> {
        let (id, seen) = self.longest_idle()?;
        (now.saturating_duration_since(seen) >= timeout).then_some(id)
    }

    /// All flows, from the longest idle to the last seen.
    pub fn iter(&self) -> impl Iterator<Item = (FlowId, &FlowKey, &V)> {
        let mut at = self.longest_idle;
        std::iter::from_fn(move || {
            let slot = self.slots.get(at as usize)?;
            let id = self.id(at);
            at = slot.next;
            slot.flow.as_ref().map(|flow| (id, &flow.key, &flow.value))
        })
    }

    fn id(&self, slot: u32) -> FlowId {
        FlowId { slot, generation: self.slots[slot as usize].generation }
    }

    fn flow(&self, id: FlowId) -> Option<&Flow<V>> {
        let slot = self.slots.get(id.slot as usize)?;
        slot.flow.as_ref().filter(|_| slot.generation == id.generation)
    }

    fn link_last(&mut self, slot: u32) {
        let last = std::mem::replace(&mut self.last_seen, slot);
        let entry = &mut self.slots[slot as usize];
        entry.previous = last;
        entry.next = NONE;
        match last {
            NONE => self.longest_idle = slot,
            last => self.slots[last as usize].next = slot,
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Slot { previous, next, .. } = self.slots[slot as usize];
        match previous {
            NONE => self.longest_idle = next,
            previous => self.slots[previous as usize].next = next,
        }
        match next {
            NONE => self.last_seen = previous,
            next => self.slots[next as usize].previous = previous,
        }
    }
}
