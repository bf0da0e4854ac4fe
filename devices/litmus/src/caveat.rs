// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What an answer rests on that the architecture's text does not settle, or settles otherwise for
//! other cores: told with the answer, whatever it is.

use crate::program::{
    Barrier, Event, Granules, MAX_OBSERVERS, Observer, Op, Orders, Program, Scope, View,
};
use crate::reach::Reach;

/// A doubt about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Caveat {
    /// A CPU accesses memory with the write-through attribute.
    WriteThrough,
    /// Nothing stronger than a DMB stands between maintenance and a doorbell.
    DmbBeforeDoorbell,
    /// What a CPU maintains is taken to be done when another one rings, with no DSB of its own.
    HandedOver,
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
        if handed_over(program) {
            all.push(Caveat::HandedOver);
        }
        all
    }

    /// A short name.
    pub fn name(self) -> &'static str {
        match self {
            Caveat::WriteThrough => "wt-as-cortex-a53",
            Caveat::DmbBeforeDoorbell => "dmb-before-doorbell",
            Caveat::HandedOver => "handed-over-without-dsb",
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
            Caveat::HandedOver => {
                "maintenance is handed over to another CPU, which rings the doorbell, and is taken to \
                 be done by then, though no full DSB of the CPU that issued it stands between; a DSB \
                 completes the maintenance of the CPU that executes it, and of no other: insert \
                 `dsb sy` on the CPU that maintains, before it hands over"
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

/// The line that it cleans or invalidates.
fn maintains(event: &Event) -> Option<u8> {
    let (dc, line) = event.maintains()?;
    (dc.cleans() || dc.invalidates()).then_some(line)
}

/// A full barrier for everyone.
fn full_barrier(event: &Event) -> Option<Barrier> {
    match event.op {
        Op::Barrier(
            barrier @ Barrier {
                orders: Orders::Full,
                scope: Scope::Everyone { .. },
                ..
            },
        ) => Some(barrier),
        _ => None,
    }
}

/// Whether a CPU maintains a line and rings a doorbell behind a full DMB for everyone, with no such
/// DSB between the two. (Any weaker barrier is too weak for certain, so the answer says so.)
fn dmb_before_doorbell(program: &Program) -> bool {
    (0..MAX_OBSERVERS).any(|cpu| {
        let (mut open, mut behind_dmb) = (false, false);
        let mine = program.events.iter().filter(|e| e.by == Observer::Cpu(cpu));
        for event in mine {
            if let Some(Barrier { completes, .. }) = full_barrier(event) {
                behind_dmb = open && !completes;
                open &= !completes;
            } else if matches!(event.op, Op::Doorbell(_)) && behind_dmb {
                return true;
            }
            open |= maintains(event).is_some();
        }
        false
    })
}

/// Whether a CPU maintains a line that a master uses, another one rings a doorbell behind that, and no
/// full DSB for everyone of the first CPU stands between the two. How the doorbell comes to be behind
/// it (a DMB, a store to the line, the word that is polled) makes no difference: none of that
/// completes it.
fn handed_over(program: &Program) -> bool {
    let events = &program.events;
    let rung_by_another = |i: usize, bells: u32| {
        let rung = |bell: &usize| bells >> bell & 1 != 0 && events[*bell].by != events[i].by;
        let is_bell = |bell: &usize| matches!(events[*bell].op, Op::Doorbell(_));
        (0..events.len()).filter(is_bell).any(|bell| rung(&bell))
    };
    let used_by_a_master = |line: u8| {
        let mut masters = (events.iter()).filter(|e| matches!(e.by, Observer::Dev(_)));
        masters.any(|e| e.bytes().meets(Granules::line(line)))
    };
    let maintained: Vec<usize> = (0..events.len())
        .filter(|i| maintains(&events[*i]).is_some_and(used_by_a_master))
        .filter(|i| rung_by_another(*i, u32::MAX))
        .collect();
    if maintained.is_empty() {
        return false;
    }
    let reach = Reach::of(program);
    maintained.into_iter().any(|i| {
        let by = events[i].by;
        let completes = |e: &Event| e.by == by && full_barrier(e).is_some_and(|b| b.completes);
        let dsb = (i + 1..events.len()).find(|dsb| completes(&events[*dsb]));
        let completed = dsb.map_or(0, |dsb| reach.doorbells_from(by, dsb + 1));
        rung_by_another(i, reach.doorbells(i) & !completed)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::case;

    fn of(events: &[&str]) -> Vec<Caveat> {
        let file = format!(
            "schema = 1\n[[case]]\ninit = [\"A+0..128 mem=m\"]\ncacheable = [\"A\"]\npolicy = \
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
            // Another barrier does not complete it.
            assert_eq!(
                of(&[clean, barrier, "cpu0 dsb st", bell]),
                [Caveat::DmbBeforeDoorbell]
            );
        }
        assert_eq!(of(&[clean, "cpu0 dmb ish", bell]), []);
        assert_eq!(of(&[clean, "cpu0 dmb st", bell]), []);
    }

    /// Events of a CPU that cleans, with what the others do, and whether that is in doubt.
    #[track_caller]
    fn in_doubt(doubt: bool, events: &[&str]) {
        let mut all = vec!["cpu0 store wb A+0..64 = v", "cpu0 dc cvac A+0"];
        all.extend(events);
        all.push("dev0 read ns A+0..64");
        let expected = if doubt {
            &[Caveat::HandedOver][..]
        } else {
            &[]
        };
        assert_eq!(of(&all), expected, "{all:?}");
    }

    #[test]
    fn maintenance_handed_over_behind_a_dmb() {
        let (dmb, dsb, bell) = ("cpu0 dmb sy", "cpu0 dsb sy", "cpu1 doorbell dev0");
        for acquire in [
            &["cpu1 acquire cpu0"][..],
            &["cpu2 acquire cpu0", "cpu1 acquire cpu2"],
            &[
                "cpu1 acquire cpu0",
                "cpu0 acquire cpu1",
                "cpu1 acquire cpu0",
            ],
            &["cpu0 store wb A+64..72 = f", "cpu1 poll wb A+64..72 == f"],
        ] {
            let with = |before: &[&'static str], behind: &[&'static str]| {
                [before, acquire, behind, &[bell]].concat()
            };
            // The other CPU's DSB completes nothing that this one does.
            for behind in [&[][..], &["cpu1 dsb sy"], &["cpu1 dmb sy"], &[dsb]] {
                in_doubt(true, &with(&[dmb], behind));
                in_doubt(false, &with(&[dsb], behind));
                in_doubt(false, &with(&[dmb, dsb], behind));
                in_doubt(false, &with(&[dsb, dmb], behind));
            }
            // It is not ordered at all: then the answer says so.
            for barrier in [&[][..], &["cpu0 dmb ish"], &["cpu0 dsb st"]] {
                in_doubt(false, &with(barrier, &["cpu1 dsb sy"]));
            }
        }
        // Nothing is handed over.
        in_doubt(false, &[dmb, bell]);
        in_doubt(false, &[dmb, bell, "cpu1 acquire cpu0"]);
        in_doubt(false, &["cpu1 acquire cpu0", dmb, "cpu1 dsb sy", bell]);
        // Completed on the way, but of one doorbell only.
        let twice = [dmb, "cpu1 acquire cpu0", "cpu1 doorbell dev1", dsb];
        in_doubt(
            true,
            &[&twice[..], &["cpu2 acquire cpu0", "cpu2 doorbell dev0"]].concat(),
        );
        let back = [dmb, "cpu1 acquire cpu0", "cpu0 acquire cpu1", dsb];
        in_doubt(
            false,
            &[&back[..], &["cpu2 acquire cpu0", "cpu2 doorbell dev0"]].concat(),
        );
        // Ordered by a store to the line, which completes it as little.
        let store = "cpu0 store wb A+0..8 = w";
        in_doubt(true, &[store, "cpu1 acquire cpu0", "cpu1 dsb sy", bell]);
        // No master uses the line.
        assert_eq!(
            of(&["cpu0 dc cvac A+0", dmb, "cpu1 acquire cpu0", bell]),
            []
        );
    }

    #[test]
    fn both_doubts_at_once() {
        let events = [
            "cpu0 dc cvac A+0",
            "cpu0 dmb sy",
            "cpu0 doorbell dev0",
            "cpu1 acquire cpu0",
            "cpu1 doorbell dev1",
            "dev1 read ns A+0..64",
        ];
        assert_eq!(of(&events), [Caveat::DmbBeforeDoorbell, Caveat::HandedOver]);
    }
}
