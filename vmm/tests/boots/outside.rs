// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What programs of the user's move between the guest and what is outside of it, and who holds them to it.

use staleline_initramfs::build_example;
use staleline_results::{Data, HazardKind, Verdict};
use staleline_support::cache::CacheDir;
use staleline_support::progress::Quiet;

use crate::exec::{compile, example, exec};
use crate::support::{self, CACHES, WRITES, side_by_side};

/// What the examples move.
const FRAMES: u64 = 8 * 16384;
const RELAYED: u64 = 16 * 4096;

/// Ends that had to check something: who, how much they had to, and have.
fn ends(data: &Data) -> Vec<(&str, u64, u64)> {
    let ends = data.ends.iter();
    ends.map(|e| (&*e.name, data.due(e), e.covered())).collect()
}

fn sources(data: &Data) -> Vec<(&str, u64, u64)> {
    let sources = data.sources.iter();
    sources.map(|s| (&*s.name, s.planned, s.moved)).collect()
}

fn relay() -> String {
    let cache = CacheDir::from_environment().unwrap();
    let built = build_example("relay", &cache, &Quiet).unwrap();
    built.to_str().unwrap().to_owned()
}

#[test]
fn a_program_in_rust_passes_frames_on() {
    let relay = relay();
    let run = |kernel: &str, rest: &[&str]| {
        support::need_kernel(kernel);
        let options = [
            "--kernel", kernel, "--iio", "rx=65536", "--gadget", "in=65536",
        ];
        exec(&[&options[..], &["--", &relay], rest].concat())
    };
    let passed = run("base", &[]);
    let result = passed.ends(0, Verdict::Pass);
    assert_eq!(ends(&result.data), [("usb-host", RELAYED, RELAYED)]);
    assert_eq!(sources(&result.data), [("adc", RELAYED, RELAYED)]);
    assert_eq!((result.data.planned, result.data.bytes), (RELAYED, RELAYED));
    for told in ["ended with exit code 0", "65536 of 65536 bytes checked"] {
        assert!(passed.stdout.contains(told), "{}", passed.stdout);
    }

    let result = run("base", &["-n"]).ends(1, Verdict::Fail);
    assert_eq!(support::kinds_of(&result), [HazardKind::MissingInvalidate]);
    let host = &result.data.ends[0];
    assert!(host.corrupt > 0, "{host:?}");
    // There the importers do what SYNC would have done.
    run("begin-end-access", &["-n"]).ends(0, Verdict::Pass);
}

#[test]
fn two_at_a_time_all_examples_pass_under_every_policy() {
    let dir = tempfile::tempdir().unwrap();
    support::need_kernel("begin-end-access");
    let [capture, playback] = ["capture", "playback"].map(|name| example(&dir, name));
    let relay = relay();
    let programs: [(&str, &[&str]); 3] = [
        (capture.to_str().unwrap(), &["--iio", "rx=131072"]),
        (playback.to_str().unwrap(), &["--iio", "tx=131072"]),
        (&relay, &["--iio", "rx=65536", "--gadget", "in=65536"]),
    ];
    let policies = CACHES.map(|cache| WRITES.map(|write| [cache, write]));
    let cases = programs.into_iter().flat_map(|program| {
        let policies = policies.as_flattened().iter();
        policies.map(move |policy| (program, *policy))
    });
    let cases: Vec<_> = cases.collect();
    side_by_side(&cases, |case| {
        let ((program, options), [cache, write]) = *case;
        let kernel = ["--kernel", "begin-end-access"];
        let options = [&kernel[..], &["--set", cache, "--set", write], options].concat();
        for wrong in [&[][..], &["-n"]] {
            let run = exec(&[&options[..], &["--", program], wrong].concat());
            let result = run.ends(0, Verdict::Pass);
            assert!(result.hazards.is_empty(), "{}", result.replay);
            assert_eq!(result.data.bytes, result.data.planned, "{}", result.replay);
        }
    });
}

#[test]
fn a_converter_holds_a_program_to_what_it_was_to_move() {
    let dir = tempfile::tempdir().unwrap();
    let [capture, playback] = ["capture", "playback"].map(|name| example(&dir, name));
    let (capture, playback) = (capture.to_str().unwrap(), playback.to_str().unwrap());
    let result = exec(&["--iio", "tx=131072", "--", playback]).ends(0, Verdict::Pass);
    assert_eq!(ends(&result.data), [("dac", FRAMES, FRAMES)]);
    let result = exec(&["--iio", "rx=131072", "--", capture]).ends(0, Verdict::Pass);
    assert_eq!(sources(&result.data), [("adc", FRAMES, FRAMES)]);
    assert_eq!(result.data.planned, 0);

    let result = exec(&["--iio", "tx=131080", "--", playback]).ends(3, Verdict::InfraError);
    assert_eq!(result.reasons, ["dac checked 131072 of 131080 bytes"]);
    let result = exec(&["--iio", "rx=131080", "--", capture]).ends(3, Verdict::InfraError);
    assert_eq!(result.reasons, ["adc sent 131072 of 131080 bytes"]);
    // What is found counts more, and so does what the program says itself.
    let result = exec(&["--iio", "tx=131080", "--", playback, "-n"]).ends(1, Verdict::Fail);
    assert!(result.data.corrupt_bytes > 0);
    let short = ["--iio", "tx=131072", "--", playback, "-f", "x"];
    exec(&short).ends(3, Verdict::InfraError);
    let result = exec(&["--iio", "tx=8", "--", playback, "-?"]).ends(1, Verdict::Fail);
    assert!(
        result.reasons[0].contains("exit code 2"),
        "{:?}",
        result.reasons
    );
}

