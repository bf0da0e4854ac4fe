// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The kernel's calls for shared buffers, as the domain sees them.

use super::domain::Domain;
use crate::cpu::{Called, CpuId};
use crate::events::{Event, Kind};

impl Domain {
    /// The kernel has called a function for buffers that devices share.
    pub fn called(&mut self, called: Called) {
        let Called {
            cpu,
            call,
            object,
            chain,
            ..
        } = called;
        self.note(Kind::Signal, || Event::Called {
            cpu,
            call,
            object,
            chain,
        });
        let now = self.now();
        self.fences.called(&called, now);
    }

    /// The next maintenance operation of `cpu` is done by `dma_buf_end_access()` of this attachment.
    pub fn maintains_for(&mut self, cpu: CpuId, attachment: u64) {
        self.fences.maintains_for(cpu, attachment);
    }
}
