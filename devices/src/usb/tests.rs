// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The host against a device that is nothing but a port.

use std::collections::VecDeque;

use staleline_protocol::pattern::Pattern;

use super::descriptor::tests::{bos, config, device};
use super::host::PlanHost;
use super::plan::{Step, Stream, UsbHostPlan};
use super::report::{Outcome, UsbHostReport};
use super::*;

const SEED: u64 = 9;

/// A device that answers control transfers at once and bulk transfers by script.
struct FakeDevice {
    session: Option<u32>,
    link: Option<Speed>,
    device: Vec<u8>,
    config: Vec<u8>,
    bos: Vec<u8>,
    /// Answer to the control transfer under way; `None`: STALL.
    answer: Option<Vec<u8>>,
    halted: bool,
    /// IN packets to come, and what to answer when there are none.
    packets: VecDeque<InResult>,
    position: u64,
    otherwise: InResult,
    received: Vec<u8>,
    setups: Vec<u8>,
    /// Whether it has strings.
    strings: bool,
    /// Looks at [`UsbPort::busy`] before it is no more.
    busy: std::cell::Cell<u32>,
    resets: u32,
}

impl FakeDevice {
    fn new(speed: Speed) -> Self {
        FakeDevice {
            session: Some(1),
            link: None,
            device: device(speed),
            config: config(speed),
            bos: bos(),
            answer: None,
            halted: false,
            packets: VecDeque::new(),
            position: 0,
            otherwise: InResult::Nak,
            received: Vec::new(),
            setups: Vec::new(),
            strings: true,
            busy: 0.into(),
            resets: 0,
        }
    }

    /// Runs the host until it waits.
    fn run(&mut self, plan: UsbHostPlan) -> UsbHostReport {
        let mut host = PlanHost::new(plan).unwrap();
        for _ in 0..10_000 {
            if host.run(self) == Next::Wait {
                return host.report().clone();
            }
        }
        panic!("the host never waits");
    }
}

impl UsbPort for FakeDevice {
    fn session(&self) -> Option<u32> {
        self.session
    }

    fn busy(&self) -> bool {
        self.busy.replace(self.busy.get().saturating_sub(1)) != 0
    }

    fn reset(&mut self, best: Speed) -> Option<Speed> {
        self.resets += 1;
        self.link = Some(best);
        self.link
    }

    fn disconnect(&mut self) {
        self.link = None;
    }

    fn setup(&mut self, packet: &[u8; 8]) -> SetupResult {
        let [kind, request, index, descriptor, ..] = *packet;
        self.setups.push(request);
        let length = usize::from(u16::from_le_bytes([packet[6], packet[7]]));
        let answer = match (kind, request, descriptor) {
            (0x80, 6, 1) => Some(self.device.clone()),
            (0x80, 6, 2) => Some(self.config.clone()),
            (0x80, 6, 3) if !self.strings => None,
            (0x80, 6, 3) if index == 0 => Some(vec![4, 3, 9, 4]),
            (0x80, 6, 3) => Some(vec![4, 3, b'0' + index, 0]),
            (0x80, 6, 15) if !self.bos.is_empty() => Some(self.bos.clone()),
            (0x80, 8, _) => Some(vec![self.config[5]]),
            (0x80, 0, _) => Some(vec![0, 0]),
            (0x82, 0, _) => Some(vec![u8::from(self.halted), 0]),
            (0x02, 3, _) => {
                self.halted = true;
                Some(vec![])
            }
            (0x02, 1, _) => {
                self.halted = false;
                Some(vec![])
            }
            (0x00, 5 | 9 | 48 | 49, _) => Some(vec![]),
            _ => None,
        };
        self.answer = answer.map(|mut a| {
            a.truncate(length);
            a
        });
        SetupResult::Ack
    }

    fn transfer_in(&mut self, endpoint: u8, buf: &mut [u8]) -> InResult {
        if endpoint == 0 {
            return match &self.answer {
                None => InResult::Stall,
                Some(_) if buf.is_empty() => InResult::Data { len: 0, end: true },
                Some(a) => {
                    buf[..a.len()].copy_from_slice(a);
                    InResult::Data {
                        len: a.len(),
                        end: true,
                    }
                }
            };
        }
        assert_eq!(endpoint, 1);
        if self.halted {
            return InResult::Stall;
        }
        let result = self.packets.pop_front().unwrap_or(self.otherwise);
        if let InResult::Data { len, .. } = result {
            Pattern::new(SEED).fill(self.position, &mut buf[..len]);
            self.position += len as u64;
        }
        result
    }

