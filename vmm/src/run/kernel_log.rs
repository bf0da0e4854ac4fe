// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What of the kernel's messages is trouble: crashes, warnings, and among these the reports of a
//! kernel that checks its own locking.

/// Warnings kept.
const MAX_WARNINGS: usize = 1 << 17;

/// What kernels say before they stop.
const CRASHES: [&str; 6] = [
    "Kernel panic",
    "Internal error:",
    "Unable to handle kernel",
    "kernel BUG at",
    "BUG: ",
    "Unable to mount root",
];

/// What stands in lockdep's warnings (kernel/locking/lockdep.c), and in those of WARN() on locking
/// rules.
const LOCK_WARNINGS: [&str; 17] = [
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
    "suspicious RCU usage",
    "DEBUG_LOCKS_WARN_ON",
    "DEBUG_RWSEMS_WARN_ON",
    "do not call blocking ops when !TASK_RUNNING",
    "context switch within RCU read-side",
];

/// How reports start that are no warnings by name, and after which kernels go on all the same.
const LOCK_BUGS: [&str; 13] = [
    "BUG: sleeping function called from invalid context",
    "BUG: scheduling while atomic",
    "BUG: scheduling in a non-blocking section",
    "BUG: assuming atomic context",
    "BUG: assuming non migratable context",
    "BUG: using ",
    "BUG: spinlock ",
    "BUG: rwlock ",
    "BUG: key ",
    "BUG: looking up invalid subclass",
    "BUG: MAX_",
    "[ BUG: ",
    "INFO: trying to register non-static key",
];

/// Whether a warning says that code breaks the rules of locking or of atomic context.
pub fn is_lock_report(warning: &str) -> bool {
    LOCK_BUGS.iter().any(|start| warning.starts_with(start))
        || (warning.starts_with("WARNING:")
            && LOCK_WARNINGS.iter().any(|part| warning.contains(part)))
}

/// The kernel's messages, read line by line.
#[derive(Debug, Clone, Default)]
pub struct KernelLog {
    /// The first line of a panic or oops.
    pub crash: Option<String>,
    /// First lines of warnings.
    pub warnings: Vec<String>,
    /// Whether WARN() or BUG() has begun, and the message it was given.
    cut: Option<Option<String>>,
    /// Whether what a stack dump belongs to has been said.
    announced: bool,
    /// Whose stack is dumped.
    whose: String,
}

impl KernelLog {
    /// Takes a message in, without its time stamp.
    pub fn line(&mut self, text: &str) {
        if text.starts_with("------------[ cut here ]") {
            self.cut = Some(None);
        } else if is_lock_report(text) || text.starts_with("DMA-API:") {
            self.warn(text.to_owned());
        } else if text.starts_with("WARNING:") {
            // WARN() tells its message first.
            let warning = match self.cut.take().flatten() {
                Some(message) => format!("{text}: {message}"),
                None => text.to_owned(),
            };
            self.warn(warning);
        } else if CRASHES.iter().any(|start| text.starts_with(start)) {
            self.crash.get_or_insert_with(|| text.to_owned());
            self.cut = None;
            self.announced = true;
        } else if text == "Call trace:" {
            // lockdep says why it gives up at a level that does not reach the console; where it
            // was then does.
            if !std::mem::take(&mut self.announced) {
                self.warn(format!("stack dump: {}", self.whose));
                self.announced = false;
            }
        } else if let Some(cut @ None) = &mut self.cut {
            *cut = Some(text.to_owned());
        } else if text.starts_with("CPU: ") {
            text.clone_into(&mut self.whose);
        }
    }

