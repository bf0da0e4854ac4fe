// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The KVM engine's VMM beside kvmtool, on the same kernel's KVM: boots, and what an access costs that comes out
//! of the guest.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use comfy_table::{Table, presets};
use cpio::NewcBuilder;
use staleline_kernels::{KernelBuilder, KernelRequest};
use staleline_machine::board::config::MachineConfig;
use staleline_machine::board::port::COHERENCY_PORT;
use staleline_machine::board::settings::BoardSettings;
use staleline_machine::board::{Board, fdt};
use staleline_machine::boot::{Images, RAM_BASE};
use staleline_machine::engine::GuestKind;
use staleline_machine::engine::beside::{
    Around, MEASURED, Measured, PLAN, Plan, Timed, Told, What,
};
use staleline_machine::engine::wire::{Blob, Run};
use staleline_support::cache::CacheDir;
use staleline_support::progress::Stderr;
use staleline_support::{child, digest};
use tempfile::TempDir;

use crate::measure::{self, median};
use crate::tool::{Tool, step};

/// Most that our boot may take, in kvmtool's.
const MOST_BOOTS: f64 = 1.0;
/// Accesses of a guest that does nothing else.
const ACCESSES: u32 = 20_000;
/// Where kvmtool has the line status register of its first UART (arm/include/arm-common/kvm-arch.h:
/// ARM_UART_MMIO_BASE, and offset 5).
const KVMTOOL_UART: u64 = 0x0100_0005;
/// A register of the first device's.
const OUR_DEVICE: u64 = RAM_BASE + (128 << 20);
/// `dc cvac` of one line at the start of RAM, as the coherency port is told of it.
const CLEAN: u64 = 1 << 60 | RAM_BASE >> 6;
/// As the runs of the command boot it.
const BOOTARGS: &str = "console=ttyAMA0 loglevel=5 panic=-1";
/// What both have: no devices, and as kvmtool's UART is another, for which the kernel has no driver, no console.
const BARE_BOOTARGS: &str = "console=none panic=-1";

