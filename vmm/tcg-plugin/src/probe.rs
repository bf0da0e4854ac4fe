// SPDX-License-Identifier: GPL-2.0-or-later
//! The smallest machine: no devices, but a hash of all that the CPU does. With it, the engine can
//! be checked and measured alone.
//!
//! Of the device window, the first 64-bit word holds the levels of the interrupt lines, and the
//! second counts the loads of itself. It can be told to raise lines when the CPU idles, as a
//! device whose event is next does, and to panic, to check that a failing machine is noticed.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use staleline_devices::cpu::{
    Accesses, Barrier, BarrierKind, CacheOp, ChainId, CpuId, Machine, MemoryType, SiteId,
};
use staleline_devices::cpu::{Called, Calls};
use staleline_devices::events::{Kinds, Witness};
use staleline_devices::soc::report::Names;
use staleline_devices::state::{RestoreError, SaveError, Saved, State};
use staleline_machine::engine::guest::{Guest, GuestContext};
use vm_memory::{Bytes, MmapRegion, VolatileMemory};

use crate::mmu::PAGE;

const LINES: u64 = 0;
const COUNTER: u64 = 8;
/// Bytes of the longest load or store that an engine may report ([`Accesses`]).
const LONGEST: u32 = 64;

/// Its configuration; `null` stands for the default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Physical address in the window at which a store makes the machine panic.
    pub panic_at: Option<u64>,
    /// Lines that go up when the CPU waits for an interrupt.
    #[serde(default)]
    pub idle_raises: u64,
}

/// The machine.
pub struct Probe {
    seen: Seen,
    config: Config,
    window: u64,
    windows: Option<MmapRegion>,
}

/// What it has seen, and all its state: the registers stand in the window.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Seen {
    hash: u64,
    /// Loads and stores, by memory type: cacheable, not.
    loads: [u64; 2],
    stores: [u64; 2],
    /// Bytes of all loads, of all stores.
    bytes: [u64; 2],
    /// Accesses to the window.
    registers: u64,
    /// Loads and stores that were reported across a page, or of no or too many bytes.
    malformed: u64,
    /// Entries that map RAM as non-cacheable.
    mapped: u64,
    maintained: [u64; 3],
    barriers: u64,
    idles: u64,
    /// CPUs whose last event was maintenance; bit *n* is CPU *n*.
    continues: u32,
    /// CPUs that have made accesses.
    cpus: u32,
    lines: u64,
}

impl State for Seen {
    const COMPONENT: &'static str = "probe";
    const VERSION: u16 = 1;
}

impl Probe {
    /// FNV-1a, but by words (the prime is that of its 64-bit form).
    #[inline(always)]
    fn mix(&mut self, cpu: CpuId, kind: u64, pa: u64) {
        let who = u64::from(cpu.0) << 48;
        self.seen.hash = (self.seen.hash ^ pa ^ kind << 56 ^ who).wrapping_mul(0x100_0000_01b3);
    }

    #[inline(always)]
    fn count(&mut self, direction: usize, pa: u64, size: u32) {
        self.seen.bytes[direction] += u64::from(size);
        let fits = pa % PAGE + u64::from(size) <= PAGE;
        self.seen.malformed += u64::from(!fits || !(1..=LONGEST).contains(&size));
    }

    #[inline(always)]
    fn access(&mut self, cpu: CpuId) {
        self.seen.continues &= !cpu.bit();
        self.seen.cpus |= cpu.bit();
    }

    /// Bytes of the window from `offset` on; there is one, or no address would have led here.
    fn show(&self, offset: u64, word: u64) {
        if let Some(windows) = &self.windows {
            let slice = windows.as_volatile_slice();
            let _ = slice.write_obj(word, offset as usize);
        }
    }

    fn shown(&self, offset: u64, data: &mut [u8]) {
        if let Some(windows) = &self.windows {
            let slice = windows.as_volatile_slice();
            let _ = slice.read_slice(data, offset as usize);
        }
    }
}

fn index(memory: MemoryType) -> usize {
    usize::from(memory == MemoryType::NonCacheable)
}

impl Accesses for Probe {
    #[inline(always)]
    fn load(&mut self, cpu: CpuId, pa: u64, size: u32, _: SiteId, memory: MemoryType) {
        self.access(cpu);
        self.mix(cpu, 1 + u64::from(size), pa);
        self.seen.loads[index(memory)] += 1;
        self.count(0, pa, size);
    }

    #[inline(always)]
    fn store(&mut self, cpu: CpuId, pa: u64, size: u32, _: SiteId, memory: MemoryType) {
        self.access(cpu);
        self.mix(cpu, 0x80 + u64::from(size), pa);
        self.seen.stores[index(memory)] += 1;
        self.count(1, pa, size);
    }
}

impl Calls for Probe {
    fn called(&mut self, _: Called) {}

    fn maintains_for(&mut self, _: CpuId, _: u64) {}
}

