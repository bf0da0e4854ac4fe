// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Boards as the user describes them: files with settings, overlays on the device tree.

use std::fs;

use staleline_results::Verdict;

use super::exec::{compile, exec};
use crate::support::{self, run};

/// Exits with 0 if the tree says this of the USB controller.
const LOOKS: &str = r#"
#include <glob.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv)
{
	char said[64] = "";
	glob_t found;
	FILE *file;
	if (glob("/proc/device-tree/dwc3@*/note", 0, NULL, &found))
		return 2;
	file = fopen(found.gl_pathv[0], "r");
	if (!file || !fgets(said, sizeof(said), file))
		return 3;
	puts(said);
	return strcmp(said, argv[1]) != 0;
}
"#;

#[test]
fn an_overlay_is_part_of_the_tree_and_of_the_result() {
    let dir = tempfile::tempdir().unwrap();
    let overlay = dir.path().join("a note.dtso");
    let say = |what: &str| {
        let source = format!("/dts-v1/; /plugin/; &dwc3 {{ note = \"{what}\"; }};");
        fs::write(&overlay, source).unwrap();
    };
    say("first");
    let program = compile(&dir, "looks", LOOKS, &["-static"]);
    let overlay_option = ["--dtb-overlay", overlay.to_str().unwrap()];
    let program = ["--", program.to_str().unwrap(), "first"];
    let run = exec(&[&overlay_option[..], &program].concat());
    let result = run.ends(0, Verdict::Pass);
    assert!(run.stdout.contains("first"), "{}", run.stdout);
    let given = result.inputs.iter().find(|i| i.guest.contains("overlay"));
    assert!(given.unwrap().host.ends_with("a note.dtso"));
    assert_eq!(run.replay(&[]).0, 0);
    say("second");
    let (code, told) = run.replay(&[]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("device tree, overlay 1"), "{told}");
}

#[test]
fn a_board_file_is_as_good_as_its_settings() {
    support::need_kernel("base");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("my board.toml");
    fs::write(&file, "[usb]\nport = \"hpc\"\ndma-coherent = false\n").unwrap();
    let run = run(&["usb-loopback", "--board", file.to_str().unwrap()]);
    let result = run.ends(1, Verdict::Fail);
    // What replays it needs no file.
    assert!(!result.replay.contains("my board"), "{}", result.replay);
    fs::remove_file(&file).unwrap();
    assert_eq!(run.replay(&[]).0, 0);
}
