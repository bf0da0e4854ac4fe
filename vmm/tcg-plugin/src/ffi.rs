// SPDX-License-Identifier: GPL-2.0-or-later
//! Everything that touches QEMU.
//!
//! QEMU's rules (its `qemu-plugin.h`): translation and execution callbacks come on the thread of the
//! vCPU; with icount there is one thread for all of them, which they share by turns. The exit callback
//! comes on the main thread when that one has stopped for good. So there is never more than one user
//! of the state below.

mod current;
mod registers;
mod standstill;

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use qemu_plugin_sys::{
    QEMU_PLUGIN_VERSION, qemu_info_t,
    qemu_plugin_cb_flags::{QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_CB_R_REGS},
    qemu_plugin_get_hwaddr, qemu_plugin_hwaddr_is_io, qemu_plugin_hwaddr_phys_addr,
    qemu_plugin_id_t, qemu_plugin_insn_data, qemu_plugin_insn_vaddr, qemu_plugin_mem_is_store,
    qemu_plugin_mem_rw, qemu_plugin_mem_size_shift, qemu_plugin_meminfo_t,
    qemu_plugin_register_atexit_cb, qemu_plugin_register_vcpu_init_cb,
    qemu_plugin_register_vcpu_insn_exec_cb, qemu_plugin_register_vcpu_mem_cb,
    qemu_plugin_register_vcpu_tb_trans_cb, qemu_plugin_tb, qemu_plugin_tb_get_insn,
    qemu_plugin_tb_n_insns,
};
use staleline_devices::cpu::{BufferCall, CpuId, SiteId};
use staleline_devices::soc::Soc;
use staleline_machine::engine::abi::{
    ABI_VERSION, FATAL_EXIT_CODE, FromPlugin, LOG_PREFIX, TcgConfig,
};
use staleline_machine::engine::guest::{Guest, GuestKind};
use staleline_machine::engine::handover;

use crate::chain::Frame;
use crate::core::{Arguments, Core, Place, State};
use crate::decode::{self, Insn, Op};
use crate::probe::Probe;
use crate::qtest::Qtest;
use crate::renew::{Renewals, renew};
use crate::sites::Sites;
use crate::{control, logger, start};
use current::Current;
use registers::Registers;
use standstill::Standstill;

/// The interface version this library speaks: 4, of QEMU 9.2. QEMU reads the symbol.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = QEMU_PLUGIN_VERSION.cast_signed();

/// How long QEMU's main loop may take to set an interrupt line.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the addresses of AArch32 code end.
const AARCH32_END: u64 = 1 << 32;

/// PSTATE of kernel code: AArch64, EL1 with its own stack pointer.
const PSTATE_EL1H: u64 = 0b0101;

// A callback's argument holds a site and an instruction.
const _: () = assert!(usize::BITS >= 64);

/// Everything the callbacks need, for the machine `M`.
struct Plugin<M> {
    core: Core<M, UnixStream>,
    accesses: Accesses,
    extras: Extras,
    sites: Sites,
    current: Current,
    renewals: Renewals,
    /// Until the guest has been stopped for its snapshot, if it is to be.
    standstill: Option<Standstill>,
}

impl<M: Guest> Plugin<M> {
    /// The CPU has stored something: stops it if it is time for its snapshot.
    fn stop_if_due(&mut self, cpu: CpuId, info: qemu_plugin_meminfo_t, va: u64) {
        let Some(pa) = self.core.place_of(cpu, va) else {
            return;
        };
        let due = self.standstill.as_mut().is_some_and(|s| s.is_due(pa, info));
        if due && let Some(standstill) = self.standstill.take() {
            let saved = self.core.save(&self.sites).map_err(|e| e.to_string());
            let accesses = self.core.machine.accesses();
            saved
                .and_then(|saved| standstill.stop(&saved, accesses))
                .unwrap_or_else(|message| fatal(message));
        }
    }

    /// Between two things that the CPU does: goes on with another machine if that is due.
    #[inline(always)]
    fn renew_if_due(&mut self) {
        if self.renewals.is_due(self.core.machine.steps()) {
            self.renew();
        }
    }

