// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Where in the guest's kernel a fault is.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};
use staleline_devices::coherency::report::MaintenanceOp;
use staleline_devices::dma::MasterId;
use staleline_devices::faults::Fault;
use staleline_results::{Place, RunResult};

use crate::result::fold::Fold;
use crate::symbols::{Sources, Symbols};

/// A line of the guest's kernel, or what else a fault is of.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Site {
    /// `file:line`; of a device `(its name)`, as that has none.
    pub place: String,
    /// The function there, if it is known.
    pub function: String,
}

impl Site {
    fn beside(what: &str) -> Self {
        Site {
            place: format!("({what})"),
            function: String::new(),
        }
    }

    /// What stays the same if code before it comes or goes: its file and function.
    pub fn without_line(&self) -> (&str, &str) {
        let number = |line: &str| line.bytes().all(|b| b.is_ascii_digit());
        let split = self.place.rsplit_once(':');
        let file = split.filter(|(_, line)| number(line)).map(|(file, _)| file);
        (file.unwrap_or(&self.place), &self.function)
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.function {
            "" => f.write_str(&self.place),
            function => write!(f, "{} {function}", self.place),
        }
    }
}

/// Where the faults of a target are: that of an operation is in who asked for it, beyond the kernel's DMA API,
/// through which everybody goes; that of a barrier where the last operation is that it completes, for engines do
/// not tell where a barrier is; one without operations is before the start of its device.
#[derive(Debug, Clone, Default)]
pub struct Sites {
    operations: HashMap<u32, Site>,
    barriers: HashMap<u32, Site>,
    interrupts: HashMap<u32, Site>,
    accesses: Vec<(u32, MasterId)>,
    masters: Vec<Site>,
}

impl Sites {
    /// By a run without faults, with its names.
    pub fn of(fold: &Fold, result: &RunResult) -> Self {
        let mut sites = Sites::default();
        let (Some(guest), Some(execution)) = (fold.guest(), fold.execution()) else {
            return sites;
        };
        let Some(report) = &execution.report else {
            return sites;
        };
        let mut sources = Sources::of(guest, fold.reports());
        sources.kernel_at = execution.loaded.as_ref().map(|loaded| loaded.kernel_at);
        let symbols = Symbols::new(sources, execution.sites.clone());
        let place = |op: &MaintenanceOp| {
            let va = *execution.sites.get(&op.site)?;
            let chain = execution.seen.chain(op.chain)?;
            asked(&symbols.called(va, chain))
        };
        let named = result.maintenance.operations.iter();
        let callers: HashMap<u32, &str> = named.map(|op| (op.number, &*op.caller)).collect();
        let operations = || {
            let all = report.domain.maintenance.operations.iter();
            all.filter(|op| op.touched_dma())
        };
        // Many of one place.
        let mut known = HashMap::new();
        for op in operations() {
            let key = (op.site, op.chain);
            let of = || place(op).unwrap_or_else(|| by_name(callers.get(&op.number).copied()));
            let site: &Site = known.entry(key).or_insert_with(of);
            sites.operations.insert(op.number, site.clone());
        }
        let masters = report.masters.iter();
        sites.masters = masters.map(|m| Site::beside(&m.name)).collect();
        let Some(census) = &report.domain.census else {
            return sites;
        };
        let numbers: BTreeMap<u32, &Site> = sites.operations.iter().map(|(n, s)| (*n, s)).collect();
        let mut barriers = HashMap::new();
        for barrier in &census.barriers {
            let (first, last) = barrier.operations;
            let done = (first != 0).then(|| numbers.range(first..=last.max(first)).next_back());
            let site = match (done.flatten(), barrier.starts) {
                (Some((_, site)), _) => (*site).clone(),
                (None, Some(master)) => {
                    let name = report.masters.get(usize::from(master.0));
                    let name = name.map_or("a device", |master| &master.name);
                    Site::beside(&format!("before {name} is started"))
                }
                (None, None) => Site::beside("behind no maintenance"),
            };
            barriers.insert(barrier.number, site);
        }
        sites.barriers = barriers;
        let interrupts = census.interrupts.iter();
        sites.interrupts = interrupts
            .map(|one| (one.number, Site::beside(&format!("interrupt {}", one.irq))))
            .collect();
        let accesses = census.accesses.iter();
        sites.accesses = accesses.map(|one| (one.number, one.master)).collect();
        sites.accesses.sort_unstable_by_key(|one| one.0);
        sites
    }

    /// Where faults are that are tried together: nowhere, if that is not one place.
    pub fn of_all(&self, faults: &[Fault]) -> Site {
        match faults {
            [one] => self.of_one(*one),
            _ => Site::beside("combinations"),
        }
    }

