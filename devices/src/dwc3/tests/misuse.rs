// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a hostile or broken guest can do.

use proptest::prelude::*;

use crate::clock::Ticks;
use crate::dwc3::port::Port;
use crate::dwc3::registers::*;
use crate::dwc3::{Dwc3, Fault};
use crate::stream::Streams;
use crate::testutil::{Bench, FlatMemory};
use crate::usb::host::PlanHost;
use crate::usb::plan::{Step, Stream, UsbHostPlan};
use crate::usb::{InResult, NoHost, OutResult, SetupResult, Speed, UsbHost, UsbPort};

const RAM: u64 = 0x4000_0000;
const RAM_BYTES: usize = 1 << 20;
const EVENTS: u64 = RAM + 0x1000;
const TRBS: u64 = RAM + 0x1_0000;
const DATA: u64 = RAM + 0x4_0000;
const OUT: usize = 2;
const IN: usize = 3;

const HWO: u32 = 1;
const CHN: u32 = 1 << 2;
const CSP: u32 = 1 << 3;
const IOC: u32 = 1 << 11;
const NORMAL: u32 = 1 << 4;
const LINK: u32 = 8 << 4;

type Raw = Bench<Dwc3<NoHost>>;

fn bench<H: UsbHost>(host: H, bytes: usize) -> Bench<Dwc3<H>> {
    let memory = FlatMemory::new(RAM, bytes);
    Bench::new(Dwc3::new(host), memory, Streams::default())
}

/// A connected controller with bulk endpoints 2 (OUT) and 3 (IN) configured.
fn raw_with(bytes: usize) -> Raw {
    let mut b = bench(NoHost, bytes);
    b.write(GEVNTADRLO, EVENTS as u32);
    b.write(GEVNTSIZ, 256);
    b.write(DEVTEN, 0xfff);
    for n in [OUT, IN] {
        command(&mut b, n, 1, [2 << 1 | 1024 << 3, 1 << 9]);
        command(&mut b, n, 2, [1, 0]);
    }
    b.write(DALEPENA, 0b1111);
    b.write(DCTL, DCTL_RUN_STOP);
    assert_eq!(
        with_port(&mut b, |p| p.reset(Speed::Super)),
        Some(Speed::Super)
    );
    drain(&mut b);
    b
}

fn raw() -> Raw {
    raw_with(RAM_BYTES)
}

fn with_port<H: UsbHost, R>(b: &mut Bench<Dwc3<H>>, f: impl FnOnce(&mut dyn UsbPort) -> R) -> R {
    b.with(|device, ctx| f(&mut Port::new(&mut device.core, &mut ctx.dma, 0)))
}

/// Takes all events.
fn drain(b: &mut Raw) -> Vec<u32> {
    let count = b.read(GEVNTCOUNT);
    b.write(GEVNTCOUNT, count);
    let events = (0..count / 4)
        .map(|n| b.memory.u32(EVENTS + u64::from(4 * n)))
        .collect();
    // Rewinds the ring, so that the next events come at its start again.
    b.write(GEVNTADRLO, EVENTS as u32);
    events
}

/// Issues a command and returns its status.
fn command<H: UsbHost>(b: &mut Bench<Dwc3<H>>, n: usize, command: u32, par: [u32; 2]) -> u32 {
    b.write(dep(n) + PAR0, par[0]);
    b.write(dep(n) + PAR1, par[1]);
    b.write(dep(n) + CMD, command | CMD_ACT);
    b.read(dep(n) + CMD) >> 12 & 0xf
}

fn start(b: &mut Raw, n: usize, trb: u64) -> u32 {
    command(b, n, 6, [(trb >> 32) as u32, trb as u32])
}

fn trb(b: &mut Raw, at: u64, buffer: u64, size: u32, control: u32) {
    b.memory.put(at, &buffer.to_le_bytes());
    b.memory.put(at + 8, &size.to_le_bytes());
    b.memory.put(at + 12, &control.to_le_bytes());
}

fn input(b: &mut Raw, len: usize) -> InResult {
    with_port(b, |p| p.transfer_in(1, &mut vec![0; len]))
}

fn output(b: &mut Raw, len: usize) -> OutResult {
    with_port(b, |p| p.transfer_out(1, &vec![0xa5; len]))
}

