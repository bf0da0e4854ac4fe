// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What masters' buses may have for memory: bounds on `dma-ranges`.

use std::ops::Range;

use crate::board::Board;
use crate::board::settings::{BlkSettings, BoardSettings, DmaRange, Translated};

/// Ranges begin and end with pages.
const PAGE: u64 = 4096;
/// Ranges of one bus.
const MOST: usize = 4;

/// What is wrong with them, for people.
pub(super) fn check(board: &BoardSettings) -> Result<(), String> {
    let blk = board.blk.as_ref().map(BlkSettings::attachment);
    let ports = [
        ("dmac", Translated::Dmac, Some(&board.dmac)),
        ("usb", Translated::Usb, Some(&board.usb)),
        ("gdma", Translated::Gdma, board.gdma.as_ref()),
        ("blk", Translated::Blk, blk.as_ref()),
    ];
    let ram = Board::bare(board).ram();
    for (name, master, port) in ports {
        let Some(port) = port else { continue };
        let key = format!("board.{name}.dma-ranges");
        if port.dma_ranges.is_empty() && !port.tell_dma_ranges {
            return Err(format!(
                "board.{name}.tell-dma-ranges = false, and there is no {key} to be silent about"
            ));
        }
        let smmu = board.smmu.as_ref();
        if smmu.is_some_and(|smmu| smmu.translates(master)) && !port.dma_ranges.is_empty() {
            return Err(format!(
                "{key} is set, and the master is behind the SMMU: leave it out of board.smmu.masters"
            ));
        }
        of_port(&port.dma_ranges, &ram).map_err(|why| format!("{key} {why}"))?;
    }
    Ok(())
}

fn of_port(ranges: &[DmaRange], ram: &[Range<u64>]) -> Result<(), String> {
    if ranges.len() > MOST {
        return Err(format!("has {} ranges: at most {MOST}", ranges.len()));
    }
    for (n, range) in ranges.iter().enumerate() {
        let DmaRange { bus, pa, bytes } = *range;
        let aligned = [bus, pa, bytes].iter().all(|n| n.is_multiple_of(PAGE));
        if !aligned || bytes == 0 {
            return Err(format!(
                "has bus = {bus:#x}, pa = {pa:#x}, bytes = {bytes:#x}: each must be a multiple of {PAGE}, and \
                 bytes more than 0"
            ));
        }
        let ends = (bus.checked_add(bytes), pa.checked_add(bytes));
        let (Some(bus_end), Some(pa_end)) = ends else {
            return Err(format!(
                "has bus = {bus:#x}, pa = {pa:#x}, bytes = {bytes:#x}: it ends beyond all addresses"
            ));
        };
        let overlaps = |other: &DmaRange| other.bus < bus_end && bus < other.bus + other.bytes;
        if ranges.iter().take(n).any(overlaps) {
            return Err(format!(
                "has two ranges with bus = {bus:#x}: one address, one meaning"
            ));
        }
        if !ram.iter().any(|ram| ram.start < pa_end && pa < ram.end) {
            let ram: Vec<_> = ram
                .iter()
                .map(|r| format!("{:#x}..{:#x}", r.start, r.end))
                .collect();
            return Err(format!(
                "has pa = {pa:#x}, bytes = {bytes:#x}, where there is no RAM: RAM is {}",
                ram.join(" and ")
            ));
        }
    }
    Ok(())
}
