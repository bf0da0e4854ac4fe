// SPDX-License-Identifier: GPL-2.0-or-later
//! Just enough of an A64 assembler for guests of a few dozen instructions.

use std::io::Write;

use tempfile::NamedTempFile;

/// Where the code of [`Program`] starts in guest memory: behind the 64-byte Image header.
pub const CODE: u64 = 0x4020_0040;

#[derive(Default)]
pub struct Program(Vec<u32>);

impl Program {
    fn op(mut self, word: u32) -> Self {
        self.0.push(word);
        self
    }

    /// `xD = value`, by MOVZ and MOVK.
    pub fn mov(mut self, rd: u32, value: u64) -> Self {
        for n in 0..4 {
            let opcode = if n == 0 { 0xd280_0000 } else { 0xf280_0000 };
            let half = (value >> (16 * n)) as u32 & 0xffff;
            self = self.op(opcode | n << 21 | half << 5 | rd);
        }
        self
    }

    /// `ldr xT, [xN]`
    pub fn ldr(self, rt: u32, rn: u32) -> Self {
        self.op(0xf940_0000 | rn << 5 | rt)
    }

    /// `str xT, [xN]`
    pub fn str(self, rt: u32, rn: u32) -> Self {
        self.op(0xf900_0000 | rn << 5 | rt)
    }

    /// `ldr wT, [xN]`
    pub fn ldr_w(self, rt: u32, rn: u32) -> Self {
        self.op(0xb940_0000 | rn << 5 | rt)
    }

    /// `str wT, [xN]`
    pub fn str_w(self, rt: u32, rn: u32) -> Self {
        self.op(0xb900_0000 | rn << 5 | rt)
    }

    /// `ubfx xD, xN, #bit, #1`
    pub fn bit(self, rd: u32, rn: u32, bit: u32) -> Self {
        self.op(0xd340_0000 | bit << 16 | bit << 10 | rn << 5 | rd)
    }

    /// `add xD, xN, #imm`
    pub fn add(self, rd: u32, rn: u32, imm: u32) -> Self {
        self.op(0x9100_0000 | imm << 10 | rn << 5 | rd)
    }

    /// An instruction with a register, or without one.
    pub fn sys(self, opcode: u32, rt: u32) -> Self {
        self.op(opcode | rt)
    }

    /// `b .`
    pub fn hang(self) -> Self {
        self.op(0x1400_0000)
    }

    /// Prints a digit: bit `bit` of xN. Uses x20 and x21.
    pub fn print_bit(self, rn: u32, bit: u32) -> Self {
        self.bit(20, rn, bit)
            .add(20, 20, u32::from(b'0'))
            .mov(21, 0x0900_0000)
            .str_w(20, 21)
    }

    /// A call of the PSCI firmware that does not return. Uses x0.
    pub fn psci(self, function: u64) -> Self {
        self.mov(0, function).op(0xd400_0002).hang()
    }

    pub fn power_off(self) -> Self {
        self.psci(0x8400_0008)
    }

    /// Guest address of the next instruction.
    pub fn here(&self) -> u64 {
        CODE + 4 * self.0.len() as u64
    }

    /// An arm64 Image of 1 MiB, with `data` at offsets from its start.
    pub fn image(&self, data: &[(usize, u64)]) -> NamedTempFile {
        let mut bytes = vec![0; 1 << 20];
        // code0: branch over the header.
        bytes[0..4].copy_from_slice(&0x1400_0010u32.to_le_bytes());
        bytes[16..24].copy_from_slice(&(1u64 << 20).to_le_bytes());
        bytes[24..32].copy_from_slice(&0b1010u64.to_le_bytes());
        bytes[56..60].copy_from_slice(b"ARM\x64");
        for (at, word) in self.0.iter().enumerate() {
            bytes[64 + 4 * at..][..4].copy_from_slice(&word.to_le_bytes());
        }
        for (at, word) in data {
            bytes[*at..][..8].copy_from_slice(&word.to_le_bytes());
        }
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        file
    }
}
