// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Accesses of masters to pages at rest: one look and one copy for all lines.

use super::aside::Written;
use super::dma::Request;
use super::domain::Domain;
use super::line::{PAGE, PAGE_LINES, mask};
use super::rest::Kinds;
use crate::cpu::LINE;
use crate::dma::Content;

impl Request {
    /// Whether it can be of a page as a whole. Descriptors and events leave more behind than data do,
    /// and a word that hands memory over is judged apart from its line.
    fn is_plain(&self) -> bool {
        self.by.content == Content::Data && self.handover.is_none()
    }
}

impl Domain {
    /// A read within one page, if that is at rest. Returns whether it was.
    pub(super) fn read_at_rest(
        &mut self,
        kind: Kinds,
        request: &Request,
        offset: u64,
        buf: &mut [u8],
    ) -> bool {
        let release = &request.by.release;
        let plain = request.is_plain();
        if !plain || self.lines.at_rest(offset / LINE, kind, release).is_none() {
            return false;
        }
        if request.snoops {
            self.images.read_ram(offset, buf);
        } else {
            self.images.read_dram(offset, buf);
        }
        // That there is nothing to find may be because too much was forgotten.
        self.sanitizer.overtaken.judges(release);
        true
    }

    /// A write within one page, if that is at rest. Returns whether it was.
    pub(super) fn write_at_rest(
        &mut self,
        kind: Kinds,
        request: &Request,
        offset: u64,
        data: &[u8],
    ) -> bool {
        let release = &request.by.release;
        if !request.is_plain() {
            return false;
        }
        let Some(page) = self.lines.at_rest(offset / LINE, kind, release) else {
            return false;
        };
        let cached = page.write(
            lines(offset, data),
            Written {
                dma_write: self.dma_writes,
                by: request.by.who,
                at: self.sanitizer.now,
            },
        );
        self.write_behind(offset, data, cached);
        self.sanitizer.overtaken.judges(release);
        true
    }

    /// Puts `data`, within one page, into DRAM. Coherent observers go on seeing what is in the cache: lines
    /// of the page that are, as a mask.
    pub(super) fn write_behind(&mut self, offset: u64, data: &[u8], cached: u64) {
        self.images.write_dram(offset, data);
        for (from, to) in runs(lines(offset, data) & !cached) {
            let page = offset / PAGE * PAGE;
            let from = (page + from * LINE).max(offset);
            let to = (page + to * LINE).min(offset + data.len() as u64);
            let piece = &data[(from - offset) as usize..(to - offset) as usize];
            self.images.write_ram(from, piece);
        }
    }

    /// After an access to `len` bytes of a page went through its lines: it may be at rest now. That is
    /// looked into when the access has reached the page's end, once for all accesses of a transfer that
    /// goes through it.
    pub(super) fn let_rest(&mut self, kind: Kinds, request: &Request, offset: u64, len: usize) {
        if request.is_plain() && (offset % PAGE + len as u64).div_ceil(LINE) == PAGE_LINES as u64 {
            self.lines
                .set_aside(offset / LINE, kind, &self.sanitizer.ops);
        }
    }
}

/// The lines of a page, as a mask, that `data` at `offset` are in.
fn lines(offset: u64, data: &[u8]) -> u64 {
    let end = offset % PAGE + data.len() as u64;
    let first = offset % PAGE / LINE;
    mask(first, end.div_ceil(LINE) - first)
}

/// Runs of adjacent bits in a mask: first and after the last.
fn runs(mut lines: u64) -> impl Iterator<Item = (u64, u64)> {
    std::iter::from_fn(move || {
        if lines == 0 {
            return None;
        }
        let first = lines.trailing_zeros();
        let count = (lines >> first).trailing_ones();
        lines &= !mask(first.into(), count.into());
        Some((first.into(), u64::from(first + count)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_the_bits_of_their_mask() {
        let all = |lines| runs(lines).collect::<Vec<_>>();
        assert_eq!(all(0), []);
        assert_eq!(all(u64::MAX), [(0, 64)]);
        assert_eq!(all(1 << 63 | 0b0110_0001), [(0, 1), (5, 7), (63, 64)]);
    }
}
