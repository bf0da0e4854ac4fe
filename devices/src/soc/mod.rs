// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The chip put together: the coherency domain, the devices behind their register windows, and
//! device time. An engine drives it through [`Machine`] and, if it sees them, [`Accesses`].

mod access;
mod gate;
mod interrupts;
mod state;
#[cfg(test)]
mod tests;
mod window;

pub mod report;

use std::collections::BTreeMap;
use std::ops::Range;

use crate::bus::{Context, Device};
use crate::clock::{Clock, DeviceId, EventQueue, Ticks};
use crate::coherency::{Domain, DomainConfig, DramImage, ImageError};
use crate::cpu::{
    Accesses, Barrier, CacheOp, Called, Calls, ChainId, CpuId, Machine, MemoryType, SiteId,
};
use crate::dma::{DmaPort, MasterId, Port};
use crate::events::{Event, Kind, Kinds, Witness};
use crate::jitter::Jitter;
use crate::stream::Streams;
pub use gate::DmaRange;
use gate::{Behind, Gate, Map};
use interrupts::Disturbed;
use report::{DeviceError, MasterInfo, Names, SocReport, StreamReport};
use vm_memory::MmapRegion;
use window::Windows;

/// Bytes of address space each device gets. Windows follow each other right above RAM.
pub const WINDOW: u64 = 0x1_0000;

/// Events that may run in one go while the CPU waits for an interrupt. A device that keeps asking
/// to be woken without ever interrupting must not hang the machine.
const IDLE_BUDGET: usize = 1024;

/// Device errors kept in the report.
const MAX_DEVICE_ERRORS: usize = 64;

/// In the run hash, above everything else in an item: a line has changed. Register accesses have 1
/// and 2 there.
const LINE_CHANGE: u64 = 3 << 58;

/// Who is woken, in the event queue, when a device's interrupt that is late comes; the token is the slot.
const LATE_LINE: DeviceId = DeviceId(u16::MAX);
/// Likewise, when a line falls that went up for nothing; the token is its interrupt.
const FALL: DeviceId = DeviceId(u16::MAX - 2);
/// Likewise, when a master's write that is late comes.
const LATE_WRITE: DeviceId = DeviceId(u16::MAX - 1);

/// A device as the board attaches it.
pub struct Attachment {
    /// Name on the board, for example `axi-dmac-rx`.
    pub name: String,
    /// Shared peripheral interrupt, 0 to 63.
    pub irq: Option<u8>,
    /// Its port to memory; devices without DMA have none.
    pub port: Option<Port>,
    /// Whether the device tree says that it is coherent.
    pub claims_coherent: bool,
    /// What its bus has for memory; none: all of it, at its physical addresses.
    pub ranges: Vec<DmaRange>,
    /// Its stream, if the chip's translator stands in front of it.
    pub stream: Option<u32>,
    /// The model.
    pub device: Box<dyn Device>,
}

struct Slot {
    name: String,
    irq: Option<u8>,
    /// Who it is on the bus, if it is a master.
    master: Option<MasterId>,
    stream: Option<u32>,
    device: Box<dyn Device>,
}

/// The chip.
pub struct Soc {
    domain: Domain,
    map: Map,
    queue: EventQueue,
    streams: Streams,
    stream_names: Vec<String>,
    /// As in [`Parts`].
    identity: u64,
    slots: Vec<Slot>,
    masters: Vec<MasterInfo>,
    /// The device that translates others' addresses, if there is one.
    translator: Option<usize>,
    /// The last device has two windows.
    wide: bool,
    windows_start: u64,
    /// Where the engine's CPUs read and write windows by themselves.
    windows: Option<Windows>,
    /// Device time minus accesses: the time that was skipped while the CPU waited.
    skipped: Ticks,
    /// The number of accesses at which the next event is due.
    due: u64,
    lines: u64,
    /// Lines that devices have raised and that are on their way.
    late: u64,
    disturbed: Disturbed,
    /// Lines that have been high ever since the CPUs last began or stopped to wait.
    offered: u64,
    interrupts: u64,
    register_accesses: u64,
    /// Events of devices that have run.
    events: u64,
}

/// A master that is none of the chip's devices, and of which nobody tells.
#[derive(Debug)]
pub struct Outsider {
    /// Its name on the board.
    pub name: String,
    /// Its port to memory.
    pub port: Port,
    /// Whether the device tree says that it is coherent.
    pub claims_coherent: bool,
}

