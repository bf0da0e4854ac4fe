// SPDX-License-Identifier: GPL-2.0-or-later
//! The few A64 instructions the engine has to know, by their opcodes.
//!
//! Encodings: Arm Architecture Reference Manual (DDI 0487), C4.1 "A64 instruction set encoding"
//! and C5.3 to C5.5 for the `SYS` aliases (DC, TLBI).

use staleline_devices::cpu::{Barrier, BarrierKind, CacheOp};

/// What an instruction does that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// `dc` by virtual address to the point of coherency or farther; the address is in Xt.
    Maintain(CacheOp),
    /// `dc cvau`: moves nothing to the point of coherency. A process that does it points at a page
    /// of its own.
    Point,
    /// `dc` by set and way.
    SetWay,
    /// `dc zva`; the address is in Xt.
    ZeroBlock,
    /// A DSB, or a DMB that reaches bus masters.
    Barrier(Barrier),
    /// WFI, WFIT.
    WaitForInterrupt,
    /// HVC #0: a call to the firmware; the function is in X0 (SMC Calling Convention, DEN 0028).
    Call,
    /// A TLBI.
    Tlbi(Tlbi),
    /// MSR to a register that governs translation; the value is in Xt.
    Write(SysReg),
}

/// Whose TLB a TLBI is about, and which entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tlbi {
    /// Whose.
    pub reach: Reach,
    /// Which.
    pub what: Entries,
}

/// The CPUs that a TLBI reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The one that executes it.
    ThisCpu,
    /// Those of the inner or outer shareable domain: all.
    AllCpus,
}

/// The entries that a TLBI is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entries {
    /// By virtual address: bits 55 to 12 of it are in bits 43 to 0 of Xt.
    Va,
    /// By ASID alone.
    Asid,
    /// Anything else: all, to be on the safe side.
    All,
}

impl Op {
    const fn tlbi(reach: Reach, what: Entries) -> Self {
        Op::Tlbi(Tlbi { reach, what })
    }
}

/// A register that governs translation at EL1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SysReg {
    /// SCTLR_EL1.
    Sctlr,
    /// TTBR0_EL1.
    Ttbr0,
    /// TTBR1_EL1.
    Ttbr1,
    /// TCR_EL1.
    Tcr,
    /// MAIR_EL1.
    Mair,
}

/// An instruction of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    /// What it does.
    pub op: Op,
    /// Number of its register; 31 is the zero register.
    pub rt: u8,
}

/// The other [`Op`]s; the index is their code in [`Insn::pack`], after those of all barriers.
const OPS: [Op; 19] = [
    Op::Maintain(CacheOp::Clean),
    Op::Maintain(CacheOp::Invalidate),
    Op::Maintain(CacheOp::CleanInvalidate),
    Op::Point,
    Op::SetWay,
    Op::ZeroBlock,
    Op::WaitForInterrupt,
    Op::Call,
    Op::tlbi(Reach::ThisCpu, Entries::Va),
    Op::tlbi(Reach::ThisCpu, Entries::Asid),
    Op::tlbi(Reach::ThisCpu, Entries::All),
    Op::tlbi(Reach::AllCpus, Entries::Va),
    Op::tlbi(Reach::AllCpus, Entries::Asid),
    Op::tlbi(Reach::AllCpus, Entries::All),
    Op::Write(SysReg::Sctlr),
    Op::Write(SysReg::Ttbr0),
    Op::Write(SysReg::Ttbr1),
    Op::Write(SysReg::Tcr),
    Op::Write(SysReg::Mair),
];

/// Codes of barriers: CRm, and bit 4 for a DSB.
const BARRIERS: usize = 32;

fn barrier_of(code: usize) -> Option<Op> {
    let kind = match code >> 4 {
        0 => BarrierKind::Dmb,
        1 => BarrierKind::Dsb,
        _ => return None,
    };
    Barrier::from_crm(kind, (code & 15) as u32).map(Op::Barrier)
}