    fn of_one(&self, fault: Fault) -> Site {
        let known = match fault {
            Fault::Operation(number, _) => self.operations.get(&number),
            Fault::Barrier(number, _) => self.barriers.get(&number),
            Fault::Interrupt(number, _) => self.interrupts.get(&number),
            Fault::Access(number, _) => {
                let at = self.accesses.binary_search_by_key(&number, |one| one.0);
                let access = at.ok().and_then(|at| self.accesses.get(at));
                access.and_then(|one| self.masters.get(usize::from(one.1.0)))
            }
            Fault::Host(..) => return Site::beside("the USB host"),
        };
        known.cloned().unwrap_or_else(|| Site::beside("unknown"))
    }
}

/// The innermost line that not every caller goes through; of what the kernel does by itself as it starts, the last
/// before that.
fn asked(place: &Place) -> Option<Site> {
    let mut addresses = Vec::new();
    let shown = place.all_shown(&mut addresses);
    let kernel: Vec<_> = shown
        .iter()
        .filter(|shown| shown.kernel)
        .filter_map(|shown| Some((shown, shown.file?, shown.line?)))
        .collect();
    let at = kernel.iter().position(|(shown, ..)| !shown.is_generic())?;
    let starts = kernel
        .get(at)
        .is_some_and(|(_, file, _)| file.starts_with("init/"));
    let at = if starts { at.saturating_sub(1) } else { at };
    kernel.get(at).map(|(shown, file, line)| Site {
        place: format!("{file}:{line}"),
        function: shown.function.to_owned(),
    })
}

/// Where there are no lines, there may be names.
fn by_name(caller: Option<&str>) -> Site {
    match caller {
        None | Some("") => Site::beside("unknown"),
        Some(caller) => Site {
            place: caller.to_owned(),
            function: caller.split('+').next().unwrap_or(caller).to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use staleline_results::{Frame, Hex, Stack};

    #[test]
    fn a_line_moves_and_its_function_stays() {
        let site = |place: &str| Site {
            place: place.into(),
            function: "f".into(),
        };
        assert_eq!(site("a/b.c:12").without_line(), ("a/b.c", "f"));
        assert_eq!(site("a/b.c:12").to_string(), "a/b.c:12 f");
        assert_eq!(site("f+0x12").without_line(), ("f+0x12", "f"));
        assert_eq!(Site::beside("usb").without_line(), ("(usb)", ""));
        assert_eq!(Site::beside("usb").to_string(), "(usb)");
        assert_eq!(by_name(None), Site::beside("unknown"));
        assert_eq!(by_name(Some("f+0x12/0x40")).function, "f");
    }

    #[test]
    fn a_place_is_where_it_was_asked_for() {
        let place = |called: &[(&str, &str)]| {
            let one = |(function, file): &(&str, &str)| Place {
                va: Hex(0),
                kernel: true,
                symbol: Some(format!("{function}+0x4")),
                module: None,
                program: None,
                frames: vec![Frame {
                    function: (*function).into(),
                    file: Some((*file).into()),
                    line: Some(7),
                    text: None,
                    path: None,
                }],
                stack: None,
            };
            let (first, callers) = called.split_first().unwrap();
            Place {
                stack: Some(Stack {
                    callers: callers.iter().map(one).collect(),
                    ..Stack::default()
                }),
                ..one(first)
            }
        };
        let clean = ("dcache_clean_poc", "arch/arm64/mm/cache.S");
        let map = ("dma_map_page_attrs", "kernel/dma/mapping.c");
        let driver = ("usb_map", "drivers/usb/hcd.c");
        let pool = ("dma_pool_init", "kernel/dma/pool.c");
        let init = ("do_one_initcall", "init/main.c");
        let asked = |called: &[_]| asked(&place(called)).map(|site| site.to_string());
        let told = asked(&[clean, map, driver, ("work", "kernel/workqueue.c")]);
        assert_eq!(told.as_deref(), Some("drivers/usb/hcd.c:7 usb_map"));
        let told = asked(&[clean, pool, init]);
        assert_eq!(told.as_deref(), Some("kernel/dma/pool.c:7 dma_pool_init"));
        assert_eq!(asked(&[clean, map]), None);
    }

    #[test]
    fn what_nobody_knows_is_nowhere() {
        let sites = Sites::default();
        for fault in ["drop@1", "barrier@1:dmb", "irq@1:lost", "beat@1:error"] {
            let fault: Fault = fault.parse().unwrap();
            assert_eq!(sites.of_all(&[fault]).place, "(unknown)");
            assert_eq!(sites.of_all(&[fault, fault]).place, "(combinations)");
        }
    }
}
