// SPDX-License-Identifier: GPL-2.0-or-later
//! What the plugin does with each thing the CPU does; knows nothing of QEMU.

mod state;

use std::io::{self, Read, Write};

use staleline_devices::cpu::{
    BufferCall, CacheOp, Called, ChainId, CpuId, MAX_CPUS, MemoryType, SiteId,
};
use staleline_machine::engine::Observations;
use staleline_machine::engine::abi::{Mismatch, TcgStats};
use staleline_machine::engine::chains::{Chain, UserPage};
use staleline_machine::engine::guest::Guest;
use vm_memory::GuestMemoryMmap;

use crate::calls::Calls;
use crate::chain::{self, Chains, Frame, Pages, Trace};
use crate::decode::{Entries, Insn, Op, Reach, SysReg, Tlbi};
use crate::leaves::{ENTRY, Leaves};
use crate::memory::{Ram, Virtual, Windows};
use crate::mmu::{PAGE, Registers, TableMemory as _, Translation};
use crate::qtest::Qtest;
use crate::sites::Sites;
use crate::tlb::{Hit, Target, Tlb};

/// Bytes that `dc zva` zeroes on Cortex-A53 (DCZID_EL0.BS is 4 words to the power of two).
const ZERO_BLOCK: u64 = 64;

/// Bytes of the longest load or store.
const LONGEST: usize = 64;

/// Bytes of the longest store on the hot path: two translation table entries.
const LONGEST_HIT: u32 = 2 * ENTRY as u32;

/// PSCI functions that end the guest (DEN 0022, 5.1): SYSTEM_OFF and SYSTEM_RESET.
const ENDS: [u32; 2] = [0x8400_0008, 0x8400_0009];

/// The CPU's state at an instruction of interest.
#[derive(Debug, Clone, Copy)]
pub struct State {
    /// Value of the instruction's register; 0 for number 31.
    pub x: u64,
    /// PSTATE as in SPSR.
    pub pstate: u64,
    /// Where a call chain starts, if [`Core::wants_frame`].
    pub frame: Frame,
}

impl State {
    /// PSTATE.nRW: AArch32, where the opcode means something else.
    fn is_aarch32(self) -> bool {
        self.pstate & 0x10 != 0
    }

    /// PSTATE.EL.
    fn is_user(self) -> bool {
        self.pstate >> 2 & 3 == 0
    }
}

/// What the kernel calls one of its functions for shared buffers with.
#[derive(Debug, Clone, Copy)]
pub struct Arguments {
    /// The attachment, or the fence.
    pub object: u64,
    /// The current task: SP_EL0, in the kernel.
    pub task: u64,
    /// The stack pointer.
    pub sp: u64,
    /// Where the call chain starts.
    pub frame: Frame,
}

/// Where an instruction is executed.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// By which CPU.
    pub cpu: CpuId,
    /// Its virtual address.
    pub pc: u64,
    /// The same, interned.
    pub site: SiteId,
}

/// What is between one CPU and the machine.
struct CpuSide {
    tlb: Tlb,
    registers: Registers,
    leaves: Leaves,
    /// The chain of the last maintenance operation.
    chain: ChainId,
    /// It has done nothing since it last waited for an interrupt, or has not been started, or the board
    /// has none of this number.
    waits: bool,
}

impl CpuSide {
    /// Of a CPU at reset: MMU off.
    fn new(ram: &Ram) -> Self {
        let registers = Registers::default();
        CpuSide {
            tlb: Tlb::new(&registers),
            registers,
            leaves: Leaves::new(ram.range()),
            chain: ChainId(0),
            waits: true,
        }
    }
}

/// The machine and what is between it and the CPUs.
pub struct Core<M, S> {
    cpus: [CpuSide; MAX_CPUS],
    /// The guest has ended itself. What other CPUs do until QEMU stops them is a matter of the
    /// host's time.
    pub over: bool,
    /// The machine itself.
    pub machine: M,
    /// Interrupt lines as QEMU has them.
    qemu_lines: u64,
    /// Addresses that are the machine's business.
    memory: std::ops::Range<u64>,
    ram: Ram,
    windows: Windows,
    selfcheck: bool,
    qtest: Qtest<S>,
    chains: Chains,
    trace: Trace,
    /// The kernel's calls for shared buffers.
    pub calls: Calls,
    pages: Pages,
    /// Counters.
    pub stats: TcgStats,
}