/// One fault, shown as the architecture has it.
fn faulted(b: &mut Raw, n: usize) -> Fault {
    assert_eq!(b.device.faults().total(), 1);
    let fault = b.device.faults().first()[0];
    assert_eq!(b.read(GSTS), GSTS_BUS_ERR_ADDR_VLD);
    let shown = u64::from(b.read(GBUSERRADDR1)) << 32 | u64::from(b.read(GBUSERRADDR0));
    assert_eq!(shown, fault.pa());
    b.write(GSTS, u32::MAX);
    assert_eq!(b.read(GSTS), 0);
    // XferInProgress with the bus-error status, and nothing else.
    assert_eq!(drain(b), [(n as u32) << 1 | 2 << 6 | 1 << 12]);
    assert!(b.memory.open.is_empty());
    // The transfer is dead until the driver ends it; then the endpoint works again.
    assert_eq!(start(b, n, TRBS + 0x8000), 1);
    assert_eq!(command(b, n, 8, [0; 2]), 0);
    trb(b, TRBS + 0x8000, DATA, 1024, NORMAL | HWO | IOC);
    assert_eq!(start(b, n, TRBS + 0x8000), 0);
    if n == IN {
        assert_eq!(
            input(b, 1024),
            InResult::Data {
                len: 1024,
                end: false
            }
        );
    } else {
        assert_eq!(output(b, 1024), OutResult::Data { len: 1024 });
    }
    fault
}

#[test]
fn a_ring_without_hwo_is_not_ready_until_the_doorbell() {
    let mut b = raw();
    trb(&mut b, TRBS, DATA, 100, NORMAL | IOC);
    assert_eq!(start(&mut b, IN, TRBS), 0);
    assert_eq!(input(&mut b, 1024), InResult::Nak);
    trb(&mut b, TRBS, DATA, 100, NORMAL | IOC | HWO);
    // Nobody has told the controller.
    assert_eq!(input(&mut b, 1024), InResult::Nak);
    b.write(dep(IN) + CMD, 7);
    assert_eq!(
        input(&mut b, 1024),
        InResult::Data {
            len: 100,
            end: true
        }
    );
    assert_eq!(b.memory.u32(TRBS + 12) & HWO, 0);
    assert_eq!(drain(&mut b), [0x4086]);
}

#[test]
fn a_ring_smaller_than_the_cache_is_used_once_per_round() {
    let mut b = raw();
    for k in 0..3 {
        trb(&mut b, TRBS + 16 * k, DATA, 1000, NORMAL | HWO | IOC);
    }
    trb(&mut b, TRBS + 48, TRBS, 0, LINK | HWO);
    assert_eq!(start(&mut b, IN, TRBS), 0);
    for _ in 0..3 {
        let all = InResult::Data {
            len: 1000,
            end: true,
        };
        assert_eq!(input(&mut b, 4096), all);
    }
    assert_eq!(input(&mut b, 4096), InResult::Nak);
    assert_eq!(drain(&mut b).len(), 3);
}

#[test]
fn dropped_trbs_are_not_taken_again_before_the_doorbell() {
    const RING: u64 = 24;
    let mut b = raw();
    let at = |k: u64| TRBS + 16 * k;
    let fill = |b: &mut Raw, k: u64| {
        let control = if k < 3 { CHN | CSP } else { CSP | IOC };
        trb(b, at(k), DATA + 1024 * k, 1024, NORMAL | HWO | control);
    };
    (0..RING).for_each(|k| fill(&mut b, k));
    trb(&mut b, at(RING), TRBS, 0, LINK | HWO);
    assert_eq!(start(&mut b, OUT, TRBS), 0);
    // A short packet ends the chain of four in its first TRB.
    assert_eq!(output(&mut b, 100), OutResult::Data { len: 100 });
    assert_eq!(
        [0, 1, 2, 3].map(|k| b.memory.u32(at(k) + 12) & HWO),
        [0, 1, 1, 1]
    );
    // The driver is at work on it: the first is ready again, the others are as they were.
    fill(&mut b, 0);
    for _ in 4..RING {
        assert_eq!(output(&mut b, 1024), OutResult::Data { len: 1024 });
    }
    assert_eq!(output(&mut b, 1024), OutResult::Data { len: 1024 });
    assert_eq!(output(&mut b, 1024), OutResult::Nak);
    let taken = |b: &Raw, k: u64| {
        let of = b.memory.transfers.iter();
        of.filter(|t| t.descriptor == at(k)).count()
    };
    assert_eq!([0, 1, 4].map(|k| taken(&b, k)), [2, 1, 1]);
    // It has got to the end, and says so.
    (1..RING).for_each(|k| fill(&mut b, k));
    b.write(dep(OUT) + CMD, 7);
    assert_eq!(output(&mut b, 1024), OutResult::Data { len: 1024 });
    assert_eq!([0, 1, 4].map(|k| taken(&b, k)), [2, 2, 2]);
    assert_eq!(b.device.faults().total(), 0);
}

