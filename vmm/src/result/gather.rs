// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Facts about a finding, from what the run left behind.

use std::iter;
use std::ops::Range;

use staleline_devices::coherency::hazard::{Actor, Hazard, HazardKind, MAX_READERS, Why};
use staleline_devices::coherency::report::{MaintenanceOp, TransferRecord};
use staleline_devices::cpu::{Barrier, CacheOp, ChainId, SiteId};
use staleline_devices::dma::{MasterId, StartedBy};

use super::account::DMA_API;
use super::advice::{
    self, Cleaned, Facts, Flight, Lie, Partial, Phase, Role, SharedLine, Sync, copies_for_user,
};
use super::history;
use super::lookup::Lookup;
use super::{Buffer, Class, Party};

/// Routines that copy whole pages, as the kernel does to move or share them.
const COPIES: [&str; 6] = [
    "__pi_copy_page",
    "copy_highpage",
    "copy_mc_highpage",
    "copy_mc_user_highpage",
    "copy_page",
    "copy_user_highpage",
];

/// Routines that fill fresh pages.
const CLEARS: [&str; 7] = [
    "__memset",
    "__pi_clear_page",
    "__pi_memset",
    "clear_highpage",
    "clear_page",
    "memset",
    "clear_user_highpage",
];

/// Operations that are looked at for one finding, the last ones.
const OPERATIONS: usize = 4096;

/// Bytes per line.
const LINE: u64 = 64;

/// Names without offset.
pub(super) fn bare(name: &str) -> &str {
    name.split('+').next().unwrap_or(name)
}

/// Whether a function is the DMA API's.
fn is_api(name: &str) -> bool {
    DMA_API.iter().any(|start| name.starts_with(start))
}

