// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `spi-xilinx` in polled mode, played on the bench, and the chips behind it.

use proptest::prelude::*;

use super::quad::*;
use super::*;
use crate::bus::Device;
use crate::registers::RegisterFile;
use crate::stream::Streams;
use crate::testutil::{Bench, FlatMemory};

/// The driver's state: bench, FIFO words it found, and the inactive levels of the select lines.
pub(crate) struct Xspi {
    bench: Bench<AxiQuadSpi>,
    buffer: usize,
}

impl Xspi {
    /// `xilinx_spi_probe()`.
    pub(crate) fn probe(slaves: Vec<Box<dyn SpiSlave>>) -> Self {
        let device = AxiQuadSpi::new(slaves).unwrap();
        let mut bench = Bench::new(device, FlatMemory::new(0, 0), Streams::default());
        bench.write(CR, CR_LOOP);
        assert_eq!(
            bench.read(CR) & CR_LOOP,
            CR_LOOP,
            "the driver would go big-endian"
        );
        let mut spi = Xspi { bench, buffer: 0 };
        spi.find_buffer_size();
        spi.init_hw();
        spi
    }

    fn find_buffer_size(&mut self) {
        self.bench.write(RESETR, RESET_KEY);
        self.buffer = 0;
        loop {
            self.bench.write(TXD, 0);
            if self.bench.read(SR) & SR_TX_FULL != 0 {
                break;
            }
            self.buffer += 1;
            assert!(self.buffer < 1000);
        }
    }

    fn init_hw(&mut self) {
        let b = &mut self.bench;
        b.write(RESETR, RESET_KEY);
        b.write(IIER, INT_TX_EMPTY);
        b.write(DGIER, 0);
        b.write(SSR, 0xffff);
        let cr = CR_MANUAL_SELECT | CR_MASTER | CR_ENABLE | CR_TX_RESET | CR_RX_RESET;
        b.write(CR, cr);
    }

    /// One message: chip select, the bytes of `tx` and then `rx` more, chip select off.
    pub(crate) fn message(&mut self, select: u32, tx: &[u8], rx: usize) -> Vec<u8> {
        let cr = self.bench.read(CR) & !(CR_LOOP | CR_LSB_FIRST | 0x18);
        self.bench.write(CR, cr);
        self.bench.write(SSR, !(1 << select));
        self.transfer(tx);
        let reply = self.transfer(&vec![0; rx]);
        self.bench.write(SSR, u32::MAX);
        reply
    }

    /// `xilinx_spi_txrx_bufs()` without interrupt.
    fn transfer(&mut self, tx: &[u8]) -> Vec<u8> {
        let mut received = Vec::new();
        for words in tx.chunks(self.buffer) {
            for word in words {
                self.bench.write(TXD, (*word).into());
            }
            let mut sr = self.bench.read(SR);
            let mut left = words.len();
            let mut stalled = 32;
            while left > 0 {
                if sr & SR_TX_EMPTY == 0 || left <= 1 {
                    sr = self.bench.read(SR);
                    if sr & SR_RX_EMPTY != 0 {
                        stalled -= 1;
                        assert!(stalled > 0, "the driver would detect a stall");
                        continue;
                    }
                }
                received.push(self.bench.read(RXD) as u8);
                left -= 1;
            }
        }
        received
    }

    /// `ad9467_spi_read()`.
    pub(crate) fn an877_read(&mut self, select: u32, register: u16) -> u8 {
        let [high, low] = register.to_be_bytes();
        self.message(select, &[0x80 | high, low], 1)[0]
    }

    /// `ad9467_spi_write()`.
    pub(crate) fn an877_write(&mut self, select: u32, register: u16, value: u8) {
        let [high, low] = register.to_be_bytes();
        self.message(select, &[high, low, value], 0);
    }

    fn regmap_read(&mut self, select: u32, register: u8) -> u8 {
        self.message(select, &[0x80 | register], 1)[0]
    }

    fn regmap_write(&mut self, select: u32, register: u8, value: u8) {
        self.message(select, &[register, value], 0);
    }

    fn regmap_update(&mut self, select: u32, register: u8, mask: u8, value: u8) {
        let old = self.regmap_read(select, register);
        self.regmap_write(select, register, old & !mask | value & mask);
    }
}

pub(crate) fn chips(part: Part) -> Vec<Box<dyn SpiSlave>> {
    vec![Box::new(Ad9467::new(part)), Box::new(Ad9739a::new())]
}

#[test]
fn the_table_is_well_formed() {
    assert!(RegisterFile::check(&table(u32::MAX)));
    let too_many = (0..33)
        .map(|_| Box::new(Ad9739a::new()) as Box<dyn SpiSlave>)
        .collect();
    assert_eq!(AxiQuadSpi::new(too_many).unwrap_err(), TooManySlaves(33));
}