/// What a part of the time of our boot is called, and where it is counted.
type Part<T = Told> = (&'static str, fn(&T) -> u64);

/// Measures, and prints a table; whether our boot takes no longer than kvmtool's.
///
/// # Errors
/// If something cannot be measured.
pub fn run(kvmtool: &Path, rounds: u32) -> Result<bool> {
    let tool = Tool::build()?;
    step("Building the VMM, its host's kernel, and a guest's");
    measure::quietly(&mut tool.run(&["boot", "--engine", "kvm"]))?;
    let (kernel, initrd) = tool.images()?;
    let cache = CacheDir::from_environment()?;

    let mut bench = Bench::new()?;
    let (kernel, initrd) = (bench.add(fs::read(kernel)?)?, bench.add(fs::read(initrd)?)?);
    let empty = bench.add(vec![0; 4096])?;
    bench.put("lkvm", &fs::read(kvmtool).context("kvmtool")?, true)?;
    let whole = Board::new(&BoardSettings::default());
    let bare = Board::bare(&BoardSettings::default());
    let board = bench.ours("board", (&whole, BOOTARGS), &kernel, Some(&initrd))?;
    bench.groups.push(vec![board]);
    // The agent wants a console, which not both have.
    let power_off = bench.add(power_off()?)?;
    let ours = bench.ours("boot", (&bare, BARE_BOOTARGS), &kernel, Some(&power_off))?;
    let theirs = bench.kvmtool("boot", &kernel, &power_off);
    let fresh = fresh(&ours);
    bench.groups.push(vec![ours, theirs, fresh]);
    let cases = [
        (
            "none",
            Loop::read(OUR_DEVICE, 0),
            Some(Loop::read(KVMTOOL_UART, 0)),
        ),
        (
            "read",
            Loop::read(OUR_DEVICE, ACCESSES),
            Some(Loop::read(KVMTOOL_UART, ACCESSES)),
        ),
        ("report", Loop::write(COHERENCY_PORT, CLEAN, ACCESSES), None),
    ];
    for (name, ours, theirs) in cases {
        let image = bench.add(ours.image())?;
        let mut group = vec![bench.ours(name, (&bare, BARE_BOOTARGS), &image, None)?];
        if let Some(theirs) = theirs {
            let image = bench.add(theirs.image())?;
            group.push(bench.kvmtool(name, &image, &empty));
        }
        bench.groups.push(group);
    }
    step(&format!("{rounds} rounds of each"));
    let all = bench.measure(rounds, &cache)?;
    let figure = |name: &str, of: &dyn Fn(&Measured) -> f64| -> Result<f64> {
        let all = all
            .get(name)
            .with_context(|| format!("nothing of {name}"))?;
        let all: Vec<f64> = all.iter().map(of).collect();
        median(&all).with_context(|| format!("no figures of {name}"))
    };
    let time = |name: &str| figure(name, &|measured| measured.wall_us as f64 / 1e3);
    let part = |name: &str, of: fn(&Told) -> u64| {
        figure(name, &|measured| {
            measured
                .told
                .as_ref()
                .map_or(f64::NAN, |told| of(told) as f64)
                / 1e3
        })
    };
    // The machine's own pace drifts: each is held against the other of its round.
    let pairs = |ours: &str, theirs: &str| -> Result<f64> {
        let get = |name: &str| all.get(name).with_context(|| format!("nothing of {name}"));
        let each = get(ours)?.iter().zip(get(theirs)?);
        let each = each.map(|(a, b)| a.wall_us as f64 / b.wall_us as f64);
        median(&each.collect::<Vec<_>>()).with_context(|| format!("no figures of {ours}"))
    };
    let access = |with: &str, without: &str| -> Result<f64> {
        Ok((time(with)? - time(without)?) * 1e6 / f64::from(ACCESSES))
    };
    let our_read = access("our read", "our none")?;
    let their_read = access("kvmtool read", "kvmtool none")?;
    let report = access("our report", "our none")?;
    let ratio = pairs("our boot", "kvmtool boot")?;
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["measured", "staleline-kvm", "kvmtool", "ratio", "limit"]);
    let limit = format!("at most {MOST_BOOTS}");
    let row = |what: &str, a: String, b: String, ratio: String, limit: &str| {
        [what.to_owned(), a, b, ratio, limit.to_owned()]
    };
    let ms = |ms: f64| format!("{ms:.1}");
    let both = |what: &str, (a, b): (&str, &str), limit: &str| -> Result<_> {
        let ratio = format!("{:.2}", pairs(a, b)?);
        Ok(row(what, ms(time(a)?), ms(time(b)?), ratio, limit))
    };
    let alone = |what: &str, a: f64| row(what, ms(a), "-".into(), "-".into(), "");
    table.add_row(both(
        "boot to power-off, no devices, no console, ms",
        ("our boot", "kvmtool boot"),
        &limit,
    )?);
    let parts: [Part; 5] = [
        ("before the first instruction", |told| told.stats.setup_us),
        ("beside that, for its memory", |told| told.stats.memory_us),
        ("of these for the chip", |told| told.stats.chip_us),
        ("from there to its end", |told| told.wall_us),
        ("of its CPU", |told| told.stats.cpu_us),
    ];
    for (name, of) in parts {
        table.add_row(alone(&format!("- {name}, ms"), part("our boot", of)?));
    }
    // As kvmtool is; the runs of a command have but one.
    table.add_row(both(
        "the same, of a VMM that is started for it, ms",
        ("our boot fresh", "kvmtool boot"),
        "",
    )?);
    for (name, of) in parts {
        table.add_row(alone(&format!("- {name}, ms"), part("our boot fresh", of)?));
    }
    let around: [Part<Around>; 3] = [
        ("until its program begins", |around| around.start_us),
        ("for its sandbox", |around| around.sandbox_us),
        ("from its answer until it is gone", |around| around.gone_us),
    ];
    for (name, of) in around {
        let ms = figure("our boot fresh", &|measured| {
            measured
                .around
                .as_ref()
                .map_or(f64::NAN, |around| of(around) as f64)
                / 1e3
        });
        table.add_row(alone(&format!("- {name}, ms"), ms?));
    }
    table.add_row(both(
        "a guest that only powers off, ms",
        ("our none", "kvmtool none"),
        "",
    )?);
    table.add_row(alone(
        "boot to power-off, the board and its console, ms",
        time("our board")?,
    ));
    table.add_row(row(
        "an access to a register, ns",
        format!("{our_read:.0}"),
        format!("{their_read:.0}"),
        format!("{:.2}", our_read / their_read),
        "",
    ));
    table.add_row(row(
        "a report of maintenance of one line, ns",
        format!("{report:.0}"),
        "-".into(),
        "-".into(),
        "",
    ));
    println!(
        "\nMeasured by `cargo xtask kvm {} {rounds}` on {}.\n\n{table}",
        kvmtool.display(),
        measure::host()?
    );
    Ok(ratio <= MOST_BOOTS)
}

