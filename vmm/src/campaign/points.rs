// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! All faults of a run, by its census: what can go wrong where, and which of them are alike.

use std::collections::HashMap;

use staleline_devices::coherency::census::{
    CountedAccess, CountedBarrier, CountedInterrupt, CountedNeighbours, Next,
};
use staleline_devices::coherency::report::{MaintenanceOp, Need, TransferRecord};
use staleline_devices::cpu::{BarrierAccess, BarrierKind, BarrierScope, CacheOp, LINE};
use staleline_devices::dma::{Content, Direction, MasterId, Transfer};
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

/// Bytes of a page: a device's descriptors for one of its ends (an endpoint, a channel) are in one of their own.
const PAGE_BYTES: u64 = 4096;

/// Lines of a page.
const PAGE: u32 = (PAGE_BYTES / LINE) as u32;

/// Transfers that are looked at to find the next of a memory.
const FAR: usize = 4096;

/// Transfers that are looked at to find those under way at a time: devices have fewer at once.
const RECENT: usize = 64;

/// Transfers of a USB host before which something can happen, of each stream.
const TRANSFERS: u32 = 65_536;

/// What is known of the lines beside those of an operation; `all` are by operation.
pub fn beside(all: &[CountedNeighbours], operation: u32) -> Option<&CountedNeighbours> {
    let at = all.binary_search_by_key(&operation, |one| one.operation);
    all.get(at.ok()?)
}

