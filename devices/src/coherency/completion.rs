// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What CPUs know of the writes of masters.

use serde::{Deserialize, Serialize};

use crate::cpu::CpuId;

/// What a CPU knows of the writes of one master. Writes are numbered over all masters, from 1.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Completion {
    /// The last event: its write, and where it stands.
    pub event: u32,
    pub line: u64,
    pub bytes: u64,
    /// When a CPU has first loaded it, in accesses since power-on; 0: not yet.
    pub seen_at: u64,
    /// Which one.
    pub seen_by: CpuId,
    /// Writes up to this one were there when a CPU read a register of the master.
    pub known: u32,
}