#[test]
fn only_an_endpoint_set_up_anew_loses_its_halt() {
    let mut b = raw();
    trb(&mut b, TRBS, DATA, 1024, NORMAL | HWO | IOC);
    assert_eq!(start(&mut b, IN, TRBS), 0);
    assert_eq!(command(&mut b, IN, 4, [0; 2]), 0);
    for (action, stalled) in [(2, true), (1, true), (0, false)] {
        let parameters = [action << 30 | 2 << 1 | 1024 << 3, 1 << 9];
        assert_eq!(command(&mut b, IN, 1, parameters), 0);
        let result = input(&mut b, 1024);
        assert_eq!(result == InResult::Stall, stalled, "action {action}");
    }
}

#[test]
fn link_loops_are_refused() {
    let mut b = raw();
    trb(&mut b, TRBS, TRBS, 0, LINK | HWO);
    assert_eq!(start(&mut b, IN, TRBS), 0);
    let want = Fault::LinkLoop {
        endpoint: 3,
        pa: TRBS,
    };
    assert_eq!(faulted(&mut b, IN), want);

    let mut b = raw();
    trb(&mut b, TRBS, TRBS + 16, 0, LINK | HWO);
    trb(&mut b, TRBS + 16, TRBS, 0, LINK | HWO);
    assert_eq!(start(&mut b, OUT, TRBS), 0);
    let want = Fault::LinkLoop {
        endpoint: 2,
        pa: TRBS,
    };
    assert_eq!(faulted(&mut b, OUT), want);
}

#[test]
fn chains_without_end_are_refused() {
    for n in [IN, OUT] {
        let mut b = raw();
        for k in 0..0x800 {
            trb(&mut b, TRBS + 16 * k, DATA, 0, NORMAL | HWO | CHN | CSP);
        }
        assert_eq!(start(&mut b, n, TRBS), 0);
        if n == IN {
            assert_eq!(input(&mut b, 1024), InResult::Nak);
        } else {
            output(&mut b, 1024);
        }
        assert!(matches!(faulted(&mut b, n), Fault::EndlessChain { .. }));
    }
    // The same behind a short packet.
    let mut b = raw();
    for k in 0..0x800 {
        trb(&mut b, TRBS + 16 * k, DATA, 64, NORMAL | HWO | CHN | CSP);
    }
    assert_eq!(start(&mut b, OUT, TRBS), 0);
    output(&mut b, 10);
    assert!(matches!(faulted(&mut b, OUT), Fault::EndlessChain { .. }));
}

#[test]
fn descriptors_and_buffers_outside_ram_are_bus_errors() {
    for pa in [0, RAM - 16, RAM + RAM_BYTES as u64, u64::MAX - 15] {
        let mut b = raw();
        assert_eq!(start(&mut b, IN, pa), 0);
        assert!(matches!(faulted(&mut b, IN), Fault::Bus { .. }), "{pa:#x}");
    }
    for (n, pa) in [(IN, 0), (OUT, RAM + RAM_BYTES as u64 - 512)] {
        let mut b = raw();
        trb(&mut b, TRBS, pa, 1024, NORMAL | HWO | IOC);
        assert_eq!(start(&mut b, n, TRBS), 0);
        if n == IN {
            assert_eq!(input(&mut b, 1024), InResult::Nak);
        } else {
            assert_eq!(output(&mut b, 1024), OutResult::Nak);
        }
        let fault = faulted(&mut b, n);
        assert!(matches!(fault, Fault::Bus { .. }), "{fault}");
        assert_eq!(fault.pa(), pa);
    }
    // A buffer that wraps round the end of the address space.
    let mut b = raw();
    trb(&mut b, TRBS, u64::MAX - 10, 100, NORMAL | HWO);
    assert_eq!(start(&mut b, IN, TRBS), 0);
    assert!(matches!(faulted(&mut b, IN), Fault::BadTrb { .. }));
}

#[test]
fn unsuitable_trbs_are_refused() {
    for kind in [0, 2, 3, 4, 5, 6, 7, 9, 63] {
        let mut b = raw();
        trb(&mut b, TRBS, DATA, 1024, kind << 4 | HWO);
        assert_eq!(start(&mut b, IN, TRBS), 0);
        assert!(
            matches!(faulted(&mut b, IN), Fault::BadTrb { .. }),
            "{kind}"
        );
    }
    let mut b = raw();
    trb(&mut b, TRBS, DATA, 100, NORMAL | HWO | CSP | IOC);
    assert_eq!(start(&mut b, OUT, TRBS), 0);
    output(&mut b, 1024);
    assert!(matches!(faulted(&mut b, OUT), Fault::OutOverflow { .. }));
}

