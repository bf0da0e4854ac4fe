// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Cache maintenance by who asked for it.

use std::collections::HashMap;

use super::words::Word as _;
use staleline_devices::coherency::report::MaintenanceReport;
use staleline_devices::cpu::{ChainId, SiteId};

use super::cost::Costs;
use super::lookup::{GuestCode, UNKNOWN};
use super::{Maintenance, MaintenanceCaller, MaintenanceOp};
use staleline_results::Hex;

/// Functions of the kernel's DMA API and of what it is made of (kernel/dma, arch/arm64/mm), by the
/// start of their names: whoever called them is who asked for maintenance.
pub(super) const DMA_API: [&str; 10] = [
    "__dma_map_",
    "__dma_sync_",
    "arch_dma_",
    "arch_sync_dma_",
    "dma_alloc_",
    "dma_direct_",
    "dma_map_",
    "dma_sync_",
    "dma_unmap_",
    "iommu_dma_",
];

/// An operation's place in code.
#[derive(Clone)]
struct Asked {
    routine: String,
    chain: Vec<String>,
    /// The first of the chain that is not part of the DMA API; empty if unknown.
    caller: String,
    /// It was the DMA API that did it.
    api: bool,
}

impl Asked {
    fn of(guest: &GuestCode<'_>, site: SiteId, chain: ChainId) -> Self {
        let api = |name: &String| DMA_API.iter().any(|start| name.starts_with(start));
        let chain = guest.callers(site, chain);
        let caller = chain.iter().find(|name| !api(name)).or(chain.last());
        Asked {
            routine: guest.symbols.name(site).unwrap_or_default(),
            caller: caller.cloned().unwrap_or_default(),
            api: chain.iter().any(api),
            chain,
        }
    }

    fn function(&self) -> &str {
        let mut who = [&self.caller, &self.routine].into_iter();
        let who = who.find(|n| !n.is_empty());
        who.map_or(UNKNOWN, |n| n.split('+').next().unwrap_or(n))
    }
}

/// Sums over all operations on DMA memory, which masters have touched, and over those elsewhere that
/// the kernel's DMA API did, or that were needed. Of each sort, the first `limit` and the suppressed
/// one are listed.
pub(super) fn of(
    report: &MaintenanceReport,
    guest: &GuestCode<'_>,
    mut costs: Costs<'_>,
    limit: usize,
) -> Maintenance {
    let mut callers: HashMap<String, MaintenanceCaller> = HashMap::new();
    let mut account = Maintenance {
        cleaned: report.cleaned,
        invalidated: report.invalidated,
        ..Maintenance::default()
    };
    // There are many operations, and few places.
    let mut places: HashMap<(SiteId, ChainId), Asked> = HashMap::new();
    for op in &report.operations {
        let place = places
            .entry((op.site, op.chain))
            .or_insert_with(|| Asked::of(guest, op.site, op.chain));
        let on_dma_memory = op.touched_dma() || op.dropped;
        if !on_dma_memory && !place.api && op.needed_lines == 0 {
            account.unaccounted += 1;
            continue;
        }
        let cost = costs.add(op);
        let function = place.function();
        if !callers.contains_key(function) {
            let caller = MaintenanceCaller {
                function: function.to_owned(),
                ..MaintenanceCaller::default()
            };
            callers.insert(function.to_owned(), caller);
        }
        if let Some(entry) = callers.get_mut(function) {
            entry.operations += 1;
            entry.lines += cost.lines;
            entry.cleaned += cost.cleaned;
            entry.invalidated += cost.invalidated;
            entry.needed += cost.needed;
            entry.redundant += cost.redundant;
            entry.untouched += cost.untouched;
        }
        let (list, total) = if on_dma_memory {
            (&mut account.operations, &mut account.operations_total)
        } else {
            (&mut account.elsewhere, &mut account.elsewhere_total)
        };
        *total += 1;
        if *total > limit as u64 && !op.dropped {
            continue;
        }
        let place = place.clone();
        list.push(MaintenanceOp {
            number: op.number,
            op: op.op.word(),
            routine: place.routine,
            caller: place.caller,
            chain: place.chain,
            first_pa: Hex(op.first_pa),
            lines: op.lines,
            dma_lines: op.dma_lines,
            needed_lines: op.needed_lines,
            at: op.at,
            dropped: op.dropped,
        });
    }
    let mut callers: Vec<_> = callers.into_values().collect();
    callers.sort_by(|a, b| {
        b.lines
            .cmp(&a.lines)
            .then_with(|| a.function.cmp(&b.function))
    });
    account.callers = callers;
    account.operations_listed = account.operations.len() as u64;
    let cost = costs.cost();
    (account.needed, account.redundant) = (cost.total.needed, cost.total.redundant);
    account.untouched = cost.total.untouched;
    account.cost = cost;
    account
}
