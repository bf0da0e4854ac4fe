// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Programs that know nothing of us: libiio's tools as Debian has them, and the kernel's own tests.
//!
//! The first take packages from Debian's mirror, which `scripts/test` puts into the cache; without them and
//! without a network, what is missing is told as the reason of the failure.

use std::path::Path;

use staleline_results::{HazardKind, RunResult, Verdict};

use crate::exec::{compile, exec};
use crate::exporters;
use crate::support::{self, Run};

/// A scenario of `ci/clients`, with these words.
#[track_caller]
fn client(name: &str, kernel: &str, words: &[&str]) -> Run {
    support::need_kernel(kernel);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../ci/clients/{name}.toml"));
    let file = file.display().to_string();
    support::run(&[&[&file, "--kernel", kernel], words].concat())
}

/// The results that one of the kernel's own tests has told: passed, failed, skipped.
fn told(result: &RunResult) -> (u32, u32, u32) {
    let program = result.guest.program.as_ref().unwrap();
    let test = program.selftest.as_ref().unwrap();
    (test.passed, test.failed, test.skipped)
}

#[track_caller]
fn all_is_right(result: &RunResult, bytes: u64) {
    let data = &result.data;
    assert_eq!(
        (data.planned, data.bytes, data.corrupt_bytes),
        (bytes, bytes, 0)
    );
    assert!(result.hazards.is_empty());
    // Each with its version and the hash of what it is.
    let libiio = result
        .packages
        .iter()
        .find(|p| p.name == "libiio0")
        .unwrap();
    assert!(
        !libiio.version.is_empty() && libiio.hash.len() == 64,
        "{libiio:?}"
    );
    assert!(result.inputs.iter().any(|input| input.guest == "/"));
}

