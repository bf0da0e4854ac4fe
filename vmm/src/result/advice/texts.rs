// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is missing, and what to do if nothing special is known.

use staleline_devices::coherency::hazard::{HazardKind, Why};

use super::{Facts, Role};

/// What is missing, in words.
///
/// `by_device`: a device wrote the data; `past`: a CPU accesses it past the cache.
pub fn missing(kind: HazardKind, why: Why, by_device: bool, past: bool) -> &'static str {
    match (kind, why) {
        (HazardKind::MissingBarrier, Why::Incomplete) if past => {
            "barrier for all accesses (dsb sy, as for devices, does) between the maintenance and the \
             access past the cache"
        }
        (HazardKind::MissingClean, Why::Late) => {
            "clean (dc cvac/civac) between the write and the moment the device was started: it \
             came after that"
        }
        (HazardKind::MissingClean, Why::PowerOn) | (HazardKind::WritebackClobber, Why::PowerOn) => {
            "clean or clean and invalidate (dc cvac/civac) since power-on"
        }
        (HazardKind::MissingClean, _) => "clean (dc cvac/civac) between the write and the transfer",
        (HazardKind::MissingInvalidate, Why::Late) => {
            "invalidate (dc ivac/civac) between the write and the moment the reader was started: \
             it came after that"
        }
        (HazardKind::MissingInvalidate, Why::Early) => {
            "invalidate (dc ivac/civac) after the transfer was over: it came while it was in flight"
        }
        (_, Why::StaleStore) if !by_device => {
            "invalidate (dc ivac/civac) between the write past the cache and the store into these \
             lines"
        }
        (_, Why::StaleStore) => {
            "invalidate (dc ivac/civac) between the transfer and the store into these lines"
        }
        (HazardKind::MissingInvalidate, _) => {
            "invalidate (dc ivac/civac) between the write and the read"
        }
        (HazardKind::WritebackClobber, Why::Late) => {
            "clean or invalidate (dc cvac/ivac/civac) of these lines before the device was started: \
             it came after that"
        }
        (HazardKind::WritebackClobber, _) => {
            "clean or invalidate (dc cvac/ivac/civac) of these lines before the transfer"
        }
        (HazardKind::DiscardedWrite, Why::Late) => {
            "invalidate (dc ivac/civac) before the device was started: it came after that, and may \
             throw away what the device writes"
        }
        (HazardKind::DiscardedWrite, _) => {
            "clean (dc cvac/civac) of these lines before the invalidate"
        }
        (HazardKind::MissingBarrier, Why::Unordered) if by_device => {
            "barrier for loads (dmb oshld or stronger) between the load that told of the data and the \
             load of the data"
        }
        (HazardKind::MissingBarrier, Why::Unordered) => {
            "barrier for stores (dmb oshst or stronger) between the store and what started \
             the device"
        }
        (HazardKind::MissingBarrier, _) => {
            "dsb for all accesses that reaches the device (dsb osh or dsb sy), between the \
             maintenance and the start of the transfer"
        }
        (HazardKind::MismatchedAlias, Why::PowerOn) => {
            "clean and invalidate (dc civac) of what was in the cache at power-on, before the \
             non-cacheable view is used"
        }
        (HazardKind::MismatchedAlias, _) => {
            "clean and invalidate (dc civac) between the uses of the two views"
        }
        (HazardKind::SignalledEarly, _) => {
            "maintenance of what the device wrote before the fence of its transfer signals: it came \
             after that"
        }
        (HazardKind::Ownership, _) => "wait for the end of the transfer before the access",
    }
}

/// What to do, by the rule and the roles alone.
pub fn help(f: &Facts) -> String {
    match f.kind {
        HazardKind::MissingInvalidate if f.reader.is_device() => between_devices(f),
        HazardKind::MissingClean if f.writer.is_device() => left_in_the_cache(f),
        _ => with_a_cpu(f).into(),
    }
}

/// A CPU takes part.
pub(super) fn with_a_cpu(f: &Facts) -> &'static str {
    match f.kind {
        HazardKind::MissingInvalidate if f.reader == Role::User => {
            "bracket the read with DMA_BUF_IOCTL_SYNC (SYNC_START | SYNC_READ ... SYNC_END), \
             after the transfer is done"
        }
        HazardKind::MissingInvalidate => {
            "call dma_sync_*_for_cpu() or dma_unmap_*() after the transfer is done and before \
             the read, with DMA_FROM_DEVICE or DMA_BIDIRECTIONAL and without \
             DMA_ATTR_SKIP_CPU_SYNC: else they do nothing"
        }
        HazardKind::MissingClean if f.writer == Role::User => {
            "bracket the write with DMA_BUF_IOCTL_SYNC (SYNC_START | SYNC_WRITE ... SYNC_END), \
             before the transfer is queued"
        }
        HazardKind::MissingClean => {
            "call dma_map_*() or dma_sync_*_for_device() after the last write and before the \
             transfer"
        }
        HazardKind::WritebackClobber => {
            "map the buffer, or sync it for the device, after the last write and before the \
             transfer; that includes the zeroing of fresh pages"
        }
        HazardKind::DiscardedWrite => "clean the lines before they are invalidated",
        HazardKind::MissingBarrier => {
            "end the maintenance with a DSB; the DMB in writel() does not wait for it"
        }
        HazardKind::MismatchedAlias => {
            "use one view only, or clean and invalidate when changing from one to the other"
        }
        HazardKind::SignalledEarly => "signal the fence after dma_buf_end_access()",
        HazardKind::Ownership => {
            "wait for the completion or the dma_fence of the transfer before the access"
        }
    }
}

fn between_devices(f: &Facts) -> String {
    let first = &f.master;
    let call = match f.has_access_calls {
        true => format!(
            "call dma_buf_end_access() when {first} is done, or issue DMA_BUF_IOCTL_SYNC \
             (SYNC_START | SYNC_READ) before the other starts"
        ),
        false => format!(
            "issue DMA_BUF_IOCTL_SYNC (SYNC_START | SYNC_READ) when {first} is done and before the \
             other starts; this kernel has no call for importers"
        ),
    };
    format!("no CPU took part between the two devices: {call}")
}

fn left_in_the_cache(f: &Facts) -> String {
    let second = &f.master;
    let call = match f.has_access_calls {
        true => format!("call dma_buf_begin_access() before the transfer of {second} is queued"),
        false => format!(
            "issue DMA_BUF_IOCTL_SYNC (SYNC_START | SYNC_RW, SYNC_END) before the transfer of \
             {second} is queued; this kernel has no call for importers"
        ),
    };
    format!("a snooping device left its data in the cache: {call}")
}
