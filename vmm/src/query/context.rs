// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Names for what a run's events refer to.

use staleline_devices::coherency::hazard::Actor;
use staleline_devices::cpu::SiteId;

use super::files::Run;
use super::survey::Survey;
use crate::events::Head;
use crate::symbols::{Sources, Symbols, agent_bias, loaded, mapped};

/// Names.
pub struct Context<'a> {
    run: &'a Run,
    /// The machine.
    pub head: &'a Head,
    symbols: Symbols,
}

impl<'a> Context<'a> {
    pub fn new(run: &'a Run, survey: &'a Survey) -> Self {
        let code = &survey.code;
        let reports = run.reports();
        let sources = Sources {
            vmlinux: code.vmlinux.clone(),
            system_map: code.system_map.clone(),
            kernel_at: survey.kernel_at,
            source_root: code.source_root.clone(),
            agent_elf: code.agent_elf.clone(),
            agent_bias: agent_bias(reports),
            mapped: mapped(reports, &code.inputs),
            modules: loaded(reports, &code.inputs),
            inputs: code.inputs.clone(),
        };
        Context {
            run,
            head: &survey.head,
            symbols: Symbols::new(sources, survey.places.clone()),
        }
    }

    /// Function, file and line of a place in code, as far as they are known.
    pub fn place(&self, site: SiteId) -> Option<String> {
        let place = self.symbols.site(site)?;
        let name = place.symbol.clone().unwrap_or_else(|| place.function());
        // Of what is inlined, the function that somebody wrote there.
        let frame = place.frames.last();
        let file = frame.and_then(|frame| {
            let file = frame.file.as_deref()?;
            Some(match frame.line {
                Some(line) => format!(" {file}:{line}"),
                None => format!(" {file}"),
            })
        });
        let module = place.module.map(|module| format!(" [{module}]"));
        Some(name + &module.unwrap_or_default() + file.as_deref().unwrap_or_default())
    }

    /// Who made an access, in a word.
    pub fn actor(&self, actor: &Actor) -> String {
        match actor {
            Actor::Unknown => "cache".into(),
            Actor::Cpu { cpu, .. } => cpu_name(cpu.0),
            Actor::Device { master, .. } => self.head.master(master.0),
        }
    }

    /// Who asked for a maintenance operation, by the result's list.
    pub fn caller(&self, operation: u32) -> Option<&str> {
        let maintenance = &self.run.result()?.maintenance;
        let mut all = maintenance.operations.iter().chain(&maintenance.elsewhere);
        let caller = &all.find(|op| op.number == operation)?.caller;
        (!caller.is_empty()).then_some(caller)
    }

    /// The DMABUF that holds an address, and the offset there.
    pub fn buffer(&self, pa: u64) -> Option<(u32, u64)> {
        self.run.buffers().iter().find_map(|buffer| {
            let mut before = 0_u64;
            for (first, len) in &buffer.extents {
                match pa.checked_sub(first.0) {
                    Some(offset) if offset < *len => {
                        return Some((buffer.index, before.saturating_add(offset)));
                    }
                    _ => before = before.saturating_add(*len),
                }
            }
            None
        })
    }
}

/// As tables call a CPU.
pub fn cpu_name(cpu: u8) -> String {
    format!("cpu{cpu}")
}
