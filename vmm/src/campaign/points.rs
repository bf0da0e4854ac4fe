// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! All faults of a run, by its census: what can go wrong where, and which of them are alike.

use std::collections::HashMap;

use staleline_devices::coherency::census::{CountedAccess, CountedBarrier, CountedInterrupt, Next};
use staleline_devices::coherency::report::{MaintenanceOp, TransferRecord};
use staleline_devices::cpu::{BarrierAccess, BarrierKind, BarrierScope, CacheOp, LINE};
use staleline_devices::dma::{Content, Direction, MasterId};
use staleline_devices::events::Cached;
use staleline_devices::faults::{
    AccessFault, BarrierFault, Fault, Hold, HostFault, InterruptFault, OperationFault, Until,
};
use staleline_devices::soc::report::SocReport;
use staleline_results::RunResult;

use crate::result::ends;
use crate::scenario::{Scenario, limits};

/// Classes of faults.
pub const CLASSES: &[&str] = &[
    "drop",
    "delay:barrier",
    "delay:start",
    "delay:end",
    "skip",
    "widen:before",
    "widen:after",
    "as:clean",
    "as:invalidate",
    "barrier:removed",
    "barrier:dmb",
    "barrier:inner",
    "barrier:stores",
    "barrier:loads",
    "irq:lost",
    "irq:late",
    "irq:early",
    "irq:twice",
    "beat:error",
    "beat:unsnooped",
    "beat:torn",
    "beat:after-next",
    "beat:after-end",
    "beat:late",
    "flip:cache",
    "flip:memory",
    "host:halt",
    "host:reset",
    "host:disconnect",
    "host:babble",
];

/// Lines of a page.
const PAGE: u32 = (4096 / LINE) as u32;

/// Transfers that are looked at to find the next of a memory.
const FAR: usize = 4096;

/// Transfers that are looked at to find those under way at a time: devices have fewer at once.
const RECENT: usize = 64;

/// Transfers of a USB host before which something can happen, of each stream.
const TRANSFERS: u32 = 65_536;

/// A fault, and what it is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The fault.
    pub fault: Fault,
    /// Those of one group are expected to come to the same: class, place in code, what is needed of it, and
    /// who looks next.
    pub group: String,
}

/// What is known of a run without faults.
pub struct Census<'a> {
    report: &'a SocReport,
    /// By the number of an operation: who does it.
    callers: HashMap<u32, String>,
}

impl<'a> Census<'a> {
    /// Of a run and its machine's report.
    pub fn new(result: &RunResult, report: &'a SocReport) -> Self {
        let operations = result.maintenance.operations.iter();
        let caller = |op: &staleline_results::MaintenanceOp| match op.caller.is_empty() {
            true => op.routine.clone(),
            false => op.caller.clone(),
        };
        Census {
            report,
            callers: operations.map(|op| (op.number, caller(op))).collect(),
        }
    }

    fn master(&self, id: MasterId) -> &str {
        let master = self.report.masters.get(usize::from(id.0));
        master.map_or("?", |master| &master.name)
    }

    fn transfers(&self) -> &[TransferRecord] {
        &self.report.domain.transfers
    }

    /// All faults of `scenario`, but combinations; `late` in ticks, `seed` for which bits change.
    pub fn points(&self, scenario: &Scenario, late: u32, seed: u64) -> Vec<Point> {
        let domain = &self.report.domain;
        let mut points = Vec::new();
        let operations = domain.maintenance.operations.iter();
        for op in operations.filter(|op| op.touched_dma()) {
            self.of_operation(op, &mut points);
        }
        let Some(census) = &domain.census else {
            return points;
        };
        for barrier in &census.barriers {
            self.of_barrier(barrier, &mut points);
        }
        for interrupt in &census.interrupts {
            self.of_interrupt(interrupt, late, &mut points);
        }
        // What each master has said last in descriptors and events.
        let mut said: HashMap<(MasterId, &str, bool), u32> = HashMap::new();
        for access in &census.accesses {
            let key = (access.master, content(access.content), access.write);
            let before = said.insert(key, access.word);
            self.of_access(access, before, (late, seed), &mut points);
        }
        self.of_host(scenario, late, &mut points);
        points
    }

    /// What a USB host can do before each of its transfers, where a scenario can do with that.
    fn of_host(&self, scenario: &Scenario, late: u32, points: &mut Vec<Point>) {
        let host = ends::usb_host(&self.report.extra);
        let steps = host.map_or_else(Vec::new, |host| host.steps);
        let begun = steps.iter().map(|step| step.begun).max().unwrap_or(0);
        let begun = begun.min(TRANSFERS);
        let faults = [
            HostFault::Halt,
            HostFault::Reset,
            HostFault::Disconnect(late),
            HostFault::Babble,
        ];
        let can_be = |what: &HostFault| {
            let mut with = scenario.clone();
            with.faults.inject = vec![Fault::Host(1, *what)];
            limits::check(&with, "").is_ok()
        };
        let faults: Vec<HostFault> = faults.into_iter().filter(can_be).collect();
        for number in 1..=begun {
            let place = match number {
                1 => "the first",
                _ if number == begun => "the last",
                _ => "another",
            };
            points.extend(faults.iter().map(|what| {
                let fault = Fault::Host(number, *what);
                Point {
                    fault,
                    group: format!("{} | before {place} transfer of the host", fault.class()),
                }
            }));
        }
    }

