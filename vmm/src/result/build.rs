// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! From what a run left behind to its result.

use std::collections::HashMap;

use staleline_devices::coherency::hazard::{self, Actor, Hazard};
use staleline_devices::coherency::report::MaintenanceReport;
use staleline_devices::cpu::SiteId;
use staleline_devices::dma::{MasterId, TransferId};
use staleline_devices::soc::report::SocReport;
use staleline_protocol::plan;
use staleline_protocol::report::Report;

use super::diagnostic::{self, Buffers};
use super::frames::Frames;
use super::*;
use crate::run::backend::{Artifacts, Execution};
use crate::run::console::Console;
use crate::run::spec::RunSpec;
use crate::symbols::{Sources, Symbols};

/// Shown instead of a place that nobody knows.
const UNKNOWN: &str = "(unknown)";

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
    result.drop_maintenance = dropped;
    if let Some(soc) = &execution.report {
        let bias = console.reports.iter().find_map(|r| match r {
            Report::Process { load_bias, .. } => Some(*load_bias),
            _ => None,
        });
        let sources = Sources::of(artifacts, bias.unwrap_or(0));
        let symbols = Symbols::new(sources, execution.sites.clone());
        let transfer = spec.scenario.plan().transfer;
        fill(&mut result, soc, &symbols, transfer.as_ref());
        result.data = ends::collect(transfer.as_ref(), &console.reports, Some(soc));
    }
    (result.verdict, result.reasons) = verdict::judge(&result, console, None);
    result
}

fn skeleton(spec: &RunSpec, artifacts: Option<&Artifacts>, console: &Console) -> RunResult {
    let scenario = &spec.scenario;
    let plan = scenario.plan();
    RunResult {
        schema: SCHEMA,
        staleline: env!("CARGO_PKG_VERSION").into(),
        scenario: scenario.name.clone(),
        kernel: artifacts.map(|a| a.kernel.clone()),
        initrd_hash: artifacts.map(|a| a.initrd_hash.clone()),
        engine: spec.engine,
        cache: scenario.board.cache,
        exporter: scenario.transfer.as_ref().map(|t| t.exporter),
        seed: scenario.seed,
        verdict: Verdict::InfraError,
        reasons: Vec::new(),
        diagnostics: Vec::new(),
        hazards: Vec::new(),
        hazards_dropped: 0,
        data: ends::collect(plan.transfer.as_ref(), &console.reports, None),
        maintenance: Maintenance::default(),
        drop_maintenance: None,
        guest: Guest {
            end: None,
            booted: console.started,
            planned: console.planned,
            tests: console.cases.clone(),
            warnings: console.warnings.clone(),
            console_tail: console.tail.clone(),
        },
        buffers: console.reports.iter().filter_map(buffer).collect(),
        machine: None,
        run_hash: None,
        accesses: 0,
        wall_ms: 0,
        replay: spec.invocation.clone(),
    }
}

fn buffer(report: &Report) -> Option<Buffer> {
    match report {
        Report::Buffer {
            index,
            exporter,
            bytes,
            extents,
            ..
        } => Some(Buffer {
            index: *index,
            exporter: exporter.chars().filter(|c| !c.is_control()).collect(),
            bytes: *bytes,
            extents: extents.iter().map(|(pa, len)| (Hex(*pa), *len)).collect(),
        }),
        _ => None,
    }
}

fn fill(result: &mut RunResult, soc: &SocReport, symbols: &Symbols, plan: Option<&plan::Transfer>) {
    let domain = &soc.domain;
    let frames = Frames::new(plan, &domain.transfers);
    let lookup = Lookup {
        soc,
        symbols,
        frames: &frames,
    };
    result.hazards = domain.hazards.iter().map(|h| lookup.entry(h)).collect();
    result.diagnostics = diagnostic::group(
        &domain.hazards,
        &mut result.hazards,
        &Buffers {
            known: &result.buffers,
            frames: &frames,
        },
        result.drop_maintenance.is_some(),
    );
    result.hazards_dropped = domain.hazards_dropped;
    result.maintenance = maintenance(&domain.maintenance, symbols);
    if let Some(dropped) = &mut result.drop_maintenance {
        let ops = &domain.maintenance.operations;
        dropped.happened = ops.iter().any(|o| o.dropped && o.number == dropped.number);
    }
    result.machine = Some(Machine {
        cache: domain.cache,
        transfers: domain.transfers.len() as u64 + domain.transfers_dropped,
        interrupts: soc.interrupts,
        register_accesses: soc.register_accesses,
        device_errors: soc.device_errors.clone(),
        extra: soc.extra.clone(),
    });
    result.run_hash = Some(format!("{:016x}", domain.run_hash));
    result.accesses = domain.accesses;
}

