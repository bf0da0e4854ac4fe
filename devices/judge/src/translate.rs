// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A case's terms in those of the domain.

use staleline_devices::cpu::{self, BarrierAccess, BarrierKind, BarrierScope, MemoryType};
use staleline_devices::dma::{Content, Port};
use staleline_litmus::program::{
    self, Event, Granules, Observer, Op, Orders, Program, Scope, View,
};

/// Where granule 0 lies.
pub(crate) const BASE: u64 = 0x4000_0000;

/// The port that makes a master's accesses what they are.
pub(crate) fn port(program: &Program, dev: u8) -> Port {
    let snoops = |write: bool| {
        program.events.iter().any(|e| {
            let mine = e.by == Observer::Dev(dev) && e.write().is_some() == write;
            mine && matches!(
                e.op,
                Op::Access {
                    view: View::Snooping,
                    ..
                }
            )
        })
    };
    match (snoops(false), snoops(true)) {
        (false, false) => Port::Hp,
        (true, true) => Port::Hpc,
        (true, false) => Port::HpcRead,
        (false, true) => Port::HpcWrite,
    }
}

/// Consecutive bytes of a set, in pieces that do not cross lines: address and length.
pub(crate) fn pieces(bytes: Granules) -> Vec<(u64, u32)> {
    let mut pieces: Vec<(u64, u32)> = Vec::new();
    for g in bytes.iter() {
        let pa = BASE + 8 * u64::from(g);
        match pieces.last_mut() {
            Some((at, len)) if *at + u64::from(*len) == pa && !pa.is_multiple_of(64) => *len += 8,
            _ => pieces.push((pa, 8)),
        }
    }
    pieces
}

/// A CPU's attribute.
pub(crate) fn memory(view: View) -> MemoryType {
    match view {
        View::WriteBack => MemoryType::Cacheable,
        _ => MemoryType::NonCacheable,
    }
}

/// Like [`pieces`], across lines.
pub(crate) fn whole(bytes: Granules) -> Vec<(u64, usize)> {
    let mut all: Vec<(u64, usize)> = Vec::new();
    for (pa, len) in pieces(bytes) {
        match all.last_mut() {
            Some((at, n)) if *at + *n as u64 == pa => *n += len as usize,
            _ => all.push((pa, len as usize)),
        }
    }
    all
}

/// A barrier.
pub(crate) fn barrier(barrier: program::Barrier) -> cpu::Barrier {
    cpu::Barrier {
        kind: if barrier.completes {
            BarrierKind::Dsb
        } else {
            BarrierKind::Dmb
        },
        access: match barrier.orders {
            Orders::Full => BarrierAccess::Full,
            Orders::Stores => BarrierAccess::Store,
            Orders::Loads => BarrierAccess::Load,
        },
        scope: match barrier.scope {
            Scope::Own => BarrierScope::NonShareable,
            Scope::Inner => BarrierScope::Inner,
            Scope::Everyone { outer: true } => BarrierScope::Outer,
            Scope::Everyone { outer: false } => BarrierScope::System,
        },
    }
}

/// What an access of a master is: it polls its descriptors, and a CPU polls its events.
pub(crate) fn content(program: &Program, dev: u8, bytes: Granules, write: bool) -> Content {
    let polls = |e: &Event| e.poll().is_some();
    let descriptor = |e: &Event| {
        let lines = e.bytes().lines().map(Granules::line);
        polls(e)
            && e.by == Observer::Dev(dev)
            && lines.fold(Granules::NONE, Granules::or).meets(bytes)
    };
    let event =
        |e: &Event| write && polls(e) && matches!(e.by, Observer::Cpu(_)) && e.bytes().meets(bytes);
    if program.events.iter().any(event) {
        Content::Event
    } else if program.events.iter().any(descriptor) {
        Content::Descriptor
    } else {
        Content::Data
    }
}

/// Whether an access of a master is of data.
pub(crate) fn is_data(program: &Program, dev: u8, access: &Event) -> bool {
    let write = access.write().is_some();
    content(program, dev, access.bytes(), write) == Content::Data
}
