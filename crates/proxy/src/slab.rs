use crate::poll::SlotId;

/// Values at stable places, each named by an id that no later tenant of its place has: an event for
/// a session that is gone finds nothing.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Stores the value that `make` builds for its id.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(SlotId) -> T) -> SlotId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, value: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        let id = SlotId { index, generation: slot.generation };
        slot.value = Some(make(id));
        id
    }

    pub(crate) fn get_mut(&mut self, id: SlotId) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.index as usize)?;
        (slot.generation == id.generation).then_some(slot.value.as_mut()).flatten()
    }

    pub(crate) fn remove(&mut self, id: SlotId) -> Option<T> {
        let value = self.take(id)?;
        self.release(id);
        Some(value)
    }

    /// Takes a value out whose place is kept, until [`put_back`](Self::put_back) or
    /// [`release`](Self::release).
    pub(crate) fn take(&mut self, id: SlotId) -> Option<T> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        slot.value.take()
    }

    /// Stores a value in the place that was kept.
    pub(crate) fn put_back(&mut self, id: SlotId, value: T) {
        let slot = &mut self.slots[id.index as usize];
        debug_assert!(slot.generation == id.generation && slot.value.is_none());
        slot.value = Some(value);
    }

    /// Gives up a place that was kept.
    pub(crate) fn release(&mut self, id: SlotId) {
        let slot = &mut self.slots[id.index as usize];
        slot.generation = (slot.generation + 1) % SlotId::GENERATIONS;
        self.free.push(id.index);
    }

    /// All values, with their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SlotId, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let id = SlotId { index: index as u32, generation: slot.generation };
            Some((id, slot.value.as_ref()?))
        })
    }

    /// The ids of the values that `wanted` chooses.
    pub(crate) fn ids(&self, wanted: impl Fn(&T) -> bool) -> Vec<SlotId> {
        self.iter().filter_map(|(id, value)| wanted(value).then_some(id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_one_tenant_only() {
        let mut slab = Slab::new();
        let first = slab.insert_with(|_| "first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert_with(|_| "second");
        assert_eq!(first.index, second.index);
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut "second"));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn a_kept_place_is_nobody_elses() {
        let mut slab = Slab::new();
        let id = slab.insert_with(|_| "before");
        assert_eq!(slab.take(id), Some("before"));
        assert_eq!(slab.get_mut(id), None);
        assert_eq!(slab.len(), 1);
        assert_ne!(slab.insert_with(|_| "other").index, id.index);
        slab.put_back(id, "after");
        assert_eq!(slab.get_mut(id), Some(&mut "after"));
        assert_eq!(slab.take(id), Some("after"));
        slab.release(id);
        assert_eq!(slab.get_mut(id), None);
        assert_eq!(slab.len(), 1);
    }
}
