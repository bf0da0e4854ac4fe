// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
use staleline_devices::coherency::SnoopWrite;
use staleline_devices::coherency::hazard::{HazardKind, Why};
use staleline_devices::cpu::{Barrier, BarrierAccess, BarrierKind, BarrierScope, CacheOp};
use staleline_devices::dma::{MasterId, Port, StartedBy};

use super::*;

const SNOOPS: Role = Role::Device { snoops: true };
const DOES_NOT: Role = Role::Device { snoops: false };

/// User space reads what a device wrote into a DMABUF, with nothing in between.
fn plain() -> Facts {
    Facts {
        kind: HazardKind::MissingInvalidate,
        why: Why::Absent,
        suppressed: false,
        writer: DOES_NOT,
        reader: Role::User,
        master: "dmac".into(),
        lies: Vec::new(),
        copied_only: false,
        fresh_page: None,
        dmabuf: Some("system".into()),
        one_attached: false,
        shared: None,
        syncs: Vec::new(),
        synced_too_early: None,
        invalidated_in_flight: false,
        partial: None,
        began: None,
        unmap_invalidates: None,
        maintained_by: None,
        signalled_by: None,
        transfer: None,
        toucher: None,
        started_by: StartedBy::Doorbell,
        barrier: None,
        ordered_as_a_cpu: false,
        past_the_cache: false,
        only_cleaned: None,
        merged_by: None,
        discarded_by: None,
        mapping_discards: false,
        synced: false,
        detached: false,
        has_access_calls: false,
    }
}

/// User space writes, the device reads.
fn unclean() -> Facts {
    Facts {
        kind: HazardKind::MissingClean,
        writer: Role::User,
        reader: DOES_NOT,
        ..plain()
    }
}

fn sync(phase: Phase, op: CacheOp, covers: bool) -> Sync {
    Sync {
        phase,
        op,
        chain: "heap_begin <- dma_buf_ioctl".into(),
        lines: (0x1000, 0x2000),
        covers,
        at: 7,
    }
}

/// Tells the row, and looks for words in what it says.
#[track_caller]
fn row(facts: &Facts, words: &[&str]) -> &'static str {
    let advice = of(facts);
    let all = format!("{} {}", advice.notes.join(" "), advice.help);
    for word in words {
        assert!(all.contains(word), "{word}: {all}");
    }
    advice.row
}

#[test]
fn without_special_facts_rule_and_roles_decide() {
    assert_eq!(row(&plain(), &["SYNC_START | SYNC_READ"]), "kind");
    assert_eq!(row(&unclean(), &["SYNC_START | SYNC_WRITE"]), "kind");
    for kind in HazardKind::ALL {
        let facts = Facts { kind, ..plain() };
        assert!(!of(&facts).help.is_empty());
    }
}

#[test]
fn only_calls_that_the_kernel_has_are_advised() {
    for kind in [HazardKind::MissingInvalidate, HazardKind::MissingClean] {
        for (writer, reader) in [(DOES_NOT, SNOOPS), (SNOOPS, DOES_NOT)] {
            let mut facts = Facts {
                kind,
                writer,
                reader,
                ..plain()
            };
            assert_eq!(row(&facts, &["no call for importers"]), "kind");
            assert!(!of(&facts).help.contains("_access()"));
            facts.has_access_calls = true;
            assert_eq!(row(&facts, &["_access()"]), "kind");
        }
    }
}

#[test]
fn a_suppressed_operation_explains_everything() {
    let facts = Facts {
        suppressed: true,
        why: Why::PowerOn,
        lies: vec![lie(Port::Hp, true)],
        ..plain()
    };
    assert_eq!(row(&facts, &["suppressed on purpose"]), "suppressed");
}

fn lie(port: Port, claims_coherent: bool) -> Lie {
    Lie {
        id: MasterId(0),
        master: "dmac".into(),
        port,
        claims_coherent,
        snoop_write: SnoopWrite::Allocate,
        asks_if_claimed: false,
        merged: false,
    }
}

