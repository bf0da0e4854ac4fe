// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The sanitizer against the explorer on random programs.
//!
//! `STALELINE_LITMUS_CASES` sets how many have to agree; those that differ as is known come on top.
//! `STALELINE_LITMUS_SEED` sets where they start, and `STALELINE_LITMUS_END` where they end at the latest:
//! so that a long run can be done in parts.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use staleline_judge::Agreement;
use staleline_judge::known::Class;
use staleline_judge::operation::Operation;
use staleline_judge::sample::Sample;
use staleline_litmus::generate::setting;
use staleline_litmus::program::Program;
use staleline_litmus::shrink::shrink;

/// Finding or no finding, and bytes; the missing operation if asked for.
fn judge(sample: &Sample) -> Option<Judged> {
    let answer = sample.explore()?;
    let found = sample.findings().unwrap();
    let (agreement, asked) = sample.agreement(&answer, &found).unwrap();
    Some(Judged {
        agreement,
        asked: asked as u64,
        safe: answer.safe(),
    })
}

/// What comes of one program.
struct Judged {
    agreement: Agreement,
    /// Missing operations compared.
    asked: u64,
    safe: bool,
}

fn print(sample: &Sample, how: &str) {
    let program = &sample.program;
    let events: Vec<String> = (program.events.iter())
        .map(|e| program.describe(e))
        .collect();
    let dirty: Vec<String> = (0..program.lines())
        .filter(|l| program.dirty_at_first(*l))
        .map(|l| program.line_name(l))
        .collect();
    let uncached: Vec<&str> = program
        .names
        .iter()
        .filter(|n| !n.cacheable)
        .map(|n| n.text.as_str())
        .collect();
    let (seed, replacement) = (sample.seed, sample.replacement);
    println!(
        "--- seed {seed} {replacement:?} {:?} dirty {dirty:?} not cacheable {uncached:?}\n  {}\n  {how}",
        program.policy,
        events.join("\n  ")
    );
    for f in sample.findings().unwrap() {
        let operation = Operation::of(program, &f).name();
        let range = program.ranges(f.bytes);
        println!(
            "  found {} ({:?}, {operation}) at {:?} {range}",
            f.kind.name(),
            f.why,
            f.at
        );
    }
}

/// Differences that are shrunk and printed.
const SHOWN: u64 = 12;

/// Of so many explored programs, how many are measured to differ for a reason: a rule of the sanitizer
/// that is gone, or a reason that has become too wide, shows as more.
const MEASURED_OF: u64 = 100_000;

/// See [`MEASURED_OF`]. What most of the programs of a class have in common stands behind it.
fn measured(class: Class) -> u64 {
    match class {
        // Two masters, of which nobody waits for the first, or one that nobody has told.
        Class::Race => 13_607,
        // A master that snoops, before or after what another observer does.
        Class::OtherOrder => 2_025,
        // Two views of one line, with no barrier between.
        Class::SameLine => 306,
        // Loads, and stores or maintenance behind them.
        Class::Dependency => 5_700,
        // Stores that are dropped at the end.
        Class::Unread => 2_319,
        Class::SameCause => 10,
        // Dirty lines under a transfer that are invalidated.
        Class::Overwritten => 1_665,
        Class::Touched => 232,
        // A store without a barrier before the doorbell of a master that writes there.
        Class::LastWrite => 1_072,
        Class::BehindStuck => 1_664,
        Class::PollWaits => 141,
        Class::Answered => 311,
        // One name of eight is without a cacheable view.
        Class::NoCacheableView => 1_143,
        Class::MaintenanceInFlight => 4,
        Class::Wide => 1,
        // A master that snoops, in one of four programs of the one generator.
        Class::Unprompted => 12,
        Class::NoPlace => 24,
        Class::Several => 1,
        Class::Early => 97,
        Class::Operation => 1,
    }
}

/// How many there may be of so many: as many as are measured, and what chance makes of that.
fn most(class: Class, explored: u64) -> u64 {
    let share = measured(class) * explored / MEASURED_OF;
    share + 4 * (share + 1).isqrt()
}

#[test]
fn sanitizer_and_explorer_agree() {
    let count = setting("STALELINE_LITMUS_CASES", 20_000).unwrap();
    let start = setting("STALELINE_LITMUS_SEED", 0).unwrap();
    let mut classes: BTreeMap<Class, u64> = BTreeMap::new();
    let (mut agree, mut known, mut differ) = (0_u64, 0_u64, 0_u64);
    let (mut explored, mut safe, mut asked, mut left_out) = (0, 0, 0, 0);
    for seed in start..setting("STALELINE_LITMUS_END", u64::MAX).unwrap() {
        if agree + differ >= count {
            break;
        }
        let sample = Sample::of(seed);
        let Some(judged) = judge(&sample) else {
            left_out += 1;
            continue;
        };
        explored += 1;
        asked += judged.asked;
        safe += u64::from(judged.safe);
        match judged.agreement {
            Agreement::Agrees => agree += 1,
            Agreement::Known(all) => {
                known += 1;
                for class in all {
                    *classes.entry(class).or_default() += 1;
                }
            }
            Agreement::Differs(_) => {
                differ += 1;
                if differ <= SHOWN {
                    let of = |program: &Program| Sample {
                        program: program.clone(),
                        ..sample.clone()
                    };
                    let differs = |p: &Program| match judge(&of(p))?.agreement {
                        Agreement::Differs(how) => Some(how),
                        _ => None,
                    };
                    let small = shrink(&sample.program, &mut |p: &Program| differs(p).is_some());
                    print(&of(&small), &differs(&small).unwrap_or_default());
                }
            }
        }
    }
    println!(
        "{explored} cases explored, from seed {start}: {safe} safe; {agree} agree, {known} differ as \
         is known, {differ} otherwise; {left_out} more left out (too large, or a poll never ends)"
    );
    println!("{asked} missing operations compared");
    for (class, n) in &classes {
        println!("{n:8} known: {}", class.reason());
    }
    assert_eq!(differ, 0);
    // Not for want of findings, nor of programs without.
    assert!(safe > explored / 20 && safe < explored / 10 * 9);
    // Nor because the list swallows them.
    let grown = Class::ALL.into_iter().filter(|class| {
        let n = classes.get(class).copied().unwrap_or(0);
        n > most(*class, explored)
    });
    let grown: Vec<&str> = grown.map(Class::name).collect();
    assert!(grown.is_empty(), "more of these than there were: {grown:?}");
}
