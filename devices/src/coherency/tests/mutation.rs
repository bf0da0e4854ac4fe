// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! No false positive, no false negative: correct programs are clean, and lose their cleanness
//! with exactly those maintenance operations that the accounting calls needed.

use proptest::prelude::*;

use super::driver::{Choice, Driver, RAM, program};
use super::rig;
use crate::coherency::report::DomainReport;
use crate::coherency::{Policy, SnoopWrite};
use crate::cpu::CacheOp;
use crate::faults::{BarrierFault, Fault, OperationFault, Until};

const SNOOP_WRITES: [SnoopWrite; 2] = [SnoopWrite::WriteThrough, SnoopWrite::Allocate];

fn run(
    policy: Policy,
    snoop_write: SnoopWrite,
    fault: Option<Fault>,
    program: &[Choice],
) -> (DomainReport, u64) {
    let mut config = rig::config(RAM as u64, policy, snoop_write);
    config.faults.extend(fault);
    config.census = true;
    let driver = Driver::run(&config, program);
    (driver.report(), driver.corrupt)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn correct_programs_are_clean(program in program()) {
        for policy in Policy::ALL {
            for snoop_write in SNOOP_WRITES {
                let (report, corrupt) = run(policy, snoop_write, None, &program);
                prop_assert_eq!(&report.hazards, &[], "{:?} {:?}", policy, snoop_write);
                prop_assert_eq!(corrupt, 0, "{:?} {:?}", policy, snoop_write);
                for op in &report.maintenance.operations {
                    prop_assert!(op.needed_lines <= op.lines && op.dma_lines <= op.lines);
                }
            }
        }
    }

    #[test]
    fn an_operation_is_missed_if_and_only_if_it_was_needed(
        program in program(),
        policy in prop::sample::select(&Policy::ALL[..]),
        snoop_write in prop::sample::select(&SNOOP_WRITES[..]),
    ) {
        let (baseline, _) = run(policy, snoop_write, None, &program);
        for op in &baseline.maintenance.operations {
            let drop = Fault::Operation(op.number, OperationFault::Drop);
            let (report, corrupt) = run(policy, snoop_write, Some(drop), &program);
            let found = !report.hazards.is_empty();
            prop_assert_eq!(found, op.needed_lines > 0, "without {:?}: {:?}", op, report.hazards);
            prop_assert!(corrupt == 0 || report.hazards.iter().any(|h| h.manifested));
            let dropped: Vec<_> = report.maintenance.operations.iter().filter(|o| o.dropped).collect();
            prop_assert_eq!(dropped.len(), 1);
            prop_assert_eq!(dropped[0].number, op.number);
        }
    }

    /// What goes wrong with the program's maintenance and barriers makes another program, and no harm that this
    /// does stays unseen.
    #[test]
    fn no_fault_of_software_does_harm_unseen(
        program in program(),
        policy in prop::sample::select(&Policy::ALL[..]),
        snoop_write in prop::sample::select(&SNOOP_WRITES[..]),
        pick in any::<prop::sample::Index>(),
    ) {
        use CacheOp::{Clean, CleanInvalidate, Invalidate};
        let (baseline, _) = run(policy, snoop_write, None, &program);
        let mut faults = Vec::new();
        for op in &baseline.maintenance.operations {
            let half = (op.lines / 2) as u32;
            faults.extend([
                OperationFault::Delay(Until::Barrier),
                OperationFault::Delay(Until::Start),
                OperationFault::Delay(Until::End),
                OperationFault::Skip { from: 0, count: 1 },
                OperationFault::Skip { from: half, count: 64 },
                OperationFault::WidenBefore,
                OperationFault::WidenAfter,
                OperationFault::As(Clean),
                OperationFault::As(Invalidate),
                OperationFault::As(CleanInvalidate),
            ].map(|what| Fault::Operation(op.number, what)));
        }
        let census = baseline.census.unwrap();
        for barrier in &census.barriers {
            use BarrierFault::{Dmb, Inner, Loads, Removed, Stores};
            faults.extend([Dmb, Inner, Loads, Removed, Stores].map(|what| Fault::Barrier(barrier.number, what)));
        }
        if !faults.is_empty() {
            // One of them, in each of many programs.
            let fault = *pick.get(&faults);
            let (report, corrupt) = run(policy, snoop_write, Some(fault), &program);
            let found = report.hazards.iter().any(|h| h.manifested);
            prop_assert!(corrupt == 0 || found, "{fault}: {corrupt} bytes, {:?}", report.hazards);
            prop_assert_eq!(report.faults.len(), 1);
            let counted = report.counted;
            prop_assert_eq!(counted.accesses, baseline.counted.accesses, "{}", fault);
        }
    }
}
