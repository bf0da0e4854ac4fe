// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The host at the other end of the USB cable.

use serde::{Deserialize, Serialize};
use staleline_devices::usb::Speed;
use staleline_devices::usb::plan::{Incident, Step, Stream, UsbHostPlan};
use staleline_protocol::plan::DataPath;

use super::Transfer;

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

/// What the host is to do on the other end of `transfer`; nothing if its path does not use USB.
pub fn host_plan(usb: &UsbSettings, transfer: Option<&Transfer>, seed: u64) -> UsbHostPlan {
    let steps = transfer
        .filter(|t| t.path.uses_usb())
        .map_or_else(Vec::new, |t| {
            let stream = Stream {
                bytes: t.plan().total_bytes(),
                // The scenario's limits keep a frame far below 4 GiB.
                sizes: match usb.sizes.as_slice() {
                    [] => vec![u32::try_from(t.frame_bytes).unwrap_or(u32::MAX)],
                    sizes => sizes.to_vec(),
                },
                seed,
                offset: 0,
                zero_packet: false,
                incidents: usb.incidents.clone(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn the_host_moves_what_the_guest_moves() {
        let scenario = Scenario::load("iio-to-usb").unwrap();
        let plan = host_plan(&scenario.usb, scenario.transfer.as_ref(), 7);
        plan.check().unwrap();
        let total = scenario.plan().transfer.unwrap().total_bytes();
        let [Step::BulkIn(stream)] = plan.steps.as_slice() else {
            panic!("{plan:?}")
        };
        assert_eq!((stream.bytes, stream.seed), (total, 7));
    }

    #[test]
    fn paths_without_usb_leave_the_bus_alone() {
        let scenario = Scenario::load("iio-capture").unwrap();
        assert!(
            host_plan(&scenario.usb, scenario.transfer.as_ref(), 1)
                .steps
                .is_empty()
        );
        assert!(host_plan(&scenario.usb, None, 1).steps.is_empty());
    }
}
