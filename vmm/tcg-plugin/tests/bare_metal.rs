// SPDX-License-Identifier: GPL-2.0-or-later
//! The whole engine with guests of a few instructions. Needs QEMU, nothing else.
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod common;

use std::num::NonZeroU64;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::asm::Program;
use common::{RAM, WINDOW, job, run, try_run};
use serde_json::{Value, json};
use staleline::boot::RAM_BASE;
use staleline::engine::chains::Chain;
use staleline::engine::{EngineError, Job, Outcome};
use staleline_devices::cpu::SiteId;
use staleline_results::GuestEnd;
use tempfile::{NamedTempFile, TempDir};

const WINDOW_BASE: u64 = RAM_BASE + RAM;
/// The probe machine's window: levels of the interrupt lines, and a counter of its loads.
const LINES: u64 = WINDOW_BASE;
const COUNTER: u64 = WINDOW_BASE + 8;
/// GICD_ISPENDR1, the pending bits of SPI 0 to 31.
const PENDING: u64 = 0x0800_0204;

const DC_IVAC: u32 = 0xd508_7620;
const DC_CVAC: u32 = 0xd50b_7a20;
const DC_CVAU: u32 = 0xd50b_7b20;
const DC_CIVAC: u32 = 0xd50b_7e20;
const DC_CISW: u32 = 0xd508_7e40;
const DC_ZVA: u32 = 0xd50b_7420;
const DSB_SY: u32 = 0xd503_3f9f;
const ISB: u32 = 0xd503_3fdf;
const MSR_SCTLR: u32 = 0xd518_1000;
const MSR_TTBR0: u32 = 0xd518_2000;
const MSR_TTBR1: u32 = 0xd518_2020;
const MSR_TCR: u32 = 0xd518_2040;
const MSR_MAIR: u32 = 0xd518_a200;

const VICTIM: &str = "STALELINE_TEST_VICTIM";

struct Case {
    job: Job,
    _image: NamedTempFile,
    _dir: TempDir,
}

fn case(program: &Program, data: &[(usize, u64)]) -> Case {
    let image = program.image(data);
    let dir = tempfile::tempdir().unwrap();
    let mut job = job(image.path(), None, dir.path());
    job.timeout = Some(Duration::from_secs(60));
    job.selfcheck = true;
    Case {
        job,
        _image: image,
        _dir: dir,
    }
}

fn console(outcome: &Outcome) -> String {
    std::fs::read_to_string(&outcome.console).unwrap()
}

/// The probe machine's.
fn report(outcome: &Outcome) -> Value {
    outcome.report.read().unwrap()
}

/// Counts that the entry stub and the power-off do not change, but for the stub's two loads.
fn counts(outcome: &Outcome) -> Value {
    assert_eq!(common::stats(outcome).mismatches, 0);
    assert_eq!(common::stats(outcome).untranslated, 0);
    let report = report(outcome);
    json!([report["loads"], report["stores"]])
}

#[test]
fn every_access_is_seen_once() {
    let program = Program::default().mov(1, RAM_BASE + 0x100_0000).str(0, 1);
    let store_pc = program.here() - 4;
    let program = program
        .ldr(2, 1)
        .str_w(0, 1)
        .sys(DC_CVAC, 1)
        .sys(DC_IVAC, 1)
        .sys(DC_CIVAC, 1)
        .sys(DC_CVAU, 1)
        .sys(DC_CISW, 31)
        .sys(DSB_SY, 0)
        .power_off();
    let case = case(&program, &[]);
    let outcome = run(&case.job);
    assert_eq!(outcome.end, GuestEnd::PoweredOff);
    assert_eq!(
        counts(&outcome),
        json!([
            {"cacheable": 0, "non_cacheable": 3},
            {"cacheable": 0, "non_cacheable": 2},
        ])
    );
    assert_eq!(
        report(&outcome)["maintenance"],
        json!({"clean": 1, "invalidate": 1, "clean_invalidate": 1})
    );
    assert_eq!(report(&outcome)["barriers"], 1);
    assert_eq!(
        (
            common::stats(&outcome).maintenance,
            common::stats(&outcome).set_way
        ),
        (3, 1)
    );
    // The stub's two loads come first.
    assert_eq!(outcome.sites.pc(SiteId(3)), Some(store_pc));
}

