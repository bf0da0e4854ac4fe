// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What cache maintenance was done, and what for.

use serde::{Deserialize, Serialize};

use crate::{CacheOp, Cost, Hex, LINE, LineCost};

/// Cache maintenance by virtual address to the PoC. `cleaned` and `invalidated` are of the whole machine, all
/// else is of the operations that are accounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// Lines cleaned.
    pub cleaned: u64,
    /// Lines invalidated.
    pub invalidated: u64,
    /// Line operations on DMA memory whose loss would have been a hazard.
    pub needed: u64,
    /// Line operations on lines that DMA has touched whose loss would not have mattered.
    pub redundant: u64,
    /// Line operations of the DMA API on lines that no DMA has touched in the whole run. With the
    /// two above, these are all lines of the operations accounted.
    #[serde(default)]
    pub untouched: u64,
    /// By function that asked for it (see [`MaintenanceOp::caller`]), most lines first.
    pub callers: Vec<MaintenanceCaller>,
    /// Operations on DMA memory, of which a master has touched a line, in order: the K of
    /// `drop-maintenance=K` is the index, from 1. All, or the first of them
    /// and the one that was suppressed.
    pub operations: Vec<MaintenanceOp>,
    /// Operations elsewhere: on memory that no master has touched, of the DMA API or needed all the
    /// same, likewise. They have no K.
    #[serde(default)]
    pub elsewhere: Vec<MaintenanceOp>,
    /// How many of those there are.
    #[serde(default)]
    pub elsewhere_total: u64,
    /// How many there are in the other list: the largest K.
    #[serde(default)]
    pub operations_total: u64,
    /// How many of them are in `operations`.
    #[serde(default)]
    pub operations_listed: u64,
    /// Operations elsewhere that were not needed, and of which it is not known that the DMA API did
    /// them: they are in none of the sums. Without the kernel's `System.map`, that is known of none.
    #[serde(default)]
    pub unaccounted: u64,
    /// What all that is accounted cost, and between which devices.
    #[serde(default)]
    pub cost: Cost,
}

/// Maintenance of DMA memory by one function.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceCaller {
    /// The function, or an address.
    pub function: String,
    /// Operations.
    pub operations: u64,
    /// Line operations.
    pub lines: u64,
    /// Of these, lines cleaned, and lines invalidated; some are both.
    #[serde(default)]
    pub cleaned: u64,
    /// See `cleaned`.
    #[serde(default)]
    pub invalidated: u64,
    /// Of these, needed ones.
    pub needed: u64,
    /// Of these, those on lines that DMA has touched, and which were not needed.
    #[serde(default)]
    pub redundant: u64,
    /// Of these, those on lines that no DMA has touched.
    #[serde(default)]
    pub untouched: u64,
}

impl MaintenanceCaller {
    /// The same as other costs are told.
    pub fn cost(&self) -> LineCost {
        LineCost {
            operations: self.operations,
            lines: self.lines,
            bytes: self.lines.saturating_mul(LINE),
            cleaned: self.cleaned,
            invalidated: self.invalidated,
            needed: self.needed,
            redundant: self.redundant,
            untouched: self.untouched,
        }
    }
}

/// One maintenance operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceOp {
    /// Number since power-on: `drop-maintenance=@N`.
    pub number: u32,
    /// What was done.
    pub op: CacheOp,
    /// The routine and offset.
    pub routine: String,
    /// Who asked for it, and offset: the first in `chain` that is not part of the kernel's DMA
    /// API; empty if unknown.
    pub caller: String,
    /// Who called it, and offset, innermost first.
    #[serde(default)]
    pub chain: Vec<String>,
    /// First line.
    pub first_pa: Hex,
    /// Lines.
    pub lines: u64,
    /// Lines of DMA memory.
    pub dma_lines: u64,
    /// Of these, lines on which it was needed.
    pub needed_lines: u64,
    /// When, in accesses since power-on.
    pub at: u64,
    /// Whether it was suppressed on purpose.
    pub dropped: bool,
}

/// Something that was to go wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Injected {
    /// What, as a scenario has it: `CLASS@N:HOW`.
    pub fault: String,
    /// When it took place, in accesses since power-on; none if the run never came to it.
    pub at: Option<u64>,
}

/// A maintenance operation that was suppressed on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Its number since power-on.
    pub number: u32,
    /// The K asked for, if it was.
    pub nth: Option<u32>,
    /// Operations there were to choose from in the pilot run, if there was one.
    pub of: Option<usize>,
    /// Whether it came to pass.
    pub happened: bool,
}
