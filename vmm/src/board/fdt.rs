// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The device tree, written from the board's description.
//!
//! Every provider is a fixed clock: there is no firmware, no power domain and no reset line, so no
//! driver waits for one. Nothing is inherited that could make a device coherent by accident: each
//! master's node says `dma-coherent` itself, or not.

use staleline_devices::soc::WINDOW;
use vm_fdt::{Error, FdtWriter};

use super::{Board, Model, Node};
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
    /// Where the images stand.
    pub layout: &'a Layout,
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
    write_chosen(&mut fdt, chosen)?;
    write_cpu_side(&mut fdt, board)?;
    for (index, node) in board.nodes().iter().enumerate() {
        write_node(&mut fdt, board, index, node)?;
    }
    fdt.end_node(root)?;
    fdt.finish()
}

fn write_chosen(fdt: &mut FdtWriter, chosen: &Chosen<'_>) -> Result<(), Error> {
    let node = fdt.begin_node("chosen")?;
    fdt.property_string("bootargs", chosen.bootargs)?;
    fdt.property_string("stdout-path", "/pl011@9000000")?;
    fdt.property_string(staleline_protocol::plan::FDT_PROPERTY, chosen.plan)?;
    if let Some(initrd) = &chosen.layout.initrd {
        fdt.property_u64("linux,initrd-start", initrd.start)?;
        fdt.property_u64("linux,initrd-end", initrd.end)?;
    }
    fdt.end_node(node)
}

/// What QEMU's `virt` machine provides (hw/arm/virt.c): CPU, interrupt controller, timer, UART.
fn write_cpu_side(fdt: &mut FdtWriter, board: &Board) -> Result<(), Error> {
    let memory = fdt.begin_node(&format!("memory@{RAM_BASE:x}"))?;
    fdt.property_string("device_type", "memory")?;
    fdt.property_array_u64("reg", &[RAM_BASE, board.ram_bytes()])?;
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
    fdt.property_array_u64("reg", &[0x0800_0000, 0x1_0000, 0x080a_0000, 0xf6_0000])?;
    fdt.property_u32("phandle", GIC)?;
    fdt.end_node(gic)?;

    let timer = fdt.begin_node("timer")?;
    fdt.property_string("compatible", "arm,armv8-timer")?;
    // Private interrupts, level, active high: secure, non-secure, virtual, hypervisor.
    fdt.property_array_u32("interrupts", &[1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4])?;
    fdt.property_null("always-on")?;
    fdt.end_node(timer)?;

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
    fdt.property_array_u64("reg", &[0x0900_0000, 0x1000])?;
    fdt.property_array_u32("interrupts", &[0, 1, 4])?;
    fdt.property_array_u32("clocks", &[CLOCK_APB, CLOCK_APB])?;
    fdt.property_string_list("clock-names", vec!["uartclk".into(), "apb_pclk".into()])?;
    fdt.end_node(uart)
}

fn write_clock(fdt: &mut FdtWriter, name: &str, phandle: u32, hertz: u32) -> Result<(), Error> {
    let node = fdt.begin_node(name)?;
    fdt.property_string("compatible", "fixed-clock")?;
    fdt.property_u32("#clock-cells", 0)?;
    fdt.property_u32("clock-frequency", hertz)?;
    fdt.property_u32("phandle", phandle)?;
    fdt.end_node(node)
}

/// The handle of the board's node of this model.
fn handle(board: &Board, model: Model) -> u32 {
    let index = board.nodes().iter().position(|n| n.model == model);
    FIRST_NODE + index.unwrap_or_default() as u32
}

fn write_node(fdt: &mut FdtWriter, board: &Board, index: usize, node: &Node) -> Result<(), Error> {
    let at = board.window(index);
    let entry = fdt.begin_node(&format!("{}@{at:x}", node.name))?;
    fdt.property_array_u64("reg", &[at, WINDOW])?;
    fdt.property_u32("phandle", FIRST_NODE + index as u32)?;
    if let Some(irq) = node.irq {
        // Shared, level, active high.
        fdt.property_array_u32("interrupts", &[0, u32::from(irq), 4])?;
    }
    if node.port.is_some_and(|p| p.claims_coherent()) {
        fdt.property_null("dma-coherent")?;
    }
    match node.model {
        Model::DmacCapture | Model::DmacPlayback => {
            fdt.property_string("compatible", "adi,axi-dmac-1.00.a")?;
            fdt.property_u32("#dma-cells", 1)?;
            fdt.property_u32("clocks", CLOCK_FABRIC)?;
        }
        Model::AxiAdc => {
            write_converter(
                fdt,
                "adi,axi-adc-10.0.a",
                handle(board, Model::DmacCapture),
                "rx",
            )?;
        }
        Model::AxiDac => {
            write_converter(
                fdt,
                "adi,axi-dac-9.1.b",
                handle(board, Model::DmacPlayback),
                "tx",
            )?;
        }
        Model::QuadSpi => write_spi(fdt, board)?,
        Model::Dwc3 => {
            fdt.property_string("compatible", "snps,dwc3")?;
            fdt.property_string("dr_mode", "peripheral")?;
            fdt.property_string("maximum-speed", "super-speed")?;
            fdt.property_null("snps,dis_u2_susphy_quirk")?;
            fdt.property_null("snps,dis_enblslpm_quirk")?;
        }
    }
    fdt.end_node(entry)
}

fn write_converter(
    fdt: &mut FdtWriter,
    compatible: &str,
    dma: u32,
    name: &str,
) -> Result<(), Error> {
    fdt.property_string("compatible", compatible)?;
    fdt.property_array_u32("dmas", &[dma, 0])?;
    fdt.property_string("dma-names", name)?;
    fdt.property_u32("clocks", CLOCK_FABRIC)?;
    fdt.property_u32("#io-backend-cells", 0)
}

fn write_spi(fdt: &mut FdtWriter, board: &Board) -> Result<(), Error> {
    fdt.property_string("compatible", "xlnx,axi-quad-spi-1.00.a")?;
    fdt.property_u32("xlnx,num-ss-bits", 2)?;
    fdt.property_u32("#address-cells", 1)?;
    fdt.property_u32("#size-cells", 0)?;
    let adc = fdt.begin_node("adc@0")?;
    fdt.property_string("compatible", super::machine::ADC.compatible())?;
    fdt.property_u32("reg", 0)?;
    fdt.property_u32("spi-max-frequency", 10_000_000)?;
    fdt.property_u32("clocks", CLOCK_ADC)?;
    fdt.property_string("clock-names", "adc-clk")?;
    fdt.property_u32("io-backends", handle(board, Model::AxiAdc))?;
    fdt.end_node(adc)?;
    let dac = fdt.begin_node("dac@1")?;
    fdt.property_string("compatible", "adi,ad9739a")?;
    fdt.property_u32("reg", 1)?;
    fdt.property_u32("spi-max-frequency", 10_000_000)?;
    fdt.property_u32("clocks", CLOCK_DAC)?;
    fdt.property_u32("io-backends", handle(board, Model::AxiDac))?;
    fdt.end_node(dac)
}
