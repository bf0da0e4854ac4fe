// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The memory of guests that are gone: the next of the same kind has the same, with what was changed put back.
//!
//! Whatever a processor has made of memory that stays as it is stays good. With an emulated one, that is a guest's
//! code in the form in which it runs, which takes longer to make than most guests run.

use std::ops::Range;

use crate::error::KvmError;
use crate::memory::Ram;
use crate::snapshot::PAGE;

/// Pages of which there are so many at once, or none: those that a processor translates at once.
const LARGE: u64 = 512;

/// A page that holds nothing.
const ZEROS: [u8; PAGE] = [0; PAGE];

/// What RAM holds when a guest starts, by numbers of pages; zeros elsewhere.
pub trait Content {
    /// A page that may hold something.
    fn page(&self, number: u64) -> Option<&[u8; PAGE]>;

    /// Whether there are any of these.
    fn has_any(&self, pages: Range<u64>) -> bool;

    /// Puts it all into RAM that holds nothing yet. Nothing is read there: memory that is read before it is written
    /// comes in small pages.
    ///
    /// # Errors
    /// [`KvmError::Os`] if it has no place in RAM, or cannot be read.
    fn load(&self, ram: &mut Ram) -> Result<(), KvmError> {
        let parts = parts(ram.bytes()).filter(|part| self.has_any(part.clone()));
        parts
            .flatten()
            .filter_map(|number| Some((number, self.page(number)?)))
            .try_for_each(|(number, bytes)| ram.write_page(number, bytes))
    }
}

/// The pages of RAM of so many bytes, in parts that are large pages.
fn parts(bytes: u64) -> impl Iterator<Item = Range<u64>> {
    let all = bytes / PAGE as u64;
    let firsts = (0..all).step_by(LARGE as usize);
    firsts.map(move |first| first..all.min(first + LARGE))
}

/// Most memory that is kept, in times of the next guest's. An emulated host has room for that.
const MOST: u64 = 2;

/// Memory of guests that are gone, with what they were; the last comes last.
#[derive(Debug, Default)]
pub struct Spare(Vec<(String, Ram)>);

impl Spare {
    /// Keeps the memory of a guest of some kind. Nobody else may have it any more.
    pub fn keep(&mut self, kind: String, ram: Ram) {
        self.0.push((kind, ram));
    }

    /// RAM of so many bytes that holds what it should. A guest of the same kind has had nearly that.
    ///
    /// # Errors
    /// [`KvmError::Os`] if there is not so much memory.
    pub fn ram(&mut self, kind: &str, bytes: u64, content: &impl Content) -> Result<Ram, KvmError> {
        let fits = |(of, ram): &(String, Ram)| of == kind && ram.bytes() == bytes;
        let known = self.0.iter().rposition(fits);
        let known = known.map(|at| self.0.remove(at).1);
        let all = |spare: &[(String, Ram)]| spare.iter().map(|(_, ram)| ram.bytes()).sum::<u64>();
        while all(&self.0) > bytes.saturating_mul(MOST) {
            self.0.remove(0);
        }
        let Some(mut ram) = known else {
            let mut ram = Ram::new(bytes)?;
            content.load(&mut ram)?;
            return Ok(ram);
        };
        for part in parts(bytes) {
            if content.has_any(part.clone()) {
                for page in part {
                    ram.set_page(page, content.page(page).unwrap_or(&ZEROS))?;
                }
            } else {
                ram.clear(part)?;
            }
        }
        Ok(ram)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use staleline_machine::boot::RAM_BASE;
    use vm_memory::{Bytes as _, GuestAddress};

    use super::*;

    const PAGES: u64 = 3 * LARGE + 7;

    struct Some(BTreeMap<u64, [u8; PAGE]>);

    impl Content for Some {
        fn page(&self, number: u64) -> Option<&[u8; PAGE]> {
            self.0.get(&number)
        }

        fn has_any(&self, pages: Range<u64>) -> bool {
            self.0.range(pages).next().is_some()
        }
    }

    #[test]
    fn the_next_guest_has_what_it_should_whatever_others_have_written() {
        let content = |pages: &[u64]| {
            Some(
                pages
                    .iter()
                    .map(|page| (*page, [*page as u8 + 1; PAGE]))
                    .collect(),
            )
        };
        let all = [
            content(&[3, 4, PAGES - 1]),
            content(&[4, LARGE + 1]),
            content(&[]),
        ];
        let mut spare = Spare::default();
        for (n, content) in all.iter().cycle().take(12).enumerate() {
            let kind = ["one", "other"][n / 4 % 2];
            let ram = spare.ram(kind, PAGES * PAGE as u64, content).unwrap();
            for page in 0..PAGES {
                let at = GuestAddress(RAM_BASE + page * PAGE as u64);
                let mut bytes = [9; PAGE];
                ram.memory().read_slice(&mut bytes, at).unwrap();
                let should = content.page(page).unwrap_or(&ZEROS);
                assert!(bytes == *should, "{page}");
                if page % 3 == 0 {
                    ram.memory().write_slice(&[page as u8; 100], at).unwrap();
                }
            }
            spare.keep(kind.into(), ram);
        }
        let kinds: Vec<&str> = spare.0.iter().map(|(kind, _)| &**kind).collect();
        assert_eq!(kinds, ["other", "one"]);
        // There is no room for what is that much larger.
        let small = spare.ram("one", 2 * PAGE as u64, &all[2]).unwrap();
        assert_eq!((small.bytes(), spare.0.len()), (2 * PAGE as u64, 0));
    }
}
