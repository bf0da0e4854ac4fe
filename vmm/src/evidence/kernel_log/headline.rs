// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! How reports of the kernel start, and what they are about.
//!
//! The texts are those of Linux 6.12: lib/bug.c and kernel/panic.c (WARN, BUG), arch/arm64/mm/fault.c
//! and arch/arm64/kernel/traps.c (oopses), kernel/locking/, kernel/sched/core.c, kernel/hung_task.c,
//! kernel/watchdog.c, kernel/rcu/, kernel/dma/debug.c, mm/kasan/report.c, lib/ubsan.c.

use staleline_results::ReportClass;

/// What stands in lockdep's warnings, and in those of WARN() on locking rules.
const LOCK_WARNINGS: [&str; 16] = [
    "possible circular locking dependency",
    "possible recursive locking",
    "possible irq lock inversion",
    "unsafe lock order detected",
    "inconsistent lock state",
    "chain_key collision",
    "Nested lock was not taken",
    "bad unlock balance",
    "bad contention",
    "held lock freed",
    "still has locks held",
    "lock held when returning to user space",
    "DEBUG_LOCKS_WARN_ON",
    "DEBUG_RWSEMS_WARN_ON",
    "do not call blocking ops when !TASK_RUNNING",
    "context switch within RCU read-side",
];

/// How reports start. The first that matches tells.
const STARTS: [(&str, ReportClass); 30] = [
    ("WARNING: suspicious RCU usage", ReportClass::Rcu),
    ("WARNING:", ReportClass::Warn),
    ("BUG: KASAN:", ReportClass::Kasan),
    ("UBSAN:", ReportClass::Ubsan),
    (
        "BUG: sleeping function called from invalid context",
        ReportClass::Locking,
    ),
    ("BUG: scheduling while atomic", ReportClass::Locking),
    (
        "BUG: scheduling in a non-blocking section",
        ReportClass::Locking,
    ),
    ("BUG: assuming atomic context", ReportClass::Locking),
    ("BUG: assuming non migratable context", ReportClass::Locking),
    ("BUG: using ", ReportClass::Locking),
    ("BUG: spinlock ", ReportClass::Locking),
    ("BUG: rwlock ", ReportClass::Locking),
    ("BUG: key ", ReportClass::Locking),
    ("BUG: looking up invalid subclass", ReportClass::Locking),
    ("BUG: MAX_", ReportClass::Locking),
    ("[ BUG: ", ReportClass::Locking),
    (
        "INFO: trying to register non-static key",
        ReportClass::Locking,
    ),
    ("INFO: possible recursive locking", ReportClass::Locking),
    ("INFO: task ", ReportClass::HungTask),
    ("INFO: rcu", ReportClass::Rcu),
    ("rcu: INFO: ", ReportClass::Rcu),
    ("watchdog: BUG: soft lockup", ReportClass::Lockup),
    ("watchdog: Watchdog detected", ReportClass::Lockup),
    ("Watchdog detected hard LOCKUP", ReportClass::Lockup),
    ("kernel BUG at ", ReportClass::Bug),
    ("BUG: ", ReportClass::Bug),
    // The checks of the slab allocator name the cache: `BUG kmalloc-64 (Not tainted): ...`.
    ("BUG ", ReportClass::Bug),
    ("Unable to handle kernel ", ReportClass::Oops),
    ("SError Interrupt on CPU", ReportClass::Oops),
    ("Internal error: ", ReportClass::Oops),
];

/// How the messages of panics start that another report has led to.
pub(super) const CONSEQUENCES: [&str; 8] = [
    "Fatal exception",
    "Oops",
    "Aiee, killing interrupt handler!",
    "Attempted to kill",
    "hung_task:",
    "softlockup:",
    "Hard LOCKUP",
    "RCU Stall",
];

/// In the messages of panics that tell of the run's own parts, not of the kernel under test: its
/// initramfs, its agent, its choice of a kernel or of a board.
pub(super) const NOT_ITS_FAULT: [&str; 6] = [
    "Attempted to kill init!",
    "VFS: Unable to mount root",
    "No working init found",
    "Requested init ",
    "System is deadlocked on memory",
    "Out of memory",
];

/// The class of a report that starts with this line; `message` is what WARN() was given.
pub(super) fn class_of(line: &str, message: &str) -> Option<ReportClass> {
    let (_, class) = STARTS.iter().find(|(start, _)| line.starts_with(start))?;
    let locking = |text: &str| LOCK_WARNINGS.iter().any(|part| text.contains(part));
    Some(match class {
        ReportClass::Warn if message.starts_with("DMA-API:") => ReportClass::DmaApi,
        ReportClass::Warn if locking(line) || locking(message) => ReportClass::Locking,
        class => *class,
    })
}