#[test]
fn windows_have_registers_and_lines_reach_the_interrupt_controller() {
    let program = Program::default()
        // The counter shows 0, then 1, then 2: print bit 0 each time.
        .mov(1, COUNTER)
        .ldr(2, 1)
        .print_bit(2, 0)
        .ldr(2, 1)
        .print_bit(2, 0)
        .ldr(2, 1)
        .print_bit(2, 0)
        // Line 5 up and down.
        .mov(1, LINES)
        .mov(2, 1 << 5)
        .mov(3, PENDING)
        .ldr_w(4, 3)
        .print_bit(4, 5)
        .str(2, 1)
        .ldr_w(4, 3)
        .print_bit(4, 5)
        .str(31, 1)
        .ldr_w(4, 3)
        .print_bit(4, 5)
        .power_off();
    let case = case(&program, &[]);
    let outcome = run(&case.job);
    assert_eq!(console(&outcome), "010010");
    assert_eq!(common::stats(&outcome).irq_changes, 2);
    // The UART and the interrupt controller are QEMU's affair.
    assert_eq!(
        counts(&outcome),
        json!([
            {"cacheable": 0, "non_cacheable": 5},
            {"cacheable": 0, "non_cacheable": 2},
        ])
    );
}

#[test]
fn an_interrupt_raised_while_the_cpu_idles_wakes_it() {
    const DISTRIBUTOR: u64 = 0x0800_0000;
    const REDISTRIBUTOR: u64 = 0x080a_0000;
    const SPI_5: u64 = 1 << 5;
    // GICD_CTLR (affinity routing, group 1), GICD_IGROUPR1, GICD_ISENABLER1, GICR_WAKER.
    let registers = [
        (DISTRIBUTOR, 0x12),
        (DISTRIBUTOR + 0x84, SPI_5),
        (DISTRIBUTOR + 0x104, SPI_5),
        (REDISTRIBUTOR + 0x14, 0),
    ];
    let mut program = Program::default();
    for (address, value) in registers {
        program = program.mov(1, address).mov(2, value).str_w(2, 1);
    }
    // ICC_PMR_EL1, ICC_IGRPEN1_EL1.
    for (msr, value) in [(0xd518_4600, 0xff), (0xd518_cce0, 1)] {
        program = program.mov(1, value).sys(msr, 1);
    }
    // WFI, then ICC_IAR1_EL1: SPI 5 is interrupt 37.
    program = program.sys(ISB, 0).sys(0xd503_207f, 0).sys(0xd538_cc00, 1);
    for bit in (0..8).rev() {
        program = program.print_bit(1, bit);
    }
    let mut case = case(&program.power_off(), &[]);
    case.job.machine = json!({"idle_raises": SPI_5});
    let outcome = run(&case.job);
    assert_eq!(console(&outcome), format!("{:08b}", 37));
    assert_eq!(report(&outcome)["idles"], 1);
    assert_eq!(common::stats(&outcome).irq_changes, 1);
}

#[test]
fn call_chains_are_those_of_the_cpu_and_looking_changes_nothing() {
    const IMAGE: u64 = RAM_BASE + 0x20_0000;
    const BL: u64 = 0x9400_0001;
    const RECORD: u64 = IMAGE + 0x1_0000;
    let data = [
        // A frame record without a next one, that returns behind a call; another call.
        (0x1_0000, 0),
        (0x1_0008, IMAGE + 0x1_0104),
        (0x1_0100, BL),
        (0x1_0200, BL),
    ];
    let program = Program::default()
        .mov(29, RECORD)
        .mov(30, IMAGE + 0x1_0204)
        .mov(1, RAM_BASE + 0x100_0000)
        .mov(2, 42)
        // CONTEXTIDR_EL1.
        .sys(0xd518_d020, 2)
        .str(0, 1);
    let load_pc = program.here();
    let program = program
        .ldr(0, 1)
        .mov(30, 0)
        .sys(DC_CVAC, 1)
        .sys(DSB_SY, 0)
        .power_off();
    let mut case = case(&program, &data);
    let plain = run(&case.job);
    // The stub's two loads and the store come before.
    case.job.trace = vec![4];
    let traced = run(&case.job);
    assert_eq!(report(&traced)["hash"], report(&plain)["hash"]);
    assert_eq!(plain.seen.accesses, []);

    let chain = |link| Chain {
        pid: Some(42),
        link,
        callers: vec![IMAGE + 0x1_0100],
        user: None,
    };
    assert_eq!(
        traced.seen.access(4, load_pc),
        Some(&chain(Some(IMAGE + 0x1_0200)))
    );
    for outcome in [plain, traced] {
        assert_eq!(outcome.seen.chains, [chain(None)]);
    }
}

