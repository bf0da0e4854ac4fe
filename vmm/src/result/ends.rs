// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What each end of the data path found.

use std::collections::BTreeMap;

use serde::Deserialize;
use staleline_devices::soc::report::SocReport;
use staleline_devices::usb::report::UsbHostReport;
use staleline_protocol::plan::{DataPath, DiskTest, DmaTest, RawDisk, Transfer};
use staleline_protocol::report::Report;

use super::{Data, End};
use crate::scenario::Scenario;
use crate::scenario::guest::GuestSettings;
use staleline_results::Source;

/// Name of the end that the agent reports.
pub const USER: &str = "user";

/// The end that must have checked everything, for the path to be proven.
pub fn required(path: DataPath) -> &'static str {
    match path {
        DataPath::IioCapture => USER,
        DataPath::IioPlayback | DataPath::UsbToIio => DAC,
        DataPath::UsbLoopback | DataPath::IioToUsb => USB_HOST,
    }
}

/// The stream that a path starts with, if it starts at a converter.
fn source(path: DataPath) -> Option<&'static str> {
    match path {
        DataPath::IioCapture | DataPath::IioToUsb => Some(ADC),
        DataPath::IioPlayback | DataPath::UsbLoopback | DataPath::UsbToIio => None,
    }
}

/// Names of the converters' streams.
const ADC: &str = "adc";
const DAC: &str = "dac";

/// Name of the end that is the USB host.
pub const USB_HOST: &str = "usb-host";

/// What the USB host says of itself among what devices add to a report.
pub fn usb_host(extra: &BTreeMap<String, serde_json::Value>) -> Option<UsbHostReport> {
    let host = extra.get(USB_HOST)?.get("host")?;
    UsbHostReport::deserialize(host).ok()
}

/// The part of a device's own report that makes it an end of a data path.
#[derive(Deserialize)]
struct Checked {
    checked: u64,
    #[serde(default)]
    repeated: u64,
    corrupt: u64,
    first_corrupt: Option<u64>,
}

/// Collects the ends of a run.
pub fn of(scenario: &Scenario, reports: &[Report], soc: Option<&SocReport>) -> Data {
    let plan = scenario.plan();
    let guest = &scenario.guest;
    if let Some(test) = &plan.raw_disk {
        return raw(test, reports);
    }
    match (&plan.dmatest, &plan.disk) {
        (Some(test), _) => copies(test, reports),
        (None, Some(test)) => files(test, reports),
        (None, None) if guest.has_program() => outside(guest, reports, soc),
        (None, None) => collect(plan.transfer.as_ref(), reports, soc),
    }
}

/// What a program of the user's was to move, by those outside of the guest; and by the agent, if its output
/// is to be what the ADC brings. What it checks itself, it tells by its exit code.
fn outside(guest: &GuestSettings, reports: &[Report], soc: Option<&SocReport>) -> Data {
    let gadget = guest.gadget.unwrap_or_default();
    let iio = guest.iio.unwrap_or_default();
    let mut found = found(soc);
    let output = match guest.check_output {
        true => iio.rx,
        false => 0,
    };
    found.push(tally(USER, reports, |frame| (frame == 0).then_some(output)).0);
    let planned = [(USER, output), (DAC, iio.tx), (USB_HOST, gadget.checked())];
    let planned = planned.into_iter().filter(|(_, bytes)| *bytes > 0);
    let ends: Vec<End> = planned
        .map(|(name, bytes)| {
            let mut end = named(&found, name);
            end.planned = Some(bytes);
            end.required = true;
            end
        })
        .collect();
    let streams = soc.map_or(&[][..], |s| &s.streams);
    let adc = streams.iter().find(|s| s.name == ADC);
    let host = soc.and_then(|s| usb_host(&s.extra));
    let steps = host.iter().flat_map(|host| &host.steps);
    let sources = [
        (ADC, iio.rx, adc.map_or(0, |s| s.bytes)),
        (USB_HOST, gadget.sent(), steps.map(|step| step.sent).sum()),
    ];
    let sources = sources.into_iter().filter(|(_, planned, _)| *planned > 0);
    Data {
        planned: ends.iter().filter_map(|e| e.planned).sum(),
        bytes: ends
            .iter()
            .map(|e| e.covered().min(e.planned.unwrap_or(0)))
            .sum(),
        corrupt_bytes: ends.iter().map(|e| e.corrupt).max().unwrap_or(0),
        first_corrupt: ends.iter().find_map(|e| e.first_corrupt),
        // Of what the program's output is compared with. What others check is theirs.
        moved: (guest.check_output && ends.len() == 1).then(|| adc.map_or(0, |s| s.bytes)),
        ends,
        sources: sources
            .map(|(name, planned, moved)| Source {
                name: name.into(),
                planned,
                moved,
            })
            .collect(),
    }
}

