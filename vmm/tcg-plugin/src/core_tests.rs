// SPDX-License-Identifier: GPL-2.0-or-later
//! The core with a machine that writes down what it is seen, and tables in real guest memory.

use std::io::Cursor;

use serde_json::Value;
use staleline_devices::cpu::MemoryType::{Cacheable, NonCacheable};
use staleline_devices::cpu::{Accesses, Barrier, Machine};
use staleline_devices::events::{Kinds, Witness};
use staleline_devices::soc::report::Names;
use staleline_devices::state::{self, RestoreError, SaveError, Saved};
use staleline_machine::engine::guest::GuestContext;
use vm_memory::{Bytes, GuestAddress};

use super::*;

#[path = "core_tests_cpus.rs"]
mod cpus;

#[path = "core_tests_entries.rs"]
mod entries;

#[path = "core_tests_code.rs"]
mod code;
#[path = "core_tests_state.rs"]
mod saved;

const BASE: u64 = 0x4000_0000;
const RAM_BYTES: u64 = 1 << 20;
const WINDOW: u64 = BASE + RAM_BYTES;
const KERNEL: u64 = 0xffff_8000_0000_0000;
const SITE: SiteId = SiteId(7);
const PC: u64 = 0x4444;
/// What each byte of the recorder's registers holds.
const REGISTER: u8 = 0x5a;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Load(u64, u32, MemoryType),
    Store(u64, u32, MemoryType),
    Read(u64, usize),
    Write(u64, Vec<u8>),
    Maintain(CacheOp, u64),
    Barrier(Barrier),
    MapNonCacheable(u64, u64, u64),
    Fetched(u64, u64),
    Idle,
    Called(BufferCall, u64, u64),
    MaintainsFor(u64),
}

/// Writes everything down. Any access to the window raises line 3; idling lowers it.
#[derive(Default)]
struct Recorder {
    seen: Vec<Seen>,
    chains: Vec<ChainId>,
    accesses: u64,
    lines: u64,
    /// Pages whose code has changed.
    changed: Vec<u64>,
    /// Who the last thing was seen of.
    last: CpuId,
}

impl Recorder {
    fn tell(&mut self, cpu: CpuId) {
        self.last = cpu;
    }
}

impl Accesses for Recorder {
    fn load(&mut self, cpu: CpuId, pa: u64, size: u32, site: SiteId, memory: MemoryType) {
        self.tell(cpu);
        assert_eq!(site, SITE);
        self.accesses += 1;
        self.seen.push(Seen::Load(pa, size, memory));
    }
    fn store(&mut self, cpu: CpuId, pa: u64, size: u32, site: SiteId, memory: MemoryType) {
        self.tell(cpu);
        assert_eq!(site, SITE);
        self.accesses += 1;
        self.seen.push(Seen::Store(pa, size, memory));
    }
}

impl staleline_devices::cpu::Calls for Recorder {
    fn called(&mut self, called: Called) {
        self.tell(called.cpu);
        self.seen
            .push(Seen::Called(called.call, called.object, called.task));
    }
    fn maintains_for(&mut self, cpu: CpuId, attachment: u64) {
        self.tell(cpu);
        self.seen.push(Seen::MaintainsFor(attachment));
    }
}

impl Machine for Recorder {
    fn read_register(&mut self, cpu: CpuId, pa: u64, site: SiteId, data: &mut [u8]) {
        self.tell(cpu);
        assert_eq!(site, SITE);
        self.accesses += 1;
        data.fill(REGISTER);
        self.seen.push(Seen::Read(pa, data.len()));
    }
    fn write_register(&mut self, cpu: CpuId, pa: u64, site: SiteId, data: &[u8]) {
        self.tell(cpu);
        assert_eq!(site, SITE);
        self.accesses += 1;
        self.seen.push(Seen::Write(pa, data.to_vec()));
        self.lines |= 1 << 3;
    }
    fn maintain(&mut self, cpu: CpuId, op: CacheOp, pa: u64, _: SiteId, chain: ChainId) {
        self.tell(cpu);
        self.chains.push(chain);
        self.seen.push(Seen::Maintain(op, pa));
    }
    fn continues(&self, _: CpuId) -> bool {
        matches!(self.seen.last(), Some(Seen::Maintain(..)))
    }
    fn barrier(&mut self, cpu: CpuId, barrier: Barrier) {
        self.tell(cpu);
        self.seen.push(Seen::Barrier(barrier));
    }
    fn map_non_cacheable(&mut self, entry: u64, pa: u64, len: u64) {
        self.seen.push(Seen::MapNonCacheable(entry, pa, len));
    }
    fn fetched(&mut self, cpu: CpuId, pa: u64, len: u64, site: &mut dyn FnMut() -> SiteId) {
        self.tell(cpu);
        assert_eq!(site(), SITE);
        self.seen.push(Seen::Fetched(pa, len));
    }
    fn changed_code(&mut self) -> Option<u64> {
        self.changed.pop()
    }
    fn idle(&mut self) {
        self.lines = 0;
        self.seen.push(Seen::Idle);
    }
    fn remapped(&mut self, _: u64, _: u64, _: bool) {}