#[test]
fn sixteen_mib_move_in_bursts() {
    const LEN: usize = (16 << 20) - 1;
    let mut b = raw_with(17 << 20);
    trb(&mut b, TRBS, DATA, LEN as u32, NORMAL | HWO | IOC);
    assert_eq!(start(&mut b, IN, TRBS), 0);
    let (mut moved, mut calls) = (0, 0);
    while let InResult::Data { len, end } = input(&mut b, LEN - moved) {
        assert!(len <= 16 << 10);
        moved += len;
        calls += 1;
        if end {
            break;
        }
    }
    assert_eq!((moved, calls), (LEN, 1024));
    assert_eq!(drain(&mut b), [0x4086]);
}

#[test]
fn commands_that_make_no_sense_are_refused() {
    let mut b = raw();
    // Not configured; no resource; isochronous; packet size 0.
    assert_eq!(start(&mut b, 5, TRBS), 1);
    assert_eq!(command(&mut b, 5, 1, [2 << 1 | 512 << 3, 0]), 0);
    assert_eq!(start(&mut b, 5, TRBS), 1);
    assert_eq!(command(&mut b, 5, 2, [1, 0]), 0);
    assert_eq!(start(&mut b, 5, TRBS), 0);
    assert_eq!(command(&mut b, 7, 1, [1 << 1 | 512 << 3, 0]), 0);
    assert_eq!(command(&mut b, 7, 2, [1, 0]), 0);
    assert_eq!(start(&mut b, 7, TRBS), 1);
    assert_eq!(command(&mut b, 6, 1, [2 << 1, 0]), 1);
    // Started twice; updated before it is started; unknown.
    assert_eq!(start(&mut b, 5, TRBS), 1);
    assert_eq!(command(&mut b, IN, 7, [0; 2]), 1);
    assert_eq!(command(&mut b, IN, 15, [0; 2]), 1);
    // Resources are gone after DEPSTARTCFG.
    assert_eq!(command(&mut b, 0, 9 | 2 << 16, [0; 2]), 0);
    assert_eq!(start(&mut b, IN, TRBS), 1);
    // Not enabled: no answer.
    b.write(DALEPENA, 0);
    assert_eq!(input(&mut b, 64), InResult::Nak);
    assert_eq!(output(&mut b, 64), OutResult::Nak);
    assert_eq!(b.device.faults().total(), 0);
}

#[test]
fn no_events_without_a_buffer() {
    let mut b = raw();
    b.write(GEVNTADRHI, 0xffff);
    assert_eq!(
        with_port(&mut b, |p| p.reset(Speed::High)),
        Some(Speed::High)
    );
    assert_eq!(b.read(GEVNTCOUNT), 0);
    assert_eq!(b.read(DSTS) & 7, 0);
    assert!(matches!(
        b.device.faults().first()[0],
        Fault::EventBuffer { .. }
    ));
    b.write(GEVNTSIZ, 0);
    assert!(with_port(&mut b, |p| p.reset(Speed::High)).is_some());
    assert_eq!(b.device.faults().total(), 2);
}

#[test]
fn a_guest_that_never_answers_leaves_device_time_alone() {
    let plan = UsbHostPlan {
        speed: Speed::Super,
        steps: vec![],
    };
    let mut b = bench(PlanHost::new(plan).unwrap(), RAM_BYTES);
    b.write(DCTL, DCTL_RUN_STOP);
    let mut events = 0;
    while b.step() {
        events += 1;
        assert!(events < 10);
    }
    // Doorbells share one event.
    for _ in 0..1000 {
        b.write(dep(IN) + CMD, 7);
    }
    assert!(b.step());
    assert_eq!(b.queue.next_due(), Ticks::MAX);
}

