// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The host at the other end of the USB cable.

use serde::{Deserialize, Serialize};
use staleline_devices::faults::{Fault, HostFault};
use staleline_devices::usb::Speed;
use staleline_devices::usb::plan::{Incident, Step, Stream, UsbHostPlan};
use staleline_protocol::plan::DataPath;

use super::Scenario;

/// The `[usb]` table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct UsbSettings {
    /// The best speed the host's port offers.
    pub speed: Speed,
    /// Sizes in bytes of the host's transfers, used in rotation; by default, one per frame.
    pub sizes: Vec<u32>,
    /// What the host does in the middle of the data.
    pub incidents: Vec<Incident>,
}

impl UsbSettings {
    /// Whether the host breaks transfers off, so that frames are moved again.
    pub fn cuts(&self) -> bool {
        self.incidents.iter().any(|i| i.action.cuts())
    }
}

/// Entries of each list in [`UsbSettings`].
pub const MAX_ENTRIES: usize = 1024;

/// The largest packet of a bulk endpoint at any speed in bytes; the others divide it.
const PACKET: u32 = 1024;

/// Checks the table, and that the host's transfers can end where the frames of `transfer` do.
///
/// A device's transfer ends with the host's last packet if that is a short one. So a host that
/// ended its OUT transfers elsewhere would make frames short, and the data path would move what no
/// one has planned: that is a mistake in a scenario, not one of the software under test. On the
/// way to the host there is no such trap: a host that expects less than the device sends notices.
///
/// # Errors
/// Names the key.
pub fn check(scenario: &Scenario) -> Result<(), String> {
    let Scenario { usb, board, .. } = scenario;
    let (transfer, cpus) = (scenario.transfer.as_ref(), board.cpus);
    for (key, entries) in [
        ("usb.sizes", usb.sizes.len()),
        ("usb.incidents", usb.incidents.len()),
    ] {
        if entries > MAX_ENTRIES {
            return Err(format!(
                "{key} has {entries} entries, and may have {MAX_ENTRIES}"
            ));
        }
    }
    let Some(t) = transfer.filter(|t| t.path.uses_usb()) else {
        // A program's gadget has a host, too.
        let sizes = usb.sizes.is_empty() || scenario.guest.gadget.is_some();
        let set = [
            ("usb.sizes", sizes),
            ("usb.incidents", usb.incidents.is_empty()),
            ("a fault host@N", host_faults(scenario).is_empty()),
        ];
        return match set.iter().find(|(_, fine)| !fine) {
            None => checked(scenario),
            Some((key, _)) => Err(format!("{key} needs a transfer.path over USB")),
        };
    };
    if let Some(last) = t.last_frame_bytes.filter(|last| *last > t.frame_bytes) {
        return Err(format!(
            "transfer.last-frame-bytes = {last} must be at most transfer.frame-bytes ({}) on a \
             path over USB: the host's transfers are for so many",
            t.frame_bytes
        ));
    }
    if scenario.cuts() && cpus > 1 {
        return Err(format!(
            "usb.incidents and faults host@N that break transfers off need board.cpus = 1, not {cpus}: with several, a \
             transfer may have ended before its fence can be looked at, and the kernel does not tell \
             how any more. Pauses work"
        ));
    }
    let babbles = |(_, what): &(u32, HostFault)| *what == HostFault::Babble;
    if t.path != DataPath::IioToUsb && host_faults(scenario).iter().any(babbles) {
        return Err(
            "host@N:babble needs transfer.path = \"iio-to-usb\": only what a device sends can be too much"
                .into(),
        );
    }
    let total = t.plan(scenario.cuts()).total_bytes();
    if let Some(late) = usb.incidents.iter().find(|i| i.after_bytes >= total) {
        return Err(format!(
            "usb.incidents: after-bytes = {} never comes, as {total} bytes are moved in all",
            late.after_bytes
        ));
    }
    let broken = usb
        .sizes
        .iter()
        .find(|size| **size == 0 || !size.is_multiple_of(PACKET));
    match (t.path, broken) {
        (DataPath::UsbLoopback, _) if !usb.sizes.is_empty() => Err(
            "usb.sizes cannot be set for usb-loopback: the gadget answers each frame as a whole"
                .into(),
        ),
        (DataPath::UsbToIio, Some(size)) => Err(format!(
            "usb.sizes = {size} must be a multiple of {PACKET} for usb-to-iio: after a short \
             packet the gadget takes a frame to be complete"
        )),
        _ => checked(scenario),
    }
}