#[test]
fn the_driver_finds_fifos_and_each_chip_on_its_line() {
    let mut spi = Xspi::probe(chips(Part::Ad9467));
    assert_eq!(spi.buffer, FIFO - 1);
    assert!(!spi.bench.device.irq());
    assert_eq!(spi.an877_read(0, 0x01), 0x50);
    assert_eq!(spi.regmap_read(1, 0x35), 0x24);
    let mut spi = Xspi::probe(chips(Part::Ad9649));
    assert_eq!(spi.an877_read(0, 0x01), 0x6f);
    assert_eq!(Part::Ad9649.compatible(), "adi,ad9649");
    assert_eq!(Part::Ad9467.compatible(), "adi,ad9467");
}

#[test]
fn messages_longer_than_a_fifo_pass_in_loopback() {
    let mut spi = Xspi::probe(Vec::new());
    spi.bench
        .write(CR, CR_LOOP | CR_MANUAL_SELECT | CR_MASTER | CR_ENABLE);
    let data: Vec<u8> = (0..100).collect();
    assert_eq!(spi.transfer(&data), data);
}

#[test]
fn the_adc_is_configured_as_the_driver_does_it() {
    let mut spi = Xspi::probe(chips(Part::Ad9467));
    for (register, value) in [(0x14, 0x08), (0x0d, 0x06), (0x18, 0x07)] {
        spi.an877_write(0, register, value);
        spi.an877_write(0, 0xff, 0x01);
        assert_eq!(spi.an877_read(0, register), value);
    }
    assert_eq!(spi.an877_read(0, 0xff), 0, "the transfer bit clears itself");
    spi.an877_write(0, 0x01, 0);
    assert_eq!(spi.an877_read(0, 0x01), 0x50, "the chip ID is fixed");
}

#[test]
fn adc_registers_become_active_by_the_transfer_register() {
    let mut adc = Ad9467::new(Part::Ad9467);
    let mut write = |register, value| {
        adc.select();
        for byte in [0, register, value] {
            adc.exchange(byte);
        }
        adc.deselect();
        adc.active(0x0d)
    };
    assert_eq!(write(0x0d, 6), 0);
    assert_eq!(write(0xff, 0), 0);
    assert_eq!(write(0xff, 1), 6);
    assert_eq!(write(0x00, 0x3c), 0, "soft reset");
}

#[test]
fn adc_multi_byte_commands_go_downwards_and_stop() {
    let mut spi = Xspi::probe(chips(Part::Ad9467));
    // Two bytes written from 0x17 down, the third ignored.
    spi.message(0, &[0x20, 0x17, 0xaa, 0xbb, 0xcc], 0);
    assert_eq!(spi.an877_read(0, 0x17), 0xaa);
    assert_eq!(spi.an877_read(0, 0x16), 0xbb);
    assert_eq!(spi.an877_read(0, 0x15), 0);
    assert_eq!(spi.message(0, &[0xa0, 0x17], 3), [0xaa, 0xbb, 0xff]);
    // A stream goes on as long as the chip is selected.
    let all = spi.message(0, &[0xe0, 0x17], 30);
    assert_eq!((all[0], all[0x16]), (0xaa, 0x50));
}

/// `ad9739a_probe()` up to the backend.
#[test]
fn the_dac_comes_up() {
    let mut spi = Xspi::probe(chips(Part::Ad9467));
    spi.regmap_write(1, 0x13, 0x55);
    assert_eq!(spi.regmap_read(1, 0x35), 0x24);
    spi.regmap_update(1, 0x00, 0x20, 0x20);
    spi.regmap_update(1, 0x00, 0x20, 0);
    assert_eq!(spi.regmap_read(1, 0x13), 0, "reset");
    let setup = [
        (0x22, 0x0f),
        (0x23, 0x0f),
        (0x24, 0x30),
        (0x25, 0x80),
        (0x27, 0x44),
        (0x28, 0x6c),
    ];
    for (register, value) in setup {
        spi.regmap_write(1, register, value);
    }
    spi.regmap_write(1, 0x29, 0xcb);
    assert_eq!(spi.regmap_read(1, 0x2a) & 1, 0);
    spi.regmap_write(1, 0x26, 0x03);
    assert_eq!(spi.regmap_read(1, 0x2a) & 1, 1);
    spi.regmap_update(1, 0x13, 0x0f, 2);
    spi.regmap_write(1, 0x10, 0);
    assert_eq!(spi.regmap_read(1, 0x21), 0);
    spi.regmap_update(1, 0x10, 3, 3);
    assert_eq!(spi.regmap_read(1, 0x21), 0x09);
    for (register, value) in setup {
        assert_eq!(spi.regmap_read(1, register), value);
    }
    spi.message(1, &[0x22, 0x0e, 0x77], 0);
    assert_eq!(spi.regmap_read(1, 0x22), 0x0e, "one byte per command");
}

#[test]
fn least_significant_bit_first_is_reversed_on_the_wire() {
    let mut spi = Xspi::probe(chips(Part::Ad9467));
    let cr = spi.bench.read(CR);
    spi.bench.write(CR, cr | CR_LSB_FIRST);
    spi.bench.write(SSR, !2);
    let reply = spi.transfer(&[(0x80u8 | 0x35).reverse_bits(), 0]);
    assert_eq!(reply[1], 0x24u8.reverse_bits());
}

