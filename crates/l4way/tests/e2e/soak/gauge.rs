//! What the process takes, as time goes by.

use std::fs;

use super::super::l4way::{L4way, wait_for};

const MEBIBYTE: u64 = 1 << 20;

/// What a process takes at one time.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// Resident memory in bytes.
    memory: u64,
    descriptors: usize,
    threads: usize,
}

impl Reading {
    fn of(l4way: &L4way) -> Self {
        let count = |what: &str| {
            fs::read_dir(format!("/proc/{}/{what}", l4way.pid())).expect("its state").count()
        };
        Self { memory: l4way.resident(), descriptors: count("fd"), threads: count("task") }
    }
}

/// The readings of a process, at least one.
pub(super) struct Gauge {
    readings: Vec<Reading>,
    /// After everybody has gone.
    last: Reading,
}

impl Gauge {
    pub(super) fn new(l4way: &L4way) -> Self {
        let first = Reading::of(l4way);
        Self { readings: vec![first], last: first }
    }

    pub(super) fn read(&mut self, l4way: &L4way) {
        self.readings.push(Reading::of(l4way));
    }

    /// The most memory in each quarter of the time.
    fn quarters(&self) -> Vec<u64> {
        let size = self.readings.len().div_ceil(4);
        let most = |quarter: &[Reading]| quarter.iter().map(|reading| reading.memory).max();
        self.readings.chunks(size).filter_map(most).collect()
    }

    /// For a person.
    pub(super) fn report(&self) -> String {
        let quarters = self.quarters().into_iter();
        let memory: Vec<_> = quarters.map(|most| format!("{} MiB", most / MEBIBYTE)).collect();
        let most = |of: fn(&Reading) -> usize| self.readings.iter().map(of).max().unwrap_or(0);
        format!(
            "most memory by quarters {}; at most {} descriptors, {} threads; at first {:?}\n",
            memory.join(", "),
            most(|reading| reading.descriptors),
            most(|reading| reading.threads),
            self.readings[0],
        )
    }

    /// Waits until nobody's descriptors are left but a few of what is kept for the next request.
    pub(super) fn settle(&mut self, l4way: &L4way) {
        let first = self.readings[0].descriptors;
        wait_for("its descriptors", || {
            self.last = Reading::of(l4way);
            (self.last.descriptors <= first + 8).then_some(())
        });
        eprintln!("at last {:?}", self.last);
    }

    /// # Panics
    /// If the process takes ever more.
    pub(super) fn assert_flat(&self) {
        let first = self.readings[0];
        assert!(self.last.threads <= first.threads, "{:?}, then {:?}", first, self.last);
        if let [_, second, third, fourth] = self.quarters()[..] {
            // The allocator's own ups and downs are in it.
            let most = second.max(third);
            let room = most / 10 + 4 * MEBIBYTE;
            assert!(fourth <= most + room, "{}", self.report());
        }
    }
}
