// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The two images of memory: `ram`, the bytes that coherent observers see, and `dram`, the bytes
//! at the PoC. Offsets are from the start of RAM; callers have checked them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use vm_memory::volatile_memory::VolatileSlice;
use vm_memory::{MmapRegion, VolatileMemory};

use super::fetched::Fetched;
use super::line::{PAGE, PAGE_LINES};
use super::per_page::PerPage;
use super::poison::{BELOW, Poison};
use crate::cpu::LINE;
use crate::state::{Invalid, at_most, same};

/// Both images. The guest's vCPU works on `ram` directly.
#[derive(Debug)]
pub(super) struct Images {
    ram: MmapRegion,
    dram: Arc<MmapRegion>,
    /// Where code was fetched that a write outdates.
    pub fetched: Fetched,
    /// What RAM was last seen to hold, if nobody tells of the CPUs' stores.
    shadow: Option<Shadow>,
    /// What DRAM was last known to hold, if somebody writes it without a word.
    known: Option<MmapRegion>,
    /// Whether DRAM has held from the beginning what was loaded.
    is_loaded: bool,
}

/// An image of DRAM that somebody else has made.
#[derive(Debug)]
pub enum DramImage {
    /// It holds all that the loader puts into RAM, and whatever else elsewhere.
    Loaded(MmapRegion),
    /// It holds what RAM does, and others write it.
    Shared(MmapRegion),
}

/// What RAM was last seen to hold, by page: where it holds something else, a CPU has stored that.
#[derive(Debug)]
struct Shadow {
    pages: PerPage<[u8; PAGE as usize]>,
    /// What it held at power-on.
    poison: Poison,
}

impl Shadow {
    /// Of a page that was looked at before.
    fn page(&mut self, offset: u64) -> Option<&mut [u8; PAGE as usize]> {
        self.pages.get_mut((offset / PAGE) as usize)
    }

    /// The model itself writes RAM.
    fn written(&mut self, offset: u64, data: &[u8]) {
        let Some(page) = self.page(offset) else {
            return;
        };
        let at = (offset % PAGE) as usize;
        if let Some(place) = page.get_mut(at..at + data.len()) {
            place.copy_from_slice(data);
        }
    }
}

/// The image of DRAM, for whoever has to say what it holds at power-on.
#[derive(Debug)]
pub(super) struct Dram {
    memory: Arc<MmapRegion>,
    poison: Poison,
}

impl Dram {
    /// A line that nobody loaded is what it is at power-on: dirty over something else, or the same as in RAM.
    pub fn begin(&self, line: u64, dirty: bool) {
        let byte = match dirty {
            true => BELOW,
            false => self.poison.at(line * LINE / PAGE),
        };
        // Where nothing else was said, it holds zeros.
        if byte != 0 {
            Images::write(&self.memory, line * LINE, &[byte; LINE as usize]);
        }
    }
}

/// Why the images cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// RAM is empty, larger than its mapping, or not a multiple of the page size.
    #[error("guest RAM of {0} bytes: must be a multiple of 4096 within its mapping, below 64 GiB")]
    Size(u64),
    /// No memory for the image of DRAM.
    #[error("cannot map {len} bytes for the image of DRAM")]
    Map {
        /// Bytes asked for.
        len: u64,
        /// Why not.
        #[source]
        source: vm_memory::mmap::MmapRegionError,
    },
}

impl Images {
    /// Takes the first `len` bytes of `ram` as guest RAM, and `dram` for its DRAM image, or makes one that is
    /// all zero.
    pub fn new(ram: MmapRegion, len: u64, dram: Option<DramImage>) -> Result<Self, ImageError> {
        if len == 0 || !len.is_multiple_of(4096) || len > ram.size() as u64 || len > 64 << 30 {
            return Err(ImageError::Size(len));
        }
        let map =
            || MmapRegion::new(len as usize).map_err(|source| ImageError::Map { len, source });
        let (dram, known, is_loaded) = match dram {
            None => (map()?, None, false),
            Some(DramImage::Loaded(dram)) => (dram, None, true),
            Some(DramImage::Shared(dram)) => (dram, Some(map()?), false),
        };
        if len > dram.size() as u64 {
            return Err(ImageError::Size(len));
        }
        let dram = Arc::new(dram);
        let fetched = Fetched::new(len);
        Ok(Images {
            ram,
            dram,
            fetched,
            shadow: None,
            known,
            is_loaded,
        })
    }

