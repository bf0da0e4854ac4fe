// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Code of kernel modules: relocatable files, whose sections the kernel has put where the agent says.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use addr2line::Context;
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationKind, RelocationTarget,
    SectionIndex, SectionKind, SymbolKind,
};
use staleline_protocol::report::Report;
use staleline_results::{Frame, Input};

use super::elf::{Names, Symbol, frames};
use super::excerpt::Excerpts;
use super::user::{on_host, told};

/// A module with more is not opened.
const MAX_BYTES: u64 = 256 << 20;

/// Where sections are that are somewhere, and how far apart they start: what has no address of the kernel's.
const SOMEWHERE: u64 = 0xff80_0000_0000_0000;
const APART: u64 = 0x1000;

type Bytes = gimli::EndianArcSlice<gimli::LittleEndian>;

/// A module, and where the kernel had put its code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What the kernel calls it.
    pub name: String,
    /// Its file on the host.
    pub host: PathBuf,
    /// Name and first address of each section with code.
    pub sections: Vec<(String, u64)>,
}

/// Where the kernel had put the modules that the guest was given, by what the agent has told. Of two that
/// had the same place, the later one counts.
pub fn loaded(reports: &[Report], inputs: &[Input]) -> Vec<Loaded> {
    let told = reports.iter().rev().filter_map(|report| match report {
        Report::Module {
            name,
            file,
            sections,
        } => Some(Loaded {
            name: name.clone(),
            host: match file {
                Some(file) => on_host(file, inputs)?,
                None => named(name, inputs)?,
            },
            sections: sections.clone(),
        }),
        _ => None,
    });
    told.collect()
}

/// A module that is one of the files that the guest was given, by a call trace alone: nobody has told where the
/// kernel had it, and so its sections are somewhere.
pub(super) fn somewhere(name: &str, inputs: &[Input]) -> Option<Code> {
    let host = named(name, inputs)?;
    let sections = read(&host).ok().and_then(|bytes| {
        let file = object::File::parse(&*bytes).ok()?;
        let mut next = SOMEWHERE;
        let code = file.sections().filter(|s| s.kind() == SectionKind::Text);
        let places = code.filter_map(|s| {
            let at = next;
            next = at.checked_add(s.size())?.checked_next_multiple_of(APART)?;
            Some((s.name().ok()?.to_owned(), at))
        });
        Some(places.collect())
    });
    Some(Code::new(Loaded {
        name: name.to_owned(),
        host,
        sections: sections.unwrap_or_default(),
    }))
}

/// The file that the guest was given and that kbuild would have named so.
fn named(name: &str, inputs: &[Input]) -> Option<PathBuf> {
    let is_it = |guest: &str| {
        let file = guest.rsplit('/').next().unwrap_or_default();
        file.strip_suffix(".ko")
            .is_some_and(|stem| stem.replace('-', "_") == name)
    };
    let input = inputs.iter().rev().find(|input| is_it(&input.guest));
    input.map(|input| PathBuf::from(&input.host))
}

/// What is known of them.
pub(super) struct Modules(Vec<Code>);

/// A module, opened when the first address is asked for that the kernel itself does not have.
pub(super) struct Code {
    loaded: Loaded,
    opened: OnceCell<Option<Opened>>,
    lines: OnceCell<Option<Context<Bytes>>>,
    excerpts: OnceCell<Excerpts>,
}

/// What names an address.
struct Opened {
    bytes: Vec<u8>,
    /// First address and one past the last of each section with code.
    ranges: Vec<(u64, u64)>,
    names: Names,
}

/// Modules by name, of which nobody has told where the kernel had them.
pub(super) type Somewhere = HashMap<String, Option<Code>>;

impl Modules {
    pub fn new(loaded: &[Loaded]) -> Self {
        Modules(loaded.iter().cloned().map(Code::new).collect())
    }

    /// Those of that name.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &Code> {
        self.0.iter().filter(move |code| code.name() == name)
    }

    /// The module that has the code at an address.
    pub fn at(&self, va: u64, troubles: &RefCell<Vec<String>>) -> Option<&Code> {
        let mut all = self.0.iter().filter(|code| code.has(va, troubles));
        let code = all.next()?;
        // The kernel gives the place of an init to another, once that is over.
        if let Some(other) = all.find(|other| other.loaded != code.loaded) {
            let text = format!(
                "modules {} and {} had code in one place, one after the other: there, names of functions \
                 and lines may be those of the other",
                other.loaded.name, code.loaded.name
            );
            let mut troubles = troubles.borrow_mut();
            if !troubles.contains(&text) {
                troubles.push(text);
            }
        }
        Some(code)
    }
}

impl Code {
    fn new(loaded: Loaded) -> Self {
        Code {
            loaded,
            opened: OnceCell::new(),
            lines: OnceCell::new(),
            excerpts: OnceCell::new(),
        }
    }

    /// Where a function starts, which is so far away from the next.
    pub fn start(&self, function: &str, size: u64, troubles: &RefCell<Vec<String>>) -> Option<u64> {
        self.opened(troubles)?.names.start(function, size)
    }

    /// What the kernel calls it.
    pub fn name(&self) -> &str {
        &self.loaded.name
    }

    /// `function+0xoffset`.
    pub fn symbol(&self, va: u64, troubles: &RefCell<Vec<String>>) -> Option<String> {
        self.opened(troubles)?.names.symbol(va)
    }

