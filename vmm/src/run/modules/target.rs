// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a kernel asks of modules, as far as its files tell: the one string that has to be the same
//! (include/linux/vermagic.h), and the symbols that it has for them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use memchr::memmem;

use super::file::ModuleFile;
use crate::run::choice::Choice;
use crate::run::prebuilt;

/// The list of symbols that kbuild leaves.
const SYMBOLS: &str = "Module.symvers";

/// What every such string for arm64 has in it (arch/arm64/include/asm/vermagic.h).
const ARCH: &str = "aarch64";

/// Bytes of such a string.
const MAGIC_BYTES: usize = 512;

/// Symbols that are told of those that are missing.
const TOLD: usize = 5;

/// The kernel that modules are for. What is none is not known.
#[derive(Debug, Default)]
pub(super) struct Target {
    vermagic: Option<String>,
    /// Symbols that it exports.
    exports: Option<BTreeSet<String>>,
}

impl Target {
    /// Of a kernel that is there; nothing of one that has yet to be built.
    pub fn of(choice: &Choice) -> Self {
        let (image, beside): (&Path, Vec<PathBuf>) = match choice {
            Choice::Built { kernel, .. } => {
                (&kernel.image, vec![kernel.image.with_file_name(SYMBOLS)])
            }
            // Where its build has left the other list.
            Choice::Prebuilt(prebuilt) => {
                let map = prebuilt.system_map.as_deref();
                let list = map.map(|map| map.with_file_name(SYMBOLS));
                (&prebuilt.image, list.into_iter().collect())
            }
            Choice::Stack(_) => return Target::default(),
        };
        let bytes = std::fs::read(image).unwrap_or_default();
        let exports = beside
            .iter()
            .find_map(|list| std::fs::read_to_string(list).ok());
        Target {
            vermagic: vermagic(&bytes),
            exports: exports.as_deref().map(exported).filter(|e| !e.is_empty()),
        }
    }

    /// Why the kernel would refuse a module, if it certainly would. `earlier` are symbols of modules that it
    /// has by then.
    pub fn refuses(
        &self,
        kernel: &str,
        module: &ModuleFile,
        earlier: &BTreeSet<String>,
    ) -> Option<String> {
        if let (Some(own), Some(module)) = (
            &self.vermagic,
            &module.vermagic.as_ref().map(|m| (m, module.has_versions)),
        ) && !fits(own, module.0, module.1)
        {
            return Some(format!(
                "it was built for another kernel: its vermagic is `{}`, and that of kernel `{kernel}` is `{}`",
                module.0.trim_end(),
                own.trim_end()
            ));
        }
        let exports = self.exports.as_ref()?;
        let is_there = |name: &&String| exports.contains(*name) || earlier.contains(*name);
        let lacks: Vec<&str> = module
            .needs
            .iter()
            .filter(|name| !is_there(name))
            .map(String::as_str)
            .collect();
        let more = match lacks.len().checked_sub(TOLD) {
            None | Some(0) => String::new(),
            Some(more) => format!(" and {more} more"),
        };
        (!lacks.is_empty()).then(|| {
            format!(
                "it needs symbols that kernel `{kernel}` does not export: {}{more}; a module that has them \
                 has to be named before it (--module)",
                lacks[..lacks.len().min(TOLD)].join(", ")
            )
        })
    }
}

/// Whether a kernel takes a module by its string (`same_magic()` of kernel/module/version.c).
fn fits(kernel: &str, module: &str, has_versions: bool) -> bool {
    let behind = |magic: &str| magic.split_once(' ').map(|(_, rest)| rest.to_owned());
    match has_versions && kernel.split(' ').any(|word| word == "modversions") {
        true => behind(kernel) == behind(module),
        false => kernel == module,
    }
}

