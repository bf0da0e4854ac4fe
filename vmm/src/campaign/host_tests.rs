// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Faults of the USB host: which there are, and what comes of them.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use staleline_devices::faults::{Fault, HostFault};
use staleline_results::{CacheOp, HazardKind, RunResult};

use super::judge::{Golden, Outcome, judge};
use super::points::Census;
use crate::engine::EngineKind;
use crate::run::fake::{self, FakeBackend};
use crate::spec::RunSpec;

fn spec(scenario: &str, set: &[&str]) -> RunSpec {
    let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
    RunSpec::resolve(scenario, "base", EngineKind::default(), &set).unwrap()
}

/// A run whose host has begun three transfers.
fn points(scenario: &str, set: &[&str]) -> Vec<String> {
    let mut report = fake::soc_report();
    report.domain.census = Some(staleline_devices::coherency::census::Census {
        neighbours: Vec::new(),
        barriers: Vec::new(),
        interrupts: Vec::new(),
        accesses: Vec::new(),
        full: false,
    });
    let mut host = staleline_devices::usb::report::UsbHostReport::default();
    host.steps.push(staleline_devices::usb::report::StepReport {
        begun: 3,
        ..Default::default()
    });
    let host = serde_json::json!({ "host": host });
    report.extra.insert("usb-host".into(), host);
    let result = FakeBackend::good().run(&spec("iio-capture", &[]));
    let spec = spec(scenario, set);
    let points = Census::new(&result, &report).points(&spec.scenario, 7, 1);
    let host = points.iter().filter(|point| point.fault.is_hosts());
    host.map(|point| point.fault.to_string()).collect()
}

#[test]
fn a_census_knows_how_often_a_host_can_do_something() {
    let all = points("iio-to-usb", &[]);
    assert_eq!(all.len(), 3 * 4);
    for one in [
        "host@1:halt",
        "host@2:reset",
        "host@3:disconnect+7",
        "host@3:babble",
    ] {
        assert!(all.contains(&one.to_owned()), "{all:?}");
    }
    // What is sent to the device cannot be too much.
    assert_eq!(points("usb-to-iio", &[]).len(), 3 * 3);
    // Where a scenario cannot do with transfers that are broken off.
    assert_eq!(
        points("iio-to-usb", &["board.cpus=2"]),
        Vec::<String>::new()
    );
    assert_eq!(
        points("iio-to-usb", &["order=[1, 0]"]),
        Vec::<String>::new()
    );
}

fn outcome(result: &RunResult) -> Outcome {
    let golden = Golden::new(&fake::soc_report());
    judge(&[Fault::Host(2, HostFault::Reset)], &golden, result).outcome
}

#[test]
fn software_has_to_live_through_what_the_host_does() {
    let spec = spec("iio-capture", &[]);
    let good = FakeBackend::good().run(&spec);
    assert_eq!(outcome(&good), Outcome::NoEffect);
    let corrupt =
        FakeBackend::new(|_, _, text| *text = text.replace("\"corrupt\":0", "\"corrupt\":64"));
    assert_eq!(outcome(&corrupt.run(&spec)), Outcome::Miss);
    let found = FakeBackend::new(|_, execution, _| {
        if let Some(report) = &mut execution.report {
            report.domain.hazards.push(fake::stale_read(2, true));
        }
    });
    let mut found = found.run(&spec);
    assert_eq!(outcome(&found), Outcome::DetectedLatent);
    // It calls an invalidate missing that it says itself was done in time.
    let hazard = found.hazards.first_mut().unwrap();
    assert_eq!(hazard.kind, HazardKind::MissingInvalidate);
    let last = hazard.last_maintenance.as_mut().unwrap();
    (last.op, last.at) = (CacheOp::CleanInvalidate, hazard.written_at + 1);
    assert_eq!(outcome(&found), Outcome::Misdiagnosed);
    // Before the data was written, it is of no use.
    let hazard = found.hazards.first_mut().unwrap();
    let last = hazard.last_maintenance.as_mut().unwrap();
    last.at = hazard.written_at - 1;
    assert_eq!(outcome(&found), Outcome::DetectedLatent);
}
