// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What goes wrong around a run is never a verdict about the kernel, and leaves nothing behind.

use std::process::Stdio;
use std::time::{Duration, Instant};

use staleline_results::{HazardKind, Verdict};

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

/// What was found before counts.
#[test]
fn a_run_that_does_not_end_tells_what_it_has_found() {
    let run = run(&["iio-capture-nosync", "--timeout", "10", "--set", ENDLESS]);
    let result = run.ends(1, Verdict::Fail);
    assert_eq!(support::kinds_of(&result), [HazardKind::MissingInvalidate]);
    let time = "time limit, which may follow from what was found";
    let told = |r: &String| r.contains(time);
    assert!(result.reasons.iter().any(told), "{:?}", result.reasons);
    // Where it was stopped is a matter of the host.
    assert_eq!((result.run_hash, result.tracing), (None, None));
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

    // By number it is only known at the end.
    let run = run_set("iio-playback", &["frames=2", "drop-maintenance=@4000000"]);
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert!(run.stderr.contains("they are among @"), "{}", run.stderr);
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

/// Frames of 16 MiB. A udmabuf's scatterlist has an entry for each of its pages, and for so many the
/// driver of the DMA engine gets no memory for descriptors, as it allocates them where it must not
/// sleep (`axi_dmac_alloc_desc` in drivers/dma/dma-axi-dmac.c). That is when the converter starts: the
/// frame was queued well, and its fence signals with ENOMEM.
const REFUSED: [&str; 5] = [
    "buffers=1",
    "frames=2",
    "buffer-bytes=16777216",
    "frame-bytes=16777216",
    "last-frame-bytes=16777216",
];

#[test]
fn a_transfer_that_was_refused_is_not_judged() {
    let mut arguments = vec!["iio-capture", "--exporter", "udmabuf"];
    arguments.extend(REFUSED.iter().flat_map(|s| ["--set", s]));
    let run = run(&arguments);
    let result = run.ends(3, Verdict::InfraError);
    // Nothing was moved, so nothing was looked at.
    assert_eq!(result.machine.as_ref().unwrap().transfers, 0);
    assert_eq!((result.hazards_total, result.data.bytes), (0, 0));
    let first = &result.reasons[0];
    assert!(
        first.contains("frame 0 by ad9467, udmabuf DMABUF 0, ended with error 12"),
        "{:?}",
        result.reasons
    );
    assert!(!run.stdout.contains("corrupt-data"), "{}", run.stdout);
}

/// A copy of the base kernel's `Image` alone, changed, and what a run of it says.
fn run_changed(change: impl FnOnce(&mut Vec<u8>)) -> support::Run {
    support::need_kernel("base");
    let kernels = staleline::run::wiring::Production::default()
        .kernels()
        .unwrap();
    let base = kernels.into_iter().find(|k| k.name == "base").unwrap();
    let mut bytes = std::fs::read(base.image.unwrap()).unwrap();
    change(&mut bytes);
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("Image");
    std::fs::write(&image, bytes).unwrap();
    run(&["iio-capture", "--kernel", image.to_str().unwrap()])
}

#[test]
fn an_image_that_is_cut_short_is_not_booted() {
    let started = Instant::now();
    let run = run_changed(|image| image.truncate(image.len() / 2));
    let result = run.ends(3, Verdict::InfraError);
    assert!(
        result.reasons[0].contains("is cut short"),
        "{:?}",
        result.reasons
    );
    assert!(!result.guest.booted);
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn the_hash_is_of_the_image_that_booted() {
    let image_hash = |run: support::Run| run.passes().kernel.unwrap().image_hash.unwrap();
    let base = image_hash(run_changed(|_| ()));
    assert_eq!(base, image_hash(run(&["iio-capture"])));
    // In the banner, which nobody but the reader of a log cares for.
    let other = image_hash(run_changed(|image| {
        let at = image.windows(6).position(|w| w == b"(stale").unwrap();
        image[at + 1] = b'S';
    }));
    assert_ne!(base, other);
}

#[test]
fn a_cached_kernel_that_is_not_what_was_built_is_not_booted() {
    support::need_kernel("base");
    let kernels = staleline::run::wiring::Production::default()
        .kernels()
        .unwrap();
    let base = kernels.into_iter().find(|k| k.name == "base").unwrap();
    let from = base.image.unwrap().parent().unwrap().to_owned();
    let cache = from.ancestors().nth(2).unwrap();
    // A cache of its own, with all else as it is.
    let home = tempfile::tempdir().unwrap();
    let own = home.path().join("staleline");
    let to = own.join("kernels").join(from.file_name().unwrap());
    std::fs::create_dir_all(&to).unwrap();
    for shared in ["agent", "initramfs", "sources.json", "manifests"] {
        std::os::unix::fs::symlink(cache.join(shared), own.join(shared)).unwrap();
    }
    for file in ["vmlinux", "System.map", "config"] {
        std::os::unix::fs::symlink(from.join(file), to.join(file)).unwrap();
    }
    let mut image = std::fs::read(from.join("Image")).unwrap();
    let record = std::fs::read(from.join("kernel.json")).unwrap();
    let mut record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    record["image_hash"] = staleline_support::digest::bytes(&image).into();
    std::fs::write(to.join("kernel.json"), record.to_string()).unwrap();

    let go = |image: &[u8]| {
        std::fs::write(to.join("Image"), image).unwrap();
        let mut command = support::staleline();
        command
            .args(["run", "iio-capture", "--out"])
            .env("XDG_CACHE_HOME", home.path());
        support::finish(command, &["iio-capture"], tempfile::tempdir().unwrap())
    };
    go(&image).passes();
    // One bit of the last byte.
    *image.last_mut().unwrap() ^= 1;
    let result = go(&image).ends(3, Verdict::InfraError);
    let why = &result.reasons[0];
    for part in [
        "is not what it was",
        &staleline_support::digest::bytes(&image),
        "remove the directory",
    ] {
        assert!(why.contains(part), "{part}: {why}");
    }
    assert!(!result.guest.booted && result.run_hash.is_none());
}
