// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The device tree, written from the board's description.
//!
//! Every provider is a fixed clock: there is no firmware, no power domain and no reset line, so no
//! driver waits for one. Nothing is inherited that could make a device coherent by accident: each
//! master's node says `dma-coherent` itself, or not.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};
use staleline_devices::soc::WINDOW;
use vm_fdt::{Error, FdtWriter, FdtWriterNode};

use super::port::{COHERENCY_PORT, COHERENCY_PORT_BYTES, COMPATIBLE};
use super::settings::{DmaRange, PortSettings};
use super::{Board, GIC_DISTRIBUTOR, GIC_REDISTRIBUTORS, Node, UART, UART_BYTES, UART_IRQ, pci};
use crate::boot::{Layout, RAM_BASE};

const GIC: u32 = 1;
const CLOCK_APB: u32 = 2;
const CLOCK_FABRIC: u32 = 3;
const CLOCK_ADC: u32 = 4;
const CLOCK_DAC: u32 = 5;
/// Handles of the board's nodes follow, by index.
const FIRST_NODE: u32 = 16;

/// What the boot loader adds to the board.
#[derive(Debug, Clone)]
pub struct Chosen<'a> {
    /// Kernel command line.
    pub bootargs: &'a str,
    /// The run's plan for the guest agent, as JSON; see [`staleline_protocol::plan`].
    pub plan: &'a str,
    /// What the kernel's random numbers start from. Without, it waits for noise of its own, seconds long on
    /// a machine as even as this.
    pub seed: u64,
    /// Whether there is a port by which the guest tells of its cache maintenance.
    pub port: bool,
    /// Where the images stand.
    pub layout: &'a Layout,
}

/// Labels of the board's devices, by which overlays name them, each with the path of its node, in the order of
/// [`nodes`](Board::nodes).
pub fn labels(board: &Board) -> Vec<(String, String)> {
    let nodes = board.nodes().iter().enumerate();
    let label = nodes.map(|(index, node)| {
        let path = match bus_name(node) {
            Some(bus) => format!("/{bus}/{}", node_name(board, index, node)),
            None => format!("/{}", node_name(board, index, node)),
        };
        (node.name().replace('-', "_"), path)
    });
    label.collect()
}

/// The path of the node that says where RAM is.
pub fn memory() -> String {
    format!("/memory@{RAM_BASE:x}")
}

/// Writes the blob.
///
/// # Errors
/// [`Error`] if a name or value is not allowed in a device tree.
pub fn write(board: &Board, chosen: &Chosen<'_>) -> Result<Vec<u8>, Error> {
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    fdt.property_string("compatible", "staleline,zynqmp-like")?;
    fdt.property_string("model", "Staleline ZynqMP-like board")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("interrupt-parent", GIC)?;
    // A bare board has nothing that a driver would be for.
    let is_bare = board.nodes().is_empty();
    write_chosen(&mut fdt, chosen, is_bare)?;
    write_cpu_side(&mut fdt, board)?;
    if !is_bare {
        write_console(&mut fdt)?;
    }
    if chosen.port {
        write_port(&mut fdt)?;
    }
    if let Some(settings) = &board.settings().pci {
        pci::write(&mut fdt, settings, GIC)?;
    }
    for (index, node) in board.nodes().iter().enumerate() {
        write_node(&mut fdt, board, index, node)?;
    }
    fdt.end_node(root)?;
    fdt.finish()
}

/// Of a device on a bus of its own, as one is needed to say which memory it has, the bus.
fn bus_name(node: &Node) -> Option<String> {
    let ranges = node.port.as_ref()?.told_ranges();
    (!ranges.is_empty()).then(|| format!("{}-bus", node.name()))
}

fn node_name(board: &Board, index: usize, node: &Node) -> String {
    format!("{}@{:x}", node.name(), board.window(index))
}

fn write_chosen(fdt: &mut FdtWriter, chosen: &Chosen<'_>, is_bare: bool) -> Result<(), Error> {
    let node = fdt.begin_node("chosen")?;
    fdt.property_string("bootargs", chosen.bootargs)?;
    if !is_bare {
        fdt.property_string("stdout-path", "/pl011@9000000")?;
    }
    fdt.property_string(staleline_protocol::plan::FDT_PROPERTY, chosen.plan)?;
    fdt.property_array_u64("rng-seed", &entropy(chosen.seed))?;
    if let Some(initrd) = &chosen.layout.initrd {
        fdt.property_u64("linux,initrd-start", initrd.start)?;
        fdt.property_u64("linux,initrd-end", initrd.end)?;
    }
    fdt.end_node(node)
}