    fn is_awaited(&self) -> bool {
        false
    }

    fn irq_lines(&self) -> u64 {
        self.lines
    }
    fn accesses(&self) -> u64 {
        self.accesses
    }
}

/// What of it matters to a core.
#[derive(serde::Serialize, serde::Deserialize)]
struct Recorded(u64, u64);

impl state::State for Recorded {
    const COMPONENT: &'static str = "recorder";
    const VERSION: u16 = 1;
}

impl Guest for Recorder {
    type Report = Value;

    fn new(_: GuestContext) -> Result<Self, String> {
        Ok(Recorder::default())
    }
    fn steps(&self) -> u64 {
        0
    }
    fn save(&self) -> Result<Saved, SaveError> {
        Saved::new(&Recorded(self.lines, self.accesses))
    }
    fn restore(&mut self, saved: &Saved) -> Result<(), RestoreError> {
        let Recorded(lines, accesses) = saved.open()?;
        (self.lines, self.accesses) = (lines, accesses);
        Ok(())
    }
    fn names(&self) -> Names {
        Names::default()
    }

    fn watch(&mut self, _: Kinds, _: Box<dyn Witness>) {}
    fn pass_witness(&mut self, _: &mut Self) {}
    fn finish(&mut self) -> Result<Value, String> {
        Ok(Value::Null)
    }
}

/// Confirms everything, and counts.
#[derive(Default)]
struct Server {
    pending: Cursor<Vec<u8>>,
    commands: Vec<String>,
}

impl Read for Server {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.pending.read(buf)
    }
}

impl Write for Server {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.commands.push(String::from_utf8_lossy(buf).into());
        self.pending.get_mut().extend(b"OK\n");
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Bench {
    core: Core<Recorder, Server>,
    ram: GuestMemoryMmap,
    windows: GuestMemoryMmap,
    /// Who executes instructions.
    cpu: CpuId,
}

const EL1: u64 = 0b0101;
const EL0: u64 = 0;

impl Bench {
    fn new() -> Self {
        let ram =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(BASE), RAM_BYTES as usize)]).unwrap();
        let windows = GuestMemoryMmap::from_ranges(&[(GuestAddress(WINDOW), 0x1000)]).unwrap();
        let core = Core::new(Parts {
            machine: Recorder::default(),
            ram: ram.clone(),
            windows: windows.clone(),
            selfcheck: false,
            memory: BASE..WINDOW + 0x1000,
            qtest: Qtest::new(Server::default(), "/gic".into()),
            trace: Trace::new(&[2, 3]),
            calls: Calls::default(),
        });
        Bench {
            core,
            ram,
            windows,
            cpu: CpuId::BOOT,
        }
    }

    fn exec(&mut self, op: Op, x: u64, pstate: u64) {
        self.exec_at(op, x, pstate, Frame::default());
    }

    fn exec_at(&mut self, op: Op, x: u64, pstate: u64, frame: Frame) {
        let insn = Insn { op, rt: 0 };
        let place = Place {
            cpu: self.cpu,
            pc: PC,
            site: SITE,
        };
        let state = State { x, pstate, frame };
        self.core.instruction(insn, place, state).unwrap();
    }

    fn word(&self, pa: u64, value: u64) {
        self.ram.write_obj(value, GuestAddress(pa)).unwrap();
    }

    fn take(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.core.machine.seen)
    }

    /// Turns the MMU on with 39-bit halves, tables at `BASE` (lower) and `BASE + 0x1000` (upper).
    /// Page 0 to 7 of the upper half are the first pages from `BASE + 0x10000` on, write-back.
    fn paging() -> Self {
        let mut bench = Bench::new();
        for (level, table) in [(1, BASE + 0x2000), (2, BASE + 0x3000)] {
            bench.word(BASE + 0x1000 * level, table | 3);
        }
        for page in 0..8 {
            bench.page(page, BASE + 0x10000 + page * PAGE, 0);
        }
        bench.translation_on();
        bench.core.stats = TcgStats::default();
        bench
    }

    /// Turns this CPU's MMU on.
    fn translation_on(&mut self) {
        self.exec(Op::Write(SysReg::Mair), 0x44ff, EL1);
        self.exec(Op::Write(SysReg::Tcr), 25 | 25 << 16 | 2 << 30, EL1);
        self.exec(Op::Write(SysReg::Ttbr0), BASE, EL1);
        self.exec(Op::Write(SysReg::Ttbr1), BASE + 0x1000, EL1);
        // M, C, DZE and UCI.
        self.exec(Op::Write(SysReg::Sctlr), 5 | 1 << 14 | 1 << 26, EL1);
    }

    /// Maps page `n` of the upper half; `bits` are more bits of the descriptor.
    fn page(&self, n: u64, pa: u64, bits: u64) {
        self.word(BASE + 0x3000 + 8 * n, pa | 1 << 10 | bits | 3);
    }
}

