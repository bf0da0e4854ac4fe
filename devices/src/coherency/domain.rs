// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The domain and the CPU's side of it.

use vm_memory::MmapRegion;

use super::alias::Aliases;
use super::cache::Cache;
use super::census::Counter;
use super::cleans::Room;
use super::completion::Completion;
use super::config::{DomainConfig, PowerOn, SnoopWrite};
use super::fences::Fences;
use super::findings::Findings;
use super::hash::{Item, RunHash};
use super::images::{DramImage, ImageError, Images};
use super::injector::{Injector, of_operations};
use super::limits::{MAX_CLEANS, MAX_OVERTAKEN};
use super::line::{
    ALIAS_USED, CLEANED, DESCRIPTOR, DMA, IN_FLIGHT_READ, IN_FLIGHT_WRITE, SLOW_LOAD, SLOW_STORE,
    State, TABLE, UNREAD, WATCHED, mask, parts,
};
use super::lines::{AtPowerOn, Lines};
use super::maintenance::{Effect, Instruction, Operations};
use super::replacement::Policy;
use super::rest::Kinds;
use super::sanitizer::{Maintenance, Sanitizer, Subject, fresh_write};
use super::stores::Overtaken;
use super::transfers::Transfers;
use super::who::Who;
use crate::cpu::LINE;
use crate::cpu::{Barrier, BarrierKind, CacheOp, ChainId, CpuId, MemoryType, SiteId};
use crate::dma::{MasterId, Port, TransferId};
use crate::events::{Event, Kind, Kinds as EventKinds, Maintained, Tap, Witness};
use crate::hazard::BY_TIME;

/// Where an access' site stands in what is hashed of it, above its address.
const SITE_SHIFT: u32 = 36;
/// And its CPU: above the number of the site, and below the mark of user space (bit 30 of it).
const CPU_SHIFT: u32 = SITE_SHIFT + 24;

/// Counts and hashes an access: by which CPU, where, and from which place in code.
#[inline(always)]
fn count(
    sanitizer: &mut Sanitizer,
    hash: &mut RunHash,
    item: Item,
    (cpu, pa, site): (CpuId, u64, SiteId),
) {
    sanitizer.access(cpu);
    let place = u64::from(site.0) << SITE_SHIFT | u64::from(cpu.0) << CPU_SHIFT;
    hash.add(item, pa ^ place);
}

/// The coherency domain. See the module's documentation.
#[derive(Debug)]
pub struct Domain {
    pub(super) base: u64,
    pub(super) len: u64,
    pub(super) ports: Vec<Port>,
    pub(super) snoop_write: SnoopWrite,
    pub(super) images: Images,
    pub(super) lines: Lines,
    pub(super) cache: Cache,
    pub(super) sanitizer: Sanitizer,
    pub(super) transfers: Transfers,
    pub(super) aliases: Aliases,
    pub(super) fences: Fences,
    /// By master.
    pub(super) completions: Vec<Completion>,
    /// Writes of all masters so far.
    pub(super) dma_writes: u32,
    pub(super) hash: RunHash,
    /// Who writes memory without a word.
    pub(super) outsider: Option<MasterId>,
    pub(super) injector: Injector,
    pub(super) counter: Counter,
}

impl Domain {
    /// A domain over `ram`, whose first `config.ram_bytes` are guest RAM. Both images are zero,
    /// or `ram` is [`DomainConfig::lazy`]'s poison, but for what the caller put into `ram` before and then announced by
    /// [`Domain::loaded`].
    ///
    /// # Errors
    /// [`ImageError`] if the sizes don't fit or there is no memory.
    pub fn new(config: &DomainConfig, ram: MmapRegion) -> Result<Self, ImageError> {
        Self::over(config, (ram, None), None)
    }

