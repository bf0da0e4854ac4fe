// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! From what a run left behind to its result.

use std::cell::RefCell;

use staleline_devices::coherency::SnoopWrite;
use staleline_devices::coherency::hazard::{self, Actor, Hazard};
use staleline_devices::coherency::report::MaintenanceOp;
use staleline_devices::cpu::{ChainId, CpuId, SiteId};
use staleline_devices::dma::{MasterId, TransferId};
use staleline_devices::fidelity::Fidelity;
use staleline_devices::soc::report::SocReport;
use staleline_protocol::report::Report;

use super::advice;
use super::causes;
use super::diagnostic::{self, Buffers};
use super::frames::Frames;
use super::gather::Calls;
use super::words::Word;
use super::*;
use crate::engine::Observations;
use crate::engine::chains::Chain;
use crate::evidence::console::Console;
use crate::evidence::{Artifacts, Execution, GuestFile, Sites};
use crate::names;
use crate::spec::RunSpec;
use crate::symbols::{Sources, Symbols};

/// Shown instead of a place that nobody knows.
pub(super) const UNKNOWN: &str = "(unknown)";

/// Instead of a device's name, in findings about the CPU alone.
pub(super) const NO_DEVICE: &str = "no device";

/// How diagnostics call the agent's process.
const AGENT: &str = "agent";

/// A result without findings, for a run that came to nothing because of `trouble`.
pub fn infra(spec: &RunSpec, artifacts: Option<&Artifacts>, trouble: &str) -> RunResult {
    let console = Console::default();
    let mut result = skeleton(spec, artifacts, &console);
    (result.verdict, result.reasons) = verdict::judge(&result, &console, Some(trouble));
    result
}

/// The result of a run.
pub fn build(
    spec: &RunSpec,
    artifacts: &Artifacts,
    execution: &Execution,
    console: &Console,
    dropped: Option<Dropped>,
) -> RunResult {
    let mut result = skeleton(spec, Some(artifacts), console);
    result.guest.end = Some(execution.end.clone());
    result.wall_ms = u64::try_from(execution.wall.as_millis()).unwrap_or(u64::MAX);
    result.self_check = execution.self_check;
    result.restored = execution.restored;
    result.drop_maintenance = dropped;
    if let Some(loaded) = &execution.loaded {
        result.initrd_hash.clone_from(&loaded.initrd);
        if let Some(kernel) = &mut result.kernel {
            kernel.image_hash = Some(loaded.kernel.clone());
        }
    }
    if let Some(soc) = &execution.report {
        let bias = console.reports.iter().find_map(|r| match r {
            Report::Process { load_bias, .. } => Some(*load_bias),
            _ => None,
        });
        let mut sources = Sources::of(artifacts, bias.unwrap_or(0));
        sources.kernel_at = execution.loaded.as_ref().map(|l| l.kernel_at);
        let guest = GuestCode {
            symbols: Symbols::new(sources, execution.sites.clone()),
            sites: &execution.sites,
            seen: &execution.seen,
            agent: console.reports.iter().find_map(|r| match r {
                Report::Process { pid, .. } => Some(*pid),
                _ => None,
            }),
        };
        let plan = spec.scenario.plan();
        result.buffers = buffers(&console.reports, &execution.seen);
        fill(&mut result, soc, &guest, spec);
        result.data = ends::of(&plan, &console.reports, Some(soc));
    }
    (result.verdict, result.reasons) = verdict::judge(&result, console, None);
    result
}

fn file_hash(file: Option<&GuestFile>) -> Option<String> {
    file.map(|file| file.hash.clone())
}

