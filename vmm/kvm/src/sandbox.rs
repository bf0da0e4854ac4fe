// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the VMM's threads may ask of the kernel that they run on. A guest is hostile, and so is whatever the
//! VMM is sent: should either ever take the VMM over, it gets no further than its own guest.
//!
//! Two fences: filters of system calls (seccomp), one for each kind of thread, and a rule set for files
//! (landlock) for all. A thread has the filters of whoever started it, too, so the main thread's list has all
//! that is in the others. A call that is on no list ends the process, with a line that names it
//! ([`TRESPASS`]).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Write as _};
use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus,
};
use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};
use staleline_machine::engine::wire::{CRASH, TRESPASS};
use syscalls::Sysno;
use vmm_sys_util::signal::register_signal_handler;

/// Exit status of a VMM that a filter has ended.
const STATUS: i32 = 159;

/// Why there is no sandbox, without which no guest is run.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub struct SandboxError {
    what: &'static str,
    source: Box<dyn Error + Send + Sync>,
}

impl SandboxError {
    fn of<E: Into<Box<dyn Error + Send + Sync>>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| SandboxError {
            what,
            source: source.into(),
        }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        "guests are only run behind filters of system calls: it takes a kernel with CONFIG_SECCOMP_FILTER"
    }
}

/// What a thread is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thread {
    /// It takes requests, builds guests and looks after them; and switches the machine off if that is its own.
    Main {
        /// It is the first process of a machine.
        init: bool,
        /// It hands devices of the host's to guests.
        devices: bool,
    },
    /// It runs a CPU of the guest.
    Cpu,
    /// It lets device time go on.
    Time,
}

impl Thread {
    fn name(self) -> &'static str {
        match self {
            Thread::Main { .. } => "main",
            Thread::Cpu => "CPU",
            Thread::Time => "time",
        }
    }
}

thread_local! {
    /// Whose filter it is that a call has met.
    static WHO: Cell<&'static str> = const { Cell::new("a thread that has just begun") };
}

/// Confines the main thread, which has no other beside it yet, and whatever it starts: to the directory `dir`
/// and the devices that guests are made of, and to its list of system calls. `init`: it is the first process of a
/// machine; `devices`: it hands devices of the host's to guests. What the kernel cannot do of it, in words, if that is
/// not needed.
///
/// # Errors
/// [`SandboxError`] if there are no filters.
pub fn enter(dir: &Path, init: bool, devices: bool) -> Result<String, SandboxError> {
    let handler = register_signal_handler(libc::SIGSYS, trespassed);
    handler.map_err(|e| {
        SandboxError::of("watch for calls that are not allowed")(io::Error::from(e))
    })?;
    for (signal, _) in CRASHES {
        watch_for_crash(signal).map_err(SandboxError::of("watch for crashes"))?;
    }
    let files = restrict_files(dir, devices)?;
    // The flags of clone3() are in memory, where no filter looks. The C library goes on with clone() then.
    let enosys = u32::try_from(libc::ENOSYS).unwrap_or(u32::MAX);
    apply(
        vec![(libc::SYS_clone3, vec![])],
        SeccompAction::Allow,
        SeccompAction::Errno(enosys),
    )?;
    confine(Thread::Main { init, devices })?;
    Ok(files)
}

/// Calls the thread that calls this so, should a call of it be refused, or it crash.
pub fn name(thread: &'static str) {
    WHO.set(thread);
}

/// Confines the thread that calls this, which has a part of the main thread's work.
///
/// # Errors
/// [`SandboxError`].
pub fn confine(thread: Thread) -> Result<(), SandboxError> {
    WHO.set(thread.name());
    apply(calls(thread)?, SeccompAction::Trap, SeccompAction::Allow)
}

/// A system call by its number, and what its arguments are to be: one of these, or anything if there is none.
type Call = (i64, Vec<SeccompRule>);