/// As many bits as the kernel wants before it calls its random numbers good (POOL_READY_BITS in
/// drivers/char/random.c: 256), and as random as a run may be that can be done again.
fn entropy(seed: u64) -> [u64; 4] {
    /// Keeps them apart from whatever else begins with the run's seed.
    const APART: u64 = 0x726e_672d_7365_6564;
    let mut rng = SplitMix64::seed_from_u64(seed ^ APART);
    std::array::from_fn(|_| rng.next_u64())
}

/// What QEMU's `virt` machine provides (hw/arm/virt.c): CPU, interrupt controller, timer, UART.
fn write_cpu_side(fdt: &mut FdtWriter, board: &Board) -> Result<(), Error> {
    let memory = fdt.begin_node(memory().trim_start_matches('/'))?;
    fdt.property_string("device_type", "memory")?;
    let ram = board.ram().into_iter();
    let ram: Vec<u64> = ram.flat_map(|r| [r.start, r.end - r.start]).collect();
    fdt.property_array_u64("reg", &ram)?;
    fdt.end_node(memory)?;

    let cpus = fdt.begin_node("cpus")?;
    fdt.property_u32("#address-cells", 1)?;
    fdt.property_u32("#size-cells", 0)?;
    for n in 0..u32::from(board.cpus()) {
        let cpu = fdt.begin_node(&format!("cpu@{n:x}"))?;
        fdt.property_string("device_type", "cpu")?;
        fdt.property_string("compatible", "arm,cortex-a53")?;
        fdt.property_string("enable-method", "psci")?;
        // MPIDR_EL1: all in one cluster.
        fdt.property_u32("reg", n)?;
        fdt.end_node(cpu)?;
    }
    fdt.end_node(cpus)?;

    let psci = fdt.begin_node("psci")?;
    fdt.property_string_list(
        "compatible",
        vec!["arm,psci-1.0".into(), "arm,psci-0.2".into()],
    )?;
    fdt.property_string("method", "hvc")?;
    fdt.end_node(psci)?;

    let gic = fdt.begin_node("interrupt-controller@8000000")?;
    fdt.property_string("compatible", "arm,gic-v3")?;
    fdt.property_u32("#interrupt-cells", 3)?;
    fdt.property_null("interrupt-controller")?;
    fdt.property_array_u64(
        "reg",
        &[GIC_DISTRIBUTOR, 0x1_0000, GIC_REDISTRIBUTORS, 0xf6_0000],
    )?;
    fdt.property_u32("phandle", GIC)?;
    fdt.end_node(gic)?;

    let timer = fdt.begin_node("timer")?;
    fdt.property_string("compatible", "arm,armv8-timer")?;
    // Private interrupts, level, active high: secure, non-secure, virtual, hypervisor.
    fdt.property_array_u32("interrupts", &[1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4])?;
    fdt.property_null("always-on")?;
    fdt.end_node(timer)
}

/// The console's UART, and the clocks of the board.
fn write_console(fdt: &mut FdtWriter) -> Result<(), Error> {
    write_clock(fdt, "clock-apb", CLOCK_APB, 24_000_000)?;
    write_clock(fdt, "clock-fabric", CLOCK_FABRIC, 100_000_000)?;
    write_clock(fdt, "clock-adc", CLOCK_ADC, 65_000_000)?;
    // AD9739A: 1.6 to 2.5 GHz.
    write_clock(fdt, "clock-dac", CLOCK_DAC, 2_400_000_000)?;

    let uart = fdt.begin_node("pl011@9000000")?;
    fdt.property_string_list(
        "compatible",
        vec!["arm,pl011".into(), "arm,primecell".into()],
    )?;
    fdt.property_array_u64("reg", &[UART, UART_BYTES])?;
    fdt.property_array_u32("interrupts", &[0, UART_IRQ.into(), 4])?;
    fdt.property_array_u32("clocks", &[CLOCK_APB, CLOCK_APB])?;
    fdt.property_string_list("clock-names", vec!["uartclk".into(), "apb_pclk".into()])?;
    fdt.end_node(uart)
}

fn write_port(fdt: &mut FdtWriter) -> Result<(), Error> {
    let node = fdt.begin_node(&format!("coherency-port@{COHERENCY_PORT:x}"))?;
    fdt.property_string("compatible", COMPATIBLE)?;
    fdt.property_array_u64("reg", &[COHERENCY_PORT, COHERENCY_PORT_BYTES])?;
    fdt.end_node(node)
}

