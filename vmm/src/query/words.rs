// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Events in words.

use staleline_devices::coherency::hazard::Actor;
use staleline_devices::cpu::{BufferCall, CacheOp, SiteId};
use staleline_devices::dma::{Content, Direction, StartedBy};
use staleline_devices::events::{Cached, Event};

use super::context::{Context, cpu_name};
use crate::names;
use crate::result::words::Word as _;

/// Who did it, in a word.
pub fn who(event: &Event, context: &Context<'_>) -> String {
    match event {
        Event::Opened { master, .. }
        | Event::Closed { master, .. }
        | Event::Moved { master, .. } => context.head.master(master.0),
        Event::Maintained { cpu, .. }
        | Event::Barrier { cpu, .. }
        | Event::Started { cpu, .. }
        | Event::Register { cpu, .. }
        | Event::Called { cpu, .. }
        | Event::Accessed { cpu, .. } => cpu_name(cpu.0),
        Event::Interrupt { irq, .. } => context.head.interrupt(*irq),
        Event::Found { reader, .. } => context.actor(reader),
        Event::Filled { by, .. } => context.actor(by),
        Event::Evicted { .. } | Event::UnderDma { .. } => "cache".into(),
        Event::Waited { .. } => "all CPUs".into(),
    }
}

/// Where in guest code.
pub fn site(event: &Event) -> Option<SiteId> {
    match *event {
        Event::Maintained { site, .. }
        | Event::Started { site, .. }
        | Event::Register { site, .. }
        | Event::Accessed { site, .. } => Some(site),
        Event::Found {
            reader: Actor::Cpu { site, .. },
            ..
        }
        | Event::Filled {
            by: Actor::Cpu { site, .. },
            ..
        }
        | Event::UnderDma {
            cached_by: Actor::Cpu { site, .. },
            ..
        } => Some(site),
        _ => None,
    }
}

fn count(n: u64, what: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {what}{s}")
}

