// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Pages as a whole against line by line: the same programs on a domain that sets pages aside and on
//! one that never does end in the same state, by the same data, findings and hash.

use proptest::prelude::*;

use super::rig;
use super::steps::{Beat, MASTERS, PAGE, RAM, Run, Start, Step, beat, config, step};
use crate::coherency::rest::Kinds;
use crate::coherency::{DomainConfig, LINE, Policy, PowerOn, SnoopWrite};
use crate::cpu::{Barrier, CacheOp, CpuId, MemoryType};
use crate::dma::{Content, Direction, Doorbell, Port};

/// Runs the program both ways. Returns the state of affairs at the end.
fn compare(config: &DomainConfig, program: &[Step]) -> Run {
    let (mut whole, mut by_line) = (Run::new(config), Run::new(config));
    by_line.domain.lines.keep_all();
    for (n, step) in program.iter().enumerate() {
        whole.step(step);
        by_line.step(step);
        assert_eq!(
            whole.domain.hash.value(),
            by_line.domain.hash.value(),
            "step {n}"
        );
        assert!(whole.read == by_line.read, "step {n} reads other data");
    }
    // Before the lines are looked at, which brings the pages back.
    assert_eq!(whole.domain.report(), by_line.domain.report());
    let occurrences = |run: &Run| format!("{:?}", run.domain.occurrences());
    assert_eq!(occurrences(&whole), occurrences(&by_line));
    for (a, b) in whole.lines().iter().zip(&by_line.lines()) {
        assert_eq!(a, b);
    }
    let ram = |run: &Run| rig::ram(&run.domain, 0, RAM as usize);
    assert!(ram(&whole) == ram(&by_line), "ram differs");
    let dram = |run: &Run| rig::dram(&run.domain, 0, RAM as usize);
    assert!(dram(&whole) == dram(&by_line), "dram differs");
    assert_eq!(whole.domain.report(), by_line.domain.report());
    whole
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn pages_as_a_whole_are_as_line_by_line(
        config in config(),
        program in prop::collection::vec(step(), 1..80),
    ) {
        compare(&config, &program);
    }

    /// Correct streams, so that pages come to rest and stay so through many transfers, with a little
    /// of all else in between.
    #[test]
    fn so_are_streams(
        config in config(),
        stream in prop::collection::vec((0..3u8, 0..MASTERS, beat(), any::<u8>()), 1..20),
        disturbance in prop::collection::vec((any::<prop::sample::Index>(), step()), 0..6),
    ) {
        let all = |op| Step::Maintain(CpuId::BOOT, op, 0, RAM);
        let dsb = || Step::Barrier(CpuId::BOOT, Barrier::DSB_SY);
        let mut program = vec![all(CacheOp::Clean), dsb()];
        for (what, master, mut beat, chance) in stream {
            if chance % 4 == 0 {
                program.extend([all(CacheOp::CleanInvalidate), dsb()]);
            }
            if chance % 3 == 0 {
                let direction = if what == 0 { Direction::FromMemory } else { Direction::ToMemory };
                program.push(Step::Doorbell(master));
                program.push(Step::Open(master, direction, beat.at, beat.len, Start::Doorbell));
            }
            beat.content = Content::Data;
            let again = if what == 0 { Step::Read(master, beat) } else { Step::Write(master, beat) };
            program.extend([again.clone(), again.clone()]);
            if chance % 5 != 0 {
                program.push(Step::Close(chance.into()));
            }
            program.push(again);
        }
        for (index, step) in disturbance {
            program.insert(index.index(program.len()), step);
        }
        compare(&config, &program);
    }
}

