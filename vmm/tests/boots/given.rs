// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What programs of the user's are given: standard input, libraries; and what of them is missing.

use std::fs::File;
use std::process::{Command, Stdio};

use staleline_results::{RunResult, Verdict};

use crate::exec::{compile, example, exec};
use crate::support;

const COPIES: &str = r#"
#include <stdio.h>
int main(void)
{
	int c;
	while ((c = getchar()) != EOF)
		putchar(c);
	return 0;
}
"#;

fn input(result: &RunResult) -> Option<&str> {
    let all = result.inputs.iter();
    let mut stdin = all.filter(|input| input.guest == "/.staleline/stdin");
    stdin.next().map(|input| &*input.hash)
}

#[test]
fn standard_input_is_passed_on_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let program = compile(&dir, "copies", COPIES, &[]);
    let file = dir.path().join("text");
    let run = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let out = tempfile::tempdir().unwrap();
        let mut command = support::staleline();
        command.arg("exec").arg("--out").arg(out.path().join("out"));
        command.stdin(Stdio::from(File::open(&file).unwrap()));
        let rest = ["--", program.to_str().unwrap()];
        support::finish_with(command, &rest, &[text], out)
    };
    let first = run("from the host\n");
    let result = first.ends(0, Verdict::Pass);
    assert!(first.stdout.contains("from the host\n"), "{}", first.stdout);
    let hash = input(&result).unwrap().to_owned();
    let other = run("something else\n").ends(0, Verdict::Pass);
    assert_ne!(input(&other), Some(&*hash));
    assert_ne!(other.run_hash, result.run_hash);
    assert_eq!(input(&run("").ends(0, Verdict::Pass)), None);
    // Where it came from has gone on since.
    let (code, told) = first.replay(&[]);
    assert_eq!(code, 0, "{told}");

    std::fs::write(&file, "named\n").unwrap();
    let file = file.to_str().unwrap();
    let named = exec(&["--stdin", file, "--", program.to_str().unwrap()]);
    named.ends(0, Verdict::Pass);
    assert!(named.stdout.contains("named\n"), "{}", named.stdout);
}

#[test]
fn a_library_is_looked_for_where_people_say() {
    let dir = tempfile::tempdir().unwrap();
    let libraries = dir.path().join("own");
    std::fs::create_dir(&libraries).unwrap();
    let library = "int own(void) { return 0; }";
    let built = compile(&dir, "libown.so", library, &["-shared", "-fPIC"]);
    let library = libraries.join("libown.so");
    std::fs::rename(built, &library).unwrap();
    let libraries = libraries.to_str().unwrap();
    let program = compile(
        &dir,
        "uses",
        "int own(void); int main(void) { return own(); }",
        &["-L", libraries, "-lown"],
    );
    let program = program.to_str().unwrap();
    let mut without = support::staleline();
    let out = without.args(["exec", "--", program]).output().unwrap();
    let told = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{told}");
    assert!(told.contains("--library-path"), "{told}");
    let run = exec(&["--library-path", libraries, "--", program]);
    let result = run.ends(0, Verdict::Pass);
    assert!(
        result.replay.contains("--library-path"),
        "{}",
        result.replay
    );
    let given = result.inputs.iter();
    assert!(given.clone().any(|i| i.guest == "/lib/libown.so"));
}

#[test]
fn a_program_without_lines_is_told_how_to_have_some() {
    let dir = tempfile::tempdir().unwrap();
    let notes = |program: &str| {
        let result = exec(&["--", program, "-n"]).ends(1, Verdict::Fail);
        result.notes
    };
    let program = example(&dir, "capture");
    let program = program.to_str().unwrap();
    assert_eq!(notes(program), [""; 0]);
    let strip = match cfg!(target_arch = "aarch64") {
        true => "strip",
        false => "aarch64-linux-gnu-strip",
    };
    let stripped = Command::new(strip).arg("-g").arg(program).status();
    assert!(stripped.unwrap().success());
    let told = "files and lines of capture are missing, because it was compiled without -g";
    assert_eq!(notes(program), [told]);
}
