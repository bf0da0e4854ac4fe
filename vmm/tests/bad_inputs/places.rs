// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Files and directories that are not what they should be.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::runner::{Bench, Expected};

/// Puts something into a place.
type Make = fn(&Path);

/// What is in the place that a command is given, and is not what it should be.
fn places() -> Vec<(&'static str, Make)> {
    fn fifo(path: &Path) {
        mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
    }
    vec![
        ("a FIFO", fifo),
        ("a directory", |path| fs::create_dir(path).unwrap()),
        ("a loop of links", |path| symlink(path, path).unwrap()),
        ("a link to nothing", |path| {
            symlink("/nonexistent/x", path).unwrap()
        }),
        ("a device without end", |path| {
            symlink("/dev/zero", path).unwrap()
        }),
        ("no text", |path| {
            fs::write(path, [0xff, 0xfe, 0, 7]).unwrap()
        }),
        ("a huge file", |path| {
            File::create(path).unwrap().set_len(1 << 40).unwrap();
        }),
        ("a socket", |path| {
            drop(std::os::unix::net::UnixListener::bind(path).unwrap());
        }),
        ("empty", |path| fs::write(path, "").unwrap()),
        ("not readable", |path| {
            fs::write(path, "x").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o0)).unwrap();
        }),
    ]
}

#[test]
fn whatever_lies_where_a_file_should_be() {
    let commands: [&[&str]; 7] = [
        &["run", "./bad.toml"],
        &["matrix", "./bad.toml"],
        &["litmus", "./bad.toml"],
        &["run", "boot", "--kernel", "./bad.toml"],
        &["report", "./bad.toml"],
        &["events", "./bad.toml"],
        &["replay", "./bad.toml"],
    ];
    let mut troubles = Vec::new();
    for (what, make) in places() {
        for args in commands {
            let bench = Bench::new();
            make(&bench.path().join("bad.toml"));
            let expected = Expected {
                code: 2,
                says: "error",
            };
            let wrong = bench.wrong(args, expected);
            troubles.extend(wrong.map(|why| format!("{args:?} with {what}: {why}")));
        }
    }
    assert!(troubles.is_empty(), "{}", troubles.join("\n"));
}

#[test]
fn whatever_lies_where_results_should_go() {
    let mut troubles = Vec::new();
    for (what, make) in places() {
        // That is a good place.
        if what == "a directory" {
            continue;
        }
        for args in [
            &["run", "boot", "--out", "./out"][..],
            &["run", "boot", "--out", "./out", "--force"],
            &["run", "boot", "--out", "./out/below"],
            &["matrix", "--out", "./out"],
        ] {
            let bench = Bench::new();
            make(&bench.path().join("out"));
            let expected = Expected {
                code: 2,
                says: "cannot write",
            };
            let wrong = bench.wrong(args, expected);
            troubles.extend(wrong.map(|why| format!("{args:?} with {what}: {why}")));
        }
    }
    assert!(troubles.is_empty(), "{}", troubles.join("\n"));
}

#[test]
fn what_is_there_is_not_overwritten() {
    let bench = Bench::new();
    fs::create_dir(bench.path().join("run")).unwrap();
    fs::write(bench.path().join("run/run.json"), "{}").unwrap();
    fs::create_dir(bench.path().join("home")).unwrap();
    fs::write(bench.path().join("home/thesis.tex"), "x").unwrap();
    fs::create_dir(bench.path().join("matrix")).unwrap();
    fs::write(bench.path().join("matrix/matrix.json"), "{}").unwrap();
    let mut troubles = Vec::new();
    for (args, says) in [
        (
            &["run", "boot", "--out", "run"][..],
            "run holds results already",
        ),
        (&["run", "boot", "--out", "home"], "what is no run's"),
        (
            &["run", "boot", "--out", "home", "--force"],
            "what is no run's",
        ),
        (&["run", "boot", "--out", "."], "what is no run's"),
        (
            &["matrix", "--out", "matrix"],
            "matrix holds results already",
        ),
        (
            &["matrix", "--out", "matrix", "--force"],
            "matrix.json is not valid",
        ),
        (&["matrix", "--out", "home", "--force"], "what is no run's"),
        (
            &["matrix", "--resume", "matrix"],
            "matrix.json is not valid",
        ),
        (&["matrix", "--resume", "home"], "no matrix's directory"),
    ] {
        let wrong = bench.wrong(args, Expected { code: 2, says });
        troubles.extend(wrong.map(|why| format!("{args:?}: {why}")));
    }
    assert!(troubles.is_empty(), "{}", troubles.join("\n"));
}

