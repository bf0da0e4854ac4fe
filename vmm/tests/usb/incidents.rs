// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A host that pauses, halts endpoints, resets the bus and unplugs the device in the middle of the
//! data. Everything arrives all the same, and hazards are what they are without it.

use staleline::result::ends;
use staleline_devices::usb::report::{Outcome, UsbHostReport};
use staleline_results::HazardKind;
use staleline_results::{RunResult, Verdict};

use super::support::{Run, clean, kinds_of, side_by_side};
use super::{BASE, CACHES, Case, EXPORTERS, ORDINARY, PATCHED, go, score};

/// Frames of several bursts at either speed, in buffers that are used more than once.
const FRAMES: [&str; 5] = [
    "buffers=4",
    "buffer-bytes=65536",
    "frame-bytes=60008",
    "frames=9",
    "last-frame-bytes=5000",
];

/// Bytes of the stream, of which frames 0 to 2 and the first burst of frame 3 are over.
const AFTER: u64 = 3 * 60_008 + 1000;

/// What the host does, and what it must have reported then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Pause,
    Halt,
    Reset,
    Disconnect,
}

const CUTS: [Cut; 4] = [Cut::Pause, Cut::Halt, Cut::Reset, Cut::Disconnect];

impl Cut {
    fn incident(self, after: u64) -> String {
        let action = match self {
            Cut::Pause => "{pause={ticks=20000}}",
            Cut::Halt => r#""halt""#,
            Cut::Reset => r#""reset""#,
            Cut::Disconnect => "{disconnect={ticks=20000}}",
        };
        format!("{{after-bytes={after},action={action}}}")
    }

    /// The bus was reset, and with it the device enumerated again.
    fn resets(self) -> bool {
        matches!(self, Cut::Reset | Cut::Disconnect)
    }
}

fn settings(cuts: &[(u64, Cut)]) -> String {
    let list: Vec<_> = cuts
        .iter()
        .map(|(after, cut)| cut.incident(*after))
        .collect();
    format!("usb.incidents=[{}]", list.join(","))
}

fn host(result: &RunResult) -> UsbHostReport {
    ends::usb_host(&result.machine.as_ref().unwrap().extra).unwrap()
}

/// The incidents have happened, the guest has lived through them, and every byte has been checked.
#[track_caller]
fn happened(result: &RunResult, cuts: &[Cut]) {
    let of = &result.replay;
    let host = host(result);
    assert!(host.finished && host.errors.is_empty(), "{of}: {host:?}");
    let count = |which: fn(&Cut) -> bool| cuts.iter().filter(|c| which(c)).count();
    assert_eq!(
        host.enumerations.len(),
        1 + count(|c| c.resets()),
        "{of}: {host:?}"
    );
    let [step] = &host.steps[..] else {
        panic!("{of}: {host:?}")
    };
    assert_eq!(step.outcome, Outcome::Complete, "{of}: {host:?}");
    assert_eq!(
        (step.incidents as usize, step.cuts as usize, step.missed),
        (cuts.len(), count(|c| *c != Cut::Pause), 0),
        "{of}"
    );
    assert_eq!(step.stalls as usize, count(|c| *c == Cut::Halt), "{of}");
    assert!(result.guest.tests.iter().all(|t| t.ok), "{of}");
    assert_eq!(result.guest.warnings, [] as [String; 0], "{of}");
    assert_eq!(result.data.bytes, result.data.planned, "{of}");
}

/// What must not depend on what the host does.
fn findings(result: &RunResult) -> (Verdict, Vec<HazardKind>, usize, u64, u64) {
    let lines = result.hazards.iter().map(|h| h.lines).sum();
    let kinds = kinds_of(result);
    let needed = result.maintenance.needed;
    (result.verdict, kinds, result.hazards.len(), lines, needed)
}

/// Runs each kind of incident on a path.
fn each_cut(scenario: &str, kernel: &str, speed: &str) -> Vec<RunResult> {
    CUTS.iter()
        .map(|cut| {
            let settings = [settings(&[(AFTER, *cut)]), format!("usb.speed={speed}")];
            let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
            let settings = [&FRAMES[..], &settings].concat();
            let result = go(scenario, kernel, ORDINARY, &settings).result();
            happened(&result, &[*cut]);
            let step = &host(&result).steps[0];
            // A halt waits for the end of the host's transfer, which is that of a frame.
            assert_eq!(
                step.received_cut + step.sent_cut > 0,
                cut.resets(),
                "{}: {step:?}",
                result.replay
            );
            result
        })
        .collect()
}

/// All incidents at both speeds. Gives what was found, and checks that it is always the same.
fn every_cut(scenario: &str, kernel: &str) -> (Verdict, Vec<HazardKind>) {
    let results = side_by_side(&["super", "high"], |speed| {
        each_cut(scenario, kernel, speed)
    })
    .concat();
    let first = findings(&results[0]);
    for result in &results {
        assert_eq!(findings(result), first, "{}", result.replay);
        if result.verdict == Verdict::Pass {
            clean(result);
        } else {
            assert!(result.hazards.iter().any(|h| h.manifested));
            assert!(result.data.corrupt_bytes > 0);
        }
    }
    let (verdict, kinds, ..) = first;
    (verdict, kinds)
}

#[test]
fn two_at_a_time_unpatched_adc_to_usb_stays_stale_when_cut() {
    let stale = vec![HazardKind::MissingInvalidate];
    assert_eq!(every_cut("iio-to-usb", BASE), (Verdict::Fail, stale));
}

#[test]
fn two_at_a_time_unpatched_usb_to_dac_stays_stale_when_cut() {
    let stale = vec![HazardKind::MissingClean];
    assert_eq!(every_cut("usb-to-iio", BASE), (Verdict::Fail, stale));
}

