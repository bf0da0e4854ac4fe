// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the log of a run holds of the machine's events.

use serde::{Deserialize, Serialize};

/// The machine's part of `events.bin`. The verdict does not depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Kinds of events that were kept.
    pub filter: Vec<String>,
    /// Bytes that they may take, and an eighth more for findings.
    pub limit: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Events.
    pub records: u64,
    /// Whether all events of these kinds are there.
    pub complete: bool,
    /// Those that are not, as far as they were counted.
    pub lost: u64,
    /// When the log was full, in accesses since power-on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_at: Option<u64>,
    /// What else kept events from being written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl Log {
    /// What is missing, in a sentence.
    pub fn lacks(&self) -> Option<String> {
        if self.complete {
            return None;
        }
        Some(match (self.full_at, &self.trouble) {
            (_, Some(trouble)) => {
                format!("the log of events is not complete: {trouble}")
            }
            (at, None) => format!(
                "the log of events is full from @{} on: {} events are not in it. Raise \
                 log.limit-mib, or keep fewer kinds with --log",
                at.unwrap_or_default(),
                self.lost
            ),
        })
    }
}
