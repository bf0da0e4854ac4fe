// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The board's UART, an Arm PL011, as far as a console needs it: what is written goes out at once, and nothing
//! comes in.
//!
//! Registers are those of the PrimeCell UART (PL011) Technical Reference Manual, DDI 0183G, chapter 3. QEMU has
//! one on the exact engine's board; here the VMM needs its own, so that the same kernel finds the same console.

use serde::{Deserialize, Serialize};

/// Data (3.3.1).
pub const DR: u64 = 0x000;
/// Flags (3.3.3).
const FR: u64 = 0x018;
/// Integer and fractional baud rate, line control, control, FIFO levels (3.3.5 to 3.3.9).
const IBRD: u64 = 0x024;
const FBRD: u64 = 0x028;
const LCR_H: u64 = 0x02c;
const CR: u64 = 0x030;
const IFLS: u64 = 0x034;
/// Interrupt mask, raw status, masked status, clear (3.3.10 to 3.3.13).
const IMSC: u64 = 0x038;
const RIS: u64 = 0x03c;
const MIS: u64 = 0x040;
const ICR: u64 = 0x044;
/// DMA control (3.3.14).
const DMACR: u64 = 0x048;
/// The end of what may change.
pub const CHANGES: u64 = DMACR + 4;
/// Peripheral and PrimeCell identification (3.3.15, 3.3.16).
const ID: u64 = 0xfe0;
const ID_BYTES: [u8; 8] = [0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// FR: the receive FIFO is empty, so is the transmit FIFO.
const RXFE: u32 = 1 << 4;
const TXFE: u32 = 1 << 7;

/// Transmit interrupt: there is room in the FIFO.
const TX: u32 = 1 << 5;
/// All interrupts.
const INTERRUPTS: u32 = 0x7ff;

/// The registers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uart {
    baud: (u16, u8),
    line_control: u8,
    control: u16,
    levels: u8,
    dma: u8,
    mask: u32,
    raw: u32,
}

impl Default for Uart {
    fn default() -> Self {
        Uart::new()
    }
}

impl Uart {
    /// At reset: transmitter and receiver are on, the UART is not (3.3.8, 3.3.9).
    #[must_use]
    pub fn new() -> Self {
        Uart {
            baud: (0, 0),
            line_control: 0,
            control: 0x300,
            levels: 0x12,
            dma: 0,
            mask: 0,
            raw: 0,
        }
    }

    /// Whether its interrupt is asserted.
    #[must_use]
    pub fn irq(&self) -> bool {
        self.raw & self.mask != 0
    }

    /// Whether it says that there is room for more: then what is written to [`DR`] changes nothing of it.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.raw & TX != 0
    }

    /// Reads the register at `offset`; 0 where there is none.
    #[must_use]
    pub fn read(&self, offset: u64) -> u32 {
        match offset {
            FR => RXFE | TXFE,
            IBRD => self.baud.0.into(),
            FBRD => self.baud.1.into(),
            LCR_H => self.line_control.into(),
            CR => self.control.into(),
            IFLS => self.levels.into(),
            IMSC => self.mask,
            RIS => self.raw,
            MIS => self.raw & self.mask,
            DMACR => self.dma.into(),
            _ if offset >= ID && offset.is_multiple_of(4) => {
                let index = usize::try_from((offset - ID) / 4).ok();
                let byte = index.and_then(|index| ID_BYTES.get(index));
                byte.copied().unwrap_or_default().into()
            }
            _ => 0,
        }
    }

    /// Writes the register at `offset`, if there is one; the character that goes out, if that was it.
    pub fn write(&mut self, offset: u64, value: u32) -> Option<u8> {
        let [byte, ..] = value.to_le_bytes();
        match offset {
            DR => {
                // It is out before anybody can look, so there is room again.
                self.raw |= TX;
                return Some(byte);
            }
            IBRD => self.baud.0 = value as u16,
            FBRD => self.baud.1 = byte & 0x3f,
            LCR_H => self.line_control = byte,
            CR => self.control = value as u16,
            IFLS => self.levels = byte & 0x3f,
            IMSC => self.mask = value & INTERRUPTS,
            ICR => self.raw &= !value,
            DMACR => self.dma = byte & 7,
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_finds_a_pl011_of_arm() {
        let uart = Uart::new();
        let id = |at: u64| (0..4).map(move |n| at + 4 * n);
        let word = |at| id(at).rev().fold(0, |id, at| id << 8 | uart.read(at));
        // drivers/tty/serial/amba-pl011.c: pl011_ids; include/linux/amba/bus.h: AMBA_CID.
        assert_eq!(word(0xfe0) & 0x000f_ffff, 0x0004_1011);
        assert_eq!(word(0xff0), 0xb105_f00d);
    }

    #[test]
    fn what_is_written_goes_out_and_makes_room() {
        let mut uart = Uart::new();
        assert_eq!(uart.write(DR, 0x1_0041), Some(b'A'));
        assert!(!uart.irq());
        assert_eq!(uart.write(IMSC, TX), None);
        assert!(uart.irq());
        // Nothing is to be seen of another.
        let before = uart.clone();
        assert!(uart.has_room() && uart.write(DR, 0x42).is_some());
        assert_eq!(uart, before);
        assert_eq!((uart.read(MIS), uart.read(FR) & (1 << 5)), (TX, 0));
        uart.write(ICR, TX);
        assert!(!uart.irq() && !uart.has_room());
        assert_eq!(uart.read(RIS), 0);
    }

    #[test]
    fn no_offset_or_value_does_any_harm() {
        let mut uart = Uart::new();
        for offset in (0..0x1004).chain([u64::MAX]) {
            for value in [0, u32::MAX] {
                assert_eq!(uart.write(offset, value).is_some(), offset == DR);
                let _ = uart.read(offset);
            }
        }
        assert_eq!(uart.read(CR), 0xffff);
    }
}
