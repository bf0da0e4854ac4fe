// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A call chain for people: a function a line, what everybody goes through folded, the drivers'
//! own functions marked.

use staleline_results::{Place, Shown};

/// A line of a call chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainLine {
    /// A function.
    Function {
        /// Its name, with offset where it was not inlined.
        name: String,
        /// `file:line`, if known.
        place: Option<String>,
        /// It is a driver's: an exporter's, an importer's or another.
        driver: bool,
        /// It is of a program of the user's.
        program: bool,
        /// It is of a module.
        module: bool,
        /// What stands in that line, if that is known.
        text: Option<String>,
        /// Where on the host the file is, if it is named from somewhere else.
        path: Option<String>,
    },
    /// Functions left out.
    Folded {
        /// How many.
        count: usize,
        /// What they are part of.
        of: &'static str,
    },
}

/// Functions shown of one chain, at most.
const SHOWN: usize = 10;

/// Functions shown of one that no driver is part of.
const SHOWN_OTHER: usize = 6;

/// Whose code a function is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    /// The page and object allocators, and the way to the pages of a process.
    Memory,
    /// The DMA API.
    Dma,
    /// The rest of the kernel that is no driver.
    Core,
    /// What drivers of a kind share.
    Framework,
    Driver,
    /// Code of a process, or unknown.
    Other,
}

/// Layers by the start of a source's path; the first that fits.
const LAYERS: [(&str, Layer); 25] = [
    ("mm/", Layer::Memory),
    ("include/linux/dma-", Layer::Dma),
    ("kernel/dma/", Layer::Dma),
    ("arch/arm64/mm/cache.S", Layer::Dma),
    ("arch/arm64/mm/dma-", Layer::Dma),
    ("arch/arm64/mm/", Layer::Memory),
    ("include/linux/highmem", Layer::Memory),
    ("include/linux/gfp", Layer::Memory),
    ("include/linux/mm", Layer::Memory),
    ("include/linux/shmem", Layer::Memory),
    ("include/linux/slab", Layer::Memory),
    ("include/", Layer::Core),
    ("arch/", Layer::Core),
    ("kernel/", Layer::Core),
    ("init/", Layer::Core),
    ("block/", Layer::Core),
    ("lib/", Layer::Core),
    ("fs/", Layer::Core),
    ("drivers/base/", Layer::Core),
    ("drivers/dma-buf/dma-buf.c", Layer::Framework),
    ("drivers/dma-buf/dma-heap.c", Layer::Framework),
    ("drivers/dma/dmaengine.c", Layer::Framework),
    ("drivers/usb/gadget/udc/core.c", Layer::Framework),
    ("drivers/", Layer::Driver),
    ("sound/", Layer::Driver),
];

fn layer(function: &Shown<'_>) -> Layer {
    // Sources of a program may be called as the kernel's are.
    if !function.kernel {
        return Layer::Other;
    }
    let file = function.file.unwrap_or_default();
    // A module's own sources are named from where it is; headers of the kernel's, from its top.
    let foreign = ["include/", "arch/"]
        .iter()
        .any(|top| file.starts_with(top));
    if function.module.is_some() && !foreign {
        return Layer::Driver;
    }
    let known = LAYERS.iter().find(|(start, _)| file.starts_with(start));
    known.map_or(Layer::Other, |(_, layer)| *layer)
}

impl Layer {
    fn name(self) -> &'static str {
        match self {
            Layer::Memory => "the allocator",
            Layer::Dma => "the DMA API",
            Layer::Core | Layer::Framework | Layer::Driver | Layer::Other => "the kernel",
        }
    }
}

/// How the CPU came to a place, innermost first: through the kernel, and behind that the user's program
/// whose system call it was.
pub fn chain(place: &Place) -> Vec<ChainLine> {
    let mut va = Vec::new();
    let all = place.all_shown(&mut va);
    let user = all.iter().position(|function| !function.kernel);
    let (kernel, user) = all.split_at(user.unwrap_or(all.len()));
    // What calls main() is the same in all programs.
    let main = user.iter().position(|f| f.program && f.function == "main");
    let user = main.map_or(user, |main| &user[..=main]);
    let mut lines = lines(kernel);
    // Why the agent asks the kernel for something is no business of the user's.
    if kernel.is_empty() || user.iter().any(|function| function.program) {
        lines.extend(self::lines(user));
    }
    lines
}