/// What a chip is made of, beside its memory.
pub struct Parts {
    /// The domain's configuration; `ports` is filled in from the attachments.
    pub domain: DomainConfig,
    /// RAM, by physical addresses, if it is not all that the domain has.
    pub ram: Vec<Range<u64>>,
    /// Devices in order of their windows.
    pub devices: Vec<Attachment>,
    /// Whether the last of them has two windows.
    pub wide: bool,
    /// Streams of the fabric, with their names.
    pub streams: Streams,
    /// Names of the streams, by ID.
    pub stream_names: Vec<String>,
    /// How much later than they would, devices act and interrupts come.
    pub jitter: Jitter,
    /// A hash over all that decides what the chip does: the states of one with another are refused.
    pub identity: u64,
    /// Who works on its memory without a word.
    pub outsider: Option<Outsider>,
}

/// Why a chip cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum SocError {
    /// Its memory cannot be set up.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The memory for device windows is too small.
    #[error("{bytes} bytes are too few for the windows of {devices} devices, {WINDOW} bytes each")]
    Windows {
        /// Bytes that there are.
        bytes: u64,
        /// Devices.
        devices: usize,
    },
}

/// The device at `index`, and what translates its addresses.
fn device(
    slots: &mut [Slot],
    index: usize,
    translator: Option<usize>,
) -> Option<(&mut Slot, Option<Behind<'_>>)> {
    let stream = slots.get(index)?.stream;
    let (Some(stream), Some(at)) = (stream, translator.filter(|at| *at != index)) else {
        return Some((slots.get_mut(index)?, None));
    };
    let [slot, other] = slots.get_disjoint_mut([index, at]).ok()?;
    let (walker, translator) = (other.master, other.device.translator());
    let behind = walker.zip(translator).map(|(walker, translator)| Behind {
        translator,
        walker,
        stream,
    });
    Some((slot, behind))
}

impl Soc {
    /// Puts the chip together over guest RAM, and an image of DRAM if that was made beforehand: for an
    /// outsider, one that it shares. Where the engine's CPUs read and write device windows
    /// as memory, `windows` is that memory, [`WINDOW`] bytes for each device.
    ///
    /// # Errors
    /// [`SocError`] if either is too small or memory is short.
    pub fn new(
        parts: Parts,
        (ram, dram): (MmapRegion, Option<DramImage>),
        windows: Option<MmapRegion>,
    ) -> Result<Self, SocError> {
        let windows_start = parts.domain.base + parts.domain.ram_bytes;
        let devices = parts.devices.len();
        let windows = match windows {
            Some(memory) => {
                let bytes = memory.size() as u64;
                let wide = parts.wide.into();
                Some(
                    Windows::new(memory, devices, wide)
                        .ok_or(SocError::Windows { bytes, devices })?,
                )
            }
            None => None,
        };
        let mut map = Map::new(&parts.domain, parts.ram);
        let mut masters = Vec::new();
        let mut slots = Vec::new();
        for a in parts.devices {
            let master = a.port.map(|port| {
                let id = MasterId(masters.len() as u8);
                map.ranges.push(a.ranges);
                masters.push(MasterInfo {
                    id,
                    name: a.name.clone(),
                    port,
                    claims_coherent: a.claims_coherent,
                    asks_if_claimed: a.device.asks_if_claimed(),
                    ordered_as_a_cpu: a.device.is_ordered_as_a_cpu(),
                });
                id
            });
            slots.push(Slot {
                name: a.name,
                irq: a.irq,
                master,
                stream: a.stream,
                device: a.device,
            });
        }
        let outsider = parts.outsider.map(|o| {
            let id = MasterId(masters.len() as u8);
            map.ranges.push(Vec::new());
            masters.push(MasterInfo {
                id,
                name: o.name,
                port: o.port,
                claims_coherent: o.claims_coherent,
                asks_if_claimed: false,
                ordered_as_a_cpu: false,
            });
            id
        });
        let translates = |s: &mut Slot| s.device.translator().is_some();
        let translator = slots.iter_mut().position(translates);
        let mut config = parts.domain;
        config.ports = masters.iter().map(|m| m.port).collect();
        let mut soc = Soc {
            domain: Domain::over(&config, (ram, dram), outsider)?,
            map,
            queue: EventQueue::with_jitter(parts.jitter),
            streams: parts.streams,
            stream_names: parts.stream_names,
            identity: parts.identity,
            slots,
            masters,
            translator,
            wide: parts.wide,
            windows_start,
            windows,
            skipped: 0,
            due: Ticks::MAX,
            lines: 0,
            late: 0,
            disturbed: Disturbed::default(),
            offered: 0,
            interrupts: 0,
            register_accesses: 0,
            events: 0,
        };
        for index in 0..soc.slots.len() {
            soc.settle(index);
        }
        Ok(soc)
    }

