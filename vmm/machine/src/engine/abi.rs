// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the engine's two halves agree on: the parent process, which starts QEMU, and the plugin
//! inside QEMU, which hosts the machine.
//!
//! The parent passes file descriptors: guest RAM, a [`TcgConfig`] as JSON, the plugin's end of
//! QEMU's qtest socket, and a control socket that carries one JSON message a line: [`ToPlugin`]
//! one way, [`FromPlugin`] the other. What grows with the run leaves by files, whose paths the
//! configuration has: see [`handover`](crate::engine::handover).

use std::fmt;
use std::num::NonZeroU64;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use staleline_devices::cpu::SiteId;

use crate::engine::{BufferCode, GuestKind, SiteTable};
use crate::events::Recording;

/// Version of everything in this module; both halves must agree.
pub const ABI_VERSION: u32 = 8;

/// Exit status of a QEMU whose plugin has given up, after it has said why: see
/// [`FromPlugin::Fatal`]. QEMU itself uses 0 and 1.
pub const FATAL_EXIT_CODE: i32 = 86;

/// How the machine's own log messages start, among others on QEMU's stderr.
pub const LOG_PREFIX: &str = "staleline: ";

/// The plugin's configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcgConfig {
    /// [`ABI_VERSION`].
    pub abi: u32,
    /// Descriptor of the guest RAM file: RAM, then the windows.
    pub ram_fd: i32,
    /// Descriptor of the control socket.
    pub control_fd: i32,
    /// Descriptor of the qtest socket.
    pub qtest_fd: i32,
    /// Physical address of the file's first byte.
    pub ram_base: u64,
    /// Bytes of RAM.
    pub ram_bytes: u64,
    /// Bytes of the device windows that follow.
    pub window_bytes: u64,
    /// Where to write the site table.
    pub sites: PathBuf,
    /// Where to write [`Observations`](crate::engine::Observations).
    pub seen: PathBuf,
    /// Where to write the machine's report.
    pub report: PathBuf,
    /// Check every translation.
    pub selfcheck: bool,
    /// Steps of the machine after which to go on with one made from its saved state.
    pub save_restore: Option<NonZeroU64>,
    /// Numbers of the loads and stores whose call chains are wanted, ascending.
    pub trace: Vec<u64>,
    /// The kernel's functions for shared buffers.
    pub calls: Option<BufferCode>,
    /// What to record of what happens on the machine.
    pub events: Option<Recording>,
    /// Stop the guest for its snapshot.
    pub save: Option<SaveAt>,
    /// Go on from there: descriptor of a file with the state that [`SaveAt::fd`] was given. Guest RAM is then
    /// QEMU's private mapping of its file.
    pub from: Option<i32>,
    /// Which machine.
    pub guest: GuestKind,
    /// The machine's own configuration.
    pub machine: serde_json::Value,
}

/// When to save the machine, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaveAt {
    /// When the guest has written this line on its console, without white space at its end.
    pub after: String,
    /// Descriptor of an empty file for the state.
    pub fd: i32,
}

/// Messages to the plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum ToPlugin {
    /// The CPU is about to run.
    Start {
        /// QOM path of the interrupt controller.
        gic: String,
    },
}

/// Messages from the plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum FromPlugin {
    /// The machine runs.
    Started,
    /// The plugin cannot go on, and ends QEMU with [`FATAL_EXIT_CODE`].
    Fatal {
        /// Why.
        message: String,
    },
    /// The machine has been saved, and QEMU is about to stop.
    Saved {
        /// Loads and stores so far.
        accesses: u64,
    },
    /// There is no going on from that state; the plugin ends QEMU with [`FATAL_EXIT_CODE`].
    Refused {
        /// Why.
        message: String,
    },
    /// The guest has ended and all files are written.
    Finished {
        /// The engine's counters.
        stats: TcgStats,
        /// How often the machine was saved and restored.
        restored: u64,
    },
}

