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
    let master = &f.master;
    if f.writer.is_device() {
        return says(
            "put dma_rmb() or rmb() between the load of the event or the status and the loads of \
             what it tells of",
            [format!(
                "the CPU learned from memory that {master} was done, and no barrier for loads that \
                 reaches devices (dmb ish is for CPUs only) came before it read the data"
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

fn shortcoming(b: Barrier) -> &'static str {
    match (b.access, b.reaches_masters()) {
        (BarrierAccess::Load | BarrierAccess::Store, _) => {
            "is for some accesses only and does not order cache maintenance"
        }
        (BarrierAccess::Full, false) => "does not reach devices: they are outside its domain",
        (BarrierAccess::Full, true) => "came too late",
    }
}