/// A write to any place, or to one of the registers; small values and addresses are likely.
fn any_write() -> impl Strategy<Value = (u64, u32)> {
    let offset = prop_oneof![
        (0..WINDOW / 4).prop_map(|word| word * 4),
        prop::sample::select(TABLE.iter().map(|r| r.offset).collect::<Vec<_>>()),
        (0..ENDPOINTS as u64 * 4).prop_map(|word| dep(0) + 4 * word),
    ];
    let value = prop_oneof![
        any::<u32>(),
        (0u32..16, 0u32..4).prop_map(|(cmd, flags)| cmd | CMD_ACT | flags << 8),
        (0u32..0x1_0000).prop_map(|low| RAM as u32 + 16 * low),
        (0u32..32).prop_map(|bit| 1 << bit),
        (0u32..4, 1u32..0x7ff).prop_map(|(kind, packet)| kind << 1 | packet << 3),
        Just(0),
    ];
    (offset, value)
}

/// Memory full of TRBs that point into memory, more or less.
fn any_trbs() -> impl Strategy<Value = Vec<(u32, u32, u32)>> {
    let kind = prop_oneof![4 => Just(1u32), 1 => Just(8u32), 1 => 0u32..64];
    let trb = (
        0u32..0x11_0000,
        prop_oneof![0u32..3000, any::<u32>()],
        kind,
        any::<u32>(),
    )
        .prop_map(|(buffer, size, kind, flags)| (buffer, size, flags & 0xc0f | kind << 4 | HWO));
    prop::collection::vec(trb, 64..512)
}

fn scatter<H>(b: &mut Bench<Dwc3<H>>, trbs: &[(u32, u32, u32)]) {
    for (at, &(buffer, size, control)) in (TRBS..).step_by(16).zip(trbs) {
        b.memory.put(at, &(RAM + u64::from(buffer)).to_le_bytes());
        b.memory.put(at + 8, &size.to_le_bytes());
        b.memory.put(at + 12, &control.to_le_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_register_writes_are_survived(
        writes in prop::collection::vec(any_write(), 1..400),
        trbs in any_trbs(),
    ) {
        let plan = UsbHostPlan {
            speed: Speed::Super,
            steps: vec![Step::Loopback(Stream::new(5000, 1000, 1))],
        };
        let mut b = bench(PlanHost::new(plan).unwrap(), RAM_BYTES);
        scatter(&mut b, &trbs);
        for chunk in writes.chunks(8) {
            for &(offset, value) in chunk {
                b.write(offset, value);
                b.read(offset);
            }
            let mut events = 0;
            while b.step() {
                events += 1;
                prop_assert!(events < 5000, "device time never stops");
            }
        }
        b.write(DCTL, DCTL_CSFTRST);
        prop_assert!(b.memory.open.is_empty());
    }

    #[test]
    fn any_trbs_are_survived(
        trbs in any_trbs(),
        uses in prop::collection::vec((any::<bool>(), 0usize..40_000), 1..60),
    ) {
        let mut b = raw();
        scatter(&mut b, &trbs);
        for n in [IN, OUT] {
            start(&mut b, n, TRBS + 16 * n as u64);
        }
        for (is_in, len) in uses {
            if is_in {
                input(&mut b, len);
            } else {
                output(&mut b, len);
            }
            b.write(dep(IN) + CMD, 7);
            b.write(dep(OUT) + CMD, 7);
            prop_assert!(b.memory.open.len() <= 2 * 16);
        }
        for n in [IN, OUT] {
            prop_assert_eq!(command(&mut b, n, 8, [0; 2]), 0);
        }
        prop_assert!(b.memory.open.is_empty());
    }

    #[test]
    fn any_control_traffic_is_survived(
        trbs in any_trbs(),
        uses in prop::collection::vec((0u8..6, 0usize..2000, any::<[u8; 8]>()), 1..60),
    ) {
        let mut b = raw();
        scatter(&mut b, &trbs);
        for n in 0..2 {
            command(&mut b, n, 1, [512 << 3, 1 << 8 | 1 << 10]);
            command(&mut b, n, 2, [1, 0]);
        }
        for (what, len, packet) in uses {
            let at = TRBS + 16 * (len as u64 % 64);
            match what {
                0 => { start(&mut b, 0, at); }
                1 => { start(&mut b, 1, at); }
                2 => {
                    let result = with_port(&mut b, |p| p.setup(&packet));
                    prop_assert_ne!(result, SetupResult::Disconnected);
                }
                3 => { with_port(&mut b, |p| p.transfer_in(0, &mut vec![0; len])); }
                4 => { with_port(&mut b, |p| p.transfer_out(0, &vec![0; len])); }
                _ => { command(&mut b, len % 2, 4 + u32::from(packet[0] % 5), [0; 2]); }
            }
            drain(&mut b);
        }
        b.write(DCTL, 0);
        prop_assert!(b.memory.open.is_empty());
    }
}
