// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Which repairs are told, and which are taken for one.

#![allow(clippy::unwrap_used)]

use staleline_litmus::case::parse;
use staleline_litmus::caveat::Caveat;
use staleline_litmus::due::{Finding, findings, findings_within};
use staleline_litmus::explore::explore;
use staleline_litmus::program::{Dc, Program};
use staleline_litmus::repair::{Budget, NoRepair, Repair, barriers_alone, maintenance};
use staleline_litmus::symptom::Symptom;

fn program(events: &[&str]) -> Program {
    let file = format!(
        "schema = 1\n[[case]]\ninit = [\"A+0..256 mem=m\"]\ncacheable = [\"A\"]\npolicy = \
         \"wt\"\nevents = {events:?}\n"
    );
    parse(&file, "f").unwrap().remove(0).program
}

/// Kind, place and repair of all findings.
fn told(program: &Program) -> Vec<(&'static str, usize, String)> {
    let told = |f: Finding| {
        let repair = f.repair.unwrap().describe(program);
        (f.kind.name(), f.at, repair)
    };
    let answer = explore(program).unwrap();
    findings(program, &answer).into_iter().map(told).collect()
}

/// The repairs of all findings.
fn repairs_within(program: &Program, budget: Budget) -> Vec<Result<Repair, NoRepair>> {
    let answer = explore(program).unwrap();
    let findings = findings_within(program, &answer, budget);
    findings.into_iter().map(|f| f.repair).collect()
}

/// A store that nobody has cleaned or ordered before a master writes there.
const DIRTY: [&str; 6] = [
    "cpu0 store wb A+0..64 = z",
    "cpu0 doorbell dev0",
    "dev0 write ns A+0..64 = d",
    "cpu0 wait dev0",
    "cpu0 dc ivac A+0",
    "cpu0 load wb A+0..64",
];

#[test]
fn a_barrier_that_leaves_a_read_with_destroyed_data_is_no_repair() {
    let program = program(&DIRTY);
    let clean = "insert `cpu0 dc cvac A+0`, `cpu0 dsb sy` before event 1 (`cpu0 doorbell dev0`)";
    let expected = [
        ("writeback-clobber", 2, clean.to_owned()),
        ("discarded-write", 4, clean.to_owned()),
        ("writeback-clobber", 5, clean.to_owned()),
    ];
    assert_eq!(told(&program), expected);

    let all = Symptom::all(&explore(&program).unwrap());
    let read = all
        .iter()
        .find(|s| matches!(s, Symptom::Ambiguous { read: 5, .. }));
    let read = read.unwrap();
    let works = |all_repairs: Vec<Repair>| -> Vec<String> {
        let works = all_repairs
            .into_iter()
            .filter(|r| r.works(&program, read, &all));
        works.map(|r| r.describe(&program)).collect()
    };
    assert!(works(barriers_alone(&program)).is_empty());
    let ops = [Dc::Ivac, Dc::Cvac, Dc::Civac];
    // An invalidate too: of what is dropped then, the master writes over all.
    let before_the_doorbell = ["", "`cpu0 dsb sy`, "].map(|first| {
        ["ivac", "cvac", "civac"].map(|op| {
            let dc = format!("{first}`cpu0 dc {op} A+0`, `cpu0 dsb sy`");
            format!("insert {dc} before event 1 (`cpu0 doorbell dev0`)")
        })
    });
    assert_eq!(
        works(maintenance(&program, read, &ops)),
        before_the_doorbell.concat()
    );
}

#[test]
fn two_mistakes_at_one_read_are_put_right_together() {
    let program = program(&[
        "cpu0 store wb A+0..64 = z",
        "cpu0 dsb sy",
        "cpu0 doorbell dev0",
        "dev0 write ns A+0..64 = d",
        "cpu0 wait dev0",
        "cpu0 load wb A+0..64",
    ]);
    let clean = "insert `cpu0 dc cvac A+0` before event 1 (`cpu0 dsb sy`)";
    let both = format!("{clean} and `cpu0 dc ivac A+0` before event 5 (`cpu0 load wb A+0..64`)");
    let expected = [
        ("writeback-clobber", 3, clean.to_owned()),
        ("missing-invalidate", 5, both),
    ];
    assert_eq!(told(&program), expected);
}

