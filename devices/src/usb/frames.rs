// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! How far a stream is, frame by frame: what a host needs to go on after it has cut transfers off.
//!
//! A driver that halts, resets or unplugs loses what is under way, and a careful program moves such
//! a frame again, from its start. It may find out late, when a later frame has been moved already;
//! so the frames that come after a cut are told by their contents, which say where in the stream
//! they belong. Only a frame that is still missing is believed: stale data is always of frames that
//! were there before, or of none.

use serde::{Deserialize, Serialize};

use staleline_protocol::pattern::{Pattern, WORD};

use crate::state::{Invalid, at_most, no_longer, same};

/// Frames of a stream that a plan may have.
pub(super) const MAX_FRAMES: u64 = 1 << 20;

/// Frames moved and missing.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes of the stream, and of a frame; the last one is what is left.
    bytes: u64,
    frame: u64,
    /// Which ones have been moved as a whole, and their bytes together.
    whole: Vec<bool>,
    whole_bytes: u64,
    /// The first one that is missing.
    missing: usize,
    /// The one under way, and how far it is.
    current: usize,
    at: u64,
    /// There was a cut: frames may come in any order.
    cut: bool,
}

impl Frames {
    /// A stream of `bytes`, of frames of `frame` bytes, or of one only. Neither is 0, and there are
    /// at most [`MAX_FRAMES`].
    pub(super) fn new(bytes: u64, frame: Option<u64>) -> Self {
        let frame = frame.unwrap_or(bytes).max(1);
        let count = bytes.div_ceil(frame).min(MAX_FRAMES);
        Frames {
            bytes,
            frame,
            whole: vec![false; usize::try_from(count).unwrap_or_default()],
            whole_bytes: 0,
            missing: 0,
            current: 0,
            at: 0,
            cut: false,
        }
    }

    /// Bytes moved, without those of frames that were cut off.
    pub(super) fn moved(&self) -> u64 {
        self.whole_bytes + self.at
    }

    /// Place in the stream of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.current as u64 * self.frame + self.at
    }

    /// Bytes of the frame under way that are still to come.
    pub(super) fn left(&self) -> u64 {
        let start = self.current as u64 * self.frame;
        self.frame
            .min(self.bytes.saturating_sub(start))
            .saturating_sub(self.at)
    }

    /// `n` bytes of the frame under way have been moved, at most those that were left.
    pub(super) fn advance(&mut self, n: u64) {
        self.at += n;
        if self.left() > 0 {
            return;
        }
        if let Some(whole) = self.whole.get_mut(self.current) {
            *whole = true;
        }
        self.whole_bytes += self.at;
        self.at = 0;
        while self.whole.get(self.missing) == Some(&true) {
            self.missing += 1;
        }
        self.current = self.missing;
    }

    /// The frame under way is cut off, and comes again. Returns what had been moved of it.
    pub(super) fn cut(&mut self) -> u64 {
        self.cut = true;
        self.current = self.missing;
        std::mem::take(&mut self.at)
    }

    /// After a cut, and at the start of a frame: finds out from its first bytes which one it is.
    /// `offset` is the place of the stream in the pattern.
    pub(super) fn recognise(&mut self, pattern: &Pattern, offset: u64, start: &[u8]) {
        if !self.cut || self.at > 0 || !offset.is_multiple_of(WORD as u64) {
            return;
        }
        let Some(word) = start.first_chunk::<WORD>() else {
            return;
        };
        let position = pattern
            .locate(u64::from_le_bytes(*word))
            .checked_mul(WORD as u64)
            .and_then(|place| place.checked_sub(offset));
        let frame = position
            .filter(|p| p.is_multiple_of(self.frame))
            .and_then(|p| usize::try_from(p / self.frame).ok());
        if let Some(frame) = frame.filter(|f| self.whole.get(*f) == Some(&false)) {
            self.current = frame;
        }
    }
}

/// What has been moved of a stream; the first frame that is missing follows from it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FramesState {
    /// How many frames there are.
    count: usize,
    /// A bit for each that has been moved as a whole.
    #[serde(with = "serde_bytes")]
    whole: Vec<u8>,
    current: usize,
    at: u64,
    cut: bool,
}

