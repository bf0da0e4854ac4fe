// SPDX-License-Identifier: GPL-2.0-or-later
//! Call chains of the guest, by its frame pointers.
//!
//! A frame record is two 64-bit words: the caller's record, and the address to return to; x29
//! points to the current one (Procedure Call Standard for the Arm 64-bit Architecture, "The frame
//! pointer"). Any of it may be garbage: code without frame pointers uses x29 as it likes.
//!
//! Where the kernel was entered, its last record is in the registers that it has saved, and a chain goes on
//! from these into the process that has made the system call ([`entry`]).

mod entry;
mod state;

use std::collections::HashMap;
use std::ops::Range;

use staleline_devices::cpu::ChainId;
use staleline_machine::engine::chains::{Chain, Forgotten, TracedAccess, UserPage};

pub use self::state::{ChainsState, PagesState, TraceState};

/// Callers kept of a chain. From a system call through a file system to a disk's driver it is more than
/// 32.
const MAX_CALLERS: usize = 48;
/// Different chains kept per run.
const MAX_CHAINS: usize = 1 << 14;
/// User pages kept per run: those of the largest DMABUFs that a scenario may have (512 MiB), twice.
const MAX_PAGES: usize = 1 << 18;
/// The address bit that selects the upper half, that is the kernel.
const UPPER: u64 = 1 << 55;

/// The registers a chain starts from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Frame {
    /// x29, the frame pointer.
    pub fp: u64,
    /// x30, the link register.
    pub lr: u64,
    /// CONTEXTIDR_EL1, if the CPU tells.
    pub context: Option<u64>,
}

/// Virtual memory as the guest's CPU sees it.
pub trait VirtualMemory {
    /// The aligned 64-bit word at `va`; `None` if it is not mapped to memory.
    fn read_u64(&mut self, va: u64) -> Option<u64>;
}

/// Follows the records from a frame on.
pub fn walk(memory: &mut impl VirtualMemory, frame: Frame) -> Chain {
    let (callers, last) = calls(memory, frame.fp);
    Chain {
        // Linux keeps a non-negative int there.
        pid: frame.context.and_then(|c| u32::try_from(c).ok()),
        link: link(memory, frame.lr, &callers),
        user: entry::system_call(memory, last),
        callers,
    }
}

/// The call that the link register tells of, if the records don't.
fn link(memory: &mut impl VirtualMemory, lr: u64, callers: &[u64]) -> Option<u64> {
    call_before(memory, lr).filter(|call| callers.first() != Some(call))
}

/// The calls that the records from `fp` on tell of, and the record at which that ends.
fn calls(memory: &mut impl VirtualMemory, mut fp: u64) -> (Vec<u64>, u64) {
    let mut callers = Vec::new();
    while callers.len() < MAX_CALLERS && fp != 0 && fp.is_multiple_of(8) {
        let (Some(next), Some(ra)) = (memory.read_u64(fp), memory.read_u64(fp.wrapping_add(8)))
        else {
            break;
        };
        // The entry from an exception is no call: the chain ends where the kernel was entered.
        let Some(call) = call_before(memory, ra).filter(|call| (call ^ fp) & UPPER == 0) else {
            break;
        };
        callers.push(call);
        // A process has no business in the kernel's half, nor the other way round.
        if next == fp || (next ^ fp) & UPPER != 0 {
            break;
        }
        fp = next;
    }
    (callers, fp)
}

/// The frame record of the function with this `code`, if it is among those that have led to a frame.
pub fn frame_of(memory: &mut impl VirtualMemory, frame: Frame, code: &Range<u64>) -> Option<u64> {
    let mut fp = frame.fp;
    for _ in 0..MAX_CALLERS {
        if fp == 0 || !fp.is_multiple_of(8) {
            break;
        }
        let next = memory.read_u64(fp)?;
        let ra = memory.read_u64(fp.wrapping_add(8))?;
        let call = call_before(memory, ra).filter(|call| (call ^ fp) & UPPER == 0)?;
        if code.contains(&call) {
            return Some(next);
        }
        if next == fp {
            break;
        }
        fp = next;
    }
    None
}

