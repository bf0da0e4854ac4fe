// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The KVM engine, on this machine's KVM or in an emulated host, beside the exact one.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use staleline_results::{GuestEnd, HazardKind, RunResult, Verdict};

use crate::exec;
use crate::module;
use crate::support::{Run, finish, run, staleline};

/// Lines on which devices did not see each other's data.
fn stale(result: &RunResult) -> u64 {
    let missed = result.hazards.iter();
    missed
        .filter(|h| h.kind == HazardKind::MissingInvalidate)
        .map(|h| h.lines)
        .sum()
}

#[test]
#[ignore = "builds a VMM, and kernels of a host and of a guest that tells of its maintenance"]
fn both_engines_find_the_same_stale_lines_between_two_devices() {
    // It moves nothing.
    run(&["boot", "--engine", "kvm"]).ends(0, Verdict::Pass);
    let exact = run(&["iio-to-usb"]).fails(&[HazardKind::MissingInvalidate]);
    let kvm = run(&["iio-to-usb", "--engine", "kvm"]).fails(&[HazardKind::MissingInvalidate]);
    assert_eq!(stale(&kvm), stale(&exact));
    assert_eq!(kvm.data.bytes, exact.data.bytes);
    assert!(
        kvm.fidelity
            .not_judged
            .contains(&HazardKind::MissingBarrier)
    );
}

/// A guest of these instructions, which is told of like a kernel that has the coherency port: an arm64 Image
/// (Documentation/arch/arm64/booting.rst).
fn image(dir: &Path, instructions: &[u32]) -> String {
    let mut image = vec![0; 4096];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    // b 64
    put(0, &0x1400_0010_u32.to_le_bytes());
    // image_size, flags: little-endian, 4 KiB pages, anywhere in memory; then the magic.
    put(16, &4096_u64.to_le_bytes());
    put(24, &0b1010_u64.to_le_bytes());
    put(56, b"ARM\x64");
    for (n, instruction) in instructions.iter().enumerate() {
        put(64 + 4 * n, &instruction.to_le_bytes());
    }
    put(2048, b"staleline,coherency-port\0");
    let path = dir.join("Image");
    std::fs::write(&path, image).unwrap();
    path.to_str().unwrap().to_owned()
}

/// movz x0, #(address >> 16), lsl #16
fn movz_x0(address: u32) -> u32 {
    0xd2a0_0000 | address >> 16 << 5
}

/// b .
const HANG: u32 = 0x1400_0000;
/// b .-4
const AGAIN: u32 = 0x17ff_ffff;
/// str wzr, [x0]
const STORE: u32 = 0xb900_001f;
/// ldp x1, x2, [x0]
const LOAD_PAIR: u32 = 0xa940_0801;
const UART: u32 = 0x0900_0000;
/// The first device above 128 MiB of RAM.
const DMAC: u32 = 0x4800_0000;

/// A run of such a guest.
fn run_image(instructions: &[u32], more: &[&str]) -> (Run, Duration) {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path(), instructions);
    let begun = Instant::now();
    let own = ["iio-capture", "--engine", "kvm", "--kernel", &image];
    let run = run(&[&own[..], more].concat());
    (run, begun.elapsed())
}

#[test]
#[ignore = "builds a VMM, and the kernel of a host"]
fn a_guest_that_goes_on_for_ever_is_ended_whatever_it_does() {
    let hang = [HANG];
    let registers = [movz_x0(DMAC), STORE, AGAIN];
    let console = [movz_x0(UART), STORE, AGAIN];
    // The first one builds what is missing.
    run_image(&hang, &["--timeout", "1"]);
    for instructions in [&hang[..], &registers, &console] {
        let (run, took) = run_image(instructions, &["--timeout", "3", "--log", "all"]);
        let result = run.ends(3, Verdict::InfraError);
        assert_eq!(result.guest.end, Some(GuestEnd::TimedOut));
        // The words of the exact engine.
        let reasons = result.reasons.join("\n");
        for part in ["time limit", "did not boot"] {
            assert!(reasons.contains(part), "{reasons}");
        }
        assert!(took < Duration::from_secs(60), "{took:?}");
        let console = std::fs::metadata(run.path().join("console.log"));
        assert!(console.unwrap().len() <= 24 << 20);
    }
}

