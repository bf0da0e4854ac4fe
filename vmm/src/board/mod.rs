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
pub mod settings;

use std::fmt::Write;

use staleline_devices::soc::WINDOW;

use crate::boot::RAM_BASE;
use models::{MODELS, Model};
use settings::{BoardSettings, PortSettings};

/// One device on the board.
#[derive(Clone, Copy)]
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

    /// One without devices: CPUs, interrupt controller, timer, UART and RAM.
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

    /// Bytes of guest RAM.
    pub fn ram_bytes(&self) -> u64 {
        u64::from(self.settings.ram_mib) << 20
    }

    /// Bytes of all register windows, right above RAM; a multiple of 1 MiB.
    pub fn window_bytes(&self) -> u64 {
        (self.nodes.len() as u64 * WINDOW).next_multiple_of(1 << 20)
    }

    /// Physical address of a node's window.
    pub fn window(&self, index: usize) -> u64 {
        RAM_BASE + self.ram_bytes() + index as u64 * WINDOW
    }

    /// The board as a table for people.
    pub fn table(&self) -> String {
        let mut out = String::from("device         registers    IRQ  port       dma-coherent\n");
        for (i, n) in self.nodes.iter().enumerate() {
            let irq = n.irq.map_or("-".into(), |s| s.to_string());
            let (port, claims) = match n.port {
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
            gdma: Some(PortSettings {
                port: settings::Port::Hp,
                dma_coherent: None,
            }),
            blk: Some(settings::BlkSettings {
                port: settings::Port::Hp,
                dma_coherent: None,
                order_platform: true,
            }),
            ..BoardSettings::default()
        })
    }

    #[test]
    fn the_table_in_the_documents_is_that_of_the_board() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../ARCHITECTURE.md");
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
    fn windows_and_interrupts_are_distinct() {
        let board = full();
        let mut irqs: Vec<_> = board.nodes().iter().filter_map(|n| n.irq).collect();
        let count = irqs.len();
        irqs.sort_unstable();
        irqs.dedup();
        assert_eq!(irqs.len(), count);
        assert!(irqs.iter().all(|s| *s < 64), "the chip has lines 0 to 63");
        assert!(
            board.window(board.nodes().len())
                <= RAM_BASE + board.ram_bytes() + board.window_bytes()
        );
    }
}