    /// As [`Domain::new`], over an image of DRAM that was made beforehand; and with a master of which nobody
    /// tells, if there is one: it accesses RAM if its port snoops, and else that image, which must then be
    /// [`DramImage::Shared`].
    ///
    /// # Errors
    /// As [`Domain::new`].
    pub fn over(
        config: &DomainConfig,
        (ram, dram): (MmapRegion, Option<DramImage>),
        outsider: Option<MasterId>,
    ) -> Result<Self, ImageError> {
        let mut images = Images::new(ram, config.ram_bytes, dram)?;
        if let Some(poison) = &config.lazy {
            images.watch_ram(poison.clone());
        }
        let power_on = match (config.power_on, config.policy) {
            (PowerOn::Clean, _) => AtPowerOn::Clean,
            // A cache that is small has written nearly all of it back by now.
            (PowerOn::Dirty, Policy::Zynqmp) => AtPowerOn::WrittenBack,
            // What is below would be written when a line is first looked at: over what the outsider wrote.
            (PowerOn::Dirty, _) if outsider.is_some() => AtPowerOn::WrittenBack,
            (PowerOn::Dirty, _) => AtPowerOn::Dirty,
        };
        // Where an outsider has it, it was made with that.
        let below = outsider.is_none().then(|| images.dram());
        let mut ops = Operations::new(of_operations(&config.faults));
        if config.census {
            ops.count_needed();
        }
        Ok(Domain {
            base: config.base,
            len: config.ram_bytes,
            ports: config.ports.clone(),
            snoop_write: config.snoop_write,
            images,
            lines: Lines::new(
                config.ram_bytes,
                (power_on, below),
                match config.lazy {
                    Some(_) => Kinds::NONE,
                    None => Kinds::undisturbed(config.policy),
                },
            ),
            cache: Cache::new(config.policy, config.seed),
            sanitizer: Sanitizer {
                findings: Findings::new(
                    config.occurrences,
                    match config.lazy {
                        Some(_) => &BY_TIME,
                        None => &[],
                    },
                ),
                ops,
                cpus: Default::default(),
                cpu: CpuId::BOOT,
                overtaken: Overtaken::new(MAX_OVERTAKEN),
                room: Room::new(MAX_CLEANS),
                now: 0,
                outside_at: 0,
                tap: Tap::default(),
                base: config.base,
            },
            transfers: Transfers::default(),
            aliases: Aliases::default(),
            fences: Fences::default(),
            completions: vec![Completion::default(); config.ports.len()],
            dma_writes: 0,
            hash: RunHash::new(),
            outsider,
            injector: Injector::new(&config.faults),
            counter: Counter::new(config.census),
        })
    }

    /// The loader put `len` bytes at `pa` into RAM before power-on, and cleaned them: DRAM gets them
    /// too. Outside RAM: ignored.
    pub fn loaded(&mut self, pa: u64, len: u64) {
        if let Some(offset) = self.offset(pa, len) {
            self.images.loaded(offset, len as usize);
            self.lines
                .loaded(offset / LINE..(offset + len).div_ceil(LINE));
        }
    }

    /// From now on, `witness` is told of events of these kinds.
    pub fn watch(&mut self, kinds: EventKinds, witness: Box<dyn Witness>) {
        self.sanitizer.tap.open(kinds, witness);
    }

    /// Tells an event of the chip, if anybody wants to know.
    #[inline]
    pub(crate) fn note(&mut self, kind: Kind, event: impl FnOnce() -> Event) {
        self.sanitizer.note(kind, |_| event());
    }

    /// The way to the witness.
    pub(crate) fn tap(&mut self) -> &mut Tap {
        &mut self.sanitizer.tap
    }

    /// Offset of a range that lies wholly in RAM.
    #[inline]
    pub(super) fn offset(&self, pa: u64, len: u64) -> Option<u64> {
        let offset = pa.wrapping_sub(self.base);
        (offset < self.len && len <= self.len - offset).then_some(offset)
    }

    /// The mapping of RAM.
    pub fn mapping(&self) -> &MmapRegion {
        self.images.ram_mapping()
    }

    /// Accesses of the CPU since power-on.
    #[inline]
    pub fn now(&self) -> u64 {
        self.sanitizer.now
    }

    /// How many different findings there are so far.
    pub fn findings(&self) -> usize {
        self.sanitizer.findings.len()
    }

    /// Adds something that happened outside the domain (a register access, an interrupt) to the
    /// run hash.
    #[inline]
    pub fn hash_external(&mut self, value: u64) {
        self.hash.add(Item::External, value);
    }

