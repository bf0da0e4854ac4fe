// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Instruction fetches, as far as an engine tells of them: it fetches a piece of code once, keeps what it
//! has made of it, and has to be told when the bytes there are no longer those.
//!
//! A fetch reads as a load does, from the point of unification, which on this board is the cache that
//! loads go through. It is no access in device time and in the run's hash: when an engine fetches is its
//! own affair.

use super::domain::Domain;
use super::line::{UNREAD, WATCHED, parts};
use super::who::Who;
use crate::cpu::{CpuId, LINE, SiteId};

impl Domain {
    /// Code has been fetched from `len` bytes at `pa`, by way of the caches; `site` is asked where that
    /// code is if there is something to judge. Outside RAM: ignored.
    pub fn fetched(&mut self, cpu: CpuId, pa: u64, len: u64, site: &mut dyn FnMut() -> SiteId) {
        let Some(offset) = self.offset(pa, len) else {
            return;
        };
        for (number, bytes, _) in parts(offset, len) {
            self.images.fetched.watch(number * LINE);
            let flags = self.lines.line(number).flags;
            if flags & (WATCHED | UNREAD) != 0 {
                self.judge_fetch(number, bytes, Who::cpu(cpu, site()));
            }
        }
    }

    /// A page in which code that was fetched may have changed since, each time once; its address.
    pub fn changed_code(&mut self) -> Option<u64> {
        self.images
            .fetched
            .changed
            .pop()
            .map(|offset| self.base + offset)
    }
}