fn checked(scenario: &Scenario) -> Result<(), String> {
    let plan = host_plan(scenario).check();
    plan.map_err(|e| format!("the [usb] table: {e}"))
}

/// What the host is to do on the other end of the path, or of the program's gadget; nothing if there is
/// neither.
pub fn host_plan(scenario: &Scenario) -> UsbHostPlan {
    let Scenario { usb, seed, .. } = scenario;
    let (seed, cuts) = (*seed, scenario.cuts());
    let gadget = scenario.guest.gadget.as_ref();
    let of_gadget = || gadget.map_or_else(Vec::new, |g| g.steps(&usb.sizes, seed));
    let transfer = scenario.transfer.as_ref();
    let steps = transfer
        .filter(|t| t.path.uses_usb())
        .map_or_else(of_gadget, |t| {
            // The scenario's limits keep a frame far below 4 GiB.
            let frame = u32::try_from(t.frame_bytes).unwrap_or(u32::MAX);
            let stream = Stream {
                bytes: t.plan(cuts).total_bytes(),
                sizes: match (usb.sizes.as_slice(), t.path) {
                    ([], _) => vec![frame],
                    (sizes, DataPath::UsbToIio) => tiles(frame, sizes),
                    (sizes, _) => sizes.to_vec(),
                },
                seed,
                offset: 0,
                zero_packet: false,
                frame: cuts.then_some(t.frame_bytes),
                incidents: usb.incidents.clone(),
                faults: host_faults(scenario),
            };
            vec![match t.path {
                DataPath::UsbToIio => Step::BulkOut(stream),
                DataPath::IioToUsb => Step::BulkIn(stream),
                DataPath::UsbLoopback | DataPath::IioCapture | DataPath::IioPlayback => {
                    Step::Loopback(stream)
                }
            }]
        });
    UsbHostPlan {
        speed: usb.speed,
        steps,
    }
}

/// The faults that are the host's, by transfer.
fn host_faults(scenario: &Scenario) -> Vec<(u32, HostFault)> {
    let faults = scenario.faults.inject.iter();
    let mut faults: Vec<_> = faults
        .filter_map(|fault| match *fault {
            Fault::Host(number, what) => Some((number, what)),
            _ => None,
        })
        .collect();
    faults.sort_unstable();
    faults
}

