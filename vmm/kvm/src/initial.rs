// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a guest boots from, as pages of RAM. Files are mapped, not copied.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use memmap2::{Mmap, MmapOptions};
use staleline_machine::boot::{ImageFile, Piece, RAM_BASE};

use crate::error::KvmError;
use crate::memory::Ram;
use crate::snapshot::PAGE;
use crate::spare::Content;

/// What stands in RAM at the start.
#[derive(Debug, Default)]
pub struct Initial {
    mapped: Vec<Mapped>,
    /// The other pages. One that is also mapped is this.
    own: BTreeMap<u64, Box<[u8; PAGE]>>,
}

/// Whole pages of a file, from its beginning.
#[derive(Debug)]
pub struct Mapped {
    /// Which pages of RAM they are.
    pub pages: Range<u64>,
    /// The file.
    pub file: File,
    map: Mmap,
}

impl Initial {
    /// These pieces, by their physical addresses. The files must stay as they are for as long as this is there.
    ///
    /// # Errors
    /// [`KvmError::Os`] and [`KvmError::BadRequest`].
    pub fn new(pieces: &[(u64, Piece<'_>)]) -> Result<Self, KvmError> {
        let mut initial = Initial::default();
        for (pa, piece) in pieces {
            let at = pa.checked_sub(RAM_BASE);
            let at = at.ok_or(KvmError::BadRequest("an image outside RAM"))?;
            match piece {
                Piece::File(image) => initial.file(at, image)?,
                Piece::Bytes(_, bytes) => initial.add(at, bytes),
            }
        }
        Ok(initial)
    }

    fn file(&mut self, at: u64, image: &ImageFile<'_>) -> Result<(), KvmError> {
        let page = PAGE as u64;
        let whole = match at.is_multiple_of(page) {
            true => image.len / page,
            false => 0,
        };
        if whole != 0 {
            let len = usize::try_from(whole * page);
            let len = len.map_err(|_| KvmError::BadRequest("an image is too large"))?;
            // SAFETY: nobody changes the file: it is in the directory of this VMM, which has written it and
            // only reads it from then on.
            let map = unsafe { MmapOptions::new().len(len).map(image.file) };
            let map = map.map_err(KvmError::os("map an image"))?;
            let file = image.file.try_clone();
            let first = at / page;
            self.mapped.push(Mapped {
                pages: first..first + whole,
                file: file.map_err(KvmError::os("map an image"))?,
                map,
            });
        }
        let mut bytes = [0; PAGE];
        let mut from = whole * page;
        while from < image.len {
            let len = (image.len - from).min(page) as usize;
            let part = bytes.get_mut(..len).unwrap_or_default();
            let read = image.file.read_exact_at(part, from);
            read.map_err(KvmError::os("read an image"))?;
            self.add(at + from, part);
            from += page;
        }
        Ok(())
    }

    fn add(&mut self, mut at: u64, mut bytes: &[u8]) {
        let page = PAGE as u64;
        while !bytes.is_empty() {
            let offset = (at % page) as usize;
            let (part, rest) = bytes.split_at(bytes.len().min(PAGE - offset));
            let own = self.own.entry(at / page);
            let own = own.or_insert_with(|| Box::new([0; PAGE]));
            if let Some(place) = own.get_mut(offset..offset + part.len()) {
                place.copy_from_slice(part);
            }
            at += part.len() as u64;
            bytes = rest;
        }
    }

    /// Those that are mapped.
    pub fn mapped(&self) -> &[Mapped] {
        &self.mapped
    }

    /// The others, by number, which go over them.
    pub fn own(&self) -> impl Iterator<Item = (u64, &[u8; PAGE])> {
        self.own.iter().map(|(number, bytes)| (*number, &**bytes))
    }
}

impl Content for Initial {
    fn page(&self, number: u64) -> Option<&[u8; PAGE]> {
        if let Some(own) = self.own.get(&number) {
            return Some(own);
        }
        let mut mapped = self.mapped.iter();
        let one = mapped.find(|one| one.pages.contains(&number))?;
        let at = (number - one.pages.start) as usize * PAGE;
        one.map.get(at..)?.first_chunk()
    }

    fn has_any(&self, pages: Range<u64>) -> bool {
        let meets = |other: &Range<u64>| other.start < pages.end && pages.start < other.end;
        self.own.range(pages.clone()).next().is_some()
            || self.mapped.iter().any(|one| meets(&one.pages))
    }

    /// Straight from the files: their mappings would be read page by page.
    fn load(&self, ram: &Ram) -> Result<(), KvmError> {
        for one in &self.mapped {
            ram.read_pages(one.pages.clone(), &one.file)?;
        }
        self.own()
            .try_for_each(|(number, bytes)| ram.write_page(number, bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::Path;

    use staleline_machine::boot::Which;
    use vm_memory::{Bytes as _, GuestAddress};

    use super::*;

    #[test]
    fn it_holds_what_was_loaded() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..3 * PAGE + 77).map(|i| (i % 251) as u8 + 1).collect();
        file.write_all(&content).unwrap();
        let all = content.len() as u64;
        let page = PAGE as u64;
        // At the start of a page, and not; all of it, whole pages, and less than one.
        for (at, len) in [(2 * page, all), (page + 512, all), (0, 2 * page), (page, 5)] {
            let image = Piece::File(ImageFile {
                which: Which::Kernel,
                path: Path::new("Image"),
                file: &file,
                len,
            });
            let stub = Piece::Bytes("a stub", vec![7; 9].into());
            let pieces = [(RAM_BASE + at, image), (RAM_BASE + 9 * page - 4, stub)];
            let initial = Initial::new(&pieces).unwrap();
            let mut expected = vec![0; 12 * PAGE];
            let (at, len) = (at as usize, len as usize);
            expected[at..at + len].copy_from_slice(&content[..len]);
            expected[9 * PAGE - 4..9 * PAGE + 5].fill(7);
            let pages = (0..).zip(expected.as_chunks::<PAGE>().0);
            for (number, should) in pages {
                let held = initial.page(number);
                assert!(held.unwrap_or(&[0; PAGE]) == should, "{number} {at:#x}");
                assert_eq!(initial.has_any(number..number + 1), held.is_some());
            }
            assert!(initial.has_any(0..12) && !initial.has_any(10..12));
            let ram = Ram::new(expected.len() as u64).unwrap();
            initial.load(&ram).unwrap();
            let mut loaded = vec![1; expected.len()];
            let first = GuestAddress(RAM_BASE);
            ram.memory().read_slice(&mut loaded, first).unwrap();
            assert!(loaded == expected, "{at:#x}");
        }
    }

    #[test]
    fn what_lies_below_ram_is_refused() {
        let piece = (RAM_BASE - 1, Piece::Bytes("a stub", vec![1].into()));
        assert!(Initial::new(&[piece]).is_err());
    }
}
