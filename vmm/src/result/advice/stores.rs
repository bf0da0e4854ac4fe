// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The rows about stores that are lost, or destroy something.

use staleline_devices::coherency::hazard::{HazardKind, Why};

use super::decision::{Decision, says};
use super::{Facts, Role};
use staleline_results::Hex;

pub(super) fn stale_store(f: &Facts) -> Decision {
    if f.why != Why::StaleStore {
        return None;
    }
    let (who, by) = match &f.merged_by {
        Some((who, by)) => (*who, by.as_str()),
        None => (Role::Unknown, "an unknown place"),
    };
    let help = match (f.writer, f.dmabuf.is_some(), who) {
        (Role::Device { .. }, true, Role::Kernel) => {
            "call dma_buf_begin_cpu_access(dmabuf, DMA_BIDIRECTIONAL) after the transfer and before \
             the first store, and dma_buf_end_cpu_access() after the last"
        }
        (Role::Device { .. }, true, Role::Device { .. }) => {
            "sync the buffer between the two devices: what is in the cache has to be invalidated \
             before the second one writes there"
        }
        (Role::Device { .. }, true, _) => {
            "issue DMA_BUF_IOCTL_SYNC (SYNC_START | SYNC_RW) after the transfer and before the \
             first store"
        }
        (Role::Device { .. }, false, _) => {
            "call dma_sync_*_for_cpu() or dma_unmap_*() after the transfer and before the first \
             store"
        }
        _ => "keep to one view, or invalidate before the first store through the cache",
    };
    says(
        help,
        [format!(
            "{by} stored into a copy of the line that was older than what {} had written: when that \
             copy is written back, the old bytes around the store go over the new ones",
            match f.writer {
                Role::Device { .. } => f.master.as_str(),
                _ => "the CPU",
            }
        )],
    )
}

pub(super) fn shared_line(f: &Facts) -> Decision {
    let shared = f.shared?;
    let end = shared.pa.saturating_add(shared.len);
    // A program's own part of a DMABUF, of which a device has another.
    let user = [f.writer, f.reader].contains(&Role::User);
    let help = match f.dmabuf.is_some() && user {
        true => {
            "let what user space writes begin in a cache line of its own (64 bytes), or write it while no \
             device has the buffer, between SYNC for reading and writing (DMA_BUF_SYNC_RW). Maintenance \
             cannot help as long as the line is shared"
        }
        false => {
            "give the buffer lines of its own: allocate it with kmalloc(), or align it and its size to \
             ARCH_DMA_MINALIGN; inside a structure, put it between __dma_from_device_group_begin() \
             and __dma_from_device_group_end(). Maintenance cannot help as long as the line is \
             shared"
        }
    };
    says(
        help,
        [format!(
            "the line at {} is only in part the buffer's, which is {}..{}; the CPU has written \
             other bytes of it",
            Hex(shared.line),
            Hex(shared.pa),
            Hex(end)
        )],
    )
}

pub(super) fn fresh_page(f: &Facts) -> Decision {
    let by = f.fresh_page.as_deref()?;
    // Of a DMABUF that was only mapped yet, nobody knows that it is one. But who maps what the kernel
    // has cleared is known.
    let mapped_by = || {
        let chain = f.discarded_by.as_deref().filter(|_| f.mapping_discards)?;
        Some(format!("{}()", chain.split(" <- ").next()?))
    };
    let exporter = f.dmabuf.clone().or_else(mapped_by)?;
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

/// What the only device of a buffer has written is invalidated: for which device?
pub(super) fn for_nobody(f: &Facts) -> Decision {
    if f.kind != HazardKind::DiscardedWrite || !f.writer.is_device() || !f.one_attached {
        return None;
    }
    let exporter = f.dmabuf.as_ref()?;
    let by = f.discarded_by.as_ref();
    let by = by.map(|by| format!(", by {by},")).unwrap_or_default();
    says(
        format!(
            "{exporter}'s begin_cpu_access and end_cpu_access must sync the buffer for the devices \
             that are attached, and for no other: not for a device of the exporter's own"
        ),
        [format!(
            "the buffer is attached to one device alone, which snoops; the invalidate{by} is not \
             for that one"
        )],
    )
}

/// An invalidate threw away what somebody had written: who, decides what should have been done.
pub(super) fn discarded(f: &Facts) -> Decision {
    if f.kind != HazardKind::DiscardedWrite {
        return None;
    }
    let help = match f.writer {
        Role::Device { .. } if f.has_access_calls => {
            "write back what the first device left in the cache before the buffer is invalidated \
             for another: call dma_buf_begin_access() before the next transfer"
        }
        Role::Device { .. } => {
            "write back what the first device left in the cache before the buffer is invalidated \
             for another: issue DMA_BUF_IOCTL_SYNC (SYNC_START | SYNC_RW, SYNC_END) when it is done"
        }
        Role::User => {
            "bracket the write with DMA_BUF_IOCTL_SYNC (SYNC_START | SYNC_WRITE ... SYNC_END) and \
             end that before anybody else syncs or maps the buffer"
        }
        _ => {
            "do not write while the memory is mapped for the device, or call \
             dma_sync_*_for_device() after the write, with a direction that includes DMA_TO_DEVICE"
        }
    };
    says(help, asked_by(f))
}

/// Who had what was written thrown away.
pub(super) fn asked_by(f: &Facts) -> Option<String> {
    let by = f.discarded_by.as_deref()?;
    Some(format!("the invalidate was asked for by {by}"))
}