struct Lookup<'a> {
    soc: &'a SocReport,
    symbols: &'a Symbols,
    frames: &'a Frames,
}

impl Lookup<'_> {
    fn entry(&self, hazard: &Hazard) -> HazardEntry {
        HazardEntry {
            kind: hazard.kind,
            manifested: hazard.manifested,
            lines: hazard.lines,
            manifested_lines: hazard.manifested_lines,
            wrong_bytes: hazard.wrong_bytes,
            first_pa: Hex(hazard.first_pa),
            end_pa: Hex(hazard.end_pa),
            writer: self.party(hazard.writer),
            reader: self.party(hazard.reader),
            master: self.master(hazard.master).0,
            transfer: hazard.transfer.0,
            missing: diagnostic::missing(hazard.kind).into(),
            cached_by: self.symbols.site(hazard.cached_by),
            last_maintenance: hazard.last_maintenance.and_then(|l| self.maintenance(l)),
            written_at: hazard.written_at,
            at: hazard.at,
            diagnostic: 0,
        }
    }

    fn maintenance(&self, last: hazard::LastMaintenance) -> Option<LastMaintenance> {
        // The list has only the operations on memory used for DMA, in order of their numbers.
        let operations = &self.soc.domain.maintenance.operations;
        let operation = operations
            .binary_search_by_key(&last.operation, |o| o.number)
            .ok()
            .and_then(|index| operations.get(index));
        Some(LastMaintenance {
            op: last.op,
            place: self.symbols.site(last.site)?,
            caller: operation.and_then(|o| self.symbols.site(o.caller)),
            number: last.operation,
            at: last.at,
        })
    }

    fn party(&self, actor: Actor) -> Party {
        match actor {
            Actor::Unknown => Party::Unknown,
            Actor::Cpu { site } => match self.symbols.site(site) {
                Some(place) => Party::Cpu { place },
                None => Party::Cpu {
                    place: Place {
                        va: Hex(0),
                        kernel: true,
                        symbol: Some(UNKNOWN.into()),
                        frames: Vec::new(),
                    },
                },
            },
            Actor::Device { master, transfer } => {
                let (name, snoops) = self.master(master);
                Party::Device {
                    master: name,
                    snoops,
                    transfer: self.transfer(transfer),
                }
            }
        }
    }

    fn master(&self, id: MasterId) -> (String, bool) {
        match self.soc.masters.iter().find(|m| m.id == id) {
            Some(info) => (info.name.clone(), info.snoops),
            None => (format!("master {}", id.0), false),
        }
    }

    fn transfer(&self, id: TransferId) -> Option<TransferRef> {
        // IDs count from 1 in the order of the list; 0 is no data transfer.
        let index = usize::try_from(id.0.checked_sub(1)?).ok()?;
        let record = self.soc.domain.transfers.get(index)?;
        Some(TransferRef {
            id: id.0,
            direction: record.transfer.direction,
            pa: Hex(record.transfer.pa),
            len: record.transfer.len,
            descriptor: Hex(record.transfer.descriptor),
            channel: record.transfer.channel,
            frame: self.frames.of(id.0),
        })
    }
}

fn maintenance(report: &MaintenanceReport, symbols: &Symbols) -> Maintenance {
    let mut callers: HashMap<String, MaintenanceCaller> = HashMap::new();
    let mut operations = Vec::with_capacity(report.operations.len());
    let name = |site: SiteId| symbols.name(site).unwrap_or_default();
    for op in &report.operations {
        let (routine, caller) = (name(op.site), name(op.caller));
        let who = [&caller, &routine].into_iter().find(|n| !n.is_empty());
        let function = who.map_or(UNKNOWN, |n| n.split('+').next().unwrap_or(n));
        let entry = callers
            .entry(function.to_owned())
            .or_insert_with(|| MaintenanceCaller {
                function: function.to_owned(),
                ..MaintenanceCaller::default()
            });
        entry.operations += 1;
        entry.lines += op.dma_lines;
        entry.needed += op.needed_lines;
        operations.push(MaintenanceOp {
            number: op.number,
            op: op.op,
            routine,
            caller,
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
    Maintenance {
        cleaned: report.cleaned,
        invalidated: report.invalidated,
        needed: report.needed,
        redundant: report.redundant,
        callers,
        operations,
    }
}