/// What happened.
pub fn what(event: &Event, context: &Context<'_>) -> String {
    match *event {
        Event::Opened {
            transfer,
            direction,
            len,
            descriptor,
            channel,
            started_at,
            started_by,
            ..
        } => {
            let way = match direction {
                Direction::ToMemory => "to memory",
                Direction::FromMemory => "from memory",
            };
            let descriptor = match descriptor {
                0 => String::new(),
                at => format!(", descriptor at {at:#x}"),
            };
            let start = match started_by {
                StartedBy::Itself => String::new(),
                StartedBy::Doorbell => format!(", started by a register @{started_at}"),
                StartedBy::Word => format!(", started by a word in memory @{started_at}"),
            };
            format!(
                "begins transfer #{}: {} {way}, channel {channel}{descriptor}{start}",
                transfer.0,
                count(len, "byte")
            )
        }
        Event::Closed {
            transfer, bytes, ..
        } => {
            format!(
                "ends transfer #{}: {} moved",
                transfer.0,
                count(bytes, "byte")
            )
        }
        Event::Moved {
            transfer,
            snoops,
            write,
            content,
            ..
        } => {
            let does = if write { "writes" } else { "reads" };
            let what = match (content, transfer.0) {
                (Content::Data, 0) => String::new(),
                (Content::Data, n) => format!(" data of transfer #{n}"),
                (Content::Descriptor, _) => " a descriptor".into(),
                (Content::Event, _) => " an event".into(),
            };
            let how = if snoops { "snooping" } else { "not snooping" };
            format!("{does}{what}, {how}")
        }
        Event::Maintained {
            op,
            operation,
            lines,
            found,
            dropped,
            ..
        } => maintained(op, operation, lines, found, dropped, context),
        Event::Barrier {
            barrier,
            operations,
            completes,
            ..
        } => {
            let does = match (operations, completes) {
                ((0, 0), _) => return barrier.word().to_string(),
                (_, true) => "completes",
                (_, false) => "does not complete",
            };
            let which = match operations {
                (first, last) if first == last => format!("operation @{first}"),
                (first, last) => format!("operations @{first} to @{last}"),
            };
            format!("{} {does} {which}", barrier.word())
        }
        Event::Started { master, .. } => format!("starts {}", context.head.master(master.0)),
        Event::Interrupt { irq, high } => {
            let does = if high { "rises" } else { "falls" };
            format!("interrupt {irq} {does}")
        }
        Event::Register {
            pa,
            len,
            write,
            value,
            ..
        } => {
            let does = if write { "writes" } else { "reads" };
            let what = match context.head.register(pa) {
                Some((name, offset)) => format!("{name}+{offset:#x}"),
                None => "a register".into(),
            };
            format!("{does} {what}: {value:#x} ({})", count(len.into(), "byte"))
        }
        Event::Found {
            finding,
            kind,
            why,
            bytes,
            wrong,
            writer,
            ..
        } => {
            let wrong = match wrong.count_ones() {
                0 => String::new(),
                n => format!(", {n} of them wrong"),
            };
            format!(
                "FINDING {finding}: {} ({}) of {}{wrong}, written by {}",
                kind.name(),
                names::name(&why),
                count(bytes.count_ones().into(), "byte"),
                writer_name(&writer, context)
            )
        }
        Event::Filled { lines, by, .. } => {
            let how = match by {
                Actor::Unknown => ", by itself or for a master that snoops",
                _ => "",
            };
            format!("brings {} into the cache{how}", count(lines, "line"))
        }
        Event::Evicted {
            lines,
            written_back,
            ..
        } => {
            let how = match written_back {
                true => "dirty, and writes to memory",
                false => "clean",
            };
            format!("evicts {}: {how}", count(lines, "line"))
        }
        Event::Accessed {
            store,
            past,
            filled,
            ..
        } => {
            let does = if store { "stores" } else { "loads" };
            let past = if past { " past the cache" } else { "" };
            let filled = match filled {
                true => ", which brings the line into the cache",
                false => "",
            };
            format!("{does}{past}{filled}")
        }
        Event::UnderDma {
            cached,
            cached_by,
            cached_at,
            uncleaned,
            clean_op,
            ..
        } => {
            let state = match cached {
                Cached::No => "not cached",
                Cached::Clean => "clean in the cache",
                Cached::Dirty => "dirty in the cache",
            };
            let since = match cached_by {
                Actor::Unknown => String::new(),
                by => format!(", last by {} @{cached_at}", context.actor(&by)),
            };
            let uncleaned = match uncleaned.count_ones() {
                0 => String::new(),
                n => format!(", {} not cleaned", count(n.into(), "byte")),
            };
            let cleaned = match clean_op {
                0 => String::new(),
                op => format!(", cleaned by operation @{op}"),
            };
            format!("is about to be under DMA: {state}{since}{uncleaned}{cleaned}")
        }
        Event::Called { call, object, .. } => {
            let does = match call {
                BufferCall::BeginAccess => "begins an access: attachment",
                BufferCall::EndAccess => "ends an access: attachment",
                BufferCall::AddFence => "adds fence",
                BufferCall::Signal => "signals fence",
            };
            format!("{does} {object:#x}")
        }
        Event::Waited { ticks } => format!("wait: {}", count(ticks, "tick")),
    }
}

fn maintained(
    op: CacheOp,
    operation: u32,
    lines: u64,
    found: Cached,
    dropped: bool,
    context: &Context<'_>,
) -> String {
    let does = match op {
        CacheOp::Clean => "cleans",
        CacheOp::Invalidate => "invalidates",
        CacheOp::CleanInvalidate => "cleans and invalidates",
    };
    let found = match (found, op) {
        (Cached::No, _) => "not cached",
        (Cached::Clean, _) => "cached clean",
        (Cached::Dirty, CacheOp::Invalidate) => "dirty, and lost",
        (Cached::Dirty, _) => "dirty, and written to memory",
    };
    let found = if dropped {
        "SUPPRESSED on purpose"
    } else {
        found
    };
    let caller = context.caller(operation).map(|c| format!(", for {c}"));
    format!(
        "{does} {} (operation @{operation}): {found}{}",
        count(lines, "line"),
        caller.unwrap_or_default()
    )
}

fn writer_name(writer: &Actor, context: &Context<'_>) -> String {
    match writer {
        Actor::Unknown => "firmware, or nobody known".into(),
        Actor::Device { transfer, .. } if transfer.0 != 0 => {
            format!("{} in transfer #{}", context.actor(writer), transfer.0)
        }
        _ => context.actor(writer),
    }
}

/// Where in memory, in the form `0x40e12000+64`; none for what is nowhere. Of memory in the cache, whole
/// lines count.
pub fn address(event: &Event) -> Option<(u64, u64)> {
    match *event {
        Event::Register { pa, len, .. } => Some((pa, len.into())),
        Event::Started { pa, .. } => Some((pa, 4)),
        _ => event.memory(),
    }
}
