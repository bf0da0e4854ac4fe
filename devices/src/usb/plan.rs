// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What [`super::host::PlanHost`] is to do.

use serde::{Deserialize, Serialize};

use super::Speed;
use super::frames::MAX_FRAMES;
use crate::clock::Ticks;
use crate::faults::{HostFault, MAX_FAULTS};

/// Largest single transfer in bytes.
pub const MAX_TRANSFER: u32 = 64 << 20;

/// Longest pause and time without a connection, in ticks: days of what a guest does, and far from
/// where device time ends.
pub const MAX_TICKS: Ticks = 1 << 40;

/// A host's part of a run: it resets and enumerates the device as soon as it attaches, selects its
/// first configuration, and works off `steps`.
///
/// If the device goes away, or a reset or disconnect of the plan interrupts a transfer step, that
/// step is over; the host enumerates again and goes on with the next one. Only a stream of frames
/// that the device moves again ([`Stream::frame`]) goes on itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsbHostPlan {
    /// The best speed the port offers.
    #[serde(default)]
    pub speed: Speed,
    /// What to do once the device is configured.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "do",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    deny_unknown_fields
)]
pub enum Step {
    /// Reads from the first bulk IN endpoint and checks every byte.
    BulkIn(Stream),
    /// Sends to the first bulk OUT endpoint.
    BulkOut(Stream),
    /// For each transfer: sends it, reads as much back and checks every byte.
    Loopback(Stream),
    /// Sets and clears the halt feature of the first bulk IN (or OUT) endpoint, and checks that
    /// the endpoint stalls in between. The driver cancels what its function has queued.
    Halt {
        /// Of the IN endpoint; else of the OUT endpoint.
        input: bool,
    },
    /// Resets the bus and enumerates again.
    Reset,
    /// Unplugs the device, plugs it in again after `ticks`, and enumerates again.
    Disconnect {
        /// Time without a connection, in ticks, at most [`MAX_TICKS`].
        ticks: Ticks,
    },
    /// Leaves the bus alone for `ticks`.
    Pause {
        /// At most [`MAX_TICKS`].
        ticks: Ticks,
    },
}

/// Data with known contents, moved in transfers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Stream {
    /// Bytes to move in all, at least 1.
    pub bytes: u64,
    /// Sizes of the transfers in bytes, used in rotation; at least one, each 1 to
    /// [`MAX_TRANSFER`]. The last transfer is cut to what is left of `bytes`. A short packet ends
    /// an IN transfer early; the stream goes on in the next one.
    pub sizes: Vec<u32>,
    /// Seed of the contents: [`staleline_protocol::pattern::Pattern`].
    pub seed: u64,
    /// Position in the pattern of the first byte moved. Each byte that arrives advances it by 1.
    #[serde(default)]
    pub offset: u64,
    /// Sends a zero-length packet after an OUT transfer that is a multiple of the packet size.
    #[serde(default)]
    pub zero_packet: bool,
    /// Bytes of a frame, for a device that moves a frame again, from its start, when it was cut off
    /// by a halt, a reset or a disconnect; the last frame is what is left. The step then goes on
    /// after each of them with the frames that are missing. Transfers start over with the first of
    /// `sizes`, which must make up one frame for OUT, and be one frame for a loopback.
    #[serde(default)]
    pub frame: Option<u64>,
    /// What happens on the way, in order of `after_bytes`.
    #[serde(default)]
    pub incidents: Vec<Incident>,
    /// What happens before a transfer begins, by its number from 1 on, ascending. Each that begins anew after it
    /// was cut off counts again.
    #[serde(default)]
    pub faults: Vec<(u32, HostFault)>,
}

impl Stream {
    /// `bytes` in transfers of `size`.
    pub fn new(bytes: u64, size: u32, seed: u64) -> Self {
        Stream {
            bytes,
            sizes: vec![size],
            seed,
            offset: 0,
            zero_packet: false,
            frame: None,
            incidents: Vec::new(),
            faults: Vec::new(),
        }
    }
}

/// Something that happens in the middle of a [`Stream`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Incident {
    /// When at least so many bytes of the stream have been moved.
    pub after_bytes: u64,
    /// What.
    pub action: Action,
}

/// What an [`Incident`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    deny_unknown_fields
)]
pub enum Action {
    /// The host moves nothing for `ticks`: flow control towards the device.
    Pause {
        /// At most [`MAX_TICKS`].
        ticks: Ticks,
    },
    /// Before the next transfer begins: see [`Step::Halt`], on the endpoint of this step (of a
    /// loopback: the OUT endpoint).
    Halt,
    /// Resets the bus, which ends the step if its stream has no [`Stream::frame`].
    Reset,
    /// Unplugs the device for `ticks`, with the same end.
    Disconnect {
        /// At most [`MAX_TICKS`].
        ticks: Ticks,
    },
}

