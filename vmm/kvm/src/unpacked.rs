// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The memory of the snapshot that was used last, and that of the last guest that went on from it: the next has the
//! same memory, with what that guest changed put back.
//!
//! Whatever a processor has made of memory that stays as it is stays good. With an emulated one, that is a guest's
//! code in the form in which it runs, which takes longer to make than most guests run.

use std::collections::BTreeMap;
use std::io;

use staleline_machine::boot::RAM_BASE;
use staleline_machine::engine::wire::Blob;
use vm_memory::{Bytes as _, GuestAddress};

use crate::blobs::Blobs;
use crate::error::KvmError;
use crate::memory::Ram;
use crate::snapshot::{self, PAGE, State};

/// Pages of which there are so many at once, or none: those that a processor translates at once.
const LARGE: u64 = 512;

/// A page that holds nothing.
const ZEROS: [u8; PAGE] = [0; PAGE];

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
    pages: Pages,
    /// Of the last guest.
    used: Option<Ram>,
}

impl Unpacked {
    /// A snapshot of a guest with so much memory.
    ///
    /// # Errors
    /// [`KvmError::Snapshot`] if it is damaged or was not sent.
    pub fn get(
        &mut self,
        blob: &Blob,
        blobs: &Blobs,
        ram_bytes: u64,
    ) -> Result<&mut One, KvmError> {
        let known = self.0.take();
        let fits = |one: &One| one.blob == *blob && one.ram_bytes == ram_bytes;
        // There is no room for two.
        let one = match known.filter(fits) {
            Some(one) => one,
            None => One::unpack(blob, blobs, ram_bytes)?,
        };
        Ok(self.0.insert(one))
    }

    /// Keeps the memory of a guest that went on from what was unpacked last, and is gone.
    pub fn keep(&mut self, ram: Ram) {
        if let Some(one) = &mut self.0 {
            one.used = Some(ram);
        }
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
            used: None,
        })
    }

    /// RAM that holds what the guest's did.
    ///
    /// # Errors
    /// [`KvmError::Os`] if there is not so much memory.
    pub fn ram(&mut self) -> Result<Ram, KvmError> {
        let Some(mut ram) = self.used.take() else {
            let ram = Ram::new(self.ram_bytes)?;
            // Not as below: memory that is read before it is written comes in small pages.
            for (page, bytes) in self.pages.all() {
                let at = GuestAddress(RAM_BASE + page * PAGE as u64);
                let written = ram.memory().write_slice(bytes, at);
                written.map_err(|e| KvmError::os("copy the snapshot")(io::Error::other(e)))?;
            }
            return Ok(ram);
        };
        let pages = self.ram_bytes / PAGE as u64;
        for first in (0..pages).step_by(LARGE as usize) {
            let part = first..pages.min(first + LARGE);
            if self.pages.has_any(part.clone()) {
                for page in part {
                    let bytes = self.pages.get(page).unwrap_or(&ZEROS);
                    ram.set_page(page, bytes)?;
                }
            } else {
                ram.clear(part)?;
            }
        }
        Ok(ram)
    }
}

/// What a memory holds that is not all zero.
#[derive(Debug, Default)]
struct Pages {
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

    fn get(&self, page: u64) -> Option<&[u8; PAGE]> {
        self.at(*self.places.get(&page)?)
    }

    fn all(&self) -> impl Iterator<Item = (u64, &[u8; PAGE])> {
        let places = self.places.iter();
        places.filter_map(|(page, place)| Some((*page, self.at(*place)?)))
    }

    fn has_any(&self, pages: std::ops::Range<u64>) -> bool {
        self.places.range(pages).next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: u64 = 3 * LARGE + 7;

    #[test]
    fn the_next_guest_has_what_the_first_had_whatever_that_has_written() {
        let mut pages = Pages::default();
        pages.add(3, &[[1; PAGE], [2; PAGE]].concat());
        pages.add(PAGES - 1, &[3; PAGE]);
        pages.add(4, &[4; PAGE]);
        let mut one = One {
            blob: Blob(String::new()),
            ram_bytes: PAGES * PAGE as u64,
            state: snapshot::tests::state(),
            pages,
            used: None,
        };
        let held = |page: u64| match page {
            3 => 1,
            4 => 4,
            _ if page == PAGES - 1 => 3,
            _ => 0,
        };
        for _ in 0..3 {
            let ram = one.ram().unwrap();
            for page in 0..PAGES {
                let at = GuestAddress(RAM_BASE + page * PAGE as u64);
                let mut bytes = [9; PAGE];
                ram.memory().read_slice(&mut bytes, at).unwrap();
                assert_eq!(bytes, [held(page); PAGE], "{page}");
                if page % 3 == 0 {
                    ram.memory().write_slice(&[page as u8; 100], at).unwrap();
                }
            }
            one.used = Some(ram);
        }
    }
}