/// A guest that does one access again and again, and switches itself off.
struct Loop {
    address: u64,
    stores: Option<u64>,
    times: u32,
}

impl Loop {
    fn read(address: u64, times: u32) -> Self {
        Loop {
            address,
            stores: None,
            times,
        }
    }

    fn write(address: u64, value: u64, times: u32) -> Self {
        Loop {
            address,
            stores: Some(value),
            times,
        }
    }

    /// As an arm64 `Image` (Documentation/arch/arm64/booting.rst).
    fn image(&self) -> Vec<u8> {
        let mut code = vec![0x1400_0010]; // b . + 64
        code.resize(16, 0);
        code.extend(constant(0, self.address));
        code.extend(constant(1, u64::from(self.times) + 1));
        code.extend(constant(2, self.stores.unwrap_or(0)));
        let access = match self.stores {
            None => 0x3940_0003,    // ldrb w3, [x0]
            Some(_) => 0xf900_0002, // str x2, [x0]
        };
        code.extend([
            0xf100_0421, // subs x1, x1, #1
            0x5400_0060, // b.eq . + 12
            access,
            0x17ff_fffd, // b . - 12
        ]);
        // PSCI 0.2: SYSTEM_OFF
        code.extend(constant(0, 0x8400_0008));
        code.extend([0xd400_0002, 0x1400_0000]); // hvc #0; b .
        let mut bytes: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.resize(4096, 0);
        let size = bytes.len() as u64;
        for (at, field) in [(16, size.to_le_bytes()), (24, 0xa_u64.to_le_bytes())] {
            bytes[at..at + 8].copy_from_slice(&field);
        }
        bytes[56..60].copy_from_slice(b"ARM\x64");
        bytes
    }
}

