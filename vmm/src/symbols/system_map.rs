// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `System.map`: `address type name` lines, as `nm` writes them.

use std::ops::Range;
use std::path::Path;

/// Functions by address.
pub struct SystemMap {
    symbols: Vec<(u64, String)>,
    start: Option<u64>,
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
        symbols.dedup_by_key(|(address, _)| *address);
        SystemMap { symbols, start }
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
        let at = self.symbols.iter().position(|(_, name)| name == function)?;
        let (start, _) = self.symbols.get(at)?;
        let end = self.symbols.get(at + 1).map_or(u64::MAX, |(next, _)| *next);
        Some(*start..end)
    }

    /// `function+0xoffset`.
    pub fn symbol(&self, va: u64) -> Option<String> {
        let after = self.symbols.partition_point(|(address, _)| *address <= va);
        let (address, name) = self.symbols.get(after.checked_sub(1)?)?;
        Some(super::elf::with_offset(name, va - address))
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