/// The string in an image; none if it has no modules, or is not as ours are.
fn vermagic(image: &[u8]) -> Option<String> {
    let release = prebuilt::version(image)? + " ";
    let mut all = memmem::find_iter(image, release.as_bytes()).filter_map(|at| {
        let before = at.checked_sub(1).and_then(|before| image.get(before));
        let rest = image.get(at..)?;
        let rest = rest.get(..MAGIC_BYTES.min(rest.len()))?;
        let text = rest.get(..rest.iter().position(|b| *b == 0)?)?;
        let text = std::str::from_utf8(text)
            .ok()
            .filter(|_| before == Some(&0))?;
        let is_it = text.split(' ').any(|word| word == ARCH);
        is_it.then(|| text.to_owned())
    });
    let found = all.next()?;
    // Of two, nobody knows which one counts.
    all.all(|other| other == found).then_some(found)
}

/// The kernel's own symbols of such a list: checksum, name, where it is, and more, with tabs between them.
fn exported(list: &str) -> BTreeSet<String> {
    let lines = list.lines().filter_map(|line| {
        let mut fields = line.split('\t').skip(1);
        let (name, place) = (fields.next()?, fields.next()?);
        (place == "vmlinux").then(|| name.to_owned())
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: &str = "6.12.1-own SMP preempt mod_unload aarch64";

    fn image(more: &str) -> Vec<u8> {
        format!("..Linux version %s\0Linux version 6.12.1-own (gcc)\0{more}\0").into_bytes()
    }

    #[test]
    fn the_string_is_found_in_an_image() {
        assert_eq!(vermagic(&image(MAGIC)).as_deref(), Some(MAGIC));
        assert_eq!(vermagic(&image("6.12.1-own (x) aarch64x")), None);
        assert_eq!(vermagic(&image(&format!("x{MAGIC}"))), None);
        let two = format!("{MAGIC}\0{MAGIC} \0");
        assert_eq!(vermagic(&image(&two)), None);
        assert_eq!(vermagic(b"Linux version 6.12.1-own "), None);
        assert_eq!(vermagic(b""), None);
    }

    #[test]
    fn a_module_with_checksums_may_be_of_another_release() {
        let with = MAGIC.replace("mod_unload", "mod_unload modversions");
        let other = with.replace("6.12.1", "6.12.2");
        assert!(fits(&with, &other, true) && !fits(&with, &other, false));
        assert!(fits(MAGIC, MAGIC, false) && !fits(MAGIC, &with, true));
    }

    #[test]
    fn what_a_kernel_lacks_is_told_unless_an_earlier_module_has_it() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let target = Target {
            vermagic: Some(MAGIC.into()),
            exports: Some(exported(
                "0x0\tkmalloc\tvmlinux\tEXPORT_SYMBOL\t\n0x0\tfoo\tdrivers/foo\tEXPORT_SYMBOL\t\nx\n",
            )),
        };
        let module = |needs: &[&str]| ModuleFile {
            vermagic: Some(MAGIC.into()),
            needs: names(needs),
            ..ModuleFile::default()
        };
        let why = |needs: &[&str], earlier: &[&str]| {
            target.refuses("mine", &module(needs), &names(earlier))
        };
        assert_eq!(why(&["kmalloc"], &[]), None);
        assert_eq!(why(&["kmalloc", "foo"], &["foo"]), None);
        let told = why(&["a", "b", "c", "d", "e", "foo", "kmalloc"], &[]).unwrap();
        assert!(
            told.contains("not export: a, b, c, d, e and 1 more;"),
            "{told}"
        );
        let other = ModuleFile {
            vermagic: Some("6.1.0 SMP aarch64".into()),
            ..ModuleFile::default()
        };
        let told = target.refuses("mine", &other, &names(&[])).unwrap();
        assert!(
            told.contains("`6.1.0 SMP aarch64`") && told.contains(MAGIC),
            "{told}"
        );
        // What is not known is not held against it.
        let unknown = Target::default();
        assert_eq!(unknown.refuses("mine", &other, &names(&[])), None);
        assert_eq!(unknown.refuses("mine", &module(&["a"]), &names(&[])), None);
    }
}
