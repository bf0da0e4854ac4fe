// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The rows about ports that do other than the device tree says.

use staleline_devices::coherency::hazard::{HazardKind, Why};
use staleline_devices::dma::Port;

use super::decision::{Decision, says};
use super::{Facts, Lie};

/// The row of device trees that lie.
pub(super) const LYING_TREE: &str = "lying-tree";
/// The row of ports that snoop one way only.
pub(super) const HALF_COHERENT: &str = "half-coherent";

/// The lie that a finding of this kind comes from: from what the DMA API does, or leaves out, because
/// of the claim. The first of them that explains it.
pub fn accused(kind: HazardKind, why: Why, lies: &[Lie]) -> Option<&Lie> {
    lies.iter().find(|lie| explains(lie, kind, why))
}

fn the_cause(f: &Facts) -> Option<&Lie> {
    accused(f.kind, f.why, &f.lies)
}

fn explains(lie: &Lie, kind: HazardKind, why: Why) -> bool {
    // Where the tree is right to say no, it is not the cause.
    if !lie.claims_coherent && lie.is_as_good_as_incoherent() {
        return false;
    }
    let kinds: &[HazardKind] = match lie.claims_coherent {
        true => &[
            HazardKind::MissingClean,
            HazardKind::MissingInvalidate,
            HazardKind::WritebackClobber,
        ],
        false => &[HazardKind::MismatchedAlias, HazardKind::DiscardedWrite],
    };
    let merged = why == Why::StaleStore && lie.merged;
    merged || kinds.contains(&kind)
}

/// Whether the device tree denies what the port does.
pub(super) fn denies(f: &Facts) -> bool {
    the_cause(f).is_some_and(|lie| !lie.claims_coherent)
}

/// What the kernel does for a device of which the tree does not say that it is coherent.
fn without_the_claim(f: &Facts) -> &'static str {
    match f.kind {
        HazardKind::DiscardedWrite => {
            "the DMA API invalidates buffers that the device has written into the cache"
        }
        _ => {
            "the kernel maps its coherent memory as non-cacheable, past the cache that the device \
             looks into"
        }
    }
}

pub(super) fn half_coherent(f: &Facts) -> Decision {
    let lie = the_cause(f).filter(|lie| lie.by_half())?;
    let (master, port) = (&lie.master, lie.port.name());
    let (does, does_not) = match lie.port.snoops_reads() {
        true => ("reads", "writes"),
        false => ("writes", "reads"),
    };
    let (says_so, follows) = match lie.claims_coherent {
        true => (
            "is",
            format!("the DMA API leaves out the maintenance that its {does_not} need"),
        ),
        false => ("is not", without_the_claim(f).to_owned()),
    };
    let note = format!(
        "the port of {master} ({port}) snoops its {does} and not its {does_not}; the device tree \
         says that it {says_so} dma-coherent"
    );
    if lie.is_as_good_as_incoherent() {
        let why = match lie.asks_if_claimed {
            true => "its driver then does not have it ask to be snooped",
            false => "its snooping writes go through to memory",
        };
        return says(
            format!(
                "take dma-coherent out of the device tree's node for {master}: {why}, so that a tree \
                 without it is right. As it is, {follows}"
            ),
            [note],
        );
    }
    // The one way that snoops is all that a device needs that only reads, or the other way is.
    let only_reads = match lie.port.snoops_reads() {
        true => "with",
        false => "without",
    };
    says(
        format!(
            "let both its reads and its writes snoop (by the cache attributes of the master, or \
             by another port) and say dma-coherent, or neither, and leave that out: then maintenance \
             and SYNC are needed, as on any port that does not snoop. As it is, no device tree is right for a device that writes data, and one {only_reads} dma-coherent \
             only for a device that reads it: {follows}"
        ),
        [note],
    )
}

pub(super) fn lying_tree(f: &Facts) -> Decision {
    let lie = the_cause(f)?;
    let (master, port) = (&lie.master, lie.port.name());
    if !lie.claims_coherent {
        return says(
            format!(
                "add dma-coherent to the device tree's node for {master}: without it, {}",
                without_the_claim(f)
            ),
            [format!(
                "the port of {master} ({port}) snoops, the device tree says that it does not"
            )],
        );
    }
    // A port that could: then the master does not ask for it.
    let does_not = match lie.port {
        Port::Hpc => "would snoop, and this access does not ask for it",
        _ => "does not snoop",
    };
    says(
        format!(
            "take dma-coherent out of the device tree's node for {master}, or wire it to a port \
             that snoops: as it is, the DMA API leaves out all maintenance for it"
        ),
        [format!(
            "the device tree says that {master} is dma-coherent, its port ({port}) {does_not}"
        )],
    )
}