/// Those of one side.
fn lines(all: &[Shown<'_>]) -> Vec<ChainLine> {
    let layers: Vec<Layer> = all.iter().map(layer).collect();
    // Beyond the outermost driver, the function that called it is enough.
    let outermost = layers.iter().rposition(|l| *l == Layer::Driver);
    let (end, most) = match outermost {
        Some(driver) => ((driver + 2).min(all.len()), SHOWN),
        None => (all.len(), SHOWN_OTHER),
    };
    let mut lines: Vec<ChainLine> = Vec::new();
    let mut shown = 0;
    for (i, (function, layer)) in all.iter().zip(&layers).enumerate() {
        // Of what everybody goes through, the function called from outside is known to people.
        let next = |n: usize| layers.get(i + n) == Some(layer);
        let folds = lines.last().is_some_and(|l| is_fold_of(l, layer.name()));
        // One alone is not worth folding.
        let inner = next(1) && (next(2) || folds);
        let generic = matches!(layer, Layer::Memory | Layer::Dma | Layer::Core);
        let beyond = i >= end || shown == most;
        if beyond || (i > 0 && generic && inner) {
            let of = if beyond { Layer::Core } else { *layer };
            fold(&mut lines, of.name());
            continue;
        }
        shown += 1;
        lines.push(ChainLine::Function {
            name: function.name(),
            place: function.file.map(|file| match function.line {
                Some(line) => format!("{file}:{line}"),
                None => file.to_owned(),
            }),
            driver: *layer == Layer::Driver,
            program: function.program,
            module: function.module.is_some(),
            text: function.text.map(str::to_owned),
            path: function.path.map(str::to_owned),
        });
    }
    // What led to the outermost function shown is not worth a line.
    if let Some(ChainLine::Folded { .. }) = lines.last() {
        lines.pop();
    }
    lines
}

fn is_fold_of(line: &ChainLine, part: &str) -> bool {
    matches!(line, ChainLine::Folded { of, .. } if *of == part)
}

/// One more function that is left out.
fn fold(lines: &mut Vec<ChainLine>, of: &'static str) {
    match lines.last_mut() {
        Some(ChainLine::Folded { count, of: same }) if *same == of => *count += 1,
        _ => lines.push(ChainLine::Folded { count: 1, of }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use staleline_results::{Frame, Hex, Stack};

    /// `user:` before the file: of a process.
    fn place(function: &str, file: &str) -> Place {
        let (kernel, file) = match file.strip_prefix("user:") {
            Some(file) => (false, file),
            None => (true, file),
        };
        Place {
            va: Hex(0xffff_8000_0000_0000),
            kernel,
            symbol: Some(format!("{function}+0x8")),
            module: None,
            program: (!kernel).then(|| "prog".to_owned()),
            frames: vec![Frame {
                function: function.into(),
                file: Some(file.into()),
                text: None,
                path: None,
                line: Some(7),
            }],
            stack: None,
        }
    }

    fn lines(calls: &[(&str, &str)]) -> Vec<String> {
        let mut places = calls.iter().map(|(f, file)| place(f, file));
        let mut first = places.next().unwrap();
        first.stack = Some(Stack {
            callers: places.collect(),
            ..Stack::default()
        });
        let text = |line| match line {
            ChainLine::Function { name, driver, .. } => {
                format!("{}{name}", if driver { "> " } else { "" })
            }
            ChainLine::Folded { count, of } => format!("{count} of {of}"),
        };
        chain(&first).into_iter().map(text).collect()
    }

    #[test]
    fn the_allocator_is_folded_and_drivers_are_marked() {
        let chain = [
            ("clear_page", "arch/arm64/lib/clear_page.S"),
            ("clear_highpage", "include/linux/highmem.h"),
            ("prep_new_page", "mm/page_alloc.c"),
            ("get_page", "mm/page_alloc.c"),
            ("alloc_pages", "mm/mempolicy.c"),
            (
                "system_heap_allocate",
                "drivers/dma-buf/heaps/system_heap.c",
            ),
            ("dma_heap_ioctl", "drivers/dma-buf/dma-heap.c"),
            ("vfs_ioctl", "fs/ioctl.c"),
            ("__arm64_sys_ioctl", "fs/ioctl.c"),
            ("invoke_syscall", "arch/arm64/kernel/syscall.c"),
            ("el0_svc", "arch/arm64/kernel/entry-common.c"),
        ];
        assert_eq!(
            lines(&chain),
            [
                "clear_page+0x8",
                "3 of the allocator",
                "alloc_pages+0x8",
                "> system_heap_allocate+0x8",
                "dma_heap_ioctl+0x8",
            ]
        );
    }

    #[test]
    fn a_chain_goes_on_in_the_program_whose_system_call_it_was() {
        let mut chain = vec![
            ("clean", "arch/arm64/mm/cache.S"),
            ("system_heap_map", "drivers/dma-buf/heaps/system_heap.c"),
            ("dma_buf_ioctl", "drivers/dma-buf/dma-buf.c"),
            ("__arm64_sys_ioctl", "fs/ioctl.c"),
            ("el0_svc", "arch/arm64/kernel/entry-common.c"),
        ];
        let kernel = ["clean+0x8", "> system_heap_map+0x8", "dma_buf_ioctl+0x8"];
        assert_eq!(lines(&chain), kernel);
        // Whatever its sources are called.
        chain.extend([("ioctl", "user:misc/ioctl.c"), ("main", "user:drivers/x.c")]);
        assert_eq!(
            lines(&chain),
            [&kernel[..], &["ioctl+0x8", "main+0x8"]].concat()
        );
    }

    #[test]
    fn a_chain_without_a_driver_is_bounded() {
        let chain = vec![("f", "kernel/a.c"); 40];
        let lines = lines(&chain);
        assert_eq!(lines, ["f+0x8", "38 of the kernel", "f+0x8"]);
        let driver = vec![("f", "drivers/a.c"); 40];
        assert_eq!(self::lines(&driver).len(), SHOWN);
    }
}
