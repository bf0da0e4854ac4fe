// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the end of a program proves: of a user's, its exit code; of one of the kernel's own tests, that and
//! the results it has told.

use staleline_results::{Program, Selftest};

/// How it ended, in words.
pub fn ended(program: &Program) -> String {
    let name = program.argv.first().map_or("", String::as_str);
    match (program.code, program.signal) {
        _ if program.powered_off => format!("{name} switched the machine off, as it may"),
        (Some(code), _) => format!("{name} ended with exit code {code}"),
        (None, Some(signal)) => format!("{name} was ended by signal {signal}"),
        (None, None) => format!("{name} did not run to its end"),
    }
}

/// Of processes that were ended because it had, in words.
pub fn left_behind(program: &Program) -> Option<String> {
    let name = program.argv.first().map_or("", String::as_str);
    (program.left > 0).then(|| {
        format!(
            "processes that {name} had started and not waited for: {}; they were ended with it, and what they \
             would have done is not judged",
            program.left
        )
    })
}

/// Whether it is a test that says that it could not test anything: no failure, and no pass either.
pub fn left_out(program: &Program) -> bool {
    let selftest = program.selftest.as_ref();
    selftest.is_some_and(|test| {
        test.failed == 0
            && (program.code == Some(Selftest::SKIP)
                || program.code == Some(0) && test.passed == 0 && test.skipped > 0)
    })
}

/// How it has failed, in words, if it has.
pub fn failure(program: &Program) -> Option<String> {
    let failures = program.selftest.as_ref().filter(|test| test.failed > 0);
    if let Some(test) = failures {
        return Some(format!(
            "{} of {} results of the selftest {} are failures: {}",
            test.failed,
            test.told(),
            test.name,
            test.failures.join("; ")
        ));
    }
    let is_good = program.code == Some(0) || program.powered_off;
    (!is_good && !left_out(program)).then(|| ended(program))
}

/// What it has not tested, though it was to, in words.
pub fn missing(program: &Program) -> Option<String> {
    let test = program.selftest.as_ref()?;
    if left_out(program) {
        return Some(format!(
            "the selftest {} was skipped, by itself{}",
            test.name,
            match &test.skips[..] {
                [] => String::new(),
                why => format!(": {}", why.join("; ")),
            }
        ));
    }
    let planned = test.planned.filter(|planned| *planned > test.told())?;
    Some(format!(
        "the selftest {} told {} of {planned} results",
        test.name,
        test.told()
    ))
}

/// The results of a test, in short.
pub fn results(test: &Selftest) -> String {
    let mut text = format!("{} passed", test.passed);
    if test.failed > 0 {
        text += &format!(", {} failed", test.failed);
    }
    if test.skipped > 0 {
        text += &format!(", {} skipped ({})", test.skipped, test.skips.join("; "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(code: i32, test: Option<Selftest>) -> Program {
        Program {
            argv: vec!["/root/x".into()],
            code: Some(code),
            signal: None,
            powered_off: false,
            left: 0,
            selftest: test,
        }
    }

    #[test]
    fn to_switch_the_machine_off_is_an_end_for_who_may() {
        let mut open = program(0, None);
        open.code = None;
        assert_eq!(failure(&open).unwrap(), "/root/x did not run to its end");
        open.powered_off = true;
        assert_eq!(failure(&open), None);
        assert!(!open.is_open() && ended(&open).contains("switched the machine off"));
    }

    fn test(passed: u32, failed: u32, skipped: u32) -> Option<Selftest> {
        Some(Selftest {
            name: "a:x".into(),
            planned: Some(3),
            passed,
            failed,
            skipped,
            failures: vec!["not ok 2 y".into()],
            skips: vec!["no z".into()],
        })
    }

    #[test]
    fn a_skip_is_neither_a_failure_nor_a_pass() {
        for skipped in [program(4, test(0, 0, 0)), program(0, test(0, 0, 3))] {
            assert_eq!(failure(&skipped), None);
            let why = missing(&skipped).unwrap();
            assert!(why.contains("was skipped") && why.contains("no z"), "{why}");
        }
        // To a user's program, 4 is a number like others.
        let own = program(4, None);
        assert_eq!(failure(&own).unwrap(), "/root/x ended with exit code 4");
        assert_eq!(missing(&own), None);
    }

    #[test]
    fn an_exit_code_of_0_does_not_make_failures_good() {
        let why = failure(&program(0, test(2, 1, 0))).unwrap();
        assert!(
            why.contains("1 of 3") && why.contains("not ok 2 y"),
            "{why}"
        );
        // Even if it calls itself skipped.
        assert!(failure(&program(4, test(2, 1, 0))).is_some());
        assert_eq!(failure(&program(0, test(3, 0, 0))), None);
    }

    #[test]
    fn what_was_announced_has_to_come() {
        let why = missing(&program(0, test(1, 0, 1))).unwrap();
        assert_eq!(why, "the selftest a:x told 2 of 3 results");
        assert_eq!(missing(&program(0, test(2, 0, 1))), None);
        // One that tells nothing goes by its exit code.
        let silent = Some(Selftest::default());
        assert_eq!(missing(&program(0, silent.clone())), None);
        assert_eq!(failure(&program(0, silent)), None);
    }
}
