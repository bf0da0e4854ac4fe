// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
use proptest::prelude::*;

use super::*;

fn read(text: &str) -> KernelLog {
    let mut log = KernelLog::default();
    text.lines().for_each(|line| log.line(line));
    log.finish();
    log
}

/// The only report of a text.
#[track_caller]
fn one(text: &str) -> KernelReport {
    let log = read(text);
    assert_eq!((log.warnings.len(), log.crash), (0, None), "{text}");
    let [report] = &log.reports[..] else {
        panic!("{:#?}\nof\n{text}", log.reports);
    };
    report.report.clone()
}

/// The rest of a report.
const TRACE: &str = "CPU: 0 UID: 0 PID: 1 Comm: agent Not tainted 6.12.0 #1\n\
                     Hardware name: x (DT)\nCall trace:\n dump_backtrace+0x9c/0x100\n \
                     show_stack+0x18/0x30\n frob+0x40/0x90\n do_frob+0x10/0x20 (P)\n";

/// What an arm64 kernel prints of its registers.
const REGISTERS: &str = "Modules linked in:\nCPU: 0 UID: 0 PID: 1 Comm: agent Tainted: G D 6.12.0 #1\n\
                         Hardware name: x (DT)\npstate: 60000005 (nZCv daif)\npc : frob+0x40/0x90\n\
                         lr : do_frob+0x10/0x20\nsp : ffffffc080013c40\n\
                         x29: ffffffc080013c40 x28: 0000000000000000 x27: 0000000000000000\n\
                         x2 : 0000000000000000 x1 : 0000000000000001 x0 : 0000000000000002\n\
                         Call trace:\n frob+0x40/0x90\n do_frob+0x10/0x20\nCode: f9400001 (f9400021)\n\
                         ---[ end trace 0000000000000000 ]---\n";

#[test]
fn an_oops_has_text_and_chain_and_the_panic_it_leads_to() {
    let oops = format!(
        "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000010\n\
         Mem abort info:\n  ESR = 0x0000000096000004\n  EC = 0x25: DABT (current EL), IL = 32 bits\n\
         [0000000000000010] pgd=0000000000000000\n\
         Internal error: Oops: 0000000096000004 [#1] SMP\n{REGISTERS}"
    );
    let report = one(&oops);
    assert_eq!(report.class, ReportClass::Oops);
    assert_eq!(
        report.headline,
        "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000010"
    );
    assert_eq!(report.chain, ["frob+0x40", "do_frob+0x10"]);
    assert_eq!(report.function(), "frob");
    assert!(!report.fatal);
    let text = report.text.join("\n");
    assert!(
        text.contains("Internal error: Oops: 0000000096000004"),
        "{text}"
    );
    for register in ["x29", "x2 ", "sp :", "pstate", "ESR", "Code"] {
        assert!(!text.contains(register), "{register}: {text}");
    }

    for panic in [
        "Oops: Fatal exception",
        "Oops: Fatal exception in interrupt",
        "Attempted to kill init! exitcode=0x0000000b",
    ] {
        let report = one(&format!(
            "{oops}Kernel panic - not syncing: {panic}\nSMP: stopping secondary CPUs\n"
        ));
        assert!(report.fatal && report.text.last().unwrap().ends_with(panic));
        assert_eq!((report.class, report.chain.len()), (ReportClass::Oops, 2));
    }
}

/// What was executed, and where it goes on once a call is over, are two places in the source.
#[test]
fn a_trace_tells_what_is_a_call_and_what_is_not() {
    let exact = |text: &str| {
        let log = read(text);
        let trace = log.reports[0].trace.iter();
        trace.map(|c| (c.text(), c.exact)).collect::<Vec<_>>()
    };
    let oops = "Unable to handle kernel paging request at virtual address 0010\n\
                Internal error: Oops: 1 [#1] SMP\npc : frob+0x40/0x90 [own]\nlr : do_frob+0x10/0x20\n\
                Call trace:\n frob+0x40/0x90 [own]\n do_frob+0x10/0x20\n el1h_64_irq_handler+0x1/0x8\n \
                el1h_64_irq+0x6c/0x70\n idle+0x8/0x20\n main+0x4/0x20\n marked+0x4/0x20 (P)\n";
    let told = |name: &str, exact| (name.to_owned(), exact);
    assert_eq!(
        exact(oops),
        [
            told("frob+0x40 [own]", true),
            told("do_frob+0x10", false),
            told("el1h_64_irq_handler+0x1", false),
            told("el1h_64_irq+0x6c", false),
            told("idle+0x8", true),
            told("main+0x4", false),
            told("marked+0x4", true),
        ]
    );
    // A stack that is dumped begins with a call, whatever the registers were before.
    let dumped = format!("BUG: sleeping function called from invalid context at a.c:1\n{TRACE}");
    assert_eq!(exact(&dumped)[0], told("frob+0x40", false));
}

