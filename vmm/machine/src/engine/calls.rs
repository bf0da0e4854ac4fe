// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Where the kernel's functions for shared buffers are: what an engine has to know to see them called.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use staleline_devices::cpu::BufferCall;

/// The functions, by what a call of them means. Kernels have some of those that signal.
const FUNCTIONS: [(&str, BufferCall); 9] = [
    (BEGINS, BufferCall::BeginAccess),
    (ENDS, BufferCall::EndAccess),
    ("dma_resv_add_fence", BufferCall::AddFence),
    ("dma_fence_signal", BufferCall::Signal),
    ("dma_fence_signal_locked", BufferCall::Signal),
    ("dma_fence_signal_timestamp", BufferCall::Signal),
    ("dma_fence_signal_timestamp_locked", BufferCall::Signal),
    ("dma_fence_check_and_signal", BufferCall::Signal),
    ("dma_fence_check_and_signal_locked", BufferCall::Signal),
];

/// Without these two, a kernel has no accesses that a fence could come before the end of.
const BEGINS: &str = "dma_buf_begin_access";
const ENDS: &str = "dma_buf_end_access";

/// Their addresses in one kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BufferCode {
    /// First instructions, in order.
    pub entries: Vec<(u64, BufferCall)>,
    /// All of `dma_buf_end_access()`.
    pub ends_access: Range<u64>,
}

impl BufferCode {
    /// In the kernel in which `find` finds functions by name; `None` if that lacks what it takes to judge
    /// when fences signal.
    pub fn of(find: impl Fn(&str) -> Option<Range<u64>>) -> Option<Self> {
        let ends_access = find(ENDS)?;
        let found = FUNCTIONS.into_iter().filter_map(|(name, call)| {
            let code = find(name)?;
            Some((code.start, call))
        });
        let mut entries: Vec<_> = found.collect();
        entries.sort_unstable_by_key(|(address, _)| *address);
        let calls = [
            BufferCall::BeginAccess,
            BufferCall::AddFence,
            BufferCall::Signal,
        ];
        let has = |call| entries.iter().any(|(_, c)| *c == call);
        calls.into_iter().all(has).then_some(BufferCode {
            entries,
            ends_access,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_has_all_it_takes_or_nothing_is_judged() {
        let at = |name: &str| {
            let n = FUNCTIONS.iter().position(|(f, _)| *f == name)? as u64;
            Some(0x1000 - 0x100 * n..0x1000 - 0x100 * n + 0x80)
        };
        let code = BufferCode::of(at).unwrap();
        assert_eq!(code.entries.len(), FUNCTIONS.len());
        assert!(code.entries.is_sorted_by_key(|(at, _)| *at));
        assert_eq!(code.ends_access, 0xf00..0xf80);
        // One of those that signal is enough.
        let one = |name: &str| {
            at(name).filter(|_| name == "dma_fence_signal" || !name.contains("signal"))
        };
        assert_eq!(BufferCode::of(one).unwrap().entries.len(), 4);
        for (missing, call) in FUNCTIONS {
            let other = |name: &str| at(name).filter(|_| name != missing);
            let judged = BufferCode::of(other).is_some();
            assert_eq!(judged, call == BufferCall::Signal, "{missing}");
        }
    }
}