    /// A CPU reads or writes `size` bytes (1 to 64) of a device's registers at `pa`, which is outside
    /// RAM: an access like any other in time, order and run hash, and of no line.
    pub fn register(&mut self, cpu: CpuId, pa: u64, size: u32, site: SiteId, write: bool) {
        let item = if write { Item::Store } else { Item::Load };
        self.begin(item, cpu, pa, size, site);
    }

    /// The CPU has loaded `size` bytes (1 to 64) at `pa`. Outside RAM: ignored.
    pub fn load(&mut self, cpu: CpuId, pa: u64, size: u32, site: SiteId, memory: MemoryType) {
        if memory == MemoryType::Cacheable && self.load_hit(cpu, pa, size, site) {
            return;
        }
        if let Some(offset) = self.begin(Item::Load, cpu, pa, size, site) {
            self.load_slow(offset, size.into(), Who::cpu(cpu, site), memory);
        }
    }

    /// The CPU has stored `size` bytes (1 to 64) at `pa`. Outside RAM: ignored.
    pub fn store(&mut self, cpu: CpuId, pa: u64, size: u32, site: SiteId, memory: MemoryType) {
        if memory == MemoryType::Cacheable && self.store_hit(cpu, pa, size, site) {
            return;
        }
        if let Some(offset) = self.begin(Item::Store, cpu, pa, size, site) {
            self.store_slow(offset, size.into(), Who::cpu(cpu, site), memory);
        }
    }

    /// [`Domain::load`] of cacheable memory, if there is nothing to do but to find the line; else does
    /// nothing, and is `false`.
    #[inline(always)]
    pub fn load_hit(&mut self, cpu: CpuId, pa: u64, size: u32, site: SiteId) -> bool {
        let Some((number, _)) = self.in_one_line(pa, size) else {
            return false;
        };
        let Some(line) = self.lines.known(number) else {
            return false;
        };
        if !line.cached() || line.flags & SLOW_LOAD != 0 {
            return false;
        }
        let way = line.way;
        count(
            &mut self.sanitizer,
            &mut self.hash,
            Item::Load,
            (cpu, pa, site),
        );
        self.cache.touch(number, way);
        true
    }

    /// [`Domain::store`] to cacheable memory, if there is nothing to judge; else does nothing, and is
    /// `false`.
    #[inline(always)]
    pub fn store_hit(&mut self, cpu: CpuId, pa: u64, size: u32, site: SiteId) -> bool {
        let Some((number, bytes)) = self.in_one_line(pa, size) else {
            return false;
        };
        let Some(line) = self.lines.known(number) else {
            return false;
        };
        let passes = self.sanitizer.overtaken.passes(line.written_at);
        if !line.cached() || line.flags & SLOW_STORE != 0 || !passes {
            return false;
        }
        count(
            &mut self.sanitizer,
            &mut self.hash,
            Item::Store,
            (cpu, pa, site),
        );
        let (now, ordered_at) = (self.sanitizer.now, self.sanitizer.barriers().stores);
        line.state = State::Dirty;
        let who = Who::cpu(cpu, site);
        line.cached_by = who;
        fresh_write(line, bytes, who, now, ordered_at);
        let way = line.way;
        self.cache.touch(number, way);
        true
    }

    /// The line of an access, and its bytes there, if it is to no other; not whether it is in RAM.
    #[inline(always)]
    fn in_one_line(&self, pa: u64, size: u32) -> Option<(u64, u64)> {
        let offset = pa.wrapping_sub(self.base);
        let within = offset % LINE;
        // An access of no bytes is in no line.
        let last = within + u64::from(size.wrapping_sub(1));
        (last < LINE).then(|| (offset / LINE, mask(within, size.into())))
    }

    /// Counts and hashes an access; its offset if it lies in RAM.
    fn begin(&mut self, item: Item, cpu: CpuId, pa: u64, size: u32, site: SiteId) -> Option<u64> {
        count(&mut self.sanitizer, &mut self.hash, item, (cpu, pa, site));
        if size == 0 || size > LINE as u32 {
            return None;
        }
        let offset = self.offset(pa, u64::from(size));
        if offset.is_none() {
            self.sanitizer.outside_at = self.sanitizer.now;
        }
        offset
    }

