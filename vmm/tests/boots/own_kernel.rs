// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Kernels that the user brings, and kernel command lines.

use std::fs;
use std::path::PathBuf;

use staleline::requirements;
use staleline::run::stacks::KernelRow;
use staleline::run::wiring::Production;
use staleline::scenario::{Scenario, builtin};
use staleline_results::Verdict;
use tempfile::TempDir;

use crate::support::{self, run};

/// The directory of base's kernel in the cache.
fn base() -> PathBuf {
    support::need_kernel("base");
    let kernels: Vec<KernelRow> = Production::default().kernels().unwrap();
    let base = kernels.into_iter().find(|k| k.name == "base").unwrap();
    base.image.unwrap().parent().unwrap().to_owned()
}

/// What Kconfig has made of base's configuration has it all, too.
#[test]
fn base_lacks_nothing_that_any_scenario_needs() {
    let dir = base();
    let found = requirements::config::find(&dir.join("Image"), &[dir.join("config")]);
    let found = found.unwrap().unwrap();
    for name in builtin::names() {
        let scenario = Scenario::load(name).unwrap();
        // PCI takes a configuration of its own.
        if scenario.board.pci.is_some() {
            continue;
        }
        let lacks = requirements::lacks(&found.config, &scenario);
        assert!(lacks.is_empty(), "{name}: {lacks:?}");
    }
}

#[test]
fn a_command_line_of_the_users_is_the_guests_and_the_replays() {
    for scenario in ["iio-capture", "usb-loopback"] {
        let quiet = run(&[scenario]);
        let quiet = quiet.ends(0, Verdict::Pass);
        let run = run(&[scenario, "--append", "loglevel=8 initcall_debug"]);
        let result = run.ends(0, Verdict::Pass);
        assert_eq!(result.append, "loglevel=8 initcall_debug");
        assert_ne!(result.run_hash, quiet.run_hash);
        assert!(
            result
                .replay
                .contains("--append 'loglevel=8 initcall_debug'"),
            "{}",
            result.replay
        );
        // Messages of all levels are there, whole, and the command line as the kernel has it.
        let console = fs::read_to_string(run.path().join("console.log")).unwrap();
        for said in [
            "panic=-1 loglevel=8 initcall_debug",
            "calling  axi_dmac_driver_init",
            "initcall axi_dmac_driver_init",
        ] {
            assert!(console.contains(said), "{said}: {console}");
        }
        let spec = fs::read_to_string(run.path().join("run.json")).unwrap();
        assert!(
            spec.contains("\"append\": \"loglevel=8 initcall_debug\""),
            "{spec}"
        );

        let (code, told) = run.replay(&[]);
        assert_eq!(code, 0, "{told}");
        let (code, told) = run.replay(&["--append", "cma=8M"]);
        assert_eq!(code, 1, "{told}");
        assert!(told.contains("append") && told.contains("cma=8M"), "{told}");
    }
}

/// A directory with a copy of base's `Image`, and what a run of it comes to.
struct Copy(TempDir);

impl Copy {
    fn new() -> Self {
        let copy = Copy(tempfile::tempdir().unwrap());
        fs::copy(base().join("Image"), copy.0.path().join("Image")).unwrap();
        copy
    }

    fn configured(&self, change: impl Fn(String) -> String) {
        let config = fs::read_to_string(base().join("config")).unwrap();
        fs::write(self.0.path().join(".config"), change(config)).unwrap();
    }

    fn run(&self) -> support::Run {
        run(&["iio-capture", "--kernel", self.0.path().to_str().unwrap()])
    }
}

#[test]
fn an_image_without_a_configuration_is_run_with_a_note() {
    let copy = Copy::new();
    let result = copy.run().ends(0, Verdict::Pass);
    let note = "whether the kernel has all that the run needs was not looked at";
    assert!(
        result.notes.iter().any(|n| n.contains(note)),
        "{:?}",
        result.notes
    );

    copy.configured(|config| config);
    let result = copy.run().ends(0, Verdict::Pass);
    assert!(
        !result.notes.iter().any(|n| n.contains(note)),
        "{:?}",
        result.notes
    );
}

#[test]
fn what_a_kernel_lacks_is_told_before_it_boots() {
    let copy = Copy::new();
    copy.configured(|config| {
        let config = config.replace("CONFIG_AXI_DMAC=y", "# CONFIG_AXI_DMAC is not set");
        config.replace(
            "CONFIG_DMABUF_HEAPS_SYSTEM=y",
            "CONFIG_DMABUF_HEAPS_SYSTEM=m",
        )
    });
    let run = copy.run();
    assert_eq!(run.code, 2, "{}", run.stderr);
    for told in [
        "CONFIG_AXI_DMAC=y, for the driver of axi-dmac-rx",
        "CONFIG_DMABUF_HEAPS_SYSTEM=y (it is a module, and the run loads none), for the exporter system",
    ] {
        assert!(run.stderr.contains(told), "{}", run.stderr);
    }
    assert!(!run.path().exists());
}
