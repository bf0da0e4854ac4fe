// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Who knows whom: no circle between the files of a crate, and crates that stand alone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, Meta, UseTree};
use walkdir::WalkDir;

/// A module: the names on the way to it from the crate's root, which is the empty one.
type Module = Vec<String>;

/// Files by name, from the crate's root file's directory, with what stands in them.
type Files = BTreeMap<PathBuf, String>;

/// Files that each file uses.
type Graph = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

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

/// What `use` brings in: by what name, none for all that is there, and from where.
type Import = (Option<String>, Vec<String>);

/// The modules of a crate that are compiled without tests, each with the file that it stands in.
struct Crate {
    modules: BTreeMap<Module, PathBuf>,
    parsed: Vec<(Module, PathBuf, syn::File)>,
    /// What `use` brings into each module.
    imports: BTreeMap<Module, Vec<Import>>,
}

impl Crate {
    fn read(files: &Files, root: &str) -> Self {
        let mut found = Crate {
            modules: BTreeMap::new(),
            parsed: Vec::new(),
            imports: BTreeMap::new(),
        };
        found.file(files, Path::new(root), Path::new(""), Vec::new());
        for (module, _, syntax) in &found.parsed {
            let mut names = Names::of(module);
            names.visit_file(syntax);
            for (module, import) in names.imports {
                found.imports.entry(module).or_default().push(import);
            }
        }
        found
    }

    /// Takes in the file of `module`, whose own modules have their files in `dir`.
    fn file(&mut self, files: &Files, file: &Path, dir: &Path, module: Module) {
        let text = files.get(file);
        let text = text.unwrap_or_else(|| panic!("no {}", file.display()));
        let syntax = syn::parse_file(text).unwrap();
        self.items(files, &syntax.items, (file, dir), &module);
        self.modules.insert(module.clone(), file.to_owned());
        self.parsed.push((module, file.to_owned(), syntax));
    }

    fn items(&mut self, files: &Files, items: &[Item], at: (&Path, &Path), module: &Module) {
        let (file, dir) = at;
        for item in items {
            let Item::Mod(m) = item else { continue };
            if is_test(&m.attrs) {
                continue;
            }
            let name = m.ident.to_string();
            let dir = dir.join(&name);
            let mut module = module.clone();
            module.push(name);
            if let Some((_, items)) = &m.content {
                self.items(files, items, (file, &dir), &module);
                self.modules.insert(module, file.to_owned());
                continue;
            }
            let places = [dir.with_extension("rs"), dir.join("mod.rs")];
            let place = places.iter().find(|place| files.contains_key(*place));
            let place = place.unwrap_or_else(|| panic!("{places:?}"));
            if !self.modules.contains_key(&module) {
                self.file(files, place, &dir, module);
            }
        }
    }

    /// The files that a path leads to which is written in module `from`, by way of whatever `use` has
    /// brought into modules on the way; none if it leads out of the crate.
    fn resolve(&self, from: &Module, path: &[String]) -> Vec<&PathBuf> {
        let mut found = BTreeSet::new();
        self.follow(from, path, &mut BTreeSet::new(), &mut found);
        let files = found.iter().filter_map(|module| self.modules.get(module));
        files.collect()
    }

    fn follow(
        &self,
        from: &Module,
        path: &[String],
        seen: &mut BTreeSet<(Module, usize)>,
        found: &mut BTreeSet<Module>,
    ) {
        let Some(first) = path.first() else { return };
        let (mut at, rest) = match first.as_str() {
            "crate" => (Module::new(), &path[1..]),
            "self" => (from.clone(), &path[1..]),
            "super" => {
                let ups = path.iter().take_while(|name| *name == "super").count();
                let Some(left) = from.len().checked_sub(ups) else {
                    return;
                };
                (from[..left].to_vec(), &path[ups..])
            }
            _ => {
                let mut child = from.clone();
                child.push(first.to_owned());
                if !self.modules.contains_key(&child) {
                    return self.follow_imports(from, path, seen, found);
                }
                (child, &path[1..])
            }
        };
        for (n, name) in rest.iter().enumerate() {
            at.push(name.clone());
            if !self.modules.contains_key(&at) {
                at.pop();
                self.follow_imports(&at, &rest[n..], seen, found);
                break;
            }
        }
        found.insert(at);
    }