    #[cold]
    #[inline(never)]
    fn renew(&mut self) {
        let config = CONFIG
            .get()
            .unwrap_or_else(|| fatal("no configuration".into()));
        renew(&mut self.core, &mut self.sites, config).unwrap_or_else(|message| fatal(message));
        self.renewals.count(self.core.machine.steps());
    }
}

/// `*mut Plugin<M>` once the CPU runs, for the `M` whose callbacks are registered.
static PLUGIN: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
/// The same, once the guest has ended itself: no callback is to be served any more.
static ENDED: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
static CONFIG: OnceLock<TcgConfig> = OnceLock::new();
/// Set by the vCPU's initialization, before it runs.
static REGISTERS: OnceLock<Registers> = OnceLock::new();

/// Ends the process, for good and at once: QEMU's exit handlers would call back into a machine
/// that has just failed.
fn exit_now() -> ! {
    // SAFETY: _exit takes any status and does not return.
    unsafe { libc::_exit(FATAL_EXIT_CODE) }
}

/// Tells the parent why, and ends QEMU.
#[cold]
fn fatal(message: String) -> ! {
    control::send(&FromPlugin::Fatal { message });
    exit_now()
}

/// The plugin's state, in a callback of machine `M`.
///
/// # Safety
/// Only one reference may live at a time: call it once in a callback, and not from two threads.
/// The callbacks registered must be those of the `M` that was started.
#[inline(always)]
unsafe fn plugin<'a, M>() -> Option<&'a mut Plugin<M>> {
    let plugin = PLUGIN.load(Ordering::Relaxed).cast::<Plugin<M>>();
    // SAFETY: null, or a leaked box that `started` has put there, of the type that the caller
    // answers for.
    unsafe { plugin.as_mut() }
}

/// Called by QEMU when it loads the library.
///
/// # Safety
/// For QEMU only: `argv` holds `argc` strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: qemu_plugin_id_t,
    _info: *const qemu_info_t,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    let args = (0..usize::try_from(argc).unwrap_or(0)).map(|n| {
        // SAFETY: QEMU passes `argc` valid strings.
        let arg = unsafe { CStr::from_ptr(*argv.add(n)) };
        arg.to_string_lossy().into_owned()
    });
    let config = match configure(args) {
        Ok(config) => config,
        Err(message) => {
            eprintln!("{LOG_PREFIX}{message}");
            return -1;
        }
    };
    logger::install();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        hook(info);
        fatal(format!("the machine has panicked: {info}"));
    }));
    match config.guest {
        GuestKind::Probe => register::<Probe>(id, config),
        GuestKind::Board => register::<Soc>(id, config),
    }
    0
}

/// Reads the configuration that the arguments name, and takes hold of the control socket.
fn configure(args: impl Iterator<Item = String>) -> Result<&'static TcgConfig, String> {
    let mut path = None;
    for arg in args {
        match arg.split_once('=') {
            Some(("config", value)) => path = Some(value.to_owned()),
            _ => return Err(format!("unknown argument {arg:?}")),
        }
    }
    let path = path.ok_or("argument missing: config=FILE (this plugin is started by staleline)")?;
    let failed = |e: std::io::Error| format!("configuration {path}: {e}");
    let mut json = String::new();
    File::open(&path)
        .and_then(|mut file| file.read_to_string(&mut json))
        .map_err(failed)?;
    let json: serde_json::Value = serde_json::from_str(&json).map_err(|e| failed(e.into()))?;
    // Before the rest, which may not even parse.
    let abi = &json["abi"];
    if *abi != ABI_VERSION {
        return Err(format!(
            "this plugin speaks version {ABI_VERSION}, staleline version {abi}: rebuild it"
        ));
    }
    let config: TcgConfig = serde_json::from_value(json).map_err(|e| failed(e.into()))?;
    control::open(socket(config.control_fd)?)?;
    CONFIG
        .set(config)
        .map_err(|_| "the plugin was loaded twice")?;
    CONFIG.get().ok_or_else(|| "no configuration".into())
}

/// Takes over an inherited socket.
fn socket(fd: c_int) -> Result<UnixStream, String> {
    if fd <= 2 {
        return Err(format!("bad descriptor {fd}"));
    }
    // SAFETY: the parent process has opened this descriptor for the plugin, and nobody else in
    // this process knows of it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(UnixStream::from(fd))
}

