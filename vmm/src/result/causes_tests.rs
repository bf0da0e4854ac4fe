// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
use staleline_devices::coherency::hazard::{Actor, Hazard, HazardKind, LastMaintenance, Why};
use staleline_devices::cpu::{Barrier, BarrierKind, CacheOp, ChainId, CpuId, SiteId};
use staleline_devices::dma::{MasterId, Port, TransferId};
use staleline_devices::soc::report::MasterInfo;

use super::super::facts_tests::{copied, run, with};
use super::super::words::Word as _;
use super::super::{Class, RunResult};
use crate::run::fake::stale_read;

/// The DMA engine, of which the tree lies if it claims to be coherent, and a USB controller, of
/// which it lies if it does not.
fn told(
    dmac_claims: bool,
    usb_claims: bool,
    hazards: impl Into<Vec<Hazard>>,
) -> (RunResult, String) {
    let hazards = hazards.into();
    run(move |e| {
        let report = e.report.as_mut().unwrap();
        report.masters[0].claims_coherent = dmac_claims;
        report.masters.push(MasterInfo {
            id: MasterId(1),
            name: "dwc3".into(),
            port: Port::Hpc,
            claims_coherent: usb_claims,
            asks_if_claimed: false,
            ordered_as_a_cpu: false,
        });
        report.domain.hazards.clone_from(&hazards);
    })
}

fn usb() -> Actor {
    Actor::Device {
        master: MasterId(1),
        transfer: TransferId::CONTROL,
        snoops: true,
    }
}

fn cpu(site: u32) -> Actor {
    Actor::Cpu {
        cpu: CpuId::BOOT,
        site: SiteId(site),
    }
}

/// The kernel's coherent memory is not the controller's.
fn alias(manifested: bool) -> Hazard {
    Hazard {
        kind: HazardKind::MismatchedAlias,
        writer: cpu(1),
        reader: usb(),
        transfer: TransferId::CONTROL,
        master: MasterId(1),
        ..stale_read(1, manifested)
    }
}

/// The DMA API throws away what the controller has written.
fn discarded(manifested: bool) -> Hazard {
    Hazard {
        kind: HazardKind::DiscardedWrite,
        writer: usb(),
        reader: cpu(2),
        ..alias(manifested)
    }
}

fn causes(result: &RunResult) -> Vec<Option<usize>> {
    result.diagnostics.iter().map(|d| d.cause).collect()
}

#[test]
fn what_comes_of_one_lie_is_told_once() {
    let (result, text) = told(false, false, [alias(false), discarded(true), alias(true)]);
    // The alias manifested too, and came first.
    assert_eq!(causes(&result), [None, Some(0)]);
    assert!(text.contains("hazards   3 of 1 cause"), "{text}");
    let (result, text) = told(false, false, [alias(false), discarded(true)]);
    assert_eq!(causes(&result), [Some(1), None]);
    assert_eq!(result.hazards.len(), 2, "no fact is lost");
    let heads: Vec<_> = text.lines().filter(|l| l.starts_with("error[")).collect();
    assert_eq!(heads.len(), 1, "{text}");
    assert!(heads[0].starts_with("error[discarded-write]"), "{text}");
    let also = "mismatched-alias at DMABUF 0, pa 0x45000000..0x45002f40 (189 lines, latent)";
    let flat: Vec<_> = text.split_whitespace().collect();
    assert!(flat.join(" ").contains(also), "{text}");
    assert_eq!(
        result.reasons,
        [
            "discarded-write: 189 lines, 12000 wrong bytes, and by the same cause \
             mismatched-alias: 189 lines, 0 wrong bytes (latent)"
        ]
    );
}

