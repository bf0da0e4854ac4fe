// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Findings grouped for people: a rule broken by the same master in the same roles is one
//! diagnostic, over however many transfers. Which of these have one cause, [`super::causes`] says.

use std::collections::HashMap;
use std::hash::Hash;

use staleline_devices::coherency::hazard::{Actor, Hazard, HazardKind, Why};
use staleline_devices::coherency::report::DomainReport;
use staleline_devices::cpu::SiteId;
use staleline_devices::dma::{Direction, MasterId};

use super::frames::Frames;
use super::sort::Sort;
use super::stretches;
use super::words::Word as _;
use super::{Buffer, Class, Diagnostic, HazardEntry, Party};
use staleline_results::Hex;

/// What is known of DMABUFs.
pub struct Buffers<'a> {
    /// As the agent reported them.
    known: &'a [Buffer],
    /// As the devices' transfers give them away.
    frames: &'a Frames,
    /// All extents by where they start.
    extents: Vec<Extent>,
    /// Of each buffer, whether all of its extents are known.
    whole: Vec<bool>,
}

struct Extent {
    start: u64,
    end: u64,
    /// The highest end of this one and those before it.
    until: u64,
    /// Index of the buffer.
    buffer: usize,
}

impl<'a> Buffers<'a> {
    /// `known`: as the agent reported them.
    pub fn new(known: &'a [Buffer], frames: &'a Frames) -> Self {
        let extents = known.iter().enumerate().flat_map(|(buffer, b)| {
            b.extents.iter().map(move |(start, len)| Extent {
                start: start.0,
                end: start.0.saturating_add(*len),
                until: 0,
                buffer,
            })
        });
        let mut extents: Vec<Extent> = extents.collect();
        extents.sort_by_key(|e| e.start);
        let mut until = 0;
        for extent in &mut extents {
            until = extent.end.max(until);
            extent.until = until;
        }
        let whole = known.iter().map(|b| {
            let lengths = b.extents.iter().map(|(_, len)| *len);
            lengths.fold(0u64, u64::saturating_add) >= b.bytes
        });
        Buffers {
            known,
            frames,
            extents,
            whole: whole.collect(),
        }
    }

