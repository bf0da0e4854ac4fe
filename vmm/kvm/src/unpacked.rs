// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The snapshot that was used last, as it is in memory.

use std::collections::BTreeMap;
use std::ops::Range;

use staleline_machine::engine::wire::Blob;

use crate::blobs::Blobs;
use crate::error::KvmError;
use crate::snapshot::{self, PAGE, State};
use crate::spare::Content;

/// One snapshot.
#[derive(Debug, Default)]
pub struct Unpacked(Option<One>);

/// What is in a snapshot.
#[derive(Debug)]
pub struct One {
    blob: Blob,
    ram_bytes: u64,
    /// All but the memory.
    pub state: State,
    /// The memory.
    pub pages: Pages,
}

impl Unpacked {
    /// A snapshot of a guest with so much memory.
    ///
    /// # Errors
    /// [`KvmError::Snapshot`] if it is damaged or was not sent.
    pub fn get(&mut self, blob: &Blob, blobs: &Blobs, ram_bytes: u64) -> Result<&One, KvmError> {
        let known = self.0.take();
        let fits = |one: &One| one.blob == *blob && one.ram_bytes == ram_bytes;
        // There is no room for two.
        let one = match known.filter(fits) {
            Some(one) => one,
            None => One::unpack(blob, blobs, ram_bytes)?,
        };
        Ok(self.0.insert(one))
    }
}

impl One {
    fn unpack(blob: &Blob, blobs: &Blobs, ram_bytes: u64) -> Result<Self, KvmError> {
        let path = blobs.find(blob);
        let path = path.map_err(KvmError::os("unpack the snapshot"))?;
        let mut pages = Pages::default();
        let state = snapshot::read(&path, ram_bytes / PAGE as u64, |first, run| {
            pages.add(first, run);
            Ok(())
        })?;
        Ok(One {
            blob: blob.clone(),
            ram_bytes,
            state,
            pages,
        })
    }
}

/// What a memory holds that it did not at power-on.
#[derive(Debug, Default)]
pub struct Pages {
    bytes: Vec<u8>,
    /// Where in that a page is.
    places: BTreeMap<u64, usize>,
}

impl Pages {
    /// Takes in pages from `first` on; whichever comes last counts.
    fn add(&mut self, first: u64, run: &[u8]) {
        for (page, bytes) in (first..).zip(run.chunks_exact(PAGE)) {
            self.places.insert(page, self.bytes.len());
            self.bytes.extend_from_slice(bytes);
        }
    }

    fn at(&self, place: usize) -> Option<&[u8; PAGE]> {
        self.bytes.get(place..)?.first_chunk()
    }
}

impl Content for Pages {
    fn page(&self, number: u64) -> Option<&[u8; PAGE]> {
        self.at(*self.places.get(&number)?)
    }

    fn has_any(&self, pages: Range<u64>) -> bool {
        self.places.range(pages).next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_page_that_is_there_twice_the_last_counts() {
        let mut pages = Pages::default();
        pages.add(3, &[[1; PAGE], [2; PAGE]].concat());
        pages.add(9, &[3; PAGE]);
        pages.add(4, &[4; PAGE]);
        for number in 0..11 {
            let held = pages.page(number).map(|bytes| bytes[PAGE - 1]);
            let should = [(3, 1), (4, 4), (9, 3)]
                .into_iter()
                .find(|(n, _)| *n == number);
            assert_eq!(held, should.map(|(_, byte)| byte), "{number}");
            assert_eq!(pages.has_any(number..number + 1), held.is_some());
        }
    }
}
