// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Lines of the kernel's call traces.
//!
//! They have names and no addresses (arch/arm64/kernel/stacktrace.c, kernel/kallsyms.c): function, offset, how
//! far it is from there to the next function, and the module.

/// A function of a call trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// Its name.
    pub function: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// Bytes from its start to that of the next function.
    pub size: u64,
    /// The module that it is part of, if it is.
    pub module: Option<String>,
    /// Whether that is the instruction that was executed, as the kernel marks it; else it is where the
    /// function goes on once the call is over.
    pub exact: bool,
}

/// The vectors for exceptions that the kernel takes from itself (arch/arm64/kernel/entry.S): before them in
/// time, and so behind them in a trace, comes the instruction that was interrupted.
const VECTORS: [&str; 2] = ["el1h_64_", "el1t_64_"];

impl Called {
    /// Of a line of a trace: ` name+0x1c/0x80 [module]`, with `(P)` behind it where newer kernels took it
    /// from the registers.
    pub(super) fn of_line(line: &str) -> Option<Self> {
        Called::of_words(line.strip_prefix(' ')?)
    }

    /// The same without the space at the start.
    pub(super) fn of_words(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (function, size) = words.next()?.split_once('/')?;
        let (name, offset) = function.rsplit_once('+')?;
        let hex = |n: &str| u64::from_str_radix(n.strip_prefix("0x")?, 16).ok();
        let mut called = Called {
            function: name.to_owned(),
            offset: hex(offset)?,
            size: hex(size)?,
            module: None,
            exact: false,
        };
        for word in words {
            // Behind the module's name there may be its build ID.
            if let Some(module) = word.strip_prefix('[') {
                called.module = Some(module.trim_end_matches(']').to_owned());
            } else if let Some(marks) = word.strip_prefix('(') {
                called.exact |= marks.contains('P');
            }
        }
        (!name.is_empty()).then_some(called)
    }

    /// As people know it: `name+0x1c [module]`.
    pub fn text(&self) -> String {
        let module = self.module.as_ref().map(|module| format!(" [{module}]"));
        format!("{}{}", self.symbol(), module.unwrap_or_default())
    }

    /// `name+0x1c`.
    pub fn symbol(&self) -> String {
        format!("{}+{:#x}", self.function, self.offset)
    }

    /// Whether it is the same place.
    pub(super) fn is_at(&self, other: &Called) -> bool {
        let key = |c: &Called| (c.function.clone(), c.offset, c.size, c.module.clone());
        key(self) == key(other)
    }

    /// Whether what comes next in a trace was interrupted, and has not called it.
    pub(super) fn is_vector(&self) -> bool {
        VECTORS
            .iter()
            .any(|start| self.function.starts_with(start) && !self.function.ends_with("_handler"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_function_offset_module_and_marks() {
        let of = |line| Called::of_line(line).unwrap();
        let plain = of(" frob+0x40/0x90");
        assert_eq!((plain.offset, plain.size, plain.exact), (0x40, 0x90, false));
        assert_eq!(plain.text(), "frob+0x40");
        let module = of(" frob.isra.0+0x0/0x90 [own 0123abcd] (P)");
        assert_eq!(module.text(), "frob.isra.0+0x0 [own]");
        assert!(module.exact);
        assert!(!of(" frob+0x40/0x90 (T)").exact);
        for none in [
            "frob+0x40/0x90",
            " frob+40/0x90",
            " frob",
            " +0x1/0x2",
            " a+0x1/0xffffffffffffffffff",
            "",
        ] {
            assert_eq!(Called::of_line(none), None, "{none}");
        }
    }
}
