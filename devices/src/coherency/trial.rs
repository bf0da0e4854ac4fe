// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! When a page is to be set aside (see [`super::aside`]), and when that is left.

use serde::{Deserialize, Serialize};

use crate::state::{Invalid, at_most};

/// Whether it is worth while to set a page aside again. Where each access of a master is followed by
/// the CPU's maintenance, as in a ring of buffers that is streamed through, nobody ever meets the page
/// at rest. So it is tried less and less often while it was in vain.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Trial {
    /// Times in a row that it was, up to [`Self::MOST`].
    in_vain: u8,
    /// Opportunities to let pass.
    wait: u8,
}

impl Trial {
    /// Then one in 2^6 opportunities is taken.
    const MOST: u8 = 6;

    /// For a state that comes from outside.
    pub fn check(self) -> Result<(), Invalid> {
        at_most(
            "opportunities in vain",
            self.in_vain.into(),
            Self::MOST.into(),
        )
    }

    /// Asked at an opportunity: whether it is to be taken.
    pub fn is_due(&mut self) -> bool {
        let due = self.wait == 0;
        self.wait = self.wait.saturating_sub(1);
        due
    }

    /// The page is back, and somebody has met it at rest or nobody has.
    pub fn over(&mut self, met: bool) {
        self.in_vain = if met {
            0
        } else {
            Self::MOST.min(self.in_vain + 1)
        };
        self.wait = (1 << self.in_vain) - 1;
    }
}
