// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The state of the sanitizer beside the lines themselves.

use serde::{Deserialize, Serialize};

use super::memory::{OfCpu, Sanitizer};
use crate::coherency::cleans::Room;
use crate::coherency::findings::state::FindingsState;
use crate::coherency::limits::MAX_CLEANS;
use crate::coherency::maintenance::state::OperationsState;
use crate::coherency::stores::state::OvertakenState;
use crate::cpu::{CpuId, MAX_CPUS};
use crate::state::{Invalid, State, times};

/// What it knows of the run.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::coherency) struct SanitizerState {
    findings: FindingsState,
    ops: OperationsState,
    cpus: [OfCpu; MAX_CPUS],
    cpu: CpuId,
    overtaken: OvertakenState,
    room: Room,
    now: u64,
    outside_at: u64,
}

impl State for SanitizerState {
    const COMPONENT: &'static str = "sanitizer";
    const VERSION: u16 = 4;
}

impl Sanitizer {
    pub fn to_state(&self) -> SanitizerState {
        let Sanitizer {
            findings,
            ops,
            cpus,
            cpu,
            overtaken,
            room,
            now,
            outside_at,
            tap: _,
            base: _,
        } = self;
        SanitizerState {
            findings: findings.state(),
            ops: ops.state(),
            cpus: *cpus,
            cpu: *cpu,
            overtaken: overtaken.state(),
            room: *room,
            now: *now,
            outside_at: *outside_at,
        }
    }

    /// Takes it over, of so many lines of RAM.
    pub fn set_state(&mut self, state: SanitizerState, lines: u64) -> Result<(), Invalid> {
        times("accesses since power-on", &[state.now, state.outside_at])?;
        state.room.check(MAX_CLEANS)?;
        self.findings
            .set_state(state.findings, lines * crate::cpu::LINE)?;
        self.ops.set_state(state.ops, lines)?;
        self.overtaken.set_state(state.overtaken)?;
        self.cpus = state.cpus;
        self.cpu = state.cpu;
        self.room = state.room;
        self.now = state.now;
        self.outside_at = state.outside_at;
        Ok(())
    }
}
