// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is outside the guest's CPUs and memory: the chip's registers, the UART, and the lines of both.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use kvm_bindings::kvm_coalesced_mmio;
use staleline_devices::cpu::{Barrier, CacheOp, ChainId, CpuId, LINE, SiteId};
use staleline_machine::board::port::{COHERENCY_PORT, Done, Told};
use staleline_machine::board::{UART, UART_BYTES, UART_IRQ};
use staleline_machine::boot::RAM_BASE;
use staleline_machine::engine::guest::Guest;
use staleline_machine::engine::wire::KvmStats;
use staleline_machine::snapshot::Until;
use staleline_support::time::micros;
use vmm_sys_util::eventfd::EventFd;

use crate::dram::Dram;
use crate::error::KvmError;
use crate::memory::Ram;
use crate::pause::Pause;
use crate::pci::Bridge;
use crate::shortcut::Shortcut;
use crate::snapshot::CpuState;
use crate::uart::{self, Uart};
use crate::vfio::Device;

/// How long devices take for what they do on their own. The engine does not see how far the CPUs have come, so
/// device time goes on by the host's: enough that a CPU gets something done meanwhile, as it would.
const PACE: Duration = Duration::from_micros(50);

/// Most bytes of a console that nobody has fetched yet. A guest that writes more waits.
const CONSOLE_LIMIT: usize = 1 << 20;

/// Bytes of a line that are passed on before it has an end.
const PIECE: usize = 4096;

struct Outside<M> {
    machine: M,
    beside: Beside,
    shortcut: Option<Shortcut>,
    stats: KvmStats,
    /// What went wrong where nobody could be told.
    failure: Option<KvmError>,
}

/// What the guest has written.
#[derive(Debug, Default)]
struct Console {
    /// Not fetched yet.
    bytes: Vec<u8>,
    /// The guest is to stand still when it has written this line.
    until: Option<Until>,
}

impl Console {
    /// Whether that was the end of the line that is waited for.
    fn write(&mut self, byte: u8) -> bool {
        self.bytes.push(byte);
        let found = self.until.as_mut().is_some_and(|until| until.is_over(byte));
        if found {
            self.until = None;
        }
        found
    }
}

/// What there is beside the machine, and is not the same in each guest.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// The console's UART.
    pub uart: Uart,
    /// Shared interrupt lines that are high, as KVM has them.
    pub lines: u64,
    /// Whether the UART's is.
    pub uart_line: bool,
    /// Whether the guest's kernel has found the coherency port, and tells of what it does.
    pub is_told: bool,
}

/// Sets the level of a shared interrupt, by its number.
pub type SetLine = Box<dyn Fn(u8, bool) -> Result<(), KvmError> + Send + Sync>;

/// What of the host the guest has.
#[derive(Default)]
pub struct HostSide {
    // Dropped in this order: who accesses memory before that.
    /// The PCI host bridge, if the board has one.
    pub bridge: Option<Bridge<Device>>,
    /// RAM, and DRAM, where devices work on the latter.
    pub shared: Option<(Arc<Ram>, Arc<Dram>)>,
}

impl HostSide {
    fn bridge_at(&self, pa: u64) -> Option<&Bridge<Device>> {
        self.bridge.as_ref().filter(|bridge| bridge.claims(pa))
    }
}

