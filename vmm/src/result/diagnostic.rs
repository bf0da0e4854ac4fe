// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Findings grouped for people: a rule broken by the same master in the same roles is one
//! diagnostic, over however many transfers.

use staleline_devices::coherency::hazard::{Actor, Hazard, HazardKind};
use staleline_devices::cpu::SiteId;
use staleline_devices::dma::MasterId;

use super::frames::Frames;
use super::{Buffer, Diagnostic, HazardEntry, Party};
use crate::symbols::Hex;

/// What is known of DMABUFs.
pub struct Buffers<'a> {
    /// As the agent reported them.
    pub known: &'a [Buffer],
    /// As the devices' transfers give them away.
    pub frames: &'a Frames,
}

impl Buffers<'_> {
    /// Whether the finding is about the buffer.
    fn concerns(&self, hazard: &Hazard, buffer: &Buffer) -> bool {
        let touched = |(start, len): &(Hex, u64)| {
            start.0 < hazard.end_pa && hazard.first_pa < start.0.saturating_add(*len)
        };
        if !buffer.extents.is_empty() {
            return buffer.extents.iter().any(touched);
        }
        let frame = self.frames.of(hazard.transfer.0);
        frame.and_then(|f| self.frames.buffer(f)) == Some(buffer.index)
    }
}

/// Who plays a part, without the particulars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Unknown,
    Cpu,
    Device(MasterId),
}

fn role(actor: Actor) -> Role {
    match actor {
        Actor::Unknown => Role::Unknown,
        Actor::Cpu { .. } => Role::Cpu,
        Actor::Device { master, .. } => Role::Device(master),
    }
}

type Key = (HazardKind, MasterId, Role, Role);

fn key(hazard: &Hazard) -> Key {
    (
        hazard.kind,
        hazard.master,
        role(hazard.writer),
        role(hazard.reader),
    )
}

/// The finding that stands for its group, for each group: the first that manifested, else the
/// first.
fn representatives(hazards: &[Hazard]) -> Vec<usize> {
    let mut groups: Vec<(Key, usize, bool)> = Vec::new();
    for (i, hazard) in hazards.iter().enumerate() {
        let key = key(hazard);
        match groups.iter_mut().find(|(k, ..)| *k == key) {
            None => groups.push((key, i, hazard.manifested)),
            Some((_, shown, manifested)) if hazard.manifested && !*manifested => {
                (*shown, *manifested) = (i, true);
            }
            Some(_) => {}
        }
    }
    groups.into_iter().map(|(_, shown, _)| shown).collect()
}