/// What memory callbacks do beside their work, if anything.
#[derive(Clone, Copy)]
struct Extras {
    /// Look at how QEMU translates each address.
    check: bool,
    /// Keep call chains that are asked for.
    trace: bool,
}

impl Extras {
    fn of(config: &TcgConfig) -> Self {
        Extras {
            check: config.selfcheck,
            trace: !config.trace.is_empty(),
        }
    }
}

fn register<M: Guest>(id: qemu_plugin_id_t, config: &TcgConfig) {
    let Extras { check, trace } = Extras::of(config);
    let renew_or_save = config.save_restore.is_some() || config.save.is_some();
    let translate = match check || trace || renew_or_save {
        true => on_translate::<M, true>,
        false => on_translate::<M, false>,
    };
    // SAFETY: `id` is ours, and the callbacks have the types that QEMU calls.
    unsafe {
        qemu_plugin_register_vcpu_init_cb(id, Some(on_vcpu_init));
        qemu_plugin_register_vcpu_tb_trans_cb(id, Some(translate));
        qemu_plugin_register_atexit_cb(id, Some(on_exit::<M>), std::ptr::null_mut());
    }
}

/// The plugin's state; the first call builds the machine, when the images are loaded and QEMU has
/// written what it writes at a reset.
///
/// # Safety
/// As [`plugin`].
unsafe fn started<'a, M: Guest>() -> &'a mut Plugin<M> {
    // SAFETY: the caller's promise.
    if let Some(plugin) = unsafe { plugin() } {
        return plugin;
    }
    let start = || -> Result<Plugin<M>, String> {
        let config = CONFIG.get().ok_or("no configuration")?;
        let gic = control::wait_for_start()?;
        let qtest = socket(config.qtest_fd)?;
        qtest
            .set_read_timeout(Some(PATIENCE))
            .map_err(|e| format!("qtest socket: {e}"))?;
        let mut core = start::core(config, Qtest::new(qtest, gic))?;
        let mut sites = start::restore(config, &mut core).unwrap_or_else(|message| {
            control::send(&FromPlugin::Refused { message });
            exit_now()
        });
        start::record(config, &mut core.machine, &mut sites)?;
        Ok(Plugin {
            core,
            accesses: Accesses::default(),
            extras: Extras::of(config),
            sites,
            current: current::take()?,
            renewals: Renewals::new(config.save_restore),
            standstill: config.save.as_ref().map(Standstill::new),
        })
    };
    let plugin = start().unwrap_or_else(|message| fatal(message));
    control::send(&FromPlugin::Started);
    let plugin = Box::leak(Box::new(plugin));
    PLUGIN.store(std::ptr::from_mut(plugin).cast(), Ordering::Relaxed);
    plugin
}

