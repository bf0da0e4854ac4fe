// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is told of campaigns, in a terminal, on a page and side by side.

use staleline_support::progress::Quiet;

use super::super::compare::{self, Comparison};
use super::super::html;
use super::super::sites::Site;
use super::super::store::FILE;
use super::super::tally;
use super::super::times::Times;
use super::super::weigh::Outcomes;
use super::*;

/// A function of which each operation has a line.
fn with_places(ready: &mut Ready, first: u32) {
    for planned in &mut ready.plan {
        planned.site = match planned.faults[..] {
            [Fault::Operation(n, _)] => Site {
                place: format!("drivers/a.c:{}", first + n),
                function: "a_map".into(),
            },
            _ => ready.targets[0].sites.of_all(&planned.faults),
        };
    }
}

/// A campaign that was run in a directory.
fn ran(runs: Runs<'_>, mut ready: Ready, first: u32, dir: &Path) -> (Ready, Store) {
    with_places(&mut ready, first);
    std::fs::create_dir_all(dir).unwrap();
    let store = Store::create(dir, &ready.head, &ready.plan).unwrap();
    let all: Vec<&Planned> = ready.plan.iter().collect();
    assert_eq!(ready.run(runs, &store, &all, &Quiet), 0);
    (ready, store)
}

#[test]
fn places_and_diagnoses_are_told_most_silent_first() {
    with(&backend(&[103]), |runs| {
        let dir = tempfile::tempdir().unwrap();
        let (ready, store) = ran(runs, Ready::new(runs, EXHAUSTIVE), 0, dir.path());
        let entries = store.entries().unwrap();
        assert_eq!(store.begun_with().unwrap().1, ready.plan);
        let report = Report {
            head: &ready.head,
            plan: &ready.plan,
            entries: &entries,
            confidence: 0.95,
        };
        insta::assert_snapshot!("report", report.text());
        let outcomes = Outcomes::new(Mode::Exhaustive, &ready.plan, &entries);
        let places = tally::by(&ready.plan, &outcomes, |planned| &planned.site);
        let possible: usize = places.iter().map(|(_, tally)| tally.possible).sum();
        assert_eq!(possible, ready.plan.len());
        let silent = entries
            .iter()
            .filter(|entry| tally::is_silent(entry))
            .count();
        assert!(silent > 0);
        assert_eq!(
            places.iter().map(|(_, tally)| tally.silent).sum::<usize>(),
            silent
        );
    });
}

/// What is as it is without faults has not tested anybody.
#[test]
fn faults_of_which_nothing_is_to_be_seen_are_told_of() {
    with(&backend(&[103]), |runs| {
        let dir = tempfile::tempdir().unwrap();
        let (ready, store) = ran(runs, Ready::new(runs, EXHAUSTIVE), 0, dir.path());
        let mut entries = store.entries().unwrap();
        let told = |entries: &[Entry]| {
            let report = Report {
                head: &ready.head,
                plan: &ready.plan,
                entries,
                confidence: 0.95,
            };
            (report.text(), html::rendered(&report, None))
        };
        let (text, _) = told(&entries);
        assert!(!text.contains("were the run without faults"), "{text}");
        let golden = &ready.head.targets[0].run_hash;
        assert!(!golden.is_empty());
        let of_class =
            |entry: &&mut Entry, class: &str| ready.plan[entry.id as usize].class() == class;
        // Those that were missed, or found, are told of as such.
        for entry in entries
            .iter_mut()
            .filter(|e| of_class(e, "irq:lost") || of_class(e, "drop"))
        {
            entry.run_hash = Some(golden.clone());
        }
        let (text, page) = told(&entries);
        let expect = "6 of 108 runs without effect were the run without faults, to the hash";
        assert!(text.contains(expect) && page.contains(expect), "{text}");
        let expect = "90 runs had faults of software: 48 did harm, and of these 4 were missed and 6 misnamed";
        assert!(text.contains(expect) && page.contains(expect), "{text}");
    });
}

#[test]
fn a_pruned_campaign_takes_a_group_for_its_first() {
    with(&backend(&[]), |runs| {
        let dir = tempfile::tempdir().unwrap();
        let exhaustive = Ready::new(runs, EXHAUSTIVE);
        let (all, all_store) = ran(runs, exhaustive, 0, &dir.path().join("all"));
        let pruned = Ready::new(runs, "[sample]\nrepeat = 0.0\ncheck = 0.0");
        let (few, few_store) = ran(runs, pruned, 0, &dir.path().join("few"));
        let (every, firsts) = (all_store.entries().unwrap(), few_store.entries().unwrap());
        assert!(firsts.len() < every.len() / 2);
        // Here each does what the first of its group does, whatever operation it is of.
        let outcomes = |ready: &Ready, entries: &[Entry]| {
            let outcomes = Outcomes::new(ready.head.sample.mode, &ready.plan, entries);
            let mut by = tally::by(&ready.plan, &outcomes, Planned::class);
            by.sort_by(|a, b| a.0.cmp(&b.0));
            by
        };
        assert_eq!(outcomes(&all, &every), outcomes(&few, &firsts));
    });
}