    /// The same for a path that begins with what was brought into a module.
    fn follow_imports(
        &self,
        from: &Module,
        path: &[String],
        seen: &mut BTreeSet<(Module, usize)>,
        found: &mut BTreeSet<Module>,
    ) {
        let imports = self.imports.get(from).into_iter().flatten();
        for (n, (name, import)) in imports.enumerate() {
            if name.as_ref().is_some_and(|name| *name != path[0]) {
                continue;
            }
            // What is brought in may be named by something that is brought in, but not by itself.
            if !seen.insert((from.clone(), n)) {
                continue;
            }
            let rest = match name {
                Some(_) => &path[1..],
                None if self.defines(from, import, &path[0], seen) => path,
                None => &[],
            };
            if name.is_some() || !rest.is_empty() {
                self.follow(from, &[import, rest].concat(), seen, found);
            }
            seen.remove(&(from.clone(), n));
        }
    }

    /// Whether the module at `import`, seen from `from`, defines or hands on `name`.
    fn defines(
        &self,
        from: &Module,
        import: &[String],
        name: &str,
        seen: &mut BTreeSet<(Module, usize)>,
    ) -> bool {
        let mut found = BTreeSet::new();
        self.follow(from, import, seen, &mut found);
        found.iter().any(|module| {
            let child = [&module[..], &[name.to_owned()]].concat();
            let handed_on = self.imports.get(module).into_iter().flatten();
            let mut handed_on = handed_on.filter_map(|(name, _)| name.as_deref());
            self.modules.contains_key(&child)
                || handed_on.any(|n| n == name)
                || self.items_of(module).any(|n| n == name)
        })
    }

    /// Names of what stands in a module.
    fn items_of(&self, module: &Module) -> impl Iterator<Item = String> {
        let file = self.parsed.iter().find(|(m, ..)| m == module);
        let items = file.into_iter().flat_map(|(.., syntax)| &syntax.items);
        items.filter_map(|item| {
            let name = match item {
                Item::Const(i) => &i.ident,
                Item::Enum(i) => &i.ident,
                Item::Fn(i) => &i.sig.ident,
                Item::Static(i) => &i.ident,
                Item::Struct(i) => &i.ident,
                Item::Trait(i) => &i.ident,
                Item::Type(i) => &i.ident,
                Item::Union(i) => &i.ident,
                _ => return None,
            };
            Some(name.to_string())
        })
    }

    fn graph(&self) -> Graph {
        let files = self
            .modules
            .values()
            .map(|file| (file.clone(), BTreeSet::new()));
        let mut graph: Graph = files.collect();
        for (module, file, syntax) in &self.parsed {
            let mut names = Names::of(module);
            names.visit_file(syntax);
            let used = names.found.iter();
            let used = used.flat_map(|(from, path)| self.resolve(from, path));
            let used = used.filter(|used| *used != file).cloned();
            graph.entry(file.clone()).or_default().extend(used);
        }
        graph
    }
}

/// Paths in what is compiled without tests, each with the module that it is written in.
struct Names {
    module: Module,
    found: Vec<(Module, Vec<String>)>,
    /// Of these, what `use` brings in.
    imports: Vec<(Module, Import)>,
}

impl Names {
    fn of(module: &Module) -> Self {
        Names {
            module: module.clone(),
            found: Vec::new(),
            imports: Vec::new(),
        }
    }

    fn import(&mut self, name: Option<String>, path: Vec<String>) {
        let module = self.module.clone();
        self.imports.push((module, (name, path.clone())));
        self.add(path);
    }

    fn add(&mut self, path: Vec<String>) {
        self.found.push((self.module.clone(), path));
    }