/// The address of the call that returns to `ra`, if there is one.
fn call_before(memory: &mut impl VirtualMemory, ra: u64) -> Option<u64> {
    let call = ra.checked_sub(4).filter(|call| call.is_multiple_of(4))?;
    let words = memory.read_u64(call & !7)?;
    let word = if call & 4 == 0 { words } else { words >> 32 } as u32;
    // BL, BLR (Arm ARM DDI 0487, C6.2).
    (word >> 26 == 0b10_0101 || word & 0xffff_fc1f == 0xd63f_0000).then_some(call)
}

/// What is kept of all chains.
#[derive(Debug, Default)]
pub struct Chains {
    chains: Vec<Chain>,
    // Only looked up, never iterated: the order cannot reach a result.
    known: HashMap<Chain, ChainId>,
    /// Times that there was no room.
    lost: u64,
    /// Chains that may go on beyond [`MAX_CALLERS`].
    cut: u64,
}

impl Chains {
    /// The chain's number, in order of first appearance. When there are too many, new ones are
    /// unknown.
    pub fn intern(&mut self, chain: Chain) -> ChainId {
        if let Some(id) = self.known.get(&chain) {
            return *id;
        }
        if self.chains.len() >= MAX_CHAINS {
            self.lost += 1;
            return ChainId(0);
        }
        let user = chain.user.as_ref().map_or(0, |user| user.callers.len());
        self.cut += u64::from(chain.callers.len().max(user) >= MAX_CALLERS);
        self.chains.push(chain.clone());
        // Below the limit, so no truncation.
        let id = ChainId(self.chains.len() as u32);
        self.known.insert(chain, id);
        id
    }

    /// All of them, by number.
    pub fn all(&self) -> &[Chain] {
        &self.chains
    }

    /// What there was no room for.
    pub fn forgotten(&self) -> impl Iterator<Item = Forgotten> {
        let full = Forgotten::of("different call chains", MAX_CHAINS, self.lost);
        let deep = Forgotten::of("callers in a call chain", MAX_CALLERS, self.cut);
        full.into_iter().chain(deep)
    }
}

/// The loads and stores whose chains are wanted.
#[derive(Debug, Default)]
pub struct Trace {
    /// Numbers, the next one last.
    wanted: Vec<u64>,
    found: Vec<TracedAccess>,
}

impl Trace {
    /// `wanted`: numbers of accesses, ascending.
    pub fn new(wanted: &[u64]) -> Self {
        let mut wanted = wanted.to_vec();
        wanted.dedup();
        wanted.reverse();
        Trace {
            wanted,
            found: Vec::new(),
        }
    }

    /// Whether the latest access, number `accesses`, or one that the same instruction made before
    /// it, is wanted.
    #[inline(always)]
    pub fn is_due(&self, accesses: u64) -> bool {
        self.wanted.last().is_some_and(|next| *next <= accesses)
    }

    /// Keeps the chain of the instruction that has just made the accesses up to `accesses`.
    pub fn record(&mut self, accesses: u64, pc: u64, chain: &Chain) {
        while let Some(at) = self.wanted.pop_if(|next| *next <= accesses) {
            self.found.push(TracedAccess {
                at,
                pc,
                chain: chain.clone(),
            });
        }
    }

    /// What was found, in order.
    pub fn found(&self) -> &[TracedAccess] {
        &self.found
    }
}

/// Pages that processes have pointed at.
#[derive(Debug, Default)]
pub struct Pages {
    pages: Vec<UserPage>,
    /// Where each address leads now. Only looked up.
    known: HashMap<u64, u64>,
    /// Times that there was no room.
    lost: u64,
}

impl Pages {
    /// Keeps one, unless there are too many.
    pub fn push(&mut self, page: UserPage) {
        if self.known.get(&page.va) == Some(&page.pa) {
            return;
        }
        if self.pages.len() >= MAX_PAGES {
            self.lost += 1;
            return;
        }
        self.known.insert(page.va, page.pa);
        self.pages.push(page);
    }

