// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What goes wrong around a run is never a verdict about the kernel, and leaves nothing behind.

use std::process::Stdio;
use std::time::{Duration, Instant};

use staleline::result::Verdict;

use crate::support::{self, run, run_set};

/// More frames than any machine moves while a test waits.
const ENDLESS: &str = "frames=65536";

#[test]
fn no_qemu_is_infrastructure() {
    support::need_kernel("base");
    let mut command = support::staleline();
    command
        .args(["run", "iio-capture", "--out"])
        .env("STALELINE_QEMU", "/nonexistent/qemu");
    let run = support::finish(command, &["iio-capture"], tempfile::tempdir().unwrap());
    let result = run.ends(3, Verdict::InfraError);
    assert!(result.run_hash.is_none() && result.hazards.is_empty());
    assert!(
        result.reasons[0].contains("/nonexistent/qemu"),
        "{:?}",
        result.reasons
    );
}

#[test]
fn a_qemu_that_fails_is_infrastructure() {
    support::need_kernel("base");
    let mut command = support::staleline();
    // It knows its version, and nothing else.
    let dir = tempfile::tempdir().unwrap();
    let qemu = dir.path().join("qemu");
    let script = "#!/bin/sh\n[ \"$1\" = --version ] && exec echo QEMU emulator version 10.0.0\n\
                  echo 'no accelerator today' >&2\nexit 1\n";
    std::fs::write(&qemu, script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&qemu, executable).unwrap();
    command
        .args(["run", "iio-capture", "--out"])
        .env("STALELINE_QEMU", &qemu);
    let run = support::finish(command, &["iio-capture"], dir);
    let result = run.ends(3, Verdict::InfraError);
    assert!(
        result.reasons[0].contains("no accelerator today"),
        "{:?}",
        result.reasons
    );
}

#[test]
fn a_run_that_does_not_end_is_ended() {
    let started = Instant::now();
    let run = run(&["iio-capture", "--timeout", "1", "--set", ENDLESS]);
    let result = run.ends(3, Verdict::InfraError);
    assert!(
        result.reasons[0].contains("time limit"),
        "{:?}",
        result.reasons
    );
    assert!(result.data.bytes < result.data.planned);
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
    // Half a minute for a machine that does much else.
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn a_kernel_that_does_not_boot_is_infrastructure() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("Image");
    std::fs::write(&image, hanging_image()).unwrap();
    let image = image.to_str().unwrap();
    let run = run(&["iio-capture", "--kernel", image, "--timeout", "1"]);
    let result = run.ends(3, Verdict::InfraError);
    assert!(!result.guest.booted);
    let reasons = result.reasons.join("\n");
    assert!(reasons.contains("did not boot"), "{reasons}");
}

/// An arm64 Image whose only instruction branches to itself
/// (Documentation/arch/arm64/booting.rst).
fn hanging_image() -> Vec<u8> {
    let mut image = vec![0; 4096];
    image[..4].copy_from_slice(&0x1400_0000_u32.to_le_bytes());
    // image_size, flags: little-endian, 4 KiB pages, anywhere in memory; then the magic.
    image[16..24].copy_from_slice(&4096_u64.to_le_bytes());
    image[24..32].copy_from_slice(&0b1010_u64.to_le_bytes());
    image[56..60].copy_from_slice(b"ARM\x64");
    image
}

#[test]
fn the_guest_dies_with_the_command() {
    support::need_kernel("base");
    let dir = tempfile::tempdir().unwrap();
    let mut command = support::staleline();
    command
        .args(["run", "iio-capture", "--set", ENDLESS, "--out"])
        .arg(dir.path().join("out"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut staleline = command.spawn().unwrap();
    // The command and its QEMU.
    let there_are = |wanted: usize| {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let found = support::processes_in(dir.path());
            if found.len() == wanted || Instant::now() > deadline {
                break found.len();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    assert_eq!(there_are(2), 2);
    staleline.kill().unwrap();
    staleline.wait().unwrap();
    assert_eq!(there_are(0), 0);
}

#[test]
fn an_operation_that_there_is_not() {
    let settings = ["frames=2", "drop-maintenance=500"];
    let run = run_set("iio-playback", &settings);
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert!(run.stderr.contains("K goes from 1 to "), "{}", run.stderr);

    // By number it is only known at the end, and proves nothing.
    let run = run_set("iio-playback", &["frames=2", "drop-maintenance=@4000000"]);
    let result = run.ends(3, Verdict::InfraError);
    assert!(!result.drop_maintenance.unwrap().happened);
}

#[test]
fn wrong_requests_boot_nothing() {
    for wrong in [
        &["iio-capture", "--kernel", "no-such-stack"][..],
        &[
            "iio-capture",
            "--set",
            "buffers=64",
            "--set",
            "buffer-bytes=16777216",
        ],
        &["iio-capture", "--set", "frame-bytes=12041"],
        &["iio-capture", "--set", "board.dmac.port=acp"],
        &["iio-capture", "--timeout", "0"],
    ] {
        let run = run(wrong);
        assert_eq!(run.code, 2, "{wrong:?}: {}", run.stderr);
        assert!(!run.path().exists(), "{wrong:?}");
    }
}
