// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The one description of the board, from which device tree, bus and documents derive.
//!
//! A board is a list of [`Node`]s, each a [`Model`] with its interrupt and port. A node's place in the
//! list decides its register window. [`fdt`] turns the list into a device tree, [`machine`] into a
//! chip, [`Board::table`] into text; what they know of a device stands in its model.

pub mod config;
pub mod fdt;
pub mod guest;
pub mod machine;
pub mod models;
pub mod pci;
pub mod port;
pub mod settings;

use std::fmt::Write;
use std::ops::Range;

use staleline_devices::coherency::Poison;
use staleline_devices::soc::WINDOW;

use crate::boot::RAM_BASE;
use models::{MODELS, Model};
use settings::{BoardSettings, DmaRange, PortSettings};

/// Physical address of the interrupt controller's distributor, as on QEMU's `virt` (hw/arm/virt.c).
pub const GIC_DISTRIBUTOR: u64 = 0x0800_0000;

/// That of its redistributors, 128 KiB for each CPU.
pub const GIC_REDISTRIBUTORS: u64 = 0x080a_0000;

/// Physical address of the UART, a PL011.
pub const UART: u64 = 0x0900_0000;

/// Bytes of its registers.
pub const UART_BYTES: u64 = 0x1000;

/// Its shared peripheral interrupt.
pub const UART_IRQ: u8 = 1;

/// Most RAM that is poisoned, in bytes: it has to be written before the guest begins.
pub const POISONED: u64 = 256 << 20;

/// One device on the board.
#[derive(Clone)]
pub struct Node {
    /// What it is.
    pub model: &'static dyn Model,
    /// Shared peripheral interrupt, level, active high.
    pub irq: Option<u8>,
    /// Its port to memory, if it is a bus master.
    pub port: Option<PortSettings>,
}

impl Node {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.model.name()
    }
}

/// Where the upper part of RAM starts: what takes more than 32 bits to name.
const RAM_HIGH: u64 = 1 << 32;

/// The first interrupt of our devices; QEMU's `virt` has none of its own from here to 73.
const FIRST_IRQ: u8 = 48;

/// The board.
#[derive(Clone)]
pub struct Board {
    settings: BoardSettings,
    nodes: Vec<Node>,
}

impl Board {
    /// The board with these settings.
    pub fn new(settings: &BoardSettings) -> Self {
        let mut irqs = FIRST_IRQ..;
        let nodes = MODELS
            .iter()
            .filter(|model| model.present(settings))
            .map(|model| Node {
                model: *model,
                irq: model.interrupts().then(|| irqs.next()).flatten(),
                port: model.port(settings),
            })
            .collect();
        Board {
            settings: settings.clone(),
            nodes,
        }
    }

    /// One without devices: CPUs, interrupt controller, timer, UART and RAM. Its tree does not have the UART.
    pub fn bare(settings: &BoardSettings) -> Self {
        Board {
            settings: settings.clone(),
            nodes: Vec::new(),
        }
    }

    /// Its settings.
    pub fn settings(&self) -> &BoardSettings {
        &self.settings
    }

    /// Its devices, in order of their windows.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// How many CPUs.
    pub fn cpus(&self) -> u8 {
        self.settings.cpus
    }

    /// Shared interrupts, used or not: the last that a device has, and 1.
    pub fn lines(&self) -> u8 {
        let fixed = UART_IRQ.max(pci::LAST_IRQ);
        let own = self.nodes.iter().filter_map(|node| node.irq);
        own.fold(fixed, u8::max) + 1
    }

    /// Guest RAM, by physical addresses: one range, or two with nothing between them.
    pub fn ram(&self) -> Vec<Range<u64>> {
        let low = RAM_BASE..RAM_BASE + (u64::from(self.settings.ram_mib) << 20);
        let high = RAM_HIGH..RAM_HIGH + (u64::from(self.settings.ram_high_mib) << 20);
        let low = match low.end == high.start {
            true => low.start..high.end,
            false => low,
        };
        let apart = !high.is_empty() && low.end < high.start;
        std::iter::once(low).chain(apart.then_some(high)).collect()
    }