fn skeleton(spec: &RunSpec, artifacts: Option<&Artifacts>, console: &Console) -> RunResult {
    let scenario = &spec.scenario;
    let plan = scenario.plan();
    let reports = scenario.guest.marked(&console.kernel_reports);
    let allowed = reports.iter().filter(|r| r.allowed);
    let allowed = allowed.map(|r| r.headline.clone());
    let warnings = console.warnings.iter().cloned().chain(allowed).collect();
    RunResult {
        schema: SCHEMA,
        staleline: env!("CARGO_PKG_VERSION").into(),
        scenario: scenario.name.clone(),
        kernel: artifacts.map(|a| a.kernel.clone()),
        initrd_hash: file_hash(artifacts.and_then(|a| a.initrd.as_ref())),
        disk_hash: file_hash(artifacts.and_then(|a| a.disk.as_ref())),
        engine: spec.engine.name().into(),
        fidelity: Fidelity::of(spec.engine.sees()).word(),
        cache: names::name(&scenario.board.cache),
        exporter: scenario.transfer.as_ref().map(|t| t.exporter.name().into()),
        seed: scenario.seed,
        verdict: Verdict::InfraError,
        reasons: Vec::new(),
        diagnostics: Vec::new(),
        hazards: Vec::new(),
        hazards_total: 0,
        hazards_listed: 0,
        hazards_dropped: 0,
        saturated: Vec::new(),
        notes: Vec::new(),
        data: ends::of(&plan, &console.reports, None),
        maintenance: Maintenance::default(),
        drop_maintenance: None,
        guest: Guest {
            end: None,
            booted: console.started,
            planned: console.planned,
            tests: console.cases.clone(),
            reports,
            reports_dropped: console.kernel_reports_dropped,
            warnings,
            console_tail: console.tail.clone(),
        },
        buffers: buffers(&console.reports, &Observations::default()),
        machine: None,
        run_hash: None,
        accesses: 0,
        tracing: None,
        self_check: None,
        restored: None,
        log: None,
        wall_ms: 0,
        replay: spec.invocation.clone(),
    }
}

/// The DMABUFs that the agent reported, where they are, and what they were attached to.
fn buffers(reports: &[Report], seen: &Observations) -> Vec<Buffer> {
    // The guest shall not write escape sequences to a user's terminal.
    let clean = |text: &str| text.chars().filter(|c| !c.is_control()).collect();
    let attached = |buffer: u32| {
        let targets = reports.iter().filter_map(move |r| match r {
            Report::Attached { buffer: b, to } if *b == buffer => Some(to),
            _ => None,
        });
        targets.map(|to| clean(to)).collect()
    };
    let buffer = |report: &Report| match report {
        Report::Buffer {
            index,
            exporter,
            bytes,
            extents,
            va,
        } => {
            // The kernel tells user space of some exporters' pages only.
            let extents = match &extents[..] {
                [] => seen.extents(*va, *bytes),
                told => told.to_vec(),
            };
            Some(Buffer {
                index: *index,
                exporter: clean(exporter),
                bytes: *bytes,
                extents: extents.iter().map(|(pa, len)| (Hex(*pa), *len)).collect(),
                attached: attached(*index),
            })
        }
        _ => None,
    };
    reports.iter().filter_map(buffer).collect()
}

/// The hash as results show it.
pub fn hash_text(hash: u64) -> String {
    format!("{hash:016x}")
}