impl Machine for Probe {
    fn read_register(&mut self, cpu: CpuId, pa: u64, site: SiteId, data: &mut [u8]) {
        self.seen.registers += 1;
        self.load(cpu, pa, data.len() as u32, site, MemoryType::NonCacheable);
        let offset = pa.wrapping_sub(self.window);
        self.shown(offset, data);
        if offset == COUNTER {
            let mut word = [0; 8];
            self.shown(COUNTER, &mut word);
            self.show(COUNTER, u64::from_le_bytes(word).wrapping_add(1));
        }
    }

    #[allow(clippy::panic, reason = "that is what it is for")]
    fn write_register(&mut self, cpu: CpuId, pa: u64, site: SiteId, data: &[u8]) {
        self.seen.registers += 1;
        self.store(cpu, pa, data.len() as u32, site, MemoryType::NonCacheable);
        if self.config.panic_at == Some(pa) {
            panic!("probe told to panic");
        }
        if pa == self.window + LINES {
            let mut word = [0; 8];
            self.shown(LINES, &mut word);
            self.seen.lines = u64::from_le_bytes(word);
        }
    }

    fn maintain(&mut self, cpu: CpuId, op: CacheOp, pa: u64, _: SiteId, _: ChainId) {
        let op = match op {
            CacheOp::Clean => 0,
            CacheOp::Invalidate => 1,
            CacheOp::CleanInvalidate => 2,
        };
        self.mix(cpu, 0xf0 + op as u64, pa);
        self.seen.maintained[op] += 1;
        self.seen.continues |= cpu.bit();
    }

    fn continues(&self, cpu: CpuId) -> bool {
        self.seen.continues & cpu.bit() != 0
    }

    fn barrier(&mut self, cpu: CpuId, barrier: Barrier) {
        self.seen.continues &= !cpu.bit();
        if barrier.kind == BarrierKind::Dsb {
            self.mix(cpu, 0xe0, 0);
            self.seen.barriers += 1;
        }
    }

    fn map_non_cacheable(&mut self, entry: u64, pa: u64, len: u64) {
        self.seen.mapped += 1;
        self.mix(CpuId::BOOT, 0xe2, entry ^ pa.rotate_left(20) ^ len);
    }

    fn fetched(&mut self, _: CpuId, _: u64, _: u64, _: &mut dyn FnMut() -> SiteId) {}

    fn changed_code(&mut self) -> Option<u64> {
        None
    }

    fn idle(&mut self) {
        self.mix(CpuId::BOOT, 0xe1, 0);
        self.seen.idles += 1;
        self.seen.lines |= self.config.idle_raises;
    }

    #[inline(always)]
    fn remapped(&mut self, _: u64, _: u64, _: bool) {}

    fn is_awaited(&self) -> bool {
        false
    }

    fn irq_lines(&self) -> u64 {
        self.seen.lines
    }

    #[inline(always)]
    fn accesses(&self) -> u64 {
        self.seen.loads.iter().chain(&self.seen.stores).sum()
    }
}

impl Guest for Probe {
    type Report = Value;

    fn new(context: GuestContext) -> Result<Self, String> {
        let window = context.ram_base + context.ram_bytes();
        let config: Option<Config> = serde_json::from_value(context.machine)
            .map_err(|e| format!("probe configuration (panic_at): {e}"))?;
        Ok(Probe {
            config: config.unwrap_or_default(),
            seen: Seen {
                hash: 0xcbf2_9ce4_8422_2325,
                ..Seen::default()
            },
            window,
            windows: context.windows,
        })
    }

    fn steps(&self) -> u64 {
        self.seen.registers
    }

    fn save(&self) -> Result<Saved, SaveError> {
        Saved::new(&self.seen)
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), RestoreError> {
        self.seen = saved.open()?;
        Ok(())
    }

    fn names(&self) -> Names {
        Names::default()
    }

    /// Nothing happens here.
    fn watch(&mut self, _: Kinds, mut witness: Box<dyn Witness>) {
        witness.end();
    }

    fn pass_witness(&mut self, _: &mut Self) {}

    fn finish(&mut self) -> Result<Value, String> {
        let [cacheable_loads, other_loads] = self.seen.loads;
        let [cacheable_stores, other_stores] = self.seen.stores;
        let [clean, invalidate, clean_invalidate] = self.seen.maintained;
        Ok(json!({
            "hash": format!("{:016x}", self.seen.hash),
            "loads": {"cacheable": cacheable_loads, "non_cacheable": other_loads},
            "stores": {"cacheable": cacheable_stores, "non_cacheable": other_stores},
            "bytes": {"loaded": self.seen.bytes[0], "stored": self.seen.bytes[1]},
            "malformed": self.seen.malformed,
            "mapped": self.seen.mapped,
            "maintenance": {
                "clean": clean,
                "invalidate": invalidate,
                "clean_invalidate": clean_invalidate,
            },
            "barriers": self.seen.barriers,
            "idles": self.seen.idles,
            "cpus": self.seen.cpus.count_ones(),
        }))
    }
}