impl Action {
    fn ticks(self) -> Ticks {
        match self {
            Action::Pause { ticks } | Action::Disconnect { ticks } => ticks,
            Action::Halt | Action::Reset => 0,
        }
    }

    /// Whether a device's driver cancels what its function has queued.
    pub fn cuts(self) -> bool {
        match self {
            Action::Pause { .. } => false,
            Action::Halt | Action::Reset | Action::Disconnect { .. } => true,
        }
    }
}

/// Why a plan cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing to move.
    #[error("USB host step {step}: bytes must be at least 1")]
    NoBytes {
        /// Index of the step.
        step: usize,
    },
    /// No or wrong transfer sizes.
    #[error("USB host step {step}: sizes must list at least one size, each 1 to {MAX_TRANSFER}")]
    Sizes {
        /// Index of the step.
        step: usize,
    },
    /// The stream would leave the pattern.
    #[error("USB host step {step}: offset and bytes exceed 2^63")]
    TooLong {
        /// Index of the step.
        step: usize,
    },
    /// Frames that transfers do not fit, or too many.
    #[error(
        "USB host step {step}: frame must be at least 1 and at least a {MAX_FRAMES}th of bytes, and \
         what sizes add up to where data goes to the device"
    )]
    Frame {
        /// Index of the step.
        step: usize,
    },
    /// Incidents out of order.
    #[error("USB host step {step}: incidents must be in order of after-bytes")]
    Incidents {
        /// Index of the step.
        step: usize,
    },
    /// Faults out of order, or too many.
    #[error("USB host step {step}: faults must be in order of transfers, and at most {MAX_FAULTS}")]
    Faults {
        /// Index of the step.
        step: usize,
    },
    /// A pause or a time without a connection that would not end within a run.
    #[error("USB host step {step}: ticks = {ticks} is too long, at most {MAX_TICKS} are allowed")]
    Ticks {
        /// Index of the step.
        step: usize,
        /// What was asked for.
        ticks: Ticks,
    },
}

