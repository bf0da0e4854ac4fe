// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A place in guest code and the way there, as data and as text.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Hex;

/// A function that an address belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Its name.
    pub function: String,
    /// Source file, relative to the top of the sources where that is known.
    pub file: Option<String>,
    /// Line.
    pub line: Option<u32>,
    /// What stands in that line, if it is the user's own source, and has not changed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Where on the host the file is, if it is the user's own and named from somewhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// A place in guest code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Address of the instruction.
    pub va: Hex,
    /// Whether it is kernel code.
    pub kernel: bool,
    /// Function and offset, `clear_page+0x14`.
    pub symbol: Option<String>,
    /// The kernel's module that it is part of, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// The user's program that it is part of, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// The function and those it was inlined into, innermost first; empty without debug
    /// information.
    pub frames: Vec<Frame>,
    /// How the CPU came here, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<Stack>,
}

/// How a CPU came to a place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// The calls that led there, innermost first; each place is that of a call instruction. Behind
    /// where the kernel was entered, it goes on with the program that has made the system call, from the
    /// `svc` instruction on.
    pub callers: Vec<Place>,
    /// ID of the thread, as the kernel keeps it in CONTEXTIDR_EL1.
    pub pid: Option<u32>,
    /// Name of the thread, if known.
    pub task: Option<String>,
    /// Whether it was in an interrupt, so that the thread is only the one that was interrupted.
    pub interrupt: bool,
}

/// Functions shown in text.
const SHOWN: usize = 6;

/// Sources of code that every caller goes through: of it, the function called from outside is what
/// people know.
const GENERIC: [&str; 5] = [
    "mm/",
    "kernel/dma/",
    "arch/arm64/mm/",
    "arch/arm64/include/",
    "include/",
];

/// Sources of the way from an exception to the code that handles it.
const ENTRY: [&str; 3] = [
    "arch/arm64/kernel/entry",
    "arch/arm64/kernel/syscall",
    "arch/arm64/include/asm/syscall",
];

/// One function in text.
pub struct Shown<'a> {
    /// Its name.
    pub function: &'a str,
    /// `+0x14`, of the function that was not inlined.
    pub offset: &'a str,
    /// The kernel's module that it is part of, if it is.
    pub module: Option<&'a str>,
    /// Source file.
    pub file: Option<&'a str>,
    /// Line.
    pub line: Option<u32>,
    /// What stands there.
    pub text: Option<&'a str>,
    /// Where on the host the file is, if it is named from somewhere else.
    pub path: Option<&'a str>,
    /// Whether it is the kernel's.
    pub kernel: bool,
    /// Whether it is of a program of the user's.
    pub program: bool,
}

impl Shown<'_> {
    fn is_in(&self, sources: &[&str]) -> bool {
        self.file
            .is_some_and(|file| sources.iter().any(|s| file.starts_with(s)))
    }
}

impl Shown<'_> {
    /// Whether every caller goes through it.
    pub fn is_generic(&self) -> bool {
        self.is_in(&GENERIC)
    }

    /// `function+0x14`, and of which module.
    pub fn name(&self) -> String {
        let module = self.module.map(|module| format!(" [{module}]"));
        let module = module.unwrap_or_default();
        format!("{}{}{module}", self.function, self.offset)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        match (self.file, self.line) {
            (Some(file), Some(line)) => write!(f, " ({file}:{line})"),
            (Some(file), None) => write!(f, " ({file})"),
            _ => Ok(()),
        }
    }
}

impl Place {
    /// Name of the function, or the address.
    pub fn function(&self) -> String {
        if let Some(frame) = self.frames.first() {
            return frame.function.clone();
        }
        match &self.symbol {
            Some(symbol) => symbol.split('+').next().unwrap_or_default().to_owned(),
            None => self.va.to_string(),
        }
    }

