// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the README shows is what the tool prints: each of its transcripts is made again, in order, in
//! one directory. Numbers differ from compiler to compiler and from run to run; words and order do not.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{need_kernel, staleline};

const README: &str = include_str!("../../../README.md");

/// The directory in which the README's programs are.
const HOME: &str = "/home/me";

const COMPILER: &str = "aarch64-linux-gnu-gcc ";

/// Where the sources are.
fn checkout() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().unwrap()
}

/// Compiles a program as the README does, from a checkout.
fn compile(options: &str, dir: &Path) {
    let headers = format!("-I{}/images", checkout().display());
    let options = options.replace("-Iimages", &headers);
    let compiler = match cfg!(target_arch = "aarch64") {
        true => "gcc",
        false => COMPILER.trim_end(),
    };
    let mut gcc = Command::new(compiler);
    gcc.args(options.split(' ')).current_dir(dir);
    assert!(gcc.status().unwrap().success(), "{gcc:?}");
}

/// A command, and what stands below it.
#[derive(Debug)]
struct Shown {
    command: String,
    output: String,
}

/// The transcripts of a document, in order.
fn transcripts(document: &str) -> Vec<Shown> {
    let mut all: Vec<Shown> = Vec::new();
    let (mut fenced, mut within) = (false, false);
    for line in document.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
            within = false;
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| fenced) {
            within = true;
            all.push(Shown {
                command: command.to_owned(),
                output: String::new(),
            });
        } else if let Some(shown) = all.last_mut().filter(|_| within) {
            shown.output += line;
            shown.output.push('\n');
        }
    }
    all
}

/// Its words, without the numbers in them.
fn words(text: &str) -> Vec<String> {
    let plain = |word: &str| {
        let mut plain = String::new();
        let mut digits = word.char_indices().peekable();
        while let Some((at, c)) = digits.next() {
            if !c.is_ascii_digit() {
                plain.push(c);
                continue;
            }
            // `961`, `0x40e12000`, `61924abdf21a996c`, `0.895`.
            let number = word[at..]
                .find(|c: char| !(c.is_ascii_hexdigit() || c == 'x' || c == '.'))
                .map_or(word.len(), |end| at + end);
            while digits.next_if(|(at, _)| *at < number).is_some() {}
            plain.push('N');
        }
        plain
    };
    // A hash may begin with a letter.
    let hash = |word: &&str| {
        let word = word.trim_end_matches(',');
        word.len() == 16 && word.chars().all(|c| c.is_ascii_hexdigit())
    };
    // In how many pieces a buffer was allocated differs, too.
    let stretch = |line: &&str| line.starts_with("              0x") && line.contains("..0x");
    let lines = text.lines().filter(|line| !stretch(line));
    lines
        .flat_map(str::split_whitespace)
        .map(|word| match hash(&word) {
            true => "N,".to_owned(),
            false => plain(word),
        })
        .collect()
}

/// Where `printed` is not as `shown`, of which a line of three dots stands for any.
fn differs(shown: &str, printed: &str) -> Option<String> {
    let (before, after) = match shown.split_once("\n  ...\n") {
        Some((before, after)) => (words(before), Some(words(after))),
        None => (words(shown), None),
    };
    let printed = words(printed);
    let (start, end) = match &after {
        None => (&printed[..], &printed[..0]),
        Some(after) => printed.split_at(printed.len().saturating_sub(after.len())),
    };
    let start = match after {
        Some(_) => &start[..start.len().min(before.len())],
        None => start,
    };
    let pairs = [
        (&before[..], start),
        (after.as_deref().unwrap_or_default(), end),
    ];
    pairs.into_iter().find_map(|(shown, printed)| {
        let at = (0..shown.len().max(printed.len())).find(|n| shown.get(*n) != printed.get(*n))?;
        let around = |words: &[String]| {
            let from = at.saturating_sub(8).min(words.len());
            words[from..words.len().min(at + 8)].join(" ")
        };
        Some(format!(
            "shown:   {}\nprinted: {}",
            around(shown),
            around(printed)
        ))
    })
}

