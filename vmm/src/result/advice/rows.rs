// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The rows of the table.

use staleline_devices::coherency::hazard::{HazardKind, Why};
use staleline_devices::cpu::CacheOp;
use staleline_devices::dma::{Port, ToldBy};

use super::barriers::{incomplete, unordered};
use super::{Facts, Phase, Role, Sync};
use crate::symbols::Hex;

/// Help, and the facts it rests on; nothing if the row does not fit.
pub(super) type Decision = Option<(String, Vec<String>)>;

/// Looks whether a row fits.
type Row = fn(&Facts) -> Decision;

/// The row of device trees that lie.
pub const LYING_TREE: &str = "lying-tree";

/// The table. An operation that was suppressed on purpose explains everything; a device tree that
/// lies, everything else; then what is special goes before what is common.
pub const TABLE: [(&str, Row); 15] = [
    ("suppressed", suppressed),
    (LYING_TREE, lying_tree),
    ("stale-copy", stale_copy),
    ("stale-store", stale_store),
    ("unordered", unordered),
    ("incomplete", incomplete),
    ("shared-line", shared_line),
    ("power-on", power_on),
    ("sync-incomplete", sync_incomplete),
    ("half-a-pair", half_a_pair),
    ("begun-too-early", begun_too_early),
    ("fresh-page", fresh_page),
    ("late", late),
    ("early", early),
    ("importer-cpu", importer_cpu),
];

pub(super) fn says(help: impl Into<String>, notes: impl IntoIterator<Item = String>) -> Decision {
    Some((help.into(), notes.into_iter().collect()))
}

fn suppressed(f: &Facts) -> Decision {
    if !f.suppressed {
        return None;
    }
    says(
        "one maintenance operation was suppressed on purpose (drop-maintenance); the kernel may \
         be right",
        [],
    )
}

fn lying_tree(f: &Facts) -> Decision {
    let lie = f.lie.as_ref()?;
    let (master, port) = (&lie.master, lie.port.name());
    if lie.claims_coherent {
        let what = match lie.port {
            Port::Hp | Port::Hpc => "does not snoop",
            Port::HpcRead => "snoops its reads only",
            Port::HpcWrite => "snoops its writes only",
        };
        let disagree = matches!(
            f.kind,
            HazardKind::MissingClean | HazardKind::MissingInvalidate | HazardKind::WritebackClobber
        );
        if !disagree {
            return None;
        }
        return says(
            format!(
                "take dma-coherent out of the device tree's node for {master}, or wire it to a \
                 port that snoops: as it is, the DMA API leaves out all maintenance for it"
            ),
            [format!(
                "the device tree says that {master} is dma-coherent, its port ({port}) {what}"
            )],
        );
    }
    if !matches!(
        f.kind,
        HazardKind::MismatchedAlias | HazardKind::DiscardedWrite
    ) {
        return None;
    }
    says(
        format!(
            "add dma-coherent to the device tree's node for {master}: without it, the kernel maps \
             its coherent memory as non-cacheable, past the cache that the device looks into"
        ),
        [format!(
            "the port of {master} ({port}) snoops, the device tree says that it does not"
        )],
    )
}

fn stale_copy(f: &Facts) -> Decision {
    if !f.copied_only {
        return None;
    }
    says(
        "nothing, if nobody reads the copy: the kernel has copied a whole page, of which nobody \
         had asked for these bytes. Invalidate before the page is freed or moved to be rid of it",
        [],
    )
}

fn stale_store(f: &Facts) -> Decision {
    if f.why != Why::StaleStore {
        return None;
    }
    let by = f.merged_by.as_deref().unwrap_or("an unknown place");
    let help = match (f.writer, f.dmabuf.is_some()) {
        (Role::Device { .. }, true) => {
            "sync the buffer for the CPU (DMA_BUF_IOCTL_SYNC with SYNC_START, or \
             dma_buf_begin_cpu_access()) after the transfer and before the first store"
        }
        (Role::Device { .. }, false) => {
            "call dma_sync_*_for_cpu() or dma_unmap_*() after the transfer and before the first \
             store"
        }
        _ => "keep to one view, or invalidate before the first store through the cache",
    };
    says(
        help,
        [format!(
            "a store into a stale copy of the line, by {by}, wrote old bytes over the new ones \
             beside it"
        )],
    )
}

