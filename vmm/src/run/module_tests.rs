// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a run with modules says.

use staleline_protocol::report::Report;
use staleline_results::{GuestEnd, RunResult, Verdict};

use crate::engine::EngineKind;
use crate::run::fake::FakeBackend;
use crate::spec::RunSpec;

fn run(scenario: &str, console: String) -> RunResult {
    let backend = FakeBackend::new(move |_, _, text| text.clone_from(&console));
    let settings = ["guest.modules=[\"own.ko:p=1\"]".to_owned()];
    let spec = RunSpec::resolve(scenario, "base", EngineKind::default(), &settings).unwrap();
    backend.run(&spec)
}

fn console(error: Option<i32>, rest: &str) -> String {
    let report = Report::Inserted {
        name: "own".into(),
        error,
        said: error.map(|_| "own: no".into()).into_iter().collect(),
    };
    let line = report.to_line();
    format!("KTAP version 1\r\n{rest}\r\n{line}\r\n[    1.0] reboot: Power down\r\n")
}

#[test]
fn an_init_that_fails_is_a_failure_and_nothing_else_counts() {
    let text = console(
        Some(19),
        "1..3\r\nok 1 boot\r\nnot ok 2 module own\r\nok 3 iio-capture # SKIP not reached",
    );
    let result = run("iio-capture", text);
    assert_eq!(result.verdict, Verdict::Fail);
    let why =
        "the init of module own failed: No such device (os error 19); the kernel says: own: no";
    assert_eq!(result.reasons, [why]);
    assert_eq!(result.guest.modules[0].error, Some(19));
}

#[test]
fn an_init_that_succeeds_is_all_that_is_asked_for() {
    let text = console(None, "1..2\r\nok 1 boot\r\nok 2 module own");
    let result = run("exec", text);
    assert_eq!((result.verdict, result.reasons.len()), (Verdict::Pass, 0));
    let module = &result.guest.modules[0];
    assert!(module.ended && module.failure().is_none());
    assert_eq!(
        (&*module.file, &*module.parameters),
        ("/root/own.ko", "p=1")
    );
}

#[test]
fn an_init_that_does_not_end_is_what_the_guest_was_at() {
    let backend = FakeBackend::new(|_, e, text| {
        e.end = GuestEnd::TimedOut;
        *text = "KTAP version 1\r\n1..3\r\nok 1 boot\r\n".into();
    });
    let settings = ["guest.modules=[\"own.ko\"]", "guest.exec=[\"prog\"]"].map(str::to_owned);
    let spec = RunSpec::resolve("exec", "base", EngineKind::default(), &settings).unwrap();
    let result = backend.run(&spec);
    assert_eq!(result.verdict, Verdict::InfraError);
    let why = "the init of module own had not ended within the time limit; raise it";
    assert!(result.reasons[0].starts_with(why), "{:?}", result.reasons);
}

/// The kernel refused it, or took the machine with it.
#[test]
fn a_module_that_never_ran_proves_nothing() {
    let refused = "KTAP version 1\r\n1..2\r\nok 1 boot\r\nnot ok 2 module own # ERROR x\r\n\
                   Bail out! x\r\n";
    let result = run("exec", refused.into());
    assert_eq!(result.verdict, Verdict::InfraError);
    assert!(!result.guest.modules[0].ended);
}