    #[inline(never)]
    fn load_slow(&mut self, offset: u64, len: u64, who: Who, memory: MemoryType) {
        for (number, bytes, _) in parts(offset, len) {
            self.note_access(number, bytes, false, who, memory);
            if self.lines.line(number).flags & UNREAD != 0 {
                self.loaded_unread(number, bytes, who);
            }
            if memory == MemoryType::NonCacheable {
                self.non_cacheable(number, bytes, false, who);
                continue;
            }
            self.cacheable_again(number);
            if !self.lines.line(number).cached() {
                self.fill(number, who);
            }
            let line = self.lines.line(number);
            let (flags, way) = (line.flags, line.way);
            self.cache.touch(number, way);
            if flags & SLOW_LOAD != 0 {
                if flags & WATCHED != 0 {
                    let mut s = Subject::new(&mut self.lines, &self.images, number);
                    self.sanitizer.coherent_read(&mut s, bytes, who);
                }
                if flags & IN_FLIGHT_WRITE != 0 {
                    self.check_ownership(number, bytes, false, who);
                }
            }
        }
        self.random_activity(offset / LINE);
    }

    /// Code was fetched from a line that a master or a maintenance operation has to do with.
    pub(super) fn judge_fetch(&mut self, number: u64, bytes: u64, who: Who) {
        let flags = self.lines.line(number).flags;
        if flags & UNREAD != 0 {
            self.loaded_unread(number, bytes, who);
        }
        if flags & WATCHED != 0 {
            let mut s = Subject::new(&mut self.lines, &self.images, number);
            self.sanitizer.coherent_read(&mut s, bytes, who);
        }
    }

    #[inline(never)]
    pub(super) fn store_slow(&mut self, offset: u64, len: u64, who: Who, memory: MemoryType) {
        if memory == MemoryType::NonCacheable {
            self.images.write_back(offset, len as usize);
        }
        for (number, bytes, _) in parts(offset, len) {
            self.note_access(number, bytes, true, who, memory);
            self.note_store(number, bytes, who, memory);
            if memory == MemoryType::NonCacheable {
                self.non_cacheable(number, bytes, true, who);
                continue;
            }
            self.cacheable_again(number);
            if !self.lines.line(number).cached() {
                self.fill(number, who);
            }
            let line = self.lines.line(number);
            line.state = State::Dirty;
            line.cached_by = who;
            let (flags, way) = (line.flags, line.way);
            self.cache.touch(number, way);
            self.coherent_write(number, bytes, who, flags);
            // Of one that is found now, it is not known whether it came before the transfer.
            let told = !self.images.watches_ram();
            if told && flags & (IN_FLIGHT_WRITE | IN_FLIGHT_READ) != 0 {
                self.check_ownership(number, bytes, true, who);
            }
        }
        self.random_activity(offset / LINE);
    }

    /// A coherent write to a line with `flags`.
    pub(super) fn coherent_write(&mut self, number: u64, bytes: u64, who: Who, flags: u16) {
        let (now, ordered_at) = (self.sanitizer.now, self.sanitizer.barriers().stores);
        let line = self.lines.line(number);
        if !self.sanitizer.overtaken.passes(line.written_at) {
            self.sanitizer.overtaken.overtake(number, line);
        }
        if flags & (WATCHED | CLEANED) != 0 || who.device_master().is_some() {
            let mut s = Subject::new(&mut self.lines, &self.images, number);
            self.sanitizer.coherent_write(&mut s, bytes, who);
        } else {
            fresh_write(self.lines.line(number), bytes, who, now, ordered_at);
        }
    }

    /// A CPU has stored to a line of descriptors or of translation tables, or one with data that a
    /// master has written.
    fn note_store(&mut self, number: u64, bytes: u64, who: Who, memory: MemoryType) {
        let flags = self.lines.line(number).flags;
        if flags & DESCRIPTOR != 0 {
            let state = self.sanitizer.word_stored();
            let (_, cold) = self.lines.with_cold(number);
            let words = cold.rare_mut().words.get_or_insert_default();
            let past = memory == MemoryType::NonCacheable;
            words.stored(bytes, state, who, past);
        }
        if flags & TABLE != 0 {
            self.table_stored(number, bytes);
        }
        if flags & UNREAD != 0 {
            // What it loads here is its own.
            let (_, cold) = self.lines.with_cold(number);
            cold.unread &= !bytes;
        }
    }

