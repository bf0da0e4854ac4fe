// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! An installation, as `cargo xtask dist` lays it out, wherever that is.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use staleline_initramfs::build_agent;
use staleline_support::cache::CacheDir;
use staleline_support::progress::Quiet;

use crate::support::{need_kernel, staleline};

fn copy(from: &Path, to: PathBuf) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, &to).unwrap();
}

/// Files of the source tree, as they stand there.
fn copy_tree(name: &str, to: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for entry in walkdir::WalkDir::new(root.join(name)) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let own = entry.path().strip_prefix(&root).unwrap();
            copy(entry.path(), to.join(own));
        }
    }
}

#[test]
fn an_installation_needs_no_checkout_and_may_stand_anywhere() {
    need_kernel("base");
    let dir = tempfile::tempdir().unwrap();
    let prefix = dir.path().join("a place");
    let cache = CacheDir::from_environment().unwrap();

    let built = staleline();
    let plugin = built
        .get_envs()
        .find(|(name, _)| *name == OsStr::new("STALELINE_TCG_PLUGIN"));
    let plugin = Path::new(plugin.unwrap().1.unwrap());
    let program = prefix.join("bin/staleline");
    copy(Path::new(built.get_program()), program.clone());
    copy(
        plugin,
        prefix
            .join("lib/staleline")
            .join(plugin.file_name().unwrap()),
    );
    let share = prefix.join("share/staleline");
    let agent = build_agent(&cache, &Quiet).unwrap();
    copy(&agent, share.join("agent/staleline-agent"));
    // Any program for arm64 will do, as long as nobody runs it.
    copy(&agent, share.join("kvm/staleline-kvm"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let header = "include/staleline.h";
    copy(&root.join("images/guest").join(header), prefix.join(header));
    for tree in ["config", "stacks", "mutants"] {
        copy_tree(&format!("guest-kernel/{tree}"), &share);
    }

    let command = |words: &[&str]| {
        let mut command = Command::new(&program);
        command
            .args(words)
            .current_dir(dir.path())
            .env_clear()
            .env("HOME", dir.path())
            .env("XDG_CACHE_HOME", cache.path().parent().unwrap());
        // QEMU's place is this machine's business.
        for name in ["PATH", "STALELINE_QEMU"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.output().unwrap()
    };
    let doctor = command(&["doctor", "--format", "json"]);
    let found: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let places = found["places"].as_array().unwrap();
    let names = [
        "own files",
        "kernel stacks",
        "guest agent",
        "QEMU plugin",
        "VMM",
        "C header",
    ];
    for name in names {
        let place = places.iter().find(|p| p["name"] == name).unwrap();
        let at = Path::new(place["at"].as_str().unwrap());
        assert!(at.starts_with(&prefix), "{place}");
    }
    let run = command(&["run", "iio-capture", "--out", "out"]);
    let told = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(0), "{told}");
    assert!(dir.path().join("out/result.json").is_file(), "{told}");
}