impl Insn {
    /// As a number below 2^16, for a callback's argument.
    pub fn pack(self) -> u32 {
        let barrier = (0..BARRIERS).find(|code| barrier_of(*code) == Some(self.op));
        let other = || BARRIERS + OPS.iter().take_while(|op| **op != self.op).count();
        let code = barrier.unwrap_or_else(other);
        (code as u32) << 8 | u32::from(self.rt)
    }

    /// The inverse of [`Insn::pack`]; `None` for what it has not made.
    pub fn unpack(packed: u32) -> Option<Self> {
        let code = (packed >> 8) as usize;
        Some(Insn {
            op: match code.checked_sub(BARRIERS) {
                Some(other) => *OPS.get(other)?,
                None => barrier_of(code)?,
            },
            rt: (packed & 0x1f) as u8,
        })
    }
}

/// Whether an instruction is in the encoding group "Loads and Stores" (op0 = x1x0). Some of that
/// group access no memory (prefetches).
pub fn is_load_store(word: u32) -> bool {
    word & 0x0a00_0000 == 0x0800_0000
}

/// Decodes an instruction; `None` if it is of no interest.
pub fn decode(word: u32) -> Option<Insn> {
    let op = match word {
        // DSB; CRm 0 and 4 are SSBB and PSSBB, barriers of another kind.
        _ if word & 0xffff_f0ff == 0xd503_309f => {
            Op::Barrier(Barrier::from_crm(BarrierKind::Dsb, word >> 8 & 0xf)?)
        }
        // DSB with the nXS qualifier: full access, the scope in CRm[3:2].
        _ if word & 0xffff_f3ff == 0xd503_323f => {
            Op::Barrier(Barrier::from_crm(BarrierKind::Dsb, word >> 8 & 0xc | 3)?)
        }
        _ if word & 0xffff_f0ff == 0xd503_30bf => {
            let dmb = Barrier::from_crm(BarrierKind::Dmb, word >> 8 & 0xf)?;
            // Those among CPUs are many, and nothing to bus masters.
            Op::Barrier(Some(dmb).filter(|dmb| dmb.reaches_masters())?)
        }
        0xd503_207f => Op::WaitForInterrupt,
        0xd400_0002 => {
            return Some(Insn {
                op: Op::Call,
                rt: 0,
            });
        }
        _ if word & 0xffff_ffe0 == 0xd503_1020 => Op::WaitForInterrupt,
        // SYS: op0 is 1, no result.
        _ if word & 0xfff8_0000 == 0xd508_0000 => sys(word)?,
        // MSR to a register with op0 3.
        _ if word & 0xfff8_0000 == 0xd518_0000 => Op::Write(sysreg(word)?),
        _ => return None,
    };
    Some(Insn {
        op,
        rt: (word & 0x1f) as u8,
    })
}

/// op1, CRn, CRm, op2 of a system instruction.
fn fields(word: u32) -> (u32, u32, u32, u32) {
    (
        word >> 16 & 7,
        word >> 12 & 0xf,
        word >> 8 & 0xf,
        word >> 5 & 7,
    )
}

fn sys(word: u32) -> Option<Op> {
    Some(match fields(word) {
        (0, 7, 6, 1) => Op::Maintain(CacheOp::Invalidate),
        // CVAC, CVAP, CVADP.
        (3, 7, 10 | 12 | 13, 1) => Op::Maintain(CacheOp::Clean),
        // CVAU only goes to the point of unification.
        (3, 7, 11, 1) => Op::Point,
        (3, 7, 14, 1) => Op::Maintain(CacheOp::CleanInvalidate),
        (0, 7, 6 | 10 | 14, 2) => Op::SetWay,
        // The variants that move allocation tags too (IGVAC, CGVAC, GZVA, ...; other op2) are
        // left out on purpose: Cortex-A53 has no memory tagging, and takes them as undefined.
        (3, 7, 4, 1) => Op::ZeroBlock,
        // VAE1, VAAE1, VALE1, VAALE1; CRm 1 is outer, 3 inner shareable, 7 this CPU.
        (0, 8, crm @ (1 | 3 | 7), 1 | 3 | 5 | 7) => Op::tlbi(reach(crm), Entries::Va),
        (0, 8, crm @ (1 | 3 | 7), 2) => Op::tlbi(reach(crm), Entries::Asid),
        (_, 8 | 9, crm, _) => Op::tlbi(reach(crm), Entries::All),
        _ => return None,
    })
}