unsafe extern "C" fn on_translate<M: Guest, const EXTRAS: bool>(
    _id: qemu_plugin_id_t,
    tb: *mut qemu_plugin_tb,
) {
    if !ENDED.load(Ordering::Relaxed).is_null() {
        return;
    }
    // SAFETY: the only reference in this callback.
    let plugin = unsafe { started::<M>() };
    // SAFETY: QEMU passes a valid block.
    let count = unsafe { qemu_plugin_tb_n_insns(tb) };
    // A block does not cross pages, so it is all of one side.
    let mut kernel = None;
    let mut code: Option<(u64, u64)> = None;
    for n in 0..count {
        let mut word = [0; 4];
        // SAFETY: `n` is below the count, so there is such an instruction; QEMU copies at most the
        // four bytes that `word` has.
        let (insn, len, pc) = unsafe {
            let insn = qemu_plugin_tb_get_insn(tb, n);
            let len = qemu_plugin_insn_data(insn, word.as_mut_ptr().cast(), word.len());
            (insn, len, qemu_plugin_insn_vaddr(insn))
        };
        let (_, bytes) = code.get_or_insert((pc, 0));
        *bytes += len as u64;
        let whole = len == word.len();
        let word = u32::from_le_bytes(word);
        let kernel = *kernel.get_or_insert_with(|| {
            let cpu = plugin.current.cpu(0);
            plugin.core.is_kernel_code(cpu, pc)
        });
        let is_load_store = decode::is_load_store(word);
        let site = if whole && is_load_store {
            plugin.sites.intern(pc, kernel)
        } else {
            SiteId(0)
        };
        // In AArch32 code the opcode tells nothing. QEMU makes calls only where there are accesses, but
        // to ask for them costs it time.
        if is_load_store || pc < AARCH32_END {
            let (callback, flags) = match EXTRAS {
                true => (on_access_and_more::<M> as _, QEMU_PLUGIN_CB_R_REGS),
                false => (on_access::<M> as _, QEMU_PLUGIN_CB_NO_REGS),
            };
            // SAFETY: `insn` is valid, and the callbacks have the type that QEMU calls.
            unsafe {
                qemu_plugin_register_vcpu_mem_cb(
                    insn,
                    Some(callback),
                    flags,
                    qemu_plugin_mem_rw::QEMU_PLUGIN_MEM_RW,
                    std::ptr::without_provenance_mut(site.0 as usize),
                );
            }
        }
        if kernel && let Some(call) = plugin.core.calls.at(pc) {
            // SAFETY: as above.
            unsafe {
                qemu_plugin_register_vcpu_insn_exec_cb(
                    insn,
                    Some(on_call::<M>),
                    QEMU_PLUGIN_CB_R_REGS,
                    std::ptr::without_provenance_mut(call as usize),
                );
            }
        }
        let Some(decoded) = decode::decode(word).filter(|_| whole) else {
            continue;
        };
        // The kernel does it often and means something else.
        if decoded.op == Op::Point && kernel {
            continue;
        }
        let site = plugin.sites.intern(pc, kernel);
        let data = (site.0 as usize) << 16 | decoded.pack() as usize;
        // SAFETY: as above.
        unsafe {
            qemu_plugin_register_vcpu_insn_exec_cb(
                insn,
                Some(on_instruction::<M, EXTRAS>),
                QEMU_PLUGIN_CB_R_REGS,
                std::ptr::without_provenance_mut(data),
            );
        }
    }
    if let (Some((pc, bytes)), Some(kernel)) = (code, kernel) {
        let cpu = plugin.current.cpu(0);
        let mut site = || plugin.sites.intern(pc, kernel);
        plugin.core.fetched(cpu, pc, bytes, &mut site);
    }
}

/// The hot path.
unsafe extern "C" fn on_access<M: Guest>(
    vcpu: c_uint,
    info: qemu_plugin_meminfo_t,
    va: u64,
    data: *mut c_void,
) {
    // SAFETY: the only reference in this callback.
    let Some(plugin) = (unsafe { plugin::<M>() }) else {
        return;
    };
    let site = SiteId(data.addr() as u32);
    let Some(cpu) = plugin.current.same_cpu(vcpu) else {
        return switched(plugin, vcpu, info, va, site);
    };
    match plugin.accesses.known(info) {
        Some(access) if access.store => stored(plugin, cpu, info, va, access.size, site),
        Some(access) if plugin.core.access_hit::<false>(cpu, va, access.size, site) => {}
        _ => access_missed(plugin, cpu, info, va, site),
    }
}

/// A store on the hot path. Apart, so that loads need not save the registers that it takes; and a C
/// function, as what follows is, so that it can be jumped to: it does not unwind.
#[inline(never)]
extern "C" fn stored<M: Guest>(
    plugin: &mut Plugin<M>,
    cpu: CpuId,
    info: qemu_plugin_meminfo_t,
    va: u64,
    size: u32,
    site: SiteId,
) {
    if !plugin.core.access_hit::<true>(cpu, va, size, site) {
        access_missed(plugin, cpu, info, va, site);
    }
}

/// An access by another CPU than the last one.
#[cold]
#[inline(never)]
extern "C" fn switched<M: Guest>(
    plugin: &mut Plugin<M>,
    vcpu: c_uint,
    info: qemu_plugin_meminfo_t,
    va: u64,
    site: SiteId,
) {
    let cpu = plugin.current.cpu(vcpu);
    access_missed(plugin, cpu, info, va, site);
}

/// An access that the hot path leaves alone.
#[inline(never)]
extern "C" fn access_missed<M: Guest>(
    plugin: &mut Plugin<M>,
    cpu: CpuId,
    info: qemu_plugin_meminfo_t,
    va: u64,
    site: SiteId,
) {
    let access = plugin.accesses.get(info);
    let done = match access.store {
        true => plugin.core.access::<true>(cpu, va, access.size, site),
        false => plugin.core.access::<false>(cpu, va, access.size, site),
    };
    if let Err(e) = done {
        irq_failed(&e);
    }
}

