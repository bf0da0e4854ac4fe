// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Values have to be told apart: what is stored twice cannot be told stale.

use crate::program::{Event, Initial, ZERO};

/// What to do about a value that is there already.
const ADVICE: &str =
    "give each write a value of its own: what is stored twice cannot be told stale";

/// The same about `dc zva`, which has no choice.
const ZEROS: &str = " (instead of `dc zva`, store a value to the whole line)";

/// What is wrong with contents at first: a dirty copy that is no other than what memory holds.
pub(crate) fn same_at_first(initial: Initial) -> Option<String> {
    let same = initial.dirty == Some(initial.memory);
    same.then(|| format!("dirty is what memory holds; {ADVICE}"))
}

/// The first write, by index, that puts a value to bytes that have held it before, with the reason.
pub(crate) fn repeated(initial: &[Initial; 64], events: &[Event]) -> Option<(usize, String)> {
    events.iter().enumerate().find_map(|(i, event)| {
        let (_, value) = event.write()?;
        let bytes = event.bytes();
        let earlier = events[..i].iter().position(|e| {
            e.write().is_some_and(|(_, other)| other == value) && e.bytes().meets(bytes)
        });
        let at_first = || bytes.iter().any(|g| holds(initial[usize::from(g)], value));
        let (whose, has) = match earlier {
            Some(earlier) => (format!("event {earlier}"), "writes"),
            None if at_first() => ("`init`".to_owned(), "has"),
            None => return None,
        };
        let (what, how) = match value {
            ZERO => ("zeros", ZEROS),
            _ => ("the same value", ""),
        };
        Some((i, format!("{whose} {has} {what} there too; {ADVICE}{how}")))
    })
}

fn holds(initial: Initial, value: u8) -> bool {
    initial.memory == value || initial.dirty == Some(value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::ADVICE;
    use crate::case;

    /// What is said of these events, after `policy`, over a line that is so at first.
    fn error(init: &str, events: &[&str], more: &str) -> Option<String> {
        let file = format!(
            "schema = 1\n[[case]]\ninit = [\"A+0..64 {init}\"]\ncacheable = [\"A\"]\npolicy = \
             \"wt\"\nevents = {events:?}\n{more}"
        );
        case::parse(&file, "f").err().map(|e| e.to_string())
    }

    #[track_caller]
    fn refused(init: &str, events: &[&str], place: &str, what: &str) {
        let error = error(init, events, "").unwrap();
        for part in [place, what, ADVICE] {
            assert!(error.contains(part), "{part}\n{error}");
        }
    }

    #[test]
    fn a_value_that_is_there_already() {
        let new = "cpu0 store wb A+0..64 = new";
        refused(
            "mem=m",
            &[new, "cpu0 dc cvac A+0", new],
            "event 2 (",
            "event 0 writes the same",
        );
        // Some of the bytes, or another observer.
        for again in ["cpu0 store nc A+56..64 = new", "dev0 write ns A+0..8 = new"] {
            refused(
                "mem=m",
                &[new, again],
                "event 1 (",
                "event 0 writes the same",
            );
        }
        refused("mem=new", &[new], "event 0 (", "`init` has the same");
        refused(
            "mem=m dirty=new",
            &[new],
            "event 0 (",
            "`init` has the same",
        );
        refused(
            "mem=m dirty=m",
            &["cpu0 load wb A+0..64"],
            "init",
            "dirty is what memory holds",
        );
        // Elsewhere, or read only, is nothing.
        for events in [
            &["cpu0 store wb A+0..8 = new", "cpu0 store wb A+8..16 = new"][..],
            &[new, "cpu0 poll wb A+0..8 == new"],
        ] {
            assert_eq!(error("mem=m", events, ""), None);
        }
    }

    #[test]
    fn zeros_over_zeros() {
        let zva = "cpu0 dc zva A+0";
        for again in [zva, "cpu0 dc gzva A+0", "dev0 write ns A+0..8 = 0"] {
            refused("mem=m", &[zva, again], "event 1 (", "event 0 writes zeros");
        }
        refused("mem=0", &[zva], "event 0 (", "`init` has zeros");
        refused("mem=m dirty=0", &[zva], "event 0 (", "`init` has zeros");
        assert_eq!(error("mem=m", &[zva, "cpu0 dc gva A+0"], ""), None);
    }

    #[test]
    fn in_the_repaired_events_too() {
        let fixed = "fixed-events = [\"cpu0 store wb A+0..8 = m\"]\n";
        let error = error("mem=m", &["cpu0 load wb A+0..8"], fixed).unwrap();
        assert!(error.contains("fixed event 0 ("), "{error}");
    }
}
