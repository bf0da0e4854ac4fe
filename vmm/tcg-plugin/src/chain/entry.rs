// SPDX-License-Identifier: GPL-2.0-or-later
//! From the kernel's last frame record into the process that has made the system call.
//!
//! On an exception from EL0, Linux saves the registers as `struct pt_regs` (arch/arm64/include/asm/ptrace.h)
//! at the top of the thread's stack and makes a last record, of two zeros, in there, to which x29 then
//! points (`kernel_entry` in arch/arm64/kernel/entry.S). What stands there is the guest's to say, so it is
//! looked at before it is believed; and wrong or not, it costs no more than names.

use staleline_machine::engine::chains::SystemCall;

use super::{UPPER, VirtualMemory, calls, link};

/// Bytes from the saved registers to the last record: since 6.13, and before. The registers are 16-byte
/// aligned, so no record fits both.
const RECORDS: [u64; 2] = [296, 304];

/// Bytes from the saved registers to some of them.
const X29: u64 = 29 * 8;
const X30: u64 = 30 * 8;
const PC: u64 = 32 * 8;
const PSTATE: u64 = 33 * 8;
/// Number of the system call, an int: -1 if it was another exception.
const SYSCALLNO: u64 = 35 * 8;

/// PSTATE.M, all bits: 0 is AArch64 at EL0.
const MODE: u64 = 0x1f;

/// The system call with whose record a chain ends, if it does end with one.
pub fn system_call(memory: &mut impl VirtualMemory, record: u64) -> Option<SystemCall> {
    if !record.is_multiple_of(8) || record & UPPER == 0 {
        return None;
    }
    let end = [record, record.checked_add(8)?].map(|at| memory.read_u64(at));
    if end != [Some(0), Some(0)] {
        return None;
    }
    let saved = RECORDS.iter().filter_map(|at| record.checked_sub(*at));
    let saved = saved.into_iter().find(|regs| regs.is_multiple_of(16))?;
    let mut register = |at| memory.read_u64(saved + at);
    let number = register(SYSCALLNO)? as u32;
    let (fp, lr, after, pstate) = (
        register(X29)?,
        register(X30)?,
        register(PC)?,
        register(PSTATE)?,
    );
    let pc = after.checked_sub(4)?;
    if number.cast_signed() < 0 || pstate & MODE != 0 || pc & UPPER != 0 || !pc.is_multiple_of(4) {
        return None;
    }
    let words = memory.read_u64(pc & !7)?;
    let word = if pc & 4 == 0 { words } else { words >> 32 } as u32;
    // SVC (Arm ARM DDI 0487, C6.2).
    if word & 0xffe0_001f != 0xd400_0001 {
        return None;
    }
    // A process may have anything in x29, but no business in the kernel's half.
    let callers = match fp & UPPER {
        0 => calls(memory, fp).0,
        _ => Vec::new(),
    };
    let link = link(memory, lr, &callers).filter(|call| call & UPPER == 0);
    Some(SystemCall { pc, link, callers })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::{Frame, MAX_CALLERS, walk};
    use super::*;

    const BL: u64 = 0x9400_0010;
    const SVC: u64 = 0xd400_0001;
    const KERNEL: u64 = 0xffff_8000_8000_0000;
    const REGS: u64 = 0xffff_8000_9000_0eb0;
    const USER: u64 = 0x40_0000;
    const STACK: u64 = 0xffff_f000;

    struct Memory(BTreeMap<u64, u64>);

    impl VirtualMemory for Memory {
        fn read_u64(&mut self, va: u64) -> Option<u64> {
            assert!(va.is_multiple_of(8));
            self.0.get(&va).copied()
        }
    }

    /// A process whose main calls a function that calls the wrapper around an `svc`, which has no frame; and
    /// the kernel, one call deep.
    fn stopped(record: u64) -> Memory {
        let kernel = REGS - 0x40;
        let words = [
            (KERNEL, BL),
            (kernel, REGS + record),
            (kernel + 8, KERNEL + 4),
            (REGS + record, 0),
            (REGS + record + 8, 0),
            (REGS + X29, STACK),
            (REGS + X30, USER + 0x104),
            (REGS + PC, USER + 0x208),
            (REGS + PSTATE, 0x8000_0000),
            (REGS + SYSCALLNO, 0xdead_beef_0000_001d),
            (USER + 0x200, SVC << 32 | BL),
            (USER + 0x100, BL),
            (USER, BL << 32 | BL),
            (STACK, 0),
            (STACK + 8, USER + 8),
        ];
        Memory(words.into_iter().collect())
    }

    fn found(memory: &mut Memory) -> Option<SystemCall> {
        let frame = Frame {
            fp: REGS - 0x40,
            ..Frame::default()
        };
        walk(memory, frame).user
    }

    #[test]
    fn a_chain_goes_on_behind_the_system_call() {
        for record in RECORDS {
            let chain = SystemCall {
                pc: USER + 0x204,
                link: Some(USER + 0x100),
                callers: vec![USER + 4],
            };
            assert_eq!(found(&mut stopped(record)), Some(chain), "{record}");
        }
    }

    #[test]
    fn what_is_no_system_call_ends_it() {
        let wrong = [
            // Another exception; from the kernel; from AArch32; from nowhere; not behind an SVC.
            (REGS + SYSCALLNO, 0xffff_ffff),
            (REGS + PSTATE, 0x5),
            (REGS + PSTATE, 0x10),
            (REGS + PC, 0),
            (REGS + PC, USER + 0x204),
            (REGS + PC, USER + 0x206),
            (REGS + PC, KERNEL + 4),
            // No last record.
            (REGS + 304, REGS),
            (REGS + 312, 4),
        ];
        for (at, word) in wrong {
            let mut memory = stopped(304);
            memory.0.insert(at, word);
            assert_eq!(found(&mut memory), None, "{at:#x} {word:#x}");
        }
    }

    #[test]
    fn a_process_cannot_lead_into_the_kernel() {
        let mut memory = stopped(304);
        memory.0.insert(REGS + X29, REGS - 0x40);
        memory.0.insert(REGS + X30, KERNEL + 4);
        let call = found(&mut memory).unwrap();
        assert_eq!((call.link, call.callers), (None, Vec::new()));
        // Nor on from a record of its own.
        let mut memory = stopped(304);
        memory.0.insert(STACK, REGS - 0x40);
        assert_eq!(found(&mut memory).unwrap().callers, [USER + 4]);
    }

    #[test]
    fn a_stack_without_end_is_cut() {
        let mut memory = stopped(304);
        for n in 0..100 {
            memory.0.insert(STACK + 16 * n, STACK + 16 * (n + 1));
            memory.0.insert(STACK + 16 * n + 8, USER + 8);
        }
        assert_eq!(found(&mut memory).unwrap().callers.len(), MAX_CALLERS);
    }

    proptest! {
        #[test]
        fn no_memory_hangs_or_panics(
            words in proptest::collection::btree_map(
                (0u64..40).prop_map(|n| REGS + n * 8),
                prop_oneof![Just(0), Just(USER + 0x208), Just(STACK), REGS..REGS + 320, any::<u64>()],
                0..40,
            ),
            record in prop_oneof![REGS..REGS + 320, any::<u64>()],
        ) {
            let mut memory = stopped(304);
            memory.0.extend(words);
            let call = system_call(&mut memory, record);
            prop_assert!(call.is_none_or(|call| call.callers.len() <= MAX_CALLERS));
        }
    }
}