#[test]
fn lies_about_two_devices_are_two_causes() {
    let all = [stale_read(1, true), alias(false), discarded(true)];
    let (result, text) = told(true, false, all);
    let rows = result.diagnostics.iter().map(|d| &*d.advice);
    assert!(rows.eq(["lying-tree"; 3]), "{text}");
    assert_eq!(causes(&result), [None, Some(2), None]);
    assert!(text.contains("hazards   3 of 2 causes"), "{text}");
}

#[test]
fn a_missing_operation_beside_a_lie_is_a_cause_of_its_own() {
    let all = [alias(true), stale_read(1, true), discarded(true)];
    let (result, text) = told(false, false, all);
    assert_eq!(causes(&result), [None, None, Some(0)]);
    assert_eq!(result.diagnostics[1].advice, "sync-without-effect");
    assert!(text.contains("error[missing-invalidate]"), "{text}");
    // With a tree that is right, nothing is known of a common cause.
    let (result, text) = told(false, true, [alias(true), discarded(true)]);
    assert_eq!(causes(&result), [None, None]);
    assert!(text.contains("hazards   2\n"), "{text}");
}

/// The rule, its reason and the roles are the same; who merged old bytes is not.
#[test]
fn findings_of_which_only_some_accuse_the_tree_are_two_diagnostics() {
    let merged_by = |who| Hazard {
        why: Why::StaleStore,
        merged_by: who,
        merged_at: 1600,
        ..stale_read(1, true)
    };
    let all = [merged_by(usb()), merged_by(cpu(1)), discarded(true)];
    let (result, text) = told(false, false, all);
    let rows: Vec<_> = result.diagnostics.iter().map(|d| &*d.advice).collect();
    assert_eq!(rows, ["lying-tree", "stale-store", "lying-tree"], "{text}");
    assert_eq!(causes(&result), [None, None, Some(0)]);
}

#[test]
fn an_error_stands_for_the_cause_and_not_a_note() {
    let (result, text) = told(true, true, [copied(), stale_read(1, false)]);
    let classes = result.diagnostics.iter().map(|d| d.class);
    assert!(classes.eq([Class::StaleCopy, Class::Error]), "{text}");
    assert_eq!(causes(&result), [Some(1), None]);
    assert!(text.contains("stale-copy at DMABUF 0"), "{text}");
    assert!(text.contains("(and 1 stale copy)"), "{text}");
}

/// An operation on the buffer while the first transfer was in flight.
fn invalidate() -> LastMaintenance {
    LastMaintenance {
        cpu: CpuId::BOOT,
        op: CacheOp::Invalidate,
        site: SiteId(2),
        chain: ChainId(1),
        operation: 7,
        at: 1200,
        first_pa: 0x4500_0000,
        lines: 256,
        barrier: None,
        barrier_at: 0,
    }
}

/// What was invalidated too early is read after the end of the transfer.
fn early() -> Hazard {
    Hazard {
        why: Why::Early,
        last_invalidate: Some(invalidate()),
        ..stale_read(1, false)
    }
}

/// The same reader has read some of it before.
fn touched() -> Hazard {
    Hazard {
        kind: HazardKind::Ownership,
        why: Why::Absent,
        at: 1300,
        end_pa: 0x4500_1000,
        ..early()
    }
}

#[test]
fn who_does_not_wait_and_invalidates_too_early_is_told_once() {
    let (result, text) = with(vec![touched(), early()]);
    assert_eq!(causes(&result), [Some(1), None], "{text}");
    assert_eq!(result.diagnostics[1].advice, "early");
    assert!(text.contains("ownership at DMABUF 0"), "{text}");
    assert!(text.contains("hazards   2 of 1 cause"), "{text}");
}