#[test]
#[ignore = "builds a VMM, and the kernel of a host"]
fn what_kvm_cannot_carry_out_is_no_verdict() {
    let (run, _) = run_image(&[movz_x0(DMAC), LOAD_PAIR, HANG], &["--timeout", "20"]);
    let result = run.ends(3, Verdict::InfraError);
    let why = &result.reasons[0];
    for part in ["CPU 0", "cannot decode", "at 0x", "single loads and stores"] {
        assert!(why.contains(part), "{part}: {why}");
    }
}

/// Processes that were started by this one.
fn children(of: u32) -> Vec<i32> {
    let parent = format!("PPid:\t{of}");
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|p| p.file_name().to_str()?.parse().ok());
    let is_child = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line == parent)
    };
    pids.filter(is_child).collect()
}

/// Starts a guest that hangs, and does something to its host or the command when it runs.
fn meanwhile(act: impl FnOnce(&Child, i32)) -> (Output, RunResult) {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path(), &[HANG]);
    let out = dir.path().join("out");
    let mut command = staleline();
    command
        .args(["run", "iio-capture", "--engine", "kvm", "--timeout", "60"])
        .args(["--kernel", &image, "--out"])
        .arg(&out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let begun = Instant::now();
    // The console is made when the guest begins.
    while !out.join("engine/console.log").exists() {
        assert!(begun.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(1));
    let hosts = children(child.id());
    let [host] = hosts[..] else {
        panic!("{hosts:?}");
    };
    act(&child, host);
    let output = child.wait_with_output().unwrap();
    let gone = || !Path::new(&format!("/proc/{host}")).exists();
    let begun = Instant::now();
    while !gone() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{host} is left");
        std::thread::sleep(Duration::from_millis(20));
    }
    let text = std::fs::read_to_string(out.join("result.json")).unwrap();
    (output, serde_json::from_str(&text).unwrap())
}

fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[test]
#[ignore = "builds a VMM, and the kernel of a host"]
fn a_host_that_is_killed_is_told_as_such() {
    let (output, result) = meanwhile(|_, host| kill(host, Signal::KILL));
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(result.verdict, Verdict::InfraError);
    let why = &result.reasons[0];
    for part in ["has ended without a word", "stopped from outside"] {
        assert!(why.contains(part), "{part}: {why}");
    }
}

#[test]
#[ignore = "builds a VMM, and the kernel of a host"]
fn a_run_that_is_interrupted_leaves_what_there_was() {
    let (output, result) = meanwhile(|command, _| {
        kill_process(Pid::from_child(command), Signal::INT).unwrap();
    });
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(result.interrupted, "{:?}", result.reasons);
    assert_eq!(result.guest.end, Some(GuestEnd::Interrupted));
}

#[test]
#[ignore = "builds a VMM, and the kernel of a host"]
fn a_host_that_cannot_run_guests_is_told_as_such() {
    if cfg!(target_arch = "aarch64") {
        // It may have KVM itself, and is used then.
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path(), &[HANG]);
    let real = std::env::var("STALELINE_QEMU").unwrap_or("qemu-system-aarch64".into());
    for (of_ours, other, parts) in [
        (
            "*virtualization=on*",
            "virt,gic-version=3",
            ["cannot open /dev/kvm", "virtualisation on"],
        ),
        ("max,*", "cortex-a76", ["lack FEAT_S2FWB", "--engine tcg"]),
    ] {
        let qemu = dir.path().join("qemu");
        let script = format!(
            "#!/bin/sh\nfor a; do shift; case \"$a\" in {of_ours}) a={other};; esac; set -- \"$@\" \"$a\"; done\n\
             exec {real} \"$@\"\n"
        );
        std::fs::write(&qemu, script).unwrap();
        std::fs::set_permissions(&qemu, PermissionsExt::from_mode(0o755)).unwrap();
        let words = ["iio-capture", "--engine", "kvm", "--kernel", &image];
        let mut command = staleline();
        command.arg("run").args(words).env("STALELINE_QEMU", &qemu);
        command.arg("--out");
        let run = finish(command, &words, tempfile::tempdir().unwrap());
        let why = &run.ends(3, Verdict::InfraError).reasons[0];
        for part in parts {
            assert!(why.contains(part), "{part}: {why}");
        }
    }
}

