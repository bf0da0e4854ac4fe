// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! An SMMU over plain memory, with a driver that writes tables and commands.

use proptest::prelude::*;

use super::*;
use crate::dma::MasterId;
use crate::state::Stateful as _;
use crate::stream::Streams;
use crate::testutil::{Bench, FlatMemory};

const BASE: u64 = 0x4000_0000;
const BYTES_OF_MEMORY: usize = 1 << 20;
const STREAM: u32 = 3;
const ASID: u64 = 7;

const STREAMS_AT: u64 = BASE;
const CONTEXT_AT: u64 = BASE + 0x1000;
const COMMANDS_AT: u64 = BASE + 0x2000;
const EVENTS_AT: u64 = BASE + 0x4000;
/// Tables of the levels 0 to 3.
const TABLES_AT: [u64; 4] = [BASE + 0x5000, BASE + 0x6000, BASE + 0x7000, BASE + 0x8000];

const VALID: u64 = 1;
const TABLE: u64 = 3;
const AF: u64 = 1 << 10;
const USER: u64 = 1 << 6;
const READ_ONLY: u64 = 1 << 7;
/// MAIR as the driver writes it: 0 is non-cacheable, 1 write-back.
const MAIR: u64 = 0xff44;
const CACHEABLE: u64 = 1 << 2;

struct Rig {
    bench: Bench<Smmu>,
    produced: u32,
}

impl Rig {
    /// With one stream that is translated, of 48 bits, and nothing mapped.
    fn new() -> Self {
        let memory = FlatMemory::new(BASE, BYTES_OF_MEMORY);
        let mut rig = Rig {
            bench: Bench::new(Smmu::new(false), memory, Streams::default()),
            produced: 0,
        };
        rig.put(
            STREAMS_AT + u64::from(STREAM) * 64,
            &[VALID | 5 << 1 | CONTEXT_AT, 0],
        );
        rig.put(
            CONTEXT_AT,
            &[16 | 1 << 31 | 1 << 41 | ASID << 48, TABLES_AT[0], 0, MAIR],
        );
        for level in 0..3 {
            rig.put(TABLES_AT[level], &[TABLES_AT[level + 1] | TABLE]);
        }
        for (at, value) in [
            (STRTAB_BASE, STREAMS_AT as u32),
            (STRTAB_BASE_CFG, STREAM_BITS),
            (CMDQ_BASE, COMMANDS_AT as u32 | CMDQ_BITS),
            (EVTQ_BASE, EVENTS_AT as u32 | 1),
            (CR2, RECINVSID),
            (IRQ_CTRL, IRQ_EVTQ | IRQ_GERROR),
            (CR0, CMDQEN | EVTQEN | SMMUEN),
        ] {
            rig.bench.write(at, value);
        }
        assert_eq!(rig.bench.read(CR0ACK), CMDQEN | EVTQEN | SMMUEN);
        rig
    }

    fn put(&mut self, at: u64, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.bench.memory.put(at, &bytes);
    }

    /// Maps the page `n` of the first 2 MiB.
    fn map(&mut self, n: u64, entry: u64) {
        self.put(TABLES_AT[3] + n * 8, &[entry]);
    }

    fn go(&mut self, at: u64, write: bool) -> Option<Translated> {
        self.go_as(STREAM, at, write)
    }

    fn go_as(&mut self, stream: u32, at: u64, write: bool) -> Option<Translated> {
        let mut port = DmaPort::new(&mut self.bench.memory, MasterId(0));
        let device = &mut self.bench.device;
        device.translate(stream, at, write, 0, &mut port)
    }

    fn command(&mut self, words: [u64; 2]) {
        let at = COMMANDS_AT + u64::from(self.produced % 256) * 16;
        self.put(at, &words);
        self.produced = (self.produced + 1) % 512;
        self.bench.write(CMDQ_PROD, self.produced);
    }

    /// The number, stream and address of the event in that place of the queue.
    fn event(&self, n: u64) -> (u32, u32, u64) {
        let memory = &self.bench.memory;
        let at = EVENTS_AT + n * 32;
        let address = u64::from(memory.u32(at + 20)) << 32 | u64::from(memory.u32(at + 16));
        (memory.u32(at), memory.u32(at + 4), address)
    }
}

const PAGE: u64 = 0x1000;
const FRAME: u64 = BASE + 0x1_0000;
const MAPPED: u64 = FRAME | AF | USER | TABLE;

#[test]
fn the_registers_are_well_formed() {
    for coherent in [false, true] {
        let table = table(coherent);
        assert!(RegisterFile::check(&table));
        assert!(table.iter().all(|r| r.offset < BYTES));
        assert_eq!(table[0].reset >> 4 & 1, u32::from(coherent));
    }
}