fn write_clock(fdt: &mut FdtWriter, name: &str, phandle: u32, hertz: u32) -> Result<(), Error> {
    let node = fdt.begin_node(name)?;
    fdt.property_string("compatible", "fixed-clock")?;
    fdt.property_u32("#clock-cells", 0)?;
    fdt.property_u32("clock-frequency", hertz)?;
    fdt.property_u32("phandle", phandle)?;
    fdt.end_node(node)
}

/// Clocks of the board that nodes refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The fabric's, for the ADI cores.
    Fabric,
    /// The ADC's sampling clock.
    Adc,
    /// The DAC's.
    Dac,
}

impl Clock {
    fn handle(self) -> u32 {
        match self {
            Clock::Fabric => CLOCK_FABRIC,
            Clock::Adc => CLOCK_ADC,
            Clock::Dac => CLOCK_DAC,
        }
    }
}

/// Writes properties and children of one node.
pub struct NodeWriter<'a> {
    fdt: &'a mut FdtWriter,
    board: &'a Board,
}

impl NodeWriter<'_> {
    /// The handle of the board's device of that name.
    pub fn handle(&self, name: &str) -> u32 {
        let index = self.board.nodes().iter().position(|n| n.name() == name);
        FIRST_NODE + index.unwrap_or_default() as u32
    }

    /// A property that is a string.
    ///
    /// # Errors
    /// As for all here: if a name or value is not allowed in a device tree.
    pub fn string(&mut self, name: &str, value: &str) -> Result<(), Error> {
        self.fdt.property_string(name, value)
    }

    /// A property that is one cell.
    pub fn u32(&mut self, name: &str, value: u32) -> Result<(), Error> {
        self.fdt.property_u32(name, value)
    }

    /// A property that is several cells.
    pub fn u32s(&mut self, name: &str, values: &[u32]) -> Result<(), Error> {
        self.fdt.property_array_u32(name, values)
    }

    /// A property whose presence says all.
    pub fn flag(&mut self, name: &str) -> Result<(), Error> {
        self.fdt.property_null(name)
    }

    /// The node's one clock.
    pub fn clock(&mut self, clock: Clock) -> Result<(), Error> {
        self.u32("clocks", clock.handle())
    }

    /// Several clocks, with the names that the driver knows them by.
    pub fn named_clocks(&mut self, clocks: &[(&str, Clock)]) -> Result<(), Error> {
        let handles: Vec<u32> = clocks.iter().map(|(_, clock)| clock.handle()).collect();
        let names = clocks.iter().map(|(name, _)| (*name).to_owned()).collect();
        self.u32s("clocks", &handles)?;
        self.fdt.property_string_list("clock-names", names)
    }

    /// A node below this one.
    pub fn child(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut NodeWriter<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let node = self.fdt.begin_node(name)?;
        write(&mut NodeWriter {
            fdt: self.fdt,
            board: self.board,
        })?;
        self.fdt.end_node(node)
    }
}

fn write_node(fdt: &mut FdtWriter, board: &Board, index: usize, node: &Node) -> Result<(), Error> {
    let bus = match (bus_name(node), &node.port) {
        (Some(name), Some(port)) => Some(begin_bus(fdt, &name, port.told_ranges())?),
        _ => None,
    };
    let at = board.window(index);
    let entry = fdt.begin_node(&node_name(board, index, node))?;
    fdt.property_array_u64("reg", &[at, node.model.windows() * WINDOW])?;
    fdt.property_u32("phandle", FIRST_NODE + index as u32)?;
    if let Some(irq) = node.irq {
        // Shared, level, active high.
        fdt.property_array_u32("interrupts", &[0, u32::from(irq), 4])?;
    }
    if node
        .port
        .as_ref()
        .is_some_and(PortSettings::claims_coherent)
    {
        fdt.property_null("dma-coherent")?;
    }
    if let Some((smmu, stream)) = board.stream(index) {
        fdt.property_array_u32("iommus", &[FIRST_NODE + smmu as u32, stream])?;
    }
    node.model.describe(&mut NodeWriter { fdt, board })?;
    fdt.end_node(entry)?;
    bus.map_or(Ok(()), |bus| fdt.end_node(bus))
}

/// A bus with these ranges for memory, and addresses of registers as everywhere.
fn begin_bus(fdt: &mut FdtWriter, name: &str, memory: &[DmaRange]) -> Result<FdtWriterNode, Error> {
    let bus = fdt.begin_node(name)?;
    fdt.property_string("compatible", "simple-bus")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_null("ranges")?;
    let memory: Vec<u64> = memory.iter().flat_map(|r| [r.bus, r.pa, r.bytes]).collect();
    fdt.property_array_u64("dma-ranges", &memory)?;
    Ok(bus)
}