    /// Indices of the buffers that the finding is about, ascending.
    pub(super) fn concerned(&self, hazard: &Hazard) -> Vec<usize> {
        let before = self.extents.partition_point(|e| e.start < hazard.end_pa);
        let before = self.extents.get(..before).unwrap_or_default().iter().rev();
        let near = before.take_while(|e| e.until > hazard.first_pa);
        let touched = near.filter(|e| e.end > hazard.first_pa).map(|e| e.buffer);
        let mut found: Vec<usize> = touched.collect();
        let frame = self.frames.of(hazard.transfer.0);
        if let Some(used) = frame.and_then(|f| self.frames.buffer(f)) {
            let all = self.known.iter().zip(&self.whole).enumerate();
            let unknown = all.filter(|(_, (b, whole))| b.index == used && !**whole);
            found.extend(unknown.map(|(i, _)| i));
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Who plays a part, without the particulars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

/// Findings that agree in these, and in their [`Sort`] and routine, have one cause as far as people
/// are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

/// Where a CPU made an access.
fn site(actor: Actor) -> Option<SiteId> {
    match actor {
        Actor::Cpu { site, .. } => Some(site),
        _ => None,
    }
}

/// What an actor's part in a [`Sort`] can depend on.
fn part(actor: Actor) -> (Role, bool) {
    let snooped = matches!(actor, Actor::Device { snoops: true, .. });
    (role(actor), snooped)
}

/// The finding that stands for its group, for each group by its key, in order of first occurrence:
/// the first that manifested, else the first.
fn representatives<'a, K: Eq + Hash>(
    hazards: impl IntoIterator<Item = (&'a Hazard, K)>,
) -> Vec<usize> {
    let mut groups: HashMap<K, usize> = HashMap::new();
    let mut found: Vec<(usize, bool)> = Vec::new();
    for (i, (hazard, key)) in hazards.into_iter().enumerate() {
        let group = *groups.entry(key).or_insert(found.len());
        match found.get_mut(group) {
            None => found.push((i, hazard.manifested)),
            Some(shown) if hazard.manifested && !shown.1 => *shown = (i, true),
            Some(_) => {}
        }
    }
    found.into_iter().map(|(shown, _)| shown).collect()
}

/// Numbers of the loads and stores that findings shown to people are about, ascending: those by a
/// CPU, and some by chance.
pub fn accesses(domain: &DomainReport) -> Vec<u64> {
    let hazards = &domain.hazards;
    // How findings are sorted is not known yet, but depends on these for the most part: what each
    // reader, and who took part, and who queued the transfer, and which operations came before.
    let parts = |h: &Hazard| [h.merged_by, h.reader, h.writer].map(part);
    let stored = |h: &Hazard| match h.kind {
        HazardKind::WritebackClobber => [h.merged_by, h.reader].map(site),
        _ => [h.merged_by, h.writer].map(site),
    };
    let queue = |h: &Hazard| {
        let index = usize::try_from(h.transfer.0.checked_sub(1)?).ok()?;
        let transfer = &domain.transfers.get(index)?.transfer;
        Some((transfer.direction == Direction::ToMemory, transfer.channel))
    };
    let asked = |h: &Hazard| h.last_maintenance.map(|last| (last.site, last.op));
    let all = hazards.iter();
    let all = all.map(|h| {
        let key = (key(h), &h.readers, parts(h), stored(h), queue(h), asked(h));
        (h, key)
    });
    let shown = representatives(all).into_iter();
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
/// are for others to add. `sort` tells what else sets a finding with these DMABUFs apart, and the
/// routines of which those that stand alike have to have one in common, if they have any.
pub(super) fn group(
    hazards: &[Hazard],
    entries: &mut [HazardEntry],
    buffers: &Buffers<'_>,
    sort: impl Fn(&Hazard, &[&Buffer]) -> (Sort, Vec<String>),
) -> Vec<Diagnostic> {
    let mut keys: Vec<(Key, Sort)> = Vec::new();
    let mut found = Vec::with_capacity(hazards.len());
    let mut routines = Routines::default();
    for hazard in hazards {
        let concerned = buffers.concerned(hazard);
        let known = concerned.iter().filter_map(|i| buffers.known.get(*i));
        let (sort, names) = sort(hazard, &known.collect::<Vec<_>>());
        let key = (key(hazard), sort);
        let at = keys.iter().position(|k| *k == key).unwrap_or_else(|| {
            keys.push(key);
            keys.len() - 1
        });
        let routine = routines.joined(at, names);
        found.push((at, routine, concerned));
    }
    let mut groups: Vec<((usize, Option<usize>), Diagnostic)> = Vec::new();
    for ((hazard, entry), (at, routine, concerned)) in
        hazards.iter().zip(entries.iter_mut()).zip(found)
    {
        let key = (at, routine.map(|r| routines.first(r)));
        let index = groups.iter().position(|(k, _)| *k == key);
        let index = index.unwrap_or_else(|| {
            let class = keys.get(at).map_or(Class::Error, |(_, sort)| sort.class);
            groups.push((key, empty(hazard, class)));
            groups.len() - 1
        });
        entry.diagnostic = index;
        if let Some((_, group)) = groups.get_mut(index) {
            add(group, hazard, &concerned);
        }
    }
    let mut groups: Vec<Diagnostic> = groups.into_iter().map(|(_, group)| group).collect();
    let numbered: Vec<usize> = entries.iter().map(|e| e.diagnostic).collect();
    let shown = representatives(hazards.iter().zip(numbered));
    for ((at, group), shown) in groups.iter_mut().enumerate().zip(shown) {
        group.shown = shown;
        group.why = hazards.get(shown).map_or(group.why, |h| h.why.word());
        group.other_readers = other_readers(at, group.shown, entries);
        let findings = entries.iter().filter(|e| e.diagnostic == at);
        let each = findings.map(|e| stretches::of(e, buffers.known));
        (group.stretches, group.more_stretches) = stretches::joined(each);
    }
    groups
}

/// Routines of findings, each of those that are otherwise alike: one finding with several makes
/// them one.
#[derive(Default)]
struct Routines {
    numbers: HashMap<(usize, String), usize>,
    /// Another one of the same, or itself.
    same: Vec<usize>,
}

impl Routines {
    /// Makes these, of findings that are alike as `at`, one: its number; none if there are none.
    fn joined(&mut self, at: usize, names: Vec<String>) -> Option<usize> {
        let mut whole = None;
        for name in names {
            let next = self.same.len();
            let number = *self.numbers.entry((at, name)).or_insert(next);
            if number == next {
                self.same.push(next);
            }
            let (one, other) = (self.first(number), self.first(whole.unwrap_or(number)));
            let (low, high) = (one.min(other), one.max(other));
            if let Some(same) = self.same.get_mut(high) {
                *same = low;
            }
            whole = Some(low);
        }
        whole
    }

    /// The lowest number of the same.
    fn first(&self, number: usize) -> usize {
        let mut number = number;
        // Each leads to a lower one, or to itself.
        while let Some(same) = self.same.get(number).filter(|same| **same < number) {
            number = *same;
        }
        number
    }
}

fn empty(hazard: &Hazard, class: Class) -> Diagnostic {
    Diagnostic {
        kind: hazard.kind.word(),
        manifested: false,
        findings: 0,
        manifested_findings: 0,
        lines: 0,
        manifested_lines: 0,
        wrong_bytes: 0,
        first_pa: Hex(hazard.first_pa),
        end_pa: Hex(hazard.end_pa),
        stretches: Vec::new(),
        more_stretches: 0,
        buffers: Vec::new(),
        shown: 0,
        other_readers: 0,
        class,
        why: hazard.why.word(),
        advice: String::new(),
        help: String::new(),
        notes: Vec::new(),
        history: Vec::new(),
        cause: None,
    }
}

fn add(group: &mut Diagnostic, hazard: &Hazard, buffers: &[usize]) {
    group.manifested |= hazard.manifested;
    group.findings += 1;
    group.manifested_findings += u64::from(hazard.manifested);
    group.lines += hazard.lines;
    group.manifested_lines += hazard.manifested_lines;
    group.wrong_bytes += hazard.wrong_bytes;
    group.first_pa = group.first_pa.min(Hex(hazard.first_pa));
    group.end_pa = group.end_pa.max(Hex(hazard.end_pa));
    for buffer in buffers {
        if !group.buffers.contains(buffer) {
            group.buffers.push(*buffer);
        }
    }
    group.buffers.sort_unstable();
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