/// The end of that name; one that nobody has heard of has checked nothing.
fn named(found: &[End], name: &str) -> End {
    let known = found.iter().find(|end| end.name == name);
    known.cloned().unwrap_or_else(|| unchecked(name))
}

/// An end that has checked nothing.
fn unchecked(name: &str) -> End {
    End {
        name: name.into(),
        required: false,
        planned: None,
        checked: 0,
        repeated: 0,
        corrupt: 0,
        first_corrupt: None,
    }
}

/// What user space read from a disk.
fn files(test: &DiskTest, reports: &[Report]) -> Data {
    let bytes = |frame| (frame < test.frames()).then(|| test.bytes_of_frame(frame));
    read_back(test.total_bytes(), tally(USER, reports, bytes).0)
}

/// What user space alone has checked.
fn read_back(planned: u64, mut end: End) -> Data {
    end.required = true;
    Data {
        planned,
        bytes: end.checked,
        corrupt_bytes: end.corrupt,
        first_corrupt: end.first_corrupt,
        moved: None,
        ends: vec![end],
        sources: Vec::new(),
    }
}

/// What user space read back from a disk.
fn raw(test: &RawDisk, reports: &[Report]) -> Data {
    let bytes = |frame| (frame < test.rounds).then(|| test.bytes.into());
    read_back(test.total_bytes(), tally(USER, reports, bytes).0)
}

/// Name of the end that is the kernel's dmatest.
const DMATEST: &str = "dmatest";

/// What dmatest found. Of a copy that it reports to have failed as such, it checks nothing; that is a
/// test that fails, and no reason to ask where the bytes are.
fn copies(test: &DmaTest, reports: &[Report]) -> Data {
    let each = test.checked_bytes();
    let copies = reports
        .iter()
        .filter(|report| matches!(report, Report::Data { frame, .. } if *frame < test.iterations));
    let (mut end, told) = tally(DMATEST, copies, |_| Some(each));
    end.required = true;
    let untold = u64::from(test.iterations).saturating_sub(told);
    Data {
        planned: end.checked + untold * each,
        bytes: end.checked,
        corrupt_bytes: end.corrupt,
        first_corrupt: end.first_corrupt,
        moved: None,
        ends: vec![end],
        sources: Vec::new(),
    }
}

fn collect(transfer: Option<&Transfer>, reports: &[Report], soc: Option<&SocReport>) -> Data {
    let Some(transfer) = transfer else {
        return Data::default();
    };
    let mut ends = vec![user(transfer, reports)];
    ends.extend(found(soc));
    let must = required(transfer.path);
    if !ends.iter().any(|e| e.name == must) {
        ends.push(named(&[], must));
    }
    for end in &mut ends {
        end.required = end.name == must;
    }
    // A source checks nothing and is no end.
    ends.retain(|e| e.required || e.checked > 0 || e.corrupt > 0);
    let required = ends.iter().filter(|e| e.required);
    Data {
        planned: transfer.total_bytes(),
        moved: source(transfer.path).and_then(|name| {
            let streams = soc.map_or(&[][..], |s| &s.streams);
            streams.iter().find(|s| s.name == name).map(|s| s.bytes)
        }),
        bytes: required.map(End::covered).min().unwrap_or(0),
        corrupt_bytes: ends.iter().map(|e| e.corrupt).max().unwrap_or(0),
        first_corrupt: ends.iter().find_map(|e| e.first_corrupt),
        ends,
        sources: Vec::new(),
    }
}

/// What the machine's ends have found: streams at converters, and devices that tell it themselves.
fn found(soc: Option<&SocReport>) -> Vec<End> {
    let streams = soc.map_or(&[][..], |s| &s.streams).iter();
    let mut ends: Vec<End> = streams
        .map(|stream| End {
            name: stream.name.clone(),
            required: false,
            planned: None,
            checked: stream.checked,
            repeated: 0,
            corrupt: stream.corrupt,
            first_corrupt: stream.first_corrupt,
        })
        .collect();
    for (name, value) in soc.iter().flat_map(|s| &s.extra) {
        if let Ok(found) = Checked::deserialize(value) {
            ends.push(End {
                name: name.clone(),
                required: false,
                planned: None,
                checked: found.checked,
                repeated: found.repeated,
                corrupt: found.corrupt,
                first_corrupt: found.first_corrupt,
            });
        }
    }
    ends
}

