// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A guest from its images, or a snapshot, to its end.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use kvm_bindings::KVM_CAP_ARM_VM_IPA_SIZE;
use kvm_ioctls::{Cap, DeviceFd, Kvm, VcpuFd, VmFd};
use staleline_devices::coherency::DramImage;
use staleline_devices::cpu::MAX_CPUS;
use staleline_machine::boot::{BootError, Expected, Images, Layout, Loaded, RAM_BASE};
use staleline_machine::engine::guest::{Guest, GuestContext};
use staleline_machine::engine::wire::{DISK, Ended, KvmStats, Output, Run};
use staleline_machine::engine::{handover, memory};
use staleline_machine::events::{EventLog, Head, Recording};
use staleline_support::time::micros;
use vm_memory::{Bytes as _, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::blobs::Blobs;
use crate::bus::{Beside, Bus, HostSide};
use crate::dram::Dram;
use crate::error::KvmError;
use crate::initial::Initial;
use crate::memory::Ram;
use crate::sandbox;
use crate::shortcut::Shortcut;
use crate::sink::Sink;
use crate::snapshot::{self, CpuState, PAGE, SnapshotError, State};
use crate::spare::{Content, Spare, fill};
use crate::supervise::{Still, supervise};
use crate::unpacked::Unpacked;
use crate::{below, gic, vcpu, vfio};

/// What became of a guest.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: Ended,
    /// What it was.
    pub loaded: Loaded,
    /// From its first instruction to its end.
    pub wall: Duration,
    /// Counters.
    pub stats: KvmStats,
}

/// What guests leave for the next.
#[derive(Debug, Default)]
pub struct Kept {
    unpacked: Unpacked,
    spare: Spare,
}

/// A machine that does not run yet.
struct Built {
    // Dropped in this order: CPUs before what they are of.
    vcpus: Vec<VcpuFd>,
    gic: DeviceFd,
    vm: Arc<VmFd>,
    shortcut: Option<Shortcut>,
}

/// Where a guest begins.
enum Start {
    /// Its images are in RAM; the address of its first instruction.
    Boot { entry: u64 },
    /// It goes on.
    Snapshot(Box<State>),
}

/// Runs the guest that `run` describes. `scratch` is a directory of its own; `kept` is what guests leave for the
/// next.
///
/// # Errors
/// [`KvmError`]; nothing of the guest is left.
pub fn run<M: Guest>(
    run: &Run,
    blobs: &Blobs,
    kept: &mut Kept,
    scratch: &Path,
    sink: &mut dyn Sink,
) -> Result<Outcome, KvmError> {
    let begun = Instant::now();
    check(run)?;
    let Kept { unpacked, spare } = kept;
    let images = GuestImages::open(run, blobs)?;
    let (loaded, start, content) = start(run, (blobs, &images), unpacked)?;
    let taken = spare.take(&kind(run), run.ram_bytes)?;
    let ram = Arc::new(taken.ram);
    let outcome = thread::scope(|scope| {
        let body = || {
            sandbox::name("memory");
            let begun = Instant::now();
            // SAFETY: nobody else touches RAM until this has ended: `go` waits for that before a CPU runs, and before the
            // machine looks there.
            unsafe { fill(&ram, taken.was_used, (content, &run.poison)) }?;
            Ok(begun.elapsed())
        };
        // It ends before the guest begins, and has the main thread's filters.
        let filling = thread::Builder::new().name("memory".into());
        let filling = filling.spawn_scoped(scope, body);
        let filling = Filling {
            thread: Some(filling.map_err(KvmError::os("start a thread"))?),
            took: Duration::ZERO,
        };
        go::<M>(
            run,
            (&ram, loaded, start),
            (blobs, &images),
            (begun, filling),
            scratch,
            sink,
        )
    });
    // Nobody else has it any more; but of one with devices of the host, pages may be DRAM's.
    if let (None, Some(ram)) = (&run.devices, Arc::into_inner(ram)) {
        spare.keep(kind(run), ram);
    }
    outcome
}

