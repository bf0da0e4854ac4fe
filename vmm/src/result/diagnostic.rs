// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Findings grouped for people: a rule broken by the same master in the same roles is one
//! diagnostic, over however many transfers. Which of these have one cause, [`super::causes`] says.

use staleline_devices::coherency::hazard::{Actor, Hazard, HazardKind, Why};
use staleline_devices::dma::MasterId;

use super::frames::Frames;
use super::{Buffer, Class, Diagnostic, HazardEntry, Party};
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
        let lengths = buffer.extents.iter().map(|(_, len)| *len);
        let known = lengths.fold(0u64, u64::saturating_add);
        if known >= buffer.bytes || buffer.extents.iter().any(touched) {
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
    Kernel,
    User,
    Device(MasterId),
}

fn role(actor: Actor) -> Role {
    match actor {
        Actor::Unknown => Role::Unknown,
        Actor::Cpu { site, .. } if site.is_user() => Role::User,
        Actor::Cpu { .. } => Role::Kernel,
        Actor::Device { master, .. } => Role::Device(master),
    }
}

/// Findings that agree in these, and in their [`Sort`], have one cause as far as people are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    kind: HazardKind,
    why: Why,
    master: MasterId,
    writer: Role,
    reader: Role,
}

fn key(hazard: &Hazard) -> Key {
    Key {
        kind: hazard.kind,
        why: hazard.why.mistake(),
        master: hazard.master,
        writer: role(hazard.writer),
        reader: role(hazard.reader),
    }
}

/// What else tells findings apart, and takes a look at more than the finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    /// How grave it is.
    pub class: Class,
    /// The master of which the device tree lies, if the finding comes from that.
    pub accused: Option<MasterId>,
}

/// What an actor's part in a [`Sort`] can depend on.
fn part(actor: Actor) -> (Role, bool) {
    let snooped = matches!(actor, Actor::Device { snoops: true, .. });
    (role(actor), snooped)
}

/// The finding that stands for its group, for each group by `key`: the first that manifested, else
/// the first.
fn representatives<'a, K: PartialEq>(
    hazards: &'a [Hazard],
    key: impl Fn(&'a Hazard) -> K,
) -> Vec<usize> {
    let mut groups: Vec<(K, usize, bool)> = Vec::new();
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
    // Which findings are only about copies of pages is not known yet, but depends on the readers;
    // and of which the device tree is the cause, on who took part.
    let parts = |h: &Hazard| [h.merged_by, h.reader, h.writer].map(part);
    let shown = representatives(hazards, |h| (key(h), &h.readers, parts(h))).into_iter();
    let shown = shown.filter_map(|i| hazards.get(i));
    let cpu = |actor| matches!(actor, Actor::Cpu { .. });
    let mut numbers: Vec<u64> = shown
        .flat_map(|h| {
            let party = cpu(h.writer) || cpu(h.reader);
            let cached = h.cached_by != Actor::Unknown;
            [
                (party, h.written_at),
                (party, h.at),
                (cached, h.cached_at),
                (cpu(h.merged_by), h.merged_at),
            ]
        })
        .filter(|(wanted, at)| *wanted && *at > 0)
        .map(|(_, at)| at)
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Groups findings in order of first occurrence, and tells each entry its group. Advice and history
/// are for others to add.
pub fn group(
    hazards: &[Hazard],
    entries: &mut [HazardEntry],
    buffers: &Buffers<'_>,
    sort: impl Fn(&Hazard) -> Sort,
) -> Vec<Diagnostic> {
    let key = |hazard: &Hazard| (key(hazard), sort(hazard));
    let mut keys: Vec<(Key, Sort)> = Vec::new();
    let mut groups: Vec<Diagnostic> = Vec::new();
    for (hazard, entry) in hazards.iter().zip(entries.iter_mut()) {
        let key = key(hazard);
        let at = keys.iter().position(|k| *k == key).unwrap_or_else(|| {
            keys.push(key);
            groups.push(empty(hazard, key.1.class));
            keys.len() - 1
        });
        entry.diagnostic = at;
        if let Some(group) = groups.get_mut(at) {
            add(group, hazard, buffers);
        }
    }
    for ((at, group), shown) in groups
        .iter_mut()
        .enumerate()
        .zip(representatives(hazards, key))
    {
        group.shown = shown;
        group.why = hazards.get(shown).map_or(group.why, |h| h.why);
        group.other_readers = other_readers(at, group.shown, entries);
    }
    groups
}

fn empty(hazard: &Hazard, class: Class) -> Diagnostic {
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
        class,
        why: hazard.why,
        advice: String::new(),
        help: String::new(),
        notes: Vec::new(),
        history: Vec::new(),
        cause: None,
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
        Party::Cpu { place, .. } => Some(place.va),
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
