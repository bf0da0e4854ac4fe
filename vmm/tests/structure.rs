// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Who knows whom: no circle between the modules of a crate, and crates that stand alone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree};

/// Top-level modules that each top-level module names.
type Graph = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|a| {
        a.path().is_ident("cfg")
            && a.parse_args::<syn::Path>()
                .is_ok_and(|p| p.is_ident("test"))
    })
}

/// Names that follow `crate::` in what is compiled without tests.
#[derive(Default)]
struct Named(BTreeSet<String>);

impl Named {
    fn tree(&mut self, tree: &UseTree) {
        match tree {
            UseTree::Path(p) => drop(self.0.insert(p.ident.to_string())),
            UseTree::Name(n) => drop(self.0.insert(n.ident.to_string())),
            UseTree::Rename(r) => drop(self.0.insert(r.ident.to_string())),
            UseTree::Group(g) => g.items.iter().for_each(|t| self.tree(t)),
            UseTree::Glob(_) => panic!("`use crate::*` hides who is used"),
        }
    }
}

impl<'a> Visit<'a> for Named {
    fn visit_item_use(&mut self, item: &'a ItemUse) {
        match &item.tree {
            UseTree::Path(p) if p.ident == "crate" => self.tree(&p.tree),
            _ => {}
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let mut segments = path.segments.iter();
        if segments.next().is_some_and(|s| s.ident == "crate")
            && let Some(second) = segments.next()
        {
            self.0.insert(second.ident.to_string());
        }
        visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &'a ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }
}

/// The file of a module that is declared in another file, or nothing if it is for tests only.
fn file_of(item: &ItemMod, parent: &Path, is_root: bool) -> Option<PathBuf> {
    if is_test(&item.attrs) || item.content.is_some() {
        return None;
    }
    let dir = parent.parent().unwrap();
    let stem = parent.file_stem().unwrap();
    let dir = match is_root || stem == "mod" {
        true => dir.to_owned(),
        false => dir.join(stem),
    };
    let name = item.ident.to_string();
    let places = [
        dir.join(format!("{name}.rs")),
        dir.join(&name).join("mod.rs"),
    ];
    let found = places.iter().find(|p| p.exists());
    Some(found.unwrap_or_else(|| panic!("{places:?}")).clone())
}

fn modules(file: &Path, is_root: bool) -> (syn::File, Vec<(String, PathBuf)>) {
    let text = fs::read_to_string(file).unwrap();
    let syntax = syn::parse_file(&text).unwrap();
    let modules = syntax.items.iter().filter_map(|item| match item {
        Item::Mod(m) => Some((m.ident.to_string(), file_of(m, file, is_root)?)),
        _ => None,
    });
    let modules = modules.collect();
    (syntax, modules)
}

fn names(file: &Path, named: &mut Named) {
    let (syntax, inner) = modules(file, false);
    named.visit_file(&syntax);
    for (_, file) in inner {
        names(&file, named);
    }
}

fn graph(lib: &Path) -> Graph {
    let (_, top) = modules(lib, true);
    let known: BTreeSet<_> = top.iter().map(|(name, _)| name.clone()).collect();
    let used = |name: &str, file: &Path| {
        let mut named = Named::default();
        names(file, &mut named);
        let others = named.0.into_iter();
        others.filter(|n| n != name && known.contains(n)).collect()
    };
    top.iter()
        .map(|(name, file)| (name.clone(), used(name, file)))
        .collect()
}

/// Modules that are left when those are taken away, again and again, that use none of the rest.
fn in_circles(graph: &Graph) -> Graph {
    let mut left = graph.clone();
    loop {
        let free: Vec<_> = left
            .iter()
            .filter(|(_, uses)| uses.iter().all(|u| !left.contains_key(u)))
            .map(|(name, _)| name.clone())
            .collect();
        if free.is_empty() {
            return left;
        }
        left.retain(|name, _| !free.contains(name));
    }
}

#[test]
fn no_module_knows_itself_through_others() {
    for lib in ["vmm/src/lib.rs", "devices/src/lib.rs"] {
        let graph = graph(&root().join(lib));
        // A reader that sees nothing would find no circle.
        assert!(graph.len() > 10, "{lib}: {graph:?}");
        assert!(graph.values().flatten().count() > 20, "{lib}: {graph:?}");
        assert_eq!(in_circles(&graph), Graph::new(), "{lib}");
    }
}

#[test]
fn a_circle_is_found() {
    let edges = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("b", "e")];
    let mut graph = Graph::from([("e".to_owned(), BTreeSet::new())]);
    for (from, to) in edges {
        let used = graph.entry(from.into()).or_default();
        used.insert(to.to_owned());
    }
    let left = in_circles(&graph);
    assert!(left.keys().eq(["a", "b", "c", "d"]), "{left:?}");
    graph.remove("c");
    assert_eq!(in_circles(&graph), Graph::new());
}

/// Our own packages that a package is built with.
fn own(package: &str) -> Vec<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(root())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect(&told);
    let packages = metadata["packages"].as_array().unwrap();
    let found = packages.iter().find(|p| p["name"] == package);
    let dependencies = found.unwrap()["dependencies"].as_array().unwrap();
    let paths = dependencies.iter().filter(|d| d.get("path").is_some());
    paths
        .map(|d| d["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn results_know_no_run_and_devices_know_no_hypervisor() {
    assert_eq!(own("staleline-results"), [""; 0]);
    assert_eq!(own("staleline-events"), [""; 0]);
    // The patterns that streams consist of.
    assert_eq!(own("staleline-devices"), ["staleline-protocol"]);
    assert_eq!(own("staleline-protocol"), [""; 0]);
    // The question is understood.
    assert!(own("staleline").contains(&"staleline-results".to_owned()));
}
