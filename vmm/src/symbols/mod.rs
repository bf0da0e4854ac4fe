// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! From guest addresses to functions, files and lines.
//!
//! Kernel addresses (bit 55 set) go to `System.map` for names and to `vmlinux` for files, lines
//! and inlined callers, or to the module that the kernel had there; user addresses to the ELF files of the agent and of what it ran. Everything is loaded at first use
//! and may be missing: what cannot be told is left out.

mod elf;
mod excerpt;
mod module;
mod system_map;
mod trace;
mod user;

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use staleline_devices::cpu::SiteId;
use staleline_protocol::report::Report;

use crate::engine::BufferCode;
use crate::engine::chains::Chain;
use crate::evidence::{Artifacts, Sites};
use elf::Elf;
use excerpt::Excerpts;
pub use module::{Loaded, loaded};
use module::{Modules, Somewhere};
use system_map::SystemMap;
use user::User;
pub use user::{Mapped, mapped};

use staleline_results::{Frame, Hex, Input, Place, Stack};

/// Where symbols come from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Kernel ELF file.
    pub vmlinux: Option<PathBuf>,
    /// Kernel symbol list.
    pub system_map: Option<PathBuf>,
    /// Physical address of the kernel's first byte, if known.
    pub kernel_at: Option<u64>,
    /// Top of the kernel's sources, if they are the user's own.
    pub source_root: Option<PathBuf>,
    /// The agent's ELF file.
    pub agent_elf: Option<PathBuf>,
    /// Difference between an address in the agent's process and in its ELF file.
    pub agent_bias: u64,
    /// What other processes have run.
    pub mapped: Vec<Mapped>,
    /// Modules of the kernel.
    pub modules: Vec<Loaded>,
    /// Files that the guest was given.
    pub inputs: Vec<Input>,
}

impl Sources {
    /// Of a run, by what the agent has told.
    pub fn of(artifacts: &Artifacts, reports: &[Report]) -> Self {
        Sources {
            vmlinux: artifacts.vmlinux.clone(),
            system_map: artifacts.system_map.clone(),
            kernel_at: None,
            source_root: artifacts.source_root.clone(),
            agent_elf: artifacts.agent_elf.clone(),
            agent_bias: agent_bias(reports),
            mapped: mapped(reports, &artifacts.inputs),
            modules: loaded(reports, &artifacts.inputs),
            inputs: artifacts.inputs.clone(),
        }
    }
}

/// Difference between an address in the agent's process and in its ELF file, by what it has told.
pub fn agent_bias(reports: &[Report]) -> u64 {
    let bias = reports.iter().find_map(|r| match r {
        Report::Process { load_bias, .. } => Some(*load_bias),
        _ => None,
    });
    bias.unwrap_or(0)
}

/// The kernel's functions for buffers that devices share; none if it lacks some that are needed, or has no
/// `System.map`.
pub fn buffer_code(artifacts: &Artifacts) -> Option<BufferCode> {
    let map = SystemMap::load(artifacts.system_map.as_deref()?).ok()?;
    BufferCode::of(|function| map.code(function).filter(|code| is_kernel(code.start)))
}

/// Resolves places.
pub struct Symbols {
    sources: Sources,
    sites: Sites,
    map: OnceCell<Option<SystemMap>>,
    kernel: OnceCell<Option<Elf>>,
    /// The user's own sources of the kernel.
    excerpts: Option<Excerpts>,
    user: User,
    modules: Modules,
    somewhere: RefCell<Somewhere>,
    known: RefCell<HashMap<u64, Place>>,
    /// What could not be read, a sentence each.
    troubles: RefCell<Vec<String>>,
}

impl Symbols {
    /// A resolver; opens nothing yet.
    pub fn new(sources: Sources, sites: Sites) -> Self {
        let agent = sources.agent_elf.as_deref();
        let user = User::new(
            agent.map(|path| (path, sources.agent_bias)),
            &sources.mapped,
        );
        Symbols {
            modules: Modules::new(&sources.modules),
            excerpts: sources.vmlinux.as_deref().and_then(|vmlinux| {
                let root = sources.source_root.as_deref()?;
                Some(Excerpts::new(vmlinux, Some(root)))
            }),
            sources,
            sites,
            map: OnceCell::new(),
            kernel: OnceCell::new(),
            user,
            somewhere: RefCell::default(),
            known: RefCell::default(),
            troubles: RefCell::default(),
        }
    }

    /// The place of a site; none if the site is unknown.
    pub fn site(&self, site: SiteId) -> Option<Place> {
        let va = *self.sites.get(&site)?;
        Some(self.boot_code(site, va).unwrap_or_else(|| self.place(va)))
    }

