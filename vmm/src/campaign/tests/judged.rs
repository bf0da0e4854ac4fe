// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What came of faults: whose it is what was found, and what has to be found.

use super::*;

/// What came of one fault, and what that is judged by.
fn ran(runs: Runs<'_>, fault: &str) -> (Target, Fault, RunResult) {
    let target = Ready::new(runs, "").targets.remove(0);
    let fault = fault.parse().unwrap();
    let result = runs.with(&target, &[fault]).unwrap().result;
    (target, fault, result)
}

/// Whatever a run with a fault of hardware shows, software is not blamed for it.
#[test]
fn hardware_is_told_apart() {
    with(&backend(&[]), |runs| {
        let (target, fault, mut result) = ran(runs, "drop@101");
        assert_eq!(
            judge(&[fault], &target.golden, &result).outcome,
            Outcome::DetectedVisible
        );
        result.hazards.clear();
        assert_eq!(
            judge(&[fault], &target.golden, &result).outcome,
            Outcome::Miss
        );
        let flip: Fault = "flip@3:cache+1".parse().unwrap();
        let outcome = judge(&[flip], &target.golden, &result).outcome;
        assert_eq!(outcome, Outcome::HardwareCorruption);
        assert!(outcome.is_silent() && !outcome.is_ours());
    });
}

/// A clean that is not done leaves a write that the next invalidate throws away: that is the fault's. The same beside
/// its lines is not, nor is it what an invalidate that is not done could leave.
#[test]
fn a_write_that_is_thrown_away_is_the_missing_cleans() {
    with(&backend(&[]), |runs| {
        let (_, fault, mut result) = ran(runs, "drop@101");
        result.hazards[0].kind = staleline_results::HazardKind::DiscardedWrite;
        let judged = |cleans: bool, result: &RunResult| {
            let mut report = fake::soc_report();
            if cleans {
                report.domain.maintenance.operations[0].op = CacheOp::Clean;
            }
            judge(&[fault], &Golden::new(&report), result).outcome
        };
        assert_eq!(judged(true, &result), Outcome::DetectedVisible);
        assert_eq!(judged(false, &result), Outcome::Misdiagnosed);
        // If a device has read it meanwhile, that should have been found.
        let mut report = fake::soc_report();
        report.domain.maintenance.operations[0].op = CacheOp::Clean;
        let done = report.domain.maintenance.operations[0].at;
        let read = &mut report.domain.transfers[1];
        (read.transfer.direction, read.opened_at) = (Direction::FromMemory, done + 1);
        result.hazards[0].at = done + 1;
        let outcome = |result: &RunResult| judge(&[fault], &Golden::new(&report), result).outcome;
        assert_eq!(outcome(&result), Outcome::DetectedVisible);
        result.hazards[0].at = done + 2;
        assert_eq!(outcome(&result), Outcome::Misdiagnosed);
        // What was written later, or thrown away before, no clean at that time would have saved.
        for (written_at, at) in [(done, done + 1), (done - 2, done - 1)] {
            (result.hazards[0].written_at, result.hazards[0].at) = (written_at, at);
            assert_eq!(judged(true, &result), Outcome::Misdiagnosed);
        }
        (result.hazards[0].written_at, result.hazards[0].at) = (done - 1, done);
        assert_eq!(judged(true, &result), Outcome::DetectedVisible);
        result.hazards[0].first_pa.0 = 0x4700_0000;
        result.hazards[0].end_pa.0 = 0x4700_0040;
        assert_eq!(judged(true, &result), Outcome::Misdiagnosed);
    });
}

/// What is found on a line that was done is not of the one that was left out.
#[test]
fn a_line_that_is_left_out_is_blamed_for_itself_alone() {
    with(&backend(&[]), |runs| {
        let (target, fault, mut result) = ran(runs, "skip@101:1+1");
        let outcome = |result: &RunResult| judge(&[fault], &target.golden, result).outcome;
        assert_eq!(outcome(&result), Outcome::DetectedVisible);
        (result.hazards[0].first_pa.0, result.hazards[0].end_pa.0) = (0x4500_0000, 0x4500_0040);
        assert_eq!(outcome(&result), Outcome::Misdiagnosed);
    });
}

