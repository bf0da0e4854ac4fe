// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The state of memory and caches as one granule sees it, and what changes it.

use crate::program::{MAX_POLLED, Symbol};

/// Granules that are followed at a time: one, and those that are polled.
pub(super) const SLOTS: usize = 1 + MAX_POLLED;

/// A line in the caches, which are coherent among themselves: one cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Copy {
    /// No copy.
    #[default]
    Absent,
    /// A copy that will not be written back.
    Clean,
    /// A copy that may be written back at any moment, whole.
    Dirty,
}

/// How the latest write of the followed granule was destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Gone {
    /// It was not.
    #[default]
    No,
    /// A dirty line that did not hold it was written back over it.
    WrittenOver,
    /// An invalidate, the event of that index, dropped the only copy.
    Dropped(u8),
}

/// One state. Slot 0 is the granule that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct State {
    /// Steps that took effect: bit = index of the event.
    pub done: u32,
    /// Each line's copy.
    pub copies: [Copy; SLOTS],
    /// Each slot's value at the PoC.
    pub memory: [Symbol; SLOTS],
    /// Each slot's value in the cache; 0 if absent, so that equal states are equal.
    pub cached: [Symbol; SLOTS],
    /// The event that wrote slot 0 last; [`AT_FIRST`]: nobody yet.
    pub last: u8,
    /// Its value.
    pub value: Symbol,
    /// Whether that still exists anywhere.
    pub gone: Gone,
}

/// Instead of the event that wrote: what was there at first.
pub(super) const AT_FIRST: u8 = u8::MAX;

/// Where slots lie: `line[slot]`, numbered as in [`State::copies`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Layout {
    pub slots: usize,
    pub lines: usize,
    pub line: [usize; SLOTS],
    pub cacheable: [bool; SLOTS],
}

impl Layout {
    fn on(self, line: usize) -> impl Iterator<Item = usize> {
        (0..self.slots).filter(move |s| self.line[*s] == line)
    }
}

impl State {
    /// What a reader of the slot gets now.
    pub fn read(&self, layout: &Layout, slot: usize, coherent: bool) -> Symbol {
        if coherent && self.copies[layout.line[slot]] != Copy::Absent {
            self.cached[slot]
        } else {
            self.memory[slot]
        }
    }

    /// The line is brought in, if it is not there.
    pub fn fill(&mut self, layout: &Layout, line: usize) {
        if self.copies[line] == Copy::Absent {
            self.copies[line] = Copy::Clean;
            for s in layout.on(line) {
                self.cached[s] = self.memory[s];
            }
        }
    }

    /// A dirty line is written to the PoC, whole.
    pub fn clean(&mut self, layout: &Layout, line: usize) {
        if self.copies[line] == Copy::Dirty {
            self.copies[line] = Copy::Clean;
            for s in layout.on(line) {
                self.memory[s] = self.cached[s];
            }
        }
    }

    /// The copy is dropped.
    pub fn drop_copy(&mut self, layout: &Layout, line: usize) {
        self.copies[line] = Copy::Absent;
        for s in layout.on(line) {
            self.cached[s] = 0;
        }
    }

    /// A write into the cache.
    pub fn write_cached(&mut self, layout: &Layout, line: usize, slots: u8, value: Symbol) {
        self.fill(layout, line);
        self.copies[line] = Copy::Dirty;
        for s in layout.on(line) {
            if slots >> s & 1 != 0 {
                self.cached[s] = value;
            }
        }
    }

    /// A write to the PoC.
    pub fn write_memory(&mut self, slots: u8, value: Symbol) {
        for (s, memory) in self.memory.iter_mut().enumerate() {
            if slots >> s & 1 != 0 {
                *memory = value;
            }
        }
    }

    /// Slot 0 has a new latest write.
    pub fn written(&mut self, event: u8, value: Symbol) {
        self.last = event;
        self.value = value;
        self.gone = Gone::No;
    }

    /// After each change: whether the latest write of slot 0 still exists.
    pub fn judge(&mut self, layout: &Layout, dropped_by: Option<u8>) {
        let in_cache = self.copies[layout.line[0]] != Copy::Absent && self.cached[0] == self.value;
        if self.gone == Gone::No && self.memory[0] != self.value && !in_cache {
            self.gone = match dropped_by {
                Some(event) => Gone::Dropped(event),
                None => Gone::WrittenOver,
            };
        }
    }
}