#[test]
fn before_it_is_enabled_all_goes_through_or_nothing() {
    let mut rig = Rig::new();
    rig.bench.write(CR0, 0);
    let through = rig.go(0x1234_5678, true).unwrap();
    assert_eq!((through.at, through.cacheable), (0x1234_5678, true));
    rig.bench.write(GBPA, GBPA_ABORT | GBPA_UPDATE);
    assert_eq!(rig.bench.read(GBPA), GBPA_ABORT);
    assert_eq!(rig.go(0x1234_5678, true), None);
}

#[test]
fn a_page_is_where_the_tables_say_and_as_they_say() {
    let mut rig = Rig::new();
    rig.map(1, MAPPED);
    rig.map(2, (MAPPED + PAGE) | CACHEABLE | READ_ONLY);
    let there = rig.go(PAGE + 0x123, true).unwrap();
    assert_eq!((there.at, there.cacheable), (FRAME + 0x123, false));
    let there = rig.go(2 * PAGE + 8, false).unwrap();
    assert_eq!((there.at, there.cacheable), (FRAME + PAGE + 8, true));
    assert_eq!(rig.go(2 * PAGE + 8, true), None);
    assert_eq!(rig.event(0), (0x13, STREAM, 2 * PAGE + 8));
    assert!(rig.bench.device.irq());
    rig.bench.write(EVTQ_CONS, 1);
    assert!(!rig.bench.device.irq());
    // A block of 2 MiB.
    rig.put(TABLES_AT[2] + 8, &[0x8020_0000 | AF | USER | VALID]);
    assert_eq!(rig.go(0x20_0000 + 0x12_3456, true).unwrap().at, 0x8032_3456);
    // A stream that is not translated, and one that is let nowhere.
    rig.put(STREAMS_AT, &[VALID | 4 << 1]);
    rig.put(STREAMS_AT + 64, &[VALID]);
    assert_eq!(rig.go_as(0, 0x77, true).unwrap().at, 0x77);
    assert_eq!(rig.go_as(1, 0x77, true), None);
}

#[test]
fn what_is_wrong_is_told_by_its_number() {
    /// What is done to the rig, what a master then asks for, and the number.
    type Case = (fn(&mut Rig), u64, u32);
    let cases: [Case; 9] = [
        (|rig| rig.put(STREAMS_AT + 192, &[0]), PAGE, 0x04),
        (
            |rig| rig.put(STREAMS_AT + 192, &[VALID | 5 << 1 | 0x40]),
            PAGE,
            0x09,
        ),
        (|rig| rig.put(CONTEXT_AT, &[0]), PAGE, 0x0a),
        (
            |rig| rig.put(TABLES_AT[2], &[0x40 << 12 | TABLE]),
            PAGE,
            0x0b,
        ),
        (|rig| rig.map(1, 0), PAGE, 0x10),
        (|_| {}, 1 << 48, 0x10),
        (|rig| rig.map(1, MAPPED & !AF), PAGE, 0x12),
        (|rig| rig.map(1, MAPPED & !USER), PAGE, 0x13),
        (
            |rig| rig.put(TABLES_AT[1], &[TABLES_AT[2] | TABLE | 1 << 61]),
            PAGE,
            0x13,
        ),
    ];
    for (n, (spoil, at, event)) in cases.into_iter().enumerate() {
        let mut rig = Rig::new();
        rig.map(1, MAPPED);
        spoil(&mut rig);
        assert_eq!(rig.go(at, false), None, "{n}");
        let (number, stream, _) = rig.event(0);
        assert_eq!((number, stream), (event, STREAM), "{n}");
        assert_eq!(rig.bench.device.errors().len(), 1, "{n}");
        // To look ahead is no access, and nobody's fault.
        let mut port = DmaPort::new(&mut rig.bench.memory, MasterId(0));
        assert_eq!(rig.bench.device.foresee(STREAM, at, &mut port), None);
        assert_eq!(rig.bench.device.errors().len(), 1, "{n}");
    }
    let mut rig = Rig::new();
    assert_eq!(rig.go_as(STREAMS, 0, false), None);
    assert_eq!(rig.event(0).0, 0x02);
}

