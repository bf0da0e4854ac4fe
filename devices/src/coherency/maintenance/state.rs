// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The state of the maintenance operations.

use serde::{Deserialize, Serialize};

use super::{Extent, Op, Operations, UnderWay};
use crate::coherency::limits::{MAX_EXTENTS, MAX_OPERATIONS};
use crate::cpu::MAX_CPUS;
use crate::state::{Invalid, at_most, no_longer, times};

/// All but what is to go wrong.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::coherency) struct OperationsState {
    ops: Vec<Op>,
    extents: Vec<Extent>,
    cpus: [UnderWay; MAX_CPUS],
    completions: u32,
    overflow: bool,
    extents_overflow: bool,
}

impl Op {
    /// Of so many lines of RAM.
    fn check(&self, (ops, lines): (usize, u64)) -> Result<(), Invalid> {
        at_most("line of an operation", self.first_line, lines)?;
        no_longer("operations before one", self.planned as usize, ops)?;
        times(
            "lines of an operation",
            &[self.lines, self.dma_lines, self.needed],
        )
    }
}

impl Extent {
    /// Of so many operations and lines of RAM.
    fn check(&self, ops: usize, lines: u64) -> Result<(), Invalid> {
        at_most(
            "operation of lines",
            u64::from(self.number).wrapping_sub(1),
            ops as u64,
        )?;
        at_most("lines of an operation", self.count, lines)?;
        at_most("line of an operation", self.line, lines - self.count)
    }
}

impl UnderWay {
    /// Of so many operations.
    fn check(&self, ops: usize) -> Result<(), Invalid> {
        for number in self.incomplete.iter().chain([&self.open]) {
            no_longer("operation under way", *number as usize, ops)?;
        }
        no_longer("operations under way", self.incomplete.len(), ops)
    }
}

impl Operations {
    pub fn state(&self) -> OperationsState {
        let Operations {
            ops,
            extents,
            cpus,
            completions,
            overflow,
            extents_overflow,
            // The last has it.
            planned: _,
            late: _,
            faults: _,
            // What is counted is counted from the beginning.
            needed_at: _,
        } = self;
        OperationsState {
            ops: ops.clone(),
            extents: extents.clone(),
            cpus: cpus.clone(),
            completions: *completions,
            overflow: *overflow,
            extents_overflow: *extents_overflow,
        }
    }

    /// Takes it over, of so many lines of RAM.
    pub fn set_state(&mut self, state: OperationsState, lines: u64) -> Result<(), Invalid> {
        let ops = state.ops.len();
        no_longer("operations", ops, MAX_OPERATIONS)?;
        no_longer(
            "runs of lines of operations",
            state.extents.len(),
            MAX_EXTENTS,
        )?;
        state.ops.iter().try_for_each(|op| op.check((ops, lines)))?;
        let mut extents = state.extents.iter();
        extents.try_for_each(|extent| extent.check(ops, lines))?;
        state.cpus.iter().try_for_each(|cpu| cpu.check(ops))?;
        let completions = u32::MAX / 2;
        at_most(
            "barriers that completed operations",
            state.completions.into(),
            completions.into(),
        )?;
        let planned = state.ops.iter().map(|op| op.planned).max();
        self.planned = planned.unwrap_or(0);
        self.ops = state.ops;
        self.extents = state.extents;
        self.cpus = state.cpus;
        self.completions = state.completions;
        self.overflow = state.overflow;
        self.extents_overflow = state.extents_overflow;
        Ok(())
    }
}