/// What is found before it should have been done, or when another has done the same, is not of an operation that is
/// left out; unless that one is, too.
#[test]
fn a_finding_of_another_time_is_not_of_an_operation_that_is_left_out() {
    with(&backend(&[]), |runs| {
        let (_, fault, mut result) = ran(runs, "drop@101");
        let parse = |fault: &str| fault.parse::<Fault>().unwrap();
        let report = fake::soc_report();
        let operations = &report.domain.maintenance.operations;
        let (first, second) = (operations[0].at, operations[1].at);
        assert_eq!(
            (operations[0].op, operations[1].op),
            (CacheOp::Invalidate, CacheOp::Invalidate)
        );
        let mut judged = |at, faults: &[Fault], report: &SocReport| {
            result.hazards[0].at = at;
            judge(faults, &Golden::new(report), &result).outcome
        };
        let (is, is_not) = (Outcome::DetectedVisible, Outcome::Misdiagnosed);
        assert_eq!(judged(first - 1, &[fault], &report), is_not);
        assert_eq!(judged(first, &[fault], &report), is);
        assert_eq!(judged(second, &[fault], &report), is);
        assert_eq!(judged(second + 1, &[fault], &report), is_not);
        let both = [fault, parse("drop@102")];
        assert_eq!(judged(second + 1, &both, &report), is);
        // One of other memory, or another kind, has not done the same.
        let mut other = report.clone();
        other.domain.maintenance.operations[1].first_pa += 64;
        assert_eq!(judged(second + 1, &[fault], &other), is);
        let mut other = report.clone();
        other.domain.maintenance.operations[1].op = CacheOp::Clean;
        assert_eq!(judged(second + 1, &[fault], &other), is);
    });
}

/// Whoever sees a wrong byte, and whatever else is found.
#[test]
fn needed_maintenance_that_is_left_out_has_to_be_found() {
    with(&backend(&[]), |runs| {
        let target = Ready::new(runs, "").targets.remove(0);
        let fault = |text: &str| -> Fault { text.parse().unwrap() };
        let (drop, other, flip) = (
            fault("drop@101"),
            fault("delay@102:barrier"),
            fault("flip@3:cache+1"),
        );
        let found = runs.with(&target, &[drop]).unwrap().result;
        let silent = |faults: &[Fault]| {
            let mut result = runs.with(&target, &[other]).unwrap().result;
            assert!(result.hazards.is_empty() && result.data.corrupt_bytes == 0);
            result.injected = faults
                .iter()
                .map(|fault| staleline_results::Injected {
                    fault: fault.to_string(),
                    at: Some(1),
                })
                .collect();
            result
        };
        let outcome =
            |faults: &[Fault], result: &RunResult| judge(faults, &target.golden, result).outcome;
        assert_eq!(outcome(&[other], &silent(&[other])), Outcome::NoEffect);
        assert_eq!(outcome(&[drop], &silent(&[drop])), Outcome::Miss);
        let both = [drop, other];
        assert_eq!(outcome(&both, &silent(&both)), Outcome::Miss);
        // One that was stopped by the time may have had it still to come.
        let mut stopped = silent(&[drop]);
        stopped.guest.end = Some(GuestEnd::TimedOut);
        assert_eq!(outcome(&[drop], &stopped), Outcome::Hang);
        // One that never came about need not be.
        let mut never = silent(&both);
        never.injected[0].at = None;
        assert_ne!(outcome(&both, &never), Outcome::Miss);
        never.verdict = staleline_results::Verdict::Fail;
        let why = ["drop@101 did not happen", "a program has waited for 10 s"];
        never.reasons.extend(why.map(str::to_owned));
        assert_eq!(outcome(&both, &never), Outcome::NotReached);
        // The other may have kept from happening what would show it, if anybody tells of an error.
        let mut told = silent(&both);
        told.verdict = staleline_results::Verdict::Fail;
        told.reasons.push("usb: a transfer was cut short".into());
        assert_eq!(outcome(&both, &told), Outcome::Noticed);
        told.injected.truncate(1);
        assert_eq!(outcome(&[drop], &told), Outcome::Miss);
        // What is found of another does not stand for it.
        let mut both = silent(&[drop, fault("widen@106:after")]);
        both.hazards.clone_from(&found.hazards);
        both.diagnostics.clone_from(&found.diagnostics);
        (both.hazards[0].first_pa.0, both.hazards[0].end_pa.0) = (0x4500_2f40, 0x4500_2f80);
        both.hazards[0].at = 6601;
        both.hazards[0].kind = staleline_results::HazardKind::DiscardedWrite;
        let widened = fault("widen@106:after");
        assert_eq!(outcome(&[drop, widened], &both), Outcome::Miss);
        // What hardware has done is nothing that software, or its sanitizer, could be blamed for.
        assert_eq!(outcome(&[flip], &found), Outcome::Blamed);
        // Beside one of software's, what is found of that is found.
        let mut right = silent(&[drop, flip]);
        right.hazards.clone_from(&found.hazards);
        assert_eq!(outcome(&[drop, flip], &right), Outcome::DetectedLatent);
        right.hazards[0].kind = staleline_results::HazardKind::Ownership;
        right.injected[0].at = None;
        assert_eq!(outcome(&[drop, flip], &right), Outcome::Blamed);
        let mut wrong = silent(&[other, flip]);
        wrong.data.clone_from(&found.data);
        assert_eq!(outcome(&[other, flip], &wrong), Outcome::HardwareCorruption);
    });
}

