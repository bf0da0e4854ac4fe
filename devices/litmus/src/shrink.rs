// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Making a program smaller that shows something.

use crate::program::{Observer, Op, Program};

/// The smallest program made from this one by leaving out events, of which `differs` still holds.
/// What starts a master, and what waits for it, stay as long as it does something.
pub fn shrink(program: &Program, differs: &mut dyn FnMut(&Program) -> bool) -> Program {
    let mut smallest = program.clone();
    let mut i = 0;
    while i < smallest.events.len() {
        let mut smaller = smallest.clone();
        let gone = smaller.events.remove(i);
        let kept = match gone.op {
            Op::Doorbell(dev) | Op::Wait(dev) => {
                smaller.events.iter().any(|e| e.by == Observer::Dev(dev))
            }
            Op::Acquire(_) => true,
            _ => false,
        };
        if !kept && !smaller.events.is_empty() && differs(&smaller) {
            smallest = smaller;
            i = 0;
        } else {
            i += 1;
        }
    }
    smallest
}
