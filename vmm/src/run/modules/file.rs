// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a module's file says of itself: all that the kernel looks at before it calls the module's init
//! (kernel/module/main.c).

use std::collections::{BTreeMap, BTreeSet};

use object::{
    Architecture, Object as _, ObjectKind, ObjectSection as _, ObjectSymbol as _, RelocationTarget,
    SectionIndex,
};

use super::parameters::{Kind, Parameter, Scalar};

/// `struct kernel_param` of include/linux/moduleparam.h on 64-bit machines: its size, and where it has the
/// pointers to the name, to the operations and to what they are about.
const PARAM_BYTES: usize = 40;
const PARAM_NAME: u64 = 0;
const PARAM_OPS: u64 = 16;
const PARAM_ARG: u64 = 32;

/// `struct kparam_array` there: how many elements there may be, and the pointer to their operations.
const ARRAY_MAX: u64 = 0;
const ARRAY_OPS: u64 = 16;
const ARRAY_PARAM: &str = "param_array_ops";

/// Parameters looked at.
const MAX_PARAMETERS: usize = 4096;

/// A module, as its file has it.
#[derive(Debug, Default)]
pub(super) struct ModuleFile {
    /// What it calls itself.
    pub name: Option<String>,
    /// What kernel it is for.
    pub vermagic: Option<String>,
    /// Whether it has a checksum of each symbol that it needs, by which kernels of other releases take it.
    pub has_versions: bool,
    /// Its parameters; none if they cannot be told.
    pub parameters: Option<Vec<Parameter>>,
    /// Symbols that it cannot do without.
    pub needs: BTreeSet<String>,
    /// Symbols that it may have for others.
    pub defines: BTreeSet<String>,
}

/// Where a pointer of the file leads.
enum Target {
    /// To a place in a section.
    Here(SectionIndex, u64),
    /// To a symbol that somebody else has.
    Elsewhere(String),
}

impl ModuleFile {
    /// Takes a file apart.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let file = object::File::parse(bytes).map_err(|e| format!("it is no ELF file: {e}"))?;
        if file.architecture() != Architecture::Aarch64 || !file.is_little_endian() {
            return Err("it is not for arm64".into());
        }
        let info = file.section_by_name(".modinfo");
        let info = info.filter(|_| file.kind() == ObjectKind::Relocatable);
        let info =
            info.ok_or("it is no kernel module: it has no .modinfo, or was linked as a program")?;
        let info = info.data().map_err(|e| e.to_string())?;
        let words = || info.split(|b| *b == 0).map(String::from_utf8_lossy);
        let of = |key: &str| {
            let value = |word: std::borrow::Cow<'_, str>| Some(word.strip_prefix(key)?.to_owned());
            words().find_map(value)
        };
        let types: BTreeMap<String, String> = words()
            .filter_map(|word| {
                let (name, declared) = word.strip_prefix("parmtype=")?.split_once(':')?;
                Some((name.to_owned(), declared.to_owned()))
            })
            .collect();
        let all = || {
            file.symbols()
                .filter(|s| s.name().is_ok_and(|n| !n.is_empty()))
        };
        let names = |symbols: &mut dyn Iterator<Item = object::Symbol<'_, '_>>| {
            symbols
                .filter_map(|s| s.name().ok().map(str::to_owned))
                .collect()
        };
        Ok(ModuleFile {
            name: of("name="),
            vermagic: of("vermagic="),
            has_versions: ["__versions", "__version_ext_names"]
                .iter()
                .any(|name| file.section_by_name(name).is_some_and(|s| s.size() > 0)),
            parameters: parameters(&file, &types),
            needs: names(&mut all().filter(|s| s.is_undefined() && !s.is_weak())),
            defines: names(&mut all().filter(|s| s.is_definition() && s.is_global())),
        })
    }
}

/// The module's parameters, as the kernel has them. Those in `.modinfo` (`types`) are only what its author
/// says: `module_param_cb()` leaves none there.
fn parameters(file: &object::File<'_>, types: &BTreeMap<String, String>) -> Option<Vec<Parameter>> {
    let Some(section) = file.section_by_name("__param") else {
        return Some(Vec::new());
    };
    let bytes = section.data().ok()?.len();
    if bytes % PARAM_BYTES != 0 || bytes / PARAM_BYTES > MAX_PARAMETERS {
        return None;
    }
    let pointers = pointers(file, &section);
    let starts = (0..bytes).step_by(PARAM_BYTES).map(|at| at as u64);
    let one = |start: u64| {
        let Target::Here(section, at) = pointers.get(&(start + PARAM_NAME))? else {
            return None;
        };
        let name = string(file, *section, *at)?;
        let kind = match pointers.get(&(start + PARAM_OPS)) {
            Some(Target::Elsewhere(ops)) if ops == ARRAY_PARAM => {
                match pointers.get(&(start + PARAM_ARG)) {
                    Some(Target::Here(section, at)) => array(file, *section, *at),
                    _ => Kind::Own,
                }
            }
            Some(Target::Elsewhere(ops)) => Scalar::of_ops(ops).map_or(Kind::Own, Kind::One),
            _ => Kind::Own,
        };
        let declared = types.get(&name).cloned();
        Some(Parameter {
            name,
            declared,
            kind,
        })
    };
    let mut all: Vec<Parameter> = starts.map(one).collect::<Option<_>>()?;
    // Compilers turn them round.
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Some(all)
}

/// What an array takes, by its description at a place of the file.
fn array(file: &object::File<'_>, section: SectionIndex, at: u64) -> Kind {
    let read = || {
        let section = file.section_by_index(section).ok()?;
        let most = section.data_range(at + ARRAY_MAX, 4).ok()??;
        let most = u32::from_le_bytes(most.try_into().ok()?);
        match pointers(file, &section).get(&at.checked_add(ARRAY_OPS)?)? {
            Target::Elsewhere(ops) => Some((most, Scalar::of_ops(ops)?)),
            Target::Here(..) => None,
        }
    };
    read().map_or(Kind::Own, |(most, of)| Kind::Array { most, of })
}

/// The pointers in a section, by where they are in it.
fn pointers(file: &object::File<'_>, section: &object::Section<'_, '_>) -> BTreeMap<u64, Target> {
    let all = section.relocations().filter_map(|(place, relocation)| {
        let plus = |at: u64| at.wrapping_add_signed(relocation.addend());
        let target = match relocation.target() {
            RelocationTarget::Symbol(index) => {
                let symbol = file.symbol_by_index(index).ok()?;
                match symbol.section_index() {
                    Some(section) => Target::Here(section, plus(symbol.address())),
                    None => Target::Elsewhere(symbol.name().ok()?.to_owned()),
                }
            }
            RelocationTarget::Section(index) => Target::Here(index, plus(0)),
            _ => return None,
        };
        Some((place, target))
    });
    all.collect()
}

/// A name at a place of the file; none if it is none.
fn string(file: &object::File<'_>, section: SectionIndex, at: u64) -> Option<String> {
    let section = file.section_by_index(section).ok()?;
    let bytes = section.data().ok()?.get(usize::try_from(at).ok()?..)?;
    let len = bytes.iter().position(|b| *b == 0)?;
    let name = std::str::from_utf8(bytes.get(..len)?).ok()?;
    let plain = |c: char| c.is_ascii_graphic() && c != '=' && c != '"';
    (!name.is_empty() && name.chars().all(plain)).then(|| name.to_owned())
}
