// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the converter drivers do to both cores and to the chips, in their order.

use proptest::prelude::*;
use staleline_protocol::pattern::Pattern;

use super::*;
use crate::bus::Device;
use crate::registers::RegisterFile;
use crate::spi::Part;
use crate::spi::tests::{Xspi, chips};
use crate::stream::{Stream, StreamId, Streams};
use crate::testutil::{Bench, FlatMemory};

const R1_MODE: u32 = 1 << 5;
const FORMAT: u32 = 0b111 << 4;

fn bench<D: Device>(build: impl FnOnce(StreamId) -> D) -> Bench<D> {
    let mut streams = Streams::default();
    let id = streams.add(Stream::new(Pattern::new(1)));
    Bench::new(build(id), FlatMemory::new(0, 0), streams)
}

/// `regmap_update_bits()`.
fn update<D: Device>(b: &mut Bench<D>, offset: u64, mask: u32, value: u32) {
    let old = b.read(offset);
    b.write(offset, old & !mask | value & mask);
}

fn flows<D: Device>(b: &Bench<D>) -> bool {
    b.streams.enabled(StreamId(0))
}

/// `axi_adc_enable()` and `axi_dac_enable()`.
fn enable<D: Device>(b: &mut Bench<D>) {
    update(b, RSTN, RSTN_MMCM_RSTN, RSTN_MMCM_RSTN);
    assert_ne!(b.read(DRP_STATUS) & DRP_LOCKED, 0);
    let both = RSTN_RSTN | RSTN_MMCM_RSTN;
    update(b, RSTN, both, both);
    assert_eq!(b.read(STATUS), STATUS_OK);
}

fn probed_adc() -> Bench<AxiAdc> {
    let mut b = bench(AxiAdc::new);
    b.write(RSTN, 0);
    assert_eq!(b.read(VERSION) >> 16, 10);
    assert_eq!(b.read(DRP_STATUS), 0);
    b
}

fn probed_dac() -> Bench<AxiDac> {
    let mut b = bench(AxiDac::new);
    b.write(RSTN, 0);
    assert_eq!(b.read(VERSION) >> 16, 9);
    assert_ne!(b.read(CONFIG) & dac::DDS_DISABLE, 0);
    update(&mut b, CNTRL_2, R1_MODE, R1_MODE);
    assert_eq!(b.read(CNTRL_2), R1_MODE);
    b
}

#[test]
fn tables_are_well_formed() {
    assert!(RegisterFile::check(adc::TABLE));
    assert!(RegisterFile::check(dac::TABLE));
}

/// `ad9467_calibrate()`; returns how many points are good.
fn calibrate(adc: &mut Bench<AxiAdc>, spi: &mut Xspi, part: Part) -> usize {
    let transfer = |spi: &mut Xspi| spi.an877_write(0, 0xff, 1);
    let (mode, points) = match part {
        Part::Ad9467 => (0x08, 32),
        Part::Ad9649 => (0x00, 8),
    };
    spi.an877_write(0, 0x14, mode);
    transfer(spi);
    spi.an877_write(0, 0x0d, 6);
    transfer(spi);
    update(adc, adc::CHAN_CTRL, 1 << 4, 0);
    update(adc, adc::CHAN_CTRL_3, 0xf << 16, 0);
    update(adc, adc::CHAN_CTRL, adc::CHAN_ENABLE, adc::CHAN_ENABLE);
    let mut good = 0;
    for point in 0..points {
        match part {
            Part::Ad9649 => {
                spi.an877_write(0, 0x16, 0x20);
                spi.an877_write(0, 0x17, 0x80 | point);
                transfer(spi);
            }
            Part::Ad9467 => {
                for lane in 0..8 {
                    adc.write(adc::DELAY + 4 * lane, point.into());
                    assert_eq!(adc.read(adc::DELAY + 4 * lane), u32::from(point));
                }
            }
        }
        adc.write(adc::CHAN_STATUS, 0b110);
        good += usize::from(adc.read(adc::CHAN_STATUS) & 0b110 == 0);
    }
    update(adc, adc::CHAN_CTRL, adc::CHAN_ENABLE, 0);
    update(adc, adc::CHAN_CTRL, FORMAT, 1 << 4 | 1 << 6);
    spi.an877_write(0, 0x0d, 0);
    transfer(spi);
    spi.an877_write(0, 0x14, mode | 1);
    transfer(spi);
    good
}