    fn tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(p) => self.tree(&with(&p.ident), &p.tree),
            UseTree::Name(n) if n.ident == "self" => {
                self.import(before.last().cloned(), before.to_vec());
            }
            UseTree::Name(n) => self.import(Some(n.ident.to_string()), with(&n.ident)),
            UseTree::Rename(r) => self.import(Some(r.rename.to_string()), with(&r.ident)),
            UseTree::Group(g) => g.items.iter().for_each(|t| self.tree(before, t)),
            UseTree::Glob(_) => self.import(None, before.to_vec()),
        }
    }

    /// What a macro or an attribute is given has no syntax of its own: whatever looks like a path there.
    fn tokens(&mut self, tokens: &str) {
        let joined = tokens.replace(" :: ", "::");
        let part = |c: char| !(c.is_alphanumeric() || c == '_' || c == ':');
        for word in joined.split(part).filter(|word| word.contains("::")) {
            self.add(word.split("::").map(str::to_owned).collect());
        }
    }
}

impl<'a> Visit<'a> for Names {
    fn visit_item_use(&mut self, item: &'a ItemUse) {
        if !is_test(&item.attrs) {
            self.tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        if path.segments.len() > 1 {
            self.add(path.segments.iter().map(|s| s.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    /// That something may be seen from somewhere is no use of it.
    fn visit_visibility(&mut self, _: &'a syn::Visibility) {}

    fn visit_macro(&mut self, item: &'a syn::Macro) {
        self.tokens(&item.tokens.to_string());
        visit::visit_macro(self, item);
    }

    fn visit_attribute(&mut self, attribute: &'a Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.tokens(&list.tokens.to_string());
        }
    }

    fn visit_item_mod(&mut self, item: &'a ItemMod) {
        if !is_test(&item.attrs) {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'a syn::ItemImpl) {
        if !is_test(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }
}

/// Files that a file uses, and what those use, and so on.
fn reached<'a>(graph: &'a Graph, from: &PathBuf) -> BTreeSet<&'a PathBuf> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<_> = graph.get(from).into_iter().flatten().collect();
    while let Some(file) = next.pop() {
        if reached.insert(file) {
            next.extend(graph.get(file).into_iter().flatten());
        }
    }
    reached
}

/// Files that use themselves through others, and which files of their circle they use.
fn in_circles(graph: &Graph) -> Graph {
    let files = graph.keys();
    let all: BTreeMap<_, _> = files.map(|file| (file, reached(graph, file))).collect();
    let circles = graph.iter().filter(|(file, _)| all[*file].contains(file));
    let tied = |file: &PathBuf, uses: &BTreeSet<PathBuf>| {
        let back = uses.iter().filter(|used| all[*used].contains(file));
        back.cloned().collect()
    };
    circles
        .map(|(file, uses)| (file.clone(), tied(file, uses)))
        .collect()
}

fn files(src: &Path) -> Files {
    let entries = WalkDir::new(src).into_iter().map(Result::unwrap);
    let sources = entries.filter(|e| e.path().extension().is_some_and(|e| e == "rs"));
    sources
        .map(|e| {
            let name = e.path().strip_prefix(src).unwrap().to_owned();
            (name, fs::read_to_string(e.path()).unwrap())
        })
        .collect()
}

/// Crates without a circle: source directory, root file, and a lower bound of its files, as a reader that
/// sees nothing would find no circle.
const FREE: [(&str, &str, usize); 5] = [
    ("devices/litmus/src", "lib.rs", 15),
    ("images/protocol/src", "lib.rs", 5),
    ("vmm/kvm/src", "lib.rs", 9),
    ("vmm/support/src", "lib.rs", 6),
    ("scripts/xtask/src", "main.rs", 7),
];

/// Crates in which modules take what they share from their parent's file, which uses them in turn or hands
/// them on: many a `mod.rs` or `lib.rs` defines a module's types and re-exports the rest. What a file uses
/// of those that its module stands in is left out here. So that no circle between top-level modules hides
/// behind it, these are looked at as a whole too.
const WITH_PARENTS: [(&str, &str, usize); 11] = [
    ("devices/src", "lib.rs", 100),
    ("devices/judge/src", "lib.rs", 10),
    ("guest-kernel/builder/src", "lib.rs", 20),
    ("vmm/machine/src", "lib.rs", 20),
    ("images/agent/src", "main.rs", 15),
    ("images/guest/src", "lib.rs", 10),
    ("images/initramfs/src", "lib.rs", 7),
    ("vmm/src", "lib.rs", 110),
    ("vmm/events/src", "lib.rs", 7),
    ("vmm/results/src", "lib.rs", 11),
    ("vmm/tcg-plugin/src", "lib.rs", 20),
];

/// The same graph without what files use of those that their modules stand in.
fn without_parents(graph: &Graph, all: &Crate) -> Graph {
    let files = all.parsed.iter();
    let modules: BTreeMap<_, _> = files.map(|(module, file, _)| (file, module)).collect();
    let free = |file: &PathBuf, uses: &BTreeSet<PathBuf>| {
        let others = uses.iter();
        let others = others.filter(|used| !modules[file].starts_with(modules[*used]));
        others.cloned().collect()
    };
    let edges = graph.iter();
    edges
        .map(|(file, uses)| (file.clone(), free(file, uses)))
        .collect()
}

/// The top-level modules of a crate, as files of no directory, without the root.
fn top_level(graph: &Graph, lib: &str) -> Graph {
    let top = |file: &PathBuf| {
        let first = file.iter().next().map(PathBuf::from);
        first.unwrap_or_default().with_extension("")
    };
    let mut all = Graph::new();
    for (file, uses) in graph.iter().filter(|(file, _)| !file.ends_with(lib)) {
        let module = top(file);
        let others = uses.iter().filter(|used| !used.ends_with(lib)).map(top);
        let others = others.filter(|other| *other != module);
        let used: Vec<_> = others.collect();
        all.entry(module).or_default().extend(used);
    }
    all
}

/// A crate's graph; and without parents. `least`: see [`FREE`].
fn graphs(src: &str, lib: &str, least: usize) -> (Graph, Graph) {
    let all = Crate::read(&files(&root().join(src)), lib);
    let graph = all.graph();
    assert!(graph.len() >= least, "{src}: {} files", graph.len());
    let without = without_parents(&graph, &all);
    (graph, without)
}

#[test]
fn no_file_knows_itself_through_others() {
    for (src, lib, least) in FREE {
        let (graph, _) = graphs(src, lib, least);
        assert_eq!(in_circles(&graph), Graph::new(), "{src}");
    }
    for (src, lib, least) in WITH_PARENTS {
        let (graph, without) = graphs(src, lib, least);
        // A reader that sees nothing would find no circle.
        assert!(graph.values().flatten().count() >= least / 2, "{src}");
        assert_eq!(in_circles(&without), Graph::new(), "{src}");
        assert_eq!(in_circles(&top_level(&graph, lib)), Graph::new(), "{src}");
    }
}

#[test]
fn the_coherency_domain_is_free_of_circles() {
    let (graph, _) = graphs("devices/src", "lib.rs", 100);
    let mut left = in_circles(&graph);
    left.retain(|file, _| file.starts_with("coherency"));
    assert_eq!(left, Graph::new());
}

#[test]
fn a_circle_between_top_level_modules_hides_behind_no_parent() {
    let files = [
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "mod child; use crate::b::B;"),
        ("a/child.rs", "use super::A;"),
        ("b.rs", "use crate::a::child::C;"),
    ];
    let files = files.map(|(name, text)| (name.into(), text.to_owned()));
    let all = Crate::read(&Files::from(files), "lib.rs");
    let graph = all.graph();
    assert_eq!(in_circles(&without_parents(&graph, &all)), Graph::new());
    let left = in_circles(&top_level(&graph, "lib.rs"));
    assert!(left.keys().eq([Path::new("a"), Path::new("b")]), "{left:?}");
}

/// The files that are left of an invented crate.
fn circles(files: &[(&str, &str)]) -> Vec<String> {
    let files = files
        .iter()
        .map(|(name, text)| (name.into(), (*text).to_owned()));
    let graph = Crate::read(&files.collect(), "lib.rs").graph();
    let left = in_circles(&graph).into_keys();
    left.map(|file| file.to_string_lossy().into_owned())
        .collect()
}

#[test]
fn a_circle_is_found() {
    let lib = ("lib.rs", "mod a; mod b; mod c; mod d;");
    let a = ("a.rs", "use crate::{b::B, d::D as E};");
    let b = ("b.rs", "fn f() { let _ = super::c::f(); }");
    let d = ("d.rs", "#[cfg(test)] mod tests { use crate::a::A; }");
    let c = ("c.rs", "use crate::a::A;");
    assert_eq!(circles(&[lib, a, b, c, d]), ["a.rs", "b.rs", "c.rs"]);
    let c = ("c.rs", "use crate::d::D;");
    assert_eq!(circles(&[lib, a, b, c, d]), [""; 0]);
}

#[test]
fn no_way_to_write_a_path_hides_a_circle() {
    let lib = ("lib.rs", "mod a; mod b;");
    let a = ("a/mod.rs", "mod deep;");
    let b = ("b.rs", "use crate::a::deep::Deep;");
    for deep in [
        "use super::super::b::B;",
        "use super::super::{b};",
        "mod inner { use super::super::super::b::B; }",
        "use crate::b::*;",
        "use crate::b; fn f() { let _ = b::B; }",
        "use crate::b::{self as other}; fn f() { let _ = other::B; }",
        "fn f() -> u8 { matches!(1, crate::b::B).into() }",
        "#[derive(E)] #[error(\"{}\", super::super::b::B)] struct S;",
    ] {
        let found = circles(&[lib, a, b, ("a/deep.rs", deep)]);
        assert_eq!(found, ["a/deep.rs", "b.rs"], "{deep}");
    }
}

/// What a path means is what it leads to, whoever hands that on.
#[test]
fn no_one_who_hands_on_hides_a_circle() {
    let a = ("a.rs", "use crate::b;");
    for (lib, b) in [
        ("mod a; mod b; pub use a::A;", "use crate::A;"),
        ("mod a; mod b; pub use a::*;", "use crate::A;"),
        (
            "mod a; mod b; pub use a as other;",
            "fn f() { crate::other::A; }",
        ),
        (
            "mod a; mod b; mod c { pub use super::d::A; } mod d { pub use crate::a::*; }",
            "use crate::c::A;",
        ),
    ] {
        let a = (a.0, format!("{} pub struct A;", a.1));
        let files = [("lib.rs", lib), (a.0, &*a.1), ("b.rs", b)];
        let files = files.map(|(name, text)| (name.into(), text.to_owned()));
        let all = Crate::read(&Files::from(files), "lib.rs");
        let left = in_circles(&without_parents(&all.graph(), &all));
        assert!(
            left.keys().eq([Path::new("a.rs"), Path::new("b.rs")]),
            "{lib}: {left:?}"
        );
    }
    // Nor does it find one where there is none, or go on for ever.
    let lib = (
        "lib.rs",
        "mod a; mod b; pub use a::A; pub use other::other;",
    );
    let a = ("a.rs", "use crate::other; pub struct A;");
    assert_eq!(
        circles(&[lib, a, ("b.rs", "use crate::A;")]),
        ["a.rs", "lib.rs"]
    );
}

#[test]
fn a_parent_that_hands_on_its_child_uses_it() {
    let lib = ("lib.rs", "mod a;");
    let parent = (
        "a.rs",
        "mod child; pub use self::child::Child; pub struct Limit;",
    );
    let child = ("a/child.rs", "use super::Limit;");
    assert_eq!(circles(&[lib, parent, child]), ["a/child.rs", "a.rs"]);
    let parent = ("a.rs", "mod child; pub struct Limit;");
    assert_eq!(circles(&[lib, parent, child]), [""; 0]);
    let parent = ("a.rs", "mod child; pub struct Limit; fn f() { child::f() }");
    assert_eq!(circles(&[lib, parent, child]), ["a/child.rs", "a.rs"]);
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
    // What QEMU loads, and what runs in an emulated host, is the machine alone: no runs, no reports.
    assert!(!own("staleline-machine").contains(&"staleline".to_owned()));
    // The question is understood.
    assert!(own("staleline").contains(&"staleline-results".to_owned()));
}