#[test]
fn two_writes_that_one_invalidate_drops_have_a_repair_in_common() {
    let program = program(&[
        "cpu0 store wb A+0..32 = v",
        "cpu0 store wb A+32..64 = w",
        "cpu0 dc ivac A+0",
    ]);
    // Before the second store it would help against the loss of the first one only.
    let clean = "insert `cpu0 dc cvac A+0` before event 2 (`cpu0 dc ivac A+0`)";
    assert_eq!(told(&program), [("discarded-write", 2, clean.to_owned())]);
}

#[test]
fn a_repair_is_complete_before_the_doorbell_whoever_rings() {
    let store = "cpu0 store wb A+0..64 = v";
    let (bell, read) = ("doorbell dev0", "dev0 read ns A+0..64");
    let dsb = "insert `cpu0 dsb sy` before event 2";
    let clean = "insert `cpu0 dc cvac A+0`, `cpu0 dsb sy` before event 1";
    let on_1 = |op: &str| format!("cpu1 {op}");
    let (other, other_dsb) = (on_1(bell), on_1("dsb sy"));
    for (events, repair) in [
        // Only the CPU that cleans can complete it.
        (
            &[
                store,
                "cpu0 dc cvac A+0",
                "cpu1 acquire cpu0",
                &other_dsb,
                &other,
                read,
            ][..],
            dsb,
        ),
        (
            &[
                store,
                "cpu0 dc cvac A+0",
                "cpu2 acquire cpu0",
                "cpu1 acquire cpu2",
                &other_dsb,
                &other,
                read,
            ],
            dsb,
        ),
        (
            &[store, "cpu0 dc cvac A+0", "cpu0 doorbell dev0", read],
            dsb,
        ),
        // A clean that only a DMB holds back would be in doubt.
        (
            &[
                store,
                "cpu0 dmb sy",
                "cpu1 acquire cpu0",
                &other_dsb,
                &other,
                read,
            ],
            clean,
        ),
        (&[store, "cpu0 dmb sy", "cpu0 doorbell dev0", read], clean),
    ] {
        let program = program(events);
        let answer = explore(&program).unwrap();
        let findings = findings(&program, &answer);
        let [finding] = &findings[..] else {
            panic!("{findings:#?}")
        };
        let told = finding.repair.as_ref().unwrap();
        let text = told.describe(&program);
        assert!(text.starts_with(repair), "{text}");
        assert_eq!(Caveat::of(&told.apply(&program).unwrap()), []);
    }
}

#[test]
fn a_search_that_gives_up_is_not_one_that_finds_nothing() {
    // Nobody waits: nothing that is put in orders the two.
    let race = program(&["dev0 write snoop A+0..64 = d", "cpu0 load wb A+0..64"]);
    assert_eq!(
        repairs_within(&race, Budget::default()),
        [Err(NoRepair::NothingHelps)]
    );
    assert_eq!(
        repairs_within(&race, Budget::states(0)),
        [Err(NoRepair::GaveUp)]
    );
    assert_eq!(
        repairs_within(&race, Budget::states(20)),
        [Err(NoRepair::GaveUp)]
    );

    // Also where something helps, and where it is found only together with another.
    for events in [
        &[
            "cpu0 store wb A+0..64 = v",
            "cpu0 dsb sy",
            "cpu0 doorbell dev0",
            "dev0 read ns A+0..64",
        ][..],
        &DIRTY,
    ] {
        let program = program(events);
        let found = repairs_within(&program, Budget::default());
        assert!(found.iter().all(Result::is_ok));
        let mut states = 0;
        loop {
            let some = repairs_within(&program, Budget::states(states));
            let helps = |r: &Result<_, _>| *r != Err(NoRepair::NothingHelps);
            assert!(some.iter().all(helps), "{states}: {some:?}");
            if some == found {
                break;
            }
            states += 7;
        }
        assert!(states > 0);
    }
}

#[test]
fn a_repair_that_makes_a_program_too_large_is_not_one_that_does_not_help() {
    // The clean of four lines helps, and so does the invalidate, but both make it too long.
    let mut events = vec![
        "cpu0 store wb A+0..256 = z",
        "cpu0 dsb sy",
        "cpu0 doorbell dev0",
        "dev0 write ns A+0..256 = d",
        "cpu0 wait dev0",
        "cpu0 load wb A+0..256",
    ];
    let short = repairs_within(&program(&events), Budget::default());
    assert!(matches!(short[..], [Ok(_), Ok(_)]), "{short:?}");
    events.extend(["cpu0 dmb nshst"; 18]);
    let long = repairs_within(&program(&events), Budget::default());
    let gave_up = matches!(long[..], [Ok(_), Err(NoRepair::GaveUp)]);
    assert!(gave_up, "{long:?}");
}