fn shared_line(f: &Facts) -> Decision {
    let shared = f.shared?;
    let end = shared.pa.saturating_add(shared.len);
    says(
        "give the buffer lines of its own: allocate it with kmalloc(), or align it and its size to \
         ARCH_DMA_MINALIGN; inside a structure, put it between __dma_from_device_group_begin() \
         and __dma_from_device_group_end(). No maintenance helps as long as the line is shared",
        [format!(
            "the line at {} is only in part the buffer's, which is {}..{}; the CPU has written \
             other bytes of it",
            Hex(shared.line),
            Hex(shared.pa),
            Hex(end)
        )],
    )
}

fn power_on(f: &Facts) -> Decision {
    if f.why != Why::PowerOn {
        return None;
    }
    says(
        "clean memory before it is handed out as coherent (arch_dma_prep_coherent()), or before \
         it is mapped for the device: nobody has since power-on",
        ["what firmware had left in the cache may still be there, and may be written back at any \
          time"
            .to_owned()],
    )
}

/// Whether an operation is what the rule misses.
fn would_do(kind: HazardKind, op: CacheOp) -> bool {
    match kind {
        HazardKind::MissingInvalidate => op != CacheOp::Clean,
        HazardKind::MissingClean => op != CacheOp::Invalidate,
        _ => true,
    }
}

fn sync_incomplete(f: &Facts) -> Decision {
    let kinds = [
        HazardKind::MissingInvalidate,
        HazardKind::MissingClean,
        HazardKind::WritebackClobber,
    ];
    if !kinds.contains(&f.kind) || f.why != Why::Absent {
        return None;
    }
    let exporter = f.dmabuf.as_deref().unwrap_or("the exporter");
    // The right operation elsewhere tells more than a wrong one here.
    let elsewhere = |s: &&Sync| !s.covers && would_do(f.kind, s.op);
    let wrong = |s: &&Sync| s.covers && !would_do(f.kind, s.op);
    let covered = f.syncs.iter().filter(elsewhere);
    let covered: Vec<&Sync> = covered.collect();
    if let Some(first) = covered.first() {
        let parts: Vec<String> = covered
            .iter()
            .take(4)
            .map(|s| format!("{}..{}", Hex(s.lines.0), Hex(s.lines.1)))
            .collect();
        return says(
            format!(
                "the exporter's hook is incomplete: {exporter}'s {} must do all of the buffer's pages",
                hook(first.phase)
            ),
            [format!(
                "{} was called, by {}, and covered {} only",
                first.phase.name(),
                first.chain,
                parts.join(", ")
            )],
        );
    }
    let s = f.syncs.iter().find(wrong)?;
    let (did, needed) = match s.op {
        CacheOp::Clean => ("cleaned", "invalidated"),
        _ => ("invalidated", "cleaned"),
    };
    says(
        format!(
            "call it with the direction that is true (DMA_FROM_DEVICE or SYNC_READ for data that a \
             device wrote); if it was, {exporter}'s {} is incomplete",
            hook(s.phase)
        ),
        [format!(
            "{} was called, by {}, and only {did} the line, which had to be {needed}",
            s.phase.name(),
            s.chain
        )],
    )
}

fn hook(phase: Phase) -> &'static str {
    match phase {
        Phase::Ioctl | Phase::CpuAccess => "begin_cpu_access or end_cpu_access",
        Phase::BeginAccess => "begin_access",
        Phase::EndAccess => "end_access",
    }
}

fn half_a_pair(f: &Facts) -> Decision {
    let began = f.began.as_ref()?;
    let ended = |s: &Sync| s.phase == Phase::EndAccess;
    if f.kind != HazardKind::MissingInvalidate || f.why != Why::Absent || f.syncs.iter().any(ended)
    {
        return None;
    }
    says(
        "call dma_buf_end_access() when the transfer is done, with the direction that \
         dma_buf_begin_access() and the attachment have: DMA_FROM_DEVICE for data that the device \
         writes. With DMA_TO_DEVICE it does nothing",
        [format!(
            "dma_buf_begin_access() did maintenance before the transfer, by {}; after it none was \
             done: dma_buf_end_access() was not called, or for the wrong direction",
            began.chain
        )],
    )
}