#[test]
fn two_at_a_time_patched_paths_stay_clean_when_cut() {
    for scenario in ["iio-to-usb", "usb-to-iio"] {
        assert_eq!(every_cut(scenario, PATCHED), (Verdict::Pass, vec![]));
    }
}

#[test]
fn two_at_a_time_plain_functionfs_goes_on_when_cut() {
    assert_eq!(every_cut("usb-loopback", BASE), (Verdict::Pass, vec![]));
}

/// One after the other, on frames that were cut before, with any number in flight.
#[test]
fn two_at_a_time_cuts_upon_cuts() {
    let cuts = [
        Cut::Reset,
        Cut::Reset,
        Cut::Halt,
        Cut::Disconnect,
        Cut::Pause,
        Cut::Reset,
    ];
    let places = [0, 20_000, 20_000, 130_000, 130_000, 200_000];
    let all: Vec<_> = places.into_iter().zip(cuts).collect();
    let incidents = settings(&all);
    let mut runs = vec![(
        "usb-loopback",
        BASE,
        ORDINARY,
        "buffers=1",
        "board.usb.port=hpc",
    )];
    for (n, (exporter, cache)) in EXPORTERS.into_iter().zip(CACHES).enumerate() {
        let case = Case {
            exporter,
            cache,
            ..ORDINARY
        };
        let buffers = ["buffers=1", "buffers=2", "buffers=5"][n];
        // A controller that does not snoop needs maintenance for each transfer, cut or not.
        let ports = ["board.usb.port=hpc", "board.usb.port=hp"];
        runs.push(("iio-to-usb", PATCHED, case, buffers, ports[n % 2]));
        runs.push(("usb-to-iio", PATCHED, case, buffers, ports[(n + 1) % 2]));
    }
    side_by_side(&runs, |(scenario, kernel, case, buffers, port)| {
        let settings = [&FRAMES[1..], &[buffers, port, incidents.as_str()]].concat();
        let result = go(scenario, kernel, *case, &settings).passes();
        happened(&result, &cuts);
        let step = &host(&result).steps[0];
        assert!(step.received_cut + step.sent_cut > 0, "{}", result.replay);
    });
}

/// Two small frames, of which the second is cut. At full speed a burst is 1 KiB, so that they can be
/// cut in their middle.
const SMALL: [&str; 6] = [
    "buffer-bytes=8192",
    "frame-bytes=7944",
    "last-frame-bytes=7944",
    "frames=2",
    "buffers=1",
    "usb.speed=full",
];

/// As exact for a frame that was cut off as for any other.
#[test]
fn two_at_a_time_every_needed_operation_when_cut() {
    // The way to the host has many that are redundant, and in `main.rs` they are all tried.
    for (scenario, redundant_too) in [("iio-to-usb", false), ("usb-to-iio", true)] {
        let cut = settings(&[(9000, Cut::Reset)]);
        score(
            scenario,
            ORDINARY,
            &[&SMALL[..], &[&cut]].concat(),
            redundant_too,
        );
    }
}

/// Operations at the begin and at the end of accesses.
fn brackets(result: &RunResult) -> [usize; 2] {
    ["_begin_access+", "_end_access+"].map(|name| {
        let operations = result.maintenance.operations.iter();
        operations.filter(|o| o.caller.contains(name)).count()
    })
}

/// A controller that does not snoop shows it: a cancelled transfer ends its access like any other,
/// and the transfer that does it again begins a new one.
#[test]
fn two_at_a_time_a_cancelled_transfer_begins_and_ends_an_access() {
    // What is sent needs no maintenance at its end.
    for (scenario, ends) in [("iio-to-usb", 0), ("usb-to-iio", 1)] {
        let [whole, cut] = [Cut::Pause, Cut::Reset].map(|cut| settings(&[(9000, cut)]));
        let results = side_by_side(&[whole, cut], |incident| {
            let settings = [&SMALL[..], &["board.usb.port=hp", incident]].concat();
            go(scenario, PATCHED, ORDINARY, &settings).passes()
        });
        let [whole, cut] = [0, 1].map(|n| brackets(&results[n]));
        // Two frames, each moved by two devices.
        let pieces = whole[0] / 4;
        assert!(
            pieces > 0 && whole[0] == 4 * pieces,
            "{scenario}: {whole:?}"
        );
        let more = [0, 1].map(|n| cut[n] - whole[n]);
        assert_eq!(
            more,
            [pieces, ends * pieces],
            "{scenario}: {whole:?} {cut:?}"
        );
    }
}

#[test]
fn two_at_a_time_a_cut_run_has_one_hash() {
    let cuts = [(AFTER, Cut::Halt), (AFTER, Cut::Disconnect)];
    let incidents = settings(&cuts);
    for scenario in ["iio-to-usb", "usb-to-iio", "usb-loopback"] {
        let hashes = side_by_side(&[(); 2], |()| {
            let settings = [&FRAMES[..], &[&incidents]].concat();
            go(scenario, PATCHED, ORDINARY, &settings).passes().run_hash
        });
        assert!(hashes[0].is_some(), "{scenario}");
        assert_eq!(hashes[0], hashes[1], "{scenario}");
    }
}

/// Bytes that the host waits for and does not get are never a pass, and neither is an incident that
/// does not come to pass.
#[test]
fn an_incident_that_comes_too_late_is_no_pass() {
    // Halts wait for the next transfer, and there is none.
    let late = settings(&[(61_000, Cut::Halt)]);
    let run: Run = go("iio-to-usb", PATCHED, ORDINARY, &[&late]);
    let result = run.ends(3, Verdict::InfraError);
    assert_eq!(result.data.bytes, result.data.planned);
    assert!(
        result.reasons[0].contains("did not happen"),
        "{:?}",
        result.reasons
    );
}
