// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What memory holds at power-on where nothing was loaded: not what anybody would store.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use vm_memory::{MmapRegion, VolatileMemory as _, volatile_memory};

use super::line::PAGE;

/// What DRAM holds below lines that are dirty at power-on.
pub(super) const BELOW: u8 = 0xdb;

/// Pages of RAM, by number from its start, that hold [`Poison::BYTE`]s at power-on; all others hold zeros, or what was
/// loaded.
///
/// It is for where nobody tells of stores: one of zeros, of which a kernel makes many, changes nothing in memory that
/// is all zero. No page of them has anything loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poison(Vec<Range<u64>>);

impl Poison {
    /// In each byte of such a page. As a pointer it is of nothing (of arm64's, bits 63 to 55 are alike), and the kernel
    /// has no such poison of its own (`include/linux/poison.h`).
    pub const BYTE: u8 = 0xb3;

    /// Bytes of a page.
    pub const PAGE: u64 = PAGE;

    /// In these pages.
    #[must_use]
    pub fn new(pages: Vec<Range<u64>>) -> Self {
        Poison(pages)
    }

    /// Which pages.
    #[must_use]
    pub fn pages(&self) -> &[Range<u64>] {
        &self.0
    }

    /// Writes it into an image of RAM that holds zeros there.
    ///
    /// # Errors
    /// If the image ends before it does.
    pub fn write(&self, image: &MmapRegion) -> Result<(), volatile_memory::Error> {
        for page in self.0.iter().cloned().flatten() {
            let at = usize::try_from(page * PAGE).unwrap_or(usize::MAX);
            let place = image.get_slice(at, PAGE as usize)?;
            place.copy_from(&[Self::BYTE; PAGE as usize]);
        }
        Ok(())
    }

    /// What each byte of a page holds in which nothing was loaded.
    #[must_use]
    pub fn at(&self, page: u64) -> u8 {
        match self.0.iter().any(|pages| pages.contains(&page)) {
            true => Self::BYTE,
            false => 0,
        }
    }
}