#[test]
fn a_touch_that_an_early_invalidate_does_not_explain_is_a_cause_of_its_own() {
    let last = |change: fn(&mut LastMaintenance)| {
        let mut last = invalidate();
        change(&mut last);
        Some(last)
    };
    let by = |change: fn(&mut LastMaintenance)| Hazard {
        last_invalidate: last(change),
        ..touched()
    };
    let strangers = [
        ("no invalidate", {
            let last_invalidate = None;
            Hazard {
                last_invalidate,
                ..touched()
            }
        }),
        ("another operation", by(|last| last.operation = 8)),
        ("another CPU", by(|last| last.cpu = CpuId(1))),
        ("other lines", by(|last| last.lines = 63)),
        ("before it", by(|last| last.at = 1301)),
        ("another transfer", {
            let transfer = TransferId(2);
            Hazard {
                transfer,
                ..touched()
            }
        }),
        ("another reader", {
            let reader = cpu(1);
            Hazard {
                reader,
                ..touched()
            }
        }),
        ("a device", {
            let reader = usb();
            Hazard {
                reader,
                ..touched()
            }
        }),
    ];
    for (what, stranger) in strangers {
        let (result, _) = with(vec![stranger.clone(), early()]);
        assert_eq!(causes(&result), [None, None], "{what}");
        // Nor is it explained by another touch that is.
        let (result, _) = with(vec![touched(), stranger, early()]);
        let touches = result.diagnostics.iter();
        let mut touches = touches.filter(|d| d.kind == HazardKind::Ownership.word());
        assert!(touches.any(|d| d.cause.is_none()), "{what}");
    }
    // The invalidate was missing altogether, or what stands for it is.
    for why in [Why::Absent, Why::Late] {
        let absent = Hazard { why, ..early() };
        let (result, _) = with(vec![touched(), absent]);
        assert_eq!(causes(&result), [None, None]);
    }
    let absent = stale_read(2, true);
    let (result, text) = with(vec![touched(), early(), absent]);
    let rows: Vec<_> = result.diagnostics.iter().map(|d| &*d.advice).collect();
    assert_eq!(
        rows,
        ["in-flight", "early", "sync-without-effect"],
        "{text}"
    );
    assert_eq!(causes(&result), [Some(1), None, None]);
}

/// Nobody has cleaned the lines since power-on, and a device writes into them.
fn never_cleaned() -> Hazard {
    Hazard {
        kind: HazardKind::WritebackClobber,
        why: Why::PowerOn,
        reader: Actor::Unknown,
        transfer: TransferId::CONTROL,
        lines: 15,
        end_pa: 0x4500_1000,
        last_maintenance: None,
        written_at: 0,
        ..stale_read(1, false)
    }
}

/// The kernel uses the same lines, and others, past the cache.
fn never_cleaned_alias() -> Hazard {
    Hazard {
        kind: HazardKind::MismatchedAlias,
        writer: Actor::Unknown,
        reader: cpu(1),
        lines: 160,
        end_pa: 0x4500_2f40,
        ..never_cleaned()
    }
}

#[test]
fn two_rules_that_one_operation_would_keep_are_one_cause() {
    for order in [[0, 1], [1, 0]] {
        let both = [never_cleaned(), never_cleaned_alias()];
        let (result, text) = with(order.map(|i: usize| both[i].clone()).to_vec());
        let alias = result.diagnostics.iter();
        let alias = alias.map(|d| d.kind == HazardKind::MismatchedAlias.word());
        let alias: Vec<bool> = alias.collect();
        let stands: Vec<bool> = causes(&result).iter().map(Option::is_none).collect();
        assert_eq!(alias, stands, "the larger stands for it: {text}");
        assert!(text.contains("hazards   2 of 1 cause"), "{text}");
    }
    // What has been seen is told first.
    let seen = Hazard {
        manifested: true,
        ..never_cleaned()
    };
    let (result, _) = with(vec![never_cleaned_alias(), seen]);
    assert_eq!(causes(&result), [Some(1), None]);
}