#[test]
fn what_is_remembered_goes_by_commands() {
    let by: [[u64; 2]; 5] = [
        [0x30, 0],
        [0x10, 0],
        [0x11 | ASID << 48, 0],
        [0x12 | ASID << 48, PAGE],
        [0x13, PAGE],
    ];
    for command in by {
        let mut rig = Rig::new();
        rig.map(1, MAPPED);
        assert!(rig.go(PAGE, true).is_some());
        rig.map(1, 0);
        // Of another ASID, and of another page.
        rig.command([0x11 | (ASID + 1) << 48, 0]);
        rig.command([0x12 | ASID << 48, 2 * PAGE]);
        rig.command([0x46, 0]);
        assert!(rig.go(PAGE, true).is_some());
        rig.command(command);
        assert_eq!(rig.bench.read(CMDQ_CONS), rig.produced);
        assert_eq!(rig.go(PAGE, true), None, "{command:x?}");
    }
    for command in [
        [0x03 | u64::from(STREAM) << 32, 0],
        [0x04, 31],
        [0x05 | 3 << 32, 0],
    ] {
        let mut rig = Rig::new();
        rig.map(1, MAPPED);
        assert!(rig.go(PAGE, true).is_some());
        rig.put(STREAMS_AT + 192, &[VALID]);
        assert!(rig.go(PAGE, true).is_some());
        rig.command(command);
        assert_eq!(rig.go(PAGE, true), None, "{command:x?}");
    }
}

#[test]
fn a_command_that_is_none_stops_the_queue_until_it_is_put_right() {
    let mut rig = Rig::new();
    rig.command([0x46, 0]);
    rig.command([0xff, 0]);
    rig.command([0x46, 0]);
    assert_eq!(rig.bench.read(CMDQ_CONS), 1 | CERROR_ILL << 24);
    assert_eq!(rig.bench.read(GERROR), CMDQ_ERR);
    assert!(rig.bench.device.irq());
    rig.put(COMMANDS_AT + 16, &[0x46, 0]);
    rig.bench.write(GERRORN, CMDQ_ERR);
    assert_eq!(rig.bench.read(CMDQ_CONS), 3);
    assert!(!rig.bench.device.irq());
}

#[test]
fn a_full_event_queue_says_that_it_ran_over() {
    let mut rig = Rig::new();
    for n in 0..5 {
        assert_eq!(rig.go(n * PAGE, false), None);
    }
    assert_eq!(rig.bench.read(EVTQ_PROD), 1 << 31 | 2);
    assert_eq!(rig.event(1), (0x10, STREAM, PAGE));
    rig.bench.write(EVTQ_CONS, 1 << 31 | 2);
    assert_eq!(rig.go(9 * PAGE, false), None);
    assert_eq!(rig.event(0), (0x10, STREAM, 9 * PAGE));
}

#[test]
fn it_goes_on_from_a_saved_state() {
    let mut rig = Rig::new();
    rig.map(1, MAPPED);
    assert!(rig.go(PAGE, true).is_some());
    rig.go(3 * PAGE, true);
    rig.map(1, 0);
    let saved = rig.bench.device.save_state().unwrap();
    let mut other = Smmu::new(false);
    other.restore_state(&saved).unwrap();
    assert_eq!(other.save_state().unwrap(), saved);
    rig.bench.device = other;
    // It remembers.
    assert!(rig.go(PAGE, true).is_some());
    assert!(rig.bench.device.irq());
}

/// Over a domain: an entry for a table that was cleaned, and then marked in a bit that no walk looks at.
#[test]
fn notes_of_softwares_own_need_no_clean() {
    use crate::coherency::{Domain, DomainConfig};
    use crate::cpu::{CpuId, MemoryType, SiteId};
    use crate::dma::Port;
    use vm_memory::{Bytes as _, VolatileMemory as _};
    let ram = vm_memory::MmapRegion::new(BYTES_OF_MEMORY).unwrap();
    let config = DomainConfig::plain(BASE, BYTES_OF_MEMORY as u64, vec![Port::Hp]);
    let mut rig = Rig::new();
    rig.map(1, MAPPED);
    // Loaded before power-on, as if the driver had written and cleaned all of it.
    let memory = ram.as_volatile_slice();
    memory.write_slice(&rig.bench.memory.bytes, 0).unwrap();
    let mut domain = Domain::new(&config, ram).unwrap();
    domain.loaded(BASE, BYTES_OF_MEMORY as u64);
    let mut go = |domain: &mut Domain| {
        let mut port = DmaPort::new(domain, MasterId(0));
        rig.bench.device.tlb.forget(|_| true);
        let device = &mut rig.bench.device;
        assert!(device.translate(STREAM, PAGE, true, 0, &mut port).is_some());
    };
    // The whole word is stored, as WRITE_ONCE() does.
    let store = |domain: &mut Domain, at: u64, word: u64| {
        let memory = domain.mapping().as_volatile_slice();
        memory
            .write_slice(&word.to_le_bytes(), (at - BASE) as usize)
            .unwrap();
        domain.store(CpuId::BOOT, at, 8, SiteId(1), MemoryType::Cacheable);
    };
    let first = TABLES_AT[1] | TABLE;
    store(&mut domain, TABLES_AT[0], first | 1 << 55);
    go(&mut domain);
    assert_eq!(domain.findings(), 0);
    store(&mut domain, TABLES_AT[0], first | 1 << 59);
    go(&mut domain);
    assert_eq!(domain.findings(), 1);
}