/// By CRm: 7 is this CPU. The range variants (2, 5, 6) of this CPU have 6.
fn reach(crm: u32) -> Reach {
    match crm {
        6 | 7 => Reach::ThisCpu,
        _ => Reach::AllCpus,
    }
}

fn sysreg(word: u32) -> Option<SysReg> {
    Some(match fields(word) {
        (0, 1, 0, 0) => SysReg::Sctlr,
        (0, 2, 0, 0) => SysReg::Ttbr0,
        (0, 2, 0, 1) => SysReg::Ttbr1,
        (0, 2, 0, 2) => SysReg::Tcr,
        (0, 10, 2, 0) => SysReg::Mair,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Opcodes as aarch64-linux-gnu-as 2.40 makes them.
    #[test]
    fn known_opcodes() {
        use CacheOp::{Clean, CleanInvalidate, Invalidate};
        let all = |what| Op::tlbi(Reach::AllCpus, what);
        let this = |what| Op::tlbi(Reach::ThisCpu, what);
        let dsb = |crm| Op::Barrier(Barrier::from_crm(BarrierKind::Dsb, crm).unwrap());
        let dmb = |crm| Op::Barrier(Barrier::from_crm(BarrierKind::Dmb, crm).unwrap());
        for (word, op, rt) in [
            (0xd508_7623, Op::Maintain(Invalidate), 3), // dc ivac, x3
            (0xd50b_7a24, Op::Maintain(Clean), 4),      // dc cvac, x4
            (0xd50b_7c29, Op::Maintain(Clean), 9),      // dc cvap, x9
            (0xd50b_7d2a, Op::Maintain(Clean), 10),     // dc cvadp, x10
            (0xd50b_7e25, Op::Maintain(CleanInvalidate), 5), // dc civac, x5
            (0xd50b_7b27, Op::Point, 7),                // dc cvau, x7
            (0xd50b_7426, Op::ZeroBlock, 6),            // dc zva, x6
            (0xd508_7e48, Op::SetWay, 8),               // dc cisw, x8
            (0xd508_7a48, Op::SetWay, 8),               // dc csw, x8
            (0xd508_7648, Op::SetWay, 8),               // dc isw, x8
            (0xd503_3f9f, dsb(15), 31),                 // dsb sy
            (0xd503_3b9f, dsb(11), 31),                 // dsb ish
            (0xd503_3a9f, dsb(10), 31),                 // dsb ishst
            (0xd503_319f, dsb(1), 31),                  // dsb oshld
            (0xd503_379f, dsb(7), 31),                  // dsb nsh
            (0xd503_3a3f, dsb(11), 31),                 // dsb ishnxs
            (0xd503_32bf, dmb(2), 31),                  // dmb oshst
            (0xd503_31bf, dmb(1), 31),                  // dmb oshld
            (0xd503_3fbf, dmb(15), 31),                 // dmb sy
            (0xd503_207f, Op::WaitForInterrupt, 31),    // wfi
            (0xd503_1021, Op::WaitForInterrupt, 1),     // wfit x1
            (0xd400_0002, Op::Call, 0),                 // hvc #0
            (0xd508_831f, all(Entries::All), 31),       // tlbi vmalle1is
            (0xd508_8224, all(Entries::All), 4),        // tlbi rvae1is, x4
            (0xd508_8342, all(Entries::Asid), 2),       // tlbi aside1is, x2
            (0xd508_8321, all(Entries::Va), 1),         // tlbi vae1is, x1
            (0xd508_83e2, all(Entries::Va), 2),         // tlbi vaale1is, x2
            (0xd508_8762, this(Entries::Va), 2),        // tlbi vaae1, x2
            (0xd508_87a2, this(Entries::Va), 2),        // tlbi vale1, x2
            (0xd518_2001, Op::Write(SysReg::Ttbr0), 1), // msr ttbr0_el1, x1
            (0xd518_2022, Op::Write(SysReg::Ttbr1), 2), // msr ttbr1_el1, x2
            (0xd518_2043, Op::Write(SysReg::Tcr), 3),   // msr tcr_el1, x3
            (0xd518_a204, Op::Write(SysReg::Mair), 4),  // msr mair_el1, x4
            (0xd518_1005, Op::Write(SysReg::Sctlr), 5), // msr sctlr_el1, x5
        ] {
            assert_eq!(decode(word), Some(Insn { op, rt }), "{word:#x}");
        }
    }

    #[test]
    fn uninteresting_opcodes() {
        for word in [
            0xd508_751f, // ic iallu
            0xd50b_7521, // ic ivau, x1
            0xd503_309f, // ssbb
            0xd503_349f, // pssbb
            0xd503_3bbf, // dmb ish
            0xd503_3fdf, // isb
            0xd503_30ff, // sb
            0xd503_205f, // wfe
            0xd503_203f, // yield
            0xd538_1005, // mrs x5, sctlr_el1
            0xd400_0022, // hvc #1
            0xd400_0001, // svc #0
            // Memory tagging.
            0xd508_7663, // dc igvac, x3
            0xd508_76a3, // dc igdvac, x3
            0xd508_7683, // dc igsw, x3
            0xd50b_7a63, // dc cgvac, x3
            0xd50b_7aa3, // dc cgdvac, x3
            0xd50b_7ea3, // dc cigdvac, x3
            0xd50b_7463, // dc gva, x3
            0xd50b_7483, // dc gzva, x3
        ] {
            assert_eq!(decode(word), None, "{word:#x}");
        }
    }

    #[test]
    fn loads_and_stores() {
        for word in [
            0xf940_0041, // ldr x1, [x2]
            0xa940_0861, // ldp x1, x2, [x3]
            0x3d80_0020, // str q0, [x1]
            0xc85f_7c41, // ldxr x1, [x2]
            0x889f_fc41, // stlr w1, [x2]
            0xf8e1_0062, // ldaddal x1, x2, [x3]
            0x5800_00c0, // ldr x0, literal
        ] {
            assert!(is_load_store(word), "{word:#x}");
        }
        // add x0, x1, x2; dc cvac; b; mov x0, #imm
        for word in [0x8b02_0020, 0xd50b_7a24, 0x1400_0000, 0xd2b0_8000] {
            assert!(!is_load_store(word), "{word:#x}");
        }
    }

    proptest! {
        #[test]
        fn packing_loses_nothing(code in 0..BARRIERS + OPS.len(), rt in 0u8..32) {
            let op = match code.checked_sub(BARRIERS) {
                Some(other) => OPS[other],
                None => match barrier_of(code) {
                    Some(op) => op,
                    None => return Ok(()),
                },
            };
            let insn = Insn { op, rt };
            prop_assert_eq!(Insn::unpack(insn.pack()), Some(insn));
            prop_assert!(insn.pack() < 1 << 16);
        }

        #[test]
        fn any_word_decodes_or_not(word: u32) {
            if let Some(insn) = decode(word) {
                prop_assert_eq!(Insn::unpack(insn.pack()), Some(insn));
                prop_assert!(!is_load_store(word));
                prop_assert_eq!(u32::from(insn.rt), word & 31);
            }
        }
    }
}