#[test]
fn names_that_are_no_text() {
    let name = OsStr::from_bytes(b"./\xff\xfe\x1b[2J.toml");
    let word = |text: &str| OsString::from(text);
    let mut troubles = Vec::new();
    for args in [
        vec![word("run"), name.into()],
        vec![word("matrix"), name.into()],
        vec![word("litmus"), name.into()],
        vec![word("report"), name.into()],
        vec![word("events"), name.into()],
        vec![word("replay"), name.into()],
        vec![word("run"), word("boot"), word("--kernel"), name.into()],
        vec![word("run"), word("boot"), word("--set"), name.into()],
        vec![word("matrix"), word("--resume"), name.into()],
        vec![word("exec"), word("--"), name.into()],
    ] {
        let bench = Bench::new();
        let expected = Expected {
            code: 2,
            says: "error",
        };
        let wrong = bench.wrong(&args, expected);
        troubles.extend(wrong.map(|why| format!("{args:?}: {why}")));
    }
    assert!(troubles.is_empty(), "{}", troubles.join("\n"));
}

#[test]
fn output_that_nobody_can_take() {
    let mut troubles = Vec::new();
    for args in [
        &["explain"][..],
        &["explain", "missing-clean"],
        &["matrix", "--list"],
        &["kernel", "list"],
        &["litmus", "--format", "json"],
        &["doctor"],
        &["doctor", "--format", "json"],
    ] {
        let mut bench = Bench::new();
        bench.stdout = Some(File::options().write(true).open("/dev/full").unwrap());
        let says = "cannot write to stdout";
        let wrong = bench.wrong(args, Expected { code: 3, says });
        troubles.extend(wrong.map(|why| format!("{args:?}: {why}")));
    }
    assert!(troubles.is_empty(), "{}", troubles.join("\n"));
}

/// The smallest header that passes for a kernel's.
fn image(bytes: usize, size: u64) -> Vec<u8> {
    let mut image = vec![0; bytes.max(64)];
    image[16..24].copy_from_slice(&size.to_le_bytes());
    image[56..60].copy_from_slice(b"ARM\x64");
    image.truncate(bytes);
    image
}

#[test]
fn kernels_that_are_none() {
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("half a header", image(32, 4096)),
        ("a header without the last byte", image(63, 4096)),
        ("zeros", vec![0; 4096]),
        ("gzip", [&[0x1f, 0x8b, 8, 0][..], &[0; 4092]].concat()),
        ("ELF", [&b"\x7fELF\x02\x01\x01"[..], &[0; 4096]].concat()),
        ("text", b"#!/bin/sh\n".repeat(100)),
    ];
    let mut troubles = Vec::new();
    for (what, bytes) in rows {
        let bench = Bench::new();
        fs::write(bench.path().join("Image"), bytes).unwrap();
        for kernel in ["./Image", "."] {
            let expected = Expected {
                code: 2,
                says: "kernel `",
            };
            let wrong = bench.wrong(&["run", "boot", "--kernel", kernel], expected);
            troubles.extend(wrong.map(|why| format!("{what}, {kernel}: {why}")));
        }
    }
    assert!(troubles.is_empty(), "{}", troubles.join("\n"));
}
