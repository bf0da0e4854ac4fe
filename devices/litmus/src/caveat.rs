// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What an answer rests on that the architecture's text does not settle, or settles otherwise for
//! other cores: told with the answer, whatever it is.

use crate::program::{Barrier, Dc, Observer, Op, Orders, Program, Scope, View};

/// A doubt about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Caveat {
    /// A CPU accesses memory with the write-through attribute.
    WriteThrough,
    /// Nothing stronger than a DMB stands between maintenance and a doorbell.
    DmbBeforeDoorbell,
}

impl Caveat {
    /// All that apply to a program.
    pub fn of(program: &Program) -> Vec<Self> {
        let mut all = Vec::new();
        if write_through(program) {
            all.push(Caveat::WriteThrough);
        }
        if dmb_before_doorbell(program) {
            all.push(Caveat::DmbBeforeDoorbell);
        }
        all
    }

    /// A short name.
    pub fn name(self) -> &'static str {
        match self {
            Caveat::WriteThrough => "wt-as-cortex-a53",
            Caveat::DmbBeforeDoorbell => "dmb-before-doorbell",
        }
    }

    /// What is in doubt.
    pub fn text(self) -> &'static str {
        match self {
            Caveat::WriteThrough => {
                "`wt` is judged as on Cortex-A53, which does not cache write-through memory (DDI \
                 0500, 6.2.4); other cores may cache it, and then a load may find an old copy: \
                 invalidate as for `wb`"
            }
            Caveat::DmbBeforeDoorbell => {
                "only a DMB stands between maintenance and a doorbell, and is taken to be enough; \
                 whether it is before a store to Device memory is not clear from the architecture's \
                 text: a DSB is"
            }
        }
    }
}

fn write_through(program: &Program) -> bool {
    let through = |op: &Op| {
        matches!(
            op,
            Op::Access {
                view: View::WriteThrough,
                ..
            }
        )
    };
    program.events.iter().any(|e| through(&e.op))
}

/// Whether a CPU maintains a line and rings a doorbell behind a full DMB for everyone, with no such
/// DSB between the two. (Any weaker barrier is too weak for certain, so the answer says so.)
fn dmb_before_doorbell(program: &Program) -> bool {
    let maintains = |dc: Dc| dc.cleans() || dc.invalidates();
    (0..crate::program::MAX_OBSERVERS).any(|cpu| {
        let (mut open, mut behind_dmb) = (false, false);
        let mine = program.events.iter().filter(|e| e.by == Observer::Cpu(cpu));
        for event in mine {
            match event.op {
                Op::Dc { op, .. } if maintains(op) => open = true,
                Op::Barrier(Barrier {
                    completes,
                    orders: Orders::Full,
                    scope: Scope::Everyone { .. },
                }) => {
                    behind_dmb = open && !completes;
                    open &= !completes;
                }
                Op::Doorbell(_) if behind_dmb => return true,
                _ => {}
            }
        }
        false
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::case;

    fn of(events: &[&str]) -> Vec<Caveat> {
        let file = format!(
            "schema = 1\n[[case]]\ninit = [\"A+0..64 mem=m\"]\ncacheable = [\"A\"]\npolicy = \
             \"wt\"\nevents = {events:?}\n"
        );
        Caveat::of(&case::parse(&file, "f").unwrap()[0].program)
    }

    #[test]
    fn write_through_accesses() {
        assert_eq!(of(&["cpu0 load wt A+0..8"]), [Caveat::WriteThrough]);
        assert_eq!(of(&["cpu0 load nc A+0..8"]), []);
    }

    #[test]
    fn maintenance_behind_a_dmb_only() {
        let (clean, bell) = ("cpu0 dc cvac A+0", "cpu0 doorbell dev0");
        for barrier in ["cpu0 dmb sy", "cpu0 dmb osh"] {
            assert_eq!(of(&[clean, barrier, bell]), [Caveat::DmbBeforeDoorbell]);
            assert_eq!(of(&[clean, barrier, "cpu0 dsb sy", bell]), []);
            assert_eq!(of(&[clean, "cpu0 dsb sy", barrier, bell]), []);
            assert_eq!(of(&[barrier, clean, bell]), []);
            assert_eq!(of(&["cpu0 store wb A+0..8 = v", barrier, bell]), []);
            // What another CPU orders, or another barrier that is too weak.
            assert_eq!(of(&[clean, barrier, "cpu1 doorbell dev0"]), []);
            assert_eq!(
                of(&[clean, barrier, "cpu0 dsb st", bell]),
                [Caveat::DmbBeforeDoorbell]
            );
        }
        assert_eq!(of(&[clean, "cpu0 dmb ish", bell]), []);
        assert_eq!(of(&[clean, "cpu0 dmb st", bell]), []);
    }
}
