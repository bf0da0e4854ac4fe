// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `System.map`: `address type name` lines, as `nm` writes them.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

/// Functions by address.
pub struct SystemMap {
    /// Of aliases, the name that people know comes first.
    symbols: Vec<(u64, String)>,
    start: Option<u64>,
    /// The addresses of each name. Functions that are static may have one together.
    names: OnceCell<HashMap<String, Vec<u64>>>,
}

impl SystemMap {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
        let map = SystemMap::parse(&text);
        if map.symbols.is_empty() {
            return Err("it has no code symbols".into());
        }
        Ok(map)
    }

    fn parse(text: &str) -> Self {
        let mut symbols: Vec<(u64, String)> = text.lines().filter_map(code_symbol).collect();
        let start = symbols.iter().find(|(_, name)| name == "_text");
        let start = start.map(|(address, _)| *address);
        // Of aliases, the first in the file, but the name that people know: the kernel has
        // position-independent aliases of its assembly routines.
        symbols.sort_by_key(|(address, name)| (*address, name.starts_with("__pi_")));
        SystemMap {
            symbols,
            start,
            names: OnceCell::new(),
        }
    }

    /// The address that the kernel's first byte is linked for.
    pub fn start(&self) -> Option<u64> {
        self.start
    }

    /// Whether there is a function of that name.
    pub fn has(&self, function: &str) -> bool {
        self.symbols.iter().any(|(_, name)| name == function)
    }

    /// All of a function.
    pub fn code(&self, function: &str) -> Option<Range<u64>> {
        let (start, _) = self.symbols.iter().find(|(_, name)| name == function)?;
        Some(*start..self.next(*start).unwrap_or(u64::MAX))
    }

    /// Where the only function of that name and size starts; the size is what is left up to the next one, as
    /// the kernel counts it.
    pub fn named(&self, function: &str, size: u64) -> Option<u64> {
        let names = self.names.get_or_init(|| {
            let mut names: HashMap<String, Vec<u64>> = HashMap::new();
            for (address, name) in &self.symbols {
                names.entry(name.clone()).or_default().push(*address);
            }
            names
        });
        let all = names.get(function)?.iter();
        let mut all = all.filter(|start| self.next(**start).is_some_and(|n| n - **start == size));
        let start = *all.next()?;
        all.next().is_none().then_some(start)
    }

    /// `function+0xoffset`.
    pub fn symbol(&self, va: u64) -> Option<String> {
        let after = self.symbols.partition_point(|(address, _)| *address <= va);
        let (address, _) = self.symbols.get(after.checked_sub(1)?)?;
        let first = self.symbols.partition_point(|(a, _)| a < address);
        let (_, name) = self.symbols.get(first)?;
        Some(super::elf::with_offset(name, va - address))
    }

    /// Where the function behind one starts.
    fn next(&self, start: u64) -> Option<u64> {
        let next = self
            .symbols
            .partition_point(|(address, _)| *address <= start);
        Some(self.symbols.get(next)?.0)
    }
}

fn code_symbol(line: &str) -> Option<(u64, String)> {
    let mut fields = line.split_whitespace();
    let address = u64::from_str_radix(fields.next()?, 16).ok()?;
    let kind = fields.next()?;
    let name = fields.next()?;
    // Mapping symbols ($x, $d) mark code and data, they name nothing.
    (matches!(kind, "T" | "t" | "W" | "w") && !name.starts_with('$'))
        .then(|| (address, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_found_by_name_and_size() {
        let map = SystemMap::parse(
            "1000 T _text\n1000 T first\n1040 t probe\n1060 T __pi_clean\n1060 T clean\n1100 t probe\n\
             1140 t twin\n1150 t twin\n1160 T last\n",
        );
        assert_eq!(map.named("first", 0x40), Some(0x1000));
        assert_eq!(map.named("probe", 0x20), Some(0x1040));
        assert_eq!(map.named("probe", 0x40), Some(0x1100));
        assert_eq!(map.named("__pi_clean", 0xa0), Some(0x1060));
        assert_eq!(map.symbol(0x1064).unwrap(), "clean+0x4");
        assert_eq!(map.code("clean"), Some(0x1060..0x1100));
        // Another kernel's, one of two, and one of which nobody knows where it ends.
        for (function, size) in [("probe", 0x30), ("twin", 0x10), ("last", 0x10), ("none", 1)] {
            assert_eq!(map.named(function, size), None, "{function}");
        }
    }
}