/// The same on the first page only, and on all of it where it is more than one access of a CPU.
fn on_one_page(step: Step) -> Step {
    // Or only its end, which has pages looked through as well.
    let whole = |beat: Beat| {
        let at = if beat.value.is_multiple_of(8) {
            PAGE - 2 * LINE
        } else {
            0
        };
        Beat {
            at,
            len: PAGE - at,
            ..beat
        }
    };
    // Few lines, so that what is done to them adds up.
    let near = |at| at % (2 * LINE);
    match step {
        Step::Load(cpu, at, size, memory) => Step::Load(cpu, near(at), size, memory),
        Step::Store(cpu, at, size, memory) => Step::Store(cpu, near(at), size, memory),
        Step::Maintain(cpu, op, ..) => Step::Maintain(cpu, op, 0, PAGE),
        Step::Open(m, direction, .., start) => Step::Open(m, direction, 0, PAGE, start),
        Step::Read(m, beat) => Step::Read(m, whole(beat)),
        Step::Write(m, beat) => Step::Write(m, whole(beat)),
        Step::Alias(entry, _) => Step::Alias(entry, 0),
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// All that can have happened to a page when masters access it again and again.
    #[test]
    fn so_is_one_page(
        config in config(),
        program in prop::collection::vec((step(), any::<u8>()), 1..60),
    ) {
        let clean = |op| [
            Step::Maintain(CpuId::BOOT, op, 0, PAGE),
            Step::Barrier(CpuId::BOOT, Barrier::DSB_SY),
        ];
        let mut all = Vec::new();
        for (step, chance) in program {
            let step = on_one_page(step);
            match &step {
                Step::Read(..) | Step::Write(..) if chance % 4 == 0 => {
                    all.extend(clean(CacheOp::Clean));
                }
                Step::Read(..) | Step::Write(..) if chance % 4 == 1 => {
                    all.extend([step.clone(), step.clone()]);
                }
                Step::Maintain(_, op, ..) if chance % 2 == 0 => all.extend(clean(*op)),
                _ => {}
            }
            all.push(step);
        }
        compare(&config, &all);
    }
}

fn whole_page(start: Start) -> Beat {
    Beat {
        at: 0,
        len: PAGE,
        content: Content::Data,
        start,
        transfer: None,
        snoop: true,
        value: 1,
    }
}

/// What the two properties are worth: pages do come to rest, for each kind of access where it can.
#[test]
fn pages_come_to_rest() {
    // As `Port::ALL` has them.
    let (blind, snooping) = (0, 1);
    for policy in Policy::ALL {
        let quiet = policy != Policy::Random;
        for (kind, master, writes, rests) in [
            (Kinds::POC_READ, blind, false, quiet),
            (Kinds::SNOOPING_READ, snooping, false, quiet),
            (
                Kinds::POC_WRITE,
                blind,
                true,
                quiet && policy != Policy::Eager,
            ),
            (Kinds::WRITE_THROUGH, snooping, true, quiet),
        ] {
            let config = DomainConfig {
                ports: Port::ALL.to_vec(),
                power_on: PowerOn::Dirty,
                ..rig::config(RAM, policy, SnoopWrite::WriteThrough)
            };
            let beat = whole_page(Start::Doorbell);
            let access = if writes {
                Step::Write(master, beat)
            } else {
                Step::Read(master, beat)
            };
            let program = [
                Step::Store(CpuId::BOOT, 100, 8, MemoryType::Cacheable),
                Step::Maintain(CpuId::BOOT, CacheOp::Clean, 0, PAGE),
                Step::Barrier(CpuId::BOOT, Barrier::DSB_SY),
                Step::Doorbell(master),
                access.clone(),
                access,
            ];
            let mut run = compare(&config, &program);
            assert_eq!(run.domain.findings(), 0);
            // The comparison has brought the page back.
            run.step(&program[5]);
            let start = run.doorbell;
            let rest = run.domain.lines.at_rest(0, kind, &start).is_some();
            assert_eq!(rest, rests, "{policy:?} {kind:?}");
            // But not for masters that were started before the clean was complete, nor for the other side.
            let earlier = Doorbell::default();
            if kind == Kinds::POC_READ || kind == Kinds::POC_WRITE {
                assert!(run.domain.lines.at_rest(0, kind, &earlier).is_none());
            }
            run.step(&Step::Load(CpuId::BOOT, 0, 8, MemoryType::Cacheable));
            assert!(run.domain.lines.at_rest(0, kind, &start).is_none());
        }
    }
}

/// A CPU goes on with an operation that it began before another CPU's: it cleans the lines after that, and
/// is not complete.
#[test]
fn a_clean_that_is_repeated_by_an_earlier_operation_is_not_at_rest() {
    let config = DomainConfig {
        ports: Port::ALL.to_vec(),
        ..rig::config(RAM, Policy::Zynqmp, SnoopWrite::Allocate)
    };
    let clean = |cpu| Step::Maintain(cpu, CacheOp::CleanInvalidate, 0, PAGE);
    let read = |master| Step::Read(master, whole_page(Start::Unprompted));
    let program = [
        clean(CpuId(1)),
        Step::Write(1, whole_page(Start::Unprompted)),
        clean(CpuId::BOOT),
        Step::Barrier(CpuId::BOOT, Barrier::DSB_SY),
        clean(CpuId(1)),
        read(1),
        read(0),
    ];
    let run = compare(&config, &program);
    let operations = run.domain.report().maintenance.operations;
    let needed: Vec<_> = operations.iter().map(|op| op.needed_lines).collect();
    assert_eq!(needed, [0, 64]);
}