/// Tables for 39-bit halves, in 1 GiB blocks: devices and RAM where they are, and RAM once more
/// at the start of the upper half, non-cacheable.
fn tables() -> (Program, Vec<(usize, u64)>) {
    const BLOCK: u64 = 1 << 10 | 1;
    // MAIR: 0 write-back, 1 non-cacheable, 2 Device-nGnRE.
    let data = vec![
        (0x1_0000, BLOCK | 2 << 2),
        (0x1_0008, RAM_BASE | BLOCK),
        (0x1_1000, RAM_BASE | BLOCK | 1 << 2),
    ];
    let program = Program::default()
        .mov(1, 0x04_44_ff)
        .sys(MSR_MAIR, 1)
        .mov(1, 25 | 25 << 16 | 2 << 30 | 2 << 32)
        .sys(MSR_TCR, 1)
        .mov(1, RAM_BASE + 0x20_0000 + 0x1_0000)
        .sys(MSR_TTBR0, 1)
        .mov(1, RAM_BASE + 0x20_0000 + 0x1_1000)
        .sys(MSR_TTBR1, 1)
        .sys(ISB, 0)
        .mov(1, 0x30d0_1805)
        .sys(MSR_SCTLR, 1)
        .sys(ISB, 0);
    (program, data)
}

const UPPER: u64 = 0xffff_ff80_0000_0000;

#[test]
fn memory_types_come_from_the_guests_tables() {
    let (program, data) = tables();
    let program = program
        .mov(1, RAM_BASE + 0x100_0000)
        .str(31, 1)
        .ldr(2, 1)
        // Across a page.
        .add(1, 1, 0xffc)
        .ldr(2, 1)
        .mov(1, UPPER + 0x100_0000)
        .ldr(2, 1)
        .sys(DC_CIVAC, 1)
        .power_off();
    let case = case(&program, &data);
    let outcome = run(&case.job);
    assert_eq!(
        counts(&outcome),
        json!([
            {"cacheable": 3, "non_cacheable": 3},
            {"cacheable": 1, "non_cacheable": 0},
        ])
    );
    assert_eq!(report(&outcome)["maintenance"]["clean_invalidate"], 1);
}

/// A run of instructions on the memory that x1 points at, `first` and `then` apart: what they load
/// and store, in bytes.
fn bytes_of(first: (u64, &[u32]), then: (u64, &[u32])) -> [u64; 2] {
    let (mut program, data) = tables();
    // CPACR_EL1: floating point and SIMD.
    program = program.mov(1, 3 << 20).sys(0xd518_1040, 1).sys(ISB, 0);
    for (address, opcodes) in [first, then] {
        program = program.mov(1, address);
        for opcode in opcodes {
            program = program.sys(*opcode, 0);
        }
    }
    let case = case(&program.power_off(), &data);
    let outcome = run(&case.job);
    assert_eq!(outcome.end, GuestEnd::PoweredOff);
    assert_eq!(
        common::stats(&outcome).mismatches + common::stats(&outcome).untranslated,
        0
    );
    assert_eq!(report(&outcome)["malformed"], 0);
    let bytes = &report(&outcome)["bytes"];
    ["loaded", "stored"].map(|of| bytes[of].as_u64().unwrap())
}

