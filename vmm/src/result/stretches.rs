// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Where in memory a diagnostic's lines are.

use staleline_results::{HazardEntry, Hex, Stretch};

use super::Buffer;

/// Most stretches of a diagnostic that are listed; of more, the first.
const MAX_STRETCHES: usize = 64;

/// Where a finding is.
pub(super) fn of(finding: &HazardEntry, buffers: &[Buffer]) -> Stretch {
    Stretch {
        first_pa: finding.first_pa,
        end_pa: finding.end_pa,
        lines: finding.lines,
        wrong_bytes: finding.wrong_bytes,
        buffer: owner(finding.first_pa, buffers),
    }
}

/// Those of several findings as one list, ascending, and how many there are beyond it.
pub(super) fn joined(each: impl Iterator<Item = Stretch>) -> (Vec<Stretch>, u64) {
    let mut each: Vec<Stretch> = each.collect();
    each.sort_by_key(|s| (s.first_pa, s.end_pa));
    let mut list: Vec<Stretch> = Vec::new();
    for next in each {
        match list.last_mut() {
            Some(last) if next.first_pa <= last.end_pa && next.buffer == last.buffer => {
                last.end_pa = last.end_pa.max(next.end_pa);
                last.lines = last.lines.saturating_add(next.lines);
                last.wrong_bytes = last.wrong_bytes.saturating_add(next.wrong_bytes);
            }
            _ => list.push(next),
        }
    }
    let more = list.len().saturating_sub(MAX_STRETCHES);
    list.truncate(MAX_STRETCHES);
    (list, more as u64)
}

/// The number of the DMABUF that has this byte, if that is known.
fn owner(pa: Hex, buffers: &[Buffer]) -> Option<u32> {
    let has = |b: &&Buffer| {
        let mut extents = b.extents.iter();
        extents.any(|(start, len)| *start <= pa && pa.0 - start.0 < *len)
    };
    buffers.iter().find(has).map(|b| b.index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(first_pa: u64, lines: u64, buffer: Option<u32>) -> Stretch {
        Stretch {
            first_pa: Hex(first_pa),
            end_pa: Hex(first_pa + lines * 64),
            lines,
            wrong_bytes: 10 * lines,
            buffer,
        }
    }

    #[test]
    fn what_meets_is_one_stretch_unless_another_buffer_begins() {
        let each = [
            stretch(0x3000, 1, None),
            stretch(0x1000, 64, Some(7)),
            stretch(0x2000, 2, Some(8)),
            stretch(0x1000, 64, Some(7)),
            stretch(0x2080, 1, Some(8)),
            stretch(0x3000, 4, None),
        ];
        let (stretches, more) = joined(each.into_iter());
        let seen: Vec<_> = stretches
            .iter()
            .map(|s| (s.first_pa.0, s.end_pa.0, s.lines, s.wrong_bytes, s.buffer))
            .collect();
        assert_eq!(more, 0);
        assert_eq!(
            seen,
            [
                (0x1000, 0x2000, 128, 1280, Some(7)),
                (0x2000, 0x20c0, 3, 30, Some(8)),
                (0x3000, 0x3100, 5, 50, None),
            ]
        );
    }

    #[test]
    fn a_buffer_owns_what_its_extents_hold() {
        let buffer = Buffer {
            index: 7,
            exporter: "system".into(),
            bytes: 8192,
            extents: vec![(Hex(0x8000), 4096), (Hex(0x1000), 4096)],
            attached: Vec::new(),
        };
        let owns = |pa| owner(Hex(pa), std::slice::from_ref(&buffer)).is_some();
        assert!(owns(0x1000) && owns(0x1fff) && owns(0x8000));
        assert!(!owns(0xfff) && !owns(0x2000) && !owns(u64::MAX));
    }

    #[test]
    fn there_is_a_bound() {
        let each = (0..MAX_STRETCHES as u64 + 3).map(|n| stretch(n * 0x1000, 1, None));
        let (stretches, more) = joined(each);
        assert_eq!((stretches.len(), more), (MAX_STRETCHES, 3));
    }
}
