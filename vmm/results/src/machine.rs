// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Counters of the machine, and its bounds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counters of the cache model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheCounters {
    /// Lines filled.
    pub fills: u64,
    /// Lines evicted clean.
    pub evictions_clean: u64,
    /// Lines evicted dirty, that is written back.
    pub evictions_dirty: u64,
    /// Bytes read by DMA.
    pub dma_read_bytes: u64,
    /// Bytes written by DMA.
    pub dma_written_bytes: u64,
}

/// A bound of the model that a run has reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saturated {
    /// What there is room for, in words: `transfers in flight`.
    pub bound: String,
    /// For how many.
    pub limit: u64,
}

/// A guest's mistake as a device met it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceError {
    /// Device name.
    pub device: String,
    /// What went wrong.
    pub what: String,
}

/// Counters of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Cache.
    pub cache: CacheCounters,
    /// Data transfers.
    pub transfers: u64,
    /// Interrupts raised.
    pub interrupts: u64,
    /// Register accesses.
    pub register_accesses: u64,
    /// The guest's mistakes as devices met them.
    pub device_errors: Vec<DeviceError>,
    /// Device-specific results.
    pub extra: BTreeMap<String, serde_json::Value>,
}