#[test]
fn wide_exclusive_and_crossing_accesses_are_seen_whole() {
    // Bytes loaded and stored; from 4 bytes below the end of a page, and of a line, on.
    const CROSSING: [(u32, u64, u64); 13] = [
        (0xf900_0022, 0, 8),  // str x2, [x1]
        (0xf940_0022, 8, 0),  // ldr x2, [x1]
        (0xa900_0c22, 0, 16), // stp x2, x3, [x1]
        (0xa940_0c22, 16, 0), // ldp x2, x3, [x1]
        (0x3d80_0020, 0, 16), // str q0, [x1]
        (0x3dc0_0020, 16, 0), // ldr q0, [x1]
        (0xad00_0420, 0, 32), // stp q0, q1, [x1]
        (0xad40_0420, 32, 0), // ldp q0, q1, [x1]
        (0x4c00_2020, 0, 64), // st1 {v0.16b-v3.16b}, [x1]
        (0x4c40_2020, 64, 0), // ld1 {v0.16b-v3.16b}, [x1]
        (0x4c00_0020, 0, 64), // st4 {v0.16b-v3.16b}, [x1]
        (0x0d60_e020, 4, 0),  // ld4r {v0.8b-v3.8b}, [x1]
        (0xf980_0020, 0, 0),  // prfm pldl1keep, [x1]
    ];
    // On aligned addresses. QEMU's exclusive stores look first whether the old value still stands
    // there.
    const EXCLUSIVE: [(u32, u64, u64); 6] = [
        (0xc89f_fc22, 0, 8),   // stlr x2, [x1]
        (0xc8df_fc22, 8, 0),   // ldar x2, [x1]
        (0xc85f_7c22, 8, 0),   // ldxr x2, [x1]
        (0xc804_7c22, 8, 8),   // stxr w4, x2, [x1]
        (0xc87f_0c22, 16, 0),  // ldxp x2, x3, [x1]
        (0xc824_0c22, 16, 16), // stxp w4, x2, x3, [x1]
    ];
    let opcodes = |of: &[(u32, u64, u64)]| of.iter().map(|(op, ..)| *op).collect::<Vec<_>>();
    let memory = RAM_BASE + 0x100_0000;
    let [loaded, stored] = bytes_of((memory, &[]), (memory, &[]));
    for address in [memory + 0xffc, memory + 0x7c] {
        let seen = bytes_of(
            (address, &opcodes(&CROSSING)),
            (memory + 0x2000, &opcodes(&EXCLUSIVE)),
        );
        let sum = |which: fn(&(u32, u64, u64)) -> u64| -> u64 {
            CROSSING.iter().chain(&EXCLUSIVE).map(which).sum()
        };
        assert_eq!(seen, [loaded + sum(|i| i.1), stored + sum(|i| i.2)]);
    }
}

#[test]
fn stored_table_entries_are_told() {
    // Inner shareable pages in RAM: write-back, non-cacheable, Device; the latter behind RAM.
    let entry = |page: u64, index: u64| (RAM_BASE + page * 4096) | 0x700 | index << 2 | 3;
    let entries = [entry(1, 0), entry(2, 1), entry(3, 2), entry(RAM >> 12, 2)];
    let store = |mut program: Program| {
        for entry in entries {
            program = program
                .mov(1, RAM_BASE + 0x100_0000)
                .mov(2, entry)
                .str(2, 1);
        }
        // Both at once, and one by an exclusive store.
        program
            .mov(2, entries[1])
            .mov(3, entries[2])
            .sys(0xa900_0c22, 0)
            .sys(0xc85f_7c20, 0)
            .sys(0xc804_7c22, 0)
    };
    let told = |program: Program, data: &[(usize, u64)]| {
        let case = case(&program.power_off(), data);
        report(&run(&case.job))["mapped"].clone()
    };
    let (program, data) = tables();
    assert_eq!(told(store(program), &data), 5);
    // With the MMU off, nobody knows what the entries mean.
    assert_eq!(told(store(Program::default()), &[]), 0);
}

#[test]
fn dc_zva_is_a_store_of_a_block() {
    let (program, data) = tables();
    let program = program
        .mov(1, RAM_BASE + 0x100_0040)
        .mov(2, u64::MAX)
        .str(2, 1)
        .add(3, 1, 0x7)
        .sys(DC_ZVA, 3)
        .ldr(4, 1)
        .print_bit(4, 0)
        .power_off();
    let case = case(&program, &data);
    let outcome = run(&case.job);
    assert_eq!(console(&outcome), "0");
    assert_eq!(report(&outcome)["stores"]["cacheable"], 2);
    assert_eq!(common::stats(&outcome).zva, 1);
}

