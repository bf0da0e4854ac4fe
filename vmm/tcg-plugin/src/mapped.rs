// SPDX-License-Identifier: GPL-2.0-or-later
//! Guest memory where QEMU itself has mapped it: a guest that goes on from a snapshot has a copy of its own of what
//! it changes, which no other mapping shows.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use vm_memory::MmapRegion;

/// A part of a file in this process's memory.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    /// In the file.
    offset: u64,
}

/// The writable private mapping that a line of /proc/self/maps tells of, if it is of that file.
fn mapping(line: &str, (major, minor, inode): (u32, u32, u64)) -> Option<Mapping> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let flags = words.next()?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let offset = hex(words.next()?)?;
    let (major_here, minor_here) = words.next()?.split_once(':')?;
    let device = (hex(major_here)?, hex(minor_here)?);
    let inode_here: u64 = words.next()?.parse().ok()?;
    let same = device == (major.into(), minor.into()) && inode_here == inode;
    let ours = same && flags.starts_with("rw") && flags.ends_with('p');
    let (start, end) = (hex(start)?, hex(end)?);
    let ours = ours && start < end;
    ours.then_some(Mapping { start, end, offset })
}

/// Where the first `bytes` of the file stand, if they do in one piece.
fn find(maps: &str, file: (u32, u32, u64), bytes: u64) -> Option<u64> {
    // Where it starts, and the end of what is known of it. The kernel lists mappings by address.
    let mut known: Option<(u64, u64)> = None;
    for next in maps.lines().filter_map(|line| mapping(line, file)) {
        known = match known {
            Some((start, end)) if next.start == end && next.offset == end - start => {
                Some((start, next.end))
            }
            _ if next.offset == 0 => Some((next.start, next.end)),
            _ => None,
        };
        if let Some((start, end)) = known
            && end - start >= bytes
        {
            return Some(start);
        }
    }
    None
}

/// All of a file, where QEMU has mapped it.
pub struct Whole {
    start: usize,
    bytes: usize,
}

impl Whole {
    /// The first `bytes` of that file.
    ///
    /// # Errors
    /// If QEMU has not mapped so much of it in one piece.
    pub fn find(file: &File, bytes: usize) -> io::Result<Self> {
        let about = file.metadata()?;
        let device = about.dev();
        let file = (libc::major(device), libc::minor(device), about.ino());
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        let missing = || io::Error::other("QEMU has not mapped it as it was told to");
        let start = find(&maps, file, bytes as u64).ok_or_else(missing)?;
        let start = usize::try_from(start).map_err(io::Error::other)?;
        Ok(Whole { start, bytes })
    }

    /// A part of it.
    ///
    /// # Errors
    /// If that is not in it, or not of whole pages.
    pub fn part(&self, offset: usize, bytes: usize) -> io::Result<MmapRegion> {
        let fits = offset
            .checked_add(bytes)
            .is_some_and(|end| end <= self.bytes);
        if !fits {
            return Err(io::Error::other("there is not so much of it"));
        }
        let start = std::ptr::with_exposed_provenance_mut::<u8>(self.start + offset);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
        // SAFETY: QEMU has mapped so many bytes there, to be read and written, and unmaps guest memory never: it has
        // no way to unplug that. Whoever uses the region does so by volatile accesses, as with memory that CPUs
        // share.
        let region = unsafe { MmapRegion::build_raw(start, bytes, protection, flags) };
        region.map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: (u32, u32, u64) = (0, 1, 77);

    #[test]
    fn a_mapping_is_found_by_its_file() {
        let maps = "\
            1000-3000 rw-s 00000000 00:01 77 /memfd:ram (deleted)\n\
            5000-6000 rw-p 00000000 00:01 78 /memfd:other (deleted)\n\
            7000-9000 r--p 00000000 00:01 77 /memfd:ram (deleted)\n\
            a000-c000 rw-p 00000000 00:01 77 /memfd:ram (deleted)\n\
            c000-e000 rw-p 00002000 00:01 77 /memfd:ram (deleted)\n\
            f000-ff00 rw-p 00000000 00:00 0\n";
        assert_eq!(find(maps, FILE, 0x4000), Some(0xa000));
        assert_eq!(find(maps, FILE, 0x1000), Some(0xa000));
        assert_eq!(find(maps, FILE, 0x5000), None);
        assert_eq!(find(maps, (0, 2, 77), 0x1000), None);
        assert_eq!(find("rubbish\n\n1-2", FILE, 1), None);
    }

    #[test]
    fn what_is_not_contiguous_is_not_found() {
        let maps = "\
            a000-c000 rw-p 00000000 00:01 77 /memfd:ram (deleted)\n\
            d000-f000 rw-p 00002000 00:01 77 /memfd:ram (deleted)\n";
        assert_eq!(find(maps, FILE, 0x4000), None);
        assert_eq!(find(maps, FILE, 0x2000), Some(0xa000));
    }

    #[test]
    fn a_part_is_within_the_whole() {
        let whole = Whole {
            start: 0x1000,
            bytes: 0x3000,
        };
        assert!(whole.part(0x1000, 0x2000).is_ok());
        assert!(whole.part(0x1000, 0x3000).is_err());
        assert!(whole.part(usize::MAX, 2).is_err());
    }
}