#[test]
fn two_rules_of_which_it_is_not_certain_that_one_operation_keeps_them_are_two_causes() {
    let far = Hazard {
        first_pa: 0x4500_2f40,
        end_pa: 0x4500_2f80,
        line_pa: 0x4500_2f40,
        lines: 1,
        ..never_cleaned()
    };
    // In between, but perhaps not of the same lines.
    let between = Hazard {
        first_pa: 0x4500_0040,
        end_pa: 0x4500_0080,
        line_pa: 0x4500_0040,
        lines: 1,
        ..never_cleaned()
    };
    let beyond = Hazard {
        first_pa: 0x4500_0040,
        line_pa: 0x4500_0040,
        end_pa: 0x4500_2f80,
        ..never_cleaned()
    };
    let absent = Hazard {
        why: Why::Absent,
        reader: cpu(1),
        ..never_cleaned()
    };
    let transfer = Hazard {
        transfer: TransferId(2),
        ..never_cleaned()
    };
    let others = [
        ("far", &far),
        ("between", &between),
        ("beyond", &beyond),
        ("other advice", &absent),
        ("another transfer", &transfer),
    ];
    for (what, other) in others {
        let (result, text) = with(vec![never_cleaned_alias(), other.clone()]);
        assert_eq!(causes(&result), [None, None], "{what}: {text}");
    }
    let dense = Hazard {
        lines: 189,
        ..never_cleaned_alias()
    };
    let (result, _) = with(vec![dense, between]);
    assert_eq!(causes(&result), [None, Some(0)]);
}

/// The barrier at the end of a routine does not complete what it did.
fn incomplete(writer: Actor, reader: Actor) -> Hazard {
    Hazard {
        kind: HazardKind::MissingBarrier,
        why: Why::Incomplete,
        writer,
        reader,
        ..stale_read(1, false)
    }
}

#[test]
fn a_routine_that_does_not_wait_is_one_cause_for_all_that_call_it() {
    let device = stale_read(1, true).writer;
    let by_usb = Hazard {
        master: MasterId(1),
        transfer: TransferId::CONTROL,
        ..incomplete(cpu(1), usb())
    };
    let all = vec![
        incomplete(cpu(1), cpu(1)),
        incomplete(cpu(1), device),
        incomplete(device, cpu(1)),
        by_usb,
    ];
    let (result, text) = with(all);
    assert_eq!(causes(&result), [None, Some(0), Some(0), Some(0)], "{text}");
    let flat: Vec<_> = text.split_whitespace().collect();
    let said = "the kernel accessed 189 cache lines past the cache before their maintenance had";
    assert!(flat.join(" ").contains(said), "{text}");
    assert!(!text.contains("no device"), "{text}");
    // What comes next by chance: for loads, or for stores, and neither completes it.
    let followed_by = |barrier| {
        let mut hazard = incomplete(cpu(1), device);
        let last = hazard.last_maintenance.as_mut().unwrap();
        (last.barrier, last.barrier_at) = (Some(barrier), last.at + 1);
        hazard
    };
    let of_crm = |kind, crm| Barrier::from_crm(kind, crm).unwrap();
    let (stores, loads) = (of_crm(BarrierKind::Dsb, 10), of_crm(BarrierKind::Dmb, 1));
    let (result, text) = with(vec![followed_by(stores), followed_by(loads)]);
    assert_eq!(causes(&result), [None], "{text}");
    // Another routine, or a barrier that falls short in another way, is another cause.
    let other = |change: fn(&mut LastMaintenance)| {
        let mut hazard = incomplete(cpu(1), cpu(1));
        hazard.last_maintenance.as_mut().map(change);
        let (result, text) = with(vec![incomplete(cpu(1), device), hazard]);
        assert_eq!(causes(&result), [None, None], "{text}");
    };
    other(|last| last.site = SiteId(1));
    other(|last| last.barrier = Some(Barrier::DSB_SY));
    // Nothing is known of a routine.
    let unknown = Hazard {
        last_maintenance: None,
        ..incomplete(cpu(1), cpu(1))
    };
    let (result, _) = with(vec![unknown, incomplete(cpu(1), device)]);
    assert_eq!(causes(&result), [None, None]);
}