/// RAM that gets what a guest begins with.
struct Filling<'scope> {
    thread: Option<ScopedJoinHandle<'scope, Result<Duration, KvmError>>>,
    /// What it has taken, once it is over.
    took: Duration,
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Whatever has ended the guest before it began is what is told.
            let _ = thread.join();
        }
    }
}

impl Filling<'_> {
    /// Waits for it.
    ///
    /// # Errors
    /// [`KvmError`].
    fn done(&mut self) -> Result<(), KvmError> {
        if let Some(thread) = self.thread.take() {
            let panicked = |_| KvmError::Machine("the thread that fills RAM has panicked".into());
            self.took = thread.join().map_err(panicked)??;
        }
        Ok(())
    }
}

/// The same, with RAM, which outlives all that has a view of it, and is still being filled. Setup has begun at `begun`.
fn go<M: Guest>(
    run: &Run,
    (ram, loaded, start): (&Arc<Ram>, Loaded, Start),
    (blobs, images): (&Blobs, &GuestImages),
    (begun, mut filling): (Instant, Filling<'_>),
    scratch: &Path,
    sink: &mut dyn Sink,
) -> Result<Outcome, KvmError> {
    let dram = run.devices.as_ref();
    let dram = dram.map(|_| Dram::new(run.ram_bytes, &run.poison));
    let dram = dram.transpose()?.map(Arc::new);
    let Built {
        vcpus,
        gic,
        vm,
        mut shortcut,
    } = build(run, ram, &start)?;
    let mut config = run.machine.clone();
    if let (Some(disk), Some(path)) = (&run.disk, config.pointer_mut(DISK)) {
        let disk = blobs.find(disk);
        *path = disk
            .map_err(KvmError::os("find the disk's image"))?
            .display()
            .to_string()
            .into();
    }
    if run.devices.is_some() || matches!(start, Start::Snapshot(_)) {
        // The machine is going to look at RAM, before the guest is.
        filling.done()?;
    }
    let begun_chip = Instant::now();
    // SAFETY: the machine has it, which is gone when this returns, with the bus that it is on and all threads that have
    // that; the caller has RAM for longer. Who fills it has done so before the machine looks there.
    let ram_view = unsafe { ram.view() }?;
    let dram_view = match &dram {
        // SAFETY: likewise. DRAM is declared before the machine.
        Some(dram) => Some(unsafe { dram.view() }?),
        None => None,
    };
    let mut machine = M::new(GuestContext {
        ram: ram_view,
        ram_base: RAM_BASE,
        windows: None,
        dram: Some(match dram_view {
            Some(view) => DramImage::Shared(view),
            None => DramImage::Loaded(below::dram(run.ram_bytes, &images.initial)?),
        }),
        lazy: Some(run.poison.clone()),
        machine: config,
    })
    .map_err(KvmError::Machine)?;
    let host = host_side(run, &vm, ram, dram.clone())?;
    let mut beside = Beside::default();
    if let Start::Snapshot(state) = &start {
        machine
            .restore(&state.machine)
            .map_err(SnapshotError::from)?;
        beside = Beside {
            uart: state.uart.clone(),
            lines: state.lines,
            uart_line: state.uart_line,
            is_told: state.is_told,
        };
        sink.output(Output::Console, &state.console)
            .map_err(KvmError::os("pass on the console"))?;
    }
    let for_chip = begun_chip.elapsed();
    if let Some(shortcut) = &mut shortcut {
        shortcut.show(&beside.uart)?;
    }
    let log = scratch.join("events.bin");
    record(run, &log, &mut machine).map_err(KvmError::os("write the log"))?;
    let windows = RAM_BASE + run.ram_bytes;
    let descriptors = KvmError::os("make an eventfd");
    let written = EventFd::new(EFD_NONBLOCK).map_err(&descriptors)?;
    let heard = written.try_clone().map_err(&descriptors)?;
    let vm = Arc::clone(&vm);
    let bus = Bus::new(
        Box::new(move |line, level| gic::set_line(&vm, line, level)),
        machine,
        windows..windows + run.window_bytes,
        written,
        (beside, shortcut),
        run.save.clone(),
        host,
    );
    let bus = Arc::new(bus);
    if let Start::Snapshot(state) = &start {
        // Last, so that as little time as can be goes by before the guest does.
        vcpu::restore_time(&vcpus, &state.cpus)?;
    }
    let (mut setup, mut started) = (Duration::ZERO, Instant::now());
    let ready = || {
        filling.done()?;
        (setup, started) = (begun.elapsed(), Instant::now());
        Ok(())
    };
    let mut saving = Duration::ZERO;
    let mut save = |still: Still<'_>| {
        let begun = Instant::now();
        let saved = save(run, ram, (&gic, &loaded), &bus, still);
        saving = begun.elapsed();
        saved
    };
    let end = supervise(run, vcpus, &bus, heard, sink, (ready, &mut save))?;
    let wall = started.elapsed();
    let (report, mut stats) = bus.finish()?;
    stats.setup_us = micros(setup);
    stats.memory_us = micros(filling.took);
    stats.chip_us = micros(for_chip);
    stats.saving_us = micros(saving);

    let sent = KvmError::os("send what the guest has left");
    let mut bytes = Vec::new();
    handover::to(&mut bytes, &report).map_err(&sent)?;
    sink.output(Output::Report, &bytes).map_err(&sent)?;
    if run.events.is_some() {
        let bytes = std::fs::read(&log).map_err(&sent)?;
        sink.output(Output::Events, &bytes).map_err(&sent)?;
    }
    Ok(Outcome {
        end,
        loaded,
        wall,
        stats,
    })
}