#[test]
fn a_tree_that_lies_is_told_where_it_is_the_cause() {
    let of = |kind, port, claims| {
        of(&Facts {
            kind,
            lies: vec![lie(port, claims)],
            ..plain()
        })
    };
    use HazardKind::*;
    for kind in [MissingClean, MissingInvalidate, WritebackClobber] {
        let claimed = of(kind, Port::Hp, true);
        assert_eq!(claimed.row, "lying-tree");
        assert_eq!(
            claimed.notes,
            ["the device tree says that dmac is dma-coherent, its port (hp) does not snoop"]
        );
        assert_ne!(of(kind, Port::Hpc, false).row, "lying-tree");
    }
    let denied = of(MismatchedAlias, Port::Hpc, false);
    assert_eq!(denied.row, "lying-tree");
    assert!(denied.help.starts_with("add dma-coherent"));
    assert_ne!(of(Ownership, Port::Hp, true).row, "lying-tree");
}

#[test]
fn a_port_that_snoops_one_way_is_told_before_a_lying_tree() {
    let of = |kind, port, claims| {
        of(&Facts {
            kind,
            lies: vec![lie(port, claims)],
            ..plain()
        })
    };
    use HazardKind::*;
    for (kind, port, claims, note, help) in [
        (
            MissingInvalidate,
            Port::HpcRead,
            true,
            "snoops its reads and not its writes; the device tree says that it is dma-coherent",
            "the maintenance that its writes need",
        ),
        (
            MissingClean,
            Port::HpcWrite,
            true,
            "snoops its writes and not its reads; the device tree says that it is dma-coherent",
            "the maintenance that its reads need",
        ),
        (
            MismatchedAlias,
            Port::HpcRead,
            false,
            "snoops its reads and not its writes; the device tree says that it is not dma-coherent",
            "maps its coherent memory as non-cacheable",
        ),
        (
            DiscardedWrite,
            Port::HpcWrite,
            false,
            "snoops its writes and not its reads; the device tree says that it is not dma-coherent",
            "invalidates buffers that the device has written into the cache",
        ),
    ] {
        let told = of(kind, port, claims);
        assert_eq!(told.row, "half-coherent");
        assert!(told.notes[0].ends_with(note), "{:?}", told.notes);
        assert!(told.help.contains(help), "{}", told.help);
        assert!(accuses_the_tree(told.row));
    }
    // The port has to do with it only where the claim does.
    assert_eq!(of(MissingClean, Port::HpcRead, false).row, "kind");
}

#[test]
fn what_tree_is_right_for_half_a_port_depends_on_what_its_writes_do() {
    let of = |kind, port, claims, snoop_write| {
        of(&Facts {
            kind,
            lies: vec![Lie {
                snoop_write,
                ..lie(port, claims)
            }],
            ..plain()
        })
    };
    use HazardKind::*;
    use SnoopWrite::*;
    let through = of(MissingClean, Port::HpcWrite, true, WriteThrough);
    assert_eq!(through.row, "half-coherent");
    assert!(through.help.starts_with("take dma-coherent out"));
    assert!(!through.help.contains("no device tree"));
    for kind in [MismatchedAlias, DiscardedWrite] {
        // The tree is right, and something else is wrong.
        let right = of(kind, Port::HpcWrite, false, WriteThrough);
        assert!(!accuses_the_tree(right.row), "{}", right.row);
    }
    for (kind, port, claims, writes, only_reads) in [
        (MissingClean, Port::HpcWrite, true, Allocate, "one without"),
        (
            DiscardedWrite,
            Port::HpcWrite,
            false,
            Allocate,
            "one without",
        ),
        (
            MissingInvalidate,
            Port::HpcRead,
            true,
            WriteThrough,
            "one with ",
        ),
        (
            MismatchedAlias,
            Port::HpcRead,
            false,
            WriteThrough,
            "one with ",
        ),
        (
            MissingInvalidate,
            Port::HpcRead,
            true,
            Allocate,
            "one with ",
        ),
    ] {
        let none = of(kind, port, claims, writes);
        assert_eq!(none.row, "half-coherent");
        assert!(
            none.help.contains("no device tree is right for"),
            "{}",
            none.help
        );
        assert!(none.help.contains(only_reads), "{}", none.help);
    }
}