    fn transfer_out(&mut self, endpoint: u8, data: &[u8]) -> OutResult {
        if endpoint == 0 {
            return OutResult::Data { len: data.len() };
        }
        assert_eq!(endpoint, 2);
        // Takes at most 3 packets at a time.
        let len = data.len().min(3 * 1024);
        self.received.extend_from_slice(&data[..len]);
        OutResult::Data { len }
    }
}

fn plan(steps: Vec<Step>) -> UsbHostPlan {
    UsbHostPlan {
        speed: Speed::Super,
        steps,
    }
}

fn read(bytes: u64) -> Step {
    Step::BulkIn(Stream::new(bytes, 4096, SEED))
}

#[test]
fn an_empty_port_costs_nothing() {
    let mut fake = FakeDevice::new(Speed::Super);
    fake.session = None;
    let report = fake.run(plan(vec![read(1)]));
    assert_eq!(report, UsbHostReport::default());
}

#[test]
fn enumeration_reads_what_there_is() {
    let mut fake = FakeDevice::new(Speed::Super);
    let report = fake.run(plan(vec![]));
    assert_eq!(report.errors, [] as [String; 0]);
    assert!(report.finished);
    let facts = &report.enumerations[0];
    assert_eq!(facts.usb, 0x0320);
    assert_eq!((facts.bulk_in, facts.bulk_out), (Some(0x81), Some(0x02)));
    assert_eq!(facts.strings, [Some("1".into()), None, Some("2".into())]);
    // Address, isochronous delay, exit latencies, configuration.
    let writes = [5, 49, 48, 9];
    let order: Vec<_> = fake.setups.iter().filter(|r| writes.contains(r)).collect();
    assert_eq!(order, [&5, &49, &48, &9]);
}

#[test]
fn exit_latencies_are_for_superspeed_only() {
    for (speed, strings, sent) in [
        (Speed::Super, true, 1),
        (Speed::Super, false, 1),
        (Speed::High, true, 0),
        (Speed::High, false, 0),
        (Speed::Full, false, 0),
    ] {
        let mut fake = FakeDevice::new(speed);
        fake.strings = strings;
        let report = fake.run(UsbHostPlan {
            speed,
            steps: vec![],
        });
        assert!(report.finished, "{:?}", report.errors);
        let errors = report.errors.iter().filter(|e| e.contains("Languages"));
        assert_eq!(errors.count(), usize::from(!strings));
        let set_sel = fake.setups.iter().filter(|r| **r == 48);
        assert_eq!(set_sel.count(), sent, "{speed:?}, strings: {strings}");
    }
}

#[test]
fn a_reset_is_held_for_a_busy_device_but_not_for_ever() {
    for (busy, left) in [(3, 0), (1000, 984)] {
        let mut fake = FakeDevice::new(Speed::Super);
        fake.busy = busy.into();
        let report = fake.run(plan(vec![]));
        assert!(report.finished);
        assert_eq!((fake.resets, fake.busy.get()), (1, left));
    }
}

#[test]
fn devices_of_the_wrong_kind_are_refused_with_the_reason() {
    for (damage, want) in [
        (0, "bMaxPacketSize0"),
        (1, "bNumInterfaces"),
        (2, "BosHead was refused"),
        (3, "bNumDeviceCaps"),
    ] {
        let mut fake = FakeDevice::new(Speed::Super);
        match damage {
            0 => fake.device[7] = 64,
            1 => fake.config[4] = 2,
            2 => fake.bos.clear(),
            _ => fake.bos[4] = 1,
        }
        let report = fake.run(plan(vec![]));
        assert_eq!(report.error_count, 1, "{:?}", report.errors);
        assert!(report.errors[0].contains(want), "{:?}", report.errors);
        assert_eq!(report.finished, damage == 2);
    }
}