impl Lookup<'_> {
    /// Whether the finding is no driver's mistake.
    pub(super) fn class(&self, h: &Hazard) -> Class {
        if self.copied_only(h) {
            Class::StaleCopy
        } else {
            Class::Error
        }
    }

    fn copied_only(&self, h: &Hazard) -> bool {
        let copies = |site| {
            let name = self.guest.symbols.name(site);
            name.is_some_and(|name| COPIES.contains(&bare(&name)))
        };
        h.kind == HazardKind::MissingInvalidate
            && !h.readers.is_empty()
            && h.readers.len() < MAX_READERS
            && matches!(h.writer, Actor::Device { .. })
            && h.readers.iter().all(|site| copies(*site))
    }

    /// All that advice can depend on. `buffers`: the DMABUFs that the finding is about.
    pub(super) fn facts(&self, h: &Hazard, buffers: &[&Buffer]) -> Facts {
        let discarders = self.discarders(h).unwrap_or_default();
        let (writer, reader) = (self.party(h.writer, h), self.party(h.reader, h));
        Facts {
            kind: h.kind,
            why: h.why,
            suppressed: self.suppressed(h),
            writer: role(&writer),
            reader: role(&reader),
            master: self.master_of(h),
            lies: self.lies(h),
            copied_only: self.copied_only(h),
            fresh_page: self.fresh_page(h),
            dmabuf: buffers.first().map(|b| b.exporter.clone()),
            one_attached: buffers.first().is_some_and(|b| b.attached.len() == 1),
            shared: self.shared(h),
            syncs: self.syncs(h, buffers),
            synced_too_early: self.synced_too_early(h, buffers),
            invalidated_in_flight: self.invalidated_in_flight(h),
            partial: self.partial(h),
            began: self.began(h, buffers),
            unmap_invalidates: self.unmap_invalidates(h, buffers),
            maintained_by: self.maintained_by(h),
            signalled_by: self.signalled_by(h),
            transfer: self.flight(h),
            toucher: match h.kind {
                // Of those, the reader is who invalidates.
                HazardKind::DiscardedWrite => touches(&writer),
                _ => touches(&reader).or_else(|| touches(&writer)),
            },
            started_by: match h.started_at {
                Some(_) => h.started_by,
                None => StartedBy::Itself,
            },
            barrier: h.stood.or_else(|| self.barrier_after(h)),
            ordered_as_a_cpu: self.ordered_as_a_cpu(h),
            only_cleaned: self.only_cleaned(h),
            past_the_cache: history::past_the_cache(h),
            merged_by: match h.merged_by {
                Actor::Unknown => None,
                who => Some((
                    role(&self.party_at(who, h, &[h.merged_at])),
                    self.named(who, h.merged_at, h),
                )),
            },
            discarded_by: Some(called(&discarders)).filter(|names| !names.is_empty()),
            mapping_discards: maps(&discarders),
            synced: self.synced,
            detached: self.detached,
            has_access_calls: self.has_access_calls,
        }
    }

    /// The call that should have invalidated what a device wrote, came in time, and cleaned it. That is
    /// no matter of a wrong direction: for that, such calls do nothing.
    pub(super) fn only_cleaned(&self, h: &Hazard) -> Option<Cleaned> {
        let (op, call) = self.cleaned_for_a_cpu(h)?;
        let names = self.guest.callers(op.site, op.chain);
        Some(Cleaned {
            call,
            routine: self.routine(op.site)?,
            by: called(&names),
        })
    }

    /// The operation of that call, and the call. What user space or others clean on purpose later, as
    /// the end of a SYNC does, is not it.
    pub(super) fn cleaned_for_a_cpu(&self, h: &Hazard) -> Option<(&MaintenanceOp, String)> {
        let (from, until) = self
            .span(h)
            .filter(|_| never_invalidated(h) || h.why == Why::StaleStore)?;
        let mut window = self.operations(from, until).iter().rev();
        window.find_map(|op| {
            let clean = op.op == CacheOp::Clean && !op.dropped && op.does(h.line_pa);
            clean.then_some(op).zip(self.for_a_cpu(op))
        })
    }

    /// The call of the DMA API for the CPU that an operation came from.
    fn for_a_cpu(&self, op: &MaintenanceOp) -> Option<String> {
        let names = self.guest.callers(op.site, op.chain);
        let call = bare(names.iter().take_while(|name| is_api(name)).last()?);
        (call.contains("_for_cpu") || call.contains("unmap")).then(|| call.to_owned())
    }

    /// The last maintenance operations on DMA memory in a time, in order.
    fn operations(&self, from: u64, until: u64) -> &[MaintenanceOp] {
        let all = &self.soc.domain.maintenance.operations;
        let end = all.partition_point(|o| o.at <= until);
        let start = all.partition_point(|o| o.at < from);
        let start = start.max(end.saturating_sub(OPERATIONS));
        all.get(start..end).unwrap_or_default()
    }

    /// The first barrier after the last maintenance, if that came in time.
    pub(super) fn barrier_after(&self, h: &Hazard) -> Option<Barrier> {
        let started = h.started_at.unwrap_or(h.at);
        let last = h.last_maintenance.or(h.last_clean);
        last.filter(|c| c.barrier_at <= started)?.barrier
    }

    /// The place of an access in a few words.
    fn named(&self, actor: Actor, at: u64, h: &Hazard) -> String {
        match self.party_at(actor, h, &[at]) {
            Party::Cpu { place, .. } => format!("{}()", place.function()),
            Party::Device { master, .. } => master,
            Party::Unknown => "somebody unknown".into(),
        }
    }

    /// The master of which the device tree lies, if the finding comes from that: of an operation that
    /// was suppressed on purpose, nobody else is accused.
    pub(super) fn accused(&self, h: &Hazard) -> Option<MasterId> {
        if self.suppressed(h) {
            return None;
        }
        advice::accused(h.kind, h.why, &self.lies(h)).map(|lie| lie.id)
    }

    /// Accesses that did other than the device tree says of their masters.
    fn lies(&self, h: &Hazard) -> Vec<Lie> {
        let access = |actor| match actor {
            Actor::Device { master, snoops, .. } => Some((master, snoops)),
            _ => None,
        };
        let merged = h.merged_by != Actor::Unknown;
        let concerned = [h.merged_by, h.reader, h.writer].into_iter();
        let lies = concerned.enumerate().filter_map(|(n, actor)| {
            let (id, snooped) = access(actor)?;
            let info = self.soc.masters.iter().find(|m| m.id == id)?;
            (info.claims_coherent != snooped).then(|| Lie {
                id,
                master: info.name.clone(),
                port: info.port,
                claims_coherent: info.claims_coherent,
                snoop_write: self.snoop_write,
                asks_if_claimed: info.asks_if_claimed,
                merged: merged && n == 0,
            })
        });
        lies.collect()
    }

    fn ordered_as_a_cpu(&self, h: &Hazard) -> bool {
        let id = h.writer.master().or(h.reader.master());
        let info = self.soc.masters.iter().find(|m| Some(m.id) == id);
        info.is_some_and(|m| m.ordered_as_a_cpu)
    }

    /// Who asked for the last maintenance of the line.
    fn maintained_by(&self, h: &Hazard) -> Option<String> {
        let last = h.last_maintenance?;
        let names = called(&self.guest.callers(last.site, last.chain));
        (!names.is_empty()).then_some(names)
    }

    /// Who has signalled the fence that came too early.
    fn signalled_by(&self, h: &Hazard) -> Option<String> {
        let chain = self.guest.seen.chain(h.signalled?.chain)?;
        let names = called(&self.guest.symbols.chain_names(chain));
        (!names.is_empty()).then_some(names)
    }

    fn flight(&self, h: &Hazard) -> Option<Flight> {
        let index = usize::try_from(h.transfer.0.checked_sub(1)?).ok()?;
        let record = self.soc.domain.transfers.get(index)?;
        Some(Flight {
            id: h.transfer.0,
            closed_at: record.closed_at,
        })
    }

    /// The way to the invalidate that threw a write away, innermost first.
    fn discarders(&self, h: &Hazard) -> Option<Vec<String>> {
        let Actor::Cpu { site, .. } = h.reader else {
            return None;
        };
        let chain = self.discarding(site, h)?;
        Some(self.guest.callers(site, chain))
    }

    /// Whether unmapping the DMABUF at the end invalidated it for the device that wrote: only one that is
    /// mapped for a direction in which it writes is. If others that are not coherent have used the
    /// buffer, nobody knows for whom it was.
    fn unmap_invalidates(&self, h: &Hazard, buffers: &[&Buffer]) -> Option<bool> {
        let Actor::Device { master, .. } = h.writer else {
            return None;
        };
        if h.kind != HazardKind::MissingInvalidate || !self.powered_off || buffers.is_empty() {
            return None;
        }
        let incoherent = |id| {
            let info = self.soc.masters.iter().find(|m| m.id == id);
            info.is_none_or(|m| !m.claims_coherent)
        };
        let parts = self.parts(h, buffers);
        let met = |first: u64, end: u64| {
            parts
                .iter()
                .any(|part| first < part.end && part.start < end)
        };
        let transfers = &self.soc.domain.transfers;
        let others = transfers.iter().any(|t| {
            let Range { start, end } = t.transfer.range();
            t.master != master && incoherent(t.master) && met(start, end)
        });
        if others {
            return None;
        }
        let all = &self.soc.domain.maintenance.operations;
        let after = all.get(all.partition_point(|o| o.at <= h.at)..);
        Some(after.unwrap_or_default().iter().any(|op| {
            let met = || op.ranges().any(|lines| met(lines.start, lines.end));
            op.op != CacheOp::Clean && met() && self.unmaps(op)
        }))
    }

    fn unmaps(&self, op: &MaintenanceOp) -> bool {
        let names = self.guest.callers(op.site, op.chain);
        names
            .iter()
            .any(|n| bare(n).starts_with("dma_buf_unmap_attachment"))
    }

    fn fresh_page(&self, h: &Hazard) -> Option<String> {
        let stored = match h.kind {
            HazardKind::WritebackClobber if h.why != Why::StaleStore => h.reader,
            HazardKind::MissingClean | HazardKind::DiscardedWrite => h.writer,
            _ => return None,
        };
        let Actor::Cpu { site, .. } = stored else {
            return None;
        };
        let name = self.guest.symbols.name(site)?;
        let name = bare(&name);
        CLEARS.contains(&name).then(|| format!("{name}()"))
    }

    /// A finding of more lines than the ends of a buffer is about more than them.
    fn shared(&self, h: &Hazard) -> Option<SharedLine> {
        const ENDS: u64 = 2;
        let foreign = match h.kind {
            // By the time of the finding the line may have been written back.
            _ if h.why == Why::StaleStore => h.merged,
            HazardKind::DiscardedWrite => h.line_bytes,
            HazardKind::WritebackClobber => h.line_uncleaned,
            _ => return None,
        };
        if foreign == 0 || h.lines > ENDS {
            return None;
        }
        let transfers = self.soc.domain.transfers.iter();
        let on_line = |t: &&TransferRecord| t.opened_at <= h.at && owned(t, h.line_pa) != 0;
        let transfer = transfers.rev().find(on_line)?;
        let owned = owned(transfer, h.line_pa);
        let only_others = foreign & owned == 0 && owned != u64::MAX;
        only_others.then_some(SharedLine {
            line: h.line_pa,
            pa: transfer.transfer.pa,
            len: transfer.transfer.len,
        })
    }

    /// Memory that is the finding's DMABUF for certain. Where that lies is not always known, but its lines
    /// do, and what the transfer that wrote it has covered.
    fn parts(&self, h: &Hazard, buffers: &[&Buffer]) -> Vec<Range<u64>> {
        let known = buffers.iter().flat_map(|b| &b.extents);
        let known = known.map(|(pa, len)| (pa.0, *len));
        let transfer = self.transfer_of(h.writer).map(|t| &t.transfer);
        let written = transfer.filter(|t| !buffers.is_empty() && !t.scattered);
        let all = known.chain(written.map(|t| (t.pa, t.len)));
        let all = all.map(|(pa, len)| pa..pa.saturating_add(len));
        all.chain(iter::once(h.first_pa..h.end_pa)).collect()
    }

    /// Maintenance that calls on the finding's DMABUF did between the write and the finding.
    fn syncs(&self, h: &Hazard, buffers: &[&Buffer]) -> Vec<Sync> {
        let until = h.started_at.unwrap_or(h.at);
        self.calls(h, buffers, h.written_at, until)
    }

    /// The start of user space's part of a frame that came before the device's, where it should have
    /// come after it. The end of that part cleans: if it had come too, this were not its start.
    fn synced_too_early(&self, h: &Hazard, buffers: &[&Buffer]) -> Option<Sync> {
        let by_user = matches!(h.reader, Actor::Cpu { site, .. } if site.is_user());
        if !self.synced || !never_invalidated(h) || !by_user {
            return None;
        }
        let calls = self.calls(h, buffers, 0, h.written_at).into_iter();
        let last = calls.rev().find(|s| s.covers)?;
        let starts = last.phase == Phase::Ioctl && last.op != CacheOp::Clean;
        starts.then_some(last)
    }

    /// Whether the line was invalidated while the transfer was in flight that has then written it.
    fn invalidated_in_flight(&self, h: &Hazard) -> bool {
        let transfer = self.transfer_of(h.writer).filter(|_| never_invalidated(h));
        transfer.zip(h.last_invalidate).is_some_and(|(t, op)| {
            let in_flight = (t.opened_at..=h.written_at).contains(&op.at);
            let line = h.line_pa..h.line_pa.saturating_add(1);
            in_flight && self.soc.domain.maintenance.covers(&op, &line)
        })
    }

    /// An invalidate between the write and a read of the kernel's, of other lines that the transfer has
    /// written.
    fn partial(&self, h: &Hazard) -> Option<Partial> {
        let by_kernel = matches!(h.reader, Actor::Cpu { site, .. } if !site.is_user());
        let transfer = self.transfer_of(h.writer);
        let transfer = transfer.filter(|_| never_invalidated(h) && by_kernel)?;
        let start = transfer.transfer.pa;
        let end = start.saturating_add(transfer.transfer.len);
        let mut operations = self.operations(h.written_at, h.at).iter();
        let (op, lines) = operations.find_map(|op| {
            let meets = op.met(&(start..end)).filter(|_| !op.does(h.line_pa));
            let invalidates = !op.dropped && op.op != CacheOp::Clean;
            Some((op, meets.filter(|_| invalidates)?))
        })?;
        Some(Partial {
            by: called(&self.guest.callers(op.site, op.chain)),
            lines: (lines.start, lines.end),
        })
    }

    /// What `dma_buf_begin_access()` did to the line before the transfer that wrote it, if a device
    /// did.
    fn began(&self, h: &Hazard, buffers: &[&Buffer]) -> Option<Sync> {
        if !self.has_access_calls {
            return None;
        }
        let opened = self.transfer_of(h.writer)?.opened_at;
        let until = match h.kind {
            HazardKind::MissingClean => h.written_at,
            _ => opened,
        };
        let calls = self.calls(h, buffers, 0, until);
        let mut begins = calls.into_iter().rev();
        begins.find(|s| s.phase == Phase::BeginAccess && s.covers)
    }

    pub(super) fn transfer_of(&self, actor: Actor) -> Option<&TransferRecord> {
        let Actor::Device { transfer, .. } = actor else {
            return None;
        };
        let index = usize::try_from(transfer.0.checked_sub(1)?).ok()?;
        self.soc.domain.transfers.get(index)
    }

    /// The call on a DMABUF that maintenance came from, and the way from there.
    fn call(&self, site: SiteId, chain: ChainId) -> Option<(Phase, String)> {
        let mut known = self.calls.borrow_mut();
        let call = known.entry((site, chain)).or_insert_with(|| {
            let names = self.guest.callers(site, chain);
            phase(&names).map(|phase| (phase, called(&names)))
        });
        call.clone()
    }

    fn calls(&self, h: &Hazard, buffers: &[&Buffer], from: u64, until: u64) -> Vec<Sync> {
        let parts = self.parts(h, buffers);
        let mut found: Vec<Sync> = Vec::new();
        for op in self.operations(from, until) {
            if op.dropped {
                continue;
            }
            let Some((phase, chain)) = self.call(op.site, op.chain) else {
                continue;
            };
            for lines in op.ranges() {
                if !parts
                    .iter()
                    .any(|part| lines.start < part.end && part.start < lines.end)
                {
                    continue;
                }
                let covers = lines.contains(&h.line_pa);
                match found.last_mut() {
                    Some(s) if s.phase == phase && s.op == op.op && s.lines.1 == lines.start => {
                        s.lines.1 = lines.end;
                        s.covers |= covers;
                    }
                    _ => found.push(Sync {
                        phase,
                        op: op.op,
                        chain: chain.clone(),
                        lines: (lines.start, lines.end),
                        covers,
                        at: op.at,
                    }),
                }
            }
        }
        found
    }
}