#[test]
fn a_driver_that_asks_only_if_the_tree_says_so_needs_no_claim() {
    let asks = |asks_if_claimed| {
        of(&Facts {
            kind: HazardKind::MissingInvalidate,
            lies: vec![Lie {
                asks_if_claimed,
                ..lie(Port::HpcRead, true)
            }],
            ..plain()
        })
    };
    assert!(asks(false).help.contains("no device tree is right for"));
    let told = asks(true);
    assert_eq!(told.row, "half-coherent");
    assert!(
        told.help.starts_with("take dma-coherent out"),
        "{}",
        told.help
    );
    assert!(told.help.contains("does not have it ask"), "{}", told.help);
}

#[test]
fn a_liar_that_merged_old_bytes_is_told() {
    let merged = |merged| Facts {
        kind: HazardKind::WritebackClobber,
        why: Why::StaleStore,
        lies: vec![Lie {
            merged,
            ..lie(Port::Hpc, false)
        }],
        ..plain()
    };
    assert_eq!(
        row(&merged(true), &["snoops, the device tree says"]),
        "lying-tree"
    );
    assert_eq!(row(&merged(false), &[]), "stale-store");
}

#[test]
fn a_sync_that_did_nothing_is_the_exporters() {
    let facts = Facts {
        synced: true,
        ..plain()
    };
    let said = ["dmac is one, and they left it out", "none of these calls"];
    assert_eq!(row(&facts, &said), "sync-without-effect");
    let between = Facts {
        reader: SNOOPS,
        ..facts.clone()
    };
    assert_eq!(row(&between, &said), "sync-without-effect");
    // Of a clean that ended too early, nothing is known.
    let unclean = Facts {
        kind: HazardKind::MissingClean,
        ..facts.clone()
    };
    let short = [
        "left it out, or did not go that far",
        "dc cvau goes to the point of unification",
    ];
    assert_eq!(row(&unclean, &short), "sync-without-effect");
    // It may be mapped no longer when user space issues it.
    let detached = Facts {
        detached: true,
        ..facts.clone()
    };
    let said = [
        "system's unmap_dma_buf",
        "detached from dmac before the read",
    ];
    assert_eq!(row(&detached, &said), "sync-without-effect");
    // It may have done its part, but before the device did.
    let early = Facts {
        synced_too_early: Some(sync(Phase::Ioctl, CacheOp::Invalidate, true)),
        ..facts.clone()
    };
    let said = [
        "wait for the end of the transfer",
        "came before the device wrote",
    ];
    assert_eq!(row(&early, &said), "early");
    let in_flight = Facts {
        invalidated_in_flight: true,
        maintained_by: Some("dma_unmap_page_attrs <- probe".into()),
        reader: Role::Kernel,
        dmabuf: None,
        ..plain()
    };
    let said = [
        "after the completion",
        "came while the transfer was in flight",
    ];
    assert_eq!(row(&in_flight, &said), "early");
    let partial = Facts {
        partial: Some(Partial {
            by: "dma_sync_single_for_cpu <- probe".into(),
            lines: (0x1000, 0x1400),
        }),
        invalidated_in_flight: false,
        ..in_flight
    };
    let said = ["with the whole length", "invalidated 0x1000..0x1400 only"];
    assert_eq!(row(&partial, &said), "synced-in-part");
    // The kernel's own accesses are not bracketed by user space.
    let kernel = Facts {
        reader: Role::Kernel,
        ..facts.clone()
    };
    assert_eq!(row(&kernel, &[]), "importer-cpu");
    // Nor are those that it makes for a system call, by the program's address: these are the program's.
    let written = Facts {
        toucher: Some("__arch_copy_from_user()".into()),
        synced: false,
        ..facts.clone()
    };
    let said = ["SYNC_START | SYNC_READ", "for a system call"];
    assert_eq!(row(&written, &said), "through-mapping");
    let part = Facts {
        syncs: vec![sync(Phase::Ioctl, CacheOp::Invalidate, false)],
        ..facts.clone()
    };
    assert_eq!(row(&part, &["covered"]), "sync-incomplete");
    let early = Facts {
        why: Why::Early,
        ..facts
    };
    assert_eq!(row(&early, &[]), "early");
}

