// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! No false positive, no false negative: correct programs are clean, and lose their cleanness
//! with exactly those maintenance operations that the accounting calls needed.

use proptest::prelude::*;

use super::driver::{Choice, Driver, RAM, program};
use super::rig;
use crate::coherency::report::DomainReport;
use crate::coherency::{Policy, SnoopWrite};

const SNOOP_WRITES: [SnoopWrite; 2] = [SnoopWrite::WriteThrough, SnoopWrite::Allocate];

fn run(
    policy: Policy,
    snoop_write: SnoopWrite,
    drop: Option<u32>,
    program: &[Choice],
) -> (DomainReport, u64) {
    let mut config = rig::config(RAM as u64, policy, snoop_write);
    config.drop_operation = drop;
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
            let (report, corrupt) = run(policy, snoop_write, Some(op.number), &program);
            let found = !report.hazards.is_empty();
            prop_assert_eq!(found, op.needed_lines > 0, "without {:?}: {:?}", op, report.hazards);
            prop_assert!(corrupt == 0 || report.hazards.iter().any(|h| h.manifested));
            let dropped: Vec<_> = report.maintenance.operations.iter().filter(|o| o.dropped).collect();
            prop_assert_eq!(dropped.len(), 1);
            prop_assert_eq!(dropped[0].number, op.number);
        }
    }
}