fn apply(
    calls: Vec<Call>,
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> Result<(), SandboxError> {
    let filter = filter(calls, &otherwise, &listed)?;
    seccompiler::apply_filter(&filter).map_err(SandboxError::of(FILTER))
}

const FILTER: &str = "filter system calls";

/// Calls to a piece of a filter.
const PIECE: usize = 8;

/// A filter in pieces by the numbers of calls, each with a branch to the next before it. One piece asks for one number
/// after the other, and a kernel that is given a filter tries it with all calls that it has, to know those that are
/// always let through: with a hundred numbers, that is most of the time that a thread takes to be confined.
fn filter(
    calls: Vec<Call>,
    otherwise: &SeccompAction,
    listed: &SeccompAction,
) -> Result<BpfProgram, SandboxError> {
    let arch = std::env::consts::ARCH.try_into();
    let arch = arch.map_err(SandboxError::of(FILTER))?;
    let calls: BTreeMap<i64, Vec<SeccompRule>> = calls.into_iter().collect();
    let mut calls = calls.into_iter().peekable();
    let mut whole = BpfProgram::new();
    loop {
        let piece: BTreeMap<_, _> = calls.by_ref().take(PIECE).collect();
        let piece = SeccompFilter::new(piece, otherwise.clone(), listed.clone(), arch);
        let piece = piece.map_err(SandboxError::of(FILTER))?;
        let piece: BpfProgram = piece.try_into().map_err(SandboxError::of(FILTER))?;
        let next = calls.peek().map(|(number, _)| u32::try_from(*number));
        let Some(next) = next.transpose().map_err(SandboxError::of(FILTER))? else {
            whole.extend(piece);
            return Ok(whole);
        };
        let len = u32::try_from(piece.len()).map_err(SandboxError::of(FILTER))?;
        whole.extend(behind(next, len));
        whole.extend(piece);
    }
}

/// Goes over so many instructions if the call's number is at least `next`.
fn behind(next: u32, len: u32) -> [sock_filter; 3] {
    // Numbers that a filter may use (linux/bpf_common.h): a 32-bit word at an offset in `struct seccomp_data`, whose
    // first is the call's number; a branch if it is not less; one in any case, which goes further.
    const LD_W_ABS: u16 = 0x20;
    const JMP_JGE_K: u16 = 0x35;
    const JMP_JA: u16 = 0x05;
    let instruction = |code, jf, k| sock_filter { code, jt: 0, jf, k };
    [
        instruction(LD_W_ABS, 0, 0),
        instruction(JMP_JGE_K, 1, next),
        instruction(JMP_JA, 0, len),
    ]
}

/// A rule that an argument, by its number, is to be so.
fn argument(number: u8, how: SeccompCmpOp, value: u64) -> Result<SeccompRule, SandboxError> {
    const WHAT: &str = "filter system calls by their arguments";
    let condition = SeccompCondition::new(number, Dword, how, value);
    let condition = condition.map_err(SandboxError::of(WHAT))?;
    SeccompRule::new(vec![condition]).map_err(SandboxError::of(WHAT))
}

/// As it is passed to the kernel: constants are signed, and of several widths.
fn bits(constant: impl Into<i64>) -> u64 {
    constant.into().cast_unsigned()
}

/// The number of an ioctl of KVM's that is given something of `size` bytes (_IOW in asm-generic/ioctl.h).
const fn kvm_iow(number: u64, size: u64) -> u64 {
    1 << 30 | size << 16 | KVM << 8 | number
}

/// The kinds of ioctls: KVM's, and those of devices that are handed to guests.
const KVM: u64 = 0xae;
const VFIO: u64 = b';' as u64;

/// Where an ioctl's number has its kind.
const KIND: u64 = 0xff00;

/// The same that gives something back, or both.
const fn kvm_ior(number: u64, size: u64) -> u64 {
    2 << 30 | size << 16 | KVM << 8 | number
}
const fn kvm_iowr(number: u64, size: u64) -> u64 {
    3 << 30 | size << 16 | KVM << 8 | number
}

/// What a CPU is run with, which comes first as it is what matters for speed.
const KVM_RUN: u64 = KVM << 8 | 0x80;
const KVM_IRQ_LINE: u64 = kvm_iow(0x61, 8);
const KVM_GET_ONE_REG: u64 = kvm_iow(0xab, 16);
/// Whether characters are kept in the ring changes with what the guest does to the UART.
const KVM_REGISTER_COALESCED_MMIO: u64 = kvm_iow(0x67, 16);
const KVM_UNREGISTER_COALESCED_MMIO: u64 = kvm_iow(0x68, 16);
/// What a CPU says of itself when its guest is saved.
const KVM_GET_MP_STATE: u64 = kvm_ior(0x98, 4);
const KVM_GET_VCPU_EVENTS: u64 = kvm_ior(0x9f, 64);
const KVM_GET_REG_LIST: u64 = kvm_iowr(0xb0, 8);

/// What any thread needs to compute, to wait, to say that something is up, and to end.
const COMPUTE: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_futex,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Registers of devices that are handed to guests.
    libc::SYS_pread64,
    libc::SYS_pwrite64,
];