/// The top of a 39-bit upper half.
const UP: u64 = 0xffff_ff80_0000_0000;
const NON_CACHEABLE: u64 = 1 << 2;
const READ_ONLY: u64 = 1 << 7;
const USER: u64 = 1 << 6;

#[test]
fn with_the_mmu_off_ram_and_windows_are_seen_and_devices_are_not() {
    let mut b = Bench::new();
    b.core
        .access::<false>(CpuId::BOOT, BASE + 8, 4, SITE)
        .unwrap();
    b.core.access::<true>(CpuId::BOOT, WINDOW, 4, SITE).unwrap();
    b.core
        .access::<true>(CpuId::BOOT, 0x0900_0000, 4, SITE)
        .unwrap();
    b.core
        .access::<true>(CpuId::BOOT, WINDOW + 0x1000, 4, SITE)
        .unwrap();
    assert_eq!(
        b.take(),
        [
            Seen::Load(BASE + 8, 4, NonCacheable),
            Seen::Write(WINDOW, vec![0; 4]),
        ]
    );
    assert_eq!(b.core.stats.untranslated, 0);
}

#[test]
fn code_below_the_kernels_half_is_the_kernels_where_user_space_has_no_access() {
    let b = Bench::new();
    // The MMU is off.
    assert!(b.core.is_kernel_code(CpuId::BOOT, BASE));
    assert!(b.core.is_kernel_code(CpuId::BOOT, KERNEL));
    let b = Bench::paging();
    // The lower half shares the upper half's tables of the second level.
    b.word(BASE, (BASE + 0x2000) | 3);
    b.page(1, BASE, USER);
    assert!(b.core.is_kernel_code(CpuId::BOOT, UP + PAGE));
    assert!(b.core.is_kernel_code(CpuId::BOOT, 0), "an identity map");
    assert!(!b.core.is_kernel_code(CpuId::BOOT, PAGE));
    assert!(
        !b.core.is_kernel_code(CpuId::BOOT, 1 << 38),
        "nothing there"
    );
}

#[test]
fn registers_are_accessed_with_their_values() {
    let mut b = Bench::new();
    b.windows
        .write_slice(&[1, 2, 3, 4, 5, 6, 7, 8], GuestAddress(WINDOW + 8))
        .unwrap();
    let cpu = CpuId(2);
    b.core.access::<true>(cpu, WINDOW + 10, 2, SITE).unwrap();
    assert_eq!(b.core.machine.last, cpu);
    // The second time from the TLB.
    b.core.access::<false>(cpu, WINDOW + 8, 8, SITE).unwrap();
    // Half of it is none of the machine's: nothing of that is seen.
    b.core.access::<true>(cpu, WINDOW + 0xffc, 8, SITE).unwrap();
    assert_eq!(
        b.take(),
        [
            Seen::Write(WINDOW + 10, vec![3, 4]),
            Seen::Read(WINDOW + 8, 8),
            Seen::Write(WINDOW + 0xffc, vec![0; 4]),
        ]
    );
}

