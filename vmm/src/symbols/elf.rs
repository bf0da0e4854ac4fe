// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! ELF files with symbols and, if we are lucky, DWARF.

use std::cmp::Reverse;
use std::path::{Component, Path, PathBuf};

use addr2line::{FrameIter, Loader};
use object::{Object as _, ObjectSymbol as _, SymbolKind};

use super::Frame;
use super::excerpt::Excerpts;

/// Inlined callers shown.
const MAX_FRAMES: usize = 8;

/// An opened ELF file.
pub struct Elf(Loader);

impl Elf {
    /// Opens it; debug information is read when first asked for.
    pub fn load(path: &Path) -> Result<Self, String> {
        Loader::new(path).map(Elf).map_err(|e| e.to_string())
    }

    /// Whether it tells lines; as a compiler leaves it that was asked for them.
    pub fn has_lines(path: &Path) -> bool {
        let Ok(bytes) = std::fs::read(path) else {
            return false;
        };
        let file = object::File::parse(&*bytes);
        file.is_ok_and(|file| file.section_by_name(".debug_line").is_some())
    }

    /// The function at an address and those it was inlined into, innermost first.
    pub fn frames(&self, va: u64, root: Option<&Path>, excerpts: Option<&Excerpts>) -> Vec<Frame> {
        // No code is at the last address, and what looks for it adds 1.
        if va == u64::MAX {
            return Vec::new();
        }
        let Ok(found) = self.0.find_frames(va) else {
            return Vec::new();
        };
        frames(found, root, excerpts, || {
            let symbol = self.0.find_symbol(va)?;
            Some(addr2line::demangle_auto(symbol.into(), None).into_owned())
        })
    }

    /// `function+0xoffset` by the symbol table.
    pub fn symbol(&self, va: u64) -> Option<String> {
        let info = self.0.find_symbol_info(va)?;
        Some(named(info.name(), va.wrapping_sub(info.address())))
    }
}

/// Functions at an address, innermost first, by its debug information; `symbol` is what the symbol table
/// calls it.
pub fn frames<R: gimli::Reader>(
    mut found: FrameIter<'_, R>,
    root: Option<&Path>,
    excerpts: Option<&Excerpts>,
    symbol: impl Fn() -> Option<String>,
) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = found.next() {
        let name = frame.function.as_ref().and_then(|f| f.demangle().ok());
        let location = frame.location.as_ref();
        let function = match (name, frames.is_empty()) {
            (Some(name), _) => without_hash(&name),
            // Assembly has lines but no functions.
            (None, true) => match symbol() {
                Some(symbol) => without_hash(&symbol),
                None => break,
            },
            (None, false) => break,
        };
        let path = location.and_then(|l| l.file);
        let file = path.map(|f| relative(f, root));
        let line = location.and_then(|l| l.line).filter(|line| *line > 0);
        let text = excerpts.zip(line).and_then(|(excerpts, line)| {
            let moved = || excerpts.line(file.as_deref()?, line);
            excerpts.line(path?, line).or_else(moved)
        });
        frames.push(Frame {
            function,
            file,
            line,
            text,
            path: path.and_then(|path| own(path, root)),
        });
        if frames.len() == MAX_FRAMES {
            break;
        }
    }
    frames
}

/// The symbol table of an ELF file, for whoever needs no more: debug information takes long to open.
pub struct Names(Vec<Symbol>);

/// A function, or whatever else has a name.
pub struct Symbol {
    /// Its address.
    pub start: u64,
    /// 0: unknown, as of assembly.
    pub len: u64,
    /// As the symbol table has it.
    pub name: String,
}

impl Names {
    /// Reads it; of a file that was stripped, what is left for the dynamic linker.
    pub fn load(path: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
        let file = object::File::parse(&*bytes).map_err(|e| e.to_string())?;
        let all = file.symbols().chain(file.dynamic_symbols());
        let defined = all.filter(|s| s.is_definition() && s.kind() == SymbolKind::Text);
        let symbols = defined.filter_map(|s| {
            Some(Symbol {
                start: s.address(),
                len: s.size(),
                name: s.name().ok()?.to_owned(),
            })
        });
        Ok(Names::of(symbols.collect()))
    }

    /// Of these symbols.
    pub fn of(mut symbols: Vec<Symbol>) -> Self {
        // Of several names, that of the longest.
        symbols.sort_by_key(|s| (s.start, Reverse(s.len)));
        symbols.dedup_by_key(|s| s.start);
        Names(symbols)
    }

    /// `function+0xoffset`; none if the address is in no function that has a name.
    pub fn symbol(&self, va: u64) -> Option<String> {
        let symbol = self.at(va)?;
        Some(named(&symbol.name, va - symbol.start))
    }

    /// The function alone.
    pub fn function(&self, va: u64) -> Option<String> {
        Some(self.at(va)?.name.clone())
    }

    /// Where the only function of that name starts; of several, the one that is so far away from the next.
    pub fn start(&self, function: &str, size: u64) -> Option<u64> {
        let all = self
            .0
            .iter()
            .enumerate()
            .filter(|(_, s)| s.name == function);
        let all: Vec<(usize, u64)> = all.map(|(i, s)| (i, s.start)).collect();
        if let [(_, only)] = all[..] {
            return Some(only);
        }
        let so_far = |(i, start): &(usize, u64)| {
            let next = self.0.get(i + 1).map(|s| s.start - start);
            next == Some(size)
        };
        let mut all = all.into_iter().filter(so_far);
        let (_, start) = all.next()?;
        all.next().is_none().then_some(start)
    }