/// By what masters have read when nothing else could have completed it.
#[test]
fn a_barrier_that_alone_completes_what_is_needed_has_to_be_found() {
    with(&backend(&[]), |runs| {
        let (_, _, quiet) = ran(runs, "irq@1:lost");
        // Operation 102 cleans at 2600, barrier 20 at 2700 completes that.
        let mut report = fake::soc_report();
        report.domain.maintenance.operations[1].op = CacheOp::Clean;
        report.domain.census = Some(census());
        let outcome = |fault: &str, report: &SocReport| {
            let fault: Fault = fault.parse().unwrap();
            let mut result = quiet.clone();
            result.injected[0].fault = fault.to_string();
            judge(&[fault], &Golden::new(report), &result).outcome
        };
        let faults = [
            "barrier@20:removed",
            "barrier@20:loads",
            "delay@102:barrier",
        ];
        let all = |report: &SocReport| faults.map(|fault| outcome(fault, report));
        assert_eq!(all(&report), [Outcome::NoEffect; 3], "nobody has read it");
        let read = &mut report.domain.transfers[2];
        (read.transfer.direction, read.opened_at) = (Direction::FromMemory, 3000);
        assert_eq!(all(&report), [Outcome::Miss; 3]);
        assert_eq!(outcome("barrier@20:dmb", &report), Outcome::NoEffect);
        assert_eq!(outcome("barrier@10:removed", &report), Outcome::NoEffect);
        let other = |change: &dyn Fn(&mut SocReport)| {
            let mut report = report.clone();
            change(&mut report);
            assert_eq!(all(&report), [Outcome::NoEffect; 3]);
        };
        other(&|report| {
            let census = report.domain.census.as_mut().unwrap();
            census.barriers[1].followed = Some(2999);
        });
        other(&|report| report.domain.transfers[2].opened_at = 2700);
        other(&|report| report.domain.transfers[2].transfer.pa = 0x4700_0000);
        other(&|report| report.domain.maintenance.operations[1].needed_lines = 0);
        // A line beside those of an invalidate, if it has stores that are not cleaned.
        let mut beside = report.clone();
        let neighbours = &mut beside.domain.census.as_mut().unwrap().neighbours;
        neighbours.push(CountedNeighbours {
            operation: 103,
            before: true,
            behind: false,
            own: false,
        });
        assert_eq!(outcome("widen@103:before", &beside), Outcome::Miss);
        assert_eq!(outcome("widen@103:after", &beside), Outcome::NoEffect);
        beside.domain.maintenance.operations[2].op = CacheOp::Clean;
        assert_eq!(outcome("widen@103:before", &beside), Outcome::NoEffect);
        // What comes when it is needed no more is as good as left out, and so is what is done in another way: an
        // invalidate in the place of a clean if the next is that a master reads.
        for fault in [
            "delay@102:start",
            "delay@102:end",
            "as@102:invalidate",
            "as@103:clean",
        ] {
            assert_eq!(outcome(fault, &report), Outcome::Miss, "{fault}");
        }
        assert_eq!(outcome("as@102:clean", &report), Outcome::NoEffect);
        // And one that throws away what a CPU has stored, whoever would have read that.
        let mut stored = report.clone();
        let clean = &mut stored.domain.maintenance.operations[1];
        (clean.op, clean.needed_lines) = (CacheOp::Clean, 0);
        assert_eq!(outcome("as@102:invalidate", &stored), Outcome::NoEffect);
        let neighbours = &mut stored.domain.census.as_mut().unwrap().neighbours;
        neighbours.push(CountedNeighbours {
            operation: 102,
            before: false,
            behind: false,
            own: true,
        });
        assert_eq!(outcome("as@102:invalidate", &stored), Outcome::Miss);
        let mut written = report.clone();
        written.domain.transfers[1].opened_at = 2999;
        assert_eq!(outcome("as@102:invalidate", &written), Outcome::NoEffect);
        let mut part = report.clone();
        part.domain.maintenance.operations[1].needed_lines = 1;
        assert_eq!(outcome("delay@102:start", &part), Outcome::Miss);
        assert_eq!(outcome("as@102:invalidate", &part), Outcome::NoEffect);
        // One that alone orders what a CPU has stored in descriptors.
        let mut alone = fake::soc_report();
        alone.domain.census = Some(census());
        alone.domain.census.as_mut().unwrap().barriers[1].alone_for_stores = true;
        for weak in ["removed", "loads", "inner"] {
            assert_eq!(
                outcome(&format!("barrier@20:{weak}"), &alone),
                Outcome::Miss
            );
        }
        for enough in ["stores", "dmb"] {
            assert_eq!(
                outcome(&format!("barrier@20:{enough}"), &alone),
                Outcome::NoEffect
            );
        }
        let last = &mut alone.domain.census.as_mut().unwrap().barriers[1];
        (last.alone_for_stores, last.alone_for_loads) = (false, true);
        for (left, expected) in [
            ("removed", Outcome::Miss),
            ("stores", Outcome::Miss),
            ("loads", Outcome::NoEffect),
            // A DSB has values, whichever CPUs it is for; a DMB then lacks masters.
            ("inner", Outcome::NoEffect),
        ] {
            assert_eq!(
                outcome(&format!("barrier@20:{left}"), &alone),
                expected,
                "{left}"
            );
        }
        let last = &mut alone.domain.census.as_mut().unwrap().barriers[1];
        last.barrier.kind = BarrierKind::Dmb;
        assert_eq!(outcome("barrier@20:inner", &alone), Outcome::Miss);
        // Of lines that are left out, those on which it was needed.
        assert_eq!(outcome("skip@102:0+1", &report), Outcome::NoEffect);
        report.domain.maintenance.operations[1].needed_at = vec![(0x4500_0040, 2)];
        for (fault, expected) in [
            ("skip@102:0+1", Outcome::NoEffect),
            ("skip@102:0+2", Outcome::Miss),
            ("skip@102:2+1", Outcome::Miss),
            ("skip@102:3+9", Outcome::NoEffect),
        ] {
            assert_eq!(outcome(fault, &report), expected, "{fault}");
        }
        // As long as it is known which line is which: that of one that is cleaned, too, may come first.
        report.domain.maintenance.operations[1].cleaned = 1;
        assert_eq!(outcome("skip@102:0+2", &report), Outcome::NoEffect);
    });
}