#[test]
fn what_is_missing_is_told_before_anything_is_run() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path(), &[HANG]);
    let go = |variable: &str, value: &Path| {
        let words = ["iio-capture", "--engine", "kvm", "--kernel", &image];
        let mut command = staleline();
        command.arg("run").args(words).env(variable, value);
        command.arg("--out");
        finish(command, &words, tempfile::tempdir().unwrap())
    };
    let told = |run: &Run, parts: &[&str]| {
        let result = run.ends(3, Verdict::InfraError);
        let why = &result.reasons[0];
        for part in parts {
            assert!(why.contains(part), "{part}: {why}");
        }
    };
    let none = dir.path().join("none");
    let run = go("STALELINE_VMM", &none);
    told(&run, &["no VMM for arm64", "No such file", "STALELINE_VMM"]);
    let script = dir.path().join("script");
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    let run = go("STALELINE_VMM", &script);
    told(&run, &["no VMM for arm64", "no 64-bit ELF file"]);
}

#[test]
fn what_only_the_exact_engine_can_do_is_a_mistake_here() {
    for (option, why) in [
        ("--self-check", "--engine tcg can"),
        ("--save-restore=9", "--engine tcg can"),
        ("--gdb", "--engine tcg can"),
        ("--save-snapshot=/", "no regular file"),
    ] {
        let run = run(&["boot", "--engine", "kvm", option]);
        assert_eq!(run.code, 2, "{option}: {}", run.stderr);
        assert!(run.stderr.contains(why), "{option}: {}", run.stderr);
    }
}

#[test]
#[ignore = "builds a VMM"]
fn without_a_kernel_for_its_host_it_says_how_to_get_one() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path(), &[HANG]);
    // One that cannot be built: there is nothing to build it of.
    let guest_kernel = dir.path().join("guest-kernel");
    for sub in ["stacks", "config"] {
        std::fs::create_dir_all(guest_kernel.join(sub)).unwrap();
    }
    let words = ["iio-capture", "--engine", "kvm", "--kernel", &image];
    let mut command = staleline();
    command.arg("run").args(words).arg("--out");
    command.env("STALELINE_GUEST_KERNEL", &guest_kernel);
    let run = finish(command, &words, tempfile::tempdir().unwrap());
    let result = run.ends(3, Verdict::InfraError);
    let why = &result.reasons[0];
    for part in [
        "the emulated host has no kernel",
        "kernel build --stack host",
    ] {
        assert!(why.contains(part), "{part}: {why}");
    }
}

#[test]
fn a_kernel_that_does_not_tell_is_refused_before_it_is_booted() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path(), &[HANG]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[2048..].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let run = run(&["iio-capture", "--engine", "kvm", "--kernel", &path]);
    assert_eq!(run.code, 2, "{}", run.stderr);
    for part in [
        "CONFIG_ARM64_COHERENCY_PORT=y",
        "staleline kernel build --src TREE --config instrumented --name NAME",
    ] {
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
}

#[test]
#[ignore = "builds a VMM, and the kernel of a host"]
fn an_image_that_is_cut_short_is_not_booted() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path(), &[HANG]);
    let mut bytes = std::fs::read(&path).unwrap();
    // b 1 MiB further on, where there is nothing
    bytes[..4].copy_from_slice(&0x1404_0000_u32.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let run = run(&["iio-capture", "--engine", "kvm", "--kernel", &path]);
    let result = run.ends(3, Verdict::InfraError);
    let why = &result.reasons[0];
    assert!(why.contains("is cut short"), "{why}");
    assert!(!result.guest.booted);
}
/// A run of the scenario that has an NVMe disk of the host's.
fn nvme(port: &str, more: &[&str]) -> crate::support::Run {
    let device = format!("0000:00:03.0,port={port}");
    let mut words = vec![
        "nvme", "--engine", "kvm", "--kernel", "base+pci", "--vfio", &device,
    ];
    words.extend(more);
    run(&words)
}

