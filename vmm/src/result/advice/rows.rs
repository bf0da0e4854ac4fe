// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The rows of the table.

use std::iter;

use staleline_devices::coherency::hazard::{HazardKind, Why};
use staleline_devices::cpu::CacheOp;
use staleline_devices::dma::StartedBy;

use super::barriers::{incomplete, unordered};
use super::decision::{Decision, says};
use super::stores::{asked_by, discarded, for_nobody, fresh_page, shared_line, stale_store};
use super::texts::with_a_cpu;
use super::tree::{HALF_COHERENT, LYING_TREE, denies, half_coherent, lying_tree};
use super::{Cleaned, Facts, Phase, Role, Sync};
use staleline_results::Hex;

/// Looks whether a row fits.
type Row = fn(&Facts) -> Decision;

/// The row of what one operation would have prevented that was suppressed on purpose.
pub const SUPPRESSED: &str = "suppressed";

/// The row of maintenance that was done after the device was started.
pub const LATE: &str = "late";

/// The row of maintenance that was done before the transfer was over.
pub const EARLY: &str = "early";

/// The row of pages that nobody cleans before a device gets them.
pub const FRESH_PAGE: &str = "fresh-page";

/// The row of functions of the kernel that touch a DMABUF without saying so.
pub const IMPORTER_CPU: &str = "importer-cpu";

/// The table. What the operation that was suppressed on purpose would have prevented needs no other
/// reason; a device tree that lies explains everything else; then what is special goes before what
/// is common.
pub const TABLE: [(&str, Row); 24] = [
    (SUPPRESSED, suppressed),
    (HALF_COHERENT, half_coherent),
    (LYING_TREE, lying_tree),
    ("stale-copy", stale_copy),
    ("shared-line", shared_line),
    ("only-cleaned", only_cleaned),
    ("stale-store", stale_store),
    ("unordered", unordered),
    ("incomplete", incomplete),
    ("power-on", power_on),
    ("sync-incomplete", sync_incomplete),
    ("half-a-pair", half_a_pair),
    ("begun-too-early", begun_too_early),
    ("synced-in-part", synced_in_part),
    ("sync-without-effect", sync_without_effect),
    (FRESH_PAGE, fresh_page),
    (LATE, late),
    (EARLY, early),
    ("in-flight", in_flight),
    ("signalled-early", signalled_early),
    ("through-mapping", through_mapping),
    (IMPORTER_CPU, importer_cpu),
    (FOR_NOBODY, for_nobody),
    ("discarded", discarded),
];

/// The row of invalidates that nobody needs.
const FOR_NOBODY: &str = "for-nobody";

/// What is missing where that is no operation.
pub(super) fn missing(row: &str, f: &Facts) -> Option<&'static str> {
    match row {
        "shared-line" => Some("a cache line that is the buffer's alone"),
        FOR_NOBODY => Some("nothing: an invalidate was done that must not be"),
        LYING_TREE if denies(f) => Some("dma-coherent in the device tree, and no operation"),
        _ => None,
    }
}

/// Whether the row says that device tree and port disagree, which is the answer to everything else.
pub fn accuses_the_tree(row: &str) -> bool {
    [LYING_TREE, HALF_COHERENT].contains(&row)
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
    let by_user = s.phase == Phase::Ioctl;
    let (did, needed, direction) = match (s.op, by_user) {
        (CacheOp::Clean, true) => ("cleaned", "invalidated", "SYNC_READ"),
        (CacheOp::Clean, false) => ("cleaned", "invalidated", "DMA_FROM_DEVICE"),
        (_, true) => ("invalidated", "cleaned", "SYNC_WRITE"),
        (_, false) => ("invalidated", "cleaned", "DMA_TO_DEVICE"),
    };
    says(
        format!(
            "call it with a direction that includes {direction}; if it had that, {exporter}'s {} \
             is incomplete: the buffer has to be {needed} there for each device that it is mapped \
             for",
            hook(s.phase)
        ),
        [format!(
            "{} was called, by {}, and only {did} the line, which had to be {needed}",
            s.phase.name(),
            s.chain
        )],
    )
}