/// A barrier has its time: what it completes, and what was stored since the one before, for who comes before the next.
#[test]
fn a_barrier_is_blamed_for_what_it_alone_keeps_in_order() {
    with(&backend(&[]), |runs| {
        let target = Ready::new(runs, "").targets.remove(0);
        let mut report = fake::soc_report();
        let mut census = census();
        for barrier in &mut census.barriers {
            barrier.followed = Some(barrier.at + 1000);
        }
        report.domain.census = Some(census);
        let golden = Golden::new(&report);
        let dropped: Fault = "drop@101".parse().unwrap();
        let mut result = runs.with(&target, &[dropped]).unwrap().result;
        result.hazards[0].kind = staleline_results::HazardKind::MissingBarrier;
        let removed: Fault = "barrier@20:removed".parse().unwrap();
        // It completes operation 102, of the memory at 0x4500_0000, at 2700, the one before at 1700.
        let mut is = |pa: u64, written_at, started_at, at| {
            let hazard = &mut result.hazards[0];
            (hazard.first_pa.0, hazard.end_pa.0) = (pa, pa + 64);
            (hazard.written_at, hazard.started_at, hazard.at) = (written_at, started_at, at);
            judge(&[removed], &golden, &result).outcome == Outcome::DetectedVisible
        };
        let (its_own, other) = (0x4500_0000, 0x4700_0000);
        assert!(is(its_own, 10, None, 2701));
        assert!(is(its_own, 10, Some(3000), 9000));
        assert!(!is(its_own, 10, None, 2700), "before it");
        assert!(!is(its_own, 10, None, 3701), "behind the next");
        assert!(!is(its_own, 10, Some(3701), 9000));
        assert!(is(other, 1701, None, 2701) && is(other, 2700, None, 3700));
        assert!(!is(other, 1700, None, 2701), "that was the one before");
        assert!(!is(other, 2701, None, 2702), "that is the next");
    });
}