/// All of it, as CPUs and time reach it.
pub struct Bus<M> {
    set_line: SetLine,
    windows: Range<u64>,
    outside: Mutex<Outside<M>>,
    /// Devices wait for a time to come.
    awaited: Condvar,
    over: AtomicBool,
    /// Where CPUs wait while the guest is saved.
    pub pause: Pause<CpuState>,
    console: Mutex<Console>,
    fetched: Condvar,
    /// Readable when there is something on the console.
    written: EventFd,
    host: HostSide,
    /// Whether KVM may keep characters that the guest writes.
    keeps: bool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<M: Guest> Bus<M> {
    /// With the machine's registers at `windows`. `written` becomes readable when there is something on the
    /// console, and when the guest is to stand still, which is once it has written the line `until`.
    pub fn new(
        set_line: SetLine,
        machine: M,
        windows: Range<u64>,
        written: EventFd,
        (beside, shortcut): (Beside, Option<Shortcut>),
        until: Option<String>,
        host: HostSide,
    ) -> Self {
        Bus {
            keeps: shortcut.as_ref().is_some_and(Shortcut::keeps),
            set_line,
            windows,
            outside: Mutex::new(Outside {
                machine,
                beside,
                shortcut,
                stats: KvmStats::default(),
                failure: None,
            }),
            awaited: Condvar::new(),
            over: AtomicBool::new(false),
            pause: Pause::default(),
            console: Mutex::new(Console {
                until: until.map(Until::new),
                ..Console::default()
            }),
            fetched: Condvar::new(),
            written,
            host,
        }
    }

    /// The guest has ended: nothing that still comes of its CPUs has an effect.
    pub fn end(&self) {
        self.over.store(true, Ordering::Release);
        // Whoever has looked before that waits by the time that the lock is to be had, and is woken. The console
        // comes first: who waits for room there holds the other.
        drop(locked(&self.console));
        self.fetched.notify_all();
        drop(locked(&self.outside));
        self.awaited.notify_all();
        self.pause.end();
    }

    /// Whether it has.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// A CPU reads up to 8 bytes at `pa`, where there is no memory.
    ///
    /// # Errors
    /// [`KvmError`] if an interrupt line cannot be set.
    pub fn read(&self, cpu: CpuId, pa: u64, data: &mut [u8]) -> Result<(), KvmError> {
        data.fill(0);
        let mut outside = locked(&self.outside);
        if self.is_over() {
            return Ok(());
        }
        outside.stats.exits += 1;
        if self.windows.contains(&pa) {
            outside.stats.register_reads += 1;
            outside.machine.read_register(cpu, pa, SiteId(0), data);
        } else if let Some(offset) = uart_offset(pa) {
            outside.stats.uart_reads += 1;
            let value = outside.beside.uart.read(offset).to_le_bytes();
            data.iter_mut().zip(value).for_each(|(to, from)| *to = from);
        } else if let Some(bridge) = self.host.bridge_at(pa) {
            bridge.read(pa, data);
        } else {
            outside.stats.nowhere += 1;
        }
        self.settle(&mut outside)
    }

    /// A CPU writes up to 8 bytes at `pa`, where there is no memory.
    ///
    /// # Errors
    /// As [`Bus::read`].
    pub fn write(&self, cpu: CpuId, pa: u64, data: &[u8]) -> Result<(), KvmError> {
        let mut outside = locked(&self.outside);
        if self.is_over() {
            return Ok(());
        }
        outside.stats.exits += 1;
        let mut out = None;
        if self.windows.contains(&pa) {
            outside.machine.write_register(cpu, pa, SiteId(0), data);
        } else if let (COHERENCY_PORT, Ok(value)) = (pa, data.try_into()) {
            outside.stats.reports += 1;
            match Told::decode(u64::from_le_bytes(value)) {
                Some(told) => tell(&mut outside, &self.host, &self.ram(), cpu, told)?,
                None => outside.stats.nowhere += 1,
            }
        } else if let Some(offset) = uart_offset(pa) {
            outside.stats.uart_writes += 1;
            let mut value = [0; 4];
            value
                .iter_mut()
                .zip(data)
                .for_each(|(to, from)| *to = *from);
            let Outside {
                beside, shortcut, ..
            } = &mut *outside;
            out = beside.uart.write(offset, u32::from_le_bytes(value));
            if let Some(shortcut) = shortcut {
                shortcut.show(&beside.uart)?;
            }
        } else if let Some(bridge) = self.host.bridge_at(pa) {
            bridge.write(pa, data);
        } else {
            outside.stats.nowhere += 1;
        }
        let settled = self.settle(&mut outside);
        drop(outside);
        if let Some(byte) = out {
            self.print(byte);
        }
        settled
    }

    /// Whether CPUs have to come out now and then for what they have written.
    pub fn keeps(&self) -> bool {
        self.keeps
    }

    /// Takes what KVM has kept of what a CPU has written to the UART, one after another from `next`.
    ///
    /// # Errors
    /// Those of `next`.
    pub fn fetch(
        &self,
        mut next: impl FnMut() -> Result<Option<kvm_coalesced_mmio>, KvmError>,
    ) -> Result<(), KvmError> {
        while self.keeps
            && let Some(written) = next()?
        {
            let out = {
                let mut outside = locked(&self.outside);
                outside.stats.kept += 1;
                let [byte, ..] = written.data;
                outside.beside.uart.write(uart::DR, byte.into())
            };
            if let Some(byte) = out {
                self.print(byte);
            }
        }
        Ok(())
    }

    /// Tells KVM of lines that have changed, and time that somebody waits.
    fn settle(&self, outside: &mut Outside<M>) -> Result<(), KvmError> {
        let lines = outside.machine.irq_lines();
        let mut changed = lines ^ outside.beside.lines;
        while changed != 0 {
            // Of 64 bits.
            let line = changed.trailing_zeros() as u8;
            changed &= changed - 1;
            (self.set_line)(line, lines >> line & 1 != 0)?;
            outside.stats.irq_changes += 1;
        }
        outside.beside.lines = lines;
        let level = outside.beside.uart.irq();
        if level != outside.beside.uart_line {
            (self.set_line)(UART_IRQ, level)?;
            outside.beside.uart_line = level;
        }
        if outside.machine.is_awaited() {
            self.awaited.notify_one();
        }
        Ok(())
    }

    fn print(&self, byte: u8) {
        let mut console = locked(&self.console);
        while console.bytes.len() >= CONSOLE_LIMIT && !self.is_over() {
            console = self
                .fetched
                .wait(console)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let stop = console.write(byte);
        if stop {
            self.pause.want();
        }
        // Line by line: a message for each byte would take longer than the guest to write it.
        if stop || byte == b'\n' || console.bytes.len() == PIECE {
            // It cannot overflow: whoever reads it takes all.
            let _ = self.written.write(1);
        }
    }

    /// What the guest has written since the last time.
    pub fn console(&self) -> Vec<u8> {
        // Nothing there to read is no harm.
        let _ = self.written.read();
        let bytes = std::mem::take(&mut locked(&self.console).bytes);
        self.fetched.notify_all();
        bytes
    }

    /// Lets device time go on until the guest ends.
    ///
    /// # Errors
    /// As [`Bus::read`].
    pub fn keep_time(&self) -> Result<(), KvmError> {
        let mut outside = locked(&self.outside);
        loop {
            while !outside.machine.is_awaited() && !self.is_over() {
                outside = self
                    .awaited
                    .wait(outside)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            drop(outside);
            if self.is_over() {
                return Ok(());
            }
            thread::sleep(PACE);
            outside = locked(&self.outside);
            if !self.is_over() {
                outside.machine.idle();
                outside.stats.idles += 1;
                self.settle(&mut outside)?;
            }
        }
    }

    /// Where RAM is.
    fn ram(&self) -> Range<u64> {
        RAM_BASE..self.windows.start
    }

    /// Shows the machine and what is beside it, to which nothing happens meanwhile but by CPUs.
    pub fn show<R>(&self, look: impl FnOnce(&M, &Beside) -> R) -> R {
        let outside = locked(&self.outside);
        look(&outside.machine, &outside.beside)
    }

    /// A CPU has run for so long.
    pub fn ran(&self, time: Duration) {
        let more = micros(time);
        let stats = &mut locked(&self.outside).stats;
        stats.cpu_us = stats.cpu_us.saturating_add(more);
    }

    /// Notes what went wrong in a thread, and ends.
    pub fn fail(&self, failure: KvmError) {
        locked(&self.outside).failure.get_or_insert(failure);
        self.end();
    }

    /// The guest has ended: the machine's report, and counters.
    ///
    /// # Errors
    /// What went wrong meanwhile, or in making the report.
    pub fn finish(&self) -> Result<(M::Report, KvmStats), KvmError> {
        let mut outside = locked(&self.outside);
        if let Some(failure) = outside.failure.take() {
            return Err(failure);
        }
        let report = outside.machine.finish().map_err(KvmError::Machine)?;
        outside.stats.is_told = outside.beside.is_told;
        Ok((report, outside.stats.clone()))
    }
}

/// Tells the machine what a CPU has told of, of the lines that are in RAM.
fn tell<M: Guest>(
    Outside {
        machine, beside, ..
    }: &mut Outside<M>,
    host: &HostSide,
    ram: &Range<u64>,
    cpu: CpuId,
    told: Told,
) -> Result<(), KvmError> {
    let (whole, part) = match told.done {
        Done::Clean => (CacheOp::Clean, CacheOp::Clean),
        Done::Invalidate => (CacheOp::Invalidate, CacheOp::CleanInvalidate),
        Done::Found => {
            beside.is_told = true;
            return Ok(());
        }
        Done::Uncached | Done::Cached => {
            let uncached = told.done == Done::Uncached;
            let (first, len) = (told.first, told.lines * LINE);
            let share = || match &host.shared {
                Some((ram, dram)) => dram.share(ram, first, len, uncached),
                None => Ok(()),
            };
            // The machine looks while there are two memories.
            if !uncached {
                share()?;
            }
            machine.remapped(first, len, uncached);
            return if uncached { share() } else { Ok(()) };
        }
    };
    for (pa, partly) in told.each(ram.clone()) {
        let op = if partly { part } else { whole };
        machine.maintain(cpu, op, pa, SiteId(0), ChainId(0));
    }
    machine.barrier(cpu, Barrier::DSB_SY);
    Ok(())
}

fn uart_offset(pa: u64) -> Option<u64> {
    pa.checked_sub(UART).filter(|offset| *offset < UART_BYTES)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io;
    use std::sync::Arc;

    use staleline_devices::coherency::Poison;
    use staleline_devices::soc::Soc;
    use staleline_machine::board::config::MachineConfig;
    use staleline_machine::board::settings::BoardSettings;
    use staleline_machine::engine::guest::GuestContext;
    use vm_memory::MmapRegion;
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    const RAM: u64 = 16 << 20;
    const WINDOWS: Range<u64> = RAM_BASE + RAM..RAM_BASE + RAM + (1 << 20);
    const CPU: CpuId = CpuId(0);

    /// The board beside a guest that there is not. Lines go to nobody.
    fn bus(set_line: SetLine) -> Bus<Soc> {
        let machine = MachineConfig::new(BoardSettings {
            ram_mib: 16,
            ..BoardSettings::default()
        });
        let machine = <Soc as Guest>::new(GuestContext {
            ram: MmapRegion::new(RAM as usize).unwrap(),
            ram_base: RAM_BASE,
            windows: None,
            dram: None,
            lazy: Some(Poison::default()),
            machine: serde_json::to_value(machine).unwrap(),
        });
        let written = EventFd::new(EFD_NONBLOCK).unwrap();
        Bus::new(
            set_line,
            machine.unwrap(),
            WINDOWS,
            written,
            (Beside::default(), None),
            Some("ok 1 boot".into()),
            HostSide::default(),
        )
    }

    /// The same, of which nobody hears.
    pub fn quiet() -> Bus<Soc> {
        bus(Box::new(|_, _| Ok(())))
    }

    /// A guest writes on its console.
    pub fn say(bus: &Bus<Soc>, text: &[u8]) {
        for byte in text {
            bus.write(CPU, UART, &[*byte]).unwrap();
        }
    }

    #[test]
    fn the_guest_is_to_stand_still_when_a_line_is_written_and_only_once() {
        let bus = quiet();
        let say = |text: &[u8]| {
            say(&bus, text);
            bus.pause.is_wanted()
        };
        assert!(!say(b"not ok 1 boot\nok 1 boot, and more\nok 1 boot"));
        assert!(say(b"\r\n"));
        bus.pause.release();
        assert!(!say(b"ok 1 boot\n"));
    }

    #[test]
    fn what_is_written_to_the_uart_is_on_the_console_and_nothing_else_is() {
        let bus = quiet();
        for byte in *b"hello" {
            bus.write(CPU, UART, &u32::from(byte).to_le_bytes())
                .unwrap();
            bus.write(CPU, UART - 8, &[byte]).unwrap();
        }
        assert_eq!(bus.console(), b"hello");
        assert_eq!(bus.console(), b"");
        let (_, stats) = bus.finish().unwrap();
        assert_eq!((stats.exits, stats.nowhere), (10, 5));
    }

    #[test]
    fn where_nothing_is_reads_are_zero() {
        let bus = quiet();
        for pa in [0, UART + UART_BYTES, RAM_BASE - 1, WINDOWS.end, u64::MAX] {
            for len in 0..=8 {
                let mut data = vec![0xff; len];
                bus.read(CPU, pa, &mut data).unwrap();
                assert!(data.iter().all(|byte| *byte == 0), "{pa:#x}");
                bus.write(CPU, pa, &data).unwrap();
            }
        }
    }

    /// Whatever it writes, a guest harms nobody but itself.
    #[test]
    fn no_register_access_does_any_harm() {
        let bus = quiet();
        let mut state = 1_u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state >> 16
        };
        for _ in 0..20_000 {
            let pa = match next() % 4 {
                0 => COHERENCY_PORT,
                1 => UART + next() % UART_BYTES,
                _ => WINDOWS.start + next() % (WINDOWS.end - WINDOWS.start),
            };
            let data = next().to_le_bytes();
            let len = [1, 2, 4, 8][(next() % 4) as usize];
            bus.write(CPU, pa, &data[..len]).unwrap();
            bus.read(CPU, pa, &mut vec![0; len]).unwrap();
        }
        bus.console();
        bus.finish().unwrap();
    }

    #[test]
    fn a_guest_that_floods_the_console_waits_and_its_end_wakes_it() {
        let bus = Arc::new(quiet());
        let writer = Arc::clone(&bus);
        let flood = thread::spawn(move || {
            for _ in 0..CONSOLE_LIMIT + 10 {
                writer.write(CPU, UART, &[b'x', 0, 0, 0]).unwrap();
            }
        });
        let len = || locked(&bus.console).bytes.len();
        while len() < CONSOLE_LIMIT {
            thread::sleep(PACE);
        }
        thread::sleep(Duration::from_millis(50));
        assert_eq!(len(), CONSOLE_LIMIT);
        assert_eq!(bus.console().len(), CONSOLE_LIMIT);
        flood.join().unwrap();
        assert_eq!(bus.console().len(), 10);

        let writer = Arc::clone(&bus);
        let flood = thread::spawn(move || {
            for _ in 0..2 * CONSOLE_LIMIT {
                writer.write(CPU, UART, &[b'x', 0, 0, 0]).unwrap();
            }
        });
        while len() < CONSOLE_LIMIT {
            thread::sleep(PACE);
        }
        bus.end();
        flood.join().unwrap();
    }

    #[test]
    fn what_went_wrong_first_is_told_at_the_end() {
        let refuse = |_, _| Err(KvmError::os("set a line")(io::Error::other("no")));
        let bus = bus(Box::new(refuse));
        // The interrupt of what has been sent.
        let mask = (UART + 0x38, 1_u32 << 5);
        let refused = [mask, (UART, u32::from(b'x'))].into_iter();
        let refused = refused.map(|(pa, value)| bus.write(CPU, pa, &value.to_le_bytes()));
        let refused: Vec<_> = refused.filter_map(Result::err).collect();
        assert!(!refused.is_empty());
        for error in refused {
            bus.fail(error);
        }
        bus.fail(KvmError::BadRequest("too late"));
        assert!(bus.is_over());
        // Nothing comes of what its CPUs still do.
        bus.write(CPU, UART, b"y\0\0\0").unwrap();
        let error = bus.finish().map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), "cannot set a line");
    }
}
