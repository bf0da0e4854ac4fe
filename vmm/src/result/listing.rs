// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Bounds of what `result.json` lists. Its sums and counts are always over everything.

use super::{Diagnostic, HazardEntry};

/// Findings listed one by one. At about 9 kB each, with places and call chains, 18 MB.
pub const HAZARDS: usize = 2048;

/// Maintenance operations listed one by one. At about 1 kB each, with their call chains, 16 MB.
pub const OPERATIONS: usize = 16_384;

/// Leaves `limit` of the findings, or as many as diagnostics show if these are more: those, and of
/// the others the first ones. So each kind that there is stays in the list.
pub fn shorten(hazards: &mut Vec<HazardEntry>, diagnostics: &mut [Diagnostic], limit: usize) {
    if hazards.len() <= limit {
        return;
    }
    let mut keep = vec![false; hazards.len()];
    for diagnostic in &*diagnostics {
        if let Some(shown) = keep.get_mut(diagnostic.shown) {
            *shown = true;
        }
    }
    let mut room = limit.saturating_sub(keep.iter().filter(|k| **k).count());
    for kept in keep.iter_mut().filter(|k| !**k) {
        if room == 0 {
            break;
        }
        room -= 1;
        *kept = true;
    }
    for diagnostic in diagnostics {
        let before = keep.iter().take(diagnostic.shown);
        diagnostic.shown = before.filter(|k| **k).count();
    }
    let mut keep = keep.into_iter();
    hazards.retain(|_| keep.next().unwrap_or(false));
}

#[cfg(test)]
mod tests {
    use super::super::{HazardKind, Hex, Party};
    use super::*;

    fn entry(at: u64, diagnostic: usize) -> HazardEntry {
        HazardEntry {
            kind: HazardKind::MissingClean,
            manifested: false,
            lines: 1,
            manifested_lines: 0,
            wrong_bytes: 0,
            first_pa: Hex(0),
            end_pa: Hex(64),
            writer: Party::Unknown,
            reader: Party::Unknown,
            master: "m".into(),
            transfer: 0,
            missing: String::new(),
            cached_by: None,
            last_maintenance: None,
            why: Default::default(),
            written_at: 0,
            started_at: None,
            at,
            diagnostic,
        }
    }

    fn diagnostic(shown: usize) -> Diagnostic {
        Diagnostic {
            kind: HazardKind::MissingClean,
            manifested: false,
            findings: 1,
            manifested_findings: 0,
            lines: 1,
            manifested_lines: 0,
            wrong_bytes: 0,
            first_pa: Hex(0),
            end_pa: Hex(64),
            stretches: Vec::new(),
            more_stretches: 0,
            buffers: Vec::new(),
            shown,
            other_readers: 0,
            class: Default::default(),
            why: Default::default(),
            advice: String::new(),
            help: String::new(),
            notes: Vec::new(),
            history: Vec::new(),
            cause: None,
        }
    }

    #[test]
    fn what_diagnostics_show_stays_and_the_first_of_the_rest() {
        let all: Vec<_> = (0..10).map(|n| entry(n, usize::from(n == 8))).collect();
        let left = |limit| {
            let (mut hazards, mut diagnostics) = (all.clone(), [diagnostic(3), diagnostic(8)]);
            shorten(&mut hazards, &mut diagnostics, limit);
            let at: Vec<_> = hazards.iter().map(|h| h.at).collect();
            (at, diagnostics.map(|d| d.shown))
        };
        assert_eq!(left(10), ((0..10).collect(), [3, 8]));
        assert_eq!(left(4), (vec![0, 1, 3, 8], [2, 3]));
        assert_eq!(left(0), (vec![3, 8], [0, 1]));
    }
}