/// An initial file system with an /init that does nothing but switch the machine off.
fn power_off() -> Result<Vec<u8>> {
    const AT: u64 = 0x40_0000;
    // The headers of an ELF file of one segment, which come before the code.
    const HEADERS: u64 = 64 + 56;
    // reboot(2) by its number, and as linux/reboot.h has what it takes.
    let call = [
        (0, 0xfee1_dead),
        (1, 0x2812_1969),
        (2, 0x4321_fedc),
        (8, 142),
    ];
    let code = call
        .into_iter()
        .flat_map(|(register, value)| constant(register, value));
    let code: Vec<u8> = code
        .chain([0xd400_0001, 0x1400_0000]) // svc #0; b .
        .flat_map(u32::to_le_bytes)
        .collect();
    let len = HEADERS + code.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(16, 0);
    // ET_EXEC, EM_AARCH64, EV_CURRENT
    elf.extend([2, 0, 183, 0, 1, 0, 0, 0]);
    for word in [AT + HEADERS, 64, 0] {
        elf.extend(u64::to_le_bytes(word));
    }
    // No flags; sizes of the headers, and how many there are.
    elf.extend([0; 4]);
    elf.extend([64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    // PT_LOAD, readable and executable
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0, AT, AT, len, len, 0x1000] {
        elf.extend(u64::to_le_bytes(word));
    }
    elf.extend(code);
    let mut archive = Vec::new();
    let entry = NewcBuilder::new("init").mode(0o100_755);
    let mut out = entry.write(&mut archive, u32::try_from(elf.len())?);
    out.write_all(&elf)?;
    out.finish()?;
    cpio::newc::trailer(&mut archive)?;
    Ok(archive)
}

/// `movz` and `movk` that load a constant into a register.
fn constant(register: u32, value: u64) -> [u32; 4] {
    [0, 1, 2, 3].map(|part| {
        let bits = (value >> (16 * part) & 0xffff) as u32;
        let instruction = if part == 0 { 0xd280_0000 } else { 0xf280_0000 };
        instruction | part << 21 | bits << 5 | register
    })
}

/// Where the host finds the files.
const FILES: &str = "/beside";

/// The same guest, of a VMM that is started for it.
fn fresh(of: &Timed) -> Timed {
    let mut timed = of.clone();
    if let What::Guest { fresh, .. } = &mut timed.what {
        *fresh = true;
    }
    timed.name = format!("{} fresh", timed.name);
    timed
}

/// What is measured, as it is put together.
struct Bench {
    archive: Vec<u8>,
    entries: u32,
    /// Files by hash, here.
    files: TempDir,
    groups: Vec<Vec<Timed>>,
}

impl Bench {
    fn new() -> Result<Self> {
        let mut bench = Bench {
            archive: Vec::new(),
            entries: 0,
            files: tempfile::tempdir()?,
            groups: Vec::new(),
        };
        bench.entry(&FILES[1..], 0o040_755, &[])?;
        bench.entry("tmp", 0o041_777, &[])?;
        Ok(bench)
    }

    fn entry(&mut self, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        self.entries += 1;
        // Beside those of the host's own archive.
        let entry = NewcBuilder::new(name).ino(1000 + self.entries).mode(mode);
        let mut out = entry.write(&mut self.archive, u32::try_from(bytes.len())?);
        out.write_all(bytes)?;
        out.finish()?;
        Ok(())
    }

    fn put(&mut self, name: &str, bytes: &[u8], program: bool) -> Result<()> {
        let mode = if program { 0o100_755 } else { 0o100_644 };
        self.entry(&format!("{}/{name}", &FILES[1..]), mode, bytes)
    }

    /// A file by its hash.
    fn add(&mut self, bytes: Vec<u8>) -> Result<String> {
        let hash = digest::bytes(&bytes);
        let path = self.files.path().join(&hash);
        if !path.exists() {
            fs::write(path, &bytes)?;
            self.put(&hash, &bytes, false)?;
        }
        Ok(hash)
    }

    fn ours(
        &mut self,
        name: &str,
        (board, bootargs): (&Board, &str),
        kernel: &str,
        initrd: Option<&str>,
    ) -> Result<Timed> {
        let at = |hash: &str| self.files.path().join(hash);
        let images = Images::open(&at(kernel), initrd.map(at).as_deref())?;
        let layout = images.layout(board.memory_bytes())?;
        let fdt = fdt::write(
            board,
            &fdt::Chosen {
                bootargs,
                plan: "",
                seed: 1,
                // kvmtool has none: without, the kernel tells nobody of its maintenance.
                port: !board.nodes().is_empty(),
                layout: &layout,
            },
        )?;
        let end = layout.initrd.as_ref().unwrap_or(&layout.fdt).end;
        let machine = MachineConfig {
            loaded: vec![(RAM_BASE, end - RAM_BASE)],
            ..MachineConfig::new(BoardSettings::default())
        };
        let run = Run {
            kernel: Blob(kernel.into()),
            kernel_hash: None,
            initrd: initrd.map(|hash| Blob(hash.into())),
            fdt: Blob(self.add(fdt)?),
            ram_bytes: board.memory_bytes(),
            poison: board.poison(end),
            // The machine has its devices, whether the guest knows or not.
            window_bytes: Board::new(&BoardSettings::default()).window_bytes(),
            cpus: 1,
            lines: board.lines(),
            guest: GuestKind::Board,
            machine: serde_json::to_value(&machine)?,
            disk: None,
            devices: None,
            timeout_ms: Some(60_000),
            events: None,
            save: None,
            from: None,
        };
        let request = format!("{name}.json");
        self.put(&request, &serde_json::to_vec(&run)?, false)?;
        Ok(Timed {
            name: format!("our {name}"),
            what: What::Guest {
                fresh: false,
                request: format!("{FILES}/{request}").into(),
                files: FILES.into(),
            },
        })
    }

    fn kvmtool(&self, name: &str, kernel: &str, initrd: &str) -> Timed {
        let board = Board::new(&BoardSettings::default());
        let memory = (board.memory_bytes() >> 20).to_string();
        let kernel = format!("{FILES}/{kernel}");
        let initrd = format!("{FILES}/{initrd}");
        let arguments = [
            "run",
            "--kernel",
            &kernel,
            "--initrd",
            &initrd,
            "--mem",
            &memory,
            "--cpus",
            "1",
            "--console",
            "serial",
            "--irqchip",
            "gicv3",
            "--network",
            "mode=none",
            "--params",
            BARE_BOOTARGS,
        ];
        Timed {
            name: format!("kvmtool {name}"),
            what: What::Program {
                program: format!("{FILES}/lkvm").into(),
                arguments: arguments.map(str::to_owned).to_vec(),
            },
        }
    }

    /// What each has taken.
    fn measure(mut self, rounds: u32, cache: &CacheDir) -> Result<BTreeMap<String, Vec<Measured>>> {
        let plan = Plan {
            rounds,
            groups: std::mem::take(&mut self.groups),
        };
        let plan = serde_json::to_vec(&plan)?;
        self.entry(&PLAN[1..], 0o100_644, &plan)?;
        cpio::newc::trailer(&mut self.archive)?;
        let vmm = staleline_initramfs::find_vmm(cache).context("the VMM is gone")?;
        let host = staleline_initramfs::host_initramfs(&vmm, cache)?;
        let mut archive = fs::read(host)?;
        archive.extend(&self.archive);
        let initrd = self.files.path().join("host.cpio");
        fs::write(&initrd, archive)?;
        let kernels = KernelBuilder::new()?;
        let kernel = kernels.build(&KernelRequest::host(), &Stderr::new())?;
        let said = emulate(&kernel.image, &initrd, rounds)?;
        let mut all: BTreeMap<String, Vec<Measured>> = BTreeMap::new();
        for line in said.lines() {
            let Some(line) = line.trim_end().strip_prefix(MEASURED) else {
                continue;
            };
            let measured: Measured = serde_json::from_str(line)?;
            if let Some(why) = measured.failed {
                bail!("{}: {why}", measured.name);
            }
            all.entry(measured.name.clone()).or_default().push(measured);
        }
        ensure!(!all.is_empty(), "the host has measured nothing: {said}");
        Ok(all)
    }
}

/// Longest that a host may take for one round; its guests have a limit of their own.
const ROUND: Duration = Duration::from_secs(60);

/// Runs an emulated host to its end; what it wrote.
fn emulate(kernel: &Path, initrd: &Path, rounds: u32) -> Result<String> {
    let qemu = std::env::var_os("STALELINE_QEMU").map(PathBuf::from);
    let qemu = qemu.unwrap_or_else(|| "qemu-system-aarch64".into());
    let said = tempfile::NamedTempFile::new()?;
    let mut command = Command::new(qemu);
    command
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-no-reboot", "-monitor", "none", "-serial"])
        .arg(format!("file:{}", said.path().display()))
        .args(["-machine", "virt,gic-version=3,virtualization=on"])
        .args(["-cpu", "max,pauth-impdef=on", "-smp", "2", "-m", "2048M"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        .args(["-append", "console=ttyAMA0 loglevel=3 panic=-1"]);
    let ended = child::output_within(&mut command, ROUND * rounds.max(1));
    let said = || -> Result<String> {
        let bytes = fs::read(said.path())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let ended = match ended {
        Ok(ended) => ended,
        Err(e) => bail!("the emulated host: {e}; it wrote: {}", said()?),
    };
    let complaint = child::complaint(&ended.stderr);
    ensure!(
        ended.status.success(),
        "{command:?}: {}: {complaint}",
        ended.status
    );
    said()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_is_what_an_assembler_makes_of_it() {
        // movz x1, #0x5678; movk x1, #0x1234, lsl 16; movk x1, #0, lsl 32; movk x1, #0x8000, lsl 48
        let expected = [0xd28a_cf01, 0xf2a2_4681, 0xf2c0_0001, 0xf2f0_0001];
        assert_eq!(constant(1, 0x8000_0000_1234_5678), expected);
    }

    #[test]
    fn init_is_a_program_for_arm64() {
        let archive = power_off().unwrap();
        let at = archive.windows(4).position(|bytes| bytes == b"\x7fELF");
        let elf = &archive[at.unwrap()..];
        let field = |at: usize| u64::from_le_bytes(elf[at..at + 8].try_into().unwrap());
        // Where it begins, where its program headers are, and what the first of them loads.
        assert_eq!((field(24), field(32)), (0x40_0078, 64));
        assert_eq!((field(64 + 8), field(64 + 16)), (0, 0x40_0000));
        assert_eq!(field(64 + 32), 120 + 18 * 4);
        assert_eq!(elf[18], 183);
    }

    #[test]
    fn a_loop_is_an_image() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("Image");
        fs::write(&path, Loop::read(OUR_DEVICE, 7).image()).unwrap();
        assert!(Images::open(&path, None).is_ok());
    }
}