#[test]
fn a_page_has_all_of_it_and_takes_no_names_for_html() {
    with(&backend(&[103]), |runs| {
        let dir = tempfile::tempdir().unwrap();
        let mut ready = Ready::new(runs, EXHAUSTIVE);
        let bad = "<script>alert(1)</script>\"'&";
        ready.head.targets[0].name = bad.into();
        ready.head.targets[0].command = format!("staleline run {bad}");
        let (mut ready, store) = ran(runs, ready, 0, dir.path());
        for planned in &mut ready.plan {
            planned.site.function = bad.into();
        }
        let mut entries = store.entries().unwrap();
        for entry in &mut entries {
            entry.judged.why = entry.judged.why.as_ref().map(|_| bad.into());
            for diagnosis in &mut entry.heard.diagnoses {
                diagnosis.missing = bad.into();
            }
        }
        let times = Times::of(&entries, &store.sessions().unwrap());
        assert!(times.is_some());
        let report = |entries| Report {
            head: &ready.head,
            plan: &ready.plan,
            entries,
            confidence: 0.95,
        };
        let page = html::rendered(&report(&entries), times);
        assert!(
            !page.contains(bad) && !page.contains("<script>alert"),
            "{page}"
        );
        assert_eq!(page.matches("<script>").count(), 1);
        for part in [
            "id=\"classes\"",
            "id=\"all\"",
            "id=\"places\"",
            "id=\"diagnoses\"",
            "id=\"ours\"",
            ">fail</span> Campaign of ",
            "were predicted by the first of their group",
            "guests in ",
            "--set inject=drop@103",
            "href=\"#places\"",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
        let missed = entries
            .iter()
            .filter(|entry| entry.judged.outcome.is_ours())
            .count();
        assert_eq!(page.matches("--set inject=").count(), missed);
        // Not all of it is there yet.
        let page = html::rendered(&report(&entries[..9]), None);
        assert!(page.contains(">interrupted</span> Campaign of "), "{page}");
    });
}

fn compared(missed: &'static [u32], first: u32, after: &str) -> Result<Comparison, Error> {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    with(&backend(&[103]), |runs| {
        ran(runs, Ready::new(runs, EXHAUSTIVE), 0, &at("before"));
    });
    with(&backend(missed), |runs| {
        ran(runs, Ready::new(runs, after), first, &at("after"));
    });
    compare::compare(&at("before"), &at("after"))
}

#[test]
fn two_campaigns_are_told_apart_by_what_is_new() {
    let same = compared(&[103], 0, EXHAUSTIVE).unwrap();
    assert_eq!(same.exit_code(), exit::PASS, "{}", same.text());
    assert!(
        same.text().contains("Nothing has become worse"),
        "{}",
        same.text()
    );
    assert!(!same.text().contains("->  "), "{}", same.text());
    // A patch moves lines; that is nothing.
    let moved = compared(&[103], 20, EXHAUSTIVE).unwrap();
    assert_eq!(moved.exit_code(), exit::PASS, "{}", moved.text());
    let better = compared(&[], 0, EXHAUSTIVE).unwrap();
    assert_eq!(better.exit_code(), exit::PASS, "{}", better.text());
    assert!(
        better
            .text()
            .contains("miss drop, drivers/a.c a_map: 1 -> 0"),
        "{}",
        better.text()
    );
    let worse = compared(&[103, 104], 0, EXHAUSTIVE).unwrap();
    assert_eq!(worse.exit_code(), exit::FAIL, "{}", worse.text());
    assert!(
        worse
            .text()
            .contains("miss drop, drivers/a.c a_map: 1 -> 2"),
        "{}",
        worse.text()
    );
    assert!(
        worse.text().contains("--set inject=drop@103"),
        "{}",
        worse.text()
    );
}

#[test]
fn what_differs_in_more_than_kernels_is_not_compared() {
    for (after, why) in [
        (
            "[faults]\nclasses = [\"drop\"]\n[sample]\nmode = \"exhaustive\"\nrepeat = 0.2",
            "[faults]",
        ),
        ("[sample]\nmode = \"pruned\"\nrepeat = 0.2", "[sample]"),
    ] {
        let e = compared(&[103], 0, after).map(|_| ()).unwrap_err();
        assert_eq!(e.exit_code(), exit::USAGE);
        assert!(e.to_string().contains(why), "{e}");
    }
    with(&backend(&[]), |runs| {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let ready = |change: &dyn Fn(&mut Head)| {
            let mut ready = Ready::new(runs, "");
            change(&mut ready.head);
            ready
        };
        ran(runs, ready(&|_| {}), 0, &at("one"));
        let share = ready(&|head| head.share = Some("hash:1/2".into()));
        ran(runs, share, 0, &at("share"));
        let e = compare::compare(&at("one"), &at("share")).map(|_| ());
        assert!(e.unwrap_err().to_string().contains("--merge"));
        let other = ready(&|head| {
            head.campaign = head
                .campaign
                .replace("[\"iio-capture\"]", "[\"iio-playback\"]");
        });
        ran(runs, other, 0, &at("other"));
        let e = compare::compare(&at("one"), &at("other")).map(|_| ());
        assert!(e.unwrap_err().to_string().contains("scenarios"));
        // One that was not run to its end says nothing.
        std::fs::create_dir(at("begun")).unwrap();
        let begun = ready(&|_| {});
        Store::create(&at("begun"), &begun.head, &begun.plan).unwrap();
        let nothing = compare::compare(&at("one"), &at("begun")).unwrap();
        assert_eq!(nothing.exit_code(), exit::INFRA, "{}", nothing.text());
    });
}

#[test]
fn a_file_of_an_earlier_version_is_refused_by_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let connection = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE head (json TEXT NOT NULL); INSERT INTO head VALUES ('{\"schema\":1}')",
        )
        .unwrap();
    drop(connection);
    let e = Store::open(dir.path())
        .and_then(|store| store.head())
        .unwrap_err();
    assert!(
        e.to_string()
            .contains("it has schema 1, this program reads 4"),
        "{e}"
    );
}