/// What the core is made of.
pub struct Parts<M, S> {
    /// The machine.
    pub machine: M,
    /// Guest RAM.
    pub ram: GuestMemoryMmap,
    /// Device windows, behind RAM.
    pub windows: GuestMemoryMmap,
    /// Whether to check what registers gave the CPU.
    pub selfcheck: bool,
    /// Physical addresses of RAM and windows.
    pub memory: std::ops::Range<u64>,
    /// The way to the interrupt controller.
    pub qtest: Qtest<S>,
    /// Loads and stores whose call chains are wanted.
    pub trace: Trace,
    /// The kernel's calls for shared buffers.
    pub calls: Calls,
}

impl<M: Guest, S: Read + Write> Core<M, S> {
    /// A core for CPUs at reset: MMU off, all lines low.
    pub fn new(parts: Parts<M, S>) -> Self {
        let ram = Ram::new(parts.ram);
        Core {
            cpus: std::array::from_fn(|_| CpuSide::new(&ram)),
            over: false,
            machine: parts.machine,
            qemu_lines: 0,
            memory: parts.memory,
            ram,
            windows: Windows::new(parts.windows),
            selfcheck: parts.selfcheck,
            qtest: parts.qtest,
            chains: Chains::default(),
            trace: parts.trace,
            calls: parts.calls,
            pages: Pages::default(),
            stats: TcgStats::default(),
        }
    }

    #[inline(always)]
    fn side(&self, cpu: CpuId) -> &CpuSide {
        &self.cpus[cpu.index()]
    }

    #[inline(always)]
    fn side_mut(&mut self, cpu: CpuId) -> &mut CpuSide {
        &mut self.cpus[cpu.index()]
    }

    /// A CPU has done something.
    #[inline(always)]
    fn goes_on(&mut self, cpu: CpuId) {
        self.side_mut(cpu).waits = false;
    }

    /// As [`Core::access`], if the TLB knows the page and the machine has nothing to do but to find the
    /// line in its cache. Else nothing happens, and it is `false`.
    ///
    /// All but a few accesses end here. It calls nothing, so the callback has no registers to save.
    #[inline(always)]
    pub fn access_hit<const STORE: bool>(
        &mut self,
        cpu: CpuId,
        va: u64,
        size: u32,
        site: SiteId,
    ) -> bool {
        let side = &mut self.cpus[cpu.index()];
        let Some(hit) = side.tlb.lookup(va).filter(|hit| hit.is_cacheable_ram()) else {
            return false;
        };
        let pa = hit.pa(va);
        if STORE && pa.is_multiple_of(ENTRY) && size >= ENTRY as u32 {
            let is_entry = |pa| self.ram.read_u64(pa).is_some_and(|w| side.leaves.may_be(w));
            let second = size > ENTRY as u32;
            if size > LONGEST_HIT || is_entry(pa) || second && is_entry(pa + ENTRY) {
                return false;
            }
        }
        side.waits = false;
        // What is in one line is in one page. No device has done anything, so no line has changed.
        match STORE {
            true => self.machine.store_hit(cpu, pa, size, site),
            false => self.machine.load_hit(cpu, pa, size, site),
        }
    }

    /// A load or store of `size` bytes at `va` by `cpu` has taken place.
    ///
    /// # Errors
    /// If an interrupt line cannot be set.
    pub fn access<const STORE: bool>(
        &mut self,
        cpu: CpuId,
        va: u64,
        size: u32,
        site: SiteId,
    ) -> io::Result<()> {
        self.goes_on(cpu);
        match self.side(cpu).tlb.lookup(va) {
            Some(hit) if (va & (PAGE - 1)) + u64::from(size) <= PAGE => {
                if !hit.is_ram() {
                    return self.access_elsewhere::<STORE>(cpu, va, size, site, hit);
                }
                self.report::<STORE>(cpu, hit.pa(va), size, site, hit.memory());
                self.sync_lines()
            }
            _ => self.access_slowly::<STORE>(cpu, va, size, site),
        }
    }