    /// Who accesses the memory of an operation next, and how.
    fn observer(&self, op: &MaintenanceOp) -> String {
        let touches = |t: &&TransferRecord| {
            let end = t.transfer.pa.saturating_add(t.transfer.len);
            op.met(&(t.transfer.pa..end)).is_some()
        };
        let before = self.transfers().partition_point(|t| t.opened_at < op.at);
        let after = self.transfers().get(before..).unwrap_or_default();
        match after.iter().take(FAR).find(touches) {
            Some(t) => format!(
                "{} {}",
                self.master(t.master),
                direction(t.transfer.direction)
            ),
            None => "none".into(),
        }
    }

    fn of_operation(&self, op: &MaintenanceOp, points: &mut Vec<Point>) {
        let lines = u32::try_from(op.lines).unwrap_or(u32::MAX);
        let needed = match op.needed_lines {
            0 => "redundant",
            n if n >= op.dma_lines => "needed",
            _ => "needed in part",
        };
        let caller = self.callers.get(&op.number).map_or("?", String::as_str);
        let observer = self.observer(op);
        let mut add = |what: OperationFault, more: &str| {
            let fault = Fault::Operation(op.number, what);
            let (class, kind) = (fault.class(), op_name(op.op));
            points.push(Point {
                fault,
                group: format!("{class}{more} | {kind} by {caller} | {needed} | {observer}"),
            });
        };
        add(OperationFault::Drop, "");
        for until in [Until::Barrier, Until::Start, Until::End] {
            add(OperationFault::Delay(until), "");
        }
        if lines > 1 {
            add(OperationFault::Skip { from: 0, count: 1 }, " first");
            let from = lines - 1;
            add(OperationFault::Skip { from, count: 1 }, " last");
        }
        if lines > PAGE {
            let (from, count) = (0, PAGE);
            add(OperationFault::Skip { from, count }, " page");
        }
        add(OperationFault::WidenBefore, "");
        add(OperationFault::WidenAfter, "");
        if op.op != CacheOp::Clean {
            add(OperationFault::As(CacheOp::Clean), "");
        }
        if op.op != CacheOp::Invalidate {
            add(OperationFault::As(CacheOp::Invalidate), "");
        }
    }

    fn of_barrier(&self, counted: &CountedBarrier, points: &mut Vec<Point>) {
        let (first, last) = counted.operations;
        let operations = &self.report.domain.maintenance.operations;
        let mut done: Vec<String> = operations
            .iter()
            .filter(|op| first != 0 && (first..=last).contains(&op.number) && op.touched_dma())
            .map(|op| {
                let caller = self.callers.get(&op.number).map_or("?", String::as_str);
                let needed = if op.needed_lines > 0 {
                    "needed"
                } else {
                    "redundant"
                };
                format!(
                    "{needed} {} by {caller}, {}",
                    op_name(op.op),
                    self.observer(op)
                )
            })
            .collect();
        done.dedup();
        // One that completes maintenance of memory that no master has to do with is of no interest.
        if done.is_empty() && counted.starts.is_none() {
            return;
        }
        let starts = match counted.starts {
            None => "none".into(),
            Some(master) => self.started(master, counted.at),
        };
        let barrier = counted.barrier;
        let faults = [
            (BarrierFault::Removed, true),
            (BarrierFault::Dmb, barrier.kind == BarrierKind::Dsb),
            (BarrierFault::Inner, barrier.scope > BarrierScope::Inner),
            (BarrierFault::Stores, barrier.access != BarrierAccess::Store),
            (BarrierFault::Loads, barrier.access != BarrierAccess::Load),
        ];
        for (what, _) in faults.into_iter().filter(|(_, applies)| *applies) {
            let fault = Fault::Barrier(counted.number, what);
            let kind = match barrier.kind {
                BarrierKind::Dsb => "dsb",
                BarrierKind::Dmb => "dmb",
            };
            points.push(Point {
                fault,
                group: format!(
                    "{} | {kind} behind {} | starts {starts}",
                    fault.class(),
                    if done.is_empty() {
                        "stores".into()
                    } else {
                        done.join(" and ")
                    }
                ),
            });
        }
    }

    /// A master that is started, and what it does at once.
    fn started(&self, master: MasterId, at: u64) -> String {
        let name = self.master(master);
        let census = self.report.domain.census.as_ref();
        let accesses = census.map_or(&[][..], |census| &census.accesses);
        let behind = accesses.partition_point(|access| access.at < at);
        let mut accesses = accesses.iter().skip(behind);
        // The doorbell is an access of the CPU's.
        let first = accesses
            .find(|a| a.master == master)
            .filter(|a| a.at <= at + 2);
        match first {
            None => name.to_owned(),
            Some(first) => format!(
                "{name}, which {} {} {:#x}",
                if first.write { "writes" } else { "reads" },
                content(first.content),
                first.word
            ),
        }
    }