    /// From now on, RAM is looked at for what CPUs have stored. It holds `poison`, but for what was loaded.
    pub fn watch_ram(&mut self, poison: Poison) {
        let pages = self.ram.size() as u64 / PAGE;
        if let Some(known) = &self.known {
            let written = poison.write(known);
            debug_assert!(written.is_ok(), "there is poison outside RAM");
        }
        self.shadow = Some(Shadow {
            pages: PerPage::new(pages as usize),
            poison,
        });
    }

    /// Whether DRAM was made with all in it that was loaded.
    pub fn is_loaded(&self) -> bool {
        self.is_loaded
    }

    /// Whether RAM is looked at for stores.
    #[inline]
    pub fn watches_ram(&self) -> bool {
        self.shadow.is_some()
    }

    /// Which bytes of a line CPUs have changed since it was last looked at. `loaded` are the lines of its page,
    /// as a mask, that were loaded at power-on; they matter at the first look at the page.
    pub fn changed(&mut self, line: u64, loaded: impl FnOnce() -> u64) -> u64 {
        let offset = line * LINE;
        let mut now = [0; LINE as usize];
        self.read_ram(offset, &mut now);
        let Some(shadow) = &mut self.shadow else {
            return 0;
        };
        let number = (offset / PAGE) as usize;
        if number >= shadow.pages.len() {
            return 0;
        }
        let Shadow { pages, poison } = shadow;
        let page = pages.or_insert_with(number, || {
            let mut bytes = Box::new([poison.at(number as u64); PAGE as usize]);
            let loaded = loaded();
            let (lines, _) = bytes.as_chunks_mut::<{ LINE as usize }>();
            for (n, bytes) in (0u64..).zip(lines).filter(|(n, _)| loaded >> n & 1 != 0) {
                // Nobody has written there but through these images, which look first.
                Self::read(&self.dram, offset / PAGE * PAGE + n * LINE, bytes);
            }
            bytes
        });
        let (lines, _) = page.as_chunks_mut::<{ LINE as usize }>();
        let Some(then) = lines.get_mut((offset % PAGE / LINE) as usize) else {
            return 0;
        };
        if *then == now {
            return 0;
        }
        let bytes = then.iter().zip(&now).enumerate();
        let changed = bytes.fold(0, |m, (i, (a, b))| m | u64::from(a != b) << i);
        *then = now;
        changed
    }

    /// A handle on DRAM.
    pub fn dram(&self) -> Dram {
        let poison = self.shadow.as_ref().map(|shadow| shadow.poison.clone());
        Dram {
            memory: Arc::clone(&self.dram),
            poison: poison.unwrap_or_default(),
        }
    }

    /// The mapping of RAM.
    pub fn ram_mapping(&self) -> &MmapRegion {
        &self.ram
    }