fn begun_too_early(f: &Facts) -> Decision {
    let began = f.began.as_ref()?;
    if f.kind != HazardKind::MissingClean || !f.writer.is_device() || f.why != Why::Absent {
        return None;
    }
    says(
        "call dma_buf_begin_access() when the fences of the other devices have signalled, not \
         before: it cleans what they have written by then",
        [format!(
            "the last dma_buf_begin_access() before the transfer, by {}, came before the other \
             device wrote",
            began.chain
        )],
    )
}

fn fresh_page(f: &Facts) -> Decision {
    let by = f.fresh_page.as_deref()?;
    let exporter = f.dmabuf.as_deref()?;
    if f.kind == HazardKind::DiscardedWrite {
        return says(
            format!(
                "clean fresh pages before anything invalidates them: {exporter}, or the DMA API \
                 below it, has to clean when it maps them for the device. What was in the pages \
                 before comes back otherwise"
            ),
            [format!(
                "the bytes thrown away are what {by} put into fresh pages"
            )],
        );
    }
    says(
        format!(
            "clean fresh pages before a device gets them: {exporter} has to map its pages for the \
             device (dma_map_sgtable() without DMA_ATTR_SKIP_CPU_SYNC in map_dma_buf), or to sync \
             them after zeroing"
        ),
        [format!(
            "the uncleaned bytes are what {by} put into fresh pages; nobody has written the \
             buffer since"
        )],
    )
}

fn late(f: &Facts) -> Decision {
    if f.why != Why::Late {
        return None;
    }
    let told = match f.told_by {
        ToldBy::Doorbell => "the register write that started it",
        ToldBy::Word => "the word in memory that handed the descriptor over",
        ToldBy::Itself => "the transfer",
    };
    let help = match f.writer {
        Role::Device { .. } => {
            "sync what the first device wrote when it is done, then start the second"
        }
        Role::User => {
            "end the write with DMA_BUF_IOCTL_SYNC (SYNC_END | SYNC_WRITE) first, then queue the \
             transfer"
        }
        Role::Kernel | Role::Unknown => "sync the memory for the device first, then start it",
    };
    says(
        help,
        [format!(
            "the maintenance came after {told}: {} may have read or written by then",
            f.master
        )],
    )
}

fn early(f: &Facts) -> Decision {
    if f.why != Why::Early {
        return None;
    }
    let help = match f.reader {
        Role::User => {
            "wait for the end of the transfer (its dma_fence, poll(), or the dequeue), then issue \
             DMA_BUF_IOCTL_SYNC (SYNC_START | SYNC_READ), then read"
        }
        _ => "invalidate after the completion of the transfer, not before",
    };
    says(
        help,
        [
            "the lines were invalidated while the transfer was in flight, for which it does not \
          count: what was fetched since may be old"
                .to_owned(),
        ],
    )
}

fn importer_cpu(f: &Facts) -> Decision {
    let exporter = f.dmabuf.as_deref()?;
    let calls = match f.kind {
        HazardKind::MissingInvalidate if f.reader == Role::Kernel => {
            "dma_buf_begin_cpu_access(dmabuf, DMA_FROM_DEVICE) before the kernel reads the buffer, \
             and dma_buf_end_cpu_access() after it"
        }
        HazardKind::MissingClean if f.writer == Role::Kernel => {
            "dma_buf_begin_cpu_access(dmabuf, DMA_TO_DEVICE) before the kernel writes the buffer, \
             and dma_buf_end_cpu_access() after it"
        }
        _ => return None,
    };
    says(
        format!("call {calls}: an importer has no business with the map API here"),
        [format!(
            "kernel code touches the memory of a DMABUF, which is its exporter's ({exporter})"
        )],
    )
}