    /// The place of a site at `va`, if it is kernel code at a physical address: before the kernel has
    /// turned the MMU on, and while it does.
    pub fn boot_code(&self, site: SiteId, va: u64) -> Option<Place> {
        if !is_boot_code(site, va) {
            return None;
        }
        let place = match self.linked(va) {
            Some(linked) => self.place(linked),
            None => Place {
                va: Hex(va),
                kernel: true,
                symbol: Some(boot_code_at(va)),
                module: None,
                program: None,
                frames: Vec::new(),
                stack: None,
            },
        };
        Some(Place {
            va: Hex(va),
            ..place
        })
    }

    /// The address that code at a physical address is linked for.
    fn linked(&self, pa: u64) -> Option<u64> {
        let offset = pa.checked_sub(self.sources.kernel_at?)?;
        let linked = self.map()?.start()?.checked_add(offset)?;
        self.symbol(linked).map(|_| linked)
    }

    /// Function and offset of a site, without opening debug information where possible.
    pub fn name(&self, site: SiteId) -> Option<String> {
        let va = *self.sites.get(&site)?;
        if is_boot_code(site, va) {
            let symbol = self.linked(va).and_then(|linked| self.symbol(linked));
            return Some(symbol.unwrap_or_else(|| boot_code_at(va)));
        }
        Some(self.symbol(va).unwrap_or_else(|| Hex(va).to_string()))
    }

    /// All that can be told about an address.
    pub fn place(&self, va: u64) -> Place {
        if let Some(place) = self.known.borrow().get(&va) {
            return place.clone();
        }
        let module = self.module(va);
        let root = self.sources.source_root.as_deref();
        let frames = match (is_kernel(va), module) {
            (true, Some(module)) => module.frames(va, &self.troubles),
            (true, None) => {
                let excerpts = self.excerpts.as_ref();
                self.kernel().map(|elf| elf.frames(va, root, excerpts))
            }
            (false, _) => self.user.frames(va, &self.troubles),
        };
        let place = Place {
            va: Hex(va),
            kernel: is_kernel(va),
            symbol: self.symbol(va),
            module: module.map(|module| module.name().to_owned()),
            program: self.user.program(va).filter(|_| !is_kernel(va)),
            frames: frames.unwrap_or_default(),
            stack: None,
        };
        self.known.borrow_mut().insert(va, place.clone());
        place
    }

    /// A place and the way there.
    pub fn called(&self, va: u64, chain: &Chain) -> Place {
        let mut callers = self.callers(va, chain);
        let name = |call: &u64| self.symbol(*call).unwrap_or_default();
        let interrupt = callers.iter().any(|call| is_interrupt_entry(&name(call)));
        if let Some(user) = &chain.user {
            callers.push(user.pc);
            callers.extend(self.calls(user.pc, user.link, &user.callers));
        }
        Place {
            stack: Some(Stack {
                callers: callers.iter().map(|call| self.place(*call)).collect(),
                pid: chain.pid,
                task: None,
                interrupt,
            }),
            ..self.place(va)
        }
    }

    /// The place of the call at the end of a chain; none if nothing is known of it.
    pub fn caller(&self, chain: &Chain) -> Option<Place> {
        let mut calls = chain.link.into_iter().chain(chain.callers.iter().copied());
        let call = calls.next()?;
        let callers = Chain {
            link: None,
            callers: calls.collect(),
            ..chain.clone()
        };
        Some(self.called(call, &callers))
    }

    /// Functions and offsets that led to a place, innermost first, without opening debug
    /// information where possible. Of a system call, those of the kernel only: what a process calls its
    /// functions says nothing about the kernel.
    pub fn caller_names(&self, va: u64, chain: &Chain) -> Vec<String> {
        let name = |call: u64| self.symbol(call).unwrap_or_else(|| Hex(call).to_string());
        self.callers(va, chain).into_iter().map(name).collect()
    }

    /// The same for all of a chain.
    pub fn chain_names(&self, chain: &Chain) -> Vec<String> {
        let calls = chain.link.into_iter().chain(chain.callers.iter().copied());
        let name = |call: u64| self.symbol(call).unwrap_or_else(|| Hex(call).to_string());
        calls.map(name).collect()
    }

    /// The calls that led to a place, up to where the kernel was entered.
    fn callers(&self, va: u64, chain: &Chain) -> Vec<u64> {
        self.calls(va, chain.link, &chain.callers)
    }

    /// The calls that led to a place. The link register tells the first one only if the place is
    /// in a function that has no frame record (yet) and so has called nobody; else it is what
    /// the function's own last call left there.
    fn calls(&self, va: u64, link: Option<u64>, callers: &[u64]) -> Vec<u64> {
        let function = |va| self.symbol_start(va);
        let foreign = |link: &u64| match (function(*link), function(va)) {
            (Some(link), Some(own)) => link != own,
            _ => false,
        };
        let link = link.filter(foreign);
        link.into_iter().chain(callers.iter().copied()).collect()
    }

