// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Call chains and names of buffers, from whole boots.
//!
//! What they need is what `boots` needs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use staleline_testing as support;

use std::collections::HashSet;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use staleline_kernels::{KernelBuilder, KernelRequest};
use staleline_results::Place;
use staleline_results::{HazardEntry, Party, RunResult};

const SCENARIO: &str = "iio-capture-nosync";

/// All functions of a place and its callers, inlined ones too, innermost first.
fn functions(place: &Place) -> Vec<&str> {
    let callers = place.stack.iter().flat_map(|s| &s.callers);
    std::iter::once(place)
        .chain(callers)
        .flat_map(|p| p.frames.iter().map(|f| f.function.as_str()))
        .collect()
}

/// Whether the functions occur in this order, others between them or not.
#[track_caller]
fn in_order(functions: &[&str], wanted: &[&str]) {
    let mut rest = functions.iter();
    for name in wanted {
        let found = rest.any(|f| f.split('<').next() == Some(name));
        assert!(found, "{name} is missing or misplaced in {functions:?}");
    }
}

fn reader(hazard: &HazardEntry) -> &Place {
    match &hazard.reader {
        Party::Cpu { place, .. } => place,
        other => panic!("{other:?}"),
    }
}

fn shown(result: &RunResult) -> &HazardEntry {
    &result.hazards[result.diagnostics[0].shown]
}

#[test]
fn a_diagnosis_says_how_the_cpu_came_there() {
    let run = support::run(&[SCENARIO]);
    let result = run.result();
    let tracing = result.tracing.as_ref().unwrap();
    assert!(tracing.same, "{tracing:?}");
    assert_eq!(tracing.run_hash, result.run_hash);

    let hazard = shown(&result);
    let cached_by = hazard.cached_by.as_ref().unwrap();
    let allocation = ["clear_page", "system_heap_allocate", "dma_heap_ioctl"];
    in_order(&functions(cached_by), &allocation);
    in_order(
        &functions(reader(hazard)),
        &["load", "check", "run", "main"],
    );
    let last = hazard.last_maintenance.as_ref().unwrap();
    let map = [
        "dcache_clean_poc",
        "arch_sync_dma_for_device",
        "dma_map_sgtable",
        "system_heap_map_dma_buf",
        "dma_buf_map_attachment",
    ];
    in_order(&functions(&last.place), &map);
    for place in [cached_by, reader(hazard), &last.place] {
        let stack = place.stack.as_ref().unwrap();
        assert_eq!((stack.pid, stack.interrupt), (Some(1), false), "{place}");
        assert_eq!(stack.task.as_deref(), Some("agent"));
    }

    // In text, what everybody calls is left out, and nothing is without file and line.
    let text = cached_by.to_string();
    assert!(text.starts_with("clear_page+0x"), "{text}");
    assert!(text.contains("(arch/arm64/lib/clear_page.S:"), "{text}");
    assert!(text.contains("<- system_heap_allocate+0x"), "{text}");
    assert!(text.ends_with(", pid 1 (agent)"), "{text}");
    // A diagnostic has a line for each that is left, and marks the driver's.
    for part in [
        "  clear_page+0x",
        "frames of the allocator",
        "> system_heap_allocate+0x",
        ", pid 1 (agent)",
    ] {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }
    let who: Vec<_> = result.maintenance.callers.iter().collect();
    let asked = |name| who.iter().any(|c| c.function == name && c.needed > 0);
    assert!(asked("system_heap_map_dma_buf"), "{who:?}");
}

#[test]
fn buffers_are_known_by_what_the_guest_did() {
    for exporter in ["system", "cma", "udmabuf"] {
        let run = support::run(&[SCENARIO, "--exporter", exporter, "--no-trace"]);
        let result = run.result();
        assert_eq!(result.buffers.len(), 2, "{exporter}");
        for (n, buffer) in result.buffers.iter().enumerate() {
            assert_eq!(buffer.index as usize, n);
            assert_eq!(buffer.attached.len(), 1, "{exporter}");
            let known: u64 = buffer.extents.iter().map(|(_, len)| len).sum();
            // The heap for CMA maps a page at its first use, and the last one has no use.
            let used = buffer.bytes - if exporter == "cma" { 4096 } else { 0 };
            assert_eq!(known, used, "{exporter}");
        }
        // All the data's hazards are in the buffers, so these are where they say.
        let transfers = result.hazards.iter().filter(|h| h.transfer != 0);
        let inside = |h: &HazardEntry| {
            let mut all = result.buffers.iter().flat_map(|b| &b.extents);
            all.any(|(pa, len)| *pa <= h.first_pa && h.end_pa.0 <= pa.0 + len)
        };
        let outside: Vec<_> = transfers.filter(|h| !inside(h)).collect();
        assert!(outside.is_empty(), "{exporter}: {outside:?}");
        assert!(!result.hazards.is_empty());
    }
}

