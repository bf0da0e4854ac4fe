// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A guest from its images to its end.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use event_manager::{EventManager, EventOps, Events, MutEventSubscriber, SubscriberOps as _};
use kvm_bindings::{KVM_CAP_ARM_VM_IPA_SIZE, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, DeviceFd, Kvm, VcpuFd, VmFd};
use rustix::fs::{MemfdFlags, memfd_create};
use staleline_devices::cpu::{CpuId, MAX_CPUS};
use staleline_machine::boot::{Expected, Images, Loaded, RAM_BASE};
use staleline_machine::engine::guest::{Guest, GuestContext};
use staleline_machine::engine::wire::{DISK, Ended, KvmStats, Output, Run};
use staleline_machine::engine::{handover, memory};
use staleline_machine::events::{EventLog, Head, Recording};
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap, GuestMemoryRegion as _,
    MmapRegion,
};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::signal::{Killable as _, SIGRTMIN, register_signal_handler};
use vmm_sys_util::timerfd::TimerFd;

use crate::blobs::Blobs;
use crate::bus::Bus;
use crate::error::KvmError;
use crate::sandbox::{self, Thread};
use crate::{gic, vcpu};

/// Signal that makes a CPU come out of the guest; above those that the C library uses.
const KICK: i32 = 0;

/// How long to wait for a CPU before it is told again.
const AGAIN: Duration = Duration::from_millis(2);

/// Where output goes.
pub trait Sink {
    /// Takes some.
    ///
    /// # Errors
    /// Those of the other end.
    fn output(&mut self, output: Output, bytes: &[u8]) -> io::Result<()>;
}

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

/// A machine that has not run yet.
struct Built {
    // Dropped in this order: CPUs before what they are of.
    vcpus: Vec<VcpuFd>,
    _gic: DeviceFd,
    vm: Arc<VmFd>,
    /// What is mapped into the guest.
    _memory: GuestMemoryMmap,
    file: File,
    loaded: Loaded,
}

/// Runs the guest that `run` describes. `scratch` is a directory of its own.
///
/// # Errors
/// [`KvmError`]; nothing of the guest is left.
pub fn run<M: Guest>(
    run: &Run,
    blobs: &Blobs,
    scratch: &Path,
    sink: &mut dyn Sink,
) -> Result<Outcome, KvmError> {
    let begun = Instant::now();
    check(run)?;
    let built = build(run, blobs)?;
    let bytes = usize::try_from(run.ram_bytes).map_err(|_| KvmError::BadRequest("too much RAM"))?;
    let map = KvmError::os("map guest RAM");
    let file = built.file.try_clone().map_err(&map)?;
    let ram = MmapRegion::from_file(FileOffset::new(file, 0), bytes)
        .map_err(|e| map(io::Error::other(e)))?;
    let mut config = run.machine.clone();
    if let (Some(disk), Some(path)) = (&run.disk, config.pointer_mut(DISK)) {
        let disk = blobs.find(disk);
        *path = disk
            .map_err(KvmError::os("find the disk's image"))?
            .display()
            .to_string()
            .into();
    }
    let mut machine = M::new(GuestContext {
        ram,
        ram_base: RAM_BASE,
        windows: None,
        lazy: true,
        machine: config,
    })
    .map_err(KvmError::Machine)?;
    let log = scratch.join("events.bin");
    record(run, &log, &mut machine).map_err(KvmError::os("write the log"))?;
    let windows = RAM_BASE + run.ram_bytes;
    let descriptors = KvmError::os("make an eventfd");
    let written = EventFd::new(EFD_NONBLOCK).map_err(&descriptors)?;
    let heard = written.try_clone().map_err(&descriptors)?;
    let vm = Arc::clone(&built.vm);
    let bus = Bus::new(
        Box::new(move |line, level| gic::set_line(&vm, line, level)),
        machine,
        windows..windows + run.window_bytes,
        written,
    );
    let bus = Arc::new(bus);
    let setup = begun.elapsed();
    let started = Instant::now();
    let end = supervise(run, built.vcpus, &bus, heard, sink)?;
    let wall = started.elapsed();
    let (report, mut stats) = bus.finish()?;
    stats.setup_us = micros(setup);

    let sent = KvmError::os("send what the guest has left");
    let path = scratch.join("report.json");
    handover::write(&path, &report).map_err(&sent)?;
    let mut hand_over = |output, path: &Path| {
        let bytes = std::fs::read(path)?;
        sink.output(output, &bytes)
    };
    hand_over(Output::Report, &path).map_err(&sent)?;
    if run.events.is_some() {
        hand_over(Output::Events, &log).map_err(&sent)?;
    }
    Ok(Outcome {
        end,
        loaded: built.loaded,
        wall,
        stats,
    })
}

