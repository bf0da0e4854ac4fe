// SPDX-License-Identifier: GPL-2.0-or-later
//! Builds the machine from its configuration.

use std::fs::File;
use std::os::unix::net::UnixStream;

use staleline_devices::state::Saved;
use staleline_machine::engine::abi::TcgConfig;
use staleline_machine::engine::guest::{Guest, GuestContext};
use staleline_machine::events::{EventLog, Head};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

use crate::calls::Calls;
use crate::chain::Trace;
use crate::core::{Core, Parts};
use crate::mapped::Whole;
use crate::qtest::Qtest;
use crate::sites::Sites;

/// A machine of type `M` over the configuration's RAM file, behind a core.
///
/// # Errors
/// What is wrong, for the user.
pub fn core<M: Guest>(
    config: &TcgConfig,
    qtest: Qtest<UnixStream>,
) -> Result<Core<M, UnixStream>, String> {
    #[cfg(feature = "mutate")]
    mutate()?;
    let window_base = config
        .ram_base
        .checked_add(config.ram_bytes)
        .ok_or("guest RAM ends beyond the address space")?;
    let end = window_base
        .checked_add(config.window_bytes)
        .ok_or("the device windows end beyond the address space")?;
    let (ram_bytes, window_bytes) = (config.ram_bytes, config.window_bytes);
    let memory = Memory::of(config)?;
    let ram = memory.map(0, config.ram_base, ram_bytes)?;
    let windows = memory.map(ram_bytes, window_base, window_bytes)?;
    let machine = M::new(GuestContext {
        ram: memory.part(0, ram_bytes)?,
        ram_base: config.ram_base,
        windows: match window_bytes {
            0 => None,
            bytes => Some(memory.part(ram_bytes, bytes)?),
        },
        dram: None,
        lazy: None,
        machine: config.machine.clone(),
    })?;
    Ok(Core::new(Parts {
        machine,
        ram,
        windows,
        memory: config.ram_base..end,
        selfcheck: config.selfcheck,
        qtest,
        trace: Trace::new(&config.trace),
        calls: Calls::new(config.calls.as_ref()),
    }))
}

/// Turns off the rule that STALELINE_RULE_OFF names.
#[cfg(feature = "mutate")]
fn mutate() -> Result<(), String> {
    use staleline_devices::coherency::mutate::{Rule, turn_off_everywhere};
    let name = std::env::var("STALELINE_RULE_OFF").unwrap_or_default();
    let named = Rule::ALL
        .iter()
        .find(|(rule, _)| format!("{rule:?}") == name);
    match named {
        Some((rule, _)) => turn_off_everywhere(*rule),
        None if name.is_empty() => {}
        None => {
            return Err(format!(
                "STALELINE_RULE_OFF={name} is no rule of the sanitizer"
            ));
        }
    }
    Ok(())
}

/// Lets the machine tell its events to the log that the configuration names, if it does; `sites` are those
/// of its code.
///
/// # Errors
/// If the log cannot be written, for the user.
pub fn record<M: Guest>(
    config: &TcgConfig,
    machine: &mut M,
    sites: &mut Sites,
) -> Result<(), String> {
    if let Some(recording) = &config.events {
        let head = Head {
            names: machine.names(),
            filter: recording.filter,
            limit: recording.limit,
        };
        let log = EventLog::open(recording, &head, sites.shared())
            .map_err(|e| format!("cannot write {}: {e}", recording.path.display()))?;
        machine.watch(recording.filter.0, Box::new(log));
    }
    Ok(())
}

/// Takes over the state that the configuration names, if it does; the sites of code that it knows.
///
/// # Errors
/// Why it does not, for the user. The core is then of no more use.
pub fn restore<M: Guest>(
    config: &TcgConfig,
    core: &mut Core<M, UnixStream>,
) -> Result<Sites, String> {
    let Some(fd) = config.from else {
        return Ok(Sites::default());
    };
    let sealed = std::fs::read(format!("/proc/self/fd/{fd}"));
    let sealed = sealed.map_err(|e| format!("the snapshot cannot be read: {e}"))?;
    let saved = Saved::unseal(&sealed).map_err(|e| e.to_string())?;
    drop(sealed);
    core.restore(&saved).map_err(|e| e.to_string())
}

/// Guest memory: RAM, then the windows.
enum Memory {
    /// A file that QEMU shares.
    Shared(File),
    /// What QEMU has for itself.
    Private(Whole),
}

impl Memory {
    fn of(config: &TcgConfig) -> Result<Self, String> {
        let file = File::options()
            .read(true)
            .write(config.from.is_none())
            .open(format!("/proc/self/fd/{}", config.ram_fd))
            .map_err(|e| failed(&e))?;
        if config.from.is_none() {
            return Ok(Memory::Shared(file));
        }
        let bytes = config.ram_bytes.saturating_add(config.window_bytes);
        let bytes = usize::try_from(bytes).map_err(|e| failed(&e))?;
        let whole = Whole::find(&file, bytes).map_err(|e| failed(&e))?;
        Ok(Memory::Private(whole))
    }

    /// A part of it; one of no bytes is an empty memory.
    fn map(&self, offset: u64, base: u64, bytes: u64) -> Result<GuestMemoryMmap, String> {
        if bytes == 0 {
            return Ok(GuestMemoryMmap::new());
        }
        let region = self.part(offset, bytes)?;
        let region = GuestRegionMmap::new(region, GuestAddress(base));
        let region = region.ok_or("guest RAM ends beyond the address space")?;
        GuestMemoryMmap::from_regions(vec![region]).map_err(|e| failed(&e))
    }

    /// The same for the machine.
    fn part(&self, offset: u64, bytes: u64) -> Result<MmapRegion, String> {
        let len = usize::try_from(bytes).map_err(|e| failed(&e))?;
        match self {
            Memory::Shared(file) => {
                let file = file.try_clone().map_err(|e| failed(&e))?;
                let file = FileOffset::new(file, offset);
                MmapRegion::from_file(file, len).map_err(|e| failed(&e))
            }
            Memory::Private(whole) => {
                let offset = usize::try_from(offset).map_err(|e| failed(&e))?;
                whole.part(offset, len).map_err(|e| failed(&e))
            }
        }
    }
}

fn failed(e: &dyn std::error::Error) -> String {
    format!("cannot map guest memory: {e}")
}
