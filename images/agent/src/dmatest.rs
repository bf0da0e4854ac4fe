// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The kernel's own test of DMA engines (Documentation/driver-api/dmaengine/dmatest.rst): it fills two
//! buffers, has one copied into the other, and checks both. It is set up by its module parameters, and
//! its verdicts are lines of the kernel's log.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use staleline_guest::{Context, Error, Mount, wait_for};
use staleline_protocol::plan::DmaTest;
use staleline_protocol::report::Report;

use crate::kmsg::Log;
use crate::ktap::{Ktap, Outcome, Subtests};

/// What its test is called.
pub const NAME: &str = "gdma-memcpy";
const PHASES: [&str; 4] = ["channel", "copies", "data", "teardown"];
const CHANNELS: &str = "/sys/class/dma";
const DRIVER: &str = "xilinx-zynqmp-dma";
const PARAMETERS: &str = "/sys/module/dmatest/parameters";
/// Guest time for a driver to probe, and for the test to say something new. It waits 3 s for a copy.
const SECONDS: u64 = 10;

/// Carries out the test as the next one of `ktap`.
pub fn run<W: Write>(ktap: &mut Ktap<W>, test: &DmaTest) -> Result<(), Error> {
    let mut phases = ktap.subtests(&PHASES);
    let result = Mount::Dev
        .mount()
        .and_then(|()| carry_out(test, &mut phases));
    phases.finish();
    let outcome = match &result {
        Ok(outcome) => outcome.clone(),
        Err(e) => Outcome::Error(e.to_string()),
    };
    ktap.test(NAME, &outcome);
    result.map(drop)
}

fn carry_out<W: Write>(test: &DmaTest, phases: &mut Subtests<'_, W>) -> Result<Outcome, Error> {
    let mut log = phases.phase(|_| {
        let channels = Path::new(CHANNELS);
        let channel = wait_for(SECONDS, || channel(channels))?.ok_or_else(|| Error::Missing {
            what: format!("channel of {DRIVER} in {CHANNELS}"),
            hint: "is a GDMA in the device tree, and did its driver probe? The kernel log tells",
        })?;
        set("test_buf_size", &test.buffer_bytes.to_string())?;
        set("iterations", &test.iterations.to_string())?;
        set("norandom", if test.random { "N" } else { "Y" })?;
        // A line for each copy that went well, too.
        set("verbose", "Y")?;
        set("channel", &channel)?;
        Log::open()
    })?;
    let mut tally = Tally::new(test);
    phases.phase(|p| {
        set("run", "Y")?;
        while tally.summary.is_none() {
            if let Some(report) = tally.line(&log.next("dmatest", SECONDS)?) {
                p.report(&report);
            }
        }
        Ok(())
    })?;
    let outcome = tally.outcome();
    phases.result(&outcome);
    phases.phase(|_| {
        // To ask gives the channel back, once the test's thread has ended.
        wait_for(SECONDS, || Ok((get("run")? == "N").then_some(())))?.ok_or_else(|| {
            Error::Timeout {
                what: "dmatest to end".into(),
                seconds: SECONDS,
            }
        })
    })?;
    Ok(outcome)
}

