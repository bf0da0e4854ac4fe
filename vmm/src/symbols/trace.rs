// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! From the names in a call trace of the kernel's to files and lines.

use staleline_results::{Frame, Hex, Place, Stack};

use super::Symbols;
use super::module::{self, Code};
use crate::evidence::kernel_log::Called;

/// Bytes of an instruction. Where a call goes on is one behind the call.
const INSTRUCTION: u64 = 4;

impl Symbols {
    /// Where a call trace begins, with the rest of it as callers; none if nothing more is known of it than what
    /// the kernel has said.
    pub fn traced(&self, trace: &[Called]) -> Option<Place> {
        let mut places = trace.iter().map(|called| self.of_trace(called));
        let mut first = places.next()?;
        let callers: Vec<Place> = places.collect();
        let lines = |place: &Place| !place.frames.is_empty();
        if !lines(&first) && !callers.iter().any(lines) {
            return None;
        }
        first.stack = Some(Stack {
            callers,
            ..Stack::default()
        });
        Some(first)
    }

    fn of_trace(&self, called: &Called) -> Place {
        let back = if called.exact { 0 } else { INSTRUCTION };
        let offset = called.offset.checked_sub(back);
        let (va, frames) = match (offset, &called.module) {
            (Some(offset), Some(module)) => self.in_module(module, called, offset),
            (Some(offset), None) => self.in_kernel(called, offset),
            (None, _) => None,
        }
        .unwrap_or_default();
        Place {
            va: Hex(va),
            kernel: true,
            symbol: Some(called.symbol()),
            module: called.module.clone(),
            program: None,
            frames,
            stack: None,
        }
    }

    fn in_kernel(&self, called: &Called, offset: u64) -> Option<(u64, Vec<Frame>)> {
        let start = self.map()?.named(&called.function, called.size)?;
        let va = start.checked_add(offset)?;
        Some((va, self.place(va).frames))
    }

    fn in_module(&self, name: &str, called: &Called, offset: u64) -> Option<(u64, Vec<Frame>)> {
        let of = |code: &Code| {
            let start = code.start(&called.function, called.size, &self.troubles)?;
            let va = start.checked_add(offset)?;
            Some((va, code.frames(va, &self.troubles)?))
        };
        if let Some(found) = self.modules.named(name).find_map(of) {
            return Some(found);
        }
        // It may have come to its end before anybody could look where it was.
        let mut somewhere = self.somewhere.borrow_mut();
        let inputs = &self.sources.inputs;
        let code = somewhere
            .entry(name.to_owned())
            .or_insert_with(|| module::somewhere(name, inputs));
        let (_, frames) = of(code.as_ref()?)?;
        Some((0, frames))
    }
}
