// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Modules of the user's: inserted, and told where their code is.
//!
//! The kernel lists a module's sections below /sys/module before it calls init, and goes on to list
//! those of the init itself when they are gone. So of a module that is in, all is known afterwards. Of
//! one whose init fails, hangs or takes the kernel down, nothing is left: for that, a thread looks
//! while init runs, whenever init waits for something. One that fails does, if only for the grace period
//! of RCU before its memory is given back.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use staleline_guest::{Context, Error, Mount, before_others};
use staleline_protocol::plan::Module;
use staleline_protocol::report::Report;

use crate::boot::Console;
use crate::error::Trouble;
use crate::kmsg::Log;
use crate::ktap::{Ktap, Outcome};

const MODULES: &str = "/sys/module";
const LIST: &str = "/proc/modules";
const RESTRICT: &str = "/proc/sys/kernel/kptr_restrict";
/// Between two looks, in guest time.
const STEP: Duration = Duration::from_millis(1);
/// Messages of the kernel that are told with an error, and characters of each.
const SAID: usize = 16;
const SAID_CHARS: usize = 300;
/// Modules of others that are told.
const OTHERS: usize = 64;
/// Sections told.
const SECTIONS: usize = 64;

/// Inserts them in order, each as a test of `ktap`; false if the init of one has failed, of which the
/// others get no try.
pub fn insert<W: Write>(ktap: &mut Ktap<W>, modules: &[Module]) -> Result<bool, Trouble> {
    let mut all_in = true;
    for module in modules {
        let test = format!("module {}", module.name);
        if !all_in {
            ktap.test(&test, &Outcome::Skip);
            continue;
        }
        let done = insert_one(ktap, module);
        let outcome = match &done {
            Ok(None) => Outcome::Pass,
            Ok(Some(e)) => Outcome::Fail(format!("its init failed: {e}")),
            Err(e) => Outcome::Error(e.to_string()),
        };
        ktap.test(&test, &outcome);
        all_in = done?.is_none();
    }
    Ok(all_in)
}

/// Tells of modules that somebody else has inserted and left there, as far as the kernel does.
pub fn tell_others<W: Write>(ktap: &mut Ktap<W>, known: &[Module]) {
    let list = fs::read_to_string(LIST).unwrap_or_default();
    let names = list.lines().filter_map(|line| line.split(' ').next());
    let others = names.filter(|name| known.iter().all(|module| module.name != *name));
    for name in others.take(OTHERS) {
        let sections = sections(Path::new(MODULES), name);
        if !sections.is_empty() {
            ktap.report(&Report::Module {
                name: name.to_owned(),
                file: None,
                sections,
            });
        }
    }
}

/// The error of its init, if it had one. What kept the kernel from calling that is an error of the plan.
fn insert_one<W: Write>(ktap: &mut Ktap<W>, module: &Module) -> Result<Option<io::Error>, Trouble> {
    Mount::Dev.mount()?;
    // Addresses are for root, unless they are for nobody.
    if fs::read_to_string(RESTRICT).is_ok_and(|level| level.trim() == "2") {
        fs::write(RESTRICT, "1").file("write", RESTRICT)?;
    }
    let mut log = Log::open()?;
    let file = File::open(&module.file).file("open", &module.file)?;
    let parameters = CString::new(module.parameters.as_str());
    let parameters = parameters.call("finit_module", &module.name)?;
    let watch = Watch::begin(module)?;
    let inserted = rustix::system::finit_module(&file, &parameters, 0);
    let seen = watch.end();
    let inserted = inserted.map_err(io::Error::from);
    if inserted.is_ok() {
        // Nobody had to wait, so nobody has looked; or not all was there.
        let sections = sections(Path::new(MODULES), &module.name);
        if !sections.is_empty() && seen.as_ref() != Some(&sections) {
            ktap.report(&told(module, sections));
        }
    }
    let said = match inserted {
        Ok(()) => Vec::new(),
        Err(_) => said(&mut log)?,
    };
    let error = match inserted {
        Ok(()) => None,
        Err(e) if seen.is_some() => Some(e),
        Err(source) => {
            return Err(Trouble::Module {
                file: module.file.clone(),
                source,
                said: said.join("; "),
            });
        }
    };
    ktap.report(&Report::Inserted {
        name: module.name.clone(),
        error: error.as_ref().map(|e| e.raw_os_error().unwrap_or_default()),
        said,
    });
    Ok(error)
}

