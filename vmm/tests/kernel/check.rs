// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `staleline kernel check` as users meet it, with stand-ins for the programs it runs.

use std::fs;
use std::os::unix::fs::symlink;

use super::place::Place;

#[test]
fn a_good_stack_passes() {
    let place = Place::new();
    let (code, told, error) = place.checks(&["--stack", "good"]);
    assert_eq!(code, 0, "{error}");
    let (patch, rest) = told.split_once('\n').unwrap();
    assert_eq!(
        patch,
        "ok    good.patch: applies, checkpatch.pl, 1 file with W=1 and sparse"
    );
    assert!(
        rest.starts_with("good: 1 patch, 0 complaints, on tree sha256:"),
        "{rest}"
    );

    let (code, told, error) = place.checks(&["--stack", "good+lockdep", "--format", "json"]);
    assert_eq!(code, 0, "{error}");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told[0]["name"], "good+lockdep");
    assert_eq!(told[0]["patches"][0]["compiled"][0], "driver.c");
}

#[test]
fn a_complaint_fails() {
    let place = Place::new();
    place.add_ugly();
    // All stacks with patches, of which one is ugly.
    let (code, told, error) = place.checks(&[]);
    assert_eq!(code, 1, "{error}");
    let complaint = "wrong ugly.patch: applies, checkpatch.pl, 1 file with W=1 and sparse\n  \
                     ugly.patch:5: check: a long, long line [checkpatch LONG_LINE]\n\
                     ugly: 1 patch, 1 complaint, on tree";
    assert!(told.contains(complaint), "{told}");
    assert!(told.contains("good: 1 patch, 0 complaints"), "{told}");

    let (code, told, _) = place.checks(&["--stack", "ugly", "--format", "json"]);
    assert_eq!(code, 1);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let complaint = &told[0]["patches"][0]["complaints"][0];
    assert_eq!(complaint["by"], "checkpatch");
    assert_eq!(complaint["level"], "check");
    assert_eq!(complaint["kind"], "LONG_LINE");
    assert_eq!(complaint["line"], 5);
}

#[test]
fn what_is_asked_for_wrongly_is_usage() {
    let place = Place::new();
    for (arguments, help) in [
        (&["--stack", "base"][..], "stacks with patches: good"),
        (&["--stack", "goad"], "did you mean `good`?"),
        (
            &["--stack", "good", "--config", "lokdep"],
            "did you mean `lockdep`?",
        ),
    ] {
        let (code, told, error) = place.checks(arguments);
        assert_eq!((code, told.as_str()), (2, ""), "{error}");
        assert!(error.contains(help), "{error}");
    }
}

#[test]
fn a_machine_without_perl_is_infrastructure() {
    let place = Place::new();
    fs::remove_file(place.path("bin/perl")).unwrap();
    // Here so that perl is all that is missing; nothing gets so far as to run it.
    symlink("/bin/true", place.path("bin/patch")).unwrap();
    let bin = place.path("bin").display().to_string();
    let (code, told, error) = place.check(&["--stack", "good"], &bin);
    assert_eq!((code, told.as_str()), (3, ""), "{error}");
    assert!(
        error.contains("needs perl: apt-get install perl"),
        "{error}"
    );
}