fn check(run: &Run) -> Result<(), KvmError> {
    check_pages(rustix::param::page_size())?;
    memory::check(run.ram_bytes, run.window_bytes).map_err(KvmError::BadRequest)?;
    let last = run.ram_bytes / PAGE as u64;
    let is_ram = |pages: &Range<u64>| pages.start <= pages.end && pages.end <= last;
    if !run.poison.pages().iter().all(is_ram) {
        return Err(KvmError::BadRequest("poison outside RAM"));
    }
    if !(1..=MAX_CPUS).contains(&usize::from(run.cpus)) {
        return Err(KvmError::BadRequest("there must be from 1 to 4 CPUs"));
    }
    match run.lines {
        1..=64 => Ok(()),
        _ => Err(KvmError::BadRequest(
            "there must be from 1 to 64 shared interrupts",
        )),
    }
}

/// Pages of RAM are mapped, cleared and replaced one by one.
fn check_pages(bytes: usize) -> Result<(), KvmError> {
    match bytes {
        PAGE => Ok(()),
        bytes => Err(KvmError::Pages(bytes)),
    }
}

/// Tells the machine to write its part of the log to the file.
fn record<M: Guest>(run: &Run, log: &Path, machine: &mut M) -> io::Result<()> {
    let Some(events) = &run.events else {
        return Ok(());
    };
    File::create(log)?;
    let recording = Recording {
        path: log.to_owned(),
        filter: events.filter,
        limit: events.limit,
    };
    let head = Head {
        names: machine.names(),
        filter: events.filter,
        limit: events.limit,
    };
    let sites = Arc::new(Mutex::new(vec![0]));
    let log = EventLog::open(&recording, &head, sites)?;
    machine.watch(events.filter.0, Box::new(log));
    Ok(())
}