fn user(transfer: &Transfer, reports: &[Report]) -> End {
    let bytes = |frame| (frame < transfer.frames).then(|| transfer.bytes_of_frame(frame));
    tally(USER, reports, bytes).0
}

/// What was checked by frames of so many `bytes`, if there is such a frame; and how many were. A frame
/// counts once, and only for as many bytes as it has: what is checked twice does not make up for what
/// was not checked.
fn tally<'a>(
    name: &str,
    reports: impl IntoIterator<Item = &'a Report>,
    bytes_of: impl Fn(u32) -> Option<u64>,
) -> (End, u64) {
    let mut end = unchecked(name);
    let mut frames: BTreeMap<u32, u64> = BTreeMap::new();
    for report in reports {
        if let Report::Data {
            frame,
            bytes,
            corrupt,
            first_corrupt,
            ..
        } = report
        {
            end.corrupt = end.corrupt.saturating_add(*corrupt);
            end.first_corrupt = end.first_corrupt.or(*first_corrupt);
            if let Some(whole) = bytes_of(*frame) {
                let seen = frames.entry(*frame).or_default();
                *seen = (*seen).max(*bytes).min(whole);
            }
        }
    }
    end.checked = frames.values().sum();
    (end, frames.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::fake;
    use crate::scenario::outside::{Gadget, Iio};

    fn data(frame: u32, bytes: u64) -> Report {
        Report::Data {
            frame,
            buffer: 0,
            bytes,
            corrupt: 0,
            first_corrupt: None,
        }
    }

    #[test]
    fn frames_count_once() {
        let plan = Scenario::load("iio-capture").unwrap().plan();
        let t = plan.transfer.unwrap();
        let reports: Vec<Report> = (0..6).map(|n| data(n, t.bytes_of_frame(n))).collect();
        assert_eq!(collect(Some(&t), &reports, None).bytes, t.total_bytes());
        // Nobody tells what the converter did.
        assert_eq!(collect(Some(&t), &reports, None).moved, None);
        let twice: Vec<Report> = (0..6).map(|_| data(0, 1 << 40)).collect();
        assert_eq!(collect(Some(&t), &twice, None).bytes, 12040);
        let beyond = [data(99, 12040)];
        assert_eq!(collect(Some(&t), &beyond, None).bytes, 0);
    }

    #[test]
    fn a_copy_that_nobody_told_of_is_missing() {
        let scenario = Scenario::load("gdma-memcpy").unwrap();
        let plan = scenario.plan();
        let each = plan.dmatest.as_ref().unwrap().checked_bytes();
        let all: Vec<Report> = (0..6).map(|n| data(n, each)).collect();
        let whole = of(&scenario, &all, None);
        assert_eq!((whole.planned, whole.bytes), (6 * each, 6 * each));
        let twice: Vec<Report> = (0..6).map(|_| data(0, 1 << 40)).collect();
        let once = of(&scenario, &twice, None);
        assert_eq!((once.planned, once.bytes), (6 * each, each));
        // One of which dmatest says that it timed out: it has looked at no byte.
        let mut late = all;
        late[2] = data(2, 0);
        let rest = of(&scenario, &late, None);
        assert_eq!((rest.planned, rest.bytes), (5 * each, 5 * each));
    }

    #[test]
    fn a_file_that_was_not_read_is_missing() {
        let scenario = Scenario::load("blk-root").unwrap();
        let plan = scenario.plan();
        let test = plan.disk.as_ref().unwrap();
        let mut all: Vec<Report> = (0..test.frames())
            .map(|n| data(n, test.bytes_of_frame(n)))
            .collect();
        let whole = of(&scenario, &all, None);
        assert_eq!(
            (whole.planned, whole.bytes),
            (test.total_bytes(), test.total_bytes())
        );
        all.pop();
        let rest = of(&scenario, &all, None);
        let file = u64::from(test.file_bytes);
        assert_eq!(
            (rest.planned, rest.bytes),
            (whole.planned, whole.bytes - file)
        );
    }

    #[test]
    fn what_the_converter_did_not_move_says_nothing() {
        let t = Scenario::load("iio-capture")
            .unwrap()
            .plan()
            .transfer
            .unwrap();
        let mut reports: Vec<Report> = (0..6).map(|n| data(n, t.bytes_of_frame(n))).collect();
        if let Report::Data { corrupt, .. } = &mut reports[0] {
            *corrupt = 8;
        }
        let corrupt_ends = |moved| {
            let mut soc = fake::soc_report();
            soc.streams[0].bytes = moved;
            let data = collect(Some(&t), &reports, Some(&soc));
            assert_eq!((data.moved, data.corrupt_bytes), (Some(moved), 8));
            data.corrupt_ends().count()
        };
        assert_eq!(corrupt_ends(t.total_bytes()), 1);
        assert_eq!(corrupt_ends(t.total_bytes() - 1), 0);
    }

    #[test]
    fn a_byte_that_is_wrong_at_both_ends_counts_once() {
        let plan = Scenario::load("usb-loopback").unwrap().plan();
        let t = plan.transfer.unwrap();
        let mut reports: Vec<Report> = (0..6).map(|n| data(n, t.bytes_of_frame(n))).collect();
        if let Report::Data { corrupt, .. } = &mut reports[0] {
            *corrupt = 8;
        }
        let mut soc = fake::soc_report();
        soc.extra.insert(
            "usb-host".into(),
            serde_json::json!({"checked": t.total_bytes(), "corrupt": 11, "first_corrupt": 0}),
        );
        let data = collect(Some(&t), &reports, Some(&soc));
        assert_eq!((data.bytes, data.corrupt_bytes), (t.total_bytes(), 11));
        assert_eq!(data.corrupt_ends().count(), 2);
    }

    #[test]
    fn a_missing_end_has_checked_nothing() {
        let plan = Scenario::load("iio-to-usb").unwrap().plan();
        let data = collect(plan.transfer.as_ref(), &[], Some(&fake::soc_report()));
        let host = data.ends.iter().find(|e| e.name == "usb-host").unwrap();
        assert!(host.required && host.checked == 0 && data.bytes == 0);
    }

    #[test]
    fn a_devices_own_report_can_be_an_end() {
        let plan = Scenario::load("iio-to-usb").unwrap().plan();
        let mut soc = fake::soc_report();
        soc.extra.insert(
            "usb-host".into(),
            serde_json::json!({"checked": 61_200, "corrupt": 3, "first_corrupt": 8, "more": 1}),
        );
        let data = collect(plan.transfer.as_ref(), &[], Some(&soc));
        assert_eq!(
            (data.bytes, data.corrupt_bytes, data.first_corrupt),
            (61_200, 3, Some(8))
        );
        // What came twice does not make up for what did not come.
        let host = soc.extra.get_mut("usb-host").unwrap();
        host["repeated"] = 200.into();
        assert_eq!(
            collect(plan.transfer.as_ref(), &[], Some(&soc)).bytes,
            61_000
        );
    }

    #[test]
    fn output_that_is_to_be_the_adcs_counts_as_far_as_it_was_compared() {
        let mut scenario = Scenario::load("exec").unwrap();
        scenario.guest.exec = vec!["prog".into()];
        scenario.guest.iio = Some(Iio { rx: 64, tx: 0 });
        let of = |scenario: &Scenario, bytes| {
            let data = of(scenario, &[data(0, bytes)], Some(&fake::soc_report()));
            (data.planned, data.bytes)
        };
        assert_eq!(of(&scenario, 64), (0, 0), "nobody was to compare it");
        scenario.guest.check_output = true;
        assert_eq!(of(&scenario, 40), (64, 40));
        assert_eq!(of(&scenario, 80), (64, 64));
    }

    #[test]
    fn a_program_is_held_to_what_it_was_to_move() {
        let mut scenario = Scenario::load("exec").unwrap();
        let none = of(&scenario, &[], Some(&fake::soc_report()));
        assert_eq!(
            (none.planned, none.ends.len(), none.sources.len()),
            (0, 0, 0)
        );
        scenario.guest.exec = vec!["prog".into()];
        scenario.guest.gadget = Some(Gadget {
            r#in: 100,
            out: 50,
            loopback: 0,
        });
        scenario.guest.iio = Some(Iio { rx: 7, tx: 40 });
        let mut soc = fake::soc_report();
        soc.streams[0].bytes = 6;
        soc.extra.insert(
            "usb-host".into(),
            serde_json::json!({"checked": 120, "corrupt": 3, "first_corrupt": 8}),
        );
        let data = of(&scenario, &[], Some(&soc));
        let ends: Vec<_> = data
            .ends
            .iter()
            .map(|e| (&*e.name, data.due(e), e.covered()))
            .collect();
        assert_eq!(ends, [("dac", 40, 0), ("usb-host", 100, 120)]);
        // What one end has too much does not make up for another.
        assert_eq!(
            (data.planned, data.bytes, data.corrupt_bytes),
            (140, 100, 3)
        );
        let sources: Vec<_> = data
            .sources
            .iter()
            .map(|s| (&*s.name, s.planned, s.moved))
            .collect();
        assert_eq!(sources, [("adc", 7, 6), ("usb-host", 50, 0)]);
    }
}