    /// Where the function around an address starts.
    fn symbol_start(&self, va: u64) -> Option<u64> {
        let symbol = self.symbol(va)?;
        let offset = symbol.rsplit_once("+0x").map_or("0", |(_, digits)| digits);
        va.checked_sub(u64::from_str_radix(offset, 16).ok()?)
    }

    fn symbol(&self, va: u64) -> Option<String> {
        if !is_kernel(va) {
            return self.user.symbol(va, &self.troubles);
        }
        match (self.module(va), self.map()) {
            (Some(module), _) => module.symbol(va, &self.troubles),
            (None, Some(map)) => map.symbol(va),
            (None, None) => self.kernel()?.symbol(va),
        }
    }

    /// The module that the kernel had at an address.
    fn module(&self, va: u64) -> Option<&module::Code> {
        is_kernel(va).then(|| self.modules.at(va, &self.troubles))?
    }

    fn map(&self) -> Option<&SystemMap> {
        let map = self.map.get_or_init(|| {
            let path = self.sources.system_map.as_deref()?;
            self.loaded(
                "names of the kernel's functions",
                path,
                SystemMap::load(path),
            )
        });
        map.as_ref()
    }

    /// Whether there are names for the kernel's addresses.
    pub fn knows_the_kernel(&self) -> bool {
        self.map().is_some() || self.kernel().is_some()
    }

    /// Whether the kernel is known to have a function of that name.
    pub fn kernel_has(&self, function: &str) -> bool {
        self.map().is_some_and(|map| map.has(function))
    }

    fn kernel(&self) -> Option<&Elf> {
        let path = self.sources.vmlinux.as_deref();
        self.elf(&self.kernel, path, "files and lines of the kernel")
    }

    fn elf<'a>(
        &self,
        cell: &'a OnceCell<Option<Elf>>,
        path: Option<&Path>,
        what: &str,
    ) -> Option<&'a Elf> {
        cell.get_or_init(|| self.loaded(what, path?, Elf::load(path?)))
            .as_ref()
    }

    /// `what` a file is for: told if it cannot be read.
    fn loaded<T>(&self, what: &str, path: &Path, result: Result<T, String>) -> Option<T> {
        user::told(&self.troubles, what, path, result)
    }

    /// What names and lines are missing, and why, a sentence each. Of files for lines, those count
    /// that somebody has asked for.
    pub fn troubles(&self) -> Vec<String> {
        self.map();
        self.troubles.borrow().clone()
    }
}

/// The kernel's vectors for interrupts (arch/arm64/kernel/entry.S names them so).
fn is_interrupt_entry(symbol: &str) -> bool {
    let name = symbol.split('+').next().unwrap_or_default();
    ["el0t_64_irq", "el1h_64_irq", "el1h_64_fiq", "el0t_64_fiq"].contains(&name)
}

/// Whether a site at `va` is kernel code at a physical address.
fn is_boot_code(site: SiteId, va: u64) -> bool {
    !site.is_user() && !is_kernel(va)
}

/// What such a place is called if it has no other name.
fn boot_code_at(va: u64) -> String {
    format!("boot code at {}", Hex(va))
}

