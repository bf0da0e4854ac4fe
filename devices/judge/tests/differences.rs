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
    agreement_under("wt", init, events)
}

/// The same under a policy of snooping writes.
fn agreement_under(policy: &str, init: &str, events: &[&str]) -> Agreement {
    let file = format!(
        "schema = 1\n[[case]]\ninit = [\"{init}\"]\ncacheable = [\"A\"]\npolicy = \
         \"{policy}\"\nevents = {events:?}\n"
    );
    let program = parse(&file, "f").unwrap().remove(0).program;
    let answer = explore(&program).unwrap();
    judge(&program, &answer).unwrap().agreement
}

/// The classes of which they differ, which are known; none: they agree.
fn classes(init: &str, events: &[&str]) -> BTreeSet<Class> {
    let (mut classes, mut otherwise) = (BTreeSet::new(), String::new());
    match agreement(init, events) {
        Agreement::Agrees => {}
        Agreement::Known(known) => classes = known,
        Agreement::Differs(how) => otherwise = how,
    }
    assert_eq!(otherwise, "", "{events:?}");
    classes
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
fn what_a_master_reads_of_a_store_behind_a_poll_that_may_never_end() {
    for told in [&["cpu0 doorbell dev1"][..], &[]] {
        let rest = [
            "dev1 write ns A+0..56 = v4",
            "dev1 write ns A+56..64 = v5",
            "cpu0 poll wb A+56..64 == v5",
            "cpu0 store wb A+0..32 = v6",
            "dev1 read ns A+0..56",
        ];
        let events = [told, &rest].concat();
        let Agreement::Known(classes) = agreement_under("alloc", "A+0..64 mem=m", &events) else {
            panic!("{:?}", agreement_under("alloc", "A+0..64 mem=m", &events));
        };
        assert!(classes.contains(&Class::BehindStuck), "{classes:?}");
    }
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

#[test]
fn a_poll_that_only_a_write_back_of_the_line_ends() {
    // Whoever reads behind the poll gets the line too, but not who reads beside it.
    let events = [
        "cpu0 store wb A+56..64 = v",
        "dev0 poll ns A+56..64 == v",
        "dev0 read ns A+0..56",
        "cpu0 doorbell dev1",
        "dev1 read ns A+0..56",
        "cpu0 wait dev1",
        "cpu0 dc civac A+0",
    ];
    let init = "A+0..64 mem=m dirty=z";
    assert_eq!(agreement(init, &events), known([Class::PollWaits]));
    // Without a clean it may never end.
    let never = classes(init, &events[..3]);
    assert!(never.contains(&Class::BehindStuck), "{never:?}");
    assert!(!never.contains(&Class::PollWaits), "{never:?}");
}

#[test]
fn a_master_that_was_waited_for_and_another_ones_write_of_the_line() {
    let events = [
        "cpu0 store nc A+0..8 = v2",
        "cpu0 dmb st",
        "cpu0 doorbell dev0",
        "dev0 read ns A+0..8",
        "cpu0 doorbell dev1",
        "cpu0 wait dev0",
        "cpu0 dc ivac A+0",
        "dev1 write ns A+32..64 = v3",
        "cpu0 load wb A+0..64",
    ];
    let init = "A+0..64 mem=m";
    assert!(classes(init, &events).contains(&Class::Answered));
    // Nobody has waited: then the store may come after the invalidate, and be missed.
    let unknown: Vec<&str> = events
        .into_iter()
        .filter(|e| *e != "cpu0 wait dev0")
        .collect();
    assert!(!classes(init, &unknown).contains(&Class::Answered));
}

#[test]
fn a_store_that_a_master_writes_over_and_another_ones_data_that_is_dropped() {
    let events = [
        "cpu0 doorbell dev0",
        "cpu0 store nc A+0..64 = v5",
        "cpu0 doorbell dev1",
        "dev0 write ns A+0..64 = v3",
        "cpu0 wait dev0",
        "cpu0 dc ivac A+0",
        "dev1 write snoop A+32..64 = v4",
        "cpu0 wait dev1",
        "cpu0 load wb A+32..64",
    ];
    let Agreement::Known(classes) = agreement_under("alloc", "A+0..64 mem=m", &events) else {
        panic!("{:?}", agreement_under("alloc", "A+0..64 mem=m", &events));
    };
    assert!(classes.contains(&Class::OtherOrder), "{classes:?}");
}

#[test]
fn a_clean_that_an_access_past_the_cache_has_met() {
    let init = "A+0..64 mem=m dirty=z";
    for (access, barrier) in [
        ("cpu0 store nc A+32..64 = v3", "cpu0 dmb st"),
        ("cpu0 load nc A+32..64", "cpu0 dmb ld"),
    ] {
        let events = [
            "cpu0 dc cvac A+0",
            "cpu0 dsb ish",
            access,
            barrier,
            "cpu0 doorbell dev0",
            "dev0 write ns A+0..8 = v4",
            "cpu0 wait dev0",
        ];
        assert_eq!(
            agreement(init, &events),
            known([Class::MaintenanceInFlight]),
            "{access}"
        );
        // With no such access, or none that comes before the doorbell, both find it.
        for gone in [access, barrier] {
            let rest: Vec<&str> = events.into_iter().filter(|e| *e != gone).collect();
            assert_eq!(agreement(init, &rest), Agreement::Agrees, "{rest:?}");
        }
    }
}

#[test]
fn a_store_that_may_come_after_what_pushes_it_out() {
    // The doorbell is not behind the store, nor behind its clean.
    let read = [
        "cpu0 store wb A+0..32 = v4",
        "cpu0 dc cvac A+0",
        "cpu0 doorbell dev0",
        "dev0 write snoop A+32..64 = v5",
        "cpu0 wait dev0",
        "cpu0 load nc A+0..32",
    ];
    let written_back = [
        "cpu0 store wb A+0..32 = v2",
        "cpu0 dc cvac A+0",
        "cpu0 doorbell dev0",
        "dev0 write snoop A+32..56 = v3",
        "cpu0 wait dev0",
        "cpu0 store nc A+56..64 = v4",
        "dev0 poll ns A+56..64 == v4",
        "cpu0 wait dev0",
    ];
    let init = "A+0..64 mem=m";
    for events in [&read[..], &written_back[..]] {
        let classes = classes(init, events);
        assert!(classes.contains(&Class::OtherOrder), "{classes:?}");
        // Behind a barrier it is, and the order is the one that is judged.
        let mut ordered = events.to_vec();
        ordered.insert(2, "cpu0 dsb sy");
        assert_eq!(agreement(init, &ordered), Agreement::Agrees, "{ordered:?}");
        // Without that write, nothing pushes it out.
        let mut alone = events.to_vec();
        alone.remove(3);
        assert_eq!(agreement(init, &alone), Agreement::Agrees, "{alone:?}");
    }
}

#[test]
fn a_store_that_may_come_after_both_writes_that_push_it_out() {
    let events = [
        "cpu0 doorbell dev0",
        "cpu0 store wb A+0..64 = v5",
        "dev0 write snoop A+0..32 = v2",
        "dev0 write snoop A+32..64 = v3",
        "cpu0 wait dev0",
        "cpu0 dc ivac A+0",
        "cpu0 load wb A+0..8",
    ];
    let init = "A+0..64 mem=m";
    let all = classes(init, &events);
    assert!(all.contains(&Class::OtherOrder), "{all:?}");
    // Of one write that pushes it out, it is found.
    let mut one = events.to_vec();
    one.remove(3);
    let all = classes(init, &one);
    assert!(!all.contains(&Class::OtherOrder), "{all:?}");
}

#[test]
fn a_master_that_nobody_has_told() {
    let init = "A+0..64 mem=m";
    let of = |policy: &str, events: &[&str]| match agreement_under(policy, init, events) {
        Agreement::Known(classes) => classes,
        other => panic!("{events:?}: {other:?}"),
    };
    let own_read_waited = [
        "cpu0 store wb A+0..64 = v0",
        "dev0 write snoop A+0..8 = v1",
        "cpu0 wait dev0",
        "cpu0 dc ivac A+0",
        "cpu0 load wb A+0..64",
    ];
    let between = [
        "cpu0 store wb A+0..8 = v0",
        "dev0 write snoop A+8..16 = v1",
        "cpu0 load nc A+0..8",
    ];
    let ivac_then_write = [
        "cpu0 dc ivac A+0",
        "cpu0 dsb sy",
        "dev1 write snoop A+0..8 = v6",
        "dev1 read snoop A+0..64",
    ];
    let clean_race = [
        "dev0 write snoop A+0..8 = v0",
        "cpu0 dc cvac A+0",
        "cpu0 dsb sy",
        "dev0 read ns A+0..8",
    ];
    for (policy, events) in [
        ("wt", &own_read_waited[..]),
        ("wt", &between),
        ("alloc", &ivac_then_write),
        ("alloc", &clean_race),
    ] {
        let classes = of(policy, events);
        assert!(classes.contains(&Class::Unprompted), "{classes:?}");
        // Told at first, it is a race as any other, or agrees: this class has no part in it.
        let dev = if events.contains(&"dev1 write snoop A+0..8 = v6") {
            1
        } else {
            0
        };
        let bell = format!("cpu0 doorbell dev{dev}");
        let mut told = vec![bell.as_str()];
        told.extend(events);
        match agreement_under(policy, init, &told) {
            Agreement::Known(classes) => {
                assert!(!classes.contains(&Class::Unprompted), "{classes:?}");
            }
            other => assert_eq!(other, Agreement::Agrees, "{told:?}"),
        }
    }
}

#[test]
fn what_is_asked_for_before_a_master_that_nobody_has_told() {
    let init = "A+0..64 mem=m dirty=z";
    let events = [
        "dev0 write ns A+0..64 = v3",
        "cpu0 wait dev0",
        "cpu0 doorbell dev1",
        "dev1 read ns A+0..64",
        "cpu0 wait dev1",
        "cpu0 store wb A+0..8 = v5",
    ];
    let of = |events: &[&str]| match agreement_under("alloc", init, events) {
        Agreement::Known(classes) => classes,
        other => panic!("{events:?}: {other:?}"),
    };
    let classes = of(&events);
    assert!(classes.contains(&Class::Unprompted), "{classes:?}");
    // Told, a clean before the doorbell is a part of what helps: the store needs an invalidate, too.
    let told = [&["cpu0 doorbell dev0"], &events[..]].concat();
    assert_eq!(
        agreement_under("alloc", init, &told),
        known([Class::Several])
    );
}

#[test]
fn as_many_events_as_there_may_be_and_masters_that_nobody_has_told() {
    let mut events = vec!["cpu0 store wb A+0..64 = v0"];
    for write in [
        "dev0 write snoop A+0..8 = w0",
        "dev1 write snoop A+8..16 = w1",
        "dev2 write snoop A+16..24 = w2",
        "dev3 write snoop A+24..32 = w3",
    ] {
        events.push(write);
    }
    events.resize(24, "cpu0 load wb A+0..64");
    assert_ne!(agreement("A+0..256 mem=m", &events), Agreement::Agrees);
}