/// Whether nothing has invalidated the line since it was written.
fn never_invalidated(h: &Hazard) -> bool {
    (h.kind, h.why) == (HazardKind::MissingInvalidate, Why::Absent)
}

/// Which call on a DMABUF a chain goes through.
fn phase(names: &[String]) -> Option<Phase> {
    let through = |function: &str| names.iter().any(|n| bare(n) == function);
    if through("dma_buf_ioctl") {
        return Some(Phase::Ioctl);
    }
    if through("dma_buf_end_access") {
        return Some(Phase::EndAccess);
    }
    if through("dma_buf_begin_access") {
        return Some(Phase::BeginAccess);
    }
    let cpu = through("dma_buf_begin_cpu_access") || through("dma_buf_end_cpu_access");
    cpu.then_some(Phase::CpuAccess)
}

/// The functions between the DMA API and the way into the kernel.
fn called(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let names = names.iter().map(|n| bare(n)).skip_while(|n| is_api(n));
    let names = names.take_while(|n| !n.starts_with("__arm64_sys_"));
    let shown: Vec<&str> = names.take(SHOWN).collect();
    shown.join(" <- ")
}

/// Whether the DMA API was called to map memory for a device.
fn maps(names: &[String]) -> bool {
    let call = names.iter().take_while(|name| is_api(name)).last();
    call.is_some_and(|name| name.starts_with("dma_map_") || name.starts_with("__dma_map_"))
}

