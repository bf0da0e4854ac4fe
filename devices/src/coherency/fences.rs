// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the kernel says of devices' accesses to shared buffers, and of the fences that others wait for:
//! which access was not ended yet when its fence signalled.
//!
//! A fence knows nothing of an access, nor the other way round. Which belong together is told by who adds
//! the fence: the task that has begun the access last, or that begins it next. A mistake there cannot make
//! a finding by itself: that takes data which the end of an access makes visible after that signal.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::cpu::{BufferCall, Called, CpuId, MAX_CPUS};
use crate::hazard::Signalled;
use crate::state::{Invalid, no_longer, times};

/// Accesses kept that are not ended. Of more, the oldest are forgotten: some importers never end any.
pub(super) const MAX_OPEN: usize = 1 << 10;

/// Tasks whose last fence is kept until they begin an access, and accesses that ended after their fence.
const MAX_KEPT: usize = 64;

/// An access that is not ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Access {
    attachment: u64,
    /// Who has begun it.
    task: u64,
    /// Its fence; none yet: 0.
    fence: u64,
    /// The fence was added after the access had begun, and so is not another one's.
    settled: bool,
    signalled: Option<Signalled>,
}

/// An operation that `dma_buf_end_access()` does too late.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Late {
    signal: Signalled,
    /// Its number; 0: it has not begun.
    operation: u32,
}

/// All that is known of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Fences {
    /// In the order in which they were begun.
    open: VecDeque<Access>,
    /// Fences, and who has added them, that belong to no access yet and have not signalled.
    added: VecDeque<(u64, u64)>,
    /// Attachments whose last access was ended after its fence had signalled.
    late: VecDeque<(u64, Signalled)>,
    /// What each CPU does for one of these.
    doing: [Option<Late>; MAX_CPUS],
    /// Accesses were forgotten that had not been ended.
    forgotten: bool,
    /// And then one was ended that may have been among them.
    missed: bool,
}

impl Fences {
    /// The kernel has called a function.
    pub fn called(&mut self, c: &Called, now: u64) {
        match c.call {
            BufferCall::BeginAccess => self.begin(c.object, c.task),
            BufferCall::AddFence => self.add(c.object, c.task),
            BufferCall::Signal => {
                self.added.retain(|(fence, _)| *fence != c.object);
                let signal = Signalled {
                    cpu: c.cpu,
                    chain: c.chain,
                    at: now,
                };
                // One that has signalled may signal again, to no effect; or its memory is another's now.
                let waiting = |a: &&mut Access| a.fence == c.object && a.signalled.is_none();
                for access in self.open.iter_mut().filter(waiting) {
                    access.signalled = Some(signal);
                }
            }
            BufferCall::EndAccess => self.end(c.object, c.task),
        }
    }

    fn begin(&mut self, attachment: u64, task: u64) {
        let before = self.added.iter().position(|(_, by)| *by == task);
        let before = before.and_then(|at| self.added.remove(at));
        if self.open.len() >= MAX_OPEN {
            self.open.pop_front();
            self.forgotten = true;
        }
        self.open.push_back(Access {
            attachment,
            task,
            fence: before.map_or(0, |(fence, _)| fence),
            settled: false,
            signalled: None,
        });
    }

    fn add(&mut self, fence: u64, task: u64) {
        if fence == 0 {
            return;
        }
        let mut latest = self.open.iter_mut().rev();
        if let Some(access) = latest.find(|a| a.task == task && !a.settled) {
            access.fence = fence;
            access.settled = true;
            access.signalled = None;
            return;
        }
        self.added.retain(|(_, by)| *by != task);
        keep(&mut self.added, (fence, task));
    }

    /// Accesses of one attachment end in the order in which they were begun; but who gives one up ends it
    /// before it has a fence.
    fn end(&mut self, attachment: u64, task: u64) {
        self.late.retain(|(of, _)| *of != attachment);
        let given_up = |a: &Access| a.attachment == attachment && a.task == task && a.fence == 0;
        let at = self.open.iter().rposition(given_up);
        let at = at.or_else(|| self.open.iter().position(|a| a.attachment == attachment));
        match at.and_then(|at| self.open.remove(at)) {
            Some(access) => {
                if let Some(signal) = access.signalled {
                    keep(&mut self.late, (attachment, signal));
                }
            }
            None => self.missed |= self.forgotten,
        }
    }

    /// The next maintenance operation of `cpu` is done by `dma_buf_end_access()` of this attachment.
    pub fn maintains_for(&mut self, cpu: CpuId, attachment: u64) {
        let mut late = self.late.iter().rev().filter(|(of, _)| *of == attachment);
        self.doing[cpu.index()] = late.next().map(|(_, signal)| Late {
            signal: *signal,
            operation: 0,
        });
    }

    /// The signal that came before the end of the access for which `cpu` does maintenance operation
    /// `operation`, if one did.
    #[inline]
    pub fn signalled_before(&mut self, cpu: CpuId, operation: u32) -> Option<Signalled> {
        let late = self.doing[cpu.index()].as_mut()?;
        if late.operation == 0 {
            late.operation = operation;
        }
        (late.operation == operation).then_some(late.signal)
    }

    /// Whether accesses were ended that were no longer known.
    pub fn misses_ends(&self) -> bool {
        self.missed
    }

    /// For a state that comes from outside.
    pub fn check(&self) -> Result<(), Invalid> {
        no_longer("accesses that are not ended", self.open.len(), MAX_OPEN)?;
        no_longer("fences of no access", self.added.len(), MAX_KEPT)?;
        no_longer("accesses that ended late", self.late.len(), MAX_KEPT)?;
        let open = self.open.iter().filter_map(|a| a.signalled.as_ref());
        let late = self.late.iter().map(|(_, signal)| signal);
        let doing = self.doing.iter().flatten().map(|late| &late.signal);
        for signal in open.chain(late).chain(doing) {
            no_longer("CPU of a signal", signal.cpu.0.into(), MAX_CPUS - 1)?;
            times("time of a signal", &[signal.at])?;
        }
        Ok(())
    }
}

/// Adds one, and forgets the oldest if there are too many.
fn keep<T>(all: &mut VecDeque<T>, one: T) {
    if all.len() >= MAX_KEPT {
        all.pop_front();
    }
    all.push_back(one);
}