    fn warn(&mut self, warning: String) {
        self.cut = None;
        self.announced = true;
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(warning);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> KernelLog {
        let mut log = KernelLog::default();
        text.lines().for_each(|line| log.line(line));
        log
    }

    /// The rest of a report.
    const TRACE: &str = "CPU: 0 UID: 0 PID: 1 Comm: agent Not tainted 6.12.0 #1\n\
                         Hardware name: x (DT)\nCall trace:\n dump_backtrace+0x9c/0x100\n";

    #[test]
    fn reports_on_locking_are_warnings_of_their_own_kind() {
        for (report, first) in [
            (
                "\n======\nWARNING: possible circular locking dependency detected\n6.12.0 Not \
                 tainted\n------\nagent/1 is trying to acquire lock:\nffff (&a){+.+.}-{3:3}, at: f\n",
                "WARNING: possible circular locking dependency detected",
            ),
            (
                "================================\nWARNING: inconsistent lock state\n",
                "WARNING: inconsistent lock state",
            ),
            (
                "WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected\n",
                "WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected",
            ),
            (
                "WARNING: suspicious RCU usage\n-----\nkernel/x.c:1 Illegal context switch!\n",
                "WARNING: suspicious RCU usage",
            ),
            (
                "WARNING: agent/1 still has locks held!\n",
                "WARNING: agent/1 still has locks held!",
            ),
            (
                "BUG: sleeping function called from invalid context at mm/a.c:10\nin_atomic(): 1\n",
                "BUG: sleeping function called from invalid context at mm/a.c:10",
            ),
            (
                "BUG: scheduling while atomic: agent/1/0x00000002\nINFO: lockdep is turned off.\n",
                "BUG: scheduling while atomic: agent/1/0x00000002",
            ),
            (
                "=============================\n[ BUG: Invalid wait context ]\n",
                "[ BUG: Invalid wait context ]",
            ),
            (
                "INFO: trying to register non-static key.\nThe code is fine but needs\n",
                "INFO: trying to register non-static key.",
            ),
            (
                "------------[ cut here ]------------\nDEBUG_LOCKS_WARN_ON(lock->magic != lock)\n\
                 WARNING: CPU: 0 PID: 1 at kernel/locking/mutex.c:564 __mutex_lock+0x2c\n",
                "WARNING: CPU: 0 PID: 1 at kernel/locking/mutex.c:564 __mutex_lock+0x2c: \
                 DEBUG_LOCKS_WARN_ON(lock->magic != lock)",
            ),
        ] {
            let log = read(&format!("{report}{TRACE}"));
            assert_eq!(log.warnings, [first]);
            assert_eq!(log.crash, None, "{first}");
            assert!(is_lock_report(&log.warnings[0]), "{first}");
        }
    }

    #[test]
    fn other_trouble_is_not_about_locks() {
        let warning = "WARNING: CPU: 0 PID: 1 at drivers/a.c:1 f+0x2c/0x40";
        let log = read(&format!(
            "------------[ cut here ]------------\n{warning}\n{TRACE}\
             ------------[ cut here ]------------\nrefcount_t: underflow\nModules linked in: x\n\
             {warning}\n{TRACE}DMA-API: mapping leaked\n"
        ));
        let with_message = format!("{warning}: refcount_t: underflow");
        assert_eq!(
            log.warnings,
            [warning, &with_message, "DMA-API: mapping leaked"]
        );
        assert!(!log.warnings.iter().any(|w| is_lock_report(w)));
        for crash in [
            "BUG: KASAN: use-after-free in f",
            "kernel BUG at mm/slub.c:1!",
            "Unable to handle kernel NULL pointer dereference",
        ] {
            let log = read(&format!(
                "------------[ cut here ]------------\n{crash}\n{TRACE}"
            ));
            assert_eq!(log.crash.as_deref(), Some(crash));
            assert_eq!(log.warnings, [""; 0]);
        }
    }

    #[test]
    fn a_stack_dump_that_nobody_announced_is_a_warning() {
        let log = read(&format!("all is well\n{TRACE}WARNING: agent/1 x\n{TRACE}"));
        let dump = "stack dump: CPU: 0 UID: 0 PID: 1 Comm: agent Not tainted 6.12.0 #1";
        assert_eq!(log.warnings, [dump, "WARNING: agent/1 x"]);
    }
}
