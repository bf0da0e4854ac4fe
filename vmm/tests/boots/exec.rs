// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Programs of the user's in the guest.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use staleline_results::{HazardKind, Verdict};
use tempfile::TempDir;

use crate::support::{self, Run};

/// Compiles a program for the guest.
pub fn compile(dir: &TempDir, name: &str, source: &str, options: &[&str]) -> PathBuf {
    let (source_file, program) = (dir.path().join(format!("{name}.c")), dir.path().join(name));
    std::fs::write(&source_file, source).unwrap();
    let compiler = match cfg!(target_arch = "aarch64") {
        true => "gcc",
        false => "aarch64-linux-gnu-gcc",
    };
    let mut gcc = Command::new(compiler);
    gcc.args(["-g", "-O1", "-o"])
        .arg(&program)
        .arg(&source_file);
    let status = gcc.args(options).status().unwrap();
    assert!(status.success(), "{compiler} of {name}");
    program
}

/// `staleline exec` with these words.
#[track_caller]
pub fn exec(words: &[&str]) -> Run {
    support::need_kernel("base");
    let split = words.iter().position(|w| *w == "--").unwrap();
    let (options, program) = words.split_at(split);
    let dir = tempfile::tempdir().unwrap();
    let mut command = support::staleline();
    command
        .arg("exec")
        .args(options)
        .arg("--out")
        .arg(dir.path().join("out"));
    support::finish_with(command, program, words, dir)
}

const TALKS: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <string.h>
int main(int argc, char **argv)
{
	char line[80] = "";
	FILE *file = fopen("/etc/words", "r");
	if (file)
		fgets(line, sizeof(line), file);
	printf("%s, %s: %s", argv[1], getenv("WHO"), line);
	fprintf(stderr, "to stderr\n");
	fflush(stdout);
	if (!strcmp(argv[2], "abort"))
		abort();
	return atoi(argv[2]);
}
"#;

#[test]
fn a_program_runs_as_it_would_at_home() {
    let dir = tempfile::tempdir().unwrap();
    let words = dir.path().join("words");
    std::fs::write(&words, "from a file\n").unwrap();
    let file = format!("{}:/etc/words", words.display());
    for linked in [&[][..], &["-static"]] {
        let program = compile(&dir, "talks", TALKS, linked);
        let program = program.to_str().unwrap();
        let with = |code| {
            exec(&[
                "--file", &file, "--env", "WHO=me", "--", program, "a b", code,
            ])
        };
        let run = with("0");
        let result = run.ends(0, Verdict::Pass);
        assert!(
            run.stdout.contains("a b, me: from a file\n"),
            "{}",
            run.stdout
        );
        assert!(run.stderr.contains("to stderr\n"), "{}", run.stderr);
        assert_eq!(result.guest.program.unwrap().code, Some(0));
        let given = |guest: &str| result.inputs.iter().any(|i| i.guest == guest);
        assert!(given("/root/talks") && given("/etc/words"));
        assert_eq!(given("/lib/libc.so.6"), linked.is_empty());

        let result = with("3").ends(1, Verdict::Fail);
        assert_eq!(result.reasons, ["/root/talks ended with exit code 3"]);
        let result = with("abort").ends(1, Verdict::Fail);
        assert_eq!(result.reasons, ["/root/talks was ended by signal 6"]);
    }
}

/// The device is not even started: only what the program does counts.
const SIGNALS: &str = r#"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static void *wait_on(void *data)
{
	for (;;)
		pause();
	return data;
}
int main(int argc, char **argv)
{
	pthread_t thread;
	if (!strcmp(argv[1], "die"))
		raise(SIGRTMIN + 2);
	pthread_create(&thread, NULL, wait_on, NULL);
	usleep(1000);
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	puts("joined");
	return 0;
}
"#;

/// glibc cancels threads by a signal that has no name.
#[test]
fn signals_for_real_time_are_signals() {
    let dir = tempfile::tempdir().unwrap();
    let options = ["-static", "-pthread"];
    let program = compile(&dir, "signals", SIGNALS, &options);
    let program = program.to_str().unwrap();
    let run = exec(&["--timeout", "30", "--", program, "cancel"]);
    assert_eq!(
        (run.code, run.stdout.starts_with("joined\n")),
        (0, true),
        "{}",
        run.stdout
    );
    let run = exec(&["--timeout", "30", "--", program, "die"]);
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(
        run.stdout.contains("was ended by signal 36"),
        "{}",
        run.stdout
    );
}

const STOPS: &str = r#"
#include <signal.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void)
{
	unsigned char bytes[16];
	int status = 0;
	pid_t child;

	if (getrandom(bytes, sizeof(bytes), GRND_NONBLOCK) != sizeof(bytes))
		return 1;
	child = fork();
	if (!child) {
		raise(SIGSTOP);
		_exit(3);
	}
	if (waitpid(child, &status, WUNTRACED) != child || !WIFSTOPPED(status))
		return 2;
	kill(child, SIGCONT);
	if (waitpid(child, &status, WCONTINUED) != child || !WIFCONTINUED(status))
		return 3;
	waitpid(child, &status, 0);
	puts("went on");
	return WEXITSTATUS(status);
}
"#;

/// A debugger of its own, or a shell with jobs, sees the same of its children as at home; and nobody has to
/// wait for random numbers.
#[test]
fn a_process_that_stops_is_stopped_until_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let program = compile(&dir, "stops", STOPS, &["-static"]);
    let run = exec(&["--timeout", "30", "--", program.to_str().unwrap()]);
    let result = run.ends(1, Verdict::Fail);
    assert!(run.stdout.starts_with("went on\n"), "{}", run.stdout);
    assert_eq!(result.reasons, ["/root/stops ended with exit code 3"]);
}