    /// Bytes of guest RAM.
    pub fn ram_bytes(&self) -> u64 {
        self.ram().iter().map(|ram| ram.end - ram.start).sum()
    }

    /// Bytes from the start of RAM to its end, with what lies between: what an engine has to provide. The
    /// guest is told of RAM only.
    pub fn memory_bytes(&self) -> u64 {
        self.ram().last().map_or(0, |ram| ram.end - RAM_BASE)
    }

    /// What RAM holds at power-on where nobody tells of stores: poison in the first 256 MiB behind what is loaded, which
    /// ends at `end`. On a board without masters, whose stores matter to nobody, it is all zero.
    pub fn poison(&self, end: u64) -> Poison {
        if self.nodes.iter().all(|node| node.port.is_none()) {
            return Poison::default();
        }
        let mut left = POISONED;
        let pages = self.ram().into_iter().map(|ram| {
            let start = ram
                .start
                .max(end.next_multiple_of(Poison::PAGE))
                .min(ram.end);
            let end = ram.end.min(start.saturating_add(left));
            left -= end - start;
            (start - RAM_BASE) / Poison::PAGE..(end - RAM_BASE) / Poison::PAGE
        });
        Poison::new(pages.filter(|pages| !pages.is_empty()).collect())
    }

    /// Whether every master reaches all RAM, with the 32 bits of address that some have.
    pub fn masters_reach_all(&self) -> bool {
        let ram = self.ram();
        let reaches = |ranges: &[DmaRange], ram: &Range<u64>| {
            // Of what lies above 4 GiB, those with few bits reach nothing.
            ram.end <= RAM_HIGH
                && (ranges.is_empty()
                    || ranges
                        .iter()
                        .any(|r| r.pa <= ram.start && ram.end <= r.pa.saturating_add(r.bytes)))
        };
        let ports = self.nodes.iter().filter_map(|node| node.port.as_ref());
        let mut ports = ports.map(|port| port.dma_ranges.as_slice());
        ports.all(|ranges| ram.iter().all(|ram| reaches(ranges, ram)))
    }

    /// Bytes of all register windows, right above RAM; a multiple of 1 MiB.
    pub fn window_bytes(&self) -> u64 {
        let windows: u64 = self.nodes.iter().map(|node| node.model.windows()).sum();
        (windows * WINDOW).next_multiple_of(1 << 20)
    }

    /// Whether the last device has two windows.
    pub fn is_wide(&self) -> bool {
        self.nodes
            .last()
            .is_some_and(|node| node.model.windows() > 1)
    }

    /// The node of the SMMU, and the stream of a node's master, if the one stands in front of the other.
    pub fn stream(&self, index: usize) -> Option<(usize, u32)> {
        let smmu = self.settings.smmu.as_ref()?;
        let master = self.nodes.get(index)?.model.translated_as()?;
        let translator = self
            .nodes
            .iter()
            .position(|node| node.model.windows() > 1)?;
        smmu.translates(master)
            .then_some((translator, index as u32))
    }

    /// Physical address of a node's window.
    pub fn window(&self, index: usize) -> u64 {
        RAM_BASE + self.memory_bytes() + index as u64 * WINDOW
    }

