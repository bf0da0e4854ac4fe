// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A run's files, and names for what its events refer to.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use staleline_devices::coherency::hazard::Actor;
use staleline_devices::cpu::SiteId;
use staleline_events::{Ended, LogError};
use staleline_protocol::report::Report;
use staleline_results::{Buffer, RunResult};

use super::survey::Survey;
use crate::events::{EventReader, Head};
use crate::evidence::console::Console;
use crate::exit::Error;
use crate::run::directory;
use crate::symbols::{Sources, Symbols};

/// A log and what lies beside it.
pub struct Run {
    log: PathBuf,
    /// The directory it is in.
    dir: PathBuf,
    /// If the run has got so far.
    pub result: Option<RunResult>,
}

impl Run {
    /// The run in a directory, or the one of a log.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let log = match path.is_dir() {
            true => path.join(directory::LOG),
            false => path.to_owned(),
        };
        if !log.is_file() {
            return Err(Error::NotARun {
                path: path.to_owned(),
                why: format!("there is no log ({}) of a run", directory::LOG),
            });
        }
        let dir = log.parent().map(Path::to_owned).unwrap_or_default();
        let result = directory::read_json(&dir, directory::RESULT).ok();
        Ok(Run { log, dir, result })
    }

    /// All that is in the log.
    pub fn entries(&self) -> Result<EventReader<BufReader<File>>, LogError> {
        let file = File::open(&self.log)?;
        EventReader::new(BufReader::with_capacity(1 << 16, file))
    }

    /// For an error of [`Run::entries`].
    pub fn unreadable(&self, source: LogError) -> Error {
        Error::Log {
            path: self.log.clone(),
            source,
        }
    }

    /// The DMABUFs, by what the result says.
    pub fn buffers(&self) -> &[Buffer] {
        self.result.as_ref().map_or(&[], |r| &r.buffers)
    }

    /// Difference between an address in the agent's process and in its ELF file.
    fn agent_bias(&self) -> u64 {
        let console = Console::read(&self.dir.join(directory::CONSOLE)).unwrap_or_default();
        let mut reports = console.reports.iter();
        let bias = reports.find_map(|r| match r {
            Report::Process { load_bias, .. } => Some(*load_bias),
            _ => None,
        });
        bias.unwrap_or(0)
    }
}

/// What a log lacks, by how it ended.
pub fn lacks(ended: &Ended) -> Option<String> {
    if let Some(trouble) = &ended.trouble {
        return Some(format!("the log is not complete: {trouble}"));
    }
    let at = ended.full_at?;
    Some(format!(
        "the log is full from @{at} on, and lacks {} events: run with a larger log.limit-mib, or keep \
         fewer kinds with --log",
        ended.lost
    ))
}

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
        let sources = Sources {
            vmlinux: code.vmlinux.clone(),
            system_map: code.system_map.clone(),
            kernel_at: survey.kernel_at,
            source_root: code.source_root.clone(),
            agent_elf: code.agent_elf.clone(),
            agent_bias: run.agent_bias(),
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
        Some(name + file.as_deref().unwrap_or_default())
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
        let maintenance = &self.run.result.as_ref()?.maintenance;
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