/// The same with [`Extras`], and with another machine every so often.
unsafe extern "C" fn on_access_and_more<M: Guest>(
    vcpu: c_uint,
    info: qemu_plugin_meminfo_t,
    va: u64,
    data: *mut c_void,
) {
    // SAFETY: the only reference in this callback.
    let Some(plugin) = (unsafe { plugin::<M>() }) else {
        return;
    };
    let site = SiteId(data.addr() as u32);
    let cpu = plugin.current.cpu(vcpu);
    if plugin.extras.check {
        check(plugin, cpu, info, va, site);
    }
    access_missed(plugin, cpu, info, va, site);
    if plugin.extras.trace && plugin.core.trace_is_due() {
        let pc = plugin.sites.table().pc(site).unwrap_or(0);
        let frame = registers().frame();
        plugin.core.trace(cpu, pc, frame);
    }
    plugin.renew_if_due();
    if plugin.standstill.is_some() && plugin.accesses.get(info).store {
        plugin.stop_if_due(cpu, info, va);
    }
}

/// Compares the translation with QEMU's.
fn check<M: Guest>(
    plugin: &mut Plugin<M>,
    cpu: CpuId,
    info: qemu_plugin_meminfo_t,
    va: u64,
    site: SiteId,
) {
    // SAFETY: this is called in a memory callback, with its arguments; the result is valid until
    // the callback ends.
    let theirs = unsafe {
        let address = qemu_plugin_get_hwaddr(info, va);
        if address.is_null() {
            return;
        }
        (!qemu_plugin_hwaddr_is_io(address)).then(|| qemu_plugin_hwaddr_phys_addr(address))
    };
    plugin.core.check(cpu, va, site, theirs);
}

#[cold]
fn irq_failed(error: &std::io::Error) -> ! {
    fatal(format!("cannot set an interrupt line: {error}"))
}

unsafe extern "C" fn on_instruction<M: Guest, const EXTRAS: bool>(vcpu: c_uint, data: *mut c_void) {
    // SAFETY: the only reference in this callback.
    let Some(plugin) = (unsafe { plugin::<M>() }) else {
        return;
    };
    let data = data.addr();
    let Some(insn) = Insn::unpack((data & 0xffff) as u32) else {
        return;
    };
    let site = SiteId((data >> 16) as u32);
    let place = Place {
        cpu: plugin.current.cpu(vcpu),
        pc: plugin.sites.table().pc(site).unwrap_or(0),
        site,
    };
    let registers = registers();
    // Asking QEMU is most of what a `dc` costs, so it is not asked what is known: the upper half of
    // the address space is the kernel's, and out of reach for AArch32. Linux has no code of user
    // space there.
    let upper = place.pc >> 55 & 1 != 0;
    let x = match insn.op {
        Op::Barrier(_) | Op::WaitForInterrupt => 0,
        _ => registers.x(insn.rt),
    };
    if let (Op::Maintain(op), true) = (insn.op, upper)
        && plugin.core.maintains(place.cpu, op, x, site)
    {
        return;
    }
    let pstate = if upper {
        PSTATE_EL1H
    } else {
        registers.read(registers.pstate)
    };
    let frame = if plugin.core.wants_frame(place.cpu, insn.op) {
        registers.frame()
    } else {
        Frame::default()
    };
    let state = State { x, pstate, frame };
    if let Err(e) = plugin.core.instruction(insn, place, state) {
        irq_failed(&e);
    }
    if EXTRAS {
        plugin.renew_if_due();
    }
    if plugin.core.over {
        let plugin = PLUGIN.swap(std::ptr::null_mut(), Ordering::Relaxed);
        ENDED.store(plugin, Ordering::Relaxed);
    }
}

/// Which call a callback is about.
const CALLS: [BufferCall; 4] = [
    BufferCall::BeginAccess,
    BufferCall::EndAccess,
    BufferCall::AddFence,
    BufferCall::Signal,
];

// The number of each is its place.
const _: () = assert!(BufferCall::Signal as usize == 3);

