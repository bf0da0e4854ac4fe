// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Case files are input from anywhere: wrong ones are refused with a place and a reason, large
//! ones do not hang.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use staleline_litmus::case::{Error, parse};
use staleline_litmus::explore::explore;

fn file(init: &str, events: &[&str]) -> String {
    let events: Vec<String> = events.iter().map(|e| format!("{e:?}")).collect();
    format!(
        "schema = 1\n[[case]]\nid = \"c\"\ninit = [{init:?}]\ncacheable = [\"A\"]\npolicy = \
         \"wt\"\nevents = [{}]\n",
        events.join(", ")
    )
}

fn error(text: &str) -> String {
    parse(text, "mine.toml").unwrap_err().to_string()
}

#[test]
fn errors_name_file_event_and_what_was_expected() {
    for (event, what) in [
        ("", "expected an observer"),
        (
            "cpu9 dsb sy",
            "expected cpu0..cpu3 or dev0..dev3, found `cpu9`",
        ),
        (
            "cpu0 dsb",
            "expected the type of the barrier, found the end",
        ),
        ("cpu0 dsb osy", "found `osy`"),
        ("cpu0 dsb sy sy", "expected the end, found `sy`"),
        ("cpu0 load ns A+0..8", "expected wb, nc or wt, found `ns`"),
        ("dev0 read wb A+0..8", "expected ns or snoop, found `wb`"),
        ("cpu0 load wb A+0..9", "multiples of 8"),
        ("cpu0 load wb A+8..8", "upwards"),
        ("cpu0 load wb A+0..99999999999", "expected NAME+lo..hi"),
        ("cpu0 load wb A+0..128", "beyond what `init` gives"),
        ("cpu0 load wb B+0..8", "`B` is not in `init`"),
        ("cpu0 store wb A+0..8", "expected =, found the end"),
        ("cpu0 store wb A+0..8 == x", "expected `=`, found `==`"),
        ("cpu0 poll nc A+0..16 == x", "a poll reads 8 bytes"),
        ("cpu0 dc cvac A", "expected NAME+offset"),
        ("cpu0 dc cvac A+64", "beyond"),
        ("cpu0 acquire dev0", "expected cpuM"),
        ("dev0 wait cpu0", "expected devM"),
        ("dev0 wait dev0", "dev0 cannot wait for itself"),
        ("cpu0 acquire cpu0", "cpu0 cannot acquire from itself"),
        ("dev0 end t", "dev0 has not begun transfer `t`"),
        ("dev0 begin t0 both A+0..8", "expected to, from or bidi"),
    ] {
        let text = error(&file("A+0..64 mem=m", &["cpu0 dsb sy", event]));
        let place = format!("mine.toml: case `c`: event 1 (`{event}`)");
        assert!(text.contains(&place) && text.contains(what), "{text}");
    }
}

#[test]
fn transfers_begin_once_and_end_where_they_began() {
    let begin = "dev0 begin t to A+0..8";
    for (events, what) in [
        ([begin, begin], "transfer `t` has begun and not ended"),
        ([begin, "dev1 end t"], "dev1 has not begun transfer `t`"),
        ([begin, "dev0 end u"], "dev0 has not begun transfer `u`"),
    ] {
        let text = error(&file("A+0..64 mem=m", &events));
        assert!(text.contains("event 1") && text.contains(what), "{text}");
    }
    let again = [begin, "dev0 end t", begin, "dev0 end t"];
    assert!(parse(&file("A+0..64 mem=m", &again), "f").is_ok());
}

#[test]
fn expectations_that_make_no_sense_are_refused() {
    let case = file("A+0..64 mem=m", &["cpu0 load wb A+0..8"]);
    for (more, what) in [
        (
            "due = [{ kind = \"missing-cleen\", at = 0, bytes = \"A+0..8\" }]",
            "due, at = 0: expected one of missing-clean, missing-invalidate",
        ),
        (
            "due = [{ kind = \"ownership\", at = 0, bytes = \"A+0..8\", alt = [\"x\"] }]",
            "found `x`",
        ),
        (
            "due = [{ kind = \"ownership\", at = 0, bytes = \"A+0..8\", or-at = [1] }]",
            "or-at 1: there is no event of that index",
        ),
        (
            "due = []\nalso = [1]",
            "also, 1: there is no event of that index",
        ),
        ("due = []\nlost-ok = [1]", "lost-ok, 1: there is no event"),
        ("also = [0]", "a case that expects nothing"),
    ] {
        let text = error(&format!("{case}{more}\n"));
        assert!(text.contains(what), "{text}");
    }
    let twice = format!("{case}{}", case.replace("schema = 1\n", ""));
    let text = error(&twice);
    assert!(text.contains("case `c`: id: another case"), "{text}");
}

#[test]
fn limits_are_told() {
    let many = vec!["cpu0 dsb sy"; 25];
    assert!(error(&file("A+0..64 mem=m", &many)).contains("25 events"));
    assert!(error(&file("A+0..512 mem=m", &["cpu0 dsb sy"])).contains("up to 256"));
    assert!(error(&file("A+0..32 mem=m", &["cpu0 dsb sy"])).contains("not given whole"));
    assert!(error(&file("A+0..64", &["cpu0 dsb sy"])).contains("expected mem=value"));
    assert!(error("schema = 2").contains("schema = 2"));
    assert!(error("schema = 1").contains("0 cases"));
    assert!(matches!(
        parse("schema = 1\nnonsense = 2", "f"),
        Err(Error::Syntax { .. })
    ));
    let uncached = file("A+0..64 mem=m", &["cpu0 load wb A+0..8"]);
    let uncached = uncached.replace("cacheable = [\"A\"]", "cacheable = []");
    assert!(error(&uncached).contains("A is not in `cacheable`"));
}

#[test]
fn a_case_of_unordered_events_ends() {
    let stores: Vec<String> = (0..24)
        .map(|i| match i % 3 {
            0 => format!("cpu{} store nc A+0..8 = v{i}", i % 4),
            1 => format!("dev{} prefetch snoop A+0..64", i % 4),
            _ => format!(
                "cpu{} store wb A+{}..{} = v{i}",
                i % 4,
                i % 8 * 8,
                i % 8 * 8 + 8
            ),
        })
        .collect();
    let stores: Vec<&str> = stores.iter().map(String::as_str).collect();
    let cases = parse(&file("A+0..64 mem=m", &stores), "f").unwrap();
    match explore(&cases[0].program) {
        Ok(answer) => assert!(answer.states > 1000),
        Err(e) => assert!(e.to_string().contains("make the case smaller"), "{e}"),
    }
}

proptest! {
    #[test]
    fn no_event_text_panics(text in "(cpu|dev)[0-9]? ?[a-z]{0,8} ?[a-z]{0,5} ?[AB]?\\+?[0-9]{0,4}(\\.\\.)?[0-9]{0,4} ?=?=? ?[a-z0-9]{0,3}", any in "\\PC{0,60}") {
        let _ = parse(&file("A+0..64 mem=m", &[&text, &any]), "f");
        let _ = parse(&file(&any, &[&text]), "f");
        let _ = parse(&any, "f");
    }
}
