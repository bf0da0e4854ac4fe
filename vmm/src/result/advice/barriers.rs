// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The rows about order: barriers that are missing, or would not do.

use staleline_devices::coherency::hazard::{HazardKind, Why};
use staleline_devices::cpu::{Barrier, BarrierAccess};
use staleline_devices::dma::StartedBy;

use super::Facts;
use super::decision::{Decision, says};
use crate::result::words::Word as _;

pub(super) fn unordered(f: &Facts) -> Decision {
    if f.why != Why::Unordered {
        return None;
    }
    if f.writer.is_device() {
        return unordered_loads(f);
    }
    let master = &f.master;
    if f.ordered_as_a_cpu {
        return says(
            offer_order_platform(master),
            [format!(
                "{master} was started with no barrier that reaches devices between the store and \
                 what started it"
            )],
        );
    }
    match f.started_by {
        StartedBy::Doorbell => says(
            "ring the doorbell with writel(), not writel_relaxed(), or put dma_wmb() or wmb() \
             between the store and the doorbell",
            [format!(
                "a register write started {master}, with no barrier between the store and it"
            )],
        ),
        StartedBy::Word => says(
            "put dma_wmb() between the stores and the word that hands the descriptor over",
            [format!(
                "{master} polls a word in memory, which was stored with no barrier between the \
                 other stores and it"
            )],
        ),
        StartedBy::Itself => says(
            "put dma_wmb() between the stores, and store last what the device looks at first",
            [],
        ),
    }
}

fn unordered_loads(f: &Facts) -> Decision {
    let master = &f.master;
    let Some(stood) = f.barrier else {
        return says(
            "put dma_rmb() or rmb() between the load of the event or the status and the loads of \
             what it tells of",
            [format!(
                "the CPU learned from memory that {master} was done, and no barrier for loads came \
                 before it read the data"
            )],
        );
    };
    let help = match f.ordered_as_a_cpu {
        true => offer_order_platform(master),
        false => {
            "between the load of the event or the status and the loads of what it tells of, put \
                  dma_rmb() or rmb() in place of a barrier for CPUs, such as smp_rmb()"
                .to_owned()
        }
    };
    says(
        help,
        [format!(
            "the CPU learned from memory that {master} was done, and only {} came before it read the \
             data, which does not reach devices: they are outside its domain",
            stood.word()
        )],
    )
}

/// What a virtio device lacks (Virtio 1.2, 6 "Reserved Feature Bits").
fn offer_order_platform(master: &str) -> String {
    format!(
        "let {master} offer VIRTIO_F_ORDER_PLATFORM, as a device in hardware must: without it, Linux's \
         driver orders its rings as for another CPU (virtio_rmb() and the like are then dmb ish*)"
    )
}

pub(super) fn incomplete(f: &Facts) -> Decision {
    if f.why != Why::Incomplete {
        return None;
    }
    let followed = match f.barrier {
        None => "no barrier came between the maintenance and the access".to_owned(),
        Some(barrier) => format!(
            "the barrier after the maintenance was {}, which {}",
            barrier.word(),
            shortcoming(barrier)
        ),
    };
    let help = match f.kind {
        HazardKind::MissingInvalidate | HazardKind::MismatchedAlias => {
            "put a DMB or DSB for all accesses between the non-cacheable access and the maintenance"
        }
        _ if f.past_the_cache => {
            "end the maintenance with dsb sy, as the kernel's dcache_*_poc() do: without a barrier \
             for all accesses, what the CPU does past the cache may come before it"
        }
        _ => {
            "end the maintenance with dsb sy, as the kernel's dcache_*_poc() do; the barrier in \
             writel() does not wait for it"
        }
    };
    says(help, [followed])
}

/// Why a barrier does not complete the maintenance before it.
pub fn shortcoming(b: Barrier) -> &'static str {
    match (b.access, b.reaches_masters()) {
        (BarrierAccess::Load | BarrierAccess::Store, _) => {
            "is for some accesses only and does not order cache maintenance"
        }
        (BarrierAccess::Full, false) => "does not reach devices: they are outside its domain",
        (BarrierAccess::Full, true) => "came too late",
    }
}