#[test]
#[ignore = "builds a VMM, and kernels of a host and of a guest that has drivers of PCI devices"]
fn a_device_of_the_host_is_as_coherent_as_its_port() {
    let apart = nvme("hp", &[]).ends(0, Verdict::Pass);
    assert!(apart.maintenance.cleaned > 0 && apart.maintenance.invalidated > 0);
    let blind = &apart.fidelity.not_judged;
    assert!(blind.contains(&HazardKind::MissingClean));
    assert!(!blind.contains(&HazardKind::DiscardedWrite));

    let snooping = nvme("hpc", &[]).ends(0, Verdict::Pass);
    let maintained = &snooping.maintenance;
    // Nothing of what the device has to do with: the pools that the kernel makes in any case are no device's.
    assert_eq!(
        (maintained.invalidated, maintained.operations.len()),
        (0, 0)
    );
    assert_eq!(snooping.data.bytes, apart.data.bytes);
    // The board's own devices have DRAM beside one that has RAM.
    let device = "0000:00:03.0,port=hpc";
    let words = [
        "iio-to-usb",
        "--engine",
        "kvm",
        "--kernel",
        "base+pci",
        "--vfio",
        device,
    ];
    run(&words).fails(&[HazardKind::MissingInvalidate]);

    // The driver's commands stay in the cache.
    let lie = [
        "--set",
        "board.pci.dma-coherent=true",
        "--append",
        "nvme_core.admin_timeout=3",
    ];
    nvme("hp", &lie).ends(1, Verdict::Fail);
}

#[test]
#[ignore = "builds a VMM, and kernels of a host and of a guest that has drivers of PCI devices"]
fn a_device_that_cannot_be_had_is_no_verdict() {
    for (address, why) in [
        ("0000:00:1f.0", "there is no such device"),
        // By which the host is told what to run.
        ("0000:00:02.0", "a part of the emulated host itself"),
    ] {
        let words = [
            "boot", "--engine", "kvm", "--kernel", "base+pci", "--vfio", address,
        ];
        let run = run(&words);
        let told = &run.ends(3, Verdict::InfraError).reasons[0];
        for part in [address, why, "0000:00:03.0, an NVMe disk"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(!told.contains("driverctl"), "{told}");
    }
}

#[test]
#[ignore = "builds a VMM, and kernels of a host and of a guest that tells of its maintenance"]
fn a_guest_that_was_saved_goes_on_to_the_same_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("snapshot");
    let path = file.to_str().unwrap();
    let kvm = |more: &[&str]| run(&[&["iio-to-usb", "--engine", "kvm"][..], more].concat());
    let saved = kvm(&["--save-snapshot", path]).fails(&[HazardKind::MissingInvalidate]);
    // As often as one likes, and each on its own.
    for _ in 0..2 {
        let again = kvm(&["--from-snapshot", path]).fails(&[HazardKind::MissingInvalidate]);
        assert_eq!(stale(&again), stale(&saved));
        assert_eq!(again.data.bytes, saved.data.bytes);
        let notes = again.notes.join("\n");
        assert!(notes.contains("to go on from the snapshot"), "{notes}");
    }

    // So does one with several CPUs, which are at different places.
    let two = ["--set", "board.cpus=2"];
    kvm(&[&two[..], &["--save-snapshot", path]].concat()).fails(&[HazardKind::MissingInvalidate]);
    let again = kvm(&[&two[..], &["--from-snapshot", path]].concat());
    assert_eq!(
        again.fails(&[HazardKind::MissingInvalidate]).data.bytes,
        saved.data.bytes
    );
    kvm(&["--save-snapshot", path]).fails(&[HazardKind::MissingInvalidate]);

    let refused = |more: &[&str], part: &str| {
        let run = kvm(&[&["--from-snapshot", path][..], more].concat());
        let result = run.ends(3, Verdict::InfraError);
        let why = &result.reasons[0];
        for part in [part, "--save-snapshot"] {
            assert!(why.contains(part), "{part}: {why}");
        }
    };
    refused(&["--seed", "7"], "of another guest");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    refused(&[], "cut short");
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    std::fs::write(&file, changed).unwrap();
    refused(&[], "damaged");
    std::fs::write(&file, &whole).unwrap();
    let grown = std::fs::File::options().write(true).open(&file).unwrap();
    grown.set_len(1 << 40).unwrap();
    refused(&[], "longer than one of a guest");
    std::fs::write(&file, "something else, of more than twenty bytes").unwrap();
    refused(&[], "no snapshot");
}

