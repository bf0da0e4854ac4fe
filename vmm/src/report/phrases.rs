// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is said alike in several places.

use staleline_results::Party;

pub(in crate::report) fn who(party: &Party) -> String {
    match party {
        Party::Unknown => "somebody unknown".into(),
        Party::Cpu { place, .. } if place.kernel => "the kernel".into(),
        Party::Cpu { .. } => "user space".into(),
        Party::Device { master, snoops, .. } => {
            let how = if *snoops { "snooping" } else { "non-snooping" };
            format!("{master} ({how})")
        }
    }
}

pub(in crate::report) fn count(n: u64, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        _ => format!("{n} {what}s"),
    }
}
