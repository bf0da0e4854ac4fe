// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! How much is kept of a run.

use crate::faults::MAX_FAULTS;

/// Findings of each kind listed per run. Beyond, they are counted, but not their lines.
pub const MAX_HAZARDS: usize = 1 << 17;

/// Findings counted per run.
pub const MAX_CAUSES: usize = 1 << 20;

/// Lines counted per run, for each finding those that it is on. So many take 200 MiB.
pub const MAX_LINES: usize = 1 << 22;

/// Single occurrences of findings kept per run, where they are asked for.
pub const MAX_OCCURRENCES: usize = 1 << 16;

/// Transfers recorded per run. A line's metadata has room for IDs below 2^24; this many take 200 MiB.
pub const MAX_TRANSFERS: usize = 1 << 21;

/// Maintenance operations told apart per run; what comes after counts as one. So many take 350 MiB.
pub const MAX_OPERATIONS: usize = 1 << 22;

/// Runs of adjacent lines that they were on, likewise.
pub const MAX_EXTENTS: usize = 1 << 23;

/// Cleans of parts of lines kept where a line has no room for them. So many take 24 MiB.
pub const MAX_CLEANS: usize = 1 << 20;

/// Stores kept that others to the same line have overtaken, likewise.
pub const MAX_OVERTAKEN: usize = 1 << 16;

/// Lines of maintenance that a fault makes late, at one time; beyond, they are left out.
pub const MAX_HELD_LINES: usize = 1 << 16;

/// Writes of masters that faults make late, at one time: as many as there can be faults.
pub const MAX_HELD_WRITES: usize = MAX_FAULTS;

/// Barriers, interrupts and accesses of masters counted for who plans faults, of each.
pub const MAX_COUNTED: usize = 1 << 20;