/// Counters of the engine, apart from the machine's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcgStats {
    /// Page-table walks for data accesses.
    pub walks: u64,
    /// Accesses whose page the walk did not find; the machine has not seen them. Not zero means
    /// that the engine does not understand the guest's page tables.
    pub untranslated: u64,
    /// Interrupt line changes told to QEMU.
    pub irq_changes: u64,
    /// Cache maintenance by virtual address to the point of coherency.
    pub maintenance: u64,
    /// Cache maintenance by set and way; the machine has not seen it.
    pub set_way: u64,
    /// Blocks zeroed with `dc zva`.
    pub zva: u64,
    /// Pages whose translated code QEMU was told to drop, because a device had written there.
    #[serde(default)]
    pub code_pages: u64,
    /// Instructions that changed or invalidated translations.
    pub mmu_events: u64,
    /// Translations compared with QEMU's own; 0 without selfcheck.
    pub checked: u64,
    /// Of these, how many differed.
    pub mismatches: u64,
    /// The first of them.
    #[serde(default)]
    pub first_mismatch: Option<Box<Mismatch>>,
    /// Register reads that gave the CPU something else than the machine says it should have; 0
    /// without selfcheck.
    #[serde(default)]
    pub register_mismatches: u64,
}

impl TcgStats {
    /// What the engine got wrong about the guest, if anything.
    #[must_use]
    pub fn misunderstood(&self, sites: &SiteTable) -> Option<String> {
        if self.register_mismatches != 0 {
            return Some(format!(
                "{} register reads gave the guest something else than the devices say",
                self.register_mismatches
            ));
        }
        if self.untranslated == 0 && self.mismatches == 0 {
            return None;
        }
        let first = self.first_mismatch.as_ref().map(|first| {
            let pc = sites.pc(first.site);
            let pc = pc.map_or("of unknown place".into(), |pc| format!("at {pc:#x}"));
            format!("; the first: {first}, by the instruction {pc}")
        });
        Some(format!(
            "the engine does not understand the guest's page tables: {} accesses not translated, {} \
             translated differently from QEMU{}",
            self.untranslated,
            self.mismatches,
            first.unwrap_or_default()
        ))
    }
}

/// A load or store whose address the engine translated differently from QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// The virtual address.
    pub va: u64,
    /// The instruction.
    pub site: SiteId,
    /// Which check it was, from 1.
    pub number: u64,
    /// The engine's physical address; `None` if its walk found nothing.
    pub own: Option<u64>,
    /// QEMU's physical address; `None` if QEMU takes it for a device.
    pub qemu: Option<u64>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "access {} to va {:#x}: pa ", self.number, self.va)?;
        match self.own {
            Some(own) => write!(f, "{own:#x}")?,
            None => f.write_str("unknown")?,
        }
        f.write_str(" by the engine's walk, ")?;
        match self.qemu {
            Some(qemu) => write!(f, "{qemu:#x} by QEMU"),
            None => f.write_str("a device by QEMU"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_translation_that_differs_is_named() {
        let mut sites = SiteTable::default();
        let site = sites.push(0xffff_8000_8001_2344, true);
        let mut stats = TcgStats::default();
        assert_eq!(stats.misunderstood(&sites), None);
        stats.checked = 9;
        stats.mismatches = 2;
        stats.first_mismatch = Some(Box::new(Mismatch {
            va: 0xffff_0000_0123_4568,
            site,
            number: 7,
            own: Some(0x4123_4568),
            qemu: None,
        }));
        assert_eq!(
            stats.misunderstood(&sites).unwrap(),
            "the engine does not understand the guest's page tables: 0 accesses not translated, \
             2 translated differently from QEMU; the first: access 7 to va 0xffff000001234568: \
             pa 0x41234568 by the engine's walk, a device by QEMU, by the instruction at \
             0xffff800080012344"
        );
        let stats = TcgStats {
            untranslated: 3,
            ..TcgStats::default()
        };
        let text = stats.misunderstood(&sites).unwrap();
        assert!(text.ends_with("3 accesses not translated, 0 translated differently from QEMU"));
    }
}