#[test]
fn who_threw_a_write_away_is_told_and_the_writer_decides_the_advice() {
    let discarded = |writer, dmabuf: bool, has_access_calls| Facts {
        kind: HazardKind::DiscardedWrite,
        writer,
        reader: Role::Kernel,
        dmabuf: dmabuf.then(|| "system".to_owned()),
        discarded_by: Some("unmap <- giveback".into()),
        has_access_calls,
        ..plain()
    };
    let by = "the invalidate was asked for by unmap <- giveback";
    for (facts, words) in [
        (discarded(SNOOPS, true, true), "dma_buf_begin_access()"),
        (discarded(SNOOPS, true, false), "DMA_BUF_IOCTL_SYNC"),
        (
            discarded(Role::User, true, false),
            "SYNC_START | SYNC_WRITE",
        ),
        (
            discarded(Role::Kernel, false, false),
            "dma_sync_*_for_device()",
        ),
    ] {
        assert_eq!(row(&facts, &[words, by]), "discarded");
    }
    let importer = Facts {
        toucher: Some("stamp()".into()),
        ..discarded(Role::Kernel, true, false)
    };
    let said = ["dma_buf_end_cpu_access()", "stamp() wrote", by];
    assert_eq!(row(&importer, &said), "importer-cpu");
    let alone = Facts {
        one_attached: true,
        ..discarded(SNOOPS, true, true)
    };
    let said = [
        "system's begin_cpu_access",
        "by unmap <- giveback, is not for that one",
    ];
    assert_eq!(row(&alone, &said), "for-nobody");
    let missing = of(&alone).missing.unwrap();
    assert!(missing.starts_with("nothing: an invalidate"), "{missing}");
}

#[test]
fn whose_memory_it_was_and_until_when_is_told() {
    let facts = |reader, closed_at| Facts {
        kind: HazardKind::Ownership,
        reader,
        transfer: Some(Flight { id: 5, closed_at }),
        ..plain()
    };
    let said = ["dmac's: transfer #5 was over only at @900", "poll()"];
    assert_eq!(row(&facts(Role::User, Some(900)), &said), "in-flight");
    let said = ["was not over when the run ended", "completion callback"];
    assert_eq!(row(&facts(Role::Kernel, None), &said), "in-flight");
    let said = ["dma_resv_wait_timeout()", "before the transfer is queued"];
    assert_eq!(row(&facts(SNOOPS, None), &said), "in-flight");
}

#[test]
fn who_signals_too_early_and_who_comes_too_late_is_told() {
    let facts = Facts {
        kind: HazardKind::SignalledEarly,
        signalled_by: Some("done <- irq".into()),
        maintained_by: Some("dma_buf_end_access <- work".into()),
        ..plain()
    };
    let said = [
        "signal the fence after dma_buf_end_access()",
        "signalled, by done <- irq, before dma_buf_end_access() came, by dma_buf_end_access <- work, with",
    ];
    assert_eq!(row(&facts, &said), "signalled-early");
}

#[test]
fn a_sync_that_did_too_little_is_named() {
    let with = |syncs: &[Sync]| Facts {
        syncs: syncs.to_vec(),
        ..plain()
    };
    let part = with(&[sync(Phase::Ioctl, CacheOp::Invalidate, false)]);
    let said = [
        "DMA_BUF_IOCTL_SYNC was called, by heap_begin <- dma_buf_ioctl",
        "covered 0x1000..0x2000 only",
        "hook is incomplete",
    ];
    assert_eq!(row(&part, &said), "sync-incomplete");
    let cleaned = with(&[sync(Phase::EndAccess, CacheOp::Clean, true)]);
    let said = ["dma_buf_end_access()", "only cleaned the line", "direction"];
    assert_eq!(row(&cleaned, &said), "sync-incomplete");
    // A clean of other lines says nothing about a missing invalidate.
    let nothing = with(&[sync(Phase::Ioctl, CacheOp::Clean, false)]);
    assert_eq!(row(&nothing, &[]), "kind");
    let invalidated = Facts {
        syncs: vec![sync(Phase::Ioctl, CacheOp::Invalidate, true)],
        ..unclean()
    };
    assert_eq!(row(&invalidated, &["had to be cleaned"]), "sync-incomplete");
}

