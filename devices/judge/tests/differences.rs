// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Small programs on which domain and explorer differ, each by one mechanism.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use staleline_judge::known::Class;
use staleline_judge::{Agreement, judge};
use staleline_litmus::case::parse;
use staleline_litmus::explore::explore;

/// How they agree on these events over one line, which is `init` at first.
fn agreement(init: &str, events: &[&str]) -> Agreement {
    let file = format!(
        "schema = 1\n[[case]]\ninit = [\"A+0..64 {init}\"]\ncacheable = [\"A\"]\npolicy = \
         \"wt\"\nevents = {events:?}\n"
    );
    let program = parse(&file, "f").unwrap().remove(0).program;
    let answer = explore(&program).unwrap();
    judge(&program, &answer).unwrap().agreement
}

fn known<const N: usize>(classes: [Class; N]) -> Agreement {
    Agreement::Known(BTreeSet::from(classes))
}

#[test]
fn two_views_of_a_polled_word() {
    for (poll, load) in [("wb", "wt"), ("nc", "wb")] {
        let poll = format!("cpu0 poll {poll} A+56..64 == v");
        let load = format!("cpu0 load {load} A+56..64");
        let events = ["dev0 write snoop A+56..64 = v", &poll, &load];
        let Agreement::Known(classes) = agreement("mem=m", &events) else {
            panic!("{events:?}: {:?}", agreement("mem=m", &events));
        };
        assert!(classes.contains(&Class::SameLine), "{classes:?}");
    }
    let events = [
        "cpu0 store nc A+32..64 = v1",
        "cpu0 load wt A+32..64",
        "dev0 write ns A+56..64 = v2",
        "cpu0 poll wb A+56..64 == v2",
    ];
    let Agreement::Known(classes) = agreement("mem=m", &events) else {
        panic!("{:?}", agreement("mem=m", &events));
    };
    assert!(classes.contains(&Class::SameLine), "{classes:?}");
}

#[test]
fn a_clean_that_has_no_place_before_a_masters_write() {
    let events = ["dev0 write ns A+0..8 = v1", "dev0 read ns A+0..64"];
    assert_eq!(agreement("mem=m dirty=z", &events), known([Class::NoPlace]));
}

#[test]
fn what_a_master_never_does() {
    let events = [
        "dev0 poll ns A+0..8 == never",
        "dev0 write ns A+0..64 = x",
        "cpu0 load wb A+0..64",
    ];
    assert_eq!(agreement("mem=m", &events), known([Class::BehindStuck]));
}