#[test]
fn a_bug_is_one_report_not_two() {
    let report = one(&format!(
        "------------[ cut here ]------------\nkernel BUG at mm/slub.c:10!\n\
         Internal error: Oops - BUG: 00000000f2000800 [#1] SMP\n{REGISTERS}"
    ));
    assert_eq!(
        (report.class, report.headline.as_str(), report.function()),
        (ReportClass::Bug, "kernel BUG at mm/slub.c:10!", "frob")
    );
}

#[test]
fn warn_tells_its_message_and_repeats_are_counted() {
    let bare = "WARNING: CPU: 0 PID: 1 at drivers/a.c:1 f+0x2c/0x40";
    let text = format!(
        "------------[ cut here ]------------\n{bare}\n{REGISTERS}\
         ------------[ cut here ]------------\nrefcount_t: underflow\n{bare}\n{REGISTERS}"
    );
    let log = read(&format!("{text}{text}all is well\n"));
    let reports = || log.reports.iter().map(|r| &r.report);
    let headlines: Vec<_> = reports().map(|r| (&*r.headline, r.count)).collect();
    let told = format!("{bare}: refcount_t: underflow");
    assert_eq!(headlines, [(bare, 2), (&*told, 2)]);
    assert!(reports().all(|r| r.class == ReportClass::Warn && r.chain.len() == 2));
    // Whether it is fatal is the kernel's choice.
    let report = one(&format!(
        "------------[ cut here ]------------\n{bare}\n{REGISTERS}\
         Kernel panic - not syncing: kernel: panic_on_warn set ...\n{TRACE}"
    ));
    assert!(report.fatal && report.class == ReportClass::Warn && report.chain.len() == 2);
}

#[test]
fn every_checker_of_the_kernel_is_known() {
    use ReportClass::{Bug, DmaApi, HungTask, Kasan, Locking, Lockup, Oops, Rcu, Ubsan};
    const CUT_WARN: &str = "WARNING: CPU: 0 PID: 1 at kernel/x.c:5 f+0x2c/0x40";
    for (class, report, headline) in [
        (
            Locking,
            "======\nWARNING: possible circular locking dependency detected\n6.12.0 Not tainted\n\
             ------\nagent/1 is trying to acquire lock:\nffff (&a){+.+.}-{3:3}, at: f+0x1/0x2\n\n\
             -> #1 (&b){+.+.}-{3:3}:\n       g+0x10/0x20\n\nstack backtrace:\n",
            "WARNING: possible circular locking dependency detected",
        ),
        (
            Locking,
            "======\nWARNING: inconsistent lock state\n",
            "WARNING: inconsistent lock state",
        ),
        (
            Locking,
            "WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected\n",
            "WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected",
        ),
        (
            Locking,
            "WARNING: agent/1 still has locks held!\n",
            "WARNING: agent/1 still has locks held!",
        ),
        (
            Locking,
            "BUG: sleeping function called from invalid context at mm/a.c:10\nin_atomic(): 1\n",
            "BUG: sleeping function called from invalid context at mm/a.c:10",
        ),
        (
            Locking,
            "BUG: scheduling while atomic: agent/1/0x00000002\nINFO: lockdep is turned off.\n",
            "BUG: scheduling while atomic: agent/1/0x00000002",
        ),
        (
            Locking,
            "======\n[ BUG: Invalid wait context ]\n",
            "[ BUG: Invalid wait context ]",
        ),
        (
            Locking,
            "INFO: trying to register non-static key.\nThe code is fine but needs\n",
            "INFO: trying to register non-static key.",
        ),
        (
            Rcu,
            "======\nWARNING: suspicious RCU usage\n-----\nkernel/x.c:1 Illegal context switch!\n",
            "WARNING: suspicious RCU usage",
        ),
        (
            Rcu,
            "rcu: INFO: rcu_sched self-detected stall on CPU\nrcu: \t0-....: (2100 ticks)\n",
            "rcu: INFO: rcu_sched self-detected stall on CPU",
        ),
        (
            HungTask,
            "INFO: task kworker/0:1:10 blocked for more than 120 seconds.\n      Not tainted 6.12\n\
             task:kworker/0:1 state:D stack:0 pid:10\n",
            "INFO: task kworker/0:1:10 blocked for more than 120 seconds.",
        ),
        (
            Lockup,
            "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [agent:1]\n",
            "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [agent:1]",
        ),
        (
            Kasan,
            "======\nBUG: KASAN: slab-use-after-free in f+0x10/0x20\nRead of size 8 at addr ffff\n\n",
            "BUG: KASAN: slab-use-after-free in f+0x10/0x20",
        ),
        (
            Ubsan,
            "------------[ cut here ]------------\nUBSAN: shift-out-of-bounds in a.c:10:5\nshift\n",
            "UBSAN: shift-out-of-bounds in a.c:10:5",
        ),
        (
            Bug,
            "BUG: Bad page state in process agent  pfn:40123\npage: refcount:-1\n",
            "BUG: Bad page state in process agent  pfn:40123",
        ),
        (
            Bug,
            "======\nBUG kmalloc-64 (Not tainted): Right Redzone overwritten\n",
            "BUG kmalloc-64 (Not tainted): Right Redzone overwritten",
        ),
        (
            Oops,
            "SError Interrupt on CPU0, code 0x00000000bf000000 -- SError\n",
            "SError Interrupt on CPU0, code 0x00000000bf000000 -- SError",
        ),
        (
            DmaApi,
            &format!(
                "------------[ cut here ]------------\nDMA-API: dwc3 a.usb: device driver frees DMA \
                 memory with wrong function\n{CUT_WARN}\n"
            ),
            &format!(
                "{CUT_WARN}: DMA-API: dwc3 a.usb: device driver frees DMA memory with wrong function"
            ),
        ),
        (
            Locking,
            &format!(
                "------------[ cut here ]------------\nDEBUG_LOCKS_WARN_ON(lock->magic != lock)\n\
                 {CUT_WARN}\n"
            ),
            &format!("{CUT_WARN}: DEBUG_LOCKS_WARN_ON(lock->magic != lock)"),
        ),
    ] {
        let found = one(&format!("{report}{TRACE}"));
        assert_eq!((found.class, &*found.headline), (class, headline));
        assert_eq!(found.chain, ["frob+0x40", "do_frob+0x10"], "{headline}");
    }
}