#[test]
fn half_of_begin_and_end_access_is_told() {
    let mut facts = Facts {
        began: Some(sync(Phase::BeginAccess, CacheOp::Clean, true)),
        reader: SNOOPS,
        has_access_calls: true,
        ..plain()
    };
    let said = ["dma_buf_begin_access() did maintenance", "DMA_TO_DEVICE"];
    assert_eq!(row(&facts, &said), "half-a-pair");
    // The attachment is right: the importer is wrong, or the exporter is.
    facts.unmap_invalidates = Some(true);
    let said = [
        "call dma_buf_end_access() when",
        "system's end_access has to invalidate",
        "not called, or for the wrong direction, or did nothing",
    ];
    assert_eq!(row(&facts, &said), "half-a-pair");
    facts.syncs = vec![sync(Phase::EndAccess, CacheOp::CleanInvalidate, false)];
    assert_eq!(row(&facts, &["covered"]), "sync-incomplete");
}

#[test]
fn an_access_begun_before_the_other_device_wrote_is_told() {
    let facts = Facts {
        began: Some(sync(Phase::BeginAccess, CacheOp::Clean, true)),
        writer: SNOOPS,
        has_access_calls: true,
        ..unclean()
    };
    let said = ["came before the other device wrote", "fences"];
    assert_eq!(row(&facts, &said), "begun-too-early");
}

#[test]
fn kernel_code_that_touches_a_dmabuf_is_sent_to_its_exporter() {
    let mut facts = Facts {
        reader: Role::Kernel,
        ..plain()
    };
    let said = [
        "dma_buf_begin_cpu_access(dmabuf, DMA_FROM_DEVICE)",
        "system",
    ];
    assert_eq!(row(&facts, &said), "importer-cpu");
    facts.dmabuf = None;
    assert_eq!(row(&facts, &["dma_sync_*_for_cpu()"]), "kind");
    let writes = Facts {
        writer: Role::Kernel,
        ..unclean()
    };
    assert_eq!(row(&writes, &["DMA_TO_DEVICE"]), "importer-cpu");
    let zeroed = Facts {
        fresh_page: Some("clear_page()".into()),
        ..writes
    };
    let said = ["clear_page() put into fresh pages", "map_dma_buf"];
    assert_eq!(row(&zeroed, &said), "fresh-page");
    let thrown_away = Facts {
        kind: HazardKind::DiscardedWrite,
        ..zeroed
    };
    let said = ["thrown away", "before anything invalidates"];
    assert_eq!(row(&thrown_away, &said), "fresh-page");
}

#[test]
fn a_shared_line_wants_a_line_of_its_own() {
    let facts = Facts {
        kind: HazardKind::DiscardedWrite,
        shared: Some(SharedLine {
            line: 0x1000,
            pa: 0x1008,
            len: 16,
        }),
        reader: Role::Kernel,
        ..plain()
    };
    let said = [
        "ARCH_DMA_MINALIGN",
        "kmalloc()",
        "__dma_from_device_group_begin()",
        "0x1008..0x1018",
    ];
    assert_eq!(row(&facts, &said), "shared-line");
    // Whichever way the neighbour shows: no store comes too early into a line of one's own.
    let stored = Facts {
        kind: HazardKind::WritebackClobber,
        why: Why::StaleStore,
        ..facts
    };
    assert_eq!(row(&stored, &said), "shared-line");
    let missing = of(&stored).missing.unwrap();
    assert!(missing.contains("cache line"), "{missing}");
    // A program does not allocate the buffer, but it has its part of it.
    let user = Facts {
        reader: Role::User,
        ..stored
    };
    let said = ["what user space writes", "64 bytes", "DMA_BUF_SYNC_RW"];
    assert_eq!(row(&user, &said), "shared-line");
}

#[test]
fn stores_out_of_order_are_told_by_what_told_the_device() {
    let facts = |started_by| Facts {
        kind: HazardKind::MissingBarrier,
        why: Why::Unordered,
        started_by,
        ..unclean()
    };
    let said = ["writel(), not writel_relaxed()", "register write"];
    assert_eq!(row(&facts(StartedBy::Doorbell), &said), "unordered");
    let said = ["dma_wmb()", "hands the descriptor over"];
    assert_eq!(row(&facts(StartedBy::Word), &said), "unordered");
    let loads = Facts {
        writer: DOES_NOT,
        reader: Role::Kernel,
        ..facts(StartedBy::Itself)
    };
    assert_eq!(
        row(&loads, &["dma_rmb()", "no barrier for loads"]),
        "unordered"
    );
    let stood = Facts {
        barrier: Some(Barrier {
            kind: BarrierKind::Dmb,
            access: BarrierAccess::Load,
            scope: BarrierScope::Inner,
        }),
        ..loads
    };
    let said = ["in place of a barrier for CPUs", "only dmb ishld came"];
    assert_eq!(row(&stood, &said), "unordered");
}