const ALL_BYTES: &str = r#"
#include <stdio.h>
int main(void)
{
	for (int byte = 0; byte < 256; byte++)
		putchar(byte);
	fputs("and no new line", stdout);
	return 0;
}
"#;

#[test]
fn what_a_program_writes_comes_byte_for_byte() {
    support::need_kernel("base");
    let dir = tempfile::tempdir().unwrap();
    let program = compile(&dir, "all", ALL_BYTES, &["-static"]);
    let run = |format: &str| {
        let mut command = support::staleline();
        command.args(["exec", "--format", format, "--out"]);
        command.arg(dir.path().join(format)).arg("--").arg(&program);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        output
    };
    let written: Vec<u8> = (0..=255).chain(*b"and no new line\n").collect();
    // A line of the report begins behind it.
    let output = run("human");
    assert!(output.stdout.starts_with(&written), "{output:?}");
    // And no other format is broken by it.
    let output = run("json");
    assert!(
        serde_json::from_slice::<serde_json::Value>(&output.stdout).is_ok(),
        "{output:?}"
    );
    let told = output.stderr.windows(written.len()).any(|w| w == written);
    assert!(told, "{output:?}");
}

#[test]
fn the_same_program_is_the_same_run_and_another_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let program = compile(&dir, "talks", TALKS, &[]);
    let run = exec(&["--", program.to_str().unwrap(), "x", "0"]);
    let first = run.ends(0, Verdict::Pass);
    let (code, told) = run.replay(&[]);
    assert_eq!(code, 0, "{told}");
    compile(&dir, "talks", &TALKS.replace("to stderr", "elsewhere"), &[]);
    let (code, told) = run.replay(&[]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("/root/talks"), "{told}");
    assert!(first.run_hash.is_some());
}

#[test]
fn what_the_guest_cannot_run_is_a_mistake_of_the_user() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text");
    std::fs::write(&text, "no program").unwrap();
    let script = dir.path().join("script");
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    let text = text.to_str().unwrap();
    let fails = |words: &[&str], why: &str| {
        let mut command = support::staleline();
        let out = command
            .arg("exec")
            .args(words)
            .current_dir(&dir)
            .output()
            .unwrap();
        let told = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{told}");
        assert!(told.contains(why), "{told}");
    };
    fails(&["--", text], "no 64-bit ELF file");
    fails(&["--", "./nothing"], "nothing");
    fails(&["--", "./script"], "it is a script");
    let program = compile(&dir, "talks", TALKS, &["-static"]);
    let program = program.to_str().unwrap();
    fails(&["--file", "missing", "--", program], "missing");
    fails(&["--env", "X", "--", program], "NAME=VALUE");
    fails(
        &["--", "/bin/sh"],
        if cfg!(target_arch = "aarch64") {
            ""
        } else {
            "arm64"
        },
    );
    fails(&["--set", "transfer.path=iio-capture", "--", program], "");
    // Of a file system that the guest is given, it is one that is there and can be executed.
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("usr/bin")).unwrap();
    std::os::unix::fs::symlink("usr/bin", root.join("bin")).unwrap();
    let there = root.join("usr/bin/there");
    std::fs::copy(program, &there).unwrap();
    std::fs::set_permissions(&there, std::fs::Permissions::from_mode(0o644)).unwrap();
    fails(
        &["--root", "root", "--", "nothing"],
        "it is in none of /usr/local/sbin:",
    );
    fails(&["--root", "root", "--", "/opt/there"], "no such file in");
    fails(&["--root", "root", "--", "there"], "chmod +x");
    std::fs::set_permissions(&there, std::fs::Permissions::from_mode(0o755)).unwrap();
    exec(&["--root", root.to_str().unwrap(), "--", "there", "x", "0"]).ends(0, Verdict::Pass);
}

pub fn example(dir: &TempDir, name: &str) -> PathBuf {
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images");
    let source = std::fs::read_to_string(images.join("examples").join(format!("{name}.c")));
    let include = format!("-I{}", images.join("guest/include").display());
    compile(dir, name, &source.unwrap(), &[&include])
}

#[test]
fn the_examples_are_right_and_wrong_as_they_say() {
    let dir = tempfile::tempdir().unwrap();
    for (name, wrong, kind) in [
        ("capture", "-n", HazardKind::MissingInvalidate),
        ("playback", "-n", HazardKind::MissingClean),
    ] {
        let program = example(&dir, name);
        let program = program.to_str().unwrap();
        let run = |kernel, rest: &[&str]| {
            support::need_kernel(kernel);
            exec(&[&["--kernel", kernel, "--", program], rest].concat())
        };
        run("base", &[]).ends(0, Verdict::Pass);
        // By instructions of its own.
        run("base", &["-u"]).ends(0, Verdict::Pass);
        run("begin-end-access", &[]).ends(0, Verdict::Pass);
        // There the importer does what SYNC would have done.
        run("begin-end-access", &[wrong]).ends(0, Verdict::Pass);
        let run = run("base", &[wrong]);
        let result = run.ends(1, Verdict::Fail);
        assert_eq!(support::kinds_of(&result), [kind]);
        // The user's own file and line.
        assert!(run.stdout.contains(&format!("{name}.c:")), "{}", run.stdout);
        // And what stands there.
        let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/guest/include");
        let files = [
            dir.path().join(format!("{name}.c")),
            header.join("staleline.h"),
        ];
        let source = files.map(|file| std::fs::read_to_string(file).unwrap());
        let source = source.concat();
        let shown = run.stdout.lines().find_map(|l| l.trim().strip_prefix("| "));
        let shown = shown.unwrap_or_else(|| panic!("{}", run.stdout));
        assert!(source.lines().any(|l| l.trim() == shown), "{shown}");
    }
}
