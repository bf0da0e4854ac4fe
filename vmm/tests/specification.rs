// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What SPECIFICATION.md says holds a number is there, and has that number.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::fs;
use std::path::{Path, PathBuf};

const SPECIFICATION: &str = include_str!("../../SPECIFICATION.md");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The text of all sources.
fn sources() -> String {
    fn below(dir: &Path, text: &mut String) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                below(&path, text);
            } else if path.extension().is_some_and(|e| e == "rs") {
                text.push_str(&fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut text = String::new();
    for dir in ["devices", "vmm", "images", "guest-kernel", "scripts"] {
        below(&root().join(dir), &mut text);
    }
    text
}

/// What stands in code marks behind `kind`.
fn named(kind: &str) -> Vec<&'static str> {
    let spans = SPECIFICATION.split('`').skip(1).step_by(2);
    spans.filter_map(|span| span.strip_prefix(kind)).collect()
}

/// How tests are marked that `name` stands for: whether each of them is left out unless asked for.
fn tests_of(sources: &str, name: &str) -> Vec<bool> {
    let declared = format!("fn {name}(");
    let places = sources.match_indices(&declared);
    let before = places.map(|(at, _)| {
        let end = sources[..at].rfind('\n').unwrap_or(0);
        // Attributes and comments, from the function upwards.
        let lines = sources[..end].lines().rev().map(str::trim);
        lines.take_while(|line| line.starts_with("#[") || line.starts_with("//"))
    });
    before
        .map(|lines| lines.collect::<Vec<_>>())
        .filter(|lines| lines.contains(&"#[test]"))
        .map(|lines| lines.iter().any(|line| line.starts_with("#[ignore")))
        .collect()
}

#[test]
fn every_test_that_it_names_is_there() {
    let sources = sources();
    let tests = named("fn ");
    assert!(tests.len() > 20, "{tests:?}");
    let gone = |name: &&str| tests_of(&sources, name).is_empty();
    let gone: Vec<_> = tests.into_iter().filter(gone).collect();
    assert!(gone.is_empty(), "no such tests: {gone:?}");
}

/// What is marked A is left out unless asked for, and what is marked D is not.
#[test]
fn every_test_runs_when_it_says() {
    let sources = sources();
    let rows = SPECIFICATION.lines().filter(|line| line.contains("`fn "));
    for row in rows {
        let left_out = match (row.contains("| D |"), row.contains("| A |")) {
            (true, false) => false,
            (false, true) => true,
            _ => panic!("neither D nor A: {row}"),
        };
        let spans = row.split('`').skip(1).step_by(2);
        for name in spans.filter_map(|span| span.strip_prefix("fn ")) {
            let found = tests_of(&sources, name);
            assert!(
                found.contains(&left_out),
                "`{name}` is marked otherwise: {row}"
            );
        }
    }
}

#[test]
fn every_constant_has_the_value_that_it_says() {
    let constants = named("const ");
    assert!(constants.len() > 10, "{constants:?}");
    for constant in constants {
        let (place, value) = constant.split_once(" = ").unwrap();
        let (file, name) = place.split_once(' ').unwrap();
        let text = fs::read_to_string(root().join(file)).unwrap();
        let declared = format!("const {name}: ");
        let mut lines = text.lines().filter(|line| line.contains(&declared));
        let line = lines.next().unwrap();
        assert!(line.ends_with(&format!("= {value};")), "{file}: {line}");
    }
}

#[test]
fn every_promise_has_a_holder() {
    let rows = SPECIFICATION.lines().filter(|line| line.starts_with("| "));
    for row in rows.filter(|row| !row.starts_with("| Promise") && !row.starts_with("| What |")) {
        assert!(row.contains('`'), "nothing holds this: {row}");
    }
}