/// The devices of the host that the guest is to have, and the memory that they share with it.
fn host_side(
    run: &Run,
    vm: &VmFd,
    ram: &Arc<Ram>,
    dram: Option<Arc<Dram>>,
) -> Result<HostSide, KvmError> {
    let (Some(devices), Some(dram)) = (&run.devices, dram) else {
        return Ok(HostSide::default());
    };
    if run.from.is_some() || run.save.is_some() {
        return Err(KvmError::BadRequest(
            "devices of the host are in no snapshot",
        ));
    }
    let snoop = devices.snoop;
    let bridge = vfio::open(devices, vm, |pa, bytes| match snoop {
        true => ram.host_address(pa, bytes),
        false => dram.host_address(pa, bytes),
    })?;
    Ok(HostSide {
        bridge: Some(bridge),
        // A device that snoops has RAM anyway.
        shared: (!snoop).then(|| (Arc::clone(ram), dram)),
    })
}

/// Guests of one kind start with nearly the same memory.
fn kind(run: &Run) -> String {
    match &run.from {
        Some(snapshot) => snapshot.0.clone(),
        None => format!("{} {:?}", run.kernel.0, run.initrd),
    }
}

/// What is loaded, where to start, and what RAM is to hold by then.
fn start<'a>(
    run: &Run,
    (blobs, images): (&Blobs, &'a GuestImages),
    unpacked: &'a mut Unpacked,
) -> Result<(Loaded, Start, &'a dyn Content), KvmError> {
    match &run.from {
        None => {
            let loaded = images.loaded(run)?;
            let entry = images.layout.entry;
            Ok((loaded, Start::Boot { entry }, &images.initial))
        }
        Some(blob) => {
            let one = unpacked.get(blob, blobs, run.ram_bytes)?;
            let state = &one.state;
            if state.made_of != snapshot::made_of(run) || state.cpus.len() != usize::from(run.cpus)
            {
                return Err(SnapshotError::Guest.into());
            }
            let state = Box::new(state.clone());
            Ok((state.loaded.clone(), Start::Snapshot(state), &one.pages))
        }
    }
}

/// What a guest boots from, and where that stands.
struct GuestImages {
    images: Images,
    layout: Layout,
    initial: Initial,
}

impl GuestImages {
    fn open(run: &Run, blobs: &Blobs) -> Result<Self, KvmError> {
        let sent = KvmError::os("find the guest's images");
        let kernel = blobs.find(&run.kernel).map_err(&sent)?;
        let initrd = run.initrd.as_ref().map(|initrd| blobs.find(initrd));
        let initrd = initrd.transpose().map_err(&sent)?;
        let fdt = blobs
            .find(&run.fdt)
            .and_then(std::fs::read)
            .map_err(&sent)?;
        let images = Images::open(&kernel, initrd.as_deref())?;
        let layout = images.layout(run.ram_bytes)?;
        let initial = Initial::new(&images.pieces(&layout, &fdt)?)?;
        Ok(GuestImages {
            images,
            layout,
            initial,
        })
    }

    /// What of them is loaded.
    fn loaded(&self, run: &Run) -> Result<Loaded, KvmError> {
        // What was sent has been compared with its name, and nobody else has these files.
        let names = Expected {
            kernel: Some(run.kernel.0.clone()),
            initrd: run.initrd.as_ref().map(|initrd| initrd.0.clone()),
        };
        let loaded = self.images.named(&self.layout, &names)?;
        if let Some(expected) = run
            .kernel_hash
            .as_ref()
            .filter(|hash| **hash != loaded.kernel)
        {
            return Err(BootError::Changed {
                path: PathBuf::from(&run.kernel.0),
                expected: expected.clone(),
                found: loaded.kernel,
            }
            .into());
        }
        Ok(loaded)
    }
}

