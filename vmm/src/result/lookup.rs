// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a run left behind, to look things up in: places in the guest's code, parties, transfers.

use std::cell::RefCell;
use std::collections::HashMap;

use staleline_devices::coherency::SnoopWrite;
use staleline_devices::coherency::hazard::{self, Actor, Hazard};
use staleline_devices::coherency::report::MaintenanceOp;
use staleline_devices::cpu::{ChainId, CpuId, SiteId};
use staleline_devices::dma::{MasterId, TransferId};
use staleline_devices::soc::report::SocReport;
use staleline_protocol::report::Report;
use staleline_results::{Hex, LastMaintenance, Party, Place, TransferRef};
use staleline_support::text;

use super::advice::Phase;
use super::frames::Frames;
use super::words::Word as _;
use crate::engine::Observations;
use crate::engine::chains::Chain;
use crate::evidence::Sites;
use crate::symbols::Symbols;

/// Shown instead of a place that nobody knows.
pub(super) const UNKNOWN: &str = "(unknown)";

/// Instead of a device's name, in findings about the CPU alone.
pub(super) const NO_DEVICE: &str = "no device";

/// How diagnostics call the agent's process.
const AGENT: &str = "agent";

/// Names of processes, by what the agent has told.
pub(super) fn tasks(reports: &[Report]) -> HashMap<u32, String> {
    let named = reports.iter().filter_map(|report| match report {
        Report::Process { pid, .. } => Some((*pid, AGENT.to_owned())),
        Report::Mapped { pid, task, .. } => Some((*pid, text::plain(task))),
        _ => None,
    });
    named.collect()
}

/// Calls on DMABUFs, and how they came to maintenance, by its place and chain.
pub(super) type Calls = HashMap<(SiteId, ChainId), Option<(Phase, String)>>;

/// What is known of the guest's code.
pub(super) struct GuestCode<'a> {
    pub(super) symbols: Symbols,
    pub(super) sites: &'a Sites,
    pub(super) seen: &'a Observations,
    /// Names of processes: the agent's, and those that it has told of.
    pub(super) tasks: HashMap<u32, String>,
}

impl GuestCode<'_> {
    /// The place of a load or store, and the way there if it was one of the accesses `at` that was
    /// traced.
    pub(super) fn access(&self, site: SiteId, at: &[u64]) -> Option<Place> {
        let va = *self.sites.get(&site)?;
        // The finding's other times belong to others; the address tells.
        let chain = at.iter().find_map(|at| self.seen.access(*at, va));
        Some(self.named(site, va, chain))
    }

    /// The place of a maintenance instruction, and the way there.
    fn maintenance(&self, site: SiteId, chain: ChainId) -> Option<Place> {
        let va = *self.sites.get(&site)?;
        Some(self.named(site, va, self.seen.chain(chain)))
    }

    /// The place of a call, and the way there.
    fn caller(&self, chain: &Chain) -> Option<Place> {
        Some(self.with_task(self.symbols.caller(chain)?))
    }

    fn with_task(&self, mut place: Place) -> Place {
        if let Some(stack) = place.stack.as_mut() {
            stack.task = stack.pid.and_then(|pid| self.tasks.get(&pid).cloned());
        }
        place
    }

    fn named(&self, site: SiteId, va: u64, chain: Option<&Chain>) -> Place {
        if let Some(place) = self.symbols.boot_code(site, va) {
            return place;
        }
        let Some(chain) = chain else {
            return self.symbols.place(va);
        };
        self.with_task(self.symbols.called(va, chain))
    }

    /// Functions that led to a maintenance instruction.
    pub(super) fn callers(&self, site: SiteId, chain: ChainId) -> Vec<String> {
        match (self.sites.get(&site), self.seen.chain(chain)) {
            (Some(va), Some(chain)) => self.symbols.caller_names(*va, chain),
            _ => Vec::new(),
        }
    }
}

/// What a run left behind.
pub(super) struct Lookup<'a> {
    pub soc: &'a SocReport,
    pub guest: &'a GuestCode<'a>,
    pub(super) frames: &'a Frames,
    /// The calls on DMABUFs that are known to have led to maintenance.
    pub calls: &'a RefCell<Calls>,
    /// The maintenance operation that was suppressed on purpose.
    pub dropped: Option<&'a MaintenanceOp>,
    /// The kernel under test has `dma_buf_begin_access()` and `dma_buf_end_access()`.
    pub has_access_calls: bool,
    /// The guest's user space issues DMA_BUF_IOCTL_SYNC around its part of each frame; that the
    /// ioctl failed would have ended the run.
    pub synced: bool,
    /// The guest's user space detaches DMABUFs before it reads them.
    pub detached: bool,
    /// The guest has come to its end, and with that let go of all buffers.
    pub powered_off: bool,
    /// What the board's snooping writes do.
    pub snoop_write: SnoopWrite,
    /// How many CPUs it has.
    pub cpus: u8,
}