#[test]
fn iio_readdev_gets_what_the_adc_has_sampled() {
    for kernel in ["base", "begin-end-access"] {
        let run = client("iio-readdev", kernel, &[]);
        all_is_right(&run.ends(0, Verdict::Pass), 65536);
        // What says that it goes by read(): this kernel has not the block interface of ADI's.
        assert!(
            run.stderr.contains("High-speed mode not enabled"),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn iio_writedev_brings_it_to_the_dac() {
    let run = client("iio-relay", "base", &["--cache", "eager"]);
    all_is_right(&run.ends(0, Verdict::Pass), 65536);
}

#[test]
fn iiod_serves_it_on_the_guests_own_network() {
    let run = client("iiod", "base+userland", &["--cache", "random"]);
    all_is_right(&run.ends(0, Verdict::Pass), 65536);
}

/// Its blocks are coherent memory, which is not cleaned when it is handed out there.
#[test]
fn a_client_suffers_from_a_kernel_that_is_wrong() {
    let run = client(
        "iio-readdev",
        "base~prep-coherent-empty",
        &["--cache", "eager"],
    );
    let result = run.ends(1, Verdict::Fail);
    let kinds = support::kinds_of(&result);
    assert!(kinds.contains(&HazardKind::WritebackClobber), "{kinds:?}");
}

#[test]
fn the_kernels_test_of_its_heaps_passes() {
    let result = client("dmabuf-heaps", "base+userland", &[]).ends(0, Verdict::Pass);
    assert_eq!(told(&result), (22, 0, 0));
    // A heap that has too little for it.
    let run = client(
        "dmabuf-heaps",
        "base+userland",
        &["--set", "guest.append=cma=16M"],
    );
    let result = run.ends(1, Verdict::Fail);
    assert_eq!(told(&result).1, 1);
    assert!(
        result.reasons[0].contains("Allocation"),
        "{:?}",
        result.reasons
    );
    // Its own words are the run's output.
    assert!(
        run.stdout.contains("TAP version 13\n1..22\n"),
        "{}",
        run.stdout
    );
}

/// All but the last of its tests, for which it wants 2 GiB of huge pages: then it gives up.
#[test]
fn the_kernels_test_of_udmabuf_passes_as_far_as_it_gets() {
    let little = [
        "--set",
        "board.ram-mib=128",
        "--set",
        "guest.append=hugepages=0",
    ];
    let run = client("udmabuf", "begin-end-access+userland", &little);
    let result = run.ends(1, Verdict::Fail);
    assert_eq!(told(&result), (5, 0, 0));
    assert!(result.hazards.is_empty(), "{}", run.stdout);
    let reasons = result.reasons.join("\n");
    assert!(reasons.contains("exit code 1"), "{reasons}");
    assert!(reasons.contains("told 5 of 6 results"), "{reasons}");
}

#[test]
#[ignore = "8 boots, each of 11 GiB"]
fn the_kernels_test_of_udmabuf_passes_under_every_policy() {
    let kernels = ["base+userland", "begin-end-access+userland"];
    for result in exporters::matrix_with("udmabuf.toml", &kernels, 1) {
        assert!(result.hazards.is_empty(), "{}", result.replay);
        assert_eq!(told(&result), (6, 0, 0));
    }
}

/// The kernel has no /sys/kernel/debug/sync.
#[test]
fn a_test_that_skips_itself_has_not_passed() {
    let selftest = |name: &str| {
        let dir = tempfile::tempdir().unwrap();
        let mut command = support::staleline();
        let words = ["exec", "--selftest", name, "--out"];
        command.args(words);
        support::finish(command, &words, dir)
    };
    let result = selftest("sync:sync_test").ends(3, Verdict::InfraError);
    assert!(
        result.reasons[0].contains("was skipped"),
        "{:?}",
        result.reasons
    );
    for (none, why) in [
        ("sync:no-such-test", "sync_test"),
        ("no-such-collection:x", "no-such-collection"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = support::staleline();
        let command = command.args(["exec", "--selftest", none]);
        let out = command.current_dir(&dir).output().unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{said}");
        assert!(said.contains(why), "{said}");
    }
}

const WRITES: &str = r#"
#include <staleline.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	static char zeros[64];
	long left = atol(argv[1]);
	struct stl_buf buf;
	struct stl_iio adc;

	if (argc > 2) {
		stl_must(stl_iio_open(&adc, STL_IN));
		stl_must(stl_buf_alloc(&buf, STL_SYSTEM, 4096));
		stl_must(stl_iio_attach(&adc, &buf));
		stl_must(stl_iio_enqueue(&adc, &buf, 4096));
		stl_must(stl_iio_enable(&adc));
		stl_must(stl_wait(&buf, STL_READ, 1000));
	}
	for (; left > 0; left -= sizeof(zeros))
		if (write(1, zeros, sizeof(zeros)) < 0)
			return 1;
	return 0;
}
"#;

#[test]
fn output_that_is_not_what_the_adc_brings_is_corrupt_data() {
    let dir = tempfile::tempdir().unwrap();
    let headers = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/../images/guest/include");
    let program = compile(&dir, "writes", WRITES, &["-static", headers]);
    let program = program.to_str().unwrap();
    let run = |words: &[&str]| {
        let options = ["--iio", "rx=4096", "--check-output", "--", program];
        exec(&[&options[..], words].concat())
    };
    let result = run(&["4096", "captured"]).ends(1, Verdict::Fail);
    assert!(result.data.corrupt_bytes > 4000, "{:?}", result.data);
    // What the ADC has not brought, nobody can have got wrong.
    let result = run(&["4096"]).ends(3, Verdict::InfraError);
    let why = &result.reasons;
    let told = why
        .iter()
        .any(|r| r.contains("data that was not moved is not judged"));
    assert!(told, "{why:?}");
    // Nothing that was not written is judged.
    let result = run(&["0"]).ends(3, Verdict::InfraError);
    assert!(
        result
            .reasons
            .iter()
            .any(|r| r.contains("user checked 0 of 4096"))
    );
}

/// All of `ci/matrix/clients.toml`.
#[test]
#[ignore = "64 boots"]
fn two_at_a_time_real_clients_are_right_under_every_policy() {
    let kernels = [
        "base",
        "begin-end-access",
        "base+userland",
        "begin-end-access+userland",
    ];
    for result in exporters::matrix("clients.toml", &kernels) {
        assert!(result.hazards.is_empty(), "{}", result.replay);
    }
}