/// What the kernel has said.
fn said(log: &mut Log) -> Result<Vec<String>, Error> {
    let mut said = Vec::new();
    while let Some(message) = log.try_next()? {
        // That it is not the kernel's own, nobody has to be told.
        let taint = message.contains("taints kernel") || message.contains("tainting kernel");
        if said.len() < SAID && !taint {
            said.push(message.chars().take(SAID_CHARS).collect());
        }
    }
    Ok(said)
}

fn told(module: &Module, sections: Vec<(String, u64)>) -> Report {
    Report::Module {
        name: module.name.clone(),
        file: Some(module.file.clone()),
        sections,
    }
}

/// A thread that looks for a module's sections as long as its init runs, and tells of them at once:
/// there may be no later.
struct Watch {
    over: Arc<AtomicBool>,
    seen: Receiver<Vec<(String, u64)>>,
    thread: JoinHandle<()>,
}

impl Watch {
    fn begin(module: &Module) -> Result<Self, Error> {
        let over = Arc::new(AtomicBool::new(false));
        let (ready, begun) = channel();
        let (found, seen) = channel();
        let thread = {
            let (over, module) = (Arc::clone(&over), module.clone());
            thread::Builder::new().spawn(move || {
                let looked = before_others(|| {
                    let _ = ready.send(());
                    while !over.load(Ordering::Relaxed) {
                        let sections = sections(Path::new(MODULES), &module.name);
                        if !sections.is_empty() {
                            let line = told(&module, sections.clone()).to_line();
                            let _ = Console.write_all(format!("{line}\n").as_bytes());
                            let _ = found.send(sections);
                            break;
                        }
                        thread::sleep(STEP);
                    }
                });
                // Without the right to go first, it only sees less.
                drop(looked);
            })
        };
        let thread = thread.call("clone", &module.name)?;
        // When it looks for the first time, there is nothing yet.
        let _ = begun.recv();
        Ok(Watch { over, seen, thread })
    }

    /// What it has seen. There is no other thread afterwards.
    fn end(self) -> Option<Vec<(String, u64)>> {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        self.seen.try_recv().ok()
    }
}

/// Name and address of each section of a module that has code; none if the kernel does not tell.
fn sections(modules: &Path, name: &str) -> Vec<(String, u64)> {
    let dir = modules.join(name).join("sections");
    let Ok(entries) = fs::read_dir(&dir) else {
        return Vec::new();
    };
    let mut sections: Vec<(String, u64)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let text = name.contains("text") || name.starts_with(".plt");
            let address = text.then(|| fs::read_to_string(entry.path()).ok())??;
            let address = u64::from_str_radix(address.trim().strip_prefix("0x")?, 16).ok()?;
            (address != 0).then_some((name, address))
        })
        .take(SECTIONS)
        .collect();
    sections.sort_unstable();
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_with_code_are_told() {
        let dir = tempfile::tempdir().unwrap();
        assert!(sections(dir.path(), "foo").is_empty());
        let of = dir.path().join("foo/sections");
        fs::create_dir_all(&of).unwrap();
        for (name, text) in [
            (".text", "0xffff80007a000000\n"),
            (".init.text", "0xffff80007a00a000\n"),
            (".data", "0xffff80007a002000\n"),
            (".exit.text", "0x0000000000000000\n"),
            (".text.unlikely", "rubbish\n"),
        ] {
            fs::write(of.join(name), text).unwrap();
        }
        let found = sections(dir.path(), "foo");
        let names: Vec<_> = found
            .iter()
            .map(|(name, at)| (name.as_str(), *at))
            .collect();
        assert_eq!(
            names,
            [
                (".init.text", 0xffff_8000_7a00_a000),
                (".text", 0xffff_8000_7a00_0000)
            ]
        );
    }
}