    /// All of them, in order.
    pub fn all(&self) -> &[UserPage] {
        &self.pages
    }

    /// What there was no room for.
    pub fn forgotten(&self) -> Option<Forgotten> {
        Forgotten::of("pages of DMABUFs", MAX_PAGES, self.lost)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const BL: u64 = 0x9400_0010;
    const BLR_X8: u64 = 0xd63f_0100;
    const NOP: u64 = 0xd503_201f;
    const TEXT: u64 = 0xffff_8000_8000_0000;
    const STACK: u64 = 0xffff_8000_9000_0000;

    /// Words by address.
    #[derive(Default)]
    struct Memory(BTreeMap<u64, u64>);

    impl VirtualMemory for Memory {
        fn read_u64(&mut self, va: u64) -> Option<u64> {
            assert!(va.is_multiple_of(8));
            self.0.get(&va).copied()
        }
    }

    impl Memory {
        /// A call at TEXT + 0x100 * n; returns the address it returns to.
        fn call(&mut self, n: u64) -> u64 {
            let at = TEXT + 0x100 * n;
            // In the first or second half of a word.
            let (at, words) = if n.is_multiple_of(2) {
                (at, NOP << 32 | BL)
            } else {
                (at + 4, BLR_X8 << 32 | NOP)
            };
            self.0.insert(at & !7, words);
            at + 4
        }

        fn record(&mut self, fp: u64, next: u64, ra: u64) {
            self.0.insert(fp, next);
            self.0.insert(fp + 8, ra);
        }
    }

    fn frame(fp: u64, lr: u64) -> Frame {
        Frame {
            fp,
            lr,
            context: Some(7),
        }
    }

    /// Three frames, the outermost without a caller.
    fn stack() -> Memory {
        let mut m = Memory::default();
        for n in 0..3 {
            let ra = if n < 2 { m.call(n) } else { 0 };
            m.record(STACK + 0x40 * n, STACK + 0x40 * (n + 1), ra);
        }
        m
    }

    #[test]
    fn frames_lead_to_their_call_sites() {
        let chain = walk(&mut stack(), frame(STACK, 0));
        assert_eq!(chain.callers, [TEXT, TEXT + 0x104]);
        assert_eq!((chain.link, chain.pid), (None, Some(7)));
    }

    #[test]
    fn the_link_register_counts_if_it_is_news() {
        let mut m = stack();
        // Right after the prologue, it says what the record says.
        assert_eq!(walk(&mut m, frame(STACK, TEXT + 4)).link, None);
        let ra = m.call(5);
        assert_eq!(walk(&mut m, frame(STACK, ra)).link, Some(TEXT + 0x504));
        // Not after a call: a register like any other.
        assert_eq!(walk(&mut m, frame(STACK, TEXT + 8)).link, None);
        assert_eq!(walk(&mut m, frame(0, ra)).callers, [0u64; 0]);
    }

    #[test]
    fn a_chain_ends_at_garbage() {
        let call = [TEXT];
        // Not mapped, not aligned, zero: all after the first frame.
        for next in [0xdead_0000, STACK + 0x41, 0] {
            let mut m = stack();
            m.record(STACK, next, TEXT + 4);
            assert_eq!(walk(&mut m, frame(STACK, 0)).callers, call, "{next:#x}");
        }
        // An interrupted instruction is no call.
        let mut m = stack();
        m.record(STACK + 0x40, STACK + 0x80, TEXT + 0x208);
        m.0.insert(TEXT + 0x200, NOP << 32 | NOP);
        assert_eq!(walk(&mut m, frame(STACK, 0)).callers, call);
        // Neither is what a kernel's stack says of user code.
        let mut m = stack();
        m.record(STACK, 0, 0x40_0004);
        m.0.insert(0x40_0000, BL);
        assert!(walk(&mut m, frame(STACK, 0)).callers.is_empty());
    }

    #[test]
    fn a_chain_that_bites_its_tail_ends() {
        let mut m = stack();
        m.record(STACK, STACK, TEXT + 4);
        assert_eq!(walk(&mut m, frame(STACK, 0)).callers.len(), 1);
        m.record(STACK, STACK + 0x40, TEXT + 4);
        m.record(STACK + 0x40, STACK, TEXT + 4);
        assert_eq!(walk(&mut m, frame(STACK, 0)).callers.len(), MAX_CALLERS);
    }

    #[test]
    fn equal_chains_have_one_number_and_numbers_run_out() {
        let chain = |link| Chain {
            link: Some(link),
            ..Chain::default()
        };
        let mut chains = Chains::default();
        assert_eq!(chains.intern(chain(1)), ChainId(1));
        assert_eq!(chains.intern(chain(2)), ChainId(2));
        assert_eq!(chains.intern(chain(1)), ChainId(1));
        for n in 0..MAX_CHAINS as u64 + 10 {
            chains.intern(chain(n));
        }
        assert_eq!(chains.all().len(), MAX_CHAINS);
        assert_eq!(chains.intern(chain(u64::MAX)), ChainId(0));
        assert_eq!(chains.intern(chain(2)), ChainId(2));
        // Numbers 1 and 2 were known; the last 10 and u64::MAX were not.
        let lost: Vec<_> = chains.forgotten().map(|f| (f.limit, f.lost)).collect();
        assert_eq!(lost, [(MAX_CHAINS as u64, 11)]);
    }

    #[test]
    fn a_chain_of_full_length_is_told_once() {
        let deep = Chain {
            callers: vec![TEXT; MAX_CALLERS],
            ..Chain::default()
        };
        let mut chains = Chains::default();
        chains.intern(deep.clone());
        chains.intern(deep);
        chains.intern(Chain::default());
        let lost: Vec<_> = chains.forgotten().map(|f| (f.limit, f.lost)).collect();
        assert_eq!(lost, [(MAX_CALLERS as u64, 1)]);
    }

    #[test]
    fn accesses_are_recorded_once_and_those_of_one_instruction_together() {
        let mut trace = Trace::new(&[3, 5, 6, 6, 9]);
        let chain = Chain::default();
        assert!(!trace.is_due(2));
        assert!(trace.is_due(3));
        trace.record(3, 0x40, &chain);
        assert!(!trace.is_due(3));
        trace.record(6, 0x44, &chain);
        let found: Vec<_> = trace.found().iter().map(|a| (a.at, a.pc)).collect();
        assert_eq!(found, [(3, 0x40), (5, 0x44), (6, 0x44)]);
        assert!(!trace.is_due(8));
    }

    #[test]
    fn pages_are_kept_when_they_change_and_run_out() {
        let mut pages = Pages::default();
        for pa in [1, 1, 2, 1] {
            pages.push(UserPage { va: 0, pa });
        }
        assert_eq!(pages.all().len(), 3);
        assert_eq!(pages.forgotten(), None);
        for n in 0..MAX_PAGES as u64 + 10 {
            let page = UserPage { va: n, pa: n };
            pages.push(page);
            pages.push(page);
        }
        assert_eq!(pages.all().len(), MAX_PAGES);
        // Page 0 is known as (0, 1), so it took one of the places again.
        assert_eq!(pages.forgotten().unwrap().lost, 2 * 13);
    }

    proptest! {
        #[test]
        fn no_memory_hangs_or_panics(
            words in proptest::collection::btree_map(
                (0u64..64).prop_map(|n| n * 8),
                prop_oneof![(0u64..512), any::<u64>(), Just(BL << 32 | BL)],
                0..64,
            ),
            fp in prop_oneof![(0u64..512), any::<u64>()],
            lr in prop_oneof![(0u64..512), any::<u64>()],
        ) {
            let chain = walk(&mut Memory(words), frame(fp, lr));
            prop_assert!(chain.callers.len() <= MAX_CALLERS);
        }
    }
}