/// Numbers of the loads and stores that findings shown to people are about, ascending: those by a
/// CPU, and some by chance.
pub fn accesses(hazards: &[Hazard]) -> Vec<u64> {
    let shown = representatives(hazards).into_iter();
    let shown = shown.filter_map(|i| hazards.get(i));
    let cpu = |actor| matches!(actor, Actor::Cpu { .. });
    let mut numbers: Vec<u64> = shown
        .flat_map(|h| {
            let party = cpu(h.writer) || cpu(h.reader);
            let cached = h.cached_by != SiteId(0);
            [(party, h.written_at), (party, h.at), (cached, h.cached_at)]
        })
        .filter(|(wanted, at)| *wanted && *at > 0)
        .map(|(_, at)| at)
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Groups findings in order of first occurrence, and tells each entry its group.
pub fn group(
    hazards: &[Hazard],
    entries: &mut [HazardEntry],
    buffers: &Buffers<'_>,
    dropped: bool,
) -> Vec<Diagnostic> {
    let mut keys: Vec<Key> = Vec::new();
    let mut groups: Vec<Diagnostic> = Vec::new();
    for (hazard, entry) in hazards.iter().zip(entries.iter_mut()) {
        let key = key(hazard);
        let at = keys.iter().position(|k| *k == key).unwrap_or_else(|| {
            keys.push(key);
            groups.push(empty(hazard, help(entry, dropped)));
            keys.len() - 1
        });
        entry.diagnostic = at;
        if let Some(group) = groups.get_mut(at) {
            add(group, hazard, buffers);
        }
    }
    for ((at, group), shown) in groups.iter_mut().enumerate().zip(representatives(hazards)) {
        group.shown = shown;
        group.other_readers = other_readers(at, group.shown, entries);
    }
    groups
}

fn empty(hazard: &Hazard, help: String) -> Diagnostic {
    Diagnostic {
        kind: hazard.kind,
        manifested: false,
        findings: 0,
        manifested_findings: 0,
        lines: 0,
        manifested_lines: 0,
        wrong_bytes: 0,
        first_pa: Hex(hazard.first_pa),
        end_pa: Hex(hazard.end_pa),
        buffers: Vec::new(),
        shown: 0,
        other_readers: 0,
        help,
    }
}

fn add(group: &mut Diagnostic, hazard: &Hazard, buffers: &Buffers<'_>) {
    group.manifested |= hazard.manifested;
    group.findings += 1;
    group.manifested_findings += u64::from(hazard.manifested);
    group.lines += hazard.lines;
    group.manifested_lines += hazard.manifested_lines;
    group.wrong_bytes += hazard.wrong_bytes;
    group.first_pa = group.first_pa.min(Hex(hazard.first_pa));
    group.end_pa = group.end_pa.max(Hex(hazard.end_pa));
    for (i, buffer) in buffers.known.iter().enumerate() {
        if !group.buffers.contains(&i) && buffers.concerns(hazard, buffer) {
            group.buffers.push(i);
        }
    }
}

fn other_readers(at: usize, shown: usize, entries: &[HazardEntry]) -> u64 {
    let place = |e: &HazardEntry| match &e.reader {
        Party::Cpu { place } => Some(place.va),
        _ => None,
    };
    let mut places: Vec<_> = entries
        .iter()
        .filter(|e| e.diagnostic == at)
        .filter_map(place)
        .collect();
    places.sort_unstable();
    places.dedup();
    let here = entries.get(shown).and_then(place);
    places.iter().filter(|p| Some(**p) != here).count() as u64
}

/// What is missing, in words.
pub fn missing(kind: HazardKind) -> &'static str {
    match kind {
        HazardKind::MissingClean => "clean (dc cvac/civac) between the write and the transfer",
        HazardKind::MissingInvalidate => {
            "invalidate (dc ivac/civac) between the write and the read"
        }
        HazardKind::WritebackClobber => {
            "clean or invalidate (dc cvac/ivac/civac) of these lines before the transfer"
        }
        HazardKind::DiscardedWrite => "clean (dc cvac/civac) of these lines before the invalidate",
        HazardKind::MissingBarrier => "dsb between the maintenance and the start of the transfer",
        HazardKind::MismatchedAlias => {
            "clean and invalidate (dc civac) before the non-cacheable view is used"
        }
        HazardKind::Ownership => "wait for the end of the transfer before the access",
    }
}

fn help(entry: &HazardEntry, dropped: bool) -> String {
    if dropped {
        return "one maintenance operation was suppressed on purpose (drop-maintenance); the \
                kernel may be right"
            .into();
    }
    let device = |p: &Party| matches!(p, Party::Device { .. });
    let user = |p: &Party| matches!(p, Party::Cpu { place } if !place.kernel);
    let text = match entry.kind {
        HazardKind::MissingInvalidate if device(&entry.reader) => {
            "no CPU took part between the two devices: call dma_buf_end_access() when the first \
             is done, or issue DMA_BUF_IOCTL_SYNC (SYNC_START) before the second starts"
        }
        HazardKind::MissingInvalidate if user(&entry.reader) => {
            "bracket the read with DMA_BUF_IOCTL_SYNC (SYNC_START | SYNC_READ ... SYNC_END), \
             after the transfer is done"
        }
        HazardKind::MissingInvalidate => {
            "call dma_sync_*_for_cpu() or dma_unmap_*() after the transfer is done and before \
             the read"
        }
        HazardKind::MissingClean if device(&entry.writer) => {
            "a snooping device left its data in the cache: call dma_buf_begin_access() before \
             the transfer that reads it"
        }
        HazardKind::MissingClean if user(&entry.writer) => {
            "bracket the write with DMA_BUF_IOCTL_SYNC (SYNC_START | SYNC_WRITE ... SYNC_END), \
             before the transfer is queued"
        }
        HazardKind::MissingClean => {
            "call dma_map_*() or dma_sync_*_for_device() after the last write and before the \
             transfer"
        }
        HazardKind::WritebackClobber => {
            "map the buffer, or sync it for the device, after the last write and before the \
             transfer; that includes the zeroing of fresh pages"
        }
        HazardKind::DiscardedWrite => {
            "a buffer shares lines with other data, or is synced in the wrong direction: align \
             it to 64 bytes, or clean before invalidating"
        }
        HazardKind::MissingBarrier => {
            "end the maintenance with a DSB; the DMB in writel() does not wait for it"
        }
        HazardKind::MismatchedAlias => {
            "use one view only, or clean and invalidate when changing from one to the other"
        }
        HazardKind::Ownership => {
            "wait for the completion or the dma_fence of the transfer before the access"
        }
    };
    text.into()
}
