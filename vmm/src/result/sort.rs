// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What tells findings apart beyond the rule and the roles: whatever makes it uncertain that they
//! have one cause.

use staleline_devices::coherency::hazard::{Actor, Hazard, HazardKind, Why};
use staleline_devices::cpu::{CacheOp, SiteId};
use staleline_devices::dma::{Direction, MasterId};

use super::advice;
use super::gather::bare;
use super::history;
use super::lookup::Lookup;
use super::{Buffer, Class};

/// Findings of the same rule and roles that differ in one of these are not of one cause, or nobody
/// knows that they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sort {
    /// How grave it is.
    pub class: Class,
    /// The master of which the device tree lies, if the finding comes from that.
    pub accused: Option<MasterId>,
    /// The operation that was suppressed on purpose would have prevented it.
    pub suppressed: bool,
    /// What else, unless one of these two explains it.
    apart: Option<Apart>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Apart {
    memory: Memory,
    /// The row of advice, and what it asks for, as far as the cause goes.
    row: &'static str,
    help: String,
    /// The routine that is at fault, and how.
    fault: Option<(String, String)>,
}

/// What is in the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory {
    /// A DMABUF.
    Dmabuf,
    /// Other data, by the channel or endpoint that moves it: who queues that is who maps it.
    Channel(Direction, u8),
    /// Descriptors and events, or nothing that a transfer concerns.
    Other,
}

impl Lookup<'_> {
    /// `buffers`: the DMABUFs that the finding is about.
    pub(super) fn sort(&self, h: &Hazard, buffers: &[&Buffer]) -> Sort {
        let (accused, suppressed) = (self.accused(h), self.suppressed(h));
        let explained = accused.is_some() || suppressed;
        Sort {
            class: self.class(h),
            accused,
            suppressed,
            apart: (!explained).then(|| self.apart(h, buffers)),
        }
    }

    fn apart(&self, h: &Hazard, buffers: &[&Buffer]) -> Apart {
        let (row, help) = advice::of_cause(&self.facts(h, buffers));
        Apart {
            memory: self.memory(h, buffers),
            row,
            help,
            fault: self.fault(h),
        }
    }

    fn memory(&self, h: &Hazard, buffers: &[&Buffer]) -> Memory {
        let index = h.transfer.0.checked_sub(1);
        let transfers = &self.soc.domain.transfers;
        let record = index.and_then(|i| transfers.get(usize::try_from(i).ok()?));
        match record {
            _ if !buffers.is_empty() => Memory::Dmabuf,
            Some(r) => Memory::Channel(r.transfer.direction, r.transfer.channel),
            None => Memory::Other,
        }
    }

    /// The routine that is at fault itself, whoever calls it, and how: it does not wait for its
    /// maintenance, with what the barrier that came instead falls short in, or does the wrong one. Of
    /// views that disagree, if it is at fault. A routine without a barrier of its own meets whatever comes
    /// next, such as those for loads or stores only: none of these is another mistake.
    pub(super) fn fault(&self, h: &Hazard) -> Option<(String, String)> {
        const ONLY_CLEANS: &str = "only cleans";
        if let Some((op, _)) = self.cleaned_for_a_cpu(h) {
            return Some((self.routine(op.site)?, ONLY_CLEANS.to_owned()));
        }
        let last = h.last_maintenance.or(h.last_clean)?;
        let how = if (h.kind, h.why) == (HazardKind::MissingBarrier, Why::Incomplete) {
            let barrier = self.barrier_after(h).map(advice::shortcoming);
            barrier.unwrap_or_default().to_owned()
        } else if self.cleaned_between(h) {
            ONLY_CLEANS.to_owned()
        } else {
            return None;
        };
        Some((self.routine(last.site)?, how))
    }

    /// Whether what was written past the cache was cleaned before it was read through it, where it had
    /// to be invalidated. That alone is not the routine's fault.
    fn cleaned_between(&self, h: &Hazard) -> bool {
        let alias = h.kind == HazardKind::MismatchedAlias && history::reads_through(h);
        let last = h.last_maintenance.filter(|_| alias);
        last.is_some_and(|l| l.op == CacheOp::Clean && h.written_at <= l.at && l.at <= h.at)
    }

    pub(super) fn routine(&self, site: SiteId) -> Option<String> {
        let name = self.guest.symbols.name(site)?;
        Some(bare(&name).to_owned())
    }

    /// Functions of the kernel that have made the access which lacks something, where that tells
    /// causes apart: each function that touches a DMABUF, or what is no channel's, has to see to that
    /// itself. Findings that have one in common are of one cause.
    pub(super) fn routines(&self, h: &Hazard, sort: &Sort) -> Vec<String> {
        let by_routine = |apart: &Apart| !matches!(apart.memory, Memory::Channel(..));
        let error = sort.class == Class::Error && h.why != Why::PowerOn;
        if !error || !sort.apart.as_ref().is_some_and(by_routine) {
            return Vec::new();
        }
        let of = |actor| match actor {
            Actor::Cpu { site, .. } if !site.is_user() => vec![site],
            _ => Vec::new(),
        };
        let sites = match h.kind {
            HazardKind::MissingBarrier => Vec::new(),
            _ if h.why == Why::StaleStore => of(h.merged_by),
            HazardKind::MissingInvalidate | HazardKind::Ownership => {
                let kernel = h.readers.iter().copied().filter(|site| !site.is_user());
                kernel.collect()
            }
            HazardKind::WritebackClobber => of(h.reader),
            HazardKind::MissingClean | HazardKind::DiscardedWrite => of(h.writer),
            HazardKind::MismatchedAlias | HazardKind::SignalledEarly => Vec::new(),
        };
        let mut names: Vec<String> = sites.into_iter().filter_map(|s| self.routine(s)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[cfg(test)]
#[path = "sort_tests.rs"]
mod tests;