    /// A `dc` instruction on the line that holds `pa`. Outside RAM: ignored.
    pub fn maintain(&mut self, cpu: CpuId, op: CacheOp, pa: u64, site: SiteId, chain: ChainId) {
        let item = pa << 2 | op as u64 | u64::from(cpu.0) << CPU_SHIFT;
        self.hash.add(Item::Maintain, item);
        self.sanitizer.cpu = cpu;
        let Some(offset) = self.offset(pa, 1) else {
            return;
        };
        let number = offset / LINE;
        self.look_outside(number);
        self.look_at(number * LINE, LINE);
        let line = self.lines.line(number);
        let (operation, effect) = self.sanitizer.ops.line(&Instruction {
            cpu,
            op,
            line: number,
            dma: line.flags & DMA != 0,
            site,
            chain,
            at: self.sanitizer.now,
            last_access: self.sanitizer.cpus[cpu.index()].last_access,
        });
        let found = line.state.as_logged();
        if self.counter.counts() {
            self.count_neighbours(operation, number);
        }
        if self.sanitizer.tap.wants(Kind::Maintenance) {
            let line = Maintained {
                cpu,
                op,
                operation,
                pa: self.base + number * LINE,
                found,
                dropped: matches!(effect, Effect::Nothing | Effect::Later(_)),
            };
            self.sanitizer.maintained(&line, site, chain);
        }
        if effect == Effect::Done {
            self.take_effect(cpu, op, operation, number, site);
            return;
        }
        let id = (cpu, operation);
        if let Some(op) = self.disturb(effect, id, (op, number), (site, chain)) {
            self.take_effect(cpu, op, operation, number, site);
        }
    }

    /// What maintenance does to a line.
    #[inline]
    pub(super) fn take_effect(
        &mut self,
        cpu: CpuId,
        op: CacheOp,
        operation: u32,
        number: u64,
        site: SiteId,
    ) {
        let line = self.lines.line(number);
        if op == CacheOp::Clean && line.is_clean() {
            line.clean_op = operation;
            return;
        }
        let mut s = Subject::new(&mut self.lines, &self.images, number);
        let in_flight = if s.line.flags & IN_FLIGHT_WRITE == 0 {
            0
        } else {
            self.transfers.being_written(number, TransferId::CONTROL)
        };
        if op != CacheOp::Invalidate && s.line.state == State::Dirty {
            self.clean_line(number);
            s = Subject::new(&mut self.lines, &self.images, number);
        }
        let signal = self.fences.signalled_before(cpu, operation);
        let maintenance = Maintenance {
            op,
            operation,
            site: Who::cpu(cpu, site),
            in_flight,
        };
        // Judged before an invalidate takes the evidence away.
        match signal {
            None => self.sanitizer.maintain(&mut s, maintenance),
            Some(signal) => {
                let transfers = &self.transfers;
                let opened = |id| transfers.release(id).map(|(_, at)| at);
                self.sanitizer
                    .maintain_late(&mut s, maintenance, signal, opened);
            }
        }
        if op != CacheOp::Clean && s.line.cached() {
            self.drop_line(number);
        }
    }

    /// Whether a `dc` instruction of `cpu` now would go on with the operation that it has under way.
    #[inline]
    pub fn continues(&self, cpu: CpuId) -> bool {
        let last_access = self.sanitizer.cpus[cpu.index()].last_access;
        self.sanitizer.ops.continues(cpu, last_access)
    }

    /// A DMB or DSB.
    pub fn barrier(&mut self, cpu: CpuId, barrier: Barrier) {
        if self.sanitizer.ops.may_widen() {
            self.widen(cpu);
        }
        let Some(barrier) = self.disturbed_barrier(cpu, barrier) else {
            return;
        };
        let code = (barrier.kind as u64) << 4 | (barrier.access as u64) << 2 | barrier.scope as u64;
        self.hash.add(Item::Barrier, code | u64::from(cpu.0) << 8);
        self.sanitizer.barrier(cpu, barrier);
        if barrier.kind == BarrierKind::Dsb && self.holds_lines() {
            self.after_barrier(cpu);
        }
    }

    /// A cacheable access ends the time of the line's non-cacheable alias, unless it is mapped.
    pub(super) fn cacheable_again(&mut self, number: u64) {
        self.lines.line(number).flags &= !ALIAS_USED;
    }
}