    /// The coherency domain.
    pub fn domain(&mut self) -> &mut Domain {
        &mut self.domain
    }

    /// Runs `f` on a device with its context, then brings its window and its line up to date.
    fn with(&mut self, index: usize, f: impl FnOnce(&mut dyn Device, &mut Context<'_>)) {
        self.queue.advance(self.domain.now() + self.skipped);
        let Some((slot, behind)) = device(&mut self.slots, index, self.translator) else {
            return;
        };
        let is_translated = behind.is_some();
        let accesses = self.domain.master_accesses();
        let mut gate = Gate {
            domain: &mut self.domain,
            map: &self.map,
            behind,
        };
        let dma = match slot.master {
            Some(master) => DmaPort::new(&mut gate, master),
            None => DmaPort::none(),
        };
        let mut ctx = Context {
            dma,
            clock: Clock::new(&mut self.queue, DeviceId(index as u16)),
            streams: &mut self.streams,
        };
        f(slot.device.as_mut(), &mut ctx);
        if let Some(ticks) = self.domain.take_wake() {
            self.queue.schedule(LATE_WRITE, ticks, 0);
        }
        if self.domain.master_accesses() != accesses && self.domain.may_come_early() {
            self.early(index);
        }
        self.settle(index);
        if let Some(translator) = self.translator.filter(|_| is_translated) {
            self.settle(translator);
        }
    }

    fn settle(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        if let Some(windows) = &mut self.windows {
            windows.refresh(index, slot.device.as_ref());
        }
        if let Some(irq) = slot.irq {
            let level = slot.device.irq();
            self.line(index, irq, level);
        }
        self.due = self.queue.next_due().saturating_sub(self.skipped);
    }

    /// From now on, `witness` is told of events of these kinds.
    pub fn watch(&mut self, kinds: Kinds, witness: Box<dyn Witness>) {
        self.domain.watch(kinds, witness);
    }

    /// Whoever is told of events here is told from now on of those of `other`.
    pub fn pass_witness(&mut self, other: &mut Soc) {
        *other.domain.tap() = std::mem::take(self.domain.tap());
    }

    /// What there was to tell is told, and nothing more.
    pub fn unwatch(&mut self) {
        self.domain.tap().end();
    }

    /// What the chip is made of, by its names.
    pub fn names(&self) -> Names {
        let interrupts = self.slots.iter();
        let interrupts = interrupts.filter_map(|s| Some((s.irq?, s.name.clone())));
        Names {
            masters: self.masters.iter().map(|m| m.name.clone()).collect(),
            devices: self.slots.iter().map(|s| s.name.clone()).collect(),
            interrupts: interrupts.collect(),
            windows: self.windows_start,
        }
    }

    /// Lets devices do what is due by now.
    #[inline]
    fn catch_up(&mut self) {
        if self.domain.now() >= self.due {
            self.run_due();
        }
    }

    /// Whether devices have something to do after the next access.
    #[inline(always)]
    fn is_due_next(&self) -> bool {
        self.domain.now().wrapping_add(1) >= self.due
    }

    #[cold]
    #[inline(never)]
    fn run_due(&mut self) {
        self.queue.advance(self.domain.now() + self.skipped);
        while let Some((device, token)) = self.queue.pop_due() {
            self.events += 1;
            match device {
                LATE_LINE => self.late_line(token as usize),
                LATE_WRITE => self.domain.after_ticks(),
                FALL => self.fall_again(token as u8),
                _ => self.with(usize::from(device.0), |d, ctx| d.wake(token, ctx)),
            }
        }
        self.due = self.queue.next_due().saturating_sub(self.skipped);
    }

    /// Accesses to registers and events of devices since power-on.
    #[inline]
    pub fn steps(&self) -> u64 {
        self.register_accesses + self.events
    }

    /// What the run has come to.
    pub fn report(&self) -> SocReport {
        let mut device_errors = Vec::new();
        let mut extra = BTreeMap::new();
        for slot in &self.slots {
            for what in slot.device.errors() {
                if device_errors.len() < MAX_DEVICE_ERRORS {
                    device_errors.push(DeviceError {
                        device: slot.name.clone(),
                        what,
                    });
                }
            }
            if let Some((name, report)) = slot.device.report() {
                extra.insert(name.unwrap_or(&slot.name).to_owned(), report);
            }
        }
        let streams = self
            .stream_names
            .iter()
            .zip(self.streams.all())
            .map(|(name, s)| StreamReport::new(name.clone(), s.position(), s.checked()))
            .collect();
        SocReport {
            domain: self.domain.report(),
            masters: self.masters.clone(),
            streams,
            interrupts: self.interrupts,
            register_accesses: self.register_accesses,
            device_errors,
            extra,
        }
    }
}

impl Calls for Soc {
    fn called(&mut self, called: Called) {
        self.domain.called(called);
    }

