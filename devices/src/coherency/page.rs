// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is known of the lines of one page.

use super::cold::Cold;
use super::line::{Line, PAGE_LINES};
use super::trial::Trial;

/// Metadata of one page.
#[derive(Debug)]
pub(super) struct PageMeta {
    pub lines: [Line; PAGE_LINES],
    pub cold: Option<Box<[Cold; PAGE_LINES]>>,
    pub trial: Trial,
}

impl PageMeta {
    /// The line with its cold part, which is made if it is missing.
    #[inline]
    pub fn with_cold(&mut self, index: usize) -> (&mut Line, &mut Cold) {
        let cold = self.cold.get_or_insert_with(no_history);
        (&mut self.lines[index], &mut cold[index])
    }
}

/// Cold parts of lines that nothing has happened to. Apart, as they are made on the stack, of which
/// callers on the hot path shall not have to touch so much.
#[cold]
#[inline(never)]
pub(super) fn no_history() -> Box<[Cold; PAGE_LINES]> {
    Box::new(std::array::from_fn(|_| Cold::default()))
}