/// Builds the machine, which is to be gone before RAM.
fn build(run: &Run, ram: &Ram, start: &Start) -> Result<Built, KvmError> {
    let kvm = Kvm::new().map_err(KvmError::Open)?;
    if !kvm.check_extension(Cap::OneReg) || !kvm.check_extension(Cap::ArmPsci02) {
        return Err(KvmError::Lacks("PSCI for its guests"));
    }
    // Just enough address bits for what there is: an emulated CPU may have few.
    let end = RAM_BASE + run.ram_bytes + run.window_bytes;
    let bits = (u64::BITS - (end - 1).leading_zeros()).max(32);
    let most = kvm.check_extension_raw(KVM_CAP_ARM_VM_IPA_SIZE.into());
    if u32::try_from(most).is_ok_and(|most| most != 0 && most < bits) {
        return Err(KvmError::Lacks("room for so much memory"));
    }
    let vm = kvm.create_vm_with_ipa_size(bits);
    let vm = Arc::new(vm.map_err(KvmError::kvm("make a machine"))?);
    // SAFETY: CPUs run in `go` alone, which ends their threads before it returns, and has RAM for longer.
    unsafe { ram.give_to(&vm) }?;
    let vcpus = (0..run.cpus).map(|n| vcpu::create(&vm, n));
    let mut vcpus = vcpus.collect::<Result<Vec<_>, _>>()?;
    // One that is to be saved has to stand still where it has written what is waited for.
    let shortcut = Shortcut::new((&kvm, &vm), &mut vcpus, run.save.is_none())?;
    let gic = gic::create(&vm, run.lines)?;
    for (n, vcpu) in (0..).zip(&vcpus) {
        let entry = match start {
            Start::Boot { entry } => *entry,
            Start::Snapshot(_) => 0,
        };
        vcpu::reset(&vm, vcpu, n, entry)?;
        if !vcpu::is_write_back(vcpu)? {
            return Err(KvmError::NoWriteBack);
        }
    }
    if let Start::Snapshot(state) = start {
        for (vcpu, state) in vcpus.iter().zip(&state.cpus) {
            vcpu::restore(vcpu, state)?;
        }
        gic::restore(&gic, (run.cpus, run.lines), &state.gic)?;
    }
    Ok(Built {
        vcpus,
        gic,
        vm,
        shortcut,
    })
}

/// What is sent of a snapshot at once.
const PIECE: usize = 1 << 20;

struct ToSink<'a>(&'a mut dyn Sink);

impl Write for ToSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.output(Output::Snapshot, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Saves a guest that stands still.
fn save<M: Guest>(
    run: &Run,
    ram: &Ram,
    (gic, loaded): (&DeviceFd, &Loaded),
    bus: &Bus<M>,
    still: Still<'_>,
) -> Result<(), KvmError> {
    let mut cpus: Vec<CpuState> = still.cpus;
    cpus.sort_unstable_by_key(|cpu| cpu.number);
    let mut out = BufWriter::with_capacity(PIECE, ToSink(still.sink));
    // While it is shown, no device does anything to RAM, nor to a line.
    bus.show(|machine, beside| {
        let gic = gic::save(gic, run.cpus, run.lines)?;
        let state = State {
            made_of: snapshot::made_of(run),
            loaded: loaded.clone(),
            cpus,
            gic,
            uart: beside.uart.clone(),
            console: still.console,
            lines: beside.lines,
            uart_line: beside.uart_line,
            is_told: beside.is_told,
            machine: machine.save().map_err(SnapshotError::from)?,
        };
        let pages = run.ram_bytes / PAGE as u64;
        let mut failed = false;
        let page = |number: u64, bytes: &mut [u8; PAGE]| {
            let at = GuestAddress(RAM_BASE + number * PAGE as u64);
            failed |= ram.memory().read_slice(bytes, at).is_err();
            let blank = run.poison.at(number);
            bytes.iter().any(|byte| *byte != blank)
        };
        snapshot::write(&mut out, &state, pages, page)?;
        match failed {
            true => Err(KvmError::BadRequest("RAM is not where it was")),
            false => Ok(()),
        }
    })?;
    out.flush().map_err(KvmError::os("send the snapshot"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_large_pages_is_told_as_such() {
        check_pages(PAGE).unwrap();
        let error = check_pages(64 << 10).unwrap_err();
        assert!(
            error.to_string().contains("pages of 65536 bytes"),
            "{error}"
        );
        assert!(error.help().contains("CONFIG_ARM64_4K_PAGES"));
    }
}
