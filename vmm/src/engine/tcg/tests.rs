// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The engine against a program that only pretends to be QEMU.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use staleline_machine::engine::memory::{MEMORY_LIMIT, MIB};

use super::*;
use crate::engine::GuestKind;

/// A directory with everything a job needs.
struct Bench {
    dir: TempDir,
    job: Job,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut image = vec![0; 4096];
        image[16..24].copy_from_slice(&4096u64.to_le_bytes());
        image[56..60].copy_from_slice(b"ARM\x64");
        let kernel = dir.path().join("Image");
        std::fs::write(&kernel, image).unwrap();
        std::fs::write(dir.path().join(PLUGIN_FILE), b"").unwrap();
        let job = Job {
            kernel,
            initrd: None,
            expected: Default::default(),
            fdt: vec![0; 64],
            ram_bytes: 16 * MIB,
            poison: Default::default(),
            window_bytes: 0,
            cpus: 1,
            lines: 64,
            guest: GuestKind::Probe,
            machine: serde_json::Value::Null,
            devices: None,
            timeout: Some(Duration::from_secs(30)),
            attendance: Default::default(),
            arguments: Vec::new(),
            interrupt: Default::default(),
            run_dir: dir.path().to_owned(),
            selfcheck: false,
            save_restore: None,
            events: None,
            snapshot: None,
            trace: Vec::new(),
            calls: None,
        };
        Bench { dir, job }
    }

    /// The engine with a fake that misbehaves in the given way.
    fn engine(&self, behaviour: &str) -> Result<TcgEngine, EngineError> {
        // A link, not a copy: a file just written may still be open in a child of another test
        // that has not reached exec, and would not run.
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine/tcg/testdata/fake-qemu");
        let link = self.dir.path().join(behaviour);
        std::os::unix::fs::symlink(fake, &link).unwrap();
        TcgEngine::new(&link, &self.dir.path().join(PLUGIN_FILE))
    }

    fn error(&self, behaviour: &str) -> EngineError {
        let engine = self.engine(behaviour);
        match engine.and_then(|engine| engine.run(&self.job)) {
            Ok(outcome) => panic!("{behaviour}: {outcome:?}"),
            Err(error) => {
                assert!(!error.help().is_empty());
                error
            }
        }
    }
}