    fn slice(region: &MmapRegion, offset: u64, len: usize) -> Option<VolatileSlice<'_>> {
        // Callers keep within RAM; a mistake of theirs must not become a wild access.
        let slice = region.get_slice(offset as usize, len);
        debug_assert!(
            slice.is_ok(),
            "{len} bytes at offset {offset:#x} outside the image"
        );
        slice.ok()
    }

    fn read(region: &MmapRegion, offset: u64, buf: &mut [u8]) {
        if let Some(slice) = Self::slice(region, offset, buf.len()) {
            slice.copy_to(buf);
        }
    }

    fn write(region: &MmapRegion, offset: u64, data: &[u8]) {
        if let Some(slice) = Self::slice(region, offset, data.len()) {
            slice.copy_from(data);
        }
    }

    pub fn read_ram(&self, offset: u64, buf: &mut [u8]) {
        Self::read(&self.ram, offset, buf);
    }

    pub fn read_dram(&self, offset: u64, buf: &mut [u8]) {
        Self::read(&self.dram, offset, buf);
    }

    /// Within one page.
    pub fn write_ram(&mut self, offset: u64, data: &[u8]) {
        self.fetched.written(offset);
        if let Some(shadow) = &mut self.shadow {
            shadow.written(offset, data);
        }
        Self::write(&self.ram, offset, data);
    }

    /// New data at the PoC; within one page.
    pub fn write_dram(&mut self, offset: u64, data: &[u8]) {
        // The fetch that has to come is judged, even if the caches still hold what was there.
        self.fetched.written(offset);
        self.put_dram(offset, data);
    }

    fn put_dram(&self, offset: u64, data: &[u8]) {
        if let Some(known) = &self.known {
            Self::write(known, offset, data);
        }
        Self::write(&self.dram, offset, data);
    }

    /// Which bytes of a line others have changed in DRAM since this was last asked.
    pub fn changed_in_dram(&self, line: u64) -> u64 {
        let Some(known) = &self.known else {
            return 0;
        };
        let offset = line * LINE;
        let (mut then, mut now) = ([0; LINE as usize], [0; LINE as usize]);
        Self::read(known, offset, &mut then);
        self.read_dram(offset, &mut now);
        if then == now {
            return 0;
        }
        Self::write(known, offset, &now);
        let bytes = then.iter().zip(&now).enumerate();
        bytes.fold(0, |m, (i, (a, b))| m | u64::from(a != b) << i)
    }

    /// Pages of which others have changed something in DRAM since they were last looked at.
    pub fn pages_changed_in_dram(&self) -> Vec<u64> {
        let Some(known) = &self.known else {
            return Vec::new();
        };
        let (mut then, mut now) = ([0; PAGE as usize], [0; PAGE as usize]);
        let pages = 0..known.size() as u64 / PAGE;
        let changed = pages.filter(|page| {
            Self::read(known, page * PAGE, &mut then);
            self.read_dram(page * PAGE, &mut now);
            then != now
        });
        changed.collect()
    }

    /// What both images hold of a page is nothing new.
    pub fn settle(&mut self, page: u64) {
        let mut bytes = Box::new([0; PAGE as usize]);
        if let Some(known) = &self.known {
            self.read_dram(page * PAGE, &mut *bytes);
            Self::write(known, page * PAGE, &*bytes);
        }
        self.read_ram(page * PAGE, &mut *bytes);
        if let Some(shadow) = &mut self.shadow {
            shadow.pages.put(page as usize, bytes);
        }
    }

    /// The loader has put this into RAM before power-on, and cleaned it.
    pub fn loaded(&self, offset: u64, len: usize) {
        if !self.is_loaded {
            self.write_back(offset, len);
        }
    }

    /// `dram := ram`.
    pub fn write_back(&self, offset: u64, len: usize) {
        if self.known.is_some() {
            self.write_back_in_pieces(offset, len);
            return;
        }
        let ram = Self::slice(&self.ram, offset, len);
        if let (Some(ram), Some(dram)) = (ram, Self::slice(&self.dram, offset, len)) {
            ram.copy_to_volatile_slice(dram);
        }
    }

    /// [`Images::write_back`] where others write both: what goes to DRAM is what is known of it.
    fn write_back_in_pieces(&self, offset: u64, len: usize) {
        let mut piece = [0u8; LINE as usize];
        let mut at = 0;
        while at < len {
            let n = piece.len().min(len - at);
            self.read_ram(offset + at as u64, &mut piece[..n]);
            self.put_dram(offset + at as u64, &piece[..n]);
            at += n;
        }
    }

    /// `ram := dram` for one line.
    pub fn reload(&mut self, line: u64) {
        let mut piece = [0u8; LINE as usize];
        self.read_dram(line * LINE, &mut piece);
        self.write_ram(line * LINE, &piece);
    }

    /// Which bytes of a line differ.
    pub fn difference(&self, line: u64) -> u64 {
        let (mut a, mut b) = ([0u8; LINE as usize], [0u8; LINE as usize]);
        self.read_ram(line * LINE, &mut a);
        self.read_dram(line * LINE, &mut b);
        if a == b {
            return 0;
        }
        a.iter()
            .zip(&b)
            .enumerate()
            .fold(0, |m, (i, (x, y))| m | u64::from(x != y) << i)
    }
}

/// Of one page, the lines in which DRAM, or what RAM was last seen to hold, differs from RAM, as a mask, and
/// what they hold there.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OtherPage {
    page: u64,
    lines: u64,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
}