/// Bits of accesses of one length that flip, one in each.
const BITS: u64 = 8;

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
    /// Pages that descriptors are in, in the order in which masters come to them.
    rings: HashMap<u64, usize>,
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
        let census = report.domain.census.iter();
        let mut rings = HashMap::new();
        for access in census.flat_map(|census| &census.accesses) {
            if access.content == Content::Descriptor {
                let next = rings.len() + 1;
                rings.entry(access.pa / PAGE_BYTES).or_insert(next);
            }
        }
        Census {
            report,
            rings,
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
        for (access, follows) in census.accesses.iter().zip(follows(&census.accesses)) {
            let key = (access.master, content(access.content), access.write);
            let before = said.insert(key, access.word);
            self.of_access(access, (before, &follows), (late, seed), &mut points);
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

    /// The transfer that touches the memory of an operation next.
    fn next_transfer(&self, op: &MaintenanceOp) -> Option<&TransferRecord> {
        let touches = |t: &&TransferRecord| touches(op, t);
        let before = self.transfers().partition_point(|t| t.opened_at < op.at);
        let after = self.transfers().get(before..).unwrap_or_default();
        after.iter().take(FAR).find(touches)
    }

    /// The one that has touched it last.
    fn transfer_before(&self, op: &MaintenanceOp) -> Option<&TransferRecord> {
        let before = self.transfers().partition_point(|t| t.opened_at < op.at);
        let before = self.transfers().get(..before).unwrap_or_default();
        before.iter().rev().take(FAR).find(|t| touches(op, t))
    }

    /// Whether a barrier that is late is in time for the next transfer of an operation's memory.
    fn is_in_time(&self, late: Option<u64>, op: &MaintenanceOp) -> bool {
        let touched = self.next_transfer(op).map(|t| t.opened_at);
        late.is_some_and(|late| touched.is_none_or(|touched| late < touched))
    }

    /// Whether an operation that is done behind the barrier which should complete it is completed in time by the next.
    fn is_barred_in_time(&self, op: &MaintenanceOp) -> bool {
        let census = self.report.domain.census.iter();
        let mut barriers = census.flat_map(|census| &census.barriers);
        let its_own = barriers.find(|b| op.waits_for(b));
        self.is_in_time(its_own.and_then(|b| b.followed), op)
    }

    /// Who accesses the memory of an operation next, and how.
    fn observer(&self, op: &MaintenanceOp) -> String {
        match self.next_transfer(op) {
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
        let needed = match op.need() {
            Need::None => "redundant",
            Need::Part => "needed in part",
            Need::Whole => "needed",
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
        // Whether it comes in time all the same.
        add(
            OperationFault::Delay(Until::Barrier),
            if self.is_barred_in_time(op) {
                " in time"
            } else {
                ""
            },
        );
        for until in [Until::Start, Until::End] {
            add(OperationFault::Delay(until), "");
        }
        // What is left out matters to whoever has transferred it, or does next.
        let near = [self.transfer_before(op), self.next_transfer(op)];
        let transferred = |number: u32| {
            let Some(line) = op.in_order(number, 1).and_then(|mut lines| lines.next()) else {
                return ", one of its lines";
            };
            let has = |t: &TransferRecord| {
                let memory = t.transfer.range();
                line < memory.end && memory.start < line.saturating_add(LINE)
            };
            match near.map(|t| t.is_some_and(has)) {
                [false, false] => ", not transferred",
                [true, false] => ", transferred before",
                [false, true] => ", transferred next",
                [true, true] => "",
            }
        };
        if lines > 1 {
            let more = format!(" first{}", transferred(0));
            add(OperationFault::Skip { from: 0, count: 1 }, &more);
            let from = lines - 1;
            let more = format!(" last{}", transferred(from));
            add(OperationFault::Skip { from, count: 1 }, &more);
        }
        if lines > PAGE {
            let (from, count) = (0, PAGE);
            add(OperationFault::Skip { from, count }, " page");
        }
        // What is written there may be lost.
        let census = self.report.domain.census.as_ref();
        let neighbours = census.and_then(|census| beside(&census.neighbours, op.number));
        let state = |written: bool| if written { " written" } else { "" };
        add(
            OperationFault::WidenBefore,
            state(neighbours.is_some_and(|n| n.before)),
        );
        add(
            OperationFault::WidenAfter,
            state(neighbours.is_some_and(|n| n.behind)),
        );
        if op.op != CacheOp::Clean {
            add(OperationFault::As(CacheOp::Clean), "");
        }
        if op.op != CacheOp::Invalidate {
            add(OperationFault::As(CacheOp::Invalidate), "");
        }
    }

    fn of_barrier(&self, counted: &CountedBarrier, points: &mut Vec<Point>) {
        let operations = &self.report.domain.maintenance.operations;
        let completed: Vec<&MaintenanceOp> = operations
            .iter()
            .filter(|op| op.waits_for(counted) && op.touched_dma())
            .collect();
        let in_time = !completed.is_empty()
            && completed
                .iter()
                .all(|op| self.is_in_time(counted.followed, op));
        let mut done: Vec<String> = completed
            .into_iter()
            .map(|op| {
                let caller = self.callers.get(&op.number).map_or("?", String::as_str);
                let needed = match op.need() {
                    Need::None => "redundant",
                    Need::Part | Need::Whole => "needed",
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
        let alone = match (counted.alone_for_stores, counted.alone_for_loads) {
            (false, false) => "",
            (true, false) => " alone for stores",
            (false, true) => " alone for loads",
            (true, true) => " alone for both",
        };
        if done.is_empty() && counted.starts.is_none() && alone.is_empty() {
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
                    "{}{}{alone} | {kind} behind {} | starts {starts}",
                    fault.class(),
                    if in_time { " made good in time" } else { "" },
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
                way(first.write),
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
        let early = counted.early.then_some(InterruptFault::Early(counted.irq));
        let always = [
            InterruptFault::Lost,
            InterruptFault::Late(late),
            InterruptFault::Twice,
        ];
        for what in always.into_iter().chain(early) {
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
        (before, follows): (Option<u32>, &str),
        (late, seed): (u32, u64),
        points: &mut Vec<Point>,
    ) {
        let before = before.map_or(", the first".into(), |word| format!(" after {word:#x}"));
        let id = (access.transfer.0 as usize).checked_sub(1);
        let transfer = id.and_then(|id| self.transfers().get(id));
        let end = access.pa + u64::from(access.len);
        let ends = |t: Transfer| (access.pa <= t.pa, end >= t.range().end);
        let place = match transfer.map(|t| ends(t.transfer)) {
            None => "",
            // What comes after its next access comes after the transfer.
            Some((true, true)) => " whole",
            Some((true, false)) => " first",
            Some((false, true)) => " last",
            Some((false, false)) => " middle",
        };
        let ring = match self.rings.get(&(access.pa / PAGE_BYTES)) {
            Some(ring) if access.content == Content::Descriptor => format!(" of ring {ring}"),
            _ => String::new(),
        };
        let content = content(access.content);
        let who = format!(
            "{} {} {content}{ring}{place}, then {follows}",
            self.master(access.master),
            way(access.write)
        );
        // Descriptors and events are alike if they say the same.
        let says = match access.content {
            Content::Data => String::new(),
            Content::Descriptor | Content::Event => {
                format!(" {:#x}{before}", access.word)
            }
        };
        // What is refused or stale matters by whether it was handed over, which it says.
        let handed = match access.content {
            Content::Descriptor => format!(" {:#x}", access.word),
            Content::Data | Content::Event => String::new(),
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
        // One of a few for accesses of one length, the same each time.
        let turn = u64::from(access.number) % BITS;
        let bit = seed.wrapping_add(bits << 8 | turn);
        let bit = bit.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
        let bit = (bit % bits.max(1)) as u32;
        let crosses = access.pa % LINE + u64::from(access.len) > LINE;
        let late_for = format!("{who}{says} | {next}");
        let in_memory = format!("{who}{says} bit {bit} | {found} | {next}");
        let faults = [
            (AccessFault::Error, true, format!("{who}{handed}")),
            (
                AccessFault::Unsnooped,
                access.snoops,
                format!("{who}{handed} | {found} | {next}"),
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
            // What is in no cache is the same for both.
            (
                AccessFault::Flip { cache: true, bit },
                access.found != Cached::No,
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

/// What its master does in its next two accesses, for each: what is late comes behind the first of them, and whether
/// there are any shows whether anybody still waits for what has gone wrong.
fn follows(accesses: &[CountedAccess]) -> Vec<String> {
    let mut next: HashMap<MasterId, [String; 2]> = HashMap::new();
    let nothing = || ["nothing".into(), "nothing".into()];
    let backwards = accesses.iter().rev().map(|access| {
        let next = next.entry(access.master).or_insert_with(nothing);
        let follows = next.join(" and ");
        next.swap(0, 1);
        next[0] = format!("{} {}", way(access.write), content(access.content));
        follows
    });
    let mut follows: Vec<String> = backwards.collect();
    follows.reverse();
    follows
}

/// Whether a transfer is of memory of an operation.
fn touches(op: &MaintenanceOp, t: &TransferRecord) -> bool {
    op.met(&t.transfer.range()).is_some()
}

fn content(content: Content) -> &'static str {
    match content {
        Content::Data => "data",
        Content::Descriptor => "descriptor",
        Content::Event => "event",
    }
}

fn direction(direction: Direction) -> &'static str {
    way(direction == Direction::ToMemory)
}

fn way(write: bool) -> &'static str {
    match write {
        true => "writes",
        false => "reads",
    }
}

fn op_name(op: CacheOp) -> &'static str {
    match op {
        CacheOp::Clean => "clean",
        CacheOp::Invalidate => "invalidate",
        CacheOp::CleanInvalidate => "clean-invalidate",
    }
}