/// The first instruction of one of the kernel's functions for shared buffers.
unsafe extern "C" fn on_call<M: Guest>(vcpu: c_uint, data: *mut c_void) {
    // SAFETY: the only reference in this callback.
    let Some(plugin) = (unsafe { plugin::<M>() }) else {
        return;
    };
    let Some(call) = CALLS.get(data.addr()) else {
        return;
    };
    let registers = registers();
    let object = match call {
        // The first is the reservation object.
        BufferCall::AddFence => registers.x(1),
        _ => registers.x(0),
    };
    let arguments = Arguments {
        object,
        task: registers.read(registers.task),
        sp: registers.read(registers.sp),
        frame: registers.frame(),
    };
    let cpu = plugin.current.cpu(vcpu);
    plugin.core.called(cpu, *call, arguments);
}

unsafe extern "C" fn on_exit<M: Guest>(_id: qemu_plugin_id_t, _data: *mut c_void) {
    let ended = ENDED.load(Ordering::Relaxed).cast::<Plugin<M>>();
    // SAFETY: the only reference in this callback; the CPUs have stopped. If the guest has not ended
    // itself (QEMU was told to quit), the state is still where it was.
    let Some(plugin) = (unsafe { ended.as_mut().or_else(|| plugin::<M>()) }) else {
        return;
    };
    let mut finish = || -> Result<FromPlugin, String> {
        let config = CONFIG.get().ok_or("no configuration")?;
        let failed = |path: &Path, e| format!("cannot write {}: {e}", path.display());
        let report = plugin.core.machine.finish()?;
        handover::write(&config.report, &report).map_err(|e| failed(&config.report, e))?;
        let sites = plugin.sites.table();
        sites
            .write(&config.sites)
            .map_err(|e| failed(&config.sites, e))?;
        handover::write(&config.seen, &plugin.core.observations(&plugin.sites))
            .map_err(|e| failed(&config.seen, e))?;
        Ok(FromPlugin::Finished {
            stats: plugin.core.stats.clone(),
            restored: plugin.renewals.done,
        })
    };
    let message = finish().unwrap_or_else(|message| fatal(message));
    control::send(&message);
}

unsafe extern "C" fn on_vcpu_init(_id: qemu_plugin_id_t, vcpu: c_uint) {
    current::init(vcpu);
    // Handles are numbers that mean the same for all CPUs of a kind: the first one's serve for all.
    let _ = REGISTERS.set(Registers::find().unwrap_or_else(|message| fatal(message)));
}

/// The CPU's registers, in a callback.
fn registers() -> &'static Registers {
    match REGISTERS.get() {
        Some(registers) => registers,
        None => fatal("QEMU has not initialized its CPU".into()),
    }
}

/// What an access descriptor says.
#[derive(Clone, Copy)]
struct Access {
    info: qemu_plugin_meminfo_t,
    /// Bytes.
    size: u32,
    store: bool,
}

impl Access {
    fn ask(info: qemu_plugin_meminfo_t) -> Self {
        // SAFETY: the functions only take the number apart.
        let (shift, store) = unsafe {
            (
                qemu_plugin_mem_size_shift(info),
                qemu_plugin_mem_is_store(info),
            )
        };
        Access {
            info,
            // 64 bytes is the most that the machine takes, and more than a CPU does at once.
            size: 1 << shift.min(6),
            store,
        }
    }
}

/// Remembers the meaning of QEMU's access descriptors, whose format is its own affair: there are
/// few, and asking costs two calls.
struct Accesses([Access; 64]);

impl Default for Accesses {
    fn default() -> Self {
        // Right where 0 belongs; elsewhere nobody asks for it.
        Accesses([Access::ask(0); 64])
    }
}

impl Accesses {
    #[inline(always)]
    fn place(info: qemu_plugin_meminfo_t) -> usize {
        (info ^ info >> 16) as usize % 64
    }

    /// If it was asked for before.
    #[inline(always)]
    fn known(&self, info: qemu_plugin_meminfo_t) -> Option<Access> {
        let access = self.0[Self::place(info)];
        (access.info == info).then_some(access)
    }

    fn get(&mut self, info: qemu_plugin_meminfo_t) -> Access {
        self.known(info).unwrap_or_else(|| {
            let access = Access::ask(info);
            self.0[Self::place(info)] = access;
            access
        })
    }
}