impl OtherPage {
    /// Where `there` is not as `ram`.
    fn new(page: u64, ram: &[u8; PAGE as usize], there: &[u8; PAGE as usize]) -> Self {
        let (ram, _) = ram.as_chunks::<{ LINE as usize }>();
        let (there, _) = there.as_chunks::<{ LINE as usize }>();
        let (mut lines, mut bytes) = (0, Vec::new());
        for (n, (_, there)) in (0..)
            .zip(ram.iter().zip(there))
            .filter(|(_, (a, b))| a != b)
        {
            lines |= 1 << n;
            bytes.extend(there);
        }
        OtherPage { page, lines, bytes }
    }

    /// The lines, by number in RAM.
    ///
    /// # Errors
    /// If that is not of RAM, whose last page is `last`.
    fn lines(
        &self,
        last: u64,
    ) -> Result<impl Iterator<Item = (u64, &[u8; LINE as usize])>, Invalid> {
        at_most("page", self.page, last)?;
        let (lines, rest) = self.bytes.as_chunks::<{ LINE as usize }>();
        let bytes = self.lines.count_ones() as usize * LINE as usize;
        same("bytes of a page", &self.bytes.len(), &bytes)?;
        debug_assert!(rest.is_empty(), "there are whole lines");
        let first = self.page * PAGE_LINES as u64;
        let numbers = (0..PAGE_LINES as u64).filter(|n| self.lines >> n & 1 != 0);
        Ok(numbers.map(move |n| first + n).zip(lines))
    }
}

impl Images {
    fn last_page(&self) -> u64 {
        self.dram.size() as u64 / PAGE - 1
    }

    fn ram_page(&self, page: u64) -> [u8; PAGE as usize] {
        let mut bytes = [0; PAGE as usize];
        self.read_ram(page * PAGE, &mut bytes);
        bytes
    }

    /// What DRAM holds in `pages`, as far as it is not what RAM does. All others are as they were made.
    pub fn dram_state(&self, pages: impl Iterator<Item = u64>) -> Vec<OtherPage> {
        let of = |page| {
            let mut dram = [0; PAGE as usize];
            self.read_dram(page * PAGE, &mut dram);
            OtherPage::new(page, &self.ram_page(page), &dram)
        };
        pages.map(of).filter(|page| page.lines != 0).collect()
    }

    /// Takes it over: in `pages`, DRAM holds what RAM does but for what `state` says.
    ///
    /// # Errors
    /// If that is not of RAM.
    pub fn set_dram_state(
        &mut self,
        pages: impl Iterator<Item = u64>,
        state: &[OtherPage],
    ) -> Result<(), Invalid> {
        for page in pages {
            self.write_back(page * PAGE, PAGE as usize);
        }
        for page in state {
            for (line, bytes) in page.lines(self.last_page())? {
                Self::write(&self.dram, line * LINE, bytes);
            }
        }
        Ok(())
    }

    /// What RAM was last seen to hold, in all pages that were looked at, as far as it is not what it does now.
    pub fn seen_state(&self) -> Vec<OtherPage> {
        let Some(Shadow { pages, .. }) = &self.shadow else {
            return Vec::new();
        };
        let seen = (0..pages.len()).filter_map(|page| Some((page as u64, pages.get(page)?)));
        seen.map(|(page, seen)| OtherPage::new(page, &self.ram_page(page), seen))
            .collect()
    }

    /// Takes it over.
    ///
    /// # Errors
    /// If that is not of RAM, or nobody looks here.
    pub fn set_seen_state(&mut self, state: &[OtherPage]) -> Result<(), Invalid> {
        for page in state {
            let mut seen = Box::new([0; PAGE as usize]);
            let lines = page.lines(self.last_page())?;
            self.read_ram(page.page * PAGE, &mut *seen);
            let (chunks, _) = seen.as_chunks_mut::<{ LINE as usize }>();
            for (line, bytes) in lines {
                if let Some(place) = chunks.get_mut((line % PAGE_LINES as u64) as usize) {
                    *place = *bytes;
                }
            }
            match &mut self.shadow {
                Some(Shadow { pages, .. }) if (page.page as usize) < pages.len() => {
                    pages.put(page.page as usize, seen);
                }
                _ => return Err(Invalid::new("pages that were looked at", "some", "none")),
            }
        }
        Ok(())
    }
}