/// What the main thread needs besides: files (landlock says which), requests, guests, threads.
const MANAGE: &[i64] = &[
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_lseek,
    libc::SYS_readv,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_memfd_create,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_rt_sigaction,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_uname,
    // Refused in another way (enter()).
    libc::SYS_clone3,
];

/// Older forms of some of these, which arm64 does not have: for tests elsewhere.
#[cfg(not(target_arch = "aarch64"))]
const OLDER: &[i64] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_poll,
];
#[cfg(target_arch = "aarch64")]
const OLDER: &[i64] = &[];

/// Its list.
fn calls(thread: Thread) -> Result<Vec<Call>, SandboxError> {
    let any = |numbers: &[i64]| numbers.iter().map(|n| (*n, vec![])).collect::<Vec<Call>>();
    let mut calls = any(COMPUTE);
    // Memory that holds data holds no code.
    let exec = bits(libc::PROT_EXEC);
    for number in [libc::SYS_mmap, libc::SYS_mprotect] {
        calls.push((number, vec![argument(2, MaskedEq(exec), 0)?]));
    }
    // Signals are for this process alone.
    let own = u64::from(std::process::id());
    calls.push((libc::SYS_tgkill, vec![argument(0, Eq, own)?]));
    // Where the kernel's own functions for the time are (prctl(2); linux/prctl.h).
    const PR_GET_AUXV: libc::c_int = 0x4155_5856;
    calls.push((libc::SYS_prctl, vec![argument(0, Eq, bits(PR_GET_AUXV))?]));
    let requests: &[u64] = match thread {
        Thread::Cpu => &[
            KVM_RUN,
            KVM_IRQ_LINE,
            KVM_REGISTER_COALESCED_MMIO,
            KVM_UNREGISTER_COALESCED_MMIO,
            KVM_GET_ONE_REG,
            KVM_GET_MP_STATE,
            KVM_GET_VCPU_EVENTS,
            KVM_GET_REG_LIST,
        ],
        Thread::Time => &[KVM_IRQ_LINE],
        Thread::Main { init, devices } => {
            calls.extend(any(MANAGE));
            calls.extend(any(OLDER));
            let thread = bits(libc::CLONE_THREAD);
            let starts = argument(0, MaskedEq(thread), thread)?;
            calls.push((libc::SYS_clone, vec![starts]));
            // Not those that have files send signals, to whomever.
            let files = [
                libc::F_DUPFD_CLOEXEC,
                libc::F_GETFD,
                libc::F_SETFD,
                libc::F_GETFL,
                libc::F_SETFL,
            ];
            let files = files.map(|what| argument(1, Eq, bits(what)));
            calls.push((
                libc::SYS_fcntl,
                files.into_iter().collect::<Result<_, _>>()?,
            ));
            let filters = argument(0, Eq, libc::SECCOMP_SET_MODE_FILTER.into())?;
            calls.push((libc::SYS_seccomp, vec![filters]));
            let options = [libc::PR_SET_NAME, libc::PR_SET_NO_NEW_PRIVS, PR_GET_AUXV];
            let options = options.map(|option| argument(0, Eq, bits(option)));
            calls.push((
                libc::SYS_prctl,
                options.into_iter().collect::<Result<_, _>>()?,
            ));
            if init {
                let off = libc::LINUX_REBOOT_CMD_POWER_OFF.cast_unsigned();
                calls.push((libc::SYS_reboot, vec![argument(2, Eq, off.into())?]));
            }
            let kinds = [KVM].into_iter().chain(devices.then_some(VFIO));
            let kinds = kinds.map(|kind| argument(1, MaskedEq(KIND), kind << 8));
            calls.push((libc::SYS_ioctl, kinds.collect::<Result<_, _>>()?));
            return Ok(calls);
        }
    };
    let requests = requests.iter().map(|request| argument(1, Eq, *request));
    calls.push((libc::SYS_ioctl, requests.collect::<Result<_, _>>()?));
    Ok(calls)
}