/// The address of the first finding of a run: addresses are the compiler's, too.
fn first_address(dir: &Path) -> String {
    let text = std::fs::read_to_string(dir.join("result.json")).unwrap();
    let result: serde_json::Value = serde_json::from_str(&text).unwrap();
    result["hazards"][0]["first_pa"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Whether a transcript is of a matrix from a checkout: it takes kernels that are not built for other tests.
fn is_of_a_matrix(shown: &Shown) -> bool {
    let command = &shown.command;
    command.starts_with("staleline matrix ci/") || command.starts_with("staleline compare costs ")
}

#[test]
fn the_transcripts_of_the_readme_are_what_is_printed() {
    need_kernel("base");
    need_kernel("begin-end-access");
    let mut shown = transcripts(README);
    shown.retain(|s| !is_of_a_matrix(s));
    let commands = shown.iter().filter(|s| s.command.starts_with("staleline "));
    assert!(commands.count() >= 6, "{shown:#?}");
    let dir = tempfile::tempdir().unwrap();
    are_printed(&shown, dir.path());
}

#[test]
#[ignore = "builds the kernels map-unmap, exporter-syncs and device-to-device, unless they are built"]
fn the_costs_in_the_readme_are_what_is_printed() {
    let mut shown = transcripts(README);
    shown.retain(is_of_a_matrix);
    assert!(shown.len() >= 2, "{shown:#?}");
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(checkout().join("ci"), dir.path().join("ci")).unwrap();
    are_printed(&shown, dir.path());

    // The action that depends on both devices passes wherever begin-end-access does, maintains no more lines
    // anywhere, and fewer somewhere.
    let mut compare = staleline();
    let by = "kernel=begin-end-access,device-to-device";
    compare.args(["compare", "costs", "costs", "--format", "json", "--by", by]);
    let compared = compare.current_dir(dir.path()).output().unwrap();
    assert_eq!(compared.status.code(), Some(1));
    let compared: serde_json::Value = serde_json::from_slice(&compared.stdout).unwrap();
    let cells = compared["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 6, "{cells:#?}");
    let lines = |cell: &serde_json::Value| {
        let lines = &cell["lines"]["lines"];
        (lines["a"].as_u64().unwrap(), lines["b"].as_u64().unwrap())
    };
    for cell in cells {
        assert_eq!(
            cell["verdict"],
            serde_json::json!(["pass", "pass"]),
            "{cell}"
        );
        let (a, b) = lines(cell);
        assert!(b <= a, "{cell}");
    }
    assert!(cells.iter().map(lines).any(|(a, b)| b < a), "{cells:#?}");
}

/// Makes the transcripts again, in order, in a directory.
fn are_printed(shown: &[Shown], dir: &Path) {
    for Shown { command, output } in shown {
        if let Some(file) = command.strip_prefix("cat ") {
            std::fs::write(dir.join(file), output).unwrap();
            continue;
        }
        if let Some(options) = command.strip_prefix(COMPILER) {
            compile(options, dir);
            continue;
        }
        let arguments = command.strip_prefix("staleline ").unwrap_or_else(|| {
            panic!("`{command}` is no command that a test could run");
        });
        let mut arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        if let Some(at) = arguments.iter().position(|a| a.starts_with("0x")) {
            arguments[at] = first_address(&dir.join(&arguments[1]));
        }
        let mut staleline = staleline();
        staleline.args(&arguments).current_dir(dir);
        let printed = staleline.output().unwrap();
        let printed = String::from_utf8(printed.stdout).unwrap();
        // Where somebody would be at home.
        let home = dir.canonicalize().unwrap();
        let printed = printed.replace(home.to_str().unwrap(), HOME);
        let printed = printed.replace(checkout().to_str().unwrap(), &format!("{HOME}/staleline"));
        if let Some(difference) = differs(output, &printed) {
            panic!(
                "`{command}` prints something else than the README shows\n{difference}\n\n{printed}"
            );
        }
    }
}

#[test]
fn transcripts_are_compared_by_their_words() {
    let document = "text\n```\n$ a b\nx 1 y\n\n$ c\n```\nmore\n```\nno transcript\n```\n";
    let shown = transcripts(document);
    assert_eq!(shown.len(), 2);
    assert_eq!(
        (&*shown[0].command, &*shown[0].output),
        ("a b", "x 1 y\n\n")
    );
    assert_eq!(shown[1].output, "");
    assert_eq!(differs("x 0x1f y +4\n", "x  0x2e\ny +44"), None);
    assert_eq!(
        differs("run 61924abdf21a996c, 1.0 s", "run a1924abdf21a996c, 2.0 s"),
        None
    );
    assert!(differs("x 1 y", "x 1 z").is_some());
    assert!(differs("x 1", "x 1 y").is_some());
    assert!(differs("x 1 y", "x 1").is_some());
    assert_eq!(differs("a 1\n  ...\nz\n", "a 2 b c z"), None);
    assert!(differs("a 1\n  ...\nz\n", "a 2 b c").is_some());
}