/// `sizes` in rotation, cut to what is left, until they make up a frame.
fn tiles(frame: u32, sizes: &[u32]) -> Vec<u32> {
    let mut left = frame;
    sizes
        .iter()
        .cycle()
        .map_while(|size| {
            // Smaller ones were refused, and would make a long list.
            let size = left.min((*size).max(PACKET));
            left -= size;
            (size > 0).then_some(size)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_moves_what_the_guest_moves() {
        let scenario = Scenario::load("iio-to-usb").unwrap();
        let plan = host_plan(&scenario);
        plan.check().unwrap();
        let total = scenario.plan().transfer.unwrap().total_bytes();
        let [Step::BulkIn(stream)] = plan.steps.as_slice() else {
            panic!("{plan:?}")
        };
        assert_eq!((stream.bytes, stream.seed), (total, scenario.seed));
    }

    fn set(scenario: &str, settings: &[&str]) -> Result<Scenario, String> {
        let settings: Vec<_> = settings.iter().map(|s| (*s).to_owned()).collect();
        let scenario = Scenario::load(scenario).unwrap();
        crate::scenario::set::apply(&scenario, &settings).map_err(|e| e.to_string())
    }

    #[test]
    fn what_cannot_end_with_a_frame_is_refused() {
        for (scenario, setting, why) in [
            ("usb-to-iio", "usb.sizes=[1024, 24]", "usb.sizes = 24"),
            ("usb-to-iio", "usb.sizes=[0]", "usb.sizes = 0"),
            ("iio-to-usb", "usb.sizes=[0]", "sizes must list"),
            ("usb-loopback", "usb.sizes=[1024]", "usb-loopback"),
            (
                "iio-to-usb",
                "last-frame-bytes=16384",
                "at most transfer.frame-bytes",
            ),
            (
                "iio-to-usb",
                r#"usb.incidents=[{after-bytes=2,action="halt"},{after-bytes=1,action="reset"}]"#,
                "order",
            ),
            (
                "iio-to-usb",
                r#"usb.incidents=[{after-bytes=61200,action="halt"}]"#,
                "61200 bytes are moved in all",
            ),
            (
                "iio-to-usb",
                "usb.incidents=[{after-bytes=1,action={pause={ticks=9223372036854775807}}}]",
                "ticks = 9223372036854775807 is too long",
            ),
            (
                "iio-capture",
                r#"usb.incidents=[{after-bytes=0,action="halt"}]"#,
                "over USB",
            ),
        ] {
            let e = set(scenario, &[setting]).unwrap_err();
            assert!(e.contains(why), "{scenario} {setting}: {e}");
        }
        let reset = r#"usb.incidents=[{after-bytes=1,action="reset"}]"#;
        let pause = "usb.incidents=[{after-bytes=1,action={pause={ticks=9}}}]";
        let fault = "inject=host@2:halt";
        for (scenario, settings, why) in [
            (
                "iio-to-usb",
                &["board.cpus=2", fault][..],
                "need board.cpus = 1, not 2",
            ),
            (
                "iio-to-usb",
                &["order=[1, 0]", fault],
                "transfer.order cannot be set",
            ),
            (
                "usb-to-iio",
                &["inject=host@1:babble"],
                "needs transfer.path = \"iio-to-usb\"",
            ),
            (
                "iio-capture",
                &[fault],
                "a fault host@N needs a transfer.path over USB",
            ),
        ] {
            let e = set(scenario, settings).unwrap_err();
            assert!(e.contains(why), "{settings:?}: {e}");
        }
        let e = set("iio-to-usb", &["board.cpus=2", reset]).unwrap_err();
        assert!(e.contains("need board.cpus = 1, not 2"), "{e}");
        set("iio-to-usb", &["board.cpus=2", pause]).unwrap();
        let many = format!("usb.sizes={:?}", [1024; MAX_ENTRIES + 1]);
        assert!(set("iio-to-usb", &[&many]).unwrap_err().contains("entries"));
        set("iio-to-usb", &["usb.sizes=[7]"]).unwrap();
        set("iio-capture", &["last-frame-bytes=16384"]).unwrap();
    }

    #[test]
    fn transfers_to_the_device_end_where_frames_do() {
        assert_eq!(tiles(12_040, &[1024, 8192]), [1024, 8192, 1024, 1800]);
        assert_eq!(tiles(2048, &[1024]), [1024, 1024]);
        assert_eq!(tiles(1000, &[1024]), [1000]);
        assert_eq!(tiles(2000, &[0, 600]), [1024, 976]);
        let scenario = set("usb-to-iio", &["usb.sizes=[8192]"]).unwrap();
        let plan = host_plan(&scenario);
        let [Step::BulkOut(stream)] = plan.steps.as_slice() else {
            panic!("{plan:?}")
        };
        assert_eq!(stream.sizes, [8192, 3848]);
    }

    #[test]
    fn cuts_have_both_sides_move_frames_again() {
        for (action, cuts) in [(r#""reset""#, true), ("{pause={ticks=1}}", false)] {
            for path in ["iio-to-usb", "usb-to-iio", "usb-loopback"] {
                let incident = format!("usb.incidents=[{{after-bytes=1,action={action}}}]");
                let scenario = set(path, &[&incident]).unwrap();
                let transfer = scenario.transfer.as_ref().unwrap();
                assert_eq!(scenario.plan().transfer.unwrap().resume, cuts);
                let plan = host_plan(&scenario);
                let [Step::BulkIn(s) | Step::BulkOut(s) | Step::Loopback(s)] = &plan.steps[..]
                else {
                    panic!("{plan:?}")
                };
                assert_eq!(s.frame, cuts.then_some(transfer.frame_bytes));
                plan.check().unwrap();
            }
        }
        let fault = "inject=host@4:reset,drop@3,host@1:disconnect+7";
        let scenario = set("iio-to-usb", &[fault]).unwrap();
        assert!(scenario.plan().transfer.unwrap().resume);
        let [Step::BulkIn(stream)] = &host_plan(&scenario).steps[..] else {
            panic!("it is one stream")
        };
        let wanted = [(1, HostFault::Disconnect(7)), (4, HostFault::Reset)];
        assert_eq!(
            (&stream.faults[..], stream.frame),
            (&wanted[..], Some(12_040))
        );
    }

    #[test]
    fn paths_without_usb_leave_the_bus_alone() {
        let scenario = Scenario::load("iio-capture").unwrap();
        assert!(host_plan(&scenario).steps.is_empty());
        let boot = Scenario::load("boot").unwrap();
        assert!(host_plan(&boot).steps.is_empty());
    }
}
