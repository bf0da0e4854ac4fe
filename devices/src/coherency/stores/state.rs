// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The state of the stores that were overtaken.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Lost, Overtaken, SPANS, Span, Stored};
use crate::cpu::MAX_CPUS;
use crate::state::{Invalid, no_longer, times};

/// All but for how many there is room; how many there are follows.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::coherency) struct OvertakenState {
    spans: [VecDeque<Span>; MAX_CPUS],
    lost: [Lost; MAX_CPUS],
    forgotten: usize,
    released: u64,
    /// In order of the lines.
    by_line: Vec<(u64, Vec<Stored>)>,
    full: bool,
    spans_full: bool,
}

impl Overtaken {
    pub fn state(&self) -> OvertakenState {
        let Overtaken {
            spans,
            lost,
            forgotten,
            released,
            by_line,
            count: _,
            limit: _,
            full,
            spans_full,
        } = self;
        let lines = by_line.iter();
        let mut by_line: Vec<_> = lines.map(|(n, stores)| (*n, stores.clone())).collect();
        by_line.sort_unstable_by_key(|(number, _)| *number);
        OvertakenState {
            spans: spans.clone(),
            lost: *lost,
            forgotten: *forgotten,
            released: *released,
            by_line,
            full: *full,
            spans_full: *spans_full,
        }
    }

    /// Takes it over.
    pub fn set_state(&mut self, state: OvertakenState) -> Result<(), Invalid> {
        for spans in &state.spans {
            no_longer("times between barriers", spans.len(), SPANS)?;
        }
        times("times forgotten", &[state.forgotten as u64, state.released])?;
        let count = state.by_line.iter().map(|(_, stores)| stores.len()).sum();
        no_longer("stores that were overtaken", count, self.limit)?;
        self.by_line.clear();
        for (number, stores) in state.by_line {
            if stores.is_empty() || self.by_line.insert(number, stores).is_some() {
                return Err(Invalid::new(
                    "line with stores overtaken",
                    number,
                    "each once",
                ));
            }
        }
        self.spans = state.spans;
        self.lost = state.lost;
        self.forgotten = state.forgotten;
        self.released = state.released;
        self.count = count;
        self.full = state.full;
        self.spans_full = state.spans_full;
        Ok(())
    }
}
