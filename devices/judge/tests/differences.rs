// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Small programs on which domain and explorer differ, each by one mechanism.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use staleline_judge::known::Class;
use staleline_judge::{Agreement, judge};
use staleline_litmus::case::parse;
use staleline_litmus::explore::explore;

/// How they agree on these events over lines that are `init` at first.
fn agreement(init: &str, events: &[&str]) -> Agreement {
    let file = format!(
        "schema = 1\n[[case]]\ninit = [\"{init}\"]\ncacheable = [\"A\"]\npolicy = \
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
        let Agreement::Known(classes) = agreement("A+0..64 mem=m", &events) else {
            panic!("{events:?}: {:?}", agreement("A+0..64 mem=m", &events));
        };
        assert!(classes.contains(&Class::SameLine), "{classes:?}");
    }
    let events = [
        "cpu0 store nc A+32..64 = v1",
        "cpu0 load wt A+32..64",
        "dev0 write ns A+56..64 = v2",
        "cpu0 poll wb A+56..64 == v2",
    ];
    let Agreement::Known(classes) = agreement("A+0..64 mem=m", &events) else {
        panic!("{:?}", agreement("A+0..64 mem=m", &events));
    };
    assert!(classes.contains(&Class::SameLine), "{classes:?}");
}

#[test]
fn a_clean_that_has_no_place_before_a_masters_write() {
    let events = ["dev0 write ns A+0..8 = v1", "dev0 read ns A+0..64"];
    assert_eq!(
        agreement("A+0..64 mem=m dirty=z", &events),
        known([Class::NoPlace])
    );
}

#[test]
fn what_a_master_never_does() {
    let events = [
        "dev0 poll ns A+0..8 == never",
        "dev0 write ns A+0..64 = x",
        "cpu0 load wb A+0..64",
    ];
    assert_eq!(
        agreement("A+0..64 mem=m", &events),
        known([Class::BehindStuck])
    );
}

#[test]
fn maintenance_in_flight_beside_a_wait_that_is_missing() {
    let events = [
        "cpu0 store wb A+0..64 = old2",
        "cpu0 dc cvac A+0",
        "cpu0 dsb sy",
        "cpu0 doorbell dev0",
        "dev0 begin t from A+0..64",
        "dev0 write ns A+0..64 = d",
        "dev0 end t",
        "cpu0 dc ivac A+0",
        "cpu0 load wb A+0..64",
    ];
    assert_eq!(agreement("A+0..64 mem=m", &events), known([Class::Early]));
}

#[test]
fn a_poll_found_two_moves_away() {
    let events = [
        "cpu0 store nc A+120..128 = v2",
        "dev1 poll ns A+120..128 == v2",
        "dev1 prefetch ns A+0..32",
        "dev1 write snoop A+120..128 = v3",
        "cpu0 dsb sy",
        "cpu0 dc ivac A+0",
        "cpu0 doorbell dev0",
        "dev0 write snoop A+32..64 = v4",
        "dev0 write snoop A+64..120 = v5",
        "cpu0 load wt A+0..120",
        "cpu0 store wb A+0..120 = v6",
    ];
    let Agreement::Known(classes) = agreement("A+0..128 mem=v1", &events) else {
        panic!("{:?}", agreement("A+0..128 mem=v1", &events));
    };
    assert!(classes.contains(&Class::OtherOrder), "{classes:?}");
}