impl Lookup<'_> {
    pub(super) fn maintenance(&self, last: hazard::LastMaintenance) -> Option<LastMaintenance> {
        Some(LastMaintenance {
            op: last.op.word(),
            place: self.guest.maintenance(last.site, last.chain)?,
            number: last.operation,
            at: last.at,
        })
    }

    /// A CPU as the reader of a `discarded-write` or `signalled-early` did maintenance, in an operation that began no
    /// later than the finding.
    fn discarder(&self, site: SiteId, hazard: &Hazard) -> Option<Place> {
        let chain = self.discarding(site, hazard)?;
        self.guest.maintenance(site, chain)
    }

    /// How the CPU came to that operation.
    pub fn discarding(&self, site: SiteId, hazard: &Hazard) -> Option<ChainId> {
        let operations = &self.soc.domain.maintenance.operations;
        // They are in order.
        let until = operations.partition_point(|o| o.at <= hazard.at);
        let operation = operations.get(until.checked_sub(1)?)?;
        let routine = |site| self.guest.symbols.site(site).map(|p| p.function());
        let kinds = [
            hazard::HazardKind::DiscardedWrite,
            hazard::HazardKind::SignalledEarly,
        ];
        let same = kinds.contains(&hazard.kind) && routine(site) == routine(operation.site);
        same.then_some(operation.chain)
    }

    fn cpu(&self, site: SiteId, hazard: &Hazard, times: &[u64]) -> Option<Place> {
        let place = self.guest.access(site, times)?;
        if place.stack.is_some() {
            return Some(place);
        }
        Some(self.discarder(site, hazard).unwrap_or(place))
    }

    pub fn party(&self, actor: Actor, hazard: &Hazard) -> Party {
        self.party_at(actor, hazard, &[hazard.written_at, hazard.at])
    }

    /// Whoever made an access at one of these times.
    pub fn party_at(&self, actor: Actor, hazard: &Hazard, times: &[u64]) -> Party {
        match actor {
            Actor::Unknown => Party::Unknown,
            Actor::Cpu { cpu, site } => match self.cpu(site, hazard, times) {
                Some(place) => Party::Cpu {
                    cpu: self.which(cpu),
                    place,
                },
                None => Party::Cpu {
                    cpu: self.which(cpu),
                    place: Place {
                        va: Hex(0),
                        kernel: true,
                        symbol: Some(UNKNOWN.into()),
                        module: None,
                        program: None,
                        frames: Vec::new(),
                        stack: None,
                    },
                },
            },
            Actor::Device {
                master,
                transfer,
                snoops,
            } => Party::Device {
                master: self.master(master),
                snoops,
                transfer: self.transfer(transfer),
            },
        }
    }

    /// A CPU, where it has to be said which.
    fn which(&self, cpu: CpuId) -> Option<u8> {
        (self.cpus > 1).then_some(cpu.0)
    }

    /// Who has signalled a fence.
    pub fn signaller(&self, signal: &hazard::Signalled) -> Party {
        let chain = self.guest.seen.chain(signal.chain);
        match chain.and_then(|chain| self.guest.caller(chain)) {
            Some(place) => Party::Cpu {
                cpu: self.which(signal.cpu),
                place,
            },
            None => Party::Unknown,
        }
    }

    /// Who did a maintenance operation.
    pub fn maintenance_party(&self, last: &hazard::LastMaintenance) -> Party {
        match self.guest.maintenance(last.site, last.chain) {
            Some(place) => Party::Cpu {
                cpu: self.which(last.cpu),
                place,
            },
            None => Party::Unknown,
        }
    }

    /// Name of the device that the finding is about.
    pub fn master_of(&self, hazard: &Hazard) -> String {
        let told = (hazard.transfer != TransferId::CONTROL).then_some(hazard.master);
        let parties = hazard.writer.master().or(hazard.reader.master());
        match told.or(parties) {
            Some(id) => self.master(id),
            None => NO_DEVICE.into(),
        }
    }

    pub fn master(&self, id: MasterId) -> String {
        match self.soc.masters.iter().find(|m| m.id == id) {
            Some(info) => info.name.clone(),
            None => format!("master {}", id.0),
        }
    }

    fn transfer(&self, id: TransferId) -> Option<TransferRef> {
        // IDs count from 1 in the order of the list; 0 is no data transfer.
        let index = usize::try_from(id.0.checked_sub(1)?).ok()?;
        let record = self.soc.domain.transfers.get(index)?;
        Some(TransferRef {
            id: id.0,
            direction: record.transfer.direction.word(),
            pa: Hex(record.transfer.pa),
            len: record.transfer.len,
            bus: record.transfer.bus.map(Hex),
            descriptor: Hex(record.transfer.descriptor),
            channel: record.transfer.channel,
            frame: self.frames.of(id.0),
            opened_at: record.opened_at,
            closed_at: record.closed_at,
        })
    }
}
