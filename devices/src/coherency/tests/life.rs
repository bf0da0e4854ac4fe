// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! "The life of a line" in ARCHITECTURE.md is what the domain does.

use std::fmt::Write as _;

use super::rig::{self, BASE};
use crate::coherency::line::State;
use crate::coherency::{Domain, LINE, Policy, SnoopWrite};
use crate::cpu::{Barrier, CacheOp, ChainId, CpuId, MemoryType, SiteId};
use crate::dma::{Access, Direction, DmaMemory, MasterId, Order, Transfer};

const USB: MasterId = MasterId(0);
const ADC: MasterId = MasterId(1);
/// What the device fills of the line.
const FRAME: usize = 24;
const CHAPTER: &str = include_str!("../../../../ARCHITECTURE.md");

/// A line of the table for each step.
struct Trace {
    domain: Domain,
    text: String,
}

impl Trace {
    fn new() -> Self {
        let config = rig::config(4096, Policy::Lazy, SnoopWrite::WriteThrough);
        let domain = rig::domain(&config);
        rig::poke(&domain, 0, &[b'o'; LINE as usize]);
        let mut trace = Trace {
            domain,
            text: String::from(
                "event                       cache    ram       dram      uncleaned unseen    op 1      op 2\n",
            ),
        };
        trace.domain.loaded(BASE, LINE);
        trace
    }

    /// The CPU zeroes the line, cleans it for the ADC, and the ADC writes a frame.
    fn until_the_frame_is_there() -> Self {
        let mut trace = Trace::new();
        let line = [b'0'; LINE as usize];
        rig::store(
            &mut trace.domain,
            0,
            &line,
            SiteId(1),
            MemoryType::Cacheable,
        );
        trace.step("cpu   store, 64 bytes");
        trace.maintain("cpu   dc cvac; dsb     (1)", CacheOp::Clean);
        let order = Order::Doorbell(trace.domain.doorbell(ADC));
        let transfer = Transfer {
            direction: Direction::ToMemory,
            pa: BASE,
            bus: None,
            scattered: false,
            len: FRAME as u64,
            descriptor: 0,
            channel: 0,
            snoop: true,
        };
        let id = trace.domain.transfer_open(ADC, transfer, order);
        trace
            .domain
            .dma_write(ADC, Access::data(id), BASE, &[b'A'; FRAME])
            .unwrap();
        trace.domain.transfer_close(ADC, id);
        trace.step("adc   write, 24 bytes");
        trace
    }

    fn maintain(&mut self, what: &str, op: CacheOp) {
        self.domain
            .maintain(CpuId::BOOT, op, BASE, SiteId(2), ChainId(0));
        self.domain.barrier(CpuId::BOOT, Barrier::DSB_SY);
        self.step(what);
    }

    fn usb_reads(&mut self) {
        let access = Access {
            order: Order::Doorbell(self.domain.doorbell(USB)),
            ..Access::data(Default::default())
        };
        let mut data = [0; FRAME];
        self.domain.dma_read(USB, access, BASE, &mut data).unwrap();
        let found = match self.domain.report().hazards.as_slice() {
            [] => "no finding".to_owned(),
            [one] => format!("{}, {} bytes wrong", one.kind.name(), one.wrong_bytes),
            more => format!("{more:?}"),
        };
        self.step("usb   read, 24 bytes");
        let got = words(&data);
        writeln!(self.text, "      gets {got}: {found}").unwrap();
    }

    /// Every column has a character for each eight bytes.
    fn step(&mut self, what: &str) {
        let (ram, dram) = (
            rig::ram(&self.domain, 0, LINE as usize),
            rig::dram(&self.domain, 0, LINE as usize),
        );
        let (line, cold) = self.domain.lines.with_cold(0);
        let cleaned = cold.cleans.iter().find(|c| c.op == 1);
        let state = match line.state {
            State::Invalid => "invalid",
            State::Clean => "clean",
            State::Dirty => "dirty",
        };
        let columns = [
            words(&ram),
            words(&dram),
            bytes(line.uncleaned),
            bytes(line.unseen),
            bytes(cleaned.map_or(0, |c| c.bytes)),
            bytes(if cold.invalidate_op == 2 {
                cold.saved_invalidate
            } else {
                0
            }),
        ];
        let columns = columns.join("  ");
        writeln!(self.text, "{what:<27} {state:<8} {columns}").unwrap();
    }

    /// Which operations were needed.
    fn end(mut self) -> String {
        for (n, op) in self
            .domain
            .report()
            .maintenance
            .operations
            .iter()
            .enumerate()
        {
            let needed = if op.needed_lines > 0 {
                "needed"
            } else {
                "redundant"
            };
            writeln!(self.text, "operation {}: {needed}", n + 1).unwrap();
        }
        self.text
    }
}

fn words(data: &[u8]) -> String {
    data.chunks(8).map(|word| char::from(word[0])).collect()
}

fn bytes(mask: u64) -> String {
    let byte = |b: &u8| match b {
        0 => '.',
        0xff => '#',
        _ => '?',
    };
    mask.to_le_bytes().iter().map(byte).collect()
}

#[track_caller]
fn stands_in_the_chapter(trace: &str) {
    assert!(CHAPTER.contains(trace), "not in ARCHITECTURE.md:\n{trace}");
}

#[test]
fn without_an_invalidate() {
    let mut trace = Trace::until_the_frame_is_there();
    trace.usb_reads();
    stands_in_the_chapter(&trace.end());
}

#[test]
fn with_one() {
    let mut trace = Trace::until_the_frame_is_there();
    trace.maintain("cpu   dc ivac; dsb     (2)", CacheOp::Invalidate);
    trace.usb_reads();
    stands_in_the_chapter(&trace.end());
}
