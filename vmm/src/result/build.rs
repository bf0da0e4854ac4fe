// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! From what a run left behind to its result.

use std::cell::RefCell;

use staleline_devices::coherency::hazard::{Actor, Hazard};
use staleline_devices::faults::{self, Fault};
use staleline_devices::fidelity::Sight;
use staleline_devices::soc::report::SocReport;
use staleline_protocol::plan::{self, Plan};
use staleline_protocol::report::{self, Report};
use staleline_support::text;

use super::advice;
use super::causes;
use super::cost::Costs;
use super::diagnostic::{self, Buffers};
use super::frames::Frames;
use super::history;
use super::lookup::{GuestCode, Lookup, tasks};
use super::words::Word;
use super::*;
use crate::board::{Board, POISONED};
use crate::engine::Observations;
use crate::evidence::console::Console;
use crate::evidence::tap;
use crate::evidence::{Artifacts, Execution, GuestFile};
use crate::names;
use crate::spec::{self, RunSpec};
use crate::symbols::{Sources, Symbols};
use staleline_results::{Attended, Injected, Module, Program, Refusal};

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
    result.engine_host.clone_from(&execution.host);
    result.self_check = execution.self_check;
    result.restored = execution.restored;
    result.attended = execution.attended;
    result.notes.extend(attended(&execution.attended));
    let left = result.guest.program.as_ref().and_then(program::left_behind);
    result.notes.extend(left);
    result.drop_maintenance = dropped;
    if let Some(loaded) = &execution.loaded {
        result.initrd_hash.clone_from(&loaded.initrd);
        if let Some(kernel) = &mut result.kernel {
            kernel.image_hash = Some(loaded.kernel.clone());
        }
    }
    let mut sources = Sources::of(artifacts, &console.reports);
    sources.kernel_at = execution.loaded.as_ref().map(|l| l.kernel_at);
    let symbols = Symbols::new(sources, execution.sites.clone());
    for (report, read) in result.guest.reports.iter_mut().zip(&console.kernel_reports) {
        report.place = symbols.traced(&read.trace);
    }
    if let Some(soc) = &execution.report {
        let guest = GuestCode {
            symbols,
            sites: &execution.sites,
            seen: &execution.seen,
            tasks: tasks(&console.reports),
        };
        result.buffers = buffers(&console.reports, &execution.seen);
        fill(&mut result, soc, &guest, spec);
        result.data = ends::of(&spec.scenario, &console.reports, Some(soc));
    }
    // When a guest was stopped is a matter of the host: there is nothing to compare with.
    // And what was typed, nobody types again.
    if execution.end.was_stopped() || execution.attended.typed.is_some() {
        result.run_hash = None;
    }
    // An agent that gives up switches it off, too, and says so.
    let off = result.guest.end == Some(GuestEnd::PoweredOff) && console.bail.is_none();
    if let Some(program) = result.guest.program.as_mut().filter(|p| p.is_open()) {
        program.powered_off = off && spec.scenario.guest.may_power_off;
    }
    (result.verdict, result.reasons) = verdict::judge(&result, console, None);
    result
}

/// What is to be said of a run that people had a hand in.
fn attended(attended: &Attended) -> Vec<String> {
    let typed = attended.typed.map(|bytes| {
        format!(
            "{} typed at the guest's console: this run cannot be done again",
            match bytes {
                0 => "nothing was".to_owned(),
                1 => "1 byte was".to_owned(),
                n => format!("{n} bytes were"),
            }
        )
    });
    let debugger = attended.debugger.then(|| {
        "a debugger let the guest go: if it stopped it anywhere, or changed anything, this is another run than \
         without"
            .to_owned()
    });
    typed.into_iter().chain(debugger).collect()
}

/// The same of an engine that was given more than we give it.
fn own_arguments(spec: &RunSpec) -> Option<String> {
    let option = spec.engine.arguments_option();
    let words = spec.engine_arguments.iter();
    let words: Vec<String> = words
        .map(|word| spec::quote(&format!("--{option}={word}")))
        .collect();
    (!words.is_empty()).then(|| {
        format!(
            "the {} engine was given {}: whether it still does the same in each run, and sees all of the \
             guest, is up to that",
            spec.engine,
            words.join(" ")
        )
    })
}

fn file_hash(file: Option<&GuestFile>) -> Option<String> {
    file.map(|file| file.hash.clone())
}