/// In whole microseconds.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn check(run: &Run) -> Result<(), KvmError> {
    memory::check(run.ram_bytes, run.window_bytes).map_err(KvmError::BadRequest)?;
    match usize::from(run.cpus) {
        1..=MAX_CPUS => Ok(()),
        _ => Err(KvmError::BadRequest("there must be from 1 to 4 CPUs")),
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

fn build(run: &Run, blobs: &Blobs) -> Result<Built, KvmError> {
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

    let (memory, file) = allocate(run.ram_bytes)?;
    let sent = KvmError::os("find the guest's images");
    let kernel = blobs.find(&run.kernel).map_err(&sent)?;
    let initrd = run.initrd.as_ref().map(|initrd| blobs.find(initrd));
    let initrd = initrd.transpose().map_err(&sent)?;
    let fdt = blobs
        .find(&run.fdt)
        .and_then(std::fs::read)
        .map_err(&sent)?;
    let mut images = Images::open(&kernel, initrd.as_deref())?;
    let layout = images.layout(run.ram_bytes)?;
    let expected = Expected {
        kernel: run.kernel_hash.clone(),
        initrd: run.initrd.as_ref().map(|initrd| initrd.0.clone()),
    };
    let loaded = images.load(&memory, &layout, &fdt, &expected)?;

    for (slot, region) in memory.iter().enumerate() {
        let host = region
            .get_host_address(vm_memory::MemoryRegionAddress(0))
            .map_err(|e| KvmError::os("map guest RAM")(io::Error::other(e)))?;
        let slot = kvm_userspace_memory_region {
            // Of one.
            slot: slot as u32,
            flags: 0,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: host as u64,
        };
        // SAFETY: the mapping is `memory`'s, of that length, and outlives the machine: `Built` and the run
        // keep it until the CPUs' threads have ended.
        unsafe { vm.set_user_memory_region(slot) }
            .map_err(KvmError::kvm("give the guest its memory"))?;
    }
    let vcpus = (0..run.cpus).map(|n| vcpu::create(&vm, n));
    let vcpus = vcpus.collect::<Result<Vec<_>, _>>()?;
    let gic = gic::create(&vm)?;
    for (n, vcpu) in (0..).zip(&vcpus) {
        vcpu::reset(&vm, vcpu, n, layout.entry)?;
    }
    Ok(Built {
        vcpus,
        _gic: gic,
        vm,
        _memory: memory,
        file,
        loaded,
    })
}

/// Guest RAM, and the file that it is.
fn allocate(bytes: u64) -> Result<(GuestMemoryMmap, File), KvmError> {
    let allocate = KvmError::os("allocate guest RAM");
    let file = memfd_create("guest-ram", MemfdFlags::CLOEXEC);
    let file = File::from(file.map_err(|e| allocate(io::Error::from(e)))?);
    file.set_len(bytes).map_err(&allocate)?;
    let mapped = file.try_clone().map_err(&allocate)?;
    let len = usize::try_from(bytes).map_err(|_| KvmError::BadRequest("too much RAM"))?;
    let region = (
        GuestAddress(RAM_BASE),
        len,
        Some(FileOffset::new(mapped, 0)),
    );
    let memory = GuestMemoryMmap::from_ranges_with_files([region]);
    let memory = memory.map_err(|e| allocate(io::Error::other(e)))?;
    Ok((memory, file))
}

extern "C" fn kicked(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// Runs the CPUs until the guest ends or its time is up, and passes on what it writes.
fn supervise<M: Guest>(
    run: &Run,
    vcpus: Vec<VcpuFd>,
    bus: &Arc<Bus<M>>,
    written: EventFd,
    sink: &mut dyn Sink,
) -> Result<Ended, KvmError> {
    let events = KvmError::os("watch the guest");
    register_signal_handler(SIGRTMIN() + KICK, kicked).map_err(|e| events(io::Error::from(e)))?;
    let over = EventFd::new(EFD_NONBLOCK).map_err(&events)?;
    let (tell, ends) = mpsc::channel();
    let mut threads = Vec::new();
    for (n, mut fd) in (0..).zip(vcpus) {
        let (bus, tell) = (Arc::clone(bus), tell.clone());
        let over = over.try_clone().map_err(&events)?;
        let body = move || {
            let confined = sandbox::confine(Thread::Cpu).map_err(KvmError::from);
            match confined.and_then(|()| vcpu::run(&mut fd, CpuId(n), &bus)) {
                Ok(None) => return,
                Ok(Some(end)) => {
                    // Whoever listens has heard of it, or does not want to.
                    let _ = tell.send(end);
                    bus.end();
                }
                Err(e) => bus.fail(e),
            }
            let _ = over.write(1);
        };
        threads.push(spawn(format!("cpu{n}"), body)?);
    }
    let timekeeper = Arc::clone(bus);
    let stop = over.try_clone().map_err(&events)?;
    let body = move || {
        let confined = sandbox::confine(Thread::Time).map_err(KvmError::from);
        if let Err(e) = confined.and_then(|()| timekeeper.keep_time()) {
            timekeeper.fail(e);
            let _ = stop.write(1);
        }
    };
    threads.push(spawn("time".into(), body)?);

    let watched = watch(run, over, written, bus, sink);
    bus.end();
    for thread in threads {
        while !thread.is_finished() {
            // One that is not in the guest does not mind.
            let _ = thread.kill(SIGRTMIN() + KICK);
            thread::sleep(AGAIN);
        }
        if thread.join().is_err() {
            return Err(KvmError::Machine("one of its threads has panicked".into()));
        }
    }
    let timed_out = watched?;
    let rest = bus.console();
    sink.output(Output::Console, &rest)
        .map_err(KvmError::os("pass on the console"))?;
    match ends.try_recv() {
        Ok(end) => Ok(end),
        Err(_) if timed_out => Ok(Ended::TimedOut),
        // Then the bus knows why.
        Err(_) => Ok(Ended::Died {
            what: "failure".into(),
        }),
    }
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, KvmError> {
    thread::Builder::new()
        .name(name)
        .spawn(body)
        .map_err(KvmError::os("start a thread"))
}

/// What there is to see of a guest that runs.
struct Watch<'a, M> {
    over: EventFd,
    written: EventFd,
    timer: TimerFd,
    bus: &'a Bus<M>,
    sink: &'a mut dyn Sink,
    ended: bool,
    timed_out: bool,
    failure: Option<io::Error>,
}

const OVER: u32 = 0;
const WRITTEN: u32 = 1;
const TIMER: u32 = 2;

impl<M: Guest> MutEventSubscriber for Watch<'_, M> {
    fn process(&mut self, events: Events, _: &mut EventOps) {
        match events.data() {
            OVER => self.ended = true,
            TIMER => {
                self.timed_out = true;
                self.ended = true;
            }
            _ => {
                let bytes = self.bus.console();
                if let Err(e) = self.sink.output(Output::Console, &bytes) {
                    self.failure = Some(e);
                    self.ended = true;
                }
            }
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        let sources = [
            Events::with_data(&self.over, OVER, EventSet::IN),
            Events::with_data(&self.written, WRITTEN, EventSet::IN),
            Events::with_data(&self.timer, TIMER, EventSet::IN),
        ];
        for source in sources {
            if let Err(e) = ops.add(source) {
                self.failure = Some(io::Error::other(format!("{e:?}")));
                self.ended = true;
            }
        }
    }
}

/// Waits for the guest's end; whether it was the time limit.
fn watch<M: Guest>(
    run: &Run,
    over: EventFd,
    written: EventFd,
    bus: &Bus<M>,
    sink: &mut dyn Sink,
) -> Result<bool, KvmError> {
    let what = "watch the guest";
    let mut timer = TimerFd::new().map_err(|e| KvmError::os(what)(io::Error::from(e)))?;
    if let Some(limit) = run.timeout_ms {
        let limit = Duration::from_millis(limit.max(1));
        let set = timer.reset(limit, None);
        set.map_err(|e| KvmError::os(what)(io::Error::from(e)))?;
    }
    let mut manager = EventManager::<Watch<'_, M>>::new()
        .map_err(|e| KvmError::os(what)(io::Error::other(format!("{e:?}"))))?;
    let id = manager.add_subscriber(Watch {
        over,
        written,
        timer,
        bus,
        sink,
        ended: false,
        timed_out: false,
        failure: None,
    });
    loop {
        manager
            .run()
            .map_err(|e| KvmError::os(what)(io::Error::other(format!("{e:?}"))))?;
        let watch = manager
            .subscriber_mut(id)
            .map_err(|e| KvmError::os(what)(io::Error::other(format!("{e:?}"))))?;
        if let Some(e) = watch.failure.take() {
            return Err(KvmError::os("pass on the console")(e));
        }
        if watch.ended {
            return Ok(watch.timed_out);
        }
    }
}