#[test]
fn the_self_check_compares_what_registers_gave() {
    let mut b = Bench::new();
    let read = |b: &mut Bench| {
        b.core
            .access::<false>(CpuId::BOOT, WINDOW, 4, SITE)
            .unwrap();
        b.core.stats.register_mismatches
    };
    assert_eq!(read(&mut b), 0, "nobody asked");
    b.core.selfcheck = true;
    assert_eq!(read(&mut b), 1);
    b.windows
        .write_slice(&[REGISTER; 4], GuestAddress(WINDOW))
        .unwrap();
    assert_eq!(read(&mut b), 1);
}

#[test]
fn accesses_are_translated_and_walks_are_remembered() {
    let mut b = Bench::paging();
    b.page(1, BASE + 0x50000, NON_CACHEABLE);
    for _ in 0..3 {
        b.core
            .access::<false>(CpuId::BOOT, UP + 0x18, 8, SITE)
            .unwrap();
        b.core
            .access::<true>(CpuId::BOOT, UP + 0x1018, 2, SITE)
            .unwrap();
    }
    assert_eq!(
        b.take()[4..],
        [
            Seen::Load(BASE + 0x10018, 8, Cacheable),
            Seen::Store(BASE + 0x50018, 2, NonCacheable),
        ]
    );
    assert_eq!(b.core.stats.walks, 2);
    b.core
        .access::<false>(CpuId::BOOT, KERNEL, 8, SITE)
        .unwrap();
    assert_eq!(b.core.stats.untranslated, 1);
    assert!(b.take().is_empty());
}

#[test]
fn an_access_across_pages_is_split() {
    let mut b = Bench::paging();
    b.page(1, BASE + 0x50000, 0);
    // Known pages or not, the result is the same.
    for _ in 0..2 {
        b.core
            .access::<true>(CpuId::BOOT, UP + 0xffd, 8, SITE)
            .unwrap();
        assert_eq!(
            b.take(),
            [
                Seen::Store(BASE + 0x10ffd, 3, Cacheable),
                Seen::Store(BASE + 0x50000, 5, Cacheable),
            ]
        );
    }
    // Up to the end of the page is not across.
    b.core
        .access::<true>(CpuId::BOOT, UP + 0xff8, 8, SITE)
        .unwrap();
    assert_eq!(b.take().len(), 1);
}

#[test]
fn changed_tables_count_from_the_invalidation_on() {
    for (op, x) in [
        (
            Op::Tlbi(Tlbi {
                reach: Reach::AllCpus,
                what: Entries::Va,
            }),
            (UP >> 12) & 0xfff_ffff_ffff,
        ),
        (
            Op::Tlbi(Tlbi {
                reach: Reach::ThisCpu,
                what: Entries::All,
            }),
            0,
        ),
        (Op::Write(SysReg::Mair), 0x44ff),
    ] {
        let mut b = Bench::paging();
        b.core.access::<false>(CpuId::BOOT, UP, 8, SITE).unwrap();
        b.page(0, BASE + 0x60000, 0);
        b.core.access::<false>(CpuId::BOOT, UP, 8, SITE).unwrap();
        // EL0 cannot invalidate.
        b.exec(op, x, EL0);
        b.core.access::<false>(CpuId::BOOT, UP, 8, SITE).unwrap();
        b.exec(op, x, EL1);
        b.core.access::<false>(CpuId::BOOT, UP, 8, SITE).unwrap();
        let load = |pa| Seen::Load(pa, 8, Cacheable);
        let (old, new) = (load(BASE + 0x10000), load(BASE + 0x60000));
        assert_eq!(b.take(), [old.clone(), old.clone(), old, new], "{op:?}");
    }
}

