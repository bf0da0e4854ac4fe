// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What maintenance cost: sums over the operations that are accounted.

use std::collections::{BTreeMap, HashSet};

use staleline_devices::coherency::report::{MaintenanceOp, TransferRecord};
use staleline_devices::dma::MasterId;
use staleline_devices::soc::report::SocReport;
use staleline_results::{Cost, Instructions, LINE, LineCost, PairCost, PathCost};

use super::between::{Between, Pair};
use super::frames::Frames;

/// Adds up.
pub(super) struct Costs<'a> {
    soc: &'a SocReport,
    between: Between<'a>,
    path: Option<(u64, u64)>,
    total: LineCost,
    all: Spent,
    on_path: Spent,
    pairs: BTreeMap<Pair, LineCost>,
    /// Of some operation it was too much to find out between what it stands.
    too_much: bool,
}

/// Instructions so far.
#[derive(Default)]
struct Spent {
    dc: u64,
    /// Barriers, by number.
    barriers: HashSet<u32>,
}

impl Spent {
    fn add(&mut self, op: &MaintenanceOp) {
        self.dc = self.dc.saturating_add(op.lines);
        if op.completed_by != 0 {
            self.barriers.insert(op.completed_by);
        }
    }

    fn instructions(&self) -> Instructions {
        Instructions {
            dc: self.dc,
            barriers: self.barriers.len() as u64,
        }
    }
}

impl<'a> Costs<'a> {
    /// Of a machine, and what is known of whose data its transfers move.
    pub fn new(soc: &'a SocReport, frames: &Frames) -> Self {
        Costs {
            soc,
            between: Between::new(&soc.domain.transfers),
            path: path(&soc.domain.transfers, frames),
            total: LineCost::default(),
            all: Spent::default(),
            on_path: Spent::default(),
            pairs: BTreeMap::new(),
            too_much: false,
        }
    }

    /// One more operation; gives what it costs.
    pub fn add(&mut self, op: &MaintenanceOp) -> LineCost {
        let cost = of(op);
        self.total.add(&cost);
        self.all.add(op);
        if self
            .path
            .is_some_and(|(from, to)| from <= op.at && op.at <= to)
        {
            self.on_path.add(op);
        }
        match self.between.of(op).filter(|_| !self.too_much) {
            Some(pair) => self.pairs.entry(pair).or_default().add(&cost),
            None => self.too_much = true,
        }
        cost
    }

    /// What it comes to.
    pub fn cost(self) -> Cost {
        let name = |id: MasterId| match self.soc.masters.iter().find(|m| m.id == id) {
            Some(info) => info.name.clone(),
            None => format!("master {}", id.0),
        };
        let pairs = self.pairs.iter().filter(|_| !self.too_much);
        let mut pairs: Vec<PairCost> = pairs
            .map(|((before, after), cost)| PairCost {
                before: before.map(name),
                after: after.map(name),
                cost: *cost,
            })
            .collect();
        // Those with as many stay in the order of the board's masters.
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.cost.lines));
        Cost {
            total: self.total,
            instructions: self.all.instructions(),
            pairs,
            path: self
                .path
                .map(|(from, to)| PathCost::new(from, to, self.on_path.instructions())),
        }
    }
}

/// What one operation costs. Loads and stores past the cache may show that one was needed on lines that no
/// master has touched.
fn of(op: &MaintenanceOp) -> LineCost {
    let touched = op.touched_lines();
    let untouched = op.lines.saturating_sub(touched);
    let lines = touched.saturating_add(untouched);
    LineCost {
        operations: 1,
        lines,
        bytes: lines.saturating_mul(LINE),
        cleaned: op.cleaned,
        invalidated: op.invalidated,
        needed: op.needed_lines,
        redundant: touched.saturating_sub(op.needed_lines),
        untouched,
    }
}

/// When the scenario's data was under way.
fn path(transfers: &[TransferRecord], frames: &Frames) -> Option<(u64, u64)> {
    let carries = |record: &&TransferRecord| frames.of(record.id.0).is_some();
    let known = transfers.iter().any(|record| carries(&record));
    let all = transfers.iter().filter(|record| !known || carries(record));
    let time = |record: &TransferRecord| {
        let end = record.closed_at.unwrap_or(record.opened_at);
        (record.opened_at, end)
    };
    all.map(time)
        .reduce(|(from, to), (opened, closed)| (from.min(opened), to.max(closed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::fake::soc_report;
    use crate::scenario::Scenario;

    #[test]
    fn a_capture_is_between_the_device_and_itself() {
        let soc = soc_report();
        let plan = Scenario::load("iio-capture").unwrap().plan().transfer;
        let frames = Frames::new(plan.as_ref(), &soc.domain.transfers);
        let mut costs = Costs::new(&soc, &frames);
        for op in &soc.domain.maintenance.operations {
            let cost = costs.add(op);
            assert_eq!((cost.bytes, cost.invalidated), (189 * LINE, 189));
        }
        let cost = costs.cost();
        let pairs: Vec<_> = cost
            .pairs
            .iter()
            .map(|p| (p.before.as_deref(), p.after.as_deref(), p.cost.lines))
            .collect();
        let rx = Some("axi-dmac-rx");
        assert_eq!(pairs, [(rx, rx, 5 * 189), (rx, None, 189)]);
        // The last one comes when all data is there.
        let path = cost.path.unwrap();
        assert_eq!((path.from, path.to, path.accesses), (1000, 6500, 5500));
        let barriers = 5;
        let dc = 5 * 189;
        assert_eq!(path.instructions, Instructions { dc, barriers });
        assert_eq!(cost.instructions.all(), 6 * 190);
        assert_eq!(cost.total.lines, 6 * 189);
    }

    #[test]
    fn without_transfers_there_is_no_path() {
        let mut soc = soc_report();
        soc.domain.transfers.clear();
        let mut costs = Costs::new(&soc, &Frames::default());
        costs.add(&soc.domain.maintenance.operations[0]);
        let cost = costs.cost();
        assert_eq!((cost.path, cost.pairs.len()), (None, 1));
        assert_eq!(cost.pairs[0].before, None);
    }
}