#[test]
fn between_two_devices_it_is_the_second_that_was_started_too_early() {
    let (_, text) = with(vec![incomplete(stale_read(1, true).writer, usb())]);
    assert!(
        text.contains(": latent: master 1 was started before maintenance of"),
        "{text}"
    );
    assert!(text.contains("written in memory by"), "{text}");
    assert!(!text.contains("through the cache"), "{text}");
}

/// A store into a stale copy of what the first transfer wrote.
fn stamped() -> Hazard {
    Hazard {
        kind: HazardKind::WritebackClobber,
        why: Why::StaleStore,
        merged_by: cpu(1),
        merged_at: 1550,
        lines: 1,
        end_pa: 0x4500_0040,
        ..stale_read(1, false)
    }
}

/// The same store is thrown away.
fn lost() -> Hazard {
    Hazard {
        kind: HazardKind::DiscardedWrite,
        why: Why::Absent,
        writer: cpu(1),
        reader: cpu(2),
        transfer: TransferId::CONTROL,
        written_at: 1550,
        at: 1600,
        merged_by: Actor::Unknown,
        merged_at: 0,
        manifested: true,
        ..stamped()
    }
}

#[test]
fn a_store_that_goes_over_old_bytes_and_is_thrown_away_is_one_cause() {
    let (result, text) = with(vec![lost(), stamped()]);
    assert_eq!(causes(&result), [Some(1), None], "{text}");
    assert!(text.contains("discarded-write at DMABUF 0"), "{text}");
    // What a device overwrites, with the same store.
    let clobber = Hazard {
        why: Why::Absent,
        reader: cpu(1),
        written_at: 900,
        at: 1000,
        ..stamped()
    };
    let early = Hazard {
        written_at: 900,
        ..lost()
    };
    let (result, text) = with(vec![early.clone(), clobber.clone()]);
    assert_eq!(causes(&result), [Some(1), None], "{text}");
    let others = [
        Hazard {
            writer: cpu(2),
            ..lost()
        },
        Hazard {
            first_pa: 0x4500_0040,
            line_pa: 0x4500_0040,
            end_pa: 0x4500_0080,
            ..lost()
        },
        Hazard {
            written_at: 999,
            ..lost()
        },
    ];
    for other in others {
        let (result, text) = with(vec![other.clone(), stamped()]);
        assert_eq!(causes(&result), [None, None], "{text}");
        // Nor is one that is explained enough for both.
        let (result, _) = with(vec![lost(), other, stamped()]);
        let stand = causes(&result).iter().filter(|c| c.is_none()).count();
        assert_eq!(stand, 2);
    }
    // Stored after the device had written: the clean before would not have helped.
    let (result, _) = with(vec![lost(), clobber]);
    assert_eq!(causes(&result), [None, None]);
}

#[test]
fn a_function_that_does_not_announce_its_stores_is_one_cause_in_all_transfers() {
    let clobber = Hazard {
        why: Why::Absent,
        reader: cpu(7),
        written_at: 900,
        at: 1000,
        ..stamped()
    };
    // It is the store of a later frame.
    let later = Hazard {
        writer: cpu(7),
        written_at: 1001,
        ..lost()
    };
    let (result, text) = with(vec![clobber.clone(), later.clone()]);
    let rows: Vec<_> = result.diagnostics.iter().map(|d| &*d.advice).collect();
    assert_eq!(rows, ["importer-cpu", "importer-cpu"], "{text}");
    let stand = causes(&result).iter().filter(|c| c.is_none()).count();
    assert_eq!(stand, 1, "{text}");
    // Another function has to see to that itself.
    let other = Hazard {
        writer: cpu(2),
        ..later
    };
    let (result, text) = with(vec![clobber, other]);
    assert_eq!(causes(&result), [None, None], "{text}");
}