    /// The functions at this place alone, innermost first.
    fn functions(&self) -> Vec<Shown<'_>> {
        let symbol = self.symbol.as_deref().unwrap_or_default();
        let offset = symbol.rfind('+').map_or("", |at| &symbol[at..]);
        let last = self.frames.len().saturating_sub(1);
        self.frames
            .iter()
            .enumerate()
            .map(|(i, frame)| Shown {
                function: without_generics(&frame.function),
                offset: if i == last { offset } else { "" },
                module: self.module.as_deref(),
                file: frame.file.as_deref(),
                line: frame.line,
                text: frame.text.as_deref(),
                path: frame.path.as_deref(),
                kernel: self.kernel,
                program: self.program.is_some(),
            })
            .collect()
    }

    /// The functions that matter to people, of this place and those that led here; an omission is
    /// none.
    fn shown(&self, va: &mut Vec<String>) -> Vec<Option<String>> {
        shorten(&self.all_shown(va))
    }

    /// All of them, of which some may be left out.
    pub fn all_shown<'a>(&'a self, va: &'a mut Vec<String>) -> Vec<Shown<'a>> {
        let callers = self.stack.iter().flat_map(|s| &s.callers);
        let places: Vec<&Place> = std::iter::once(self).chain(callers).collect();
        va.extend(places.iter().map(|place| place.va.to_string()));
        let mut all = Vec::new();
        for (place, va) in places.iter().zip(va.iter()) {
            let functions = place.functions();
            if functions.is_empty() {
                all.push(Shown {
                    function: place.symbol.as_deref().unwrap_or(va),
                    offset: "",
                    module: place.module.as_deref(),
                    file: None,
                    line: None,
                    text: None,
                    path: None,
                    kernel: place.kernel,
                    program: place.program.is_some(),
                });
            }
            all.extend(functions);
        }
        // The language's own library only if there is nothing else.
        if all.iter().any(|s| !s.is_in(&["library/"])) {
            all.retain(|s| !s.is_in(&["library/"]));
        }
        // The way from the exception to the code that handles it is at the end, before the program.
        let user = all.iter().position(|s| !s.kernel).unwrap_or(all.len());
        let inner = all[..user].iter().rposition(|s| !s.is_in(&ENTRY));
        let entered = inner.map_or(user.min(1), |inner| inner + 1);
        all.drain(entered..user);
        all
    }
}

/// At most [`SHOWN`] functions.
fn shorten(all: &[Shown<'_>]) -> Vec<Option<String>> {
    let mut shown: Vec<Option<String>> = Vec::new();
    let generic = |i: usize| all.get(i).is_some_and(|s| s.is_in(&GENERIC));
    let mut count = 0;
    for (i, function) in all.iter().enumerate() {
        if all.len() > SHOWN && i > 0 && generic(i) && generic(i + 1) {
            if shown.last().is_some_and(Option::is_some) {
                shown.push(None);
            }
        } else if count == SHOWN {
            shown.push(None);
            break;
        } else {
            shown.push(Some(function.to_string()));
            count += 1;
        }
    }
    shown
}

impl Place {
    /// Who was here: `pid 1 (agent)`, if known.
    pub fn thread(&self) -> Option<String> {
        let stack = self.stack.as_ref()?;
        if stack.interrupt {
            return Some("in an interrupt".into());
        }
        match (stack.pid, &stack.task) {
            (Some(pid), Some(task)) => Some(format!("pid {pid} ({task})")),
            (Some(pid), None) => Some(format!("pid {pid}")),
            (None, _) => None,
        }
    }
}

impl fmt::Display for Place {
    /// `clear_page+0x14 (arch/arm64/lib/clear_page.S:24) <- caller, pid 1 (agent)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, function) in self.shown(&mut Vec::new()).iter().enumerate() {
            let arrow = if i > 0 { " <- " } else { "" };
            write!(f, "{arrow}{}", function.as_deref().unwrap_or("..."))?;
        }
        if !self.kernel {
            write!(f, ", in user space")?;
        }
        match self.thread() {
            Some(thread) => write!(f, ", {thread}"),
            None => Ok(()),
        }
    }
}