#[test]
fn short_packets_end_transfers_and_the_stream_goes_on() {
    let mut fake = FakeDevice::new(Speed::Super);
    let data = |len, end| InResult::Data { len, end };
    fake.packets = [
        data(1024, false),
        data(10, true),
        data(0, true),
        data(4096, false),
        data(870, true),
    ]
    .into();
    let report = fake.run(plan(vec![read(6000)]));
    assert_eq!(report.errors, [] as [String; 0]);
    let step = &report.steps[0];
    assert_eq!((step.received.bytes, step.received.corrupt), (6000, 0));
    assert_eq!(
        (step.transfers, step.short_packets, step.zero_packets),
        (4, 3, 1)
    );
    assert_eq!(step.outcome, Outcome::Complete);
}

#[test]
fn babble_fails_the_step_and_the_next_one_runs() {
    let mut fake = FakeDevice::new(Speed::Super);
    fake.packets = [InResult::Overflow].into();
    fake.otherwise = InResult::Data {
        len: 100,
        end: true,
    };
    let report = fake.run(plan(vec![read(100), read(100)]));
    let outcomes: Vec<_> = report.steps.iter().map(|s| s.outcome.clone()).collect();
    assert_eq!(outcomes, [Outcome::Failed, Outcome::Complete]);
    assert!(report.errors[0].contains("babble"));
}

#[test]
fn stalls_are_cleared_but_not_for_ever() {
    let mut fake = FakeDevice::new(Speed::Super);
    fake.packets = [InResult::Stall].into();
    fake.otherwise = InResult::Data {
        len: 100,
        end: true,
    };
    let report = fake.run(plan(vec![read(100)]));
    assert_eq!(report.errors, [] as [String; 0]);
    assert_eq!(report.steps[0].stalls, 1);

    let mut fake = FakeDevice::new(Speed::Super);
    fake.otherwise = InResult::Stall;
    let report = fake.run(plan(vec![read(100)]));
    assert_eq!(report.steps[0].outcome, Outcome::Failed);
    assert!(report.errors[0].contains("keeps stalling"));
}

#[test]
fn a_halted_endpoint_that_does_not_stall_is_an_error() {
    let mut fake = FakeDevice::new(Speed::Super);
    let report = fake.run(plan(vec![
        Step::Halt { input: true },
        Step::Halt { input: false },
    ]));
    // The OUT endpoint of this device knows no halt.
    assert_eq!(report.errors, ["a halted endpoint did not answer STALL"]);
}

#[test]
fn a_step_without_its_endpoint_fails() {
    let mut fake = FakeDevice::new(Speed::Super);
    // Both endpoints are OUT.
    fake.config[20] = 0x01;
    let report = fake.run(plan(vec![read(1), Step::Halt { input: true }]));
    assert_eq!(
        report.errors,
        [
            "step 0: no bulk IN endpoint",
            "step 1: no bulk endpoint to halt"
        ]
    );
    assert!(report.finished);
}

#[test]
fn what_is_sent_is_the_pattern_whatever_is_taken_at_a_time() {
    let mut fake = FakeDevice::new(Speed::Super);
    let stream = Stream {
        offset: 5,
        sizes: vec![30_000, 1],
        ..Stream::new(70_000, 1, SEED)
    };
    let report = fake.run(plan(vec![Step::BulkOut(stream)]));
    assert_eq!(report.sent(), 70_000);
    assert_eq!(fake.received.len(), 70_000);
    assert_eq!(Pattern::new(SEED).check(5, &fake.received).corrupt, 0);
}

#[test]
fn reports_survive_json() {
    let report = FakeDevice::new(Speed::Super).run(plan(vec![read(1)]));
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(
        serde_json::from_str::<UsbHostReport>(&text).unwrap(),
        report
    );
}

#[test]
fn a_shared_host_can_be_read_while_the_controller_owns_it() {
    let host = Arc::new(Mutex::new(PlanHost::new(plan(vec![])).unwrap()));
    let mut owned: Box<dyn UsbHost> = Box::new(Arc::clone(&host));
    let mut fake = FakeDevice::new(Speed::Super);
    while owned.run(&mut fake) != Next::Wait {}
    assert!(host.lock().unwrap().report().finished);
}