/// The error, which is one of QEMU's.
fn qemus(error: &EngineError) -> &QemuError {
    match error {
        EngineError::Own(fault) => fault.of().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_qemu_or_too_old_is_told() {
    let bench = Bench::new();
    let plugin = bench.dir.path().join(PLUGIN_FILE);
    let missing = TcgEngine::new(Path::new("/nonexistent/qemu"), &plugin);
    let missing = missing.unwrap().run(&bench.job);
    assert!(matches!(
        qemus(&missing.unwrap_err()),
        QemuError::Missing { .. }
    ));
    match qemus(&bench.error("stranger")) {
        QemuError::Unknown { output, .. } => assert_eq!(output, "GNU bash\n"),
        other => panic!("{other:?}"),
    }
    match qemus(&bench.error("old")) {
        QemuError::TooOld { found, needed } => {
            assert_eq!((found.as_str(), needed.as_str()), ("9.1", "9.2"));
        }
        other => panic!("{other:?}"),
    }
    std::fs::remove_file(plugin).unwrap();
    match qemus(&bench.error("crash")) {
        QemuError::PluginMissing { searched, .. } => assert_eq!(searched.len(), 1),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_crash_shows_status_and_last_words() {
    let bench = Bench::new();
    match qemus(&bench.error("crash")) {
        QemuError::Crashed { status, stderr } => {
            assert_eq!(status.code(), Some(3));
            assert_eq!(stderr, "first line\nthe last words");
        }
        other => panic!("{other:?}"),
    }
    match qemus(&bench.error("segfault")) {
        QemuError::Crashed { status, .. } => assert_eq!(status.signal(), Some(11)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_qemu_that_will_not_take_the_plugin_is_told_apart() {
    let bench = Bench::new();
    assert!(matches!(
        qemus(&bench.error("no-plugins")),
        QemuError::PluginsUnsupported { .. }
    ));
    match qemus(&bench.error("rejects-plugin")) {
        QemuError::PluginRejected { stderr, .. } => assert!(stderr.contains("wrong ELF class")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn silence_ends_with_the_timeout() {
    let mut bench = Bench::new();
    bench.job.timeout = Some(Duration::from_millis(300));
    let started = Instant::now();
    match qemus(&bench.error("silent")) {
        QemuError::Protocol(message) => assert!(message.contains("said nothing within 0.3 s")),
        other => panic!("{other:?}"),
    }
    let mut bench = Bench::new();
    bench.job.timeout = Some(Duration::from_millis(300));
    match bench.error("stuck") {
        EngineError::Timeout { console, .. } => assert_eq!(console, "last console line"),
        other => panic!("{other:?}"),
    }
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn whoever_interrupts_does_not_wait_for_the_timeout() {
    let started = Instant::now();
    for behaviour in ["silent", "stuck"] {
        let mut bench = Bench::new();
        let (interrupt, mut wake) = crate::interrupt::Interrupt::for_tests(2);
        bench.job.interrupt = interrupt;
        std::io::Write::write_all(&mut wake, b"x").unwrap();
        let e = bench.error(behaviour);
        assert!(matches!(e, EngineError::Interrupted), "{e:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_program_that_does_not_say_what_it_is_is_not_waited_for() {
    let mut bench = Bench::new();
    bench.job.timeout = Some(Duration::from_secs(1));
    let started = Instant::now();
    match qemus(&bench.error("mute")) {
        QemuError::Unknown { output, .. } => assert!(output.contains("nothing within")),
        other => panic!("{other:?}"),
    }
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn arguments_that_qemu_does_not_take_are_told_in_its_words() {
    let mut bench = Bench::new();
    bench.job.arguments = vec!["-no-such".into()];
    for (behaviour, says) in [
        ("crash", "the last words"),
        ("leaves", "without having started"),
        ("no-gic", "child<arm-gicv3>"),
    ] {
        match bench.error(behaviour) {
            EngineError::Arguments { why } => assert!(why.contains(says), "{why}"),
            other => panic!("{behaviour}: {other:?}"),
        }
    }
    // What has nothing to do with them is what it was.
    for behaviour in ["no-plugins", "stranger"] {
        assert!(matches!(
            qemus(&bench.error(behaviour)),
            QemuError::PluginsUnsupported { .. } | QemuError::Unknown { .. }
        ));
    }
    let e = bench.error("signalled");
    assert!(matches!(e, EngineError::NoPowerOff { .. }), "{e:?}");
}

#[test]
fn a_debugger_that_never_comes_is_not_waited_for_after_an_interrupt() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut bench = Bench::new();
    bench.job.timeout = None;
    bench.job.attendance.debugger = Some(port.local_addr().unwrap().port());
    let e = bench.error("waits");
    assert!(matches!(e, EngineError::DebuggerPort { .. }), "{e:?}");
    drop(port);

    let (interrupt, mut wake) = crate::interrupt::Interrupt::for_tests(2);
    bench.job.interrupt = interrupt;
    let started = Instant::now();
    let waited = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        std::io::Write::write_all(&mut wake, b"x").unwrap();
        wake
    });
    std::fs::remove_file(bench.dir.path().join("waits")).unwrap();
    let e = bench.error("waits");
    assert!(matches!(e, EngineError::Interrupted), "{e:?}");
    drop(waited.join().unwrap());
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(20));
}

#[test]
fn a_script_around_qemu_does_not_outlive_the_timeout() {
    let mut bench = Bench::new();
    bench.job.timeout = Some(Duration::from_millis(300));
    let started = Instant::now();
    assert!(matches!(
        qemus(&bench.error("wrapper")),
        QemuError::Protocol(_)
    ));
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_broken_conversation_is_a_protocol_error_and_ends_at_once() {
    let bench = Bench::new();
    let started = Instant::now();
    for (behaviour, word) in [
        ("garbage", "QMP message"),
        ("refuses", "no such path"),
        ("no-gic", "child<arm-gicv3>"),
        ("no-report", "has not reported"),
    ] {
        match qemus(&bench.error(behaviour)) {
            QemuError::Protocol(message) => assert!(message.contains(word), "{message}"),
            other => panic!("{behaviour}: {other:?}"),
        }
    }
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn an_end_that_is_not_the_guests_is_no_power_off() {
    let bench = Bench::new();
    for (behaviour, expected) in [("signalled", "host-signal"), ("leaves", "without a word")] {
        match bench.error(behaviour) {
            EngineError::NoPowerOff { reason, .. } => {
                assert!(reason.contains(expected), "{reason}");
            }
            other => panic!("{behaviour}: {other:?}"),
        }
    }
}

#[test]
fn senseless_jobs_are_refused() {
    type Spoil = fn(&mut Job);
    let spoils: [Spoil; 8] = [
        |job| job.ram_bytes = 0,
        |job| job.ram_bytes += 1,
        |job| job.window_bytes = 1,
        |job| job.ram_bytes = MEMORY_LIMIT + MIB,
        |job| job.trace = vec![2, 1],
        |job| job.trace = vec![0; TRACE_LIMIT + 1],
        |job| job.timeout = Some(Duration::ZERO),
        |job| job.run_dir = "/nonexistent".into(),
    ];
    for (n, spoil) in spoils.into_iter().enumerate() {
        let mut bench = Bench::new();
        spoil(&mut bench.job);
        let error = bench.error("leaves");
        assert!(matches!(error, EngineError::BadJob(_)), "{n}: {error:?}");
    }
    let mut bench = Bench::new();
    bench.job.kernel = "/nonexistent/Image".into();
    assert!(matches!(bench.error("leaves"), EngineError::Boot(_)));
}

#[test]
fn nothing_is_left_in_the_run_directory_not_even_by_an_earlier_run() {
    let bench = Bench::new();
    for old in ["console.log", "report.json", "sites.bin"] {
        std::fs::write(bench.dir.path().join(old), "old").unwrap();
    }
    bench.error("crash");
    let mut names: Vec<_> = std::fs::read_dir(bench.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["Image", "crash", PLUGIN_FILE]);
}