/// `phase` for `phase<Console, Mismatch>`.
fn without_generics(function: &str) -> &str {
    match function.find('<') {
        Some(at) if at > 0 => function[..at].trim_end_matches("::"),
        _ => function,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, file: &str) -> Frame {
        Frame {
            function: function.into(),
            file: Some(file.into()),
            line: Some(7),
            text: None,
            path: None,
        }
    }

    fn place(symbol: &str, frames: Vec<Frame>) -> Place {
        Place {
            va: Hex(0x40_0000),
            kernel: false,
            symbol: Some(symbol.into()),
            module: None,
            program: None,
            frames,
            stack: None,
        }
    }

    fn kernel(symbol: &str, file: &str) -> Place {
        let function = symbol.split('+').next().unwrap();
        Place {
            kernel: true,
            ..place(symbol, vec![frame(function, file)])
        }
    }

    #[test]
    fn text_leaves_out_what_does_not_matter() {
        let mut place = place(
            "agent::run+0x24",
            vec![
                frame("read_volatile<u64>", "library/core/src/ptr/mod.rs"),
                frame("check", "a.rs"),
                frame("{closure#2}<Console>", "b.rs"),
                frame("fold<A>", "library/core/src/iter.rs"),
                frame("phase<A, B<C>>", "c.rs"),
                frame("run", "d.rs"),
            ],
        );
        assert_eq!(
            place.to_string(),
            "check (a.rs:7) <- {closure#2} (b.rs:7) <- phase (c.rs:7) <- run+0x24 (d.rs:7), in \
             user space"
        );
        place.frames.truncate(1);
        assert!(place.to_string().starts_with("read_volatile+0x24 ("));
        place.frames.clear();
        assert_eq!(place.to_string(), "agent::run+0x24, in user space");
        place.symbol = None;
        assert_eq!(place.to_string(), "0x400000, in user space");
    }

    #[test]
    fn a_short_chain_is_shown_whole_but_for_the_entry() {
        let mut place = kernel("dcache_clean_poc+0x20", "arch/arm64/mm/cache.S");
        place.stack = Some(Stack {
            callers: vec![
                kernel("dma_map_sgtable+0x8", "kernel/dma/mapping.c"),
                kernel("system_heap_map_dma_buf+0x30", "drivers/heap.c"),
                kernel("invoke_syscall+0x4", "arch/arm64/kernel/syscall.c"),
                kernel("el0_svc+0x4", "arch/arm64/kernel/entry-common.c"),
            ],
            pid: Some(1),
            task: Some("agent".into()),
            interrupt: false,
        });
        assert_eq!(
            place.to_string(),
            "dcache_clean_poc+0x20 (arch/arm64/mm/cache.S:7) <- dma_map_sgtable+0x8 \
             (kernel/dma/mapping.c:7) <- system_heap_map_dma_buf+0x30 (drivers/heap.c:7), pid 1 \
             (agent)"
        );
    }

    #[test]
    fn of_a_long_chain_what_everybody_calls_is_left_out() {
        let mut place = kernel("clear_page", "arch/arm64/lib/clear_page.S");
        let mut callers: Vec<_> = ["mm/a.c", "include/b.h", "mm/c.c"]
            .iter()
            .map(|file| kernel(&format!("alloc_{}", &file[file.len() - 3..]), file))
            .collect();
        callers.extend((0..7).map(|n| kernel(&format!("driver_{n}"), "drivers/d.c")));
        place.stack = Some(Stack {
            callers,
            pid: Some(2),
            interrupt: true,
            ..Stack::default()
        });
        let text = place.to_string().replace(" (drivers/d.c:7)", "");
        assert_eq!(
            text,
            "clear_page (arch/arm64/lib/clear_page.S:7) <- ... <- alloc_c.c (mm/c.c:7) <- \
             driver_0 <- driver_1 <- driver_2 <- driver_3 <- ..., in an interrupt"
        );
    }

    #[test]
    fn all_of_it_comes_back_from_json() {
        let mut place = kernel("f+0x8", "f.c");
        let json = serde_json::to_value(&place).unwrap();
        assert!(json.get("stack").is_none());
        assert_eq!(serde_json::from_value::<Place>(json).unwrap(), place);
        place.stack = Some(Stack {
            callers: vec![place.clone()],
            ..Stack::default()
        });
        let json = serde_json::to_string(&place).unwrap();
        assert_eq!(serde_json::from_str::<Place>(&json).unwrap(), place);
    }
}