    fn at(&self, va: u64) -> Option<&Symbol> {
        let after = self.0.partition_point(|s| s.start <= va);
        let symbol = self.0.get(after.checked_sub(1)?)?;
        (symbol.len == 0 || va - symbol.start < symbol.len).then_some(symbol)
    }
}

/// A symbol as it is shown.
fn named(symbol: &str, offset: u64) -> String {
    let name = addr2line::demangle_auto(symbol.into(), None);
    with_offset(&without_hash(&name), offset)
}

/// `name+0xoffset`, or `name` at its start.
pub fn with_offset(name: &str, offset: u64) -> String {
    match offset {
        0 => name.to_owned(),
        _ => format!("{name}+{offset:#x}"),
    }
}

/// A demangled Rust name without the disambiguating hash at its end.
fn without_hash(name: &str) -> String {
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.chars().all(|c| c.is_ascii_hexdigit()) => {
            path.to_owned()
        }
        _ => name.to_owned(),
    }
}

/// Where a file is, if it is below the top of the user's sources. Compilers name files from where they were
/// started, which is part of what is given here if they say where that was.
fn own(file: &str, root: Option<&Path>) -> Option<String> {
    let root = normalise(root?);
    let path = normalise(&root.join(file));
    let relative = !Path::new(file).is_absolute();
    let is_own = path.starts_with(&root) && (!relative || path.is_file());
    is_own.then(|| path.display().to_string())
}

/// The path as seen from the top of the sources.
fn relative(file: &str, root: Option<&Path>) -> String {
    let path = normalise(Path::new(file));
    if let Some(inner) = root.and_then(|r| path.strip_prefix(normalise(r)).ok()) {
        return inner.display().to_string();
    }
    // As the compiler was told it, from the top.
    if path.is_relative() {
        return path.display().to_string();
    }
    // Sources moved since the build, a kernel built elsewhere, or Rust's own libraries.
    let parts: Vec<_> = path.iter().map(|p| p.to_string_lossy()).collect();
    let top = parts.iter().position(|p| {
        p.starts_with("linux-") || p == "linux" || p.starts_with("rustc-") || p == "rustc"
    });
    let Some(mut inner) = top.and_then(|i| parts.get(i + 1..)) else {
        return path.display().to_string();
    };
    // Rust's own releases name the commit they were built from: `/rustc/59807616.../library/...`.
    if let [commit, rest @ ..] = inner
        && commit.len() == 40
        && commit.chars().all(|c| c.is_ascii_hexdigit())
    {
        inner = rest;
    }
    match inner {
        [] => path.display().to_string(),
        _ => inner.join("/"),
    }
}

/// Resolves `.` and `..` by the text alone: the directories may no longer exist.
fn normalise(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if out.file_name().is_some() => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_from_the_top_of_the_sources() {
        let root = Some(Path::new("/src/k"));
        assert_eq!(relative("/src/k/mm/shmem.c", root), "mm/shmem.c");
        assert_eq!(relative("/b/out/../../src/k/./lib/x.S", root), "lib/x.S");
        let built_elsewhere = "/build/linux-6.12.9/drivers/dma/dma-axi-dmac.c";
        assert_eq!(
            relative(built_elsewhere, root),
            "drivers/dma/dma-axi-dmac.c"
        );
        let rust = "/usr/src/rustc-1.96.0/library/core/src/x.rs";
        assert_eq!(relative(rust, None), "library/core/src/x.rs");
        let commit = "59807616e1fa2540724bfbac14d7976d7e4a3860";
        let rustup = format!("/rustc/{commit}/library/core/src/x.rs");
        assert_eq!(relative(&rustup, None), "library/core/src/x.rs");
        assert_eq!(relative("/usr/src/linux", None), "/usr/src/linux");
        assert_eq!(relative("/home/me/x.rs", None), "/home/me/x.rs");
        assert_eq!(
            relative("./include/linux/gfp.h", root),
            "include/linux/gfp.h"
        );
    }

    #[test]
    fn the_users_own_files_are_told_with_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        std::fs::write(top.join("own.c"), "").unwrap();
        let place = |file: &str| own(file, Some(top));
        let whole = top.join("own.c").display().to_string();
        assert_eq!(place(&whole), Some(whole.clone()));
        assert_eq!(
            place(&format!("{}/x/../own.c", top.display())),
            Some(whole.clone())
        );
        // Where it was compiled is not told: it may be there, or a header of the kernel's.
        assert_eq!(place("./own.c"), Some(whole));
        assert_eq!(place("include/linux/gfp.h"), None);
        assert_eq!(place("/elsewhere/own.c"), None);
        assert_eq!(own("/elsewhere/own.c", None), None);
    }

    /// Call chains hold whatever a guest had in its registers.
    #[test]
    fn addresses_that_are_none_have_no_frames() {
        let elf = Elf::load(&std::env::current_exe().unwrap()).unwrap();
        for va in [u64::MAX, u64::MAX - 1] {
            assert!(elf.frames(va, None, None).is_empty(), "{va:#x}");
            assert_eq!(elf.symbol(va), None, "{va:#x}");
        }
    }

    #[test]
    fn rust_names_lose_their_hash() {
        assert_eq!(without_hash("a::b::h0123456789abcdef"), "a::b");
        assert_eq!(without_hash("a::hello"), "a::hello");
    }
}