/// Takes and gives what its arguments say: the letter `r` reads a block, `w` writes the next one of the
/// pattern, `e` reads one and sends it back, and `x` writes a wrong one. Checks what it reads.
const TALKS: &str = r#"
#include <staleline.h>

#define BLOCK 16384

static unsigned char block[BLOCK];

static void take(int fd, uint64_t at)
{
	size_t got = 0;
	ssize_t n;

	while (got < BLOCK) {
		n = read(fd, block + got, BLOCK - got);
		if (n <= 0)
			stl_die(-errno, "read");
		got += n;
	}
	if (stl_pattern_check(stl_seed(), at, block, BLOCK, NULL))
		exit(1);
}

static void give(int fd)
{
	if (write(fd, block, BLOCK) != BLOCK)
		stl_die(-errno, "write");
}

int main(int argc, char **argv)
{
	int to_host = open("/dev/ffs/ep1", O_RDWR), from_host = open("/dev/ffs/ep2", O_RDWR);
	uint64_t taken = 0, given = 0;
	const char *what;

	if (argc < 2 || to_host < 0 || from_host < 0)
		stl_die(-errno, "/dev/ffs");
	for (what = argv[1]; *what; what++) {
		if (*what == 'r' || *what == 'e') {
			take(from_host, taken);
			taken += BLOCK;
		}
		if (*what == 'w')
			stl_pattern_fill(stl_seed(), given, block, BLOCK);
		if (*what == 'x')
			memset(block, 0x55, BLOCK);
		if (*what != 'r') {
			give(to_host);
			given += BLOCK;
		}
	}
	return 0;
}
"#;

#[test]
fn the_host_holds_a_program_to_what_it_was_to_move() {
    let dir = tempfile::tempdir().unwrap();
    let include = format!("-I{}/../images/guest/include", env!("CARGO_MANIFEST_DIR"));
    let talks = compile(&dir, "talks", TALKS, &[&include]);
    let run =
        |gadget: &str, what: &str| exec(&["--gadget", gadget, "--", talks.to_str().unwrap(), what]);
    let result = run("in=32768,out=49152", "rrrww").ends(0, Verdict::Pass);
    assert_eq!(ends(&result.data), [("usb-host", 32768, 32768)]);
    assert_eq!(sources(&result.data), [("usb-host", 49152, 49152)]);
    for speed in ["super", "high", "full"] {
        let gadget = format!("loopback=49152,speed={speed}");
        let result = run(&gadget, "eee").ends(0, Verdict::Pass);
        assert_eq!(ends(&result.data), [("usb-host", 49152, 49152)]);
    }
    // Wrong data.
    let wrong = run("in=32768", "wx");
    let result = wrong.ends(1, Verdict::Fail);
    assert!(result.data.corrupt_bytes > 16000, "{:?}", result.data);
    assert!(wrong.stdout.contains("corrupt-data"), "{}", wrong.stdout);
    // Too little of it, each way.
    let result = run("in=32768", "w").ends(3, Verdict::InfraError);
    assert_eq!(result.reasons, ["usb-host checked 16384 of 32768 bytes"]);
    let result = run("out=32768", "r").ends(3, Verdict::InfraError);
    assert_eq!(result.reasons, ["usb-host sent 16384 of 32768 bytes"]);
    // The program's own word counts, though it has left much undone.
    let seed = exec(&[
        "--gadget",
        "out=32768",
        "--env",
        "STALELINE_SEED=9",
        "--",
        talks.to_str().unwrap(),
        "rr",
    ]);
    let result = seed.ends(1, Verdict::Fail);
    assert!(
        result.reasons[0].ends_with("exit code 1"),
        "{:?}",
        result.reasons
    );
}

#[test]
fn a_scenario_says_the_same_and_a_replay_does_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let include = format!("-I{}/../images/guest/include", env!("CARGO_MANIFEST_DIR"));
    compile(&dir, "talks", TALKS, &[&include]);
    let file = dir.path().join("own.toml");
    let text = r#"
schema = 1
name = "own"
description = "Sends two blocks to the host."
[guest]
exec = ["talks", "ww"]
gadget = { in = 32768 }
[usb]
speed = "high"
"#;
    std::fs::write(&file, text).unwrap();
    let run = support::run(&[file.to_str().unwrap()]);
    run.ends(0, Verdict::Pass);
    let (code, told) = run.replay(&[]);
    assert_eq!(code, 0, "{told}");
}
