// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Addresses of a master's bus, against a search byte by byte; and what the domain is told of them.

use proptest::prelude::*;
use vm_memory::MmapRegion;

use super::*;
use crate::cpu::{CpuId, MemoryType, SiteId};
use crate::dma::{Direction, Port};
use crate::hazard::HazardKind;

const BASE: u64 = 0x4000_0000;
const LOW: u64 = 0x4000;
/// RAM goes on after a hole of as many bytes.
const HIGH: u64 = BASE + 2 * LOW;
const MASTER: MasterId = MasterId(0);

fn config() -> DomainConfig {
    DomainConfig::plain(BASE, 3 * LOW, vec![Port::Hp])
}

fn map(ranges: &[DmaRange]) -> Map {
    let mut map = Map::new(&config(), vec![BASE..BASE + LOW, HIGH..HIGH + LOW]);
    map.ranges.push(ranges.to_vec());
    map
}

fn domain() -> Domain {
    Domain::new(&config(), MmapRegion::new(3 * LOW as usize).unwrap()).unwrap()
}

/// Both pieces of RAM, swapped, from 0 on.
const SWAPPED: [DmaRange; 2] = [
    DmaRange {
        bus: 0,
        pa: HIGH,
        bytes: LOW,
    },
    DmaRange {
        bus: LOW,
        pa: BASE,
        bytes: LOW,
    },
];

#[test]
fn without_ranges_addresses_are_physical_and_there_is_a_hole() {
    let map = map(&[]);
    let at = |pa, len| map.translate(MASTER, pa, len);
    assert_eq!(at(BASE, LOW), Ok(BASE));
    assert_eq!(at(HIGH, LOW), Ok(HIGH));
    for (pa, len) in [
        (BASE - 1, 1),
        (BASE, LOW + 1),
        (BASE + LOW, 1),
        (HIGH - 1, 2),
        (u64::MAX, 8),
    ] {
        let len_as_told = len as usize;
        let outside = DmaError::OutsideRam {
            pa,
            len: len_as_told,
        };
        assert_eq!(at(pa, len), Err(outside));
    }
}

#[test]
fn data_comes_from_where_the_bus_has_it() {
    let (map, mut domain) = (map(&SWAPPED), domain());
    let mut gate = Gate {
        domain: &mut domain,
        map: &map,
        behind: None,
    };
    let access = Access::descriptor(Order::Unprompted);
    gate.dma_write(MASTER, access, LOW + 64, &[7; 64]).unwrap();
    let mut data = [0; 64];
    gate.dma_read(MASTER, access, LOW + 64, &mut data).unwrap();
    assert_eq!(data, [7; 64]);
    domain
        .dma_read(MASTER, access, BASE + 64, &mut data)
        .unwrap();
    assert_eq!(data, [7; 64]);
    let mut gate = Gate {
        domain: &mut domain,
        map: &map,
        behind: None,
    };
    // Over the border of two ranges, and where there is none: an error, and nothing is written.
    for at in [LOW - 32, 2 * LOW, BASE, u64::MAX] {
        let refused = gate.dma_write(MASTER, access, at, &[9; 64]);
        assert_eq!(refused, Err(DmaError::OutsideRanges { at, len: 64 }));
    }
}

/// The memory of a transfer is where the bus has it: there it belongs to the master, and nowhere else.
#[test]
fn a_transfer_owns_the_memory_and_not_its_address_on_the_bus() {
    let shifted = [DmaRange {
        bus: BASE,
        pa: HIGH,
        bytes: LOW,
    }];
    let store = |domain: &mut Domain, pa| {
        domain.store(CpuId::BOOT, pa, 8, SiteId(1), MemoryType::Cacheable);
        domain.findings()
    };
    let (map, mut domain) = (map(&shifted), domain());
    let transfer = |pa, len| Transfer {
        direction: Direction::ToMemory,
        pa,
        bus: None,
        scattered: false,
        len,
        descriptor: BASE + 0x100,
        channel: 0,
        snoop: true,
    };
    let mut gate = Gate {
        domain: &mut domain,
        map: &map,
        behind: None,
    };
    let id = gate.transfer_open(MASTER, transfer(BASE, 64), Order::Unprompted);
    // One that lies in no range owns nothing.
    gate.transfer_open(MASTER, transfer(HIGH, 64), Order::Unprompted);
    gate.transfer_open(MASTER, transfer(BASE + LOW - 64, 128), Order::Unprompted);
    assert_eq!(store(&mut domain, BASE), 0);
    assert_eq!(store(&mut domain, HIGH), 1);
    let report = domain.report();
    assert_eq!(report.hazards[0].kind, HazardKind::Ownership);
    let told = &report.transfers[0];
    assert_eq!(
        (told.id, told.transfer.pa, told.transfer.bus),
        (id, HIGH, Some(BASE))
    );
    assert_eq!(told.transfer.descriptor, HIGH + 0x100);
    assert_eq!(report.transfers[1].transfer.bus, Some(HIGH));
}

/// Byte by byte.
fn naive(map: &Map, at: u64, len: u64) -> Option<u64> {
    let byte = |n: u64| {
        let at = at.checked_add(n)?;
        let ranges = &map.ranges[0];
        let (which, pa) = match ranges.is_empty() {
            true => (0, at),
            false => {
                let mut all = ranges.iter().enumerate();
                let (which, r) = all.find(|(_, r)| (r.bus..r.bus + r.bytes).contains(&at))?;
                (which, r.pa + (at - r.bus))
            }
        };
        let ram = map.ram.iter().position(|ram| ram.contains(&pa))?;
        Some((which, ram, pa))
    };
    let (which, ram, first) = byte(0)?;
    let all = (0..len).all(|n| byte(n) == Some((which, ram, first + n)));
    all.then_some(first)
}

proptest! {
    #[test]
    fn every_access_goes_where_its_bytes_go_one_by_one(
        sizes in prop::collection::vec((0u64..4, 0u64..4, 1u64..5), 0..4),
        accesses in prop::collection::vec((0u64..80, 1u64..40), 1..20),
    ) {
        // Small enough to be looked through: a unit is 16 bytes here.
        let mut bus = 0;
        let ranges: Vec<_> = sizes.iter().map(|(gap, pa, units)| {
            let range = DmaRange { bus: bus + gap * 16, pa: pa * 32, bytes: units * 16 };
            bus = range.bus + range.bytes;
            range
        }).collect();
        let map = Map { ram: vec![16..64, 96..160], ranges: vec![ranges] };
        for (at, len) in accesses {
            let at = at * 4;
            prop_assert_eq!(map.translate(MASTER, at, len).ok(), naive(&map, at, len));
        }
    }
}