#[test]
fn without_the_second_pass_the_run_is_the_same() {
    let traced = support::run(&[SCENARIO]).result();
    let plain = support::run(&[SCENARIO, "--no-trace"]).result();
    assert_eq!(plain.run_hash, traced.run_hash);
    assert_eq!(plain.tracing, None);
    let hazard = shown(&plain);
    assert!(hazard.cached_by.as_ref().unwrap().stack.is_none());
    assert!(reader(hazard).stack.is_none());
    let last = hazard.last_maintenance.as_ref().unwrap();
    assert!(
        last.place.stack.is_some(),
        "that of maintenance is always known"
    );
    let good = support::run(&["iio-capture"]).result();
    assert_eq!(good.tracing, None, "nothing was found");
}

/// The kernel's code.
struct Vmlinux(Vec<u8>);

impl Vmlinux {
    fn base() -> Self {
        let request = KernelRequest {
            stack: "base".into(),
            ..KernelRequest::default()
        };
        let kernel = KernelBuilder::new().unwrap().cached(&request).unwrap();
        Vmlinux(std::fs::read(kernel.unwrap().vmlinux).unwrap())
    }

    fn file(&self) -> object::File<'_> {
        object::File::parse(&*self.0).unwrap()
    }
}

/// The start of the function that holds `va`, by the functions' starts.
fn start(starts: &[u64], va: u64) -> u64 {
    starts[starts.partition_point(|s| *s <= va) - 1]
}

#[test]
fn every_call_of_a_chain_leads_to_the_function_that_it_called() {
    let result = support::run(&[SCENARIO]).result();
    let vmlinux = Vmlinux::base();
    let file = vmlinux.file();
    let mut starts: Vec<u64> = file
        .symbols()
        .filter(|s| s.kind() == object::SymbolKind::Text)
        .filter(|s| !s.name().unwrap_or_default().starts_with('$'))
        .map(|s| s.address())
        .collect();
    starts.sort_unstable();
    let word = |va: u64| {
        let section = file
            .sections()
            .find(|s| s.address() > 0 && (s.address()..s.address() + s.size()).contains(&va));
        let bytes = section.unwrap().data_range(va, 4).unwrap().unwrap();
        u32::from_le_bytes(bytes.try_into().unwrap())
    };

    let hazard = shown(&result);
    let last = &hazard.last_maintenance.as_ref().unwrap().place;
    let mut steps = HashSet::new();
    for place in [hazard.cached_by.as_ref().unwrap(), last] {
        let stack = place.stack.as_ref().unwrap();
        let chain: Vec<u64> = std::iter::once(place)
            .chain(&stack.callers)
            .map(|p| p.va.0)
            // Those of the program that made the system call are not of this file.
            .take_while(|va| va >> 63 == 1)
            .collect();
        steps.extend(chain.windows(2).map(|w| (w[0], w[1])));
    }
    let (mut direct, mut other) = (0, Vec::new());
    for (inner, call) in steps {
        let insn = word(call);
        if insn >> 26 != 0b10_0101 {
            // BLR: only the CPU knows where to.
            assert_eq!(insn & 0xffff_fc1f, 0xd63f_0000, "no call at {call:#x}");
            continue;
        }
        // Sign-extended, in words.
        let offset = i64::from((insn << 6).cast_signed() >> 6);
        let target = call.wrapping_add_signed(offset * 4);
        direct += 1;
        if start(&starts, inner) != start(&starts, target) {
            other.push((inner, call));
        }
    }
    assert!(direct > 10, "{direct}");
    // The function called may have gone on to another one by a jump.
    assert!(other.len() * 5 <= direct, "{other:x?}");
}
