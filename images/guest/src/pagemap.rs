// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Physical addresses of a mapping, from /proc/self/pagemap
//! (Documentation/admin-guide/mm/pagemap.rst). Only looks: it never touches the mapped memory.
//! The kernel shows mappings of bare page frames (VM_PFNMAP), which are those of all DMABUFs, as
//! holes (walk_page_test in mm/pagewalk.c).

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::{Context, Error};
use crate::sys::Mapping;

const PAGEMAP: &str = "/proc/self/pagemap";
// Bit 63: the page is present; bits 54:0: its frame number, zero for whom it is no business.
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;

/// Physical `(first byte, length)` ranges of a mapping in order, as far as its pages are mapped
/// right now: empty if any page is not.
pub fn extents(mapping: &Mapping) -> Result<Vec<(u64, u64)>, Error> {
    let page = rustix::param::page_size();
    let mut raw = vec![0; mapping.len().div_ceil(page) * 8];
    let at = (mapping.address() / page * 8) as u64;
    File::open(PAGEMAP)
        .and_then(|f| f.read_exact_at(&mut raw, at))
        .file("read", PAGEMAP)?;
    let entries = raw
        .chunks_exact(8)
        .map(|e| u64::from_le_bytes(std::array::from_fn(|i| e[i])));
    Ok(join(entries, page as u64).unwrap_or_default())
}

fn join(entries: impl Iterator<Item = u64>, page: u64) -> Option<Vec<(u64, u64)>> {
    let mut extents: Vec<(u64, u64)> = Vec::new();
    for entry in entries {
        let frame = entry & FRAME;
        if entry & PRESENT == 0 || frame == 0 {
            return None;
        }
        let start = frame.checked_mul(page)?;
        match extents.last_mut() {
            Some((first, len)) if *first + *len == start => *len += page,
            _ => extents.push((start, page)),
        }
    }
    Some(extents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_join() {
        let entries = [0x45000, 0x45001, 0x47000, 0x46fff].map(|f| f | PRESENT | 1 << 55);
        assert_eq!(
            join(entries.into_iter(), 4096),
            Some(vec![
                (0x4500_0000, 0x2000),
                (0x4700_0000, 0x1000),
                (0x46ff_f000, 0x1000)
            ])
        );
    }

    #[test]
    fn one_unknown_page_spoils_it() {
        assert_eq!(join([0x45000 | PRESENT, 0].into_iter(), 4096), None);
        // Present, but the frame number is hidden.
        assert_eq!(join([PRESENT].into_iter(), 4096), None);
    }
}
