// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The first instructions: the kernel expects the device tree in x0 and zeros in x1 to x3.

/// `ldr xT, pc + 4 * words` (A64, LDR literal, 64 bit).
const fn ldr_literal(rt: u32, words: u32) -> u32 {
    0x5800_0000 | words << 5 | rt
}

/// `mov xD, xzr` (ORR of two zero registers).
const fn clear(rd: u32) -> u32 {
    0xaa1f_03e0 | rd
}

/// `br xN`.
const fn br(rn: u32) -> u32 {
    0xd61f_0000 | rn << 5
}

/// Machine code that enters `kernel` with the device tree at `fdt`; runs at any address that is
/// aligned to 8.
pub(super) fn encode(kernel: u64, fdt: u64) -> Vec<u8> {
    let code = [
        ldr_literal(0, 6),
        clear(1),
        clear(2),
        clear(3),
        ldr_literal(4, 4),
        br(4),
    ];
    let mut bytes: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    for literal in [fdt, kernel] {
        bytes.extend(literal.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_what_an_assembler_makes_of_it() {
        // aarch64-linux-gnu-as 2.40: ldr x0, fdt; mov x1..x3, xzr; ldr x4, kernel; br x4;
        // fdt: .quad 0x44000000; kernel: .quad 0x40200000
        let expected: [u32; 10] = [
            0x5800_00c0,
            0xaa1f_03e1,
            0xaa1f_03e2,
            0xaa1f_03e3,
            0x5800_0084,
            0xd61f_0080,
            0x4400_0000,
            0,
            0x4020_0000,
            0,
        ];
        let expected: Vec<u8> = expected.iter().flat_map(|w| w.to_le_bytes()).collect();
        assert_eq!(encode(0x4020_0000, 0x4400_0000), expected);
    }
}