/// From now on this process opens nothing but files below `dir`, and what guests are made of: KVM, and `devices` of the
/// host's.
fn restrict_files(dir: &Path, devices: bool) -> Result<String, SandboxError> {
    const WHAT: &str = "restrict access to files";
    // What versions after it restrict (signals, abstract sockets), the filter of system calls does not let it do;
    // older kernels do what they can.
    let all = ABI::V5;
    let files = AccessFs::ReadFile
        | AccessFs::WriteFile
        | AccessFs::ReadDir
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Truncate;
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    let look = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut places = vec![("/dev/kvm", device)];
    if devices {
        places.extend([
            ("/dev/vfio", device | AccessFs::ReadDir),
            ("/sys/bus/pci", look),
            ("/sys/devices", look),
            ("/sys/kernel/iommu_groups", look),
        ]);
    }
    let rules = || -> Result<RulesetStatus, Box<dyn Error + Send + Sync>> {
        let mut rules = Ruleset::default()
            .handle_access(AccessFs::from_all(all))?
            .handle_access(AccessNet::from_all(all))?
            .create()?
            .add_rule(PathBeneath::new(PathFd::new(dir)?, files))?;
        for (path, access) in places {
            let access: BitFlags<AccessFs> = access;
            // What is not there needs no rule.
            if let Ok(path) = PathFd::new(path) {
                rules = rules.add_rule(PathBeneath::new(path, access))?;
            }
        }
        Ok(rules.restrict_self()?.ruleset)
    };
    let status = rules().map_err(SandboxError::of(WHAT))?;
    Ok(match status {
        RulesetStatus::NotEnforced => {
            "its kernel has no landlock, so that only its user's permissions keep it from other files".into()
        }
        RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => String::new(),
    })
}

/// A filter has refused a call: says which, and ends the process. Takes no lock and allocates nothing.
extern "C" fn trespassed(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a signal handler of this kind the registers of the thread that it has stopped.
    let (number, request) = unsafe { asked(&*context.cast::<libc::ucontext_t>()) };
    let name = usize::try_from(number).ok().and_then(Sysno::new);
    let name = name.map_or("unknown", |name| name.name());
    let mut line = [0; 256];
    let mut rest = &mut line[..];
    // What does not fit is left out.
    let _ = write!(rest, "\n{TRESPASS}{name} ({number})");
    if number == libc::SYS_ioctl {
        let _ = write!(rest, " with request {request:#x}");
    }
    let _ = writeln!(rest, " in its thread `{}`", WHO.get());
    let len = 256 - rest.len();
    // SAFETY: both are calls that a signal handler may make; the buffer has `len` bytes.
    unsafe {
        libc::write(2, line.as_ptr().cast(), len);
        libc::_exit(STATUS);
    }
}

/// Signals that come of a mistake of this program's own, and their names.
const CRASHES: [(i32, &str); 5] = [
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGTRAP, "SIGTRAP"),
];