#[test]
fn either_adc_calibrates_and_then_captures() {
    for (part, id, points) in [(Part::Ad9467, 0x50, 32), (Part::Ad9649, 0x6f, 8)] {
        let mut adc = probed_adc();
        let mut spi = Xspi::probe(chips(part));
        assert_eq!(spi.an877_read(0, 0x01), id);
        enable(&mut adc);
        assert_eq!(calibrate(&mut adc, &mut spi, part), points);
        assert!(!flows(&adc), "nothing flows before a buffer is enabled");
        // ad9467_update_scan_mode()
        update(&mut adc, adc::CHAN_CTRL, adc::CHAN_ENABLE, adc::CHAN_ENABLE);
        assert!(flows(&adc));
        assert_eq!(adc.read(adc::CHAN_CTRL), 0x51);
        // Unbinding the driver.
        adc.write(RSTN, 0);
        assert!(!flows(&adc));
    }
}

#[test]
fn the_dac_takes_samples_while_a_buffer_is_enabled() {
    let mut b = probed_dac();
    // ad9739a_buffer_preenable() in reset, then out of it.
    update(&mut b, dac::CHAN_CNTRL_7, 0xf, dac::DATA_SEL_DMA);
    assert!(!flows(&b));
    enable(&mut b);
    assert!(flows(&b));
    // ad9739a_buffer_postdisable()
    update(&mut b, dac::CHAN_CNTRL_7, 0xf, 0);
    assert!(!flows(&b));
    update(&mut b, dac::CHAN_CNTRL_7, 0xf, dac::DATA_SEL_DMA);
    update(&mut b, RSTN, RSTN_CE_N, RSTN_CE_N);
    assert!(!flows(&b), "no clock");
}

#[test]
fn the_synchronisation_bit_clears_itself() {
    let mut b = probed_dac();
    b.write(CNTRL, 1);
    assert_eq!(b.read(CNTRL), 0);
}

fn ops() -> impl Strategy<Value = Vec<(bool, u64, u32)>> {
    let offset = prop_oneof![
        3 => prop::sample::select(vec![RSTN, CNTRL, adc::CHAN_CTRL, dac::CHAN_CNTRL_7, adc::DELAY]),
        1 => (0u64..0x900).prop_map(|o| o & !3),
        1 => any::<u64>().prop_map(|o| o & !3),
    ];
    let value = prop_oneof![0u32..8, any::<u32>()];
    prop::collection::vec((any::<bool>(), offset, value), 0..100)
}

fn torture<D: Device>(b: &mut Bench<D>, ops: &[(bool, u64, u32)]) {
    for &(write, offset, value) in ops {
        if write {
            b.write(offset, value);
        } else {
            assert_eq!(b.device.peek(offset), b.read(offset));
        }
        let listed = b.device.registers().iter().any(|r| r.offset == offset);
        assert!(listed || b.device.peek(offset) == 0);
        assert!(!flows(b) || running(b.device.peek(RSTN)));
    }
    b.write(RSTN, 0);
    assert!(!flows(b));
    enable(b);
}

proptest! {
    #[test]
    fn no_guest_breaks_a_core(ops in ops()) {
        let mut adc = bench(AxiAdc::new);
        torture(&mut adc, &ops);
        adc.write(adc::CHAN_CTRL, adc::CHAN_ENABLE);
        prop_assert!(flows(&adc));
        let mut dac = bench(AxiDac::new);
        torture(&mut dac, &ops);
        dac.write(dac::CHAN_CNTRL_7, dac::DATA_SEL_DMA);
        prop_assert!(flows(&dac));
    }
}

mod state {
    use proptest::prelude::*;

    use super::super::{AxiAdc, AxiDac};
    use crate::state::twins::{acts, damage, survives, twins};
    use crate::stream::{Stream, Streams};
    use crate::testutil::{Bench, FlatMemory};

    fn bench<D>(build: fn(crate::stream::StreamId) -> D) -> Bench<D>
    where
        D: crate::bus::Device,
    {
        let mut streams = Streams::default();
        let id = streams.add(Stream::new(staleline_protocol::pattern::Pattern::new(1)));
        Bench::new(build(id), FlatMemory::new(0, 0), streams)
    }

    proptest! {
        #[test]
        fn cores_go_on_as_if_nothing_had_been(acts in acts(0u32..0x1000)) {
            twins(|| bench(AxiAdc::new), &acts);
            twins(|| bench(AxiDac::new), &acts);
        }

        #[test]
        fn no_damage_makes_them_panic(
            before in acts(0u32..0x1000),
            damage in damage(),
            after in acts(0u32..0x1000),
        ) {
            survives(|| bench(AxiAdc::new), &before, &damage, &after);
            survives(|| bench(AxiDac::new), &before, &damage, &after);
        }
    }
}