fn fill(result: &mut RunResult, soc: &SocReport, guest: &GuestCode<'_>, spec: &RunSpec) {
    let domain = &soc.domain;
    let plan = spec.scenario.plan().transfer;
    let frames = Frames::new(plan.as_ref(), &domain.transfers);
    let calls = RefCell::default();
    let lookup = Lookup {
        soc,
        guest,
        frames: &frames,
        calls: &calls,
        dropped: domain.maintenance.operations.iter().find(|o| o.dropped),
        has_access_calls: ["dma_buf_begin_access", "dma_buf_end_access"]
            .iter()
            .all(|function| guest.symbols.kernel_has(function)),
        synced: plan.as_ref().is_some_and(|t| t.cpu_sync),
        detached: plan.as_ref().is_some_and(|t| t.read_detached),
        powered_off: result.guest.end == Some(GuestEnd::PoweredOff),
        snoop_write: spec.scenario.board.snoop_write,
        cpus: spec.scenario.board.cpus,
    };
    result.hazards = domain.hazards.iter().map(|h| lookup.entry(h)).collect();
    let buffers = Buffers::new(&result.buffers, &frames);
    result.diagnostics = diagnostic::group(
        &domain.hazards,
        &mut result.hazards,
        &buffers,
        |hazard, concerned| {
            let sort = lookup.sort(hazard, concerned);
            let routines = lookup.routines(hazard, &sort);
            (sort, routines)
        },
    );
    for diagnostic in &mut result.diagnostics {
        let Some(hazard) = domain.hazards.get(diagnostic.shown) else {
            continue;
        };
        let concerned = diagnostic.buffers.iter();
        let concerned: Vec<&Buffer> = concerned.filter_map(|i| result.buffers.get(*i)).collect();
        let advice = advice::of(&lookup.facts(hazard, &concerned));
        if let Some(missing) = advice.missing
            && let Some(shown) = result.hazards.get_mut(diagnostic.shown)
        {
            shown.missing = missing.into();
        }
        diagnostic.advice = advice.row.into();
        diagnostic.help = advice.help;
        diagnostic.notes = advice.notes;
        diagnostic.history = history::of(&lookup, hazard);
    }
    causes::find(
        &mut result.diagnostics,
        &domain.hazards,
        &result.hazards,
        |hazard| lookup.accused(hazard),
        |hazard| lookup.fault(hazard),
    );
    listing::shorten(
        &mut result.hazards,
        &mut result.diagnostics,
        listing::HAZARDS,
    );
    result.hazards_total = domain.hazards.len() as u64 + domain.hazards_dropped;
    result.hazards_listed = result.hazards.len() as u64;
    result.hazards_dropped = domain.hazards_dropped;
    result.saturated = domain.saturated.iter().map(Word::word).collect();
    result.maintenance = account::of(&domain.maintenance, guest, listing::OPERATIONS);
    let blind = not_judged(&result.engine, &result.fidelity);
    let others = notes(guest, result.maintenance.unaccounted);
    result.notes = blind.into_iter().chain(others).collect();
    if let Some(dropped) = &mut result.drop_maintenance {
        let ops = &domain.maintenance.operations;
        dropped.happened = ops.iter().any(|o| o.dropped && o.number == dropped.number);
    }
    result.machine = Some(Machine {
        cache: domain.cache.word(),
        transfers: domain.transfers.len() as u64,
        interrupts: soc.interrupts,
        register_accesses: soc.register_accesses,
        device_errors: soc.device_errors.iter().map(Word::word).collect(),
        extra: soc.extra.clone(),
    });
    result.run_hash = Some(hash_text(domain.run_hash));
    result.accesses = domain.accesses;
}

/// The rules that an engine could not judge, in words.
fn not_judged(engine: &str, fidelity: &staleline_results::Fidelity) -> Option<String> {
    if fidelity.not_judged.is_empty() {
        return None;
    }
    let kinds: Vec<_> = fidelity.not_judged.iter().map(|k| k.name()).collect();
    Some(format!(
        "the {engine} engine does not see all that the guest does: {} could not be judged \
         everywhere",
        kinds.join(", ")
    ))
}

/// What the engine had no room for, and what nobody could tell, in words. `unaccounted`:
/// maintenance operations that are in no sum.
fn notes(guest: &GuestCode<'_>, unaccounted: u64) -> Vec<String> {
    let told = guest.seen.forgotten.iter().map(|f| {
        format!(
            "the engine has room for {} {}: {} times there was none, and diagnostics may lack names",
            f.limit, f.what, f.lost
        )
    });
    let mut told: Vec<String> = told.chain(guest.symbols.troubles()).collect();
    if unaccounted > 0 && !guest.symbols.knows_the_kernel() {
        told.push(format!(
            "the account of maintenance leaves out {unaccounted} operations on memory that no \
             device touched: without the kernel's System.map nobody can tell whether the DMA API \
             did them. Give --kernel a build directory, or put System.map beside the Image"
        ));
    }
    told
}

