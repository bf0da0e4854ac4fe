// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The memory of guests that are gone: the next of the same kind has the same, with what was changed put back.
//!
//! Whatever a processor has made of memory that stays as it is stays good. With an emulated one, that is a guest's
//! code in the form in which it runs, which takes longer to make than most guests run.

use std::ops::Range;

use staleline_devices::coherency::Poison;

use crate::error::KvmError;
use crate::memory::{Ram, parts};
use crate::snapshot::PAGE;

/// What RAM holds when a guest starts, by numbers of pages; elsewhere, it holds what it does at power-on.
pub trait Content: Sync {
    /// A page that may hold something.
    fn page(&self, number: u64) -> Option<&[u8; PAGE]>;

    /// Whether there are any of these.
    fn has_any(&self, pages: Range<u64>) -> bool;

    /// Puts it all into RAM that holds nothing yet. Nothing is read there: memory that is read before it is written
    /// comes in small pages.
    ///
    /// # Errors
    /// [`KvmError::Os`] if it has no place in RAM, or cannot be read.
    fn load(&self, ram: &Ram) -> Result<(), KvmError> {
        parts(pages(ram))
            .filter(|part| self.has_any(part.clone()))
            .flatten()
            .filter_map(|number| Some((number, self.page(number)?)))
            .try_for_each(|(number, bytes)| ram.write_page(number, bytes))
    }
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

    /// RAM of so many bytes for a guest of some kind, which does not hold yet what it should.
    ///
    /// # Errors
    /// [`KvmError::Os`] if there is not so much memory.
    pub fn take(&mut self, kind: &str, bytes: u64) -> Result<Taken, KvmError> {
        let fits = |(of, ram): &(String, Ram)| of == kind && ram.bytes() == bytes;
        let known = self.0.iter().rposition(fits);
        let known = known.map(|at| self.0.remove(at).1);
        let all = |spare: &[(String, Ram)]| spare.iter().map(|(_, ram)| ram.bytes()).sum::<u64>();
        while all(&self.0) > bytes.saturating_mul(MOST) {
            self.0.remove(0);
        }
        Ok(match known {
            Some(ram) => Taken {
                ram,
                was_used: true,
            },
            None => Taken {
                ram: Ram::new(bytes)?,
                was_used: false,
            },
        })
    }
}

/// RAM that is to be filled.
#[derive(Debug)]
pub struct Taken {
    /// It.
    pub ram: Ram,
    /// Whether another guest has had it.
    pub was_used: bool,
}

/// Has RAM hold what it should, and what it does at power-on elsewhere. If another guest of the same kind has had it,
/// that is nearly so.
///
/// # Errors
/// [`KvmError::Os`] if that has no place there, or cannot be read.
///
/// # Safety
/// Nobody else may access it meanwhile.
pub unsafe fn fill(
    ram: &Ram,
    was_used: bool,
    (content, poison): (&dyn Content, &Poison),
) -> Result<(), KvmError> {
    if !was_used {
        content.load(ram)?;
    }
    for part in parts(pages(ram)) {
        let any = content.has_any(part.clone());
        for (part, byte) in alike(poison, part) {
            // SAFETY: the caller's.
            unsafe {
                match (any, byte) {
                    (true, byte) => put_back(ram, part, content, (byte, was_used))?,
                    (false, 0) if was_used => ram.clear(part)?,
                    (false, 0) => {}
                    (false, byte) => ram.set(part, byte)?,
                }
            }
        }
    }
    Ok(())
}

/// Has pages hold what they should, one by one. Those of the content do so already, unless the memory `was_used`.
///
/// # Errors and safety
/// As of [`fill`].
unsafe fn put_back(
    ram: &Ram,
    pages: Range<u64>,
    content: &dyn Content,
    (byte, was_used): (u8, bool),
) -> Result<(), KvmError> {
    let blank = [byte; PAGE];
    for page in pages {
        let held = content.page(page);
        let is_there = !was_used && (held.is_some() || byte == 0);
        if !is_there {
            // SAFETY: the caller's.
            unsafe { ram.set_page(page, held.unwrap_or(&blank)) }?;
        }
    }
    Ok(())
}

/// Pages in parts that are alike at power-on, and what each byte of them is then.
fn alike(poison: &Poison, pages: Range<u64>) -> impl Iterator<Item = (Range<u64>, u8)> {
    let ends = poison
        .pages()
        .iter()
        .flat_map(|poisoned| [poisoned.start, poisoned.end]);
    let mut ends: Vec<u64> = ends.filter(|end| pages.contains(end)).collect();
    ends.sort_unstable();
    ends.push(pages.end);
    let mut start = pages.start;
    let parts = ends
        .into_iter()
        .map(move |end| std::mem::replace(&mut start, end)..end);
    let parts = parts.filter(|part| !part.is_empty());
    parts.map(|part| (part.clone(), poison.at(part.start)))
}

/// Its pages, by number.
fn pages(ram: &Ram) -> Range<u64> {
    0..ram.bytes() / PAGE as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use staleline_machine::boot::RAM_BASE;
    use vm_memory::{Bytes as _, GuestAddress};

    use super::*;
    use crate::memory::LARGE;

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
        let poisoned = Poison::new(vec![3..4, 10..LARGE + 3, LARGE + 50..PAGES - 2]);
        let mut spare = Spare::default();
        for (n, content) in all.iter().cycle().take(12).enumerate() {
            let kind = ["one", "other"][n / 4 % 2];
            let Taken { ram, was_used } = spare.take(kind, PAGES * PAGE as u64).unwrap();
            let poison = match kind {
                "one" => poisoned.clone(),
                _ => Poison::default(),
            };
            // SAFETY: nobody else has it.
            unsafe { fill(&ram, was_used, (content, &poison)) }.unwrap();
            for page in 0..PAGES {
                let at = GuestAddress(RAM_BASE + page * PAGE as u64);
                let mut bytes = [9; PAGE];
                ram.memory().read_slice(&mut bytes, at).unwrap();
                let blank = [poison.at(page); PAGE];
                let should = content.page(page).unwrap_or(&blank);
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
        let small = spare.take("one", 2 * PAGE as u64).unwrap();
        assert_eq!((small.ram.bytes(), spare.0.len()), (2 * PAGE as u64, 0));
    }
}
