// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The coherency domain.

pub mod hazard;
pub mod report;

/// Bytes per cache line.
pub const LINE: u64 = 64;

/// Findings kept per run.
pub const MAX_HAZARDS: usize = 4096;

/// Transfers recorded per run.
pub const MAX_TRANSFERS: usize = 1 << 20;