    /// What transfers were under way at a time.
    fn phase(&self, at: u64) -> String {
        let open = |t: &&TransferRecord| t.closed_at.is_none_or(|end| end >= at);
        let transfers = self.transfers();
        let begun = transfers.partition_point(|t| t.opened_at <= at);
        let begun = transfers.get(..begun).unwrap_or_default();
        let mut open: Vec<String> = begun
            .iter()
            .rev()
            .take(RECENT)
            .filter(open)
            .map(|t| {
                format!(
                    "{} {}",
                    self.master(t.master),
                    direction(t.transfer.direction)
                )
            })
            .collect();
        open.sort_unstable();
        open.dedup();
        match open.is_empty() {
            true => "no transfer".into(),
            false => open.join(", "),
        }
    }

    fn of_interrupt(&self, counted: &CountedInterrupt, late: u32, points: &mut Vec<Point>) {
        let phase = self.phase(counted.at);
        for what in [
            InterruptFault::Lost,
            InterruptFault::Late(late),
            InterruptFault::Early,
            InterruptFault::Twice,
        ] {
            let fault = Fault::Interrupt(counted.number, what);
            points.push(Point {
                fault,
                group: format!("{} | irq {} | {phase}", fault.class(), counted.irq),
            });
        }
    }

    fn of_access(
        &self,
        access: &CountedAccess,
        before: Option<u32>,
        (late, seed): (u32, u64),
        points: &mut Vec<Point>,
    ) {
        let before = before.map_or(", the first".into(), |word| format!(" after {word:#x}"));
        let id = (access.transfer.0 as usize).checked_sub(1);
        let transfer = id.and_then(|id| self.transfers().get(id));
        let place = match transfer.map(|t| t.transfer) {
            None => "",
            Some(t) if access.pa <= t.pa => " first",
            Some(t) if access.pa + u64::from(access.len) >= t.pa.saturating_add(t.len) => " last",
            Some(_) => " middle",
        };
        let content = content(access.content);
        let way = if access.write { "writes" } else { "reads" };
        let who = format!("{} {way} {content}{place}", self.master(access.master));
        // Descriptors and events are alike if they say the same.
        let says = match access.content {
            Content::Data => String::new(),
            Content::Descriptor | Content::Event => {
                format!(" {:#x}{before}", access.word)
            }
        };
        let found = match (access.found, access.uncleaned) {
            (Cached::No, _) => "not cached",
            (Cached::Clean, false) => "clean",
            (Cached::Clean, true) => "clean, perhaps not yet",
            (Cached::Dirty, _) => "dirty",
        };
        let next = match access.next {
            None => "nobody".into(),
            Some(Next::Cpu) => "a CPU".into(),
            Some(Next::Reads(master)) => format!("{} reads", self.master(master)),
            Some(Next::Writes(master)) => format!("{} writes", self.master(master)),
        };
        let bits = u64::from(access.len) * 8;
        // Another one for each class, the same each time, and for accesses of one length.
        let bit = seed.wrapping_add(bits).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
        let bit = (bit % bits.max(1)) as u32;
        let crosses = access.pa % LINE + u64::from(access.len) > LINE;
        let late_for = format!("{who}{says} | {next}");
        let in_memory = format!("{who}{says} bit {bit} | {found} | {next}");
        let faults = [
            (AccessFault::Error, true, who.clone()),
            (
                AccessFault::Unsnooped,
                access.snoops,
                format!("{who} | {found} | {next}"),
            ),
            (AccessFault::Torn, access.write && crosses, late_for.clone()),
            (
                AccessFault::Held(Hold::Next),
                access.write,
                late_for.clone(),
            ),
            (
                AccessFault::Held(Hold::End),
                access.write && transfer.is_some(),
                late_for.clone(),
            ),
            (AccessFault::Held(Hold::Ticks(late)), access.write, late_for),
            (
                AccessFault::Flip { cache: true, bit },
                true,
                in_memory.clone(),
            ),
            (AccessFault::Flip { cache: false, bit }, true, in_memory),
        ];
        for (what, _, alike) in faults.into_iter().filter(|(_, applies, _)| *applies) {
            let fault = Fault::Access(access.number, what);
            points.push(Point {
                fault,
                group: format!("{} | {alike}", fault.class()),
            });
        }
    }
}

fn content(content: Content) -> &'static str {
    match content {
        Content::Data => "data",
        Content::Descriptor => "descriptor",
        Content::Event => "event",
    }
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::FromMemory => "reads",
        Direction::ToMemory => "writes",
    }
}

fn op_name(op: CacheOp) -> &'static str {
    match op {
        CacheOp::Clean => "clean",
        CacheOp::Invalidate => "invalidate",
        CacheOp::CleanInvalidate => "clean-invalidate",
    }
}