fn skeleton(spec: &RunSpec, artifacts: Option<&Artifacts>, console: &Console) -> RunResult {
    let scenario = &spec.scenario;
    let plan = spec.plan();
    let reports = console.kernel_reports.iter().map(|read| &read.report);
    let reports = scenario.guest.marked(reports);
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
        inputs: artifacts.map(|a| a.inputs.clone()).unwrap_or_default(),
        packages: artifacts.map(|a| a.packages.clone()).unwrap_or_default(),
        append: scenario.guest.append.clone(),
        engine: spec.engine.name().into(),
        engine_host: None,
        engine_arguments: spec.engine_arguments.clone(),
        fidelity: spec.fidelity().word(),
        cache: names::name(&scenario.board.cache),
        exporter: scenario.transfer.as_ref().map(|t| t.exporter.name().into()),
        seed: scenario.seed,
        verdict: Verdict::InfraError,
        reasons: Vec::new(),
        interrupted: false,
        attended: Attended::default(),
        diagnostics: Vec::new(),
        hazards: Vec::new(),
        hazards_total: 0,
        hazards_listed: 0,
        hazards_dropped: 0,
        saturated: Vec::new(),
        notes: artifacts
            .iter()
            .flat_map(|a| a.notes.iter().cloned())
            .chain(own_arguments(spec))
            .collect(),
        data: ends::of(scenario, &console.reports, None),
        maintenance: Maintenance::default(),
        drop_maintenance: None,
        injected: injected(spec, &[]),
        guest: Guest {
            end: None,
            booted: console.started,
            planned: console.planned,
            tests: console.cases.clone(),
            reports,
            reports_dropped: console.kernel_reports_dropped,
            warnings,
            console_tail: console.tail.clone(),
            modules: modules(&plan, &console.reports),
            program: program(&plan, scenario.guest.selftest.as_deref(), &console.reports),
            refused: refused(&console.reports),
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

/// The user's modules, and what became of them.
fn modules(plan: &Plan, reports: &[Report]) -> Vec<Module> {
    let of = |module: &plan::Module| {
        let ended = reports.iter().find_map(|r| match r {
            Report::Inserted { name, error, said } if *name == module.name => Some((*error, said)),
            _ => None,
        });
        let said = ended.iter().flat_map(|(_, said)| said.iter());
        Module {
            name: module.name.clone(),
            file: module.file.clone(),
            parameters: module.parameters.clone(),
            ended: ended.is_some(),
            error: ended.and_then(|(error, _)| error),
            said: said.map(|message| text::plain(message)).collect(),
        }
    };
    plan.modules.iter().map(of).collect()
}

/// The user's program, and what became of it.
fn program(plan: &Plan, selftest: Option<&str>, reports: &[Report]) -> Option<Program> {
    let argv = plan.exec.as_ref()?.argv.clone();
    let ended = reports.iter().find_map(|r| match r {
        Report::Exited { code, signal, left } => Some((*code, *signal, *left)),
        _ => None,
    });
    let (code, signal, left) = ended.unwrap_or_default();
    Some(Program {
        argv,
        code,
        signal,
        powered_off: false,
        left,
        selftest: selftest.map(|name| tap::read(name, reports)),
    })
}

/// The attachment that the kernel did not allow. What it is called comes from the guest.
fn refused(reports: &[Report]) -> Option<Refusal> {
    reports.iter().find_map(|r| match r {
        Report::Refused { buffer, to, error } => Some(Refusal {
            buffer: *buffer,
            to: text::plain(to),
            error: report::refusal(*error)?.to_owned(),
        }),
        _ => None,
    })
}

/// The DMABUFs that the agent reported, where they are, and what they were attached to.
fn buffers(reports: &[Report], seen: &Observations) -> Vec<Buffer> {
    let attached = |buffer: u32| {
        let targets = reports.iter().filter_map(move |r| match r {
            Report::Attached { buffer: b, to } if *b == buffer => Some(to),
            _ => None,
        });
        targets.map(|to| text::plain(to)).collect()
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
                exporter: text::plain(exporter),
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
        // Those of the finding that is shown: what was done to others of the diagnostic's says nothing
        // about it.
        let concerned = buffers.concerned(hazard).into_iter();
        let concerned: Vec<&Buffer> = concerned.filter_map(|i| result.buffers.get(i)).collect();
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
        &domain.maintenance,
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
    let costs = Costs::new(soc, &frames);
    let operations = listing::OPERATIONS;
    result.maintenance = account::of(&domain.maintenance, guest, costs, operations);
    let blind = not_judged(&result.engine, &result.fidelity);
    if !guest.seen.fences {
        // A kernel without such calls has nothing to judge.
        let fidelity = spec.fidelity();
        result.fidelity = fidelity.without(Sight::Fences).word();
    }
    let told = spec.engine.told_by().map(|_| {
        format!(
            "the {} engine knows what the guest's kernel tells: maintenance by the DMA API and by programs, and what \
             the DMA API and vmap() make non-cacheable. That its instructions do what it tells is taken for granted; \
             what a driver or module maintains by instructions of its own, or maps as non-cacheable for programs, is \
             unknown here",
            spec.engine
        )
    });
    let others = notes(guest, &result.maintenance);
    let own = blind.into_iter().chain(unseen_stores(spec)).chain(told);
    result.notes.extend(own.chain(others));
    result.injected = injected(spec, &happened(soc));
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

/// What has become of all that was to go wrong, on the board and at the USB host.
fn happened(soc: &SocReport) -> Vec<faults::Injected> {
    let host = ends::usb_host(&soc.extra);
    let steps = host.iter().flat_map(|host| &host.steps);
    let of_host = steps.flat_map(|step| &step.faults);
    let of_host = of_host.map(|(number, what, at)| faults::Injected {
        fault: Fault::Host(*number, *what),
        at: Some(*at),
    });
    let of_board = soc.domain.faults.iter().filter(|one| !one.fault.is_hosts());
    of_board.copied().chain(of_host).collect()
}

/// What a scenario wants to go wrong, and what became of that.
fn injected(spec: &RunSpec, all: &[faults::Injected]) -> Vec<Injected> {
    let wanted = spec.scenario.faults.inject.iter();
    wanted
        .map(|fault| Injected {
            fault: fault.to_string(),
            at: all
                .iter()
                .find(|one| one.fault == *fault)
                .and_then(|one| one.at),
        })
        .collect()
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

/// Which stores an engine cannot find that sees none.
fn unseen_stores(spec: &RunSpec) -> Option<String> {
    // Only poison shows a store of zeros to memory that nobody has written yet.
    let rest = match Board::new(&spec.scenario.board).ram_bytes() > POISONED {
        true => format!(
            ", nor with one of zeros to fresh memory beyond {} MiB",
            POISONED >> 20
        ),
        false => String::new(),
    };
    spec.engine.finds_later(Sight::Stores).then(|| {
        format!(
            "the {} engine finds stores by what they have changed: what is wrong with a store, or a device's write, \
             of what memory held already is not found{rest}",
            spec.engine
        )
    })
}

/// What the engine had no room for, and what nobody could tell, in words.
fn notes(guest: &GuestCode<'_>, account: &Maintenance) -> Vec<String> {
    let unaccounted = account.unaccounted;
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
    if account.cost.pairs.is_empty() && account.cost.total.operations > 0 {
        told.push(
            "there were too many transfers and operations to tell between which devices maintenance \
             was done: `maintenance.cost.pairs` is empty"
                .into(),
        );
    }
    told
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
}

#[cfg(test)]
mod tests {
    use staleline_devices::fidelity::{Fidelity, Sight};

    use super::*;
    use crate::engine::EngineKind;

    #[test]
    fn what_an_engine_cannot_judge_is_told() {
        assert_eq!(not_judged("exact", &Fidelity::exact().word()), None);
        let blind = Fidelity::of(&[Sight::Stores, Sight::Maintenance]).word();
        let text = not_judged("blind", &blind).unwrap();
        assert!(text.starts_with("the blind engine"), "{text}");
        assert!(text.contains("missing-invalidate"), "{text}");
        assert!(!text.contains("missing-clean"), "{text}");
        let told = |engine, settings: &[String]| {
            unseen_stores(&RunSpec::resolve("iio-capture", "base", engine, settings).unwrap())
        };
        let [exact, kvm] = EngineKind::ALL;
        let more = ["board.ram-mib=512".to_owned()];
        assert_eq!(told(exact, &more), None);
        assert!(!told(kvm, &[]).unwrap().contains("zeros"));
        assert!(told(kvm, &more).unwrap().contains("beyond 256 MiB"));
    }
}
