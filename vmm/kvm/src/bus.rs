// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is outside the guest's CPUs and memory: the chip's registers, the UART, and the lines of both.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use kvm_ioctls::VmFd;
use staleline_devices::cpu::{Barrier, CacheOp, ChainId, CpuId, LINE, SiteId};
use staleline_machine::board::port::{COHERENCY_PORT, Done, Told};
use staleline_machine::board::{UART, UART_BYTES, UART_IRQ};
use staleline_machine::engine::guest::Guest;
use staleline_machine::engine::wire::KvmStats;
use vmm_sys_util::eventfd::EventFd;

use crate::dram::Dram;
use crate::error::KvmError;
use crate::gic;
use crate::memory::Ram;
use crate::pause::Pause;
use crate::pci::Bridge;
use crate::snapshot::CpuState;
use crate::uart::Uart;
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
    stats: KvmStats,
    /// What went wrong where nobody could be told.
    failure: Option<KvmError>,
}

/// What the guest has written.
#[derive(Debug, Default)]
struct Console {
    /// Not fetched yet.
    bytes: Vec<u8>,
    /// Of the line that is being written.
    line: Vec<u8>,
    /// The guest is to stand still when it has written this line.
    until: Option<String>,
}

impl Console {
    /// Whether that was the end of the line that is waited for.
    fn write(&mut self, byte: u8) -> bool {
        self.bytes.push(byte);
        let Some(until) = &self.until else {
            return false;
        };
        match byte {
            b'\n' => {
                let found = self.line.trim_ascii_end() == until.as_bytes();
                self.line.clear();
                if found {
                    self.until = None;
                }
                found
            }
            // A line that is longer than that is another, but for white space.
            _ => {
                if self.line.len() < until.len() + 2 {
                    self.line.push(byte);
                }
                false
            }
        }
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
}

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
    vm: Arc<VmFd>,
    windows: std::ops::Range<u64>,
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
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<M: Guest> Bus<M> {
    /// With the machine's registers at `windows`. `written` becomes readable when there is something on the
    /// console, and when the guest is to stand still, which is once it has written the line `until`.
    pub fn new(
        vm: Arc<VmFd>,
        machine: M,
        windows: std::ops::Range<u64>,
        written: EventFd,
        (beside, until): (Beside, Option<String>),
        host: HostSide,
    ) -> Self {
        Bus {
            vm,
            windows,
            outside: Mutex::new(Outside {
                machine,
                beside,
                stats: KvmStats::default(),
                failure: None,
            }),
            awaited: Condvar::new(),
            over: AtomicBool::new(false),
            pause: Pause::default(),
            console: Mutex::new(Console {
                until,
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
        self.awaited.notify_all();
        self.fetched.notify_all();
        self.pause.release();
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
            outside.machine.read_register(cpu, pa, SiteId(0), data);
        } else if let Some(offset) = uart_offset(pa) {
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
            match Told::decode(u64::from_le_bytes(value)) {
                Some(told) => tell(&mut outside.machine, &self.host, cpu, told)?,
                None => outside.stats.nowhere += 1,
            }
        } else if let Some(offset) = uart_offset(pa) {
            let mut value = [0; 4];
            value
                .iter_mut()
                .zip(data)
                .for_each(|(to, from)| *to = *from);
            out = outside.beside.uart.write(offset, u32::from_le_bytes(value));
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

    /// Tells KVM of lines that have changed, and time that somebody waits.
    fn settle(&self, outside: &mut Outside<M>) -> Result<(), KvmError> {
        let lines = outside.machine.irq_lines();
        let mut changed = lines ^ outside.beside.lines;
        while changed != 0 {
            // Of 64 bits.
            let line = changed.trailing_zeros() as u8;
            changed &= changed - 1;
            gic::set_line(&self.vm, line, lines >> line & 1 != 0)?;
            outside.stats.irq_changes += 1;
        }
        outside.beside.lines = lines;
        let level = outside.beside.uart.irq();
        if level != outside.beside.uart_line {
            gic::set_line(&self.vm, UART_IRQ, level)?;
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

    /// Shows the machine and what is beside it, to which nothing happens meanwhile but by CPUs.
    pub fn show<R>(&self, look: impl FnOnce(&M, &Beside) -> R) -> R {
        let outside = locked(&self.outside);
        look(&outside.machine, &outside.beside)
    }

    /// A CPU has run for so long.
    pub fn ran(&self, time: Duration) {
        let more = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
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
        Ok((report, outside.stats.clone()))
    }
}

/// Tells the machine what a CPU has told of. Of lines outside RAM it takes no notice; the range is cut to what can
/// be there.
fn tell<M: Guest>(
    machine: &mut M,
    host: &HostSide,
    cpu: CpuId,
    told: Told,
) -> Result<(), KvmError> {
    let (whole, part) = match told.done {
        Done::Clean => (CacheOp::Clean, CacheOp::Clean),
        Done::Invalidate => (CacheOp::Invalidate, CacheOp::CleanInvalidate),
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
    for (pa, partly) in told.each() {
        let op = if partly { part } else { whole };
        machine.maintain(cpu, op, pa, SiteId(0), ChainId(0));
    }
    machine.barrier(cpu, Barrier::DSB_SY);
    Ok(())
}

fn uart_offset(pa: u64) -> Option<u64> {
    pa.checked_sub(UART).filter(|offset| *offset < UART_BYTES)
}