/// Unbinds the USB controller's driver, which gives back what it had mapped as non-cacheable, and becomes another
/// program.
const AFTER_UNBIND: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	const char *device = "48020000.dwc3";
	int fd = open("/sys/bus/platform/drivers/dwc3/unbind", O_WRONLY);

	if (fd < 0 || write(fd, device, strlen(device)) < 0) {
		perror("unbind");
		return 99;
	}
	close(fd);
	execv(argv[1], argv + 1);
	perror(argv[1]);
	return 99;
}
"#;

/// Memory that was non-cacheable, and has been given to somebody else, is judged like any other.
#[test]
#[ignore = "builds a VMM, and kernels of a host and of a guest that tells of its maintenance"]
fn pages_that_are_cacheable_again_are_judged_again() {
    let dir = tempfile::tempdir().unwrap();
    let unbind = exec::compile(&dir, "after-unbind", AFTER_UNBIND, &[]);
    let playback = exec::example(&dir, "playback");
    let file = format!("{}:/root/playback", playback.display());
    let go = |engine: &str, more: &[&str]| {
        let words = [
            "--engine",
            engine,
            // Not coherent, so that its driver has such memory.
            "--set",
            "board.usb.port=hp",
            "--file",
            &file,
            "--",
            unbind.to_str().unwrap(),
            "/root/playback",
        ];
        exec::exec(&[&words[..], more].concat())
    };
    let lines = |engine: &str| {
        let result = go(engine, &["-n"]).fails(&[HazardKind::MissingClean]);
        result.hazards.iter().map(|h| h.lines).sum::<u64>()
    };
    let exact = lines("tcg");
    assert!(exact > 0);
    assert_eq!(lines("kvm"), exact);
    // That they were written past the cache before is in nobody's way.
    go("kvm", &[]).ends(0, Verdict::Pass);
}

/// KVM shows nobody what programs do to the caches by themselves: the guest's kernel has it trap, and tells.
#[test]
#[ignore = "builds a VMM, and kernels of a host and of a guest that tells of its maintenance"]
fn what_programs_do_to_the_caches_by_themselves_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["capture", "playback"] {
        let program = exec::example(&dir, name);
        let program = program.to_str().unwrap();
        for engine in ["tcg", "kvm"] {
            let run = |how| exec::exec(&["--engine", engine, "--", program, how]);
            let lines = |result: &RunResult| result.maintenance.cost.total.lines;
            let without = run("-n").ends(1, Verdict::Fail);
            let done = run("-u").ends(0, Verdict::Pass);
            let each = 8 * 16384 / 64;
            assert_eq!(lines(&done) - lines(&without), each, "{name} {engine}");
        }
    }
}

/// Memory that a driver makes non-cacheable by itself is one memory to CPUs and devices, for as long as it is mapped so.
#[test]
#[ignore = "builds a VMM, and kernels of a host and of a guest that tells of its maintenance"]
fn what_a_driver_maps_past_the_cache_needs_no_maintenance() {
    let source = include_str!("module/uncached.c");
    for (engine, built_for) in [
        ("tcg", "base+userland"),
        ("kvm", "base+userland+instrumented"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = module::build(&dir, built_for, "uncached", Some(source));
        let go = |parameter: &str| {
            let module = format!("{}:{parameter}", file.display());
            let words = ["--engine", engine, "--module", &module];
            module::go(
                "base+userland",
                &["exec"],
                &[&module::GDMA[..], &words].concat(),
            )
        };
        go("late=0").ends(0, Verdict::Pass);
        go("target=1").ends(0, Verdict::Pass);
        go("late=1").fails(&[HazardKind::MissingClean]);
    }
}

#[test]
#[ignore = "builds a VMM, and kernels of a host and of a guest that tells of its maintenance"]
fn nothing_is_believed_of_a_kernel_that_has_not_found_the_port() {
    let dir = tempfile::tempdir().unwrap();
    let overlay = dir.path().join("elsewhere.dtso");
    let source =
        "/dts-v1/; /plugin/;\n&{/coherency-port@b000000} { compatible = \"nobody,nothing\"; };\n";
    std::fs::write(&overlay, source).unwrap();
    let overlay = ["--dtb-overlay", overlay.to_str().unwrap()];
    let run = run(&[&["iio-capture", "--engine", "kvm"][..], &overlay].concat());
    let result = run.ends(3, Verdict::InfraError);
    let why = &result.reasons[0];
    assert!(why.contains("has not found the coherency port"), "{why}");
}