/// What is known of the guest's code.
pub(super) struct GuestCode<'a> {
    pub(super) symbols: Symbols,
    sites: &'a Sites,
    seen: &'a Observations,
    /// The agent's process.
    agent: Option<u32>,
}

impl GuestCode<'_> {
    /// The place of a load or store, and the way there if it was one of the accesses `at` that was
    /// traced.
    fn access(&self, site: SiteId, at: &[u64]) -> Option<Place> {
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

    fn named(&self, site: SiteId, va: u64, chain: Option<&Chain>) -> Place {
        if let Some(place) = self.symbols.boot_code(site, va) {
            return place;
        }
        let Some(chain) = chain else {
            return self.symbols.place(va);
        };
        let mut place = self.symbols.called(va, chain);
        if let Some(stack) = place.stack.as_mut().filter(|s| s.pid == self.agent) {
            stack.task = stack.pid.map(|_| AGENT.to_owned());
        }
        place
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
    frames: &'a Frames,
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
    fn entry(&self, hazard: &Hazard) -> HazardEntry {
        HazardEntry {
            kind: hazard.kind.word(),
            manifested: hazard.manifested,
            lines: hazard.lines,
            manifested_lines: hazard.manifested_lines,
            wrong_bytes: hazard.wrong_bytes,
            first_pa: Hex(hazard.first_pa),
            end_pa: Hex(hazard.end_pa),
            writer: self.party(hazard.writer, hazard),
            reader: self.party(hazard.reader, hazard),
            master: self.master_of(hazard),
            transfer: hazard.transfer.0,
            missing: advice::missing(
                hazard.kind,
                hazard.why,
                matches!(hazard.writer, Actor::Device { .. }),
                history::past_the_cache(hazard),
            )
            .into(),
            cached_by: match hazard.cached_by {
                Actor::Cpu { site, .. } => self.guest.access(site, &[hazard.cached_at]),
                _ => None,
            },
            last_maintenance: hazard.last_maintenance.and_then(|l| self.maintenance(l)),
            why: hazard.why.word(),
            written_at: hazard.written_at,
            started_at: hazard.started_at,
            at: hazard.at,
            diagnostic: 0,
        }
    }

    fn maintenance(&self, last: hazard::LastMaintenance) -> Option<LastMaintenance> {
        Some(LastMaintenance {
            op: last.op.word(),
            place: self.guest.maintenance(last.site, last.chain)?,
            number: last.operation,
            at: last.at,
        })
    }

    /// A CPU as the reader of a `discarded-write` did maintenance, in an operation that began no
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
        let same = hazard.kind == hazard::HazardKind::DiscardedWrite
            && routine(site) == routine(operation.site);
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
        let device = |actor| match actor {
            Actor::Device { master, .. } => Some(master),
            _ => None,
        };
        let told = (hazard.transfer != TransferId::CONTROL).then_some(hazard.master);
        let parties = device(hazard.writer).or(device(hazard.reader));
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
            descriptor: Hex(record.transfer.descriptor),
            channel: record.transfer.channel,
            frame: self.frames.of(id.0),
            opened_at: record.opened_at,
            closed_at: record.closed_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use staleline_devices::fidelity::Sight;

    use super::*;

    #[test]
    fn what_an_engine_cannot_judge_is_told() {
        assert_eq!(not_judged("exact", &Fidelity::exact().word()), None);
        let blind = Fidelity::of(&[Sight::Stores, Sight::Maintenance]).word();
        let text = not_judged("blind", &blind).unwrap();
        assert!(text.starts_with("the blind engine"), "{text}");
        assert!(text.contains("missing-invalidate"), "{text}");
        assert!(!text.contains("missing-clean"), "{text}");
    }
}