/// Tells of a crash by that signal. What the standard library would do then is a call that no CPU's thread may make.
fn watch_for_crash(signal: i32) -> io::Result<()> {
    // SAFETY: all zeros is such an action, of which what counts is filled in. The handler makes calls that one may
    // make. It has a stack of its own, which the standard library gives each thread: this one's may be at its end.
    let set = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = crashed as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(signal, &action, std::ptr::null_mut())
    };
    match set {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Says which signal has come, and ends the process by it. Takes no lock and allocates nothing.
extern "C" fn crashed(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let known = CRASHES.iter().find(|(number, _)| *number == signal);
    let name = known.map_or("a signal", |(_, name)| name);
    // SAFETY: the kernel passes a handler of this kind what there is to say of the signal.
    let (by_kernel, at) = unsafe { ((*info).si_code > 0, (*info).si_addr() as usize) };
    let mut line = [0; 256];
    let mut rest = &mut line[..];
    let _ = write!(rest, "\n{CRASH}{name}");
    if by_kernel {
        let _ = write!(rest, " at address {at:#x}");
    }
    let _ = writeln!(rest, " in its thread `{}`", WHO.get());
    let len = 256 - rest.len();
    // SAFETY: as in `trespassed`.
    unsafe {
        libc::write(2, line.as_ptr().cast(), len);
        libc::_exit(128 + signal);
    }
}

/// The number of the call that was made, and its second argument.
#[cfg(target_arch = "aarch64")]
fn asked(context: &libc::ucontext_t) -> (i64, u64) {
    let registers = &context.uc_mcontext.regs;
    (registers[8].cast_signed(), registers[1])
}

/// As above, where the VMM does not run, but its tests do.
#[cfg(target_arch = "x86_64")]
fn asked(context: &libc::ucontext_t) -> (i64, u64) {
    let registers = &context.uc_mcontext.gregs;
    let register = |number: i32| registers[number.unsigned_abs() as usize];
    (
        register(libc::REG_RAX),
        register(libc::REG_RSI).cast_unsigned(),
    )
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Output};
    use std::sync::mpsc;

    use super::*;

    /// Whether filters can be had: an emulator of programs has none.
    fn there_are_filters() -> bool {
        std::thread::spawn(|| {
            confine(Thread::Main {
                init: false,
                devices: false,
            })
            .is_ok()
        })
        .join()
        .unwrap()
    }

    /// What is done in a process of its own, by name.
    fn act(name: &str, dir: &Path) {
        match name {
            "work" => work(dir),
            "socket" => drop(UnixStream::pair()),
            "program" => drop(Command::new("/bin/true").spawn()),
            "reboot" => {
                // SAFETY: a number and no pointer; without the filter it would be refused for its magic.
                unsafe { libc::syscall(libc::SYS_reboot, 0, 0, libc::LINUX_REBOOT_CMD_POWER_OFF) };
            }
            "code" => {
                // SAFETY: memory that nobody knows of.
                unsafe {
                    libc::mmap(
                        std::ptr::null_mut(),
                        4096,
                        libc::PROT_READ | libc::PROT_EXEC,
                        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                        -1,
                        0,
                    )
                };
            }
            "other-process" => {
                // SAFETY: no pointer; signal 0 is none.
                unsafe { libc::syscall(libc::SYS_tgkill, 1, 1, 0) };
            }
            "outside" => {
                let refused = File::open("/etc/passwd").unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
                let refused = File::create("/tmp/staleline-outside").unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
                let refused = fs::read_dir("/sys/devices").unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
            }
            "looks-at-devices" => {
                assert!(fs::read_dir("/sys/devices").is_ok());
                ioctl(VFIO << 8 | 100);
            }
            "main-devices" => ioctl(VFIO << 8 | 100),
            "cpu-opens" => on(Thread::Cpu, || drop(File::open("/dev/null"))),
            "cpu-creates" => on(Thread::Cpu, || ioctl(KVM << 8 | 0x41)),
            "cpu-runs" => on(Thread::Cpu, || ioctl(KVM_RUN)),
            "time-runs" => on(Thread::Time, || ioctl(KVM_RUN)),
            "main-terminal" => ioctl(0x5401),
            "crash" => crash(),
            "cpu-crashes" => on(Thread::Cpu, crash),
            "overflow" => on(Thread::Cpu, || assert!(deep(1) > 0)),
            _ => panic!("{name}"),
        }
    }

    /// An ioctl of no file.
    fn ioctl(request: u64) {
        // SAFETY: no such file is open, so nobody looks at it.
        unsafe { libc::syscall(libc::SYS_ioctl, -1, request, 0) };
    }

    fn crash() {
        // SAFETY: no pointer.
        unsafe { libc::raise(libc::SIGSEGV) };
    }

    /// Takes more stack than there is.
    fn deep(n: u64) -> u64 {
        let much = std::hint::black_box([n; 1 << 10]);
        match n {
            0 => 0,
            n => deep(n + 1) + much[n as usize % 7],
        }
    }

    fn on(thread: Thread, act: impl FnOnce() + Send + 'static) {
        let body = move || {
            confine(thread).unwrap();
            act();
        };
        std::thread::spawn(body).join().unwrap();
    }

    /// What the VMM does, as far as it can be done without a guest.
    fn work(dir: &Path) {
        let sub = dir.join("run");
        fs::create_dir(&sub).unwrap();
        fs::write(sub.join("a"), vec![1; 1 << 20]).unwrap();
        fs::rename(sub.join("a"), sub.join("b")).unwrap();
        fs::copy(sub.join("b"), sub.join("c")).unwrap();
        assert_eq!(fs::read(sub.join("c")).unwrap().len(), 1 << 20);
        fs::remove_dir_all(&sub).unwrap();
        let (tell, told) = mpsc::channel();
        let threads = [Thread::Cpu, Thread::Time].map(|thread| {
            let tell = tell.clone();
            std::thread::spawn(move || {
                confine(thread).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(1));
                let much = vec![thread.name().to_owned(); 10_000];
                tell.send(much.len()).unwrap();
            })
        });
        assert_eq!(told.iter().take(2).sum::<usize>(), 20_000);
        for thread in threads {
            thread.join().unwrap();
        }
    }

    /// Not a test: the process that the tests below look at.
    #[test]
    fn child() {
        let Ok(name) = std::env::var("STALELINE_TEST_ACT") else {
            return;
        };
        let dir = std::env::var_os("STALELINE_TEST_DIR").unwrap();
        enter(Path::new(&dir), false, name == "looks-at-devices").unwrap();
        act(&name, Path::new(&dir));
        println!("went on");
    }

    fn told(act: &str) -> Output {
        let dir = tempfile::tempdir().unwrap();
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sandbox::tests::child", "--nocapture"])
            .env("STALELINE_TEST_ACT", act)
            .env("STALELINE_TEST_DIR", dir.path())
            .output()
            .unwrap()
    }

    /// What a filter says to a call, as the kernel carries it out (Documentation/networking/filter.rst), and in how many
    /// steps.
    fn says(filter: &BpfProgram, arch: u32, number: u32, arguments: [u64; 6]) -> (u32, usize) {
        let mut data = Vec::new();
        data.extend(number.to_le_bytes());
        data.extend(arch.to_le_bytes());
        data.extend([0; 8]);
        arguments
            .iter()
            .for_each(|argument| data.extend(argument.to_le_bytes()));
        let (mut a, mut at, mut steps) = (0, 0, 0);
        loop {
            let one = &filter[at];
            (at, steps) = (at + 1, steps + 1);
            let jump = |is: bool| usize::from(if is { one.jt } else { one.jf });
            let k = one.k;
            match one.code {
                0x20 => a = u32::from_le_bytes(data[k as usize..][..4].try_into().unwrap()),
                0x05 => at += k as usize,
                0x15 => at += jump(a == k),
                0x25 => at += jump(a > k),
                0x35 => at += jump(a >= k),
                0x54 => a &= k,
                0x06 => return (k, steps),
                other => panic!("{other:#x}"),
            }
        }
    }

    /// In pieces it says what it says in one.
    #[test]
    fn a_filter_in_pieces_says_the_same() {
        let (trap, allow) = (SeccompAction::Trap, SeccompAction::Allow);
        // AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64 (linux/audit.h).
        let arch = if cfg!(target_arch = "aarch64") {
            0xc000_00b7
        } else {
            0xc000_003e
        };
        let main = |devices| Thread::Main {
            init: true,
            devices,
        };
        for thread in [main(true), main(false), Thread::Cpu, Thread::Time] {
            let list = || calls(thread).unwrap();
            let whole: BTreeMap<_, _> = list().into_iter().collect();
            let of = std::env::consts::ARCH.try_into().unwrap();
            let whole = SeccompFilter::new(whole, trap.clone(), allow.clone(), of).unwrap();
            let whole: BpfProgram = whole.try_into().unwrap();
            let pieces = filter(list(), &trap, &allow).unwrap();
            let arguments = [
                [0; 6],
                [1, KVM_RUN, 4, 0, 0, 0],
                [2, 0x5401, 7, 0, 0, 0],
                [u64::MAX; 6],
            ];
            let (mut before, mut after) = (0, 0);
            for number in (0..600).chain([u32::MAX]) {
                for arguments in arguments {
                    let (expected, long) = says(&whole, arch, number, arguments);
                    let (said, short) = says(&pieces, arch, number, arguments);
                    assert_eq!(said, expected, "{thread:?} {number} {arguments:?}");
                    (before, after) = (before + long, after + short);
                }
                // Another processor's calls have other numbers.
                let foreign = says(&whole, 1, number, [0; 6]).0;
                assert_eq!(says(&pieces, 1, number, [0; 6]).0, foreign);
                assert_ne!(foreign, says(&whole, arch, libc::SYS_read as u32, [0; 6]).0);
            }
            if let Thread::Main { .. } = thread {
                assert!(after * 3 < before, "{after} of {before}");
            }
        }
        assert!(filter(Vec::new(), &trap, &allow).is_ok());
    }

    #[test]
    fn what_the_vmm_does_is_allowed() {
        if !there_are_filters() {
            return;
        }
        for act in ["work", "cpu-runs", "looks-at-devices"] {
            let told = told(act);
            assert!(told.status.success(), "{act}: {told:?}");
        }
    }

    #[test]
    fn what_is_not_allowed_ends_the_process_with_its_name() {
        if !there_are_filters() {
            return;
        }
        for (act, call, thread) in [
            ("socket", "socketpair (", "main"),
            ("reboot", "reboot (", "main"),
            ("code", "mmap (", "main"),
            ("other-process", "tgkill (", "main"),
            ("cpu-opens", "openat (", "CPU"),
            ("cpu-creates", ") with request 0xae41", "CPU"),
            ("time-runs", ") with request 0xae80", "time"),
            ("main-terminal", ") with request 0x5401", "main"),
            ("main-devices", ") with request 0x3b64", "main"),
        ] {
            let told = told(act);
            assert_eq!(told.status.code(), Some(STATUS), "{act}: {told:?}");
            let error = String::from_utf8_lossy(&told.stderr);
            let line = error.lines().find_map(|line| line.strip_prefix(TRESPASS));
            let line = line.unwrap_or_else(|| panic!("{act}: {error}"));
            assert!(line.contains(call), "{act}: {line}");
            assert!(
                line.ends_with(&format!("in its thread `{thread}`")),
                "{act}: {line}"
            );
        }
    }

    #[test]
    fn a_crash_is_no_trespass() {
        if !there_are_filters() {
            return;
        }
        for (act, thread) in [
            ("crash", "main"),
            ("cpu-crashes", "CPU"),
            ("overflow", "CPU"),
        ] {
            let told = told(act);
            assert_eq!(
                told.status.code(),
                Some(128 + libc::SIGSEGV),
                "{act}: {told:?}"
            );
            let error = String::from_utf8_lossy(&told.stderr);
            assert!(!error.contains(TRESPASS), "{act}: {error}");
            let line = error.lines().find_map(|line| line.strip_prefix(CRASH));
            let line = line.unwrap_or_else(|| panic!("{act}: {error}"));
            let end = format!("in its thread `{thread}`");
            assert!(
                line.starts_with("SIGSEGV") && line.ends_with(&end),
                "{act}: {line}"
            );
        }
    }

    #[test]
    fn no_program_is_started() {
        if there_are_filters() {
            let told = told("program");
            // The library blocks signals while it starts one, so that nobody is left to tell of it.
            assert_eq!(told.status.signal(), Some(libc::SIGSYS), "{told:?}");
        }
    }

    #[test]
    fn files_of_others_are_out_of_reach() {
        if !there_are_filters() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        // The restriction is of the thread that asks for it.
        let confined = std::thread::spawn(move || restrict_files(&path, false).unwrap());
        let lacks = confined.join().unwrap();
        if lacks.is_empty() {
            let told = told("outside");
            assert!(told.status.success(), "{told:?}");
        } else {
            assert!(lacks.contains("landlock"), "{lacks}");
        }
        // This thread has stayed free.
        assert!(TcpListener::bind("127.0.0.1:0").is_ok());
    }
}