#[test]
fn maintenance_reaches_the_machine_where_the_cpu_allows_it() {
    let mut b = Bench::paging();
    b.exec(Op::Maintain(CacheOp::Clean), UP + 0x47, EL1);
    b.exec(Op::Maintain(CacheOp::Clean), UP + 0x47, EL0);
    b.exec(Op::Maintain(CacheOp::Invalidate), UP + 0x1000, EL1);
    b.exec(Op::Maintain(CacheOp::Invalidate), UP + 0x1000, EL0);
    b.exec(Op::Maintain(CacheOp::CleanInvalidate), KERNEL, EL1);
    // In AArch32, the opcode means something else.
    b.exec(Op::Maintain(CacheOp::Clean), UP, 0x10);
    b.exec(Op::SetWay, 0, EL1);
    b.exec(Op::Barrier(Barrier::DSB_SY), 0, EL0);
    let maintain = |op, pa| Seen::Maintain(op, pa);
    assert_eq!(
        b.take(),
        [
            maintain(CacheOp::Clean, BASE + 0x10047),
            maintain(CacheOp::Clean, BASE + 0x10047),
            maintain(CacheOp::Invalidate, BASE + 0x11000),
            Seen::Barrier(Barrier::DSB_SY),
        ]
    );
    assert_eq!((b.core.stats.maintenance, b.core.stats.set_way), (4, 1));
    // The kernel takes EL0's permission back.
    b.exec(Op::Write(SysReg::Sctlr), 5, EL1);
    b.exec(Op::Maintain(CacheOp::Clean), UP, EL0);
    assert!(b.take().is_empty());
}

#[test]
fn a_block_is_zeroed_where_the_cpu_may_store() {
    let mut b = Bench::paging();
    b.page(1, BASE + 0x20000, READ_ONLY);
    b.page(2, BASE + 0x30000, USER);
    for pa in [0x10000, 0x20000, 0x30000] {
        for at in (0..256).step_by(8) {
            b.word(BASE + pa + at, u64::MAX);
        }
    }
    for (va, pstate) in [
        (UP + 0x47, EL1),
        (UP + 0x47, EL0),
        (UP + 0x1000, EL1),
        (UP + 0x2080, EL0),
        (KERNEL, EL1),
    ] {
        b.exec(Op::ZeroBlock, va, pstate);
    }
    assert_eq!(
        b.take(),
        [
            Seen::Store(BASE + 0x10040, 64, Cacheable),
            Seen::Store(BASE + 0x30080, 64, Cacheable),
        ]
    );
    let zeros = |pa| {
        let mut bytes = [0; 256];
        b.ram.read_slice(&mut bytes, GuestAddress(pa)).unwrap();
        let at: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == 0).collect();
        at
    };
    assert!(zeros(BASE + 0x10000).into_iter().eq(64..128));
    assert!(zeros(BASE + 0x20000).is_empty());
    assert!(zeros(BASE + 0x30000).into_iter().eq(128..192));
    assert_eq!(b.core.stats.zva, 2);
}

/// A frame record at `UP + 0x100` that returns behind a call at `UP + 0x200`, and a call at
/// `UP + 0x304`.
fn frame(b: &Bench) -> Frame {
    const BL: u64 = 0x9400_0001;
    b.word(BASE + 0x10100, 0);
    b.word(BASE + 0x10108, UP + 0x204);
    b.word(BASE + 0x10200, BL);
    b.word(BASE + 0x10300, BL << 32);
    Frame {
        fp: UP + 0x100,
        lr: UP + 0x308,
        context: Some(42),
    }
}

fn the_chain() -> Chain {
    Chain {
        pid: Some(42),
        link: Some(UP + 0x304),
        callers: vec![UP + 0x200],
        user: None,
    }
}

#[test]
fn an_operation_has_the_chain_of_its_first_instruction() {
    let mut b = Bench::paging();
    let frame = frame(&b);
    let clean = Op::Maintain(CacheOp::Clean);
    assert!(b.core.wants_frame(CpuId::BOOT, clean));
    // One that faults does not begin an operation.
    b.exec_at(clean, KERNEL, EL1, Frame::default());
    assert!(b.core.wants_frame(CpuId::BOOT, clean));
    b.exec_at(clean, UP, EL1, frame);
    assert!(!b.core.wants_frame(CpuId::BOOT, clean));
    b.exec_at(clean, UP + 64, EL1, Frame::default());
    b.exec(Op::Barrier(Barrier::DSB_SY), 0, EL1);
    assert!(b.core.wants_frame(CpuId::BOOT, clean));
    b.exec_at(clean, UP, EL1, Frame::default());
    b.exec(Op::Barrier(Barrier::DSB_SY), 0, EL1);
    b.exec_at(clean, UP, EL1, frame);
    assert_eq!(b.core.machine.chains, [1, 1, 2, 1].map(ChainId));
    assert_eq!(
        b.core.observations(&Sites::default()).chains,
        [the_chain(), Chain::default()]
    );
    // Of the address that faults and of the page maintained, not of the chains.
    assert_eq!(b.core.stats.walks, 2);
}