    fn maintains_for(&mut self, cpu: CpuId, attachment: u64) {
        self.domain.maintains_for(cpu, attachment);
    }
}

impl Accesses for Soc {
    fn load(&mut self, cpu: CpuId, pa: u64, size: u32, site: SiteId, memory: MemoryType) {
        self.domain.load(cpu, pa, size, site, memory);
        self.catch_up();
    }

    fn store(&mut self, cpu: CpuId, pa: u64, size: u32, site: SiteId, memory: MemoryType) {
        self.domain.store(cpu, pa, size, site, memory);
        self.catch_up();
    }

    #[inline(always)]
    fn load_hit(&mut self, cpu: CpuId, pa: u64, size: u32, site: SiteId) -> bool {
        !self.is_due_next() && self.domain.load_hit(cpu, pa, size, site)
    }

    #[inline(always)]
    fn store_hit(&mut self, cpu: CpuId, pa: u64, size: u32, site: SiteId) -> bool {
        !self.is_due_next() && self.domain.store_hit(cpu, pa, size, site)
    }
}

impl Machine for Soc {
    fn read_register(&mut self, cpu: CpuId, pa: u64, site: SiteId, data: &mut [u8]) {
        self.domain
            .register(cpu, pa, data.len() as u32, site, false);
        self.domain.tap().register = (cpu, site, pa);
        self.load_registers(pa, data);
        self.catch_up();
    }

    fn write_register(&mut self, cpu: CpuId, pa: u64, site: SiteId, data: &[u8]) {
        self.domain.register(cpu, pa, data.len() as u32, site, true);
        self.domain.tap().register = (cpu, site, pa);
        self.note_register(true, data);
        self.store_registers(pa, data);
        self.catch_up();
    }

    fn maintain(&mut self, cpu: CpuId, op: CacheOp, pa: u64, site: SiteId, chain: ChainId) {
        self.domain.maintain(cpu, op, pa, site, chain);
    }

    #[inline]
    fn continues(&self, cpu: CpuId) -> bool {
        self.domain.continues(cpu)
    }

    fn barrier(&mut self, cpu: CpuId, barrier: Barrier) {
        self.domain.barrier(cpu, barrier);
    }

    fn map_non_cacheable(&mut self, entry: u64, pa: u64, len: u64) {
        self.domain.map_non_cacheable(entry, pa, len);
    }

    fn remapped(&mut self, pa: u64, len: u64, non_cacheable: bool) {
        self.domain.remapped(pa, len, non_cacheable);
    }

    fn fetched(&mut self, cpu: CpuId, pa: u64, len: u64, site: &mut dyn FnMut() -> SiteId) {
        self.domain.fetched(cpu, pa, len, site);
    }

    fn changed_code(&mut self) -> Option<u64> {
        self.domain.changed_code()
    }

    /// A line that is high may be disabled at the interrupt controller, which is not ours to ask.
    /// If it is not, WFI falls through, and the CPU takes the interrupt before it waits again. So a
    /// line makes one WFI fall through for each time it rises; if it is still high at the next one,
    /// nobody wants it now, and time goes on for everybody else.
    fn idle(&mut self) {
        for _ in 0..IDLE_BUDGET {
            let risen = self.lines & !self.offered;
            let next = self.queue.next_due();
            if risen == 0 && next == Ticks::MAX {
                // Only the guest's own timers go on: it may be stuck.
                self.domain.tap().rest();
            }
            if risen != 0 || next == Ticks::MAX {
                break;
            }
            let now = self.domain.now() + self.skipped;
            let ticks = next.saturating_sub(now);
            self.skipped += ticks;
            self.domain.note(Kind::Wait, || Event::Waited { ticks });
            self.run_due();
        }
        self.offered = self.lines;
    }

    fn is_awaited(&self) -> bool {
        self.queue.next_due() != Ticks::MAX
    }

    #[inline]
    fn irq_lines(&self) -> u64 {
        self.lines
    }

    #[inline]
    fn accesses(&self) -> u64 {
        self.domain.now()
    }
}