    fn report<const STORE: bool>(
        &mut self,
        cpu: CpuId,
        pa: u64,
        size: u32,
        site: SiteId,
        memory: MemoryType,
    ) {
        if STORE {
            self.machine.store(cpu, pa, size, site, memory);
            self.look_for_entries(cpu, pa, size);
        } else {
            self.machine.load(cpu, pa, size, site, memory);
        }
    }

    /// Tells the machine of translation table entries among the bytes just stored. Entries are
    /// stored whole, alone or with others.
    fn look_for_entries(&mut self, cpu: CpuId, pa: u64, size: u32) {
        if !pa.is_multiple_of(ENTRY) {
            return;
        }
        for n in 0..u64::from(size) / ENTRY {
            let entry = pa + n * ENTRY;
            // None in a device window.
            if let Some(word) = self.ram.read_u64(entry)
                && self.side(cpu).leaves.may_be(word)
            {
                self.entry(cpu, entry, word);
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn entry(&mut self, cpu: CpuId, entry: u64, word: u64) {
        if let Some((pa, len)) = self.side(cpu).leaves.decode(word) {
            self.machine.map_non_cacheable(entry, pa, len);
        }
    }

    /// The TLB does not know the page, or there are two.
    #[cold]
    #[inline(never)]
    fn access_slowly<const STORE: bool>(
        &mut self,
        cpu: CpuId,
        va: u64,
        size: u32,
        site: SiteId,
    ) -> io::Result<()> {
        let first = (PAGE - va % PAGE).min(u64::from(size));
        // Below size, so no truncation.
        let parts = [
            (va, first as u32),
            (va.wrapping_add(first), size - first as u32),
        ];
        for (va, size) in parts {
            if size == 0 {
                continue;
            }
            match self.hit(cpu, va) {
                Some(hit) if hit.is_ram() => {
                    self.report::<STORE>(cpu, hit.pa(va), size, site, hit.memory());
                }
                Some(hit) if hit.is_foreign() => {}
                Some(hit) => self.register::<STORE>(cpu, hit.pa(va), size, site),
                None => self.stats.untranslated += 1,
            }
        }
        self.sync_lines()
    }

    /// The page is none of RAM.
    #[inline(never)]
    fn access_elsewhere<const STORE: bool>(
        &mut self,
        cpu: CpuId,
        va: u64,
        size: u32,
        site: SiteId,
        hit: Hit,
    ) -> io::Result<()> {
        if hit.is_foreign() {
            return Ok(());
        }
        self.register::<STORE>(cpu, hit.pa(va), size, site);
        self.sync_lines()
    }

    /// An access to device windows has taken place, in memory of the machine's that shows what their
    /// registers hold.
    fn register<const STORE: bool>(&mut self, cpu: CpuId, pa: u64, size: u32, site: SiteId) {
        let mut seen = [0; LONGEST];
        let Some(seen) = self.windows.read(pa, &mut seen, size) else {
            return;
        };
        if STORE {
            self.machine.write_register(cpu, pa, site, seen);
            return;
        }
        let mut data = [0; LONGEST];
        let data = &mut data[..seen.len()];
        self.machine.read_register(cpu, pa, site, data);
        if self.selfcheck && data != seen {
            self.stats.register_mismatches += 1;
        }
    }

    /// The physical address of an access that has just been made.
    pub fn place_of(&self, cpu: CpuId, va: u64) -> Option<u64> {
        self.side(cpu).tlb.lookup(va).map(|hit| hit.pa(va))
    }

    /// Looks `va` up, walking the tables if need be.
    #[inline(always)]
    fn hit(&mut self, cpu: CpuId, va: u64) -> Option<Hit> {
        let hit = self.side(cpu).tlb.lookup(va);
        hit.or_else(|| self.look_up(cpu, va))
    }

    /// The same where the TLB does not know the page.
    #[inline(never)]
    fn look_up(&mut self, cpu: CpuId, va: u64) -> Option<Hit> {
        self.stats.walks += 1;
        let translation = self.side(cpu).registers.translate(&self.ram, va)?;
        let what = match translation.pa {
            pa if !self.memory.contains(&pa) => Target::Foreign,
            pa if self.windows.contains(pa) => Target::Window,
            _ => Target::Ram,
        };
        Some(self.side_mut(cpu).tlb.insert(va, &translation, what))
    }

    /// Self-check: compares the translation of `va`, as the TLB has it, with QEMU's; `None` is an
    /// address that QEMU takes for a device. `site` is where the access was.
    pub fn check(&mut self, cpu: CpuId, va: u64, site: SiteId, qemu: Option<u64>) {
        let own = self.hit(cpu, va);
        self.stats.checked += 1;
        let agreed = match (own, qemu) {
            (Some(hit), Some(pa)) => hit.pa(va) == pa,
            (Some(hit), None) => hit.is_foreign(),
            (None, _) => false,
        };
        if agreed {
            return;
        }
        self.stats.mismatches += 1;
        let number = self.stats.checked;
        self.stats.first_mismatch.get_or_insert_with(|| {
            Box::new(Mismatch {
                va,
                site,
                number,
                own: own.map(|hit| hit.pa(va)),
                qemu,
            })
        });
    }

    /// Whether [`Cpu::frame`] matters for this instruction.
    pub fn wants_frame(&self, cpu: CpuId, op: Op) -> bool {
        match op {
            Op::Maintain(_) => !self.machine.continues(cpu),
            Op::ZeroBlock => self.trace.is_due(self.machine.accesses() + 1),
            _ => false,
        }
    }

    /// Whether code at `pc`, which `cpu` is about to execute, is the kernel's: in the upper half of the
    /// address space, or below it where user space has no access, or with the MMU off.
    pub fn is_kernel_code(&self, cpu: CpuId, pc: u64) -> bool {
        if pc >> 55 & 1 != 0 {
            return true;
        }
        let registers = &self.side(cpu).registers;
        let translation = registers.translate(&self.ram, pc);
        !registers.mmu_is_on() || translation.is_some_and(|t| !t.user)
    }

    /// Whether [`Core::trace`] is to be called for the access that has just been made.
    #[inline(always)]
    pub fn trace_is_due(&self) -> bool {
        self.trace.is_due(self.machine.accesses())
    }

    /// Keeps the call chain of the instruction at `pc`, which has just made an access.
    #[cold]
    pub fn trace(&mut self, cpu: CpuId, pc: u64, frame: Frame) {
        let chain = self.walk(cpu, frame);
        self.trace.record(self.machine.accesses(), pc, &chain);
    }

    fn walk(&self, cpu: CpuId, frame: Frame) -> Chain {
        let mut memory = Virtual::new(&self.side(cpu).registers, &self.ram);
        chain::walk(&mut memory, frame)
    }

    /// What was seen beside what the machine was told, of code that `sites` names.
    pub fn observations(&self, sites: &Sites) -> Observations {
        let forgotten = self.chains.forgotten().chain(self.pages.forgotten());
        Observations {
            chains: self.chains.all().to_vec(),
            accesses: self.trace.found().to_vec(),
            pages: self.pages.all().to_vec(),
            forgotten: forgotten.chain(sites.forgotten()).collect(),
            fences: self.calls.are_seen(),
        }
    }

    /// The way to the interrupt controller.
    pub fn qtest(&self) -> &Qtest<S> {
        &self.qtest
    }

    /// Tells QEMU of interrupt lines that have changed.
    #[inline(always)]
    fn sync_lines(&mut self) -> io::Result<()> {
        let lines = self.machine.irq_lines();
        if lines == self.qemu_lines {
            return Ok(());
        }
        self.tell_lines(lines)
    }

    #[cold]
    #[inline(never)]
    fn tell_lines(&mut self, lines: u64) -> io::Result<()> {
        let changed = lines ^ self.qemu_lines;
        for irq in (0..u64::BITS).filter(|irq| changed >> irq & 1 != 0) {
            self.qtest.set_irq(irq, lines >> irq & 1 != 0)?;
            self.stats.irq_changes += 1;
        }
        self.qemu_lines = lines;
        Ok(())
    }

    /// An instruction of interest is about to execute.
    ///
    /// # Errors
    /// If an interrupt line cannot be set.
    pub fn instruction(&mut self, insn: Insn, place: Place, state: State) -> io::Result<()> {
        if state.is_aarch32() {
            return Ok(());
        }
        let cpu = place.cpu;
        self.goes_on(cpu);
        match insn.op {
            Op::Maintain(op) => self.maintain(op, place, state),
            Op::SetWay if !state.is_user() => self.stats.set_way += 1,
            Op::ZeroBlock => {
                self.zero_block(place, state);
                if self.trace_is_due() {
                    self.trace(cpu, place.pc, state.frame);
                }
            }
            Op::Barrier(barrier) => {
                self.machine.barrier(cpu, barrier);
                self.drop_changed_code()?;
            }
            Op::Point if state.is_user() => self.point(cpu, state.x),
            Op::Point => {}
            Op::WaitForInterrupt => self.wait_for_interrupt(cpu),
            Op::Call => self.over |= !state.is_user() && ENDS.contains(&(state.x as u32)),
            // The rest is undefined in EL0, and the kernel will be told.
            _ if state.is_user() => {}
            _ => self.mmu_event(insn.op, cpu, state.x),
        }
        self.sync_lines()
    }

    /// The first instruction of one of the kernel's functions for shared buffers is about to execute.
    pub fn called(&mut self, cpu: CpuId, call: BufferCall, with: Arguments) {
        self.goes_on(cpu);
        let chain = self.walk(cpu, with.frame);
        let called = Called {
            cpu,
            call,
            object: with.object,
            task: with.task,
            chain: self.chains.intern(chain),
        };
        if call == BufferCall::EndAccess {
            self.calls.ends(with.object, with.sp);
        }
        self.machine.called(called);
    }

    /// QEMU is about to translate `len` bytes of code at `pc`, all in one page.
    pub fn fetched(&mut self, cpu: CpuId, pc: u64, len: u64, site: &mut dyn FnMut() -> SiteId) {
        if let Some(hit) = self.hit(cpu, pc) {
            self.machine.fetched(cpu, hit.pa(pc), len, site);
        }
    }

    /// QEMU keeps translated code until it sees a store to where that came from, and it does not see
    /// what the machine writes. So it is made to write the same bytes again, as a debugger would.
    fn drop_changed_code(&mut self) -> io::Result<()> {
        while let Some(pa) = self.machine.changed_code() {
            let mut page = [0; PAGE as usize];
            if self.ram.read(pa, &mut page) {
                self.qtest.write(pa, &page)?;
                self.stats.code_pages += 1;
            }
        }
        Ok(())
    }

    /// Only when the last CPU waits does time go on by itself.
    fn wait_for_interrupt(&mut self, cpu: CpuId) {
        self.side_mut(cpu).waits = true;
        if self.cpus.iter().all(|side| side.waits) {
            self.machine.idle();
        }
    }

    /// A `dc` instruction of the kernel's, if it goes on with the operation that the CPU has under way
    /// and the TLB knows its page of RAM: what nearly all of them are. Else nothing happens, and it is
    /// `false`.
    #[inline(always)]
    pub fn maintains(&mut self, cpu: CpuId, op: CacheOp, va: u64, site: SiteId) -> bool {
        if !self.machine.continues(cpu) {
            return false;
        }
        let side = &mut self.cpus[cpu.index()];
        let Some(hit) = side.tlb.lookup(va).filter(|hit| hit.is_ram()) else {
            return false;
        };
        side.waits = false;
        let chain = side.chain;
        self.stats.maintenance += 1;
        self.machine.maintain(cpu, op, hit.pa(va), site, chain);
        true
    }

    fn maintain(&mut self, op: CacheOp, place: Place, state: State) {
        let cpu = place.cpu;
        // EL0 may clean if the kernel lets it, and never only invalidate.
        let may_clean = self.side(cpu).registers.user_may_clean();
        if state.is_user() && (op == CacheOp::Invalidate || !may_clean) {
            return;
        }
        self.stats.maintenance += 1;
        // What does not translate faults; the kernel repairs that, and the instruction returns.
        if let Some(hit) = self.hit(cpu, state.x)
            && hit.is_ram()
        {
            if !self.machine.continues(cpu) {
                let chain = self.walk(cpu, state.frame);
                self.side_mut(cpu).chain = self.chains.intern(chain);
                let mut memory = Virtual::new(&self.side(cpu).registers, &self.ram);
                if let Some(attachment) = self.calls.ended_by(&mut memory, state.frame) {
                    self.machine.maintains_for(cpu, attachment);
                }
            }
            let chain = self.side(cpu).chain;
            self.machine
                .maintain(cpu, op, hit.pa(state.x), place.site, chain);
        }
    }

    /// A process points at a page of its own.
    fn point(&mut self, cpu: CpuId, va: u64) {
        let page = |address: u64| address & !(PAGE - 1);
        if let Some(t) = self.side(cpu).registers.translate(&self.ram, va) {
            self.pages.push(UserPage {
                va: page(va),
                pa: page(t.pa),
            });
        }
    }

    /// `dc zva` reaches memory behind the back of QEMU's memory callbacks, and this is called
    /// before it executes. The block is zeroed here already: the machine shall find in RAM what
    /// it is told of, and the instruction only does it again.
    fn zero_block(&mut self, place: Place, state: State) {
        let registers = &self.side(place.cpu).registers;
        let allowed = |t: &Translation| {
            let user = !state.is_user() || t.user && registers.user_may_zero();
            t.writable && t.accessed && user
        };
        let va = state.x & !(ZERO_BLOCK - 1);
        // Not from the TLB, which does not keep permissions: this is rare beside loads and
        // stores, and a wrong guess would destroy data.
        let Some(t) = registers.translate(&self.ram, va).filter(allowed) else {
            return;
        };
        if self.ram.zero::<{ ZERO_BLOCK as usize }>(t.pa) {
            self.stats.zva += 1;
            self.machine
                .store(place.cpu, t.pa, ZERO_BLOCK as u32, place.site, t.memory);
        }
    }

    fn mmu_event(&mut self, op: Op, cpu: CpuId, x: u64) {
        self.stats.mmu_events += 1;
        let side = self.side_mut(cpu);
        let registers = &mut side.registers;
        match op {
            Op::Write(SysReg::Ttbr0) => registers.ttbr0 = x,
            Op::Write(SysReg::Ttbr1) => registers.ttbr1 = x,
            Op::Write(SysReg::Tcr) => registers.tcr = x,
            Op::Write(SysReg::Mair) => registers.mair = x,
            Op::Write(SysReg::Sctlr) => registers.sctlr = x,
            _ => {}
        }
        if let Op::Write(SysReg::Tcr | SysReg::Mair | SysReg::Sctlr) = op {
            side.leaves.configure(registers);
        }
        match op {
            Op::Write(SysReg::Ttbr0 | SysReg::Ttbr1) => side.tlb.switch(&side.registers),
            Op::Tlbi(Tlbi { reach, what }) => {
                for (n, side) in self.cpus.iter_mut().enumerate() {
                    if reach == Reach::AllCpus || n == cpu.index() {
                        match what {
                            Entries::Va => side.tlb.flush_va(x << 12),
                            Entries::Asid => side.tlb.flush_asid(&side.registers),
                            Entries::All => side.tlb.flush(&side.registers),
                        }
                    }
                }
            }
            _ => side.tlb.flush(&side.registers),
        }
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