#[test]
fn loads_stores_and_zeroed_blocks_are_traced() {
    let mut b = Bench::paging();
    let frame = frame(&b);
    assert!(!b.core.wants_frame(CpuId::BOOT, Op::ZeroBlock));
    b.core.access::<false>(CpuId::BOOT, UP, 8, SITE).unwrap();
    assert!(!b.core.trace_is_due());
    assert!(b.core.wants_frame(CpuId::BOOT, Op::ZeroBlock));
    b.exec_at(Op::ZeroBlock, UP + 0x400, EL1, frame);
    b.core.access::<true>(CpuId::BOOT, UP, 8, SITE).unwrap();
    assert!(b.core.trace_is_due());
    b.core.trace(CpuId::BOOT, 0x8888, frame);
    assert!(!b.core.trace_is_due());
    let seen = b.core.observations(&Sites::default());
    assert_eq!(seen.access(2, PC), Some(&the_chain()));
    assert_eq!(seen.access(3, 0x8888), Some(&the_chain()));
    assert_eq!(seen.accesses.len(), 2);
}

#[test]
fn a_process_can_point_at_its_pages() {
    let mut b = Bench::paging();
    b.exec(Op::Point, UP + 0x1234, EL0);
    // Not mapped; not a process.
    b.exec(Op::Point, KERNEL, EL0);
    b.exec(Op::Point, UP, EL1);
    let page = UserPage {
        va: UP + 0x1000,
        pa: BASE + 0x11000,
    };
    assert_eq!(b.core.observations(&Sites::default()).pages, [page]);
    assert!(b.take().is_empty());
}

#[test]
fn interrupt_lines_are_told_once_and_before_the_call_returns() {
    let mut b = Bench::new();
    b.core.access::<true>(CpuId::BOOT, WINDOW, 4, SITE).unwrap();
    assert_eq!(b.core.stats.irq_changes, 1);
    b.core.access::<true>(CpuId::BOOT, WINDOW, 4, SITE).unwrap();
    assert_eq!(b.core.stats.irq_changes, 1);
    b.exec(Op::WaitForInterrupt, 0, EL1);
    assert_eq!(b.core.stats.irq_changes, 2);
    b.exec(Op::WaitForInterrupt, 0, EL1);
    assert_eq!(b.core.stats.irq_changes, 2);
}

#[test]
fn the_self_check_counts_what_differs_and_keeps_the_first() {
    let mut b = Bench::paging();
    b.word(BASE + 0x3000 + 8 * 9, 0x0900_0000 | 1 << 10 | 3);
    b.core
        .check(CpuId::BOOT, UP + 8, SITE, Some(BASE + 0x10008));
    b.core.check(CpuId::BOOT, UP + 0x9000, SITE, None);
    assert_eq!((b.core.stats.checked, b.core.stats.mismatches), (2, 0));
    assert_eq!(b.core.stats.first_mismatch, None);
    b.core
        .check(CpuId::BOOT, UP + 8, SITE, Some(BASE + 0x10000));
    b.core.check(CpuId::BOOT, UP + 8, SITE, None);
    b.core.check(CpuId::BOOT, KERNEL, SITE, Some(BASE));
    assert_eq!((b.core.stats.checked, b.core.stats.mismatches), (5, 3));
    let first = Mismatch {
        va: UP + 8,
        site: SITE,
        number: 3,
        own: Some(BASE + 0x10008),
        qemu: Some(BASE + 0x10000),
    };
    assert_eq!(b.core.stats.first_mismatch, Some(Box::new(first)));
}

#[test]
fn places_run_out_and_that_is_told() {
    let mut sites = Sites::default();
    // The first entry of the table stands for the unknown.
    for n in 1..staleline_machine::engine::SiteTable::LIMIT as u64 {
        assert_ne!(sites.intern(4 * n, false), SiteId(0));
    }
    assert_eq!(sites.forgotten(), None);
    assert_eq!(sites.intern(2, false), SiteId(0));
    assert_eq!(sites.intern(6, false), SiteId(0));
    // Known ones stay known.
    assert_eq!(sites.intern(4, false), SiteId(SiteId::USER | 1));
    let forgotten = sites.forgotten().unwrap();
    assert_eq!(
        (forgotten.limit, forgotten.lost),
        (staleline_machine::engine::SiteTable::LIMIT as u64, 2)
    );
    let seen = Bench::new().core.observations(&sites);
    assert_eq!(seen.forgotten, [forgotten]);
}