    /// The functions at an address, innermost first, with files and lines. Files are named from where
    /// the module is, as far as they are there.
    pub fn frames(&self, va: u64, troubles: &RefCell<Vec<String>>) -> Option<Vec<Frame>> {
        let opened = self.opened(troubles)?;
        let load = || {
            let what = format!("files and lines of module {}", self.loaded.name);
            let lines = lines(&opened.bytes, &self.loaded.sections);
            told(troubles, &what, &self.loaded.host, lines)
        };
        let lines = self.lines.get_or_init(load).as_ref()?;
        let found = lines.find_frames(va).skip_all_loads().ok()?;
        let symbol = || opened.names.function(va);
        let top = self.loaded.host.parent();
        let excerpts = || Excerpts::new(&self.loaded.host, top);
        let excerpts = self.excerpts.get_or_init(excerpts);
        Some(frames(found, top, Some(excerpts), symbol))
    }

    fn has(&self, va: u64, troubles: &RefCell<Vec<String>>) -> bool {
        let opened = self.opened(troubles);
        opened.is_some_and(|o| o.ranges.iter().any(|(from, to)| (*from..*to).contains(&va)))
    }

    fn opened(&self, troubles: &RefCell<Vec<String>>) -> Option<&Opened> {
        let open = || {
            let what = format!("names of functions of module {}", self.loaded.name);
            let opened = open(&self.loaded.host, &self.loaded.sections);
            told(troubles, &what, &self.loaded.host, opened)
        };
        self.opened.get_or_init(open).as_ref()
    }
}

/// Where each section is; 0 of what has no code.
fn places(file: &object::File<'_>, sections: &[(String, u64)]) -> HashMap<SectionIndex, u64> {
    let told = |name: &str| sections.iter().find(|(known, _)| known == name);
    let all = file.sections();
    let all = all.filter_map(|s| Some((s.index(), told(s.name().ok()?)?.1)));
    all.collect()
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let found = std::fs::metadata(path).map_err(|e| e.to_string())?;
    // A log that comes from elsewhere may name anything.
    if !found.is_file() || found.len() > MAX_BYTES {
        return Err(format!("it is no file of at most {MAX_BYTES} bytes"));
    }
    std::fs::read(path).map_err(|e| e.to_string())
}

fn open(path: &Path, sections: &[(String, u64)]) -> Result<Opened, String> {
    let bytes = read(path)?;
    let file = object::File::parse(&*bytes).map_err(|e| e.to_string())?;
    if file.kind() != object::ObjectKind::Relocatable || !file.is_little_endian() {
        return Err("it is no relocatable file of a machine like ours".into());
    }
    let places = places(&file, sections);
    let ranges = file.sections().filter_map(|s| {
        let from = *places.get(&s.index())?;
        Some((from, from.checked_add(s.size())?))
    });
    let ranges = ranges.collect();
    let defined = file.symbols().filter(|s| s.kind() == SymbolKind::Text);
    let symbols = defined.filter_map(|s| {
        let base = places.get(&s.section_index()?)?;
        Some(Symbol {
            start: base.checked_add(s.address())?,
            len: s.size(),
            name: s.name().ok()?.to_owned(),
        })
    });
    let names = Names::of(symbols.collect());
    Ok(Opened {
        ranges,
        names,
        bytes,
    })
}

/// Its debug information, for code that is in these places.
fn lines(bytes: &[u8], sections: &[(String, u64)]) -> Result<Context<Bytes>, String> {
    let file = object::File::parse(bytes).map_err(|e| e.to_string())?;
    let places = places(&file, sections);
    let load = |id: gimli::SectionId| -> Result<Bytes, String> {
        let section = file.section_by_name(id.name());
        let data = section.map_or(Ok(Vec::new()), |s| relocated(&file, &s, &places));
        Ok(Bytes::new(data?.into(), gimli::LittleEndian))
    };
    let dwarf = gimli::Dwarf::load(load)?;
    Context::from_dwarf(dwarf).map_err(|e| e.to_string())
}

/// A section's bytes, as a linker would leave them that puts code there. Only absolute references are
/// of interest: debug information has no others to code.
fn relocated(
    file: &object::File<'_>,
    section: &object::Section<'_, '_>,
    places: &HashMap<SectionIndex, u64>,
) -> Result<Vec<u8>, String> {
    let data = section.uncompressed_data().map_err(|e| e.to_string())?;
    let mut data = data.into_owned();
    let base = |index: Option<SectionIndex>| {
        let place = index.and_then(|index| places.get(&index));
        place.copied().unwrap_or(0)
    };
    for (offset, relocation) in section.relocations() {
        if relocation.kind() != RelocationKind::Absolute {
            continue;
        }
        let target = match relocation.target() {
            RelocationTarget::Symbol(index) => file
                .symbol_by_index(index)
                .map(|s| base(s.section_index()).wrapping_add(s.address()))
                .map_err(|e| e.to_string())?,
            RelocationTarget::Section(index) => base(Some(index)),
            _ => continue,
        };
        let value = target.wrapping_add_signed(relocation.addend());
        let width = usize::from(relocation.size() / 8).min(size_of_val(&value));
        let place = usize::try_from(offset).ok();
        let place = place.and_then(|at| data.get_mut(at..at.checked_add(width)?));
        let place = place.ok_or("a relocation is outside its section")?;
        place.copy_from_slice(&value.to_le_bytes()[..width]);
    }
    Ok(data)
}

#[cfg(test)]
#[path = "module_tests.rs"]
mod tests;