#[test]
fn what_comes_after_a_report_is_not_part_of_it() {
    let log = read(&format!(
        "WARNING: inconsistent lock state\n{TRACE}dwc3 a.usb: request was not queued to ep0out\n"
    ));
    let text = log.reports[0].report.text.join("\n");
    assert!(!text.contains("ep0out"), "{text}");
    // An error of a driver is no report on the kernel.
    assert_eq!(
        read("dwc3 a.usb: request was not queued to ep0out").reports,
        []
    );
}

#[test]
fn panics_about_the_run_itself_are_no_reports() {
    for panic in [
        "VFS: Unable to mount root fs on unknown-block(0,0)",
        "No working init found.  Try passing init= option to kernel.",
        "Attempted to kill init! exitcode=0x00000100",
        "System is deadlocked on memory",
    ] {
        let line = format!("Kernel panic - not syncing: {panic}");
        let log = read(&format!("{line}\n{TRACE}"));
        assert_eq!(log.crash.as_deref(), Some(&*line));
        assert_eq!((log.reports.len(), log.warnings.len()), (0, 0), "{panic}");
    }
    // Even if the kernel had something else to say before.
    let log = read(&format!(
        "WARNING: inconsistent lock state\n{TRACE}\
         Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\n"
    ));
    assert!(log.crash.is_some() && log.reports.len() == 1 && !log.reports[0].report.fatal);

    let report = one(&format!(
        "Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: f\n{TRACE}"
    ));
    assert!(report.fatal && report.class == ReportClass::Panic && report.function() == "frob");
}

#[test]
fn a_stack_dump_that_nobody_announced_is_a_warning() {
    let log = read(&format!("all is well\n{TRACE}WARNING: agent/1 x\n{TRACE}"));
    let dump = "stack dump: CPU: 0 UID: 0 PID: 1 Comm: agent Not tainted 6.12.0 #1";
    assert_eq!(log.warnings, [dump]);
    assert_eq!(log.reports.len(), 1);
}

#[test]
fn a_guest_that_reports_for_ever_is_bounded() {
    let mut log = KernelLog::default();
    for n in 0..2 * MAX_REPORTS {
        log.line(&format!("BUG: number {n}"));
        for _ in 0..2 * MAX_TEXT {
            log.line("more");
        }
        log.line("Call trace:");
        for _ in 0..2 * MAX_CHAIN {
            log.line(" f+0x1/0x2");
        }
    }
    log.finish();
    assert_eq!(log.reports.len(), MAX_REPORTS);
    assert_eq!(log.reports_dropped, MAX_REPORTS as u64);
    assert_eq!(log.reports[0].report.text.len(), MAX_TEXT);
    assert_eq!(log.reports[0].report.chain.len(), MAX_CHAIN);
}

proptest! {
    #[test]
    fn no_text_is_too_strange(
        lines in prop::collection::vec(
            prop_oneof![
                Just("Call trace:".to_owned()),
                Just("------------[ cut here ]------------".to_owned()),
                Just("---[ end trace 0 ]---".to_owned()),
                Just("Kernel panic - not syncing: Oops: Fatal exception".to_owned()),
                Just("Kernel panic - not syncing: ".to_owned()),
                Just("Internal error: ".to_owned()),
                Just("BUG: KASAN: ".to_owned()),
                Just("WARNING:".to_owned()),
                Just(" f+0x1/0x2".to_owned()),
                ".{0,20}",
            ],
            0..40,
        ),
    ) {
        let log = read(&lines.join("\n"));
        // Each begins with a line of its own.
        let told: u64 = log.reports.iter().map(|r| r.report.count).sum();
        prop_assert!(told as usize <= lines.len());
        let text: usize = log.reports.iter().map(|r| r.report.text.len() + r.report.chain.len()).sum();
        prop_assert!(text <= lines.len());
    }
}