#[test]
fn automatic_selection_lasts_one_exchange() {
    let mut spi = Xspi::probe(chips(Part::Ad9467));
    let held = CR_MASTER | CR_ENABLE | CR_INHIBIT;
    spi.bench.write(CR, held);
    spi.bench.write(SSR, !2);
    for _ in 0..2 {
        // Both bytes wait in the FIFO and go out in one exchange.
        spi.bench.write(TXD, 0xb5);
        spi.bench.write(TXD, 0);
        assert_eq!(spi.bench.read(TX_OCCUPANCY), 1);
        spi.bench.write(CR, held & !CR_INHIBIT);
        assert_eq!(spi.bench.read(RX_OCCUPANCY), 1);
        spi.bench.read(RXD);
        assert_eq!(spi.bench.read(RXD), 0x24);
        spi.bench.write(CR, held);
    }
    // Without inhibition each byte is an exchange, so a command of its own.
    spi.bench.write(CR, held & !CR_INHIBIT);
    assert_eq!(spi.transfer(&[0xb5]), [0xff]);
    assert_eq!(spi.transfer(&[0]), [0xff]);
}

#[test]
fn interrupts_toggle_and_are_gated_twice() {
    let mut spi = Xspi::probe(chips(Part::Ad9467));
    let b = &mut spi.bench;
    for _ in 0..=FIFO {
        b.write(TXD, 0);
    }
    assert_ne!(b.read(IISR) & INT_TX_EMPTY, 0);
    assert_ne!(b.read(IISR) & INT_RX_OVERRUN, 0);
    assert_ne!(b.read(SR) & SR_RX_FULL, 0);
    assert!(!b.device.irq());
    b.write(DGIER, u32::MAX);
    assert!(b.device.irq());
    b.write(IISR, INT_TX_EMPTY);
    assert!(!b.device.irq());
    b.write(IISR, INT_TX_EMPTY);
    assert!(b.device.irq());
    b.write(IIER, 0);
    assert!(!b.device.irq());
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => prop::sample::select(vec![CR, CR, TXD, TXD, TXD, RXD, SSR, RESETR, IISR, IIER, DGIER]),
        1 => any::<u64>().prop_map(|o| o & !3),
    ]
}

fn value() -> impl Strategy<Value = u32> {
    prop_oneof![
        Just(RESET_KEY),
        Just(CR_MASTER | CR_ENABLE | CR_MANUAL_SELECT),
        0u32..0x400,
        any::<u32>()
    ]
}

proptest! {
    #[test]
    fn no_guest_breaks_the_bus(
        ops in prop::collection::vec((any::<bool>(), offset(), value()), 0..300),
    ) {
        let mut spi = Xspi::probe(chips(Part::Ad9649));
        for (write, offset, value) in ops {
            if write {
                spi.bench.write(offset, value);
            } else {
                let seen = spi.bench.device.peek(offset);
                prop_assert_eq!(spi.bench.read(offset), seen);
            }
            prop_assert!(spi.bench.read(TX_OCCUPANCY) < FIFO as u32);
            prop_assert!(spi.bench.read(RX_OCCUPANCY) < FIFO as u32);
            let declared = spi.bench.device.registers();
            let listed = declared.iter().any(|r| r.offset == offset);
            prop_assert!(listed || spi.bench.device.peek(offset) == 0);
        }
        // Probed again, everything works.
        spi.find_buffer_size();
        prop_assert_eq!(spi.buffer, FIFO - 1);
        spi.init_hw();
        prop_assert_eq!(spi.an877_read(0, 0x01), 0x6f);
        prop_assert_eq!(spi.regmap_read(1, 0x35), 0x24);
    }
}

mod state {
    use super::*;
    use crate::state::twins::{acts, damage, survives, twins};

    /// A controller in the middle of a message to the first chip.
    fn at_work() -> Bench<AxiQuadSpi> {
        let chips: Vec<Box<dyn SpiSlave>> = vec![
            Box::new(Ad9467::new(Part::Ad9467)),
            Box::new(Ad9739a::new()),
        ];
        let device = AxiQuadSpi::new(chips).unwrap();
        let mut bench = Bench::new(device, FlatMemory::new(0, 0), Streams::default());
        bench.write(CR, CR_MANUAL_SELECT | CR_MASTER | CR_ENABLE);
        bench.write(SSR, !1);
        for word in [0x60, 0x18, 0x55] {
            bench.write(TXD, word);
        }
        bench
    }

    proptest! {
        #[test]
        fn it_goes_on_as_if_nothing_had_been(acts in acts(0u32..0x400)) {
            twins(at_work, &acts);
        }

        #[test]
        fn no_damage_makes_it_panic(
            before in acts(0u32..0x400),
            damage in damage(),
            after in acts(0u32..0x400),
        ) {
            survives(at_work, &before, &damage, &after);
        }
    }
}
