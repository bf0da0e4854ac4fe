// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What became of the data.

use serde::{Deserialize, Serialize};

use crate::Hex;

/// What became of the data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// Bytes the scenario moves.
    pub planned: u64,
    /// Bytes checked by the end that checked least, of those that must check, each once; by all of them
    /// together, where each has bytes of its own to check.
    pub bytes: u64,
    /// Wrong bytes at the end that saw most: what is wrong at one end is often so at the next.
    pub corrupt_bytes: u64,
    /// Stream offset of the first wrong byte at the first end that saw one.
    pub first_corrupt: Option<u64>,
    /// Bytes that the converter at the start of the path has put into memory; none if there is
    /// none.
    #[serde(default)]
    pub moved: Option<u64>,
    /// Each end.
    pub ends: Vec<End>,
    /// What had to bring data for a program of the user's to move, whoever checks it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
}

/// Where data comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its name: `adc`, `usb-host`.
    pub name: String,
    /// Bytes that it was to bring.
    pub planned: u64,
    /// Bytes that it has brought.
    pub moved: u64,
}

impl Data {
    /// Bytes that this end has to check.
    pub fn due(&self, end: &End) -> u64 {
        end.planned.unwrap_or(match end.required {
            true => self.planned,
            false => 0,
        })
    }

    /// Whether what the end has checked had been put into memory before. Else the transfer did not
    /// take place, and what was found in its stead says nothing.
    pub fn was_moved(&self, end: &End) -> bool {
        self.moved.is_none_or(|moved| end.covered() <= moved)
    }

    /// Whether any data has got anywhere.
    pub fn has_moved(&self) -> bool {
        self.moved.is_some_and(|moved| moved > 0)
            || self.ends.iter().any(|end| end.checked > 0)
            || self.sources.iter().any(|source| source.moved > 0)
    }

    /// Ends that found wrong bytes which say something.
    pub fn corrupt_ends(&self) -> impl Iterator<Item = &End> {
        let corrupt = self.ends.iter().filter(|e| e.corrupt > 0);
        corrupt.filter(|e| self.was_moved(e))
    }
}

/// One end of a data path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Its name: `user`, `dac`, `usb-host`, ...
    pub name: String,
    /// Whether the path is only proven if this end has checked everything.
    pub required: bool,
    /// Bytes that it has to check, where that is not all that the scenario moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<u64>,
    /// Bytes checked.
    pub checked: u64,
    /// Of these, bytes of frames that the USB host cut off, which came again.
    #[serde(default)]
    pub repeated: u64,
    /// Of those checked, wrong ones.
    pub corrupt: u64,
    /// Stream offset of the first wrong one.
    pub first_corrupt: Option<u64>,
}

impl End {
    /// Bytes of the stream checked, each once.
    pub fn covered(&self) -> u64 {
        self.checked.saturating_sub(self.repeated)
    }
}

/// A DMABUF.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffer {
    /// Order of allocation, from 0.
    pub index: u32,
    /// Exporter.
    pub exporter: String,
    /// Size.
    pub bytes: u64,
    /// Physical extents: first byte, length. What is not known is left out.
    pub extents: Vec<(Hex, u64)>,
    /// What it was attached to, in order.
    #[serde(default)]
    pub attached: Vec<String>,
}