/// Its driver can do nothing about it.
#[test]
fn a_device_that_does_not_ask_for_order_is_told() {
    let offer = "offer VIRTIO_F_ORDER_PLATFORM";
    let stores = Facts {
        kind: HazardKind::MissingBarrier,
        why: Why::Unordered,
        ordered_as_a_cpu: true,
        started_by: StartedBy::Word,
        ..unclean()
    };
    assert_eq!(row(&stores, &[offer]), "unordered");
    let loads = Facts {
        writer: DOES_NOT,
        reader: Role::Kernel,
        barrier: Some(Barrier {
            kind: BarrierKind::Dmb,
            access: BarrierAccess::Load,
            scope: BarrierScope::Inner,
        }),
        ..stores
    };
    assert_eq!(row(&loads, &[offer, "only dmb ishld"]), "unordered");
    // A driver that has no barrier at all is at fault itself.
    let none = Facts {
        barrier: None,
        ..loads
    };
    assert_eq!(row(&none, &["dma_rmb()"]), "unordered");
}

/// The cure is a word in the tree, and no operation.
#[test]
fn a_tree_that_denies_what_the_port_does_misses_no_operation() {
    let missing = |claims| {
        let told = of(&Facts {
            kind: match claims {
                true => HazardKind::MissingClean,
                false => HazardKind::DiscardedWrite,
            },
            lies: vec![lie(if claims { Port::Hp } else { Port::Hpc }, claims)],
            ..plain()
        });
        assert_eq!(told.row, "lying-tree");
        told.missing
    };
    assert!(missing(false).unwrap().contains("dma-coherent"));
    assert_eq!(missing(true), None);
}

#[test]
fn the_barrier_that_would_not_do_is_named() {
    let with = |access, scope| Facts {
        kind: HazardKind::MissingBarrier,
        why: Why::Incomplete,
        barrier: Some(Barrier {
            kind: BarrierKind::Dsb,
            access,
            scope,
        }),
        ..unclean()
    };
    let said = [
        "was dsb ishst, which is",
        "does not order cache maintenance",
    ];
    let weak = with(BarrierAccess::Store, BarrierScope::Inner);
    assert_eq!(row(&weak, &said), "incomplete");
    let said = ["was dsb ish, which does", "does not reach devices"];
    let near = with(BarrierAccess::Full, BarrierScope::Inner);
    assert_eq!(row(&near, &said), "incomplete");
    let none = Facts {
        barrier: None,
        ..weak
    };
    assert_eq!(row(&none, &["no barrier"]), "incomplete");
}

#[test]
fn each_reason_has_its_own_text() {
    let why = |why| Facts { why, ..plain() };
    assert_eq!(row(&why(Why::Early), &["was writing"]), "early");
    assert_eq!(
        row(&why(Why::PowerOn), &["arch_dma_prep_coherent()"]),
        "power-on"
    );
    let stale = Facts {
        merged_by: Some((Role::User, "fill()".into())),
        ..why(Why::StaleStore)
    };
    assert_eq!(
        row(&stale, &["fill() stored into", "before the first store"]),
        "stale-store"
    );
    let late = Facts {
        why: Why::Late,
        ..unclean()
    };
    assert_eq!(row(&late, &["came after the register write"]), "late");
    let copied = Facts {
        copied_only: true,
        reader: Role::Kernel,
        ..plain()
    };
    assert_eq!(row(&copied, &["copied a whole page"]), "stale-copy");
}

#[test]
fn what_is_missing_is_told_for_each_rule_and_reason() {
    use HazardKind::*;
    assert!(missing(MissingClean, Why::Late, false, false).contains("started"));
    assert!(missing(MissingInvalidate, Why::Early, true, false).contains("in flight"));
    assert!(missing(MissingBarrier, Why::Unordered, false, false).contains("barrier for stores"));
    assert!(missing(MissingBarrier, Why::Unordered, true, false).contains("barrier for loads"));
    assert!(missing(WritebackClobber, Why::StaleStore, true, false).starts_with("invalidate"));
    for kind in HazardKind::ALL {
        assert!(!missing(kind, Why::Absent, false, false).is_empty());
    }
}
