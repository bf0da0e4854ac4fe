// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a program of the user's is to move between the guest and what is outside of it: the USB host
//! behind a gadget, and the converters.

use serde::{Deserialize, Serialize};
use staleline_devices::usb::plan::{Step, Stream};

/// Bytes that one run moves, at most.
pub const TOTAL_BYTES: u64 = 1 << 30;

/// Bytes of the host's transfers unless `usb.sizes` says otherwise: whole packets at any speed.
const TRANSFER: u32 = 16384;

/// The `guest.gadget` table: a USB gadget is there when the program starts, with a bulk endpoint each way,
/// and the host moves so many bytes. It does one after the other, in this order, each from the start of the
/// run's pattern.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Gadget {
    /// Bytes that the host sends.
    pub out: u64,
    /// Bytes that the host sends and reads back, a transfer at a time, and checks.
    pub loopback: u64,
    /// Bytes that the host reads and checks.
    pub r#in: u64,
}

impl Gadget {
    /// Bytes that the host has to check.
    pub fn checked(&self) -> u64 {
        self.r#in.saturating_add(self.loopback)
    }

    /// Bytes that it has to send.
    pub fn sent(&self) -> u64 {
        self.out.saturating_add(self.loopback)
    }

    /// What the host does, in transfers of these sizes.
    pub(super) fn steps(&self, sizes: &[u32], seed: u64) -> Vec<Step> {
        let stream = |bytes| Stream {
            sizes: match sizes {
                [] => vec![TRANSFER],
                sizes => sizes.to_vec(),
            },
            ..Stream::new(bytes, TRANSFER, seed)
        };
        type Make = fn(Stream) -> Step;
        let steps: [(u64, Make); 3] = [
            (self.out, Step::BulkOut),
            (self.loopback, Step::Loopback),
            (self.r#in, Step::BulkIn),
        ];
        let steps = steps.into_iter().filter(|(bytes, _)| *bytes > 0);
        steps.map(|(bytes, step)| step(stream(bytes))).collect()
    }
}

impl std::fmt::Display for Gadget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = [
            ("in", self.r#in),
            ("out", self.out),
            ("loopback", self.loopback),
        ];
        f.write_str(&words(&all))
    }
}

/// The `guest.iio` table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Iio {
    /// Bytes that the ADC has to put into memory. It is for the program to check them.
    pub rx: u64,
    /// Bytes that the DAC has to get, and checks.
    pub tx: u64,
}

impl std::fmt::Display for Iio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&words(&[("rx", self.rx), ("tx", self.tx)]))
    }
}

/// As [`table`] reads it.
fn words(all: &[(&str, u64)]) -> String {
    let set = all.iter().filter(|(_, bytes)| *bytes > 0);
    let words: Vec<String> = set.map(|(key, bytes)| format!("{key}={bytes}")).collect();
    words.join(",")
}

/// What is wrong with them, for people.
pub(super) fn check(gadget: Option<&Gadget>, iio: Option<&Iio>) -> Result<(), String> {
    let tables = [
        (
            "gadget",
            "in, out or loopback",
            gadget.map(|g| vec![g.r#in, g.out, g.loopback]),
        ),
        ("iio", "rx or tx", iio.map(|i| vec![i.rx, i.tx])),
    ];
    for (name, keys, bytes) in tables {
        let Some(bytes) = bytes else {
            continue;
        };
        let sum = bytes.iter().fold(0, |sum: u64, n| sum.saturating_add(*n));
        if sum == 0 {
            return Err(format!(
                "guest.{name} moves nothing: set {keys} to a number of bytes"
            ));
        }
        if sum > TOTAL_BYTES {
            return Err(format!(
                "guest.{name} moves {sum} bytes, more than {TOTAL_BYTES}"
            ));
        }
    }
    Ok(())
}

/// What is typed on the command line, `KEY=VALUE,...`, as a TOML table; what is typed wrong is found when
/// that is read. The value of `apart`, if it is one of the keys, comes beside.
///
/// # Errors
/// What is wrong, for people.
pub fn table(text: &str, apart: Option<&str>) -> Result<(String, Option<String>), String> {
    let (mut entries, mut beside) = (Vec::new(), None);
    for word in text.split(',') {
        let (key, value) = word
            .split_once('=')
            .ok_or_else(|| format!("`{word}` must be KEY=VALUE"))?;
        if Some(key) == apart {
            beside = Some(value.to_owned());
            continue;
        }
        let bytes: u64 = value
            .parse()
            .map_err(|_| format!("{key}={value} must be a number of bytes"))?;
        entries.push(format!("{key}={bytes}"));
    }
    Ok((format!("{{{}}}", entries.join(",")), beside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_does_one_after_the_other() {
        let gadget = Gadget {
            r#in: 5,
            out: 40_000,
            loopback: 0,
        };
        let steps = gadget.steps(&[], 7);
        let [Step::BulkOut(out), Step::BulkIn(r#in)] = &steps[..] else {
            panic!("{steps:?}");
        };
        assert_eq!((out.bytes, out.seed, r#in.bytes), (40_000, 7, 5));
        assert_eq!(out.sizes, [TRANSFER]);
        assert_eq!((gadget.checked(), gadget.sent()), (5, 40_000));
        let echo = Gadget {
            loopback: 9,
            ..Gadget::default()
        };
        assert!(matches!(&echo.steps(&[3], 7)[..], [Step::Loopback(s)] if s.sizes == [3]));
        assert_eq!((echo.checked(), echo.sent()), (9, 9));
    }

    #[test]
    fn what_moves_nothing_or_too_much_is_refused() {
        let gadget = |out| Gadget {
            out,
            ..Gadget::default()
        };
        check(Some(&gadget(1)), Some(&Iio { rx: 1, tx: 0 })).unwrap();
        let why = check(Some(&gadget(0)), None).unwrap_err();
        assert!(why.contains("guest.gadget moves nothing"), "{why}");
        let why = check(None, Some(&Iio::default())).unwrap_err();
        assert!(why.contains("guest.iio moves nothing"), "{why}");
        let why = check(Some(&gadget(u64::MAX)), None).unwrap_err();
        assert!(why.contains("more than"), "{why}");
    }

    #[test]
    fn words_become_a_table() {
        let (text, speed) = table("in=5,speed=high,out=7", Some("speed")).unwrap();
        assert_eq!((&*text, speed.as_deref()), ("{in=5,out=7}", Some("high")));
        let gadget: Gadget = toml::from_str::<toml::Table>(&format!("g={text}")).unwrap()["g"]
            .clone()
            .try_into()
            .unwrap();
        assert_eq!((gadget.r#in, gadget.out), (5, 7));
        assert_eq!(gadget.to_string(), "in=5,out=7");
        for bad in ["", "in", "in=x", "in=-1", "in=1,", "speed=high"] {
            assert!(table(bad, None).is_err(), "{bad}");
        }
    }
}