/// The kernel's function that made an access.
fn touches(party: &Party) -> Option<String> {
    match party {
        Party::Cpu { place, .. } if place.kernel => Some(format!("{}()", place.function())),
        _ => None,
    }
}

fn role(party: &Party) -> Role {
    match party {
        Party::Unknown => Role::Unknown,
        // By the program's own address, and because it has asked for it.
        Party::Cpu { place, .. } if place.kernel && copies_for_user(&place.function()) => {
            Role::User
        }
        Party::Cpu { place, .. } if place.kernel => Role::Kernel,
        Party::Cpu { .. } => Role::User,
        Party::Device { snoops, .. } => Role::Device { snoops: *snoops },
    }
}

/// Which bytes of a line a transfer covers.
fn owned(t: &TransferRecord, line: u64) -> u64 {
    if t.transfer.scattered {
        return 0;
    }
    let Range { start, end } = t.transfer.range();
    let (from, to) = (start.max(line), end.min(line.saturating_add(LINE)));
    match to.checked_sub(from) {
        Some(len @ 1..=LINE) => (u64::MAX >> (LINE - len)) << (from - line),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_reason_of_a_call_is_found() {
        let names = |chain: &[&str]| {
            chain
                .iter()
                .map(|n| format!("{n}+0x10"))
                .collect::<Vec<_>>()
        };
        let ioctl = names(&[
            "arch_sync_dma_for_cpu",
            "dma_direct_sync_sg_for_cpu",
            "system_heap_dma_buf_begin_cpu_access",
            "dma_buf_begin_cpu_access",
            "dma_buf_ioctl",
            "__arm64_sys_ioctl",
        ]);
        assert_eq!(phase(&ioctl), Some(Phase::Ioctl));
        assert_eq!(phase(&ioctl[..4]), Some(Phase::CpuAccess));
        assert_eq!(phase(&ioctl[..3]), None);
        assert_eq!(
            called(&ioctl[..4]),
            "system_heap_dma_buf_begin_cpu_access <- dma_buf_begin_cpu_access"
        );
    }
}