/// At work, with translations and configurations remembered, and an event that waits.
fn at_work() -> Bench<Smmu> {
    let mut rig = Rig::new();
    rig.map(1, MAPPED);
    rig.go(PAGE, true);
    rig.go(3 * PAGE, true);
    rig.bench
}

#[test]
fn no_bit_makes_it_panic() {
    crate::state::twins::survives_each_bit(at_work);
}

/// As a table of all mappings would say, by a search from the top for each page.
fn naive(rig: &Rig, bits: u32, at: u64) -> Option<u64> {
    if at >> bits != 0 {
        return None;
    }
    let word = |at: u64| {
        let end = BASE + BYTES_OF_MEMORY as u64 - 8;
        let memory = &rig.bench.memory;
        (BASE..=end)
            .contains(&at)
            .then(|| u64::from(memory.u32(at + 4)) << 32 | u64::from(memory.u32(at)))
    };
    let mut table = TABLES_AT[0];
    let first = 4 - (bits - 12).div_ceil(9);
    for level in first..4 {
        let shift = 39 - 9 * level;
        let entry = word(table + (at >> shift) % 512 * 8)?;
        let address = entry % (1 << 48) / 4096 * 4096;
        match (entry & 3, level) {
            (3, 0..3) => table = address,
            (1, 1 | 2) | (3, 3) => {
                let fine = entry & AF != 0 && entry & USER != 0 && entry & READ_ONLY == 0;
                let size = 1 << shift;
                return fine.then_some(address / size * size + at % size);
            }
            _ => return None,
        }
    }
    None
}

proptest! {
    #[test]
    fn walks_find_what_a_search_finds(
        bits in 25u32..=48,
        entries in prop::collection::vec((0usize..4, 0u64..4, 0u64..16, any::<u8>()), 0..24),
        accesses in prop::collection::vec(prop::array::uniform4(0u64..4), 1..24),
    ) {
        let mut rig = Rig::new();
        rig.put(CONTEXT_AT, &[u64::from(64 - bits) | 1 << 31 | 1 << 41 | ASID << 48]);
        for (table, index, to, kind) in entries {
            let target = match kind % 4 {
                0 => TABLES_AT[to as usize % 4],
                1 => BASE + to * 0x1_0000,
                _ => to << 30,
            };
            let flags = u64::from(kind >> 2 & 3) | AF | USER | u64::from(kind >> 7) << 7;
            rig.put(TABLES_AT[table] + index * 8, &[target | flags]);
        }
        for [a, b, c, d] in accesses {
            let at = a << 39 | b << 30 | c << 21 | d << 12 | 0x678;
            let expected = naive(&rig, bits, at);
            prop_assert_eq!(rig.go(at, true).map(|t| t.at), expected, "{:#x}", at);
            // And what is remembered is the same.
            prop_assert_eq!(rig.go(at, true).map(|t| t.at), expected, "{:#x}", at);
        }
    }

    /// Whatever a guest writes, it ends, and nothing panics.
    #[test]
    fn no_guest_makes_it_panic(
        words in prop::collection::vec((0u64..0x2000, any::<u64>()), 0..200),
        writes in prop::collection::vec((0usize..40, any::<u32>()), 0..60),
        accesses in prop::collection::vec((any::<u32>(), any::<u64>(), any::<bool>()), 0..20),
    ) {
        let mut rig = Rig::new();
        for (at, word) in words {
            rig.put(BASE + at * 8, &[word]);
        }
        let offsets: Vec<u64> = table(true).iter().map(|r| r.offset).collect();
        for (n, value) in writes {
            let offset = offsets.get(n).copied().unwrap_or(n as u64 * 4);
            rig.bench.write(offset, value);
            rig.bench.read(offset);
        }
        for (stream, at, write) in accesses {
            rig.go_as(stream % 32, at, write);
            rig.go_as(STREAM, at % (1 << 48), write);
        }
        let saved = rig.bench.device.save_state().unwrap();
        prop_assert!(Smmu::new(false).restore_state(&saved).is_ok());
    }
}
