// SPDX-License-Identifier: GPL-2.0-or-later
//! The kernel's calls for buffers that devices share: where they are, and which maintenance they do.

use serde::{Deserialize, Serialize};
use staleline_devices::cpu::BufferCall;
use staleline_devices::state::{Invalid, no_longer};
use staleline_machine::engine::calls::BufferCode;

use crate::chain::{self, Frame, VirtualMemory};

/// Calls of `dma_buf_end_access()` kept. They do not sleep, so there are no more at a time than CPUs and
/// interrupts that interrupt each other.
const MAX_ENDING: usize = 32;

/// Bytes of a kernel's stack, at most: calls that far apart are on different stacks.
const STACK: u64 = 1 << 14;

/// Bytes of the stack that `dma_buf_end_access()` takes, at most.
const OWN: u64 = 1 << 12;

/// A call of `dma_buf_end_access()`; whether it has returned, the next one on the same stack tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    attachment: u64,
    /// The stack pointer at its first instruction.
    sp: u64,
}

/// What the guest's kernel calls, if anybody is to know.
#[derive(Debug, Default)]
pub struct Calls {
    code: BufferCode,
    ending: Vec<Ending>,
}

impl Calls {
    /// Of a kernel with this code; none: nobody is to know.
    pub fn new(code: Option<&BufferCode>) -> Self {
        let mut code = code.cloned().unwrap_or_default();
        code.entries.sort_unstable_by_key(|(address, _)| *address);
        Calls {
            code,
            ending: Vec::new(),
        }
    }

    /// The function that begins at `pc`.
    #[inline]
    pub fn at(&self, pc: u64) -> Option<BufferCall> {
        // Nearly all code is elsewhere.
        let ([(first, _), ..], [.., (last, _)]) = (&self.code.entries[..], &self.code.entries[..])
        else {
            return None;
        };
        if !(*first..=*last).contains(&pc) {
            return None;
        }
        let found = self.code.entries.binary_search_by_key(&pc, |(at, _)| *at);
        self.code.entries.get(found.ok()?).map(|(_, call)| *call)
    }

    /// Whether anybody is to know.
    pub fn are_seen(&self) -> bool {
        !self.code.entries.is_empty()
    }

    /// `dma_buf_end_access()` begins, of an attachment and with the stack pointer at `sp`.
    pub fn ends(&mut self, attachment: u64, sp: u64) {
        // What has its frame here or below, on the same stack, has returned.
        self.ending.retain(|e| sp.wrapping_sub(e.sp) >= STACK);
        if self.ending.len() >= MAX_ENDING {
            self.ending.remove(0);
        }
        self.ending.push(Ending { attachment, sp });
    }

    /// The attachment whose access is ended by code that `frame` leads to, if there is one.
    pub fn ended_by(&self, memory: &mut impl VirtualMemory, frame: Frame) -> Option<u64> {
        if self.ending.is_empty() {
            return None;
        }
        let fp = chain::frame_of(memory, frame, &self.code.ends_access)?;
        let above = self.ending.iter().filter(|e| e.sp.wrapping_sub(fp) < OWN);
        Some(above.min_by_key(|e| e.sp)?.attachment)
    }

    /// The calls that may not have returned.
    pub fn state(&self) -> Vec<Ending> {
        self.ending.clone()
    }

    /// Takes them over.
    ///
    /// # Errors
    /// If there are too many.
    pub fn set_state(&mut self, ending: Vec<Ending>) -> Result<(), Invalid> {
        no_longer("calls of dma_buf_end_access()", ending.len(), MAX_ENDING)?;
        self.ending = ending;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const END: u64 = 0xffff_8000_8010_0000;
    const STACKS: u64 = 0xffff_8000_9000_0000;

    struct Memory(BTreeMap<u64, u64>);

    impl VirtualMemory for Memory {
        fn read_u64(&mut self, va: u64) -> Option<u64> {
            self.0.get(&va).copied()
        }
    }

    fn calls() -> Calls {
        Calls::new(Some(&BufferCode {
            entries: vec![(END, BufferCall::EndAccess), (END - 64, BufferCall::Signal)],
            ends_access: END..END + 0x80,
        }))
    }

    /// A stack on which `dma_buf_end_access()`, entered with the stack pointer at `sp`, has called
    /// somebody; and the frame of that.
    fn in_the_end(sp: u64) -> (Memory, Frame) {
        let mut words = BTreeMap::new();
        // Somebody's caller is in dma_buf_end_access(): BL in the lower half of a word.
        words.insert(END + 0x40, 0x9400_0010);
        words.insert(sp - 96, sp - 48);
        words.insert(sp - 88, END + 0x44);
        words.insert(sp - 48, 0);
        words.insert(sp - 40, 0);
        let frame = Frame {
            fp: sp - 96,
            ..Frame::default()
        };
        (Memory(words), frame)
    }

    #[test]
    fn first_instructions_are_known() {
        let calls = calls();
        assert_eq!(calls.at(END), Some(BufferCall::EndAccess));
        assert_eq!(calls.at(END - 64), Some(BufferCall::Signal));
        for other in [0, END - 60, END + 4, u64::MAX] {
            assert_eq!(calls.at(other), None);
        }
        assert!(calls.are_seen());
        let none = Calls::new(None);
        assert!(none.at(0).is_none() && none.at(END).is_none() && !none.are_seen());
    }

    #[test]
    fn maintenance_is_that_of_the_call_whose_frame_leads_to_it() {
        let mut calls = calls();
        let sp = STACKS + 0x3000;
        let (mut memory, frame) = in_the_end(sp);
        // Not called, as far as anybody knows.
        assert_eq!(calls.ended_by(&mut memory, frame), None);
        calls.ends(7, sp);
        assert_eq!(calls.ended_by(&mut memory, frame), Some(7));
        // An interrupt on a stack of its own ends another, which is over.
        calls.ends(8, STACKS + 0x4_0000);
        assert_eq!(calls.ended_by(&mut memory, frame), Some(7));
        // Who is not below it does maintenance of his own.
        let other = Frame {
            fp: sp - 48,
            ..frame
        };
        assert_eq!(calls.ended_by(&mut memory, other), None);
    }

    #[test]
    fn a_call_at_or_above_a_frame_ends_it() {
        let mut calls = calls();
        let sp = STACKS + 0x3000;
        calls.ends(7, sp - 0x200);
        calls.ends(8, sp);
        let (mut memory, frame) = in_the_end(sp);
        assert_eq!(calls.ended_by(&mut memory, frame), Some(8));
        assert_eq!(calls.state().len(), 1);
        // However many there are on different stacks.
        for n in 0..1000u64 {
            calls.ends(n, STACKS.wrapping_add(n << 20));
        }
        assert_eq!(calls.state().len(), MAX_ENDING);
        let state = calls.state();
        let mut other = Calls::new(None);
        assert!(other.set_state(state.clone()).is_ok());
        let many = [state.clone(), state].concat();
        assert!(other.set_state(many).is_err());
    }
}
