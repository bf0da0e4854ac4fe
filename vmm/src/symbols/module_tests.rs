// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A relocatable file of the machine at hand stands in for a module.

use std::process::Command;

use staleline_devices::cpu::SiteId;

use super::super::{Sources, Symbols};
use super::*;
use crate::evidence::Sites;

const TEXT: u64 = 0xffff_8000_0100_0000;
const INIT: u64 = 0xffff_8000_0200_0000;

const SOURCE: &str = "static inline __attribute__((always_inline)) int inner(volatile int *p)\n\
    {\n\
    \treturn *p * 3;\n\
    }\n\
    int work(volatile int *p)\n\
    {\n\
    \treturn inner(p) + 1;\n\
    }\n\
    __attribute__((section(\".init.text\"))) int begin(volatile int *p)\n\
    {\n\
    \treturn *p + 2;\n\
    }\n";

fn module(dir: &Path) -> PathBuf {
    let source = dir.join("own.c");
    std::fs::write(&source, SOURCE).unwrap();
    let file = dir.join("own.ko");
    let mut cc = Command::new("cc");
    let status = cc.args(["-c", "-g", "-O1", "-o"]).args([&file, &source]);
    assert!(status.status().unwrap().success());
    file
}

fn symbols(host: PathBuf) -> Symbols {
    let sections = [(".init.text", INIT), (".text", TEXT)];
    let sections = sections.map(|(name, at)| (name.to_owned(), at)).into();
    let modules = vec![Loaded {
        name: "own".into(),
        host,
        sections,
    }];
    let sources = Sources {
        modules,
        ..Sources::default()
    };
    Symbols::new(sources, Sites::from([(SiteId(1), TEXT)]))
}

#[test]
fn each_section_is_where_the_kernel_has_put_it() {
    let dir = tempfile::tempdir().unwrap();
    let symbols = symbols(module(dir.path()));
    for (va, function, outermost, line) in [(TEXT, "work", "work", 7), (INIT, "begin", "begin", 11)]
    {
        // Somewhere in the function: the first instructions may be its head.
        let places: Vec<_> = (va..va + 24).map(|va| symbols.place(va)).collect();
        assert_eq!(places[0].symbol.as_deref(), Some(function));
        let at_line = places.iter().find(|p| {
            let last = p.frames.last();
            last.is_some_and(|f| f.function == outermost && f.line == Some(line))
        });
        let place = at_line.unwrap_or_else(|| panic!("{places:#?}"));
        assert!(place.kernel && place.module.as_deref() == Some("own"));
        let file = place.frames.last().unwrap().file.as_deref();
        assert_eq!(file, Some("own.c"), "it is named from where the module is");
        assert!(place.to_string().contains("[own] (own.c:"), "{place}");
    }
    let inlined = (TEXT..TEXT + 24).map(|va| symbols.place(va));
    let inlined = inlined.filter(|p| p.frames.len() == 2 && p.frames[0].function == "inner");
    assert!(inlined.count() > 0);
    // What is in no section of it is none of it.
    assert_eq!(symbols.place(TEXT + 0x10_0000).module, None);
    assert!(symbols.troubles().is_empty());
}

#[test]
fn two_modules_in_one_place_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let host = module(dir.path());
    let at = |name: &str| Loaded {
        name: name.into(),
        host: host.clone(),
        sections: vec![(".init.text".into(), INIT)],
    };
    let sources = Sources {
        modules: vec![at("second"), at("first")],
        ..Sources::default()
    };
    let symbols = Symbols::new(sources, Sites::default());
    for va in [INIT, INIT + 4] {
        assert_eq!(symbols.place(va).module.as_deref(), Some("second"));
    }
    let told = symbols.troubles();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("modules first and second had code"),
        "{told:?}"
    );
}

#[test]
fn a_module_that_is_none_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("own.ko");
    std::fs::write(&file, "text").unwrap();
    for host in [
        file,
        dir.path().join("gone.ko"),
        std::env::current_exe().unwrap(),
    ] {
        let symbols = symbols(host);
        for va in [TEXT, TEXT + 4, INIT, u64::MAX] {
            assert_eq!(symbols.place(va).module, None);
        }
        let told = symbols.troubles();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("names of functions of module own are missing"));
    }
}

/// The file is the user's, and may be anything.
#[test]
fn a_damaged_module_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(module(dir.path())).unwrap();
    let file = dir.path().join("damaged.ko");
    for n in 0..200 {
        let mut bytes = whole.clone();
        let at = n * 7919 % bytes.len();
        bytes[at] ^= 0xff;
        if n % 4 == 0 {
            bytes.truncate(at);
        }
        std::fs::write(&file, &bytes).unwrap();
        let symbols = symbols(file.clone());
        for va in [TEXT, TEXT + 8, INIT + 4] {
            let _ = symbols.place(va);
        }
    }
}

#[test]
fn the_last_place_that_was_told_counts() {
    let report = |name: &str, at| Report::Module {
        name: name.into(),
        // Those with an odd address, the agent has inserted.
        file: (at % 2 == 1).then(|| format!("/root/{name}.ko")),
        sections: vec![(".text".into(), at)],
    };
    let input = |name: &str| Input {
        guest: format!("/root/{name}.ko"),
        host: format!("/home/me/{name}.ko"),
        hash: String::new(),
    };
    let found = loaded(
        &[
            report("a", 1),
            report("b", 2),
            report("a", 3),
            report("c", 4),
        ],
        &[input("a"), input("b")],
    );
    let found: Vec<_> = found
        .iter()
        .map(|m| (m.host.to_str().unwrap(), m.sections[0].1))
        .collect();
    assert_eq!(
        found,
        [
            ("/home/me/a.ko", 3),
            ("/home/me/b.ko", 2),
            ("/home/me/a.ko", 1)
        ]
    );
}