/// The name of the channel that our driver registered.
fn channel(channels: &Path) -> Result<Option<String>, Error> {
    let entries = match fs::read_dir(channels) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.file("list", channels)?,
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| {
            let driver = fs::read_link(entry.path().join("device/driver"));
            driver.is_ok_and(|path| path.ends_with(DRIVER))
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    Ok(names.into_iter().next())
}

fn set(parameter: &str, value: &str) -> Result<(), Error> {
    let path = Path::new(PARAMETERS).join(parameter);
    fs::write(&path, value).file("write", path)
}

fn get(parameter: &str) -> Result<String, Error> {
    let path = Path::new(PARAMETERS).join(parameter);
    let text = fs::read_to_string(&path).file("read", path)?;
    Ok(text.trim().to_owned())
}

/// What dmatest has said.
struct Tally {
    buffer_bytes: u64,
    each: u64,
    /// The first wrong byte since the last verdict, within both buffers.
    wrong: Option<u64>,
    /// The first copy that was no success, in dmatest's words.
    complaint: Option<String>,
    /// Copies and failures, when it is done.
    summary: Option<(u32, u32)>,
    iterations: u32,
}

impl Tally {
    fn new(test: &DmaTest) -> Self {
        Tally {
            buffer_bytes: test.buffer_bytes.into(),
            each: test.checked_bytes(),
            wrong: None,
            complaint: None,
            summary: None,
            iterations: test.iterations,
        }
    }

    /// Takes in a message; a report if it was the verdict on a copy.
    fn line(&mut self, line: &str) -> Option<Report> {
        // dmatest: THREAD: TEXT
        let (_, text) = line.strip_prefix("dmatest: ")?.split_once(": ")?;
        if let Some(summary) = text.strip_prefix("summary ") {
            self.summary = self.summary.or(counts(summary));
        } else if let Some(at) = place(text, self.buffer_bytes) {
            self.wrong.get_or_insert(at);
        } else if let Some((number, verdict, value)) = verdict(text) {
            return self.copied(number, verdict, value, text);
        }
        None
    }

    fn copied(&mut self, number: u32, verdict: &str, value: u64, text: &str) -> Option<Report> {
        let frame = number.checked_sub(1)?;
        let wrong = self.wrong.take();
        if verdict != PASSED {
            self.complaint.get_or_insert_with(|| text.to_owned());
        }
        let (bytes, corrupt) = match verdict {
            PASSED => (self.each, 0),
            "data error" => (self.each, value),
            // Nothing was looked at.
            _ => (0, 0),
        };
        Some(Report::Data {
            frame,
            buffer: 0,
            bytes,
            corrupt,
            first_corrupt: wrong
                .filter(|_| corrupt > 0)
                .map(|at| u64::from(frame) * self.each + at),
        })
    }

    fn outcome(&self) -> Outcome {
        match (&self.complaint, self.summary) {
            (None, Some((tests, 0))) if tests == self.iterations => Outcome::Pass,
            (Some(complaint), _) => Outcome::Fail(format!("dmatest: {complaint}")),
            (None, summary) => {
                let (tests, failures) = summary.unwrap_or_default();
                Outcome::Fail(format!(
                    "dmatest: {failures} failures in {tests} of {} copies",
                    self.iterations
                ))
            }
        }
    }
}

const PASSED: &str = "test passed";

/// `result #N: 'VERDICT' with ... (VALUE)`: N, verdict and value.
fn verdict(text: &str) -> Option<(u32, &str, u64)> {
    let (number, rest) = text.strip_prefix("result #")?.split_once(": '")?;
    let (verdict, rest) = rest.split_once('\'')?;
    let value = rest.rsplit_once('(')?.1.strip_suffix(')')?;
    // Of what is no data error, it may be a negative number of an error.
    Some((number.parse().ok()?, verdict, value.parse().unwrap_or(0)))
}

/// `srcbuf[0xAT] ...` or `dstbuf[0xAT] ...`: the place, as if the second followed the first.
fn place(text: &str, buffer_bytes: u64) -> Option<u64> {
    let (rest, base) = match text.strip_prefix("srcbuf[0x") {
        Some(rest) => (rest, 0),
        None => (text.strip_prefix("dstbuf[0x")?, buffer_bytes),
    };
    let at = u64::from_str_radix(rest.split_once(']')?.0, 16).ok()?;
    base.checked_add(at)
}

/// `N tests, M failures ...`.
fn counts(summary: &str) -> Option<(u32, u32)> {
    let (tests, rest) = summary.split_once(" tests, ")?;
    let (failures, _) = rest.split_once(" failures")?;
    Some((tests.parse().ok()?, failures.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kmsg::message;

    fn test() -> DmaTest {
        DmaTest {
            iterations: 3,
            buffer_bytes: 4096,
            random: true,
        }
    }

    fn say(tally: &mut Tally, text: &str) -> Option<Report> {
        let record = format!("6,412,1510432,-;dmatest: dma2chan0-copy0: {text}\n SUBSYSTEM=x\n");
        tally.line(message(&record))
    }

    fn data(frame: u32, bytes: u64, corrupt: u64, first_corrupt: Option<u64>) -> Option<Report> {
        Some(Report::Data {
            frame,
            buffer: 0,
            bytes,
            corrupt,
            first_corrupt,
        })
    }

    const WITH: &str = "with src_off=0x3 dst_off=0x10 len=0xf00";

    #[test]
    fn copies_that_went_well() {
        let mut tally = Tally::new(&test());
        for n in 1..=3 {
            let said = say(
                &mut tally,
                &format!("result #{n}: 'test passed' {WITH} (0)"),
            );
            assert_eq!(said, data(n - 1, 8192, 0, None));
        }
        assert_eq!(tally.summary, None);
        assert!(
            say(
                &mut tally,
                "summary 3 tests, 0 failures 123.45 iops 600 KB/s (0)"
            )
            .is_none()
        );
        assert_eq!(tally.summary, Some((3, 0)));
        assert_eq!(tally.outcome(), Outcome::Pass);
    }

    #[test]
    fn wrong_data_and_other_failures() {
        let mut tally = Tally::new(&test());
        let wrong = "dstbuf[0x40] not copied! Expected e0, got 2f";
        assert_eq!(say(&mut tally, wrong), None);
        say(&mut tally, "dstbuf[0x41] not copied! Expected e0, got 2f");
        let said = say(&mut tally, &format!("result #1: 'data error' {WITH} (2)"));
        assert_eq!(said, data(0, 8192, 2, Some(4096 + 0x40)));
        say(&mut tally, "srcbuf[0x7] overwritten! Expected e0, got 2f");
        let said = say(&mut tally, &format!("result #2: 'data error' {WITH} (1)"));
        assert_eq!(said, data(1, 8192, 1, Some(8192 + 7)));
        let said = say(
            &mut tally,
            &format!("result #3: 'test timed out' {WITH} (-5)"),
        );
        assert_eq!(said, data(2, 0, 0, None));
        say(
            &mut tally,
            "summary 3 tests, 3 failures 1.00 iops 0 KB/s (0)",
        );
        let outcome = tally.outcome();
        assert!(matches!(&outcome, Outcome::Fail(why) if why.contains("result #1: 'data error'")));
    }

    #[test]
    fn fewer_copies_than_planned_are_no_success() {
        let mut tally = Tally::new(&test());
        say(
            &mut tally,
            "summary 0 tests, 0 failures 0.00 iops 0 KB/s (-12)",
        );
        assert!(matches!(tally.outcome(), Outcome::Fail(why) if why.contains("0 of 3 copies")));
    }

    #[test]
    fn what_others_say_is_nothing() {
        let mut tally = Tally::new(&test());
        for line in [
            "",
            "usb 1-1: summary 3 tests, 0 failures",
            "dmatest: Added 1 threads using dma2chan0",
            "dmatest: x: result #: '' (",
            "dmatest: x: result #0: 'test passed' with (0)",
            "dmatest: x: dstbuf[0xfffffffffffffffff]",
        ] {
            assert_eq!(tally.line(line), None, "{line}");
        }
        assert_eq!((tally.summary, tally.wrong), (None, None));
    }

    #[test]
    fn the_channel_is_that_of_the_driver() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(channel(&dir.path().join("none")).unwrap(), None);
        for (name, driver) in [("dma0chan0", "dma-axi-dmac"), ("dma2chan0", DRIVER)] {
            let device = dir.path().join(name).join("device");
            fs::create_dir_all(&device).unwrap();
            let target = format!("/sys/bus/platform/drivers/{driver}");
            std::os::unix::fs::symlink(target, device.join("driver")).unwrap();
        }
        assert_eq!(channel(dir.path()).unwrap().as_deref(), Some("dma2chan0"));
    }
}