    /// The board as a table for people.
    pub fn table(&self) -> String {
        let mut out = String::from("device         registers    IRQ  port       dma-coherent\n");
        for (i, n) in self.nodes.iter().enumerate() {
            let irq = n.irq.map_or("-".into(), |s| s.to_string());
            let (port, claims) = match &n.port {
                None => ("-", "-"),
                Some(p) => (
                    p.port.name(),
                    if p.claims_coherent() { "yes" } else { "no" },
                ),
            };
            let at = self.window(i);
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "{:<14} {at:#010x}   {irq:<4} {port:<10} {claims}",
                n.name()
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With all that a board can have.
    fn full() -> Board {
        Board::new(&BoardSettings {
            gdma: Some(PortSettings::new(settings::Port::Hp)),
            smmu: Some(settings::SmmuSettings {
                port: settings::Port::Hp,
                dma_coherent: None,
                masters: None,
            }),
            blk: Some(settings::BlkSettings {
                port: settings::Port::Hp,
                dma_coherent: None,
                dma_ranges: Vec::new(),
                tell_dma_ranges: true,
                order_platform: true,
            }),
            ..BoardSettings::default()
        })
    }

    #[test]
    fn the_table_in_the_documents_is_that_of_the_board() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ARCHITECTURE.md");
        let text = std::fs::read_to_string(file).unwrap();
        let table = full().table();
        assert!(
            text.contains(&table),
            "ARCHITECTURE.md should have:\n{table}"
        );
    }

    #[test]
    fn what_may_be_left_out_moves_nothing() {
        let (least, most) = (Board::new(&BoardSettings::default()), full());
        assert_eq!(most.nodes().len(), MODELS.len());
        assert!(least.nodes().len() < MODELS.len());
        for (n, node) in least.nodes().iter().enumerate() {
            let same = &most.nodes()[n];
            assert_eq!((node.name(), node.irq), (same.name(), same.irq));
            assert_eq!(least.window(n), most.window(n));
        }
    }

    #[test]
    fn ram_is_in_one_piece_or_in_two() {
        let board = |ram_mib, ram_high_mib| {
            let board = Board::new(&BoardSettings {
                ram_mib,
                ram_high_mib,
                ..BoardSettings::default()
            });
            let pieces = board.ram();
            let pieces: Vec<_> = pieces
                .iter()
                .map(|r| (r.start >> 20, r.end >> 20))
                .collect();
            (pieces, board.ram_bytes() >> 20, board.window(0) >> 20)
        };
        assert_eq!(board(128, 0), (vec![(1024, 1152)], 128, 1152));
        let two = vec![(1024, 1152), (4096, 4160)];
        assert_eq!(board(128, 64), (two, 192, 4160));
        assert_eq!(board(3072, 64), (vec![(1024, 4160)], 3136, 4160));
        assert_eq!(board(3072, 0), (vec![(1024, 4096)], 3072, 4096));
    }

    #[test]
    fn poison_is_in_the_first_part_of_ram_behind_what_is_loaded() {
        let poison = |ram_mib, ram_high_mib, end| {
            let board = Board::new(&BoardSettings {
                ram_mib,
                ram_high_mib,
                ..BoardSettings::default()
            });
            let poison = board.poison(RAM_BASE + end);
            let pages = poison.pages().iter();
            pages.map(|r| (r.start, r.end)).collect::<Vec<_>>()
        };
        assert_eq!(poison(128, 0, 0x5001), [(6, 0x8000)]);
        assert_eq!(poison(128, 64, 0), [(0, 0x8000), (0xc_0000, 0xc_4000)]);
        assert_eq!(poison(3072, 64, 0x1000), [(1, 0x1_0001)]);
        assert_eq!(poison(64, 0, 64 << 20), []);
        let bare = Board::bare(&BoardSettings::default());
        assert_eq!(bare.poison(RAM_BASE).pages(), []);
    }

    #[test]
    fn windows_and_interrupts_are_distinct() {
        let board = full();
        let mut irqs: Vec<_> = board.nodes().iter().filter_map(|n| n.irq).collect();
        let count = irqs.len();
        irqs.sort_unstable();
        irqs.dedup();
        assert_eq!(irqs.len(), count);
        assert!(irqs.iter().all(|s| *s < 64), "the chip has lines 0 to 63");
        assert_eq!(irqs.last().map(|last| last + 1), Some(board.lines()));
        // What is on any board: the UART and the PCI host bridge.
        assert_eq!(Board::bare(&BoardSettings::default()).lines(), 7);
        assert!(
            board.window(board.nodes().len())
                <= RAM_BASE + board.memory_bytes() + board.window_bytes()
        );
    }
}