impl Frames {
    pub(super) fn state(&self) -> FramesState {
        let Frames {
            bytes: _,
            frame: _,
            whole,
            whole_bytes: _,
            missing: _,
            current,
            at,
            cut,
        } = self;
        let bits = whole.chunks(8).map(|frames| {
            let bits = frames.iter().enumerate();
            bits.fold(0, |byte, (n, whole)| byte | u8::from(*whole) << n)
        });
        FramesState {
            count: whole.len(),
            whole: bits.collect(),
            current: *current,
            at: *at,
            cut: *cut,
        }
    }

    /// Takes over what has been moved of the same stream.
    pub(super) fn set_state(&mut self, state: &FramesState) -> Result<(), Invalid> {
        same("number of frames", &state.count, &self.whole.len())?;
        let bytes = self.whole.len().div_ceil(8);
        same("bytes that tell of frames", &state.whole.len(), &bytes)?;
        no_longer("frame under way", state.current, self.whole.len())?;
        for (n, whole) in self.whole.iter_mut().enumerate() {
            let bits = state.whole.get(n / 8).copied().unwrap_or(0);
            *whole = bits >> (n % 8) & 1 != 0;
        }
        let moved = (0u64..).zip(&self.whole).filter(|(_, whole)| **whole);
        self.whole_bytes = moved.map(|(n, _)| self.size(n)).sum();
        let missing = self.whole.iter().position(|whole| !whole);
        self.missing = missing.unwrap_or(self.whole.len());
        self.current = state.current;
        // One that has been moved as a whole is over.
        at_most(
            "bytes of a frame",
            state.at,
            self.size(self.current as u64).saturating_sub(1),
        )?;
        self.at = state.at;
        self.cut = state.cut;
        Ok(())
    }

    /// Bytes of a frame.
    fn size(&self, number: u64) -> u64 {
        let start = number.saturating_mul(self.frame);
        self.frame.min(self.bytes.saturating_sub(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFSET: u64 = 64;

    fn start_of(frame: u64) -> [u8; 16] {
        let mut bytes = [0; 16];
        Pattern::new(3).fill(OFFSET + frame * 24, &mut bytes);
        bytes
    }

    /// Four frames of 24 bytes and one of 4.
    fn frames() -> Frames {
        Frames::new(100, Some(24))
    }

    #[test]
    fn frames_tile_the_stream() {
        let mut f = frames();
        for _ in 0..4 {
            assert_eq!(f.left(), 24);
            f.advance(10);
            f.advance(14);
        }
        assert_eq!((f.position(), f.left(), f.moved()), (96, 4, 96));
        f.advance(4);
        assert_eq!((f.left(), f.moved()), (0, 100));

        let mut one = Frames::new(100, None);
        one.advance(99);
        assert_eq!((one.position(), one.left()), (99, 1));
    }

    #[test]
    fn a_cut_frame_starts_over() {
        let mut f = frames();
        f.advance(24);
        f.advance(23);
        assert_eq!(f.cut(), 23);
        assert_eq!((f.position(), f.left(), f.moved()), (24, 24, 24));
        assert_eq!(f.cut(), 0);
    }

    #[test]
    fn missing_frames_are_recognised_in_any_order_after_a_cut_only() {
        let pattern = Pattern::new(3);
        let mut f = frames();
        f.recognise(&pattern, OFFSET, &start_of(2));
        assert_eq!(f.position(), 0);
        f.advance(24);
        f.cut();
        for (came, next) in [(3, 24), (1, 48)] {
            f.recognise(&pattern, OFFSET, &start_of(came));
            assert_eq!(f.position(), came * 24);
            f.advance(24);
            assert_eq!(f.position(), next);
        }
        // Frames 2 and 4 are missing: neither old data, nor a frame beyond the end, nor the middle
        // of one, nor zeros, nor too few bytes say anything else than that the next one comes.
        let mut middle = [0; 8];
        pattern.fill(OFFSET + 96 + 8, &mut middle);
        let damaged = [
            &start_of(0)[..],
            &start_of(5),
            &middle,
            &[0; 8],
            &start_of(4)[..7],
        ];
        for start in damaged {
            f.recognise(&pattern, OFFSET, start);
            assert_eq!(f.position(), 48);
        }
        f.advance(8);
        f.recognise(&pattern, OFFSET, &start_of(4));
        assert_eq!(f.position(), 56);
        f.advance(16);
        f.advance(4);
        assert_eq!((f.moved(), f.left()), (100, 0));
    }
}