/// The DMA API was called as it should be, and below it something does the wrong thing.
fn only_cleaned(f: &Facts) -> Decision {
    let Cleaned { call, routine, by } = f.only_cleaned.as_ref()?;
    let by = match by.is_empty() {
        true => String::new(),
        false => format!(", by {by},"),
    };
    says(
        format!(
            "let {routine}(), or what calls it below {call}(), invalidate (dc ivac/civac) wherever \
             a device may have written: the call is in the right place, and what it does is wrong"
        ),
        [format!(
            "{call}() was called{by} after the transfer and before the {}, and only cleaned the \
             line, which had to be invalidated",
            if f.why == Why::StaleStore {
                "store"
            } else {
                "read"
            }
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
    let before = format!(
        "dma_buf_begin_access() did maintenance before the transfer, by {}",
        began.chain
    );
    let exporter = f.dmabuf.as_deref().unwrap_or("the exporter");
    match f.unmap_invalidates {
        Some(true) => says(
            format!(
                "call dma_buf_end_access() when the transfer is done, with the direction that \
                 dma_buf_begin_access() and the attachment have. If it was called so, {exporter}'s \
                 end_access has to invalidate the buffer"
            ),
            [format!(
                "{before}; after it none was done, though the attachment is for a direction in which \
                 the device writes: dma_buf_end_access() was not called, or for the wrong direction, or \
                 did nothing"
            )],
        ),
        Some(false) => says(
            "map the attachment for data that the device writes, with DMA_FROM_DEVICE or \
             DMA_BIDIRECTIONAL, and name the same direction in dma_buf_begin_access() and \
             dma_buf_end_access(). With DMA_TO_DEVICE the latter does nothing",
            [format!(
                "{before}; after it none was done, and none when the buffer was unmapped: that is what \
                 both do for DMA_TO_DEVICE, and the device writes"
            )],
        ),
        None => says(
            "call dma_buf_end_access() when the transfer is done, with the direction that \
             dma_buf_begin_access() and the attachment have: DMA_FROM_DEVICE for data that the device \
             writes. With DMA_TO_DEVICE it does nothing",
            [format!(
                "{before}; after it none was done: dma_buf_end_access() was not called, or for the \
                 wrong direction"
            )],
        ),
    }
}

/// A driver that syncs less than the device has written.
fn synced_in_part(f: &Facts) -> Decision {
    let partial = f.partial.as_ref().filter(|_| f.dmabuf.is_none())?;
    says(
        "call dma_sync_*_for_cpu() or dma_unmap_*() with the whole length that the device may have \
         written, after the transfer is done and before the read",
        [format!(
            "{} invalidated {}..{} only, after the transfer and before the read",
            partial.by,
            Hex(partial.lines.0),
            Hex(partial.lines.1)
        )],
    )
}

/// SYNC was issued, and the exporter has done nothing for it.
fn sync_without_effect(f: &Facts) -> Decision {
    let kernel = [f.writer, f.reader].contains(&Role::Kernel);
    let exporter = f.dmabuf.as_deref()?;
    let by_sync = |s: &Sync| s.phase == Phase::Ioctl && s.covers;
    let kinds = [HazardKind::MissingInvalidate, HazardKind::MissingClean];
    if !f.synced
        || kernel
        || f.why != Why::Absent
        || !kinds.contains(&f.kind)
        || f.syncs.iter().any(by_sync)
        || f.synced_too_early.is_some()
    {
        return None;
    }
    let master = &f.master;
    if f.detached {
        return says(
            format!(
                "{exporter}'s unmap_dma_buf has to sync the buffer for the CPU (dma_unmap_sgtable() \
                 without DMA_ATTR_SKIP_CPU_SYNC): once it is not mapped, SYNC finds no device to \
                 sync for"
            ),
            [format!(
                "user space had the buffer detached from {master} before the read: neither that nor \
                 its DMA_BUF_IOCTL_SYNC has maintained the line"
            )],
        );
    }
    // The sanitizer does not see a clean that ends before memory, so it may have been one.
    let short = match f.kind {
        HazardKind::MissingClean => {
            " as far as memory (dc cvau goes to the point of unification alone, which a device is beyond)"
        }
        _ => "",
    };
    let or_short = match short {
        "" => "",
        _ => ", or did not go that far",
    };
    says(
        format!(
            "{exporter}'s begin_cpu_access and end_cpu_access have to sync the buffer for each \
             device that it is mapped for: {master} is one, and they left it out{or_short}"
        ),
        [format!(
            "user space issues DMA_BUF_IOCTL_SYNC around its part of each frame; between the write \
             and the access, none of these calls has maintained the line{short}"
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

fn late(f: &Facts) -> Decision {
    if f.why != Why::Late {
        return None;
    }
    let told = match f.started_by {
        StartedBy::Doorbell => "the register write that started it",
        StartedBy::Word => "the word in memory that handed the descriptor over",
        StartedBy::Itself => "the transfer",
    };
    let help = match f.writer {
        _ if f.kind == HazardKind::DiscardedWrite => {
            "invalidate the memory before the device is started, or after the end of its transfer"
        }
        Role::Device { .. } if f.has_access_calls => {
            "call dma_buf_begin_access() before the transfer is queued, not after"
        }
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
            "the maintenance{} came after {told}: {} may have read or written by then",
            by(f.maintained_by.as_deref()),
            f.master
        )],
    )
}

fn early(f: &Facts) -> Decision {
    let before = f.synced_too_early.as_ref();
    if f.why != Why::Early && before.is_none() && !f.invalidated_in_flight {
        return None;
    }
    let help = match f.reader {
        Role::User => {
            "wait for the end of the transfer (its dma_fence, poll(), or the dequeue), then issue \
             DMA_BUF_IOCTL_SYNC (SYNC_START | SYNC_READ), then read"
        }
        _ => "invalidate after the completion of the transfer, not before",
    };
    let (chain, when) = match before {
        Some(sync) => (Some(&*sync.chain), "before the device wrote"),
        None if f.why != Why::Early => {
            let when = "while the transfer was in flight";
            (f.maintained_by.as_deref(), when)
        }
        None => (f.maintained_by.as_deref(), "while the device was writing"),
    };
    says(
        help,
        [format!(
            "the invalidate{} came {when}{}: the cache may have fetched the line again before its \
             new bytes were there",
            by(chain),
            over(f)
        )],
    )
}

/// In parentheses: when the transfer was over.
fn over(f: &Facts) -> String {
    let end = f.transfer.map(|t| format!(" ({})", t.end()));
    end.unwrap_or_default()
}

fn by(chain: Option<&str>) -> String {
    chain.map(|c| format!(", by {c},")).unwrap_or_default()
}

fn in_flight(f: &Facts) -> Decision {
    if f.kind != HazardKind::Ownership {
        return None;
    }
    let help = match f.reader {
        Role::User => {
            "wait before the access: poll() the DMABUF, wait for the sync_file of its fence, or \
             dequeue the buffer"
        }
        Role::Device { .. } => {
            "wait for the fences of the other devices (dma_resv_wait_timeout()) before the \
             transfer is queued"
        }
        _ if f.dmabuf.is_some() => {
            "touch the memory in the completion callback or after it, or wait for the fences of \
             the DMABUF (dma_resv_wait_timeout())"
        }
        _ => {
            "touch the memory in the completion callback or after it, when it is unmapped or synced"
        }
    };
    let owner = f.transfer.iter();
    says(
        help,
        owner.map(|t| format!("the memory was {}'s: {}", f.master, t.end())),
    )
}

/// An importer that ends its access when others have been told that it is over.
fn signalled_early(f: &Facts) -> Decision {
    if f.kind != HazardKind::SignalledEarly {
        return None;
    }
    says(
        "signal the fence after dma_buf_end_access(), with nothing deferred in between: that call may be \
         made in atomic context, for just this",
        [format!(
            "the fence signalled{} before dma_buf_end_access() came{} with lines left to maintain: whoever \
             waits for the fence may have read by then, as on another CPU",
            by(f.signalled_by.as_deref()),
            by(f.maintained_by.as_deref())
        )],
    )
}

/// The kernel's routines that access memory of a program by the program's address, for a system call
/// (arch/arm64/lib/, mm/gup.c).
const USER_COPIES: [&str; 6] = [
    "__arch_copy_from_user",
    "__arch_copy_to_user",
    "__arch_clear_user",
    "fault_in_readable",
    "fault_in_writeable",
    "fault_in_safe_writeable",
];

/// Whether a function of the kernel is one of those.
pub fn copies_for_user(function: &str) -> bool {
    USER_COPIES.contains(&function)
}

/// A program has the kernel read or write a mapping of its own: write(fd, map, ...) and the like.
fn through_mapping(f: &Facts) -> Decision {
    let who = f.toucher.as_deref()?;
    let kinds = [HazardKind::MissingInvalidate, HazardKind::MissingClean];
    if !copies_for_user(who.trim_end_matches("()")) || !kinds.contains(&f.kind) {
        return None;
    }
    says(
        with_a_cpu(f),
        [format!(
            "{who} accessed the program's mapping for a system call that the program made: to the cache, that \
             is an access of the program's own"
        )],
    )
}

fn importer_cpu(f: &Facts) -> Decision {
    let exporter = f.dmabuf.as_deref()?;
    let reads = ("DMA_FROM_DEVICE", "reads", "after the transfer", "read");
    let writes = ("DMA_TO_DEVICE", "writes", "before the transfer", "wrote");
    let (direction, verb, when, done) = match (f.kind, f.why) {
        (HazardKind::MissingInvalidate, _) if f.reader == Role::Kernel => reads,
        (HazardKind::MissingClean, _) if f.writer == Role::Kernel => writes,
        // Who stored what the device writes over.
        (HazardKind::WritebackClobber, Why::Absent) if f.reader == Role::Kernel => writes,
        (HazardKind::DiscardedWrite, Why::Absent) if f.writer == Role::Kernel => writes,
        _ => return None,
    };
    let who = f.toucher.as_deref().unwrap_or("the kernel");
    says(
        format!(
            "call dma_buf_begin_cpu_access(dmabuf, {direction}) before the kernel {verb} the \
             buffer, {when}, and dma_buf_end_cpu_access() when it is done; dma_map_*() and \
             dma_sync_*() are for the exporter ({exporter}) to call"
        ),
        iter::once(format!(
            "{who} {done} the memory of a DMABUF with the CPU, as through dma_buf_vmap(), without \
             announcing it"
        ))
        .chain(asked_by(f)),
    )
}