impl UsbHostPlan {
    /// Checks the ranges that the types do not.
    ///
    /// # Errors
    /// [`PlanError`] names the first step that is wrong.
    pub fn check(&self) -> Result<(), PlanError> {
        for (step, kind) in self.steps.iter().enumerate() {
            let too_long = |ticks: &Ticks| *ticks > MAX_TICKS;
            let (Step::BulkIn(s) | Step::BulkOut(s) | Step::Loopback(s)) = kind else {
                let (Step::Pause { ticks } | Step::Disconnect { ticks }) = *kind else {
                    continue;
                };
                if too_long(&ticks) {
                    return Err(PlanError::Ticks { step, ticks });
                }
                continue;
            };
            if s.bytes == 0 {
                return Err(PlanError::NoBytes { step });
            }
            let size_is_fine = |size: &u32| (1..=MAX_TRANSFER).contains(size);
            if s.sizes.is_empty() || !s.sizes.iter().all(size_is_fine) {
                return Err(PlanError::Sizes { step });
            }
            if s.bytes > 1 << 62 || s.offset > 1 << 62 {
                return Err(PlanError::TooLong { step });
            }
            if let Some(frame) = s.frame {
                let sum: u64 = s.sizes.iter().map(|size| u64::from(*size)).sum();
                let fits = match kind {
                    Step::BulkOut(_) => sum == frame,
                    Step::Loopback(_) => sum == frame && s.sizes.len() == 1,
                    _ => true,
                };
                if frame == 0 || s.bytes.div_ceil(frame) > MAX_FRAMES || !fits {
                    return Err(PlanError::Frame { step });
                }
            }
            if !s.incidents.is_sorted_by_key(|i| i.after_bytes) {
                return Err(PlanError::Incidents { step });
            }
            if !s.faults.is_sorted() || s.faults.len() > MAX_FAULTS {
                return Err(PlanError::Faults { step });
            }
            if let Some(ticks) = s.incidents.iter().map(|i| i.action.ticks()).find(too_long) {
                return Err(PlanError::Ticks { step, ticks });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(stream: Stream) -> UsbHostPlan {
        UsbHostPlan {
            speed: Speed::Super,
            steps: vec![Step::Reset, Step::BulkIn(stream)],
        }
    }

    #[test]
    fn plans_read_as_users_write_them() {
        let text = r#"{
            "speed": "high",
            "steps": [
                {"do": "bulk-in", "bytes": 10, "sizes": [7], "seed": 1,
                 "incidents": [{"after-bytes": 5, "action": {"disconnect": {"ticks": 9}}},
                               {"after-bytes": 6, "action": "reset"}]},
                {"do": "halt", "input": true}
            ]}"#;
        let plan: UsbHostPlan = serde_json::from_str(text).unwrap();
        assert_eq!(plan.check(), Ok(()));
        assert_eq!(plan.speed, Speed::High);
        assert_eq!(plan.steps[1], Step::Halt { input: true });
        let Step::BulkIn(stream) = &plan.steps[0] else {
            panic!("{:?}", plan.steps[0]);
        };
        assert_eq!(stream.incidents[0].action, Action::Disconnect { ticks: 9 });
        let back: UsbHostPlan =
            serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
        assert_eq!(back, plan);
        for wrong in [
            r#"{"steps": [], "sped": 1}"#,
            r#"{"steps": [{"do": "halt", "input": true, "output": true}]}"#,
            r#"{"steps": [{"do": "bulk-in", "bytes": 1, "sizes": [1], "seed": 1, "byts": 1}]}"#,
        ] {
            assert!(
                serde_json::from_str::<UsbHostPlan>(wrong).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn bad_plans_are_refused_with_their_step() {
        let good = Stream::new(100, 10, 1);
        assert_eq!(plan(good.clone()).check(), Ok(()));
        let empty = Stream {
            bytes: 0,
            ..good.clone()
        };
        assert_eq!(plan(empty).check(), Err(PlanError::NoBytes { step: 1 }));
        for sizes in [vec![], vec![4, 0], vec![u32::MAX]] {
            let s = Stream {
                sizes,
                ..good.clone()
            };
            assert_eq!(plan(s).check(), Err(PlanError::Sizes { step: 1 }));
        }
        let s = Stream {
            offset: u64::MAX,
            ..good.clone()
        };
        assert_eq!(plan(s).check(), Err(PlanError::TooLong { step: 1 }));
        for (frame, sizes, kind) in [
            (0, vec![10], Step::BulkIn as fn(Stream) -> Step),
            (20, vec![10], Step::BulkOut),
            (20, vec![10, 10], Step::Loopback),
        ] {
            let s = Stream {
                frame: Some(frame),
                sizes,
                ..good.clone()
            };
            let plan = |s| UsbHostPlan {
                speed: Speed::Super,
                steps: vec![kind(s)],
            };
            assert_eq!(plan(s.clone()).check(), Err(PlanError::Frame { step: 0 }));
            let fits = Stream {
                frame: Some(10),
                sizes: vec![10],
                ..s.clone()
            };
            assert_eq!(plan(fits).check(), Ok(()));
            let many = Stream {
                frame: Some(10),
                sizes: vec![10],
                bytes: 11 << 20,
                ..s
            };
            assert_eq!(plan(many).check(), Err(PlanError::Frame { step: 0 }));
        }
        let incident = |after_bytes| Incident {
            after_bytes,
            action: Action::Reset,
        };
        let s = Stream {
            incidents: vec![incident(2), incident(1)],
            ..good.clone()
        };
        assert_eq!(plan(s).check(), Err(PlanError::Incidents { step: 1 }));
        let s = Stream {
            faults: vec![(2, HostFault::Halt), (1, HostFault::Reset)],
            ..good.clone()
        };
        assert_eq!(plan(s).check(), Err(PlanError::Faults { step: 1 }));
        for (ticks, fine) in [
            (MAX_TICKS, true),
            (MAX_TICKS + 1, false),
            (Ticks::MAX, false),
        ] {
            let want = |step| match fine {
                true => Ok(()),
                false => Err(PlanError::Ticks { step, ticks }),
            };
            for action in [Action::Pause { ticks }, Action::Disconnect { ticks }] {
                let incidents = vec![Incident {
                    after_bytes: 1,
                    action,
                }];
                let s = Stream {
                    incidents,
                    ..good.clone()
                };
                assert_eq!(plan(s).check(), want(1));
            }
            for step in [Step::Pause { ticks }, Step::Disconnect { ticks }] {
                let plan = UsbHostPlan {
                    speed: Speed::Super,
                    steps: vec![step],
                };
                assert_eq!(plan.check(), want(0));
            }
        }
    }
}