#[test]
fn runs_are_identical_with_and_without_the_self_check() {
    let (program, data) = tables();
    let program = program.mov(1, COUNTER).ldr(2, 1).str(2, 1).power_off();
    let mut case = case(&program, &data);
    let first = run(&case.job);
    case.job.selfcheck = false;
    let second = run(&case.job);
    assert_eq!(report(&first), report(&second));
    assert_eq!(first.sites, second.sites);
    assert!(common::stats(&first).checked > 0 && common::stats(&second).checked == 0);
}

/// With a machine made anew from the saved state at each access to a register.
#[test]
fn runs_are_identical_with_and_without_saved_states() {
    let (program, data) = tables();
    let program = program
        .mov(1, COUNTER)
        .ldr(2, 1)
        .ldr(2, 1)
        .str(2, 1)
        .ldr(2, 1);
    let mut case = case(&program.power_off(), &data);
    let first = run(&case.job);
    case.job.save_restore = NonZeroU64::new(1);
    let second = run(&case.job);
    assert_eq!((first.restored, second.restored), (None, Some(4)));
    assert_eq!(report(&first), report(&second));
    assert_eq!(first.sites, second.sites);
    assert_eq!(first.stats, second.stats);
}

#[test]
fn a_reset_is_not_a_power_off() {
    let case = case(&Program::default().psci(0x8400_0009), &[]);
    assert!(matches!(run(&case.job).end, GuestEnd::Died { .. }));
}

#[test]
fn a_guest_that_hangs_is_stopped() {
    let program = Program::default().mov(1, 0).print_bit(1, 0).hang();
    let mut case = case(&program, &[]);
    case.job.timeout = Some(Duration::from_secs(2));
    let started = Instant::now();
    // The machine is asked to stop, and leaves its report.
    let outcome = run(&case.job);
    assert_eq!(outcome.end, GuestEnd::TimedOut);
    assert_eq!(std::fs::read_to_string(outcome.console).unwrap(), "0");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_panic_of_the_machine_is_reported_with_its_message() {
    let program = Program::default().mov(1, COUNTER).str(31, 1).hang();
    let mut case = case(&program, &[]);
    case.job.machine = json!({"panic_at": COUNTER});
    match try_run(&case.job) {
        Err(EngineError::MachineFailed { message }) => {
            assert!(message.contains("probe told to panic"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_configuration_the_machine_refuses_is_reported() {
    let mut case = case(&Program::default().power_off(), &[]);
    case.job.machine = json!({"panic_at": "nowhere"});
    match try_run(&case.job) {
        Err(EngineError::MachineFailed { message }) => {
            assert!(message.contains("panic_at"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_job_without_windows_runs() {
    let mut case = case(&Program::default().power_off(), &[]);
    assert_ne!(WINDOW, 0);
    case.job.window_bytes = 0;
    assert_eq!(run(&case.job).end, GuestEnd::PoweredOff);
}

/// Not a test: the victim of the next one, which sets the variable.
#[test]
#[ignore = "a part of qemu_dies_with_its_parent"]
fn victim() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let mut case = case(&Program::default().hang(), &[]);
    case.job.timeout = Some(Duration::from_secs(300));
    let _ = try_run(&case.job);
}

#[test]
fn qemu_dies_with_its_parent() {
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "victim"])
        .env(VICTIM, "1")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    let qemu = loop {
        assert!(Instant::now() < patience, "QEMU has not started");
        if let Some(pid) = child_with(parent.id(), "-plugin") {
            break pid;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    // SIGKILL: no destructor runs.
    parent.kill().unwrap();
    parent.wait().unwrap();
    while has_argument(qemu, "-plugin") {
        assert!(Instant::now() < patience, "QEMU {qemu} outlives its parent");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A child of any thread of `parent` that has been started with `argument`.
fn child_with(parent: u32, argument: &str) -> Option<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).ok()?;
    let children = tasks.flatten().filter_map(|task| {
        let children = std::fs::read_to_string(task.path().join("children")).ok()?;
        let pids = children.split_whitespace();
        Some(
            pids.filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>(),
        )
    });
    children.flatten().find(|pid| has_argument(*pid, argument))
}

/// False for a process that is gone, or that waits to be reaped.
fn has_argument(pid: u32, argument: &str) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0)
        .any(|arg| arg == argument.as_bytes())
}