/// Whether TTBR1 translates the address (Arm ARM D8.2, bit 55).
fn is_kernel(va: u64) -> bool {
    va & (1 << 55) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_known_is_an_address() {
        let symbols = Symbols::new(
            Sources {
                vmlinux: Some("/nonexistent/vmlinux".into()),
                ..Sources::default()
            },
            Sites::from([(SiteId(3), 0xffff_8000_1234_5678)]),
        );
        let place = symbols.site(SiteId(3)).unwrap();
        assert_eq!(place.to_string(), "0xffff800012345678");
        assert_eq!(place.function(), "0xffff800012345678");
        assert_eq!(symbols.site(SiteId(0)), None);
        let [told] = &symbols.troubles()[..] else {
            panic!("{:?}", symbols.troubles());
        };
        assert!(
            told.starts_with("files and lines of the kernel are missing, because /nonexistent/"),
            "{told}"
        );
    }

    #[test]
    fn an_empty_map_is_told_even_if_nobody_asks_for_names() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let symbols = Symbols::new(
            Sources {
                system_map: Some(file.path().to_owned()),
                ..Sources::default()
            },
            Sites::default(),
        );
        assert!(symbols.troubles()[0].ends_with("it has no code symbols"));
        assert_eq!(symbols.troubles().len(), 1);
    }

    #[test]
    fn a_system_map_gives_names() {
        let dir = tempfile::tempdir().unwrap();
        let map = dir.path().join("System.map");
        std::fs::write(
            &map,
            "ffff800080010000 T __pi_clear_page\nffff800080010000 t $x\n\
             ffff800080010000 T clear_page\nffff800080010040 t next\n",
        )
        .unwrap();
        let symbols = Symbols::new(
            Sources {
                system_map: Some(map),
                ..Sources::default()
            },
            Sites::from([(SiteId(1), 0xffff_8000_8001_0014)]),
        );
        assert_eq!(symbols.name(SiteId(1)).unwrap(), "clear_page+0x14");
        assert_eq!(symbols.site(SiteId(1)).unwrap().function(), "clear_page");
    }

    #[test]
    fn code_that_runs_where_it_was_loaded_has_names_too() {
        let dir = tempfile::tempdir().unwrap();
        let map = dir.path().join("System.map");
        std::fs::write(
            &map,
            "ffff800080000000 T _text\nffff800080000000 t _head\nffff800080010000 T clean\n",
        )
        .unwrap();
        let named = |kernel_at| {
            let sources = Sources {
                system_map: Some(map.clone()),
                kernel_at,
                ..Sources::default()
            };
            let symbols = Symbols::new(sources, Sites::from([(SiteId(1), 0x4021_0008)]));
            (
                symbols.name(SiteId(1)).unwrap(),
                symbols.site(SiteId(1)).unwrap(),
            )
        };
        let (name, place) = named(Some(0x4020_0000));
        assert_eq!(
            (&*name, place.va, place.kernel),
            ("clean+0x8", Hex(0x4021_0008), true)
        );
        // What lies before the kernel is none of it.
        for nowhere in [None, Some(0x4021_0010)] {
            assert_eq!(named(nowhere).0, "boot code at 0x40210008");
        }
    }

    #[test]
    fn a_chain_counts_the_link_register_in_functions_without_a_frame_only() {
        let dir = tempfile::tempdir().unwrap();
        let map = dir.path().join("System.map");
        std::fs::write(
            &map,
            "ffff800080010000 T clean\nffff800080010100 T map\nffff800080010200 T heap\n\
             ffff800080010300 T el1h_64_irq\n",
        )
        .unwrap();
        let sources = Sources {
            system_map: Some(map),
            ..Sources::default()
        };
        const TEXT: u64 = 0xffff_8000_8001_0000;
        let symbols = Symbols::new(sources, Sites::new());
        let mut chain = Chain {
            pid: Some(1),
            link: Some(TEXT + 0x110),
            callers: vec![TEXT + 0x210],
            user: None,
        };
        let names = |chain: &Chain, va| symbols.caller_names(TEXT + va, chain);
        assert_eq!(names(&chain, 0x20), ["map+0x10", "heap+0x10"]);
        // The same registers a little later, behind the call.
        assert_eq!(names(&chain, 0x120), ["heap+0x10"]);
        let place = symbols.called(TEXT + 0x20, &chain);
        assert_eq!(
            place.to_string(),
            "clean+0x20 <- map+0x10 <- heap+0x10, pid 1"
        );
        chain.callers.push(TEXT + 0x340);
        let stack = symbols.called(TEXT + 0x20, &chain).stack.unwrap();
        assert!(stack.interrupt);
        // Nothing is known: the link register may be anything.
        let none = Symbols::new(Sources::default(), Sites::new());
        assert_eq!(none.caller_names(TEXT, &chain).len(), 2);
    }

    #[test]
    fn our_own_executable_gives_files_and_lines() {
        // The test binary stands in for the agent: a static function of known name and file.
        let exe = std::env::current_exe().unwrap();
        let address = our_own_executable_gives_files_and_lines as fn() as usize as u64;
        let bias = load_bias(&exe);
        let symbols = Symbols::new(
            Sources {
                agent_elf: Some(exe),
                agent_bias: bias,
                ..Sources::default()
            },
            Sites::new(),
        );
        let place = symbols.place(address);
        assert!(
            place.function().contains("our_own_executable"),
            "{place:?}, bias {bias:#x}"
        );
        let file = place.frames[0].file.clone().unwrap();
        assert!(file.ends_with("symbols/mod.rs"), "{file}");
        assert!(place.to_string().ends_with(", in user space"));
    }

    fn load_bias(exe: &Path) -> u64 {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let exe = exe.canonicalize().unwrap();
        let line = maps.lines().find(|l| l.ends_with(exe.to_str().unwrap()));
        u64::from_str_radix(line.unwrap().split('-').next().unwrap(), 16).unwrap()
    }

    #[test]
    fn hex_comes_back() {
        let json = serde_json::to_string(&Hex(0x45a0_0000)).unwrap();
        assert_eq!(json, "\"0x45a00000\"");
        assert_eq!(
            serde_json::from_str::<Hex>(&json).unwrap(),
            Hex(0x45a0_0000)
        );
        assert!(serde_json::from_str::<Hex>("\"45\"").is_err());
    }
}
