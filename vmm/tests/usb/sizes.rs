// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Transfers of the host that are not the device's: what fits, and what is babble.

use staleline::result::ends;
use staleline_devices::usb::report::StepReport;
use staleline_results::Verdict;

use super::support::side_by_side;
use super::{ORDINARY, PATCHED, go};

/// How the host's transfers go by the rules of USB: a transfer ends when it is full, or with a
/// packet that is not.
#[derive(Debug, Default, PartialEq, Eq)]
struct Expected {
    bytes: u64,
    transfers: u64,
    short: u64,
    babble: bool,
}

impl Expected {
    /// IN transfers of `sizes`, in rotation, of a device that sends `frames` in packets of `packet`
    /// bytes.
    fn input(frames: &[u64], sizes: &[u64], packet: u64) -> Self {
        let packets: Vec<u64> = frames
            .iter()
            .flat_map(|frame| {
                let rest = (!frame.is_multiple_of(packet)).then_some(frame % packet);
                std::iter::repeat_n(packet, (frame / packet) as usize).chain(rest)
            })
            .collect();
        let mut packets = packets.into_iter().peekable();
        let total: u64 = frames.iter().sum();
        let mut so_far = Expected::default();
        for size in sizes.iter().cycle() {
            let mut left = (total - so_far.bytes).min(*size);
            if left == 0 {
                return so_far;
            }
            while left > 0 {
                let Some(next) = packets.next_if(|p| *p <= left) else {
                    so_far.babble = true;
                    return so_far;
                };
                so_far.bytes += next;
                left -= next;
                if next < packet {
                    so_far.short += 1;
                    break;
                }
            }
            so_far.transfers += 1;
        }
        so_far
    }

    fn of(step: &StepReport, babble: bool) -> Self {
        Expected {
            bytes: step.received.bytes,
            transfers: step.transfers,
            short: step.short_packets,
            babble,
        }
    }
}

struct Shape {
    frame: u64,
    last: u64,
    /// None: those of the frames.
    sizes: &'static [u64],
}

const COUNT: u32 = 4;

impl Shape {
    fn frames(&self) -> Vec<u64> {
        let mut frames = vec![self.frame; COUNT as usize];
        frames[COUNT as usize - 1] = self.last;
        frames
    }

    fn settings(&self, speed: &str) -> Vec<String> {
        vec![
            format!("frames={COUNT}"),
            "buffers=3".into(),
            format!("buffer-bytes={}", self.frame.next_multiple_of(4096)),
            format!("frame-bytes={}", self.frame),
            format!("last-frame-bytes={}", self.last),
            format!("usb.sizes={:?}", self.sizes),
            format!("usb.speed={speed}"),
        ]
    }
}

/// Frames that end with a short packet and with a full one, and the shortest; transfers that end
/// with them, amid them and after several of them, and some that no packet fits.
const SHAPES: [Shape; 12] = [
    Shape {
        frame: 12_040,
        last: 1000,
        sizes: &[],
    },
    Shape {
        frame: 12_288,
        last: 4096,
        sizes: &[],
    },
    Shape {
        frame: 1024,
        last: 512,
        sizes: &[],
    },
    Shape {
        frame: 8,
        last: 8,
        sizes: &[],
    },
    Shape {
        frame: 12_040,
        last: 8,
        sizes: &[1024, 8192, 5120],
    },
    Shape {
        frame: 8192,
        last: 8192,
        sizes: &[65_536],
    },
    Shape {
        frame: 8192,
        last: 504,
        sizes: &[3072, 20_480],
    },
    Shape {
        frame: 504,
        last: 8,
        sizes: &[511, 513, 1024, 4097],
    },
    Shape {
        frame: 12_040,
        last: 1000,
        sizes: &[1],
    },
    Shape {
        frame: 12_040,
        last: 1000,
        sizes: &[511, 12_040],
    },
    Shape {
        frame: 12_040,
        last: 1000,
        sizes: &[513],
    },
    Shape {
        frame: 8192,
        last: 1000,
        sizes: &[4097],
    },
];

#[test]
fn two_at_a_time_adc_to_usb_in_any_sizes() {
    // At both speeds what ends with frames, by turns what does not.
    let speeds = [("super", 1024), ("high", 512)];
    let mut runs = Vec::new();
    for (n, shape) in SHAPES.iter().enumerate() {
        let mine = speeds.iter().enumerate();
        let mine = mine.filter(|(s, _)| shape.sizes.is_empty() || n % 2 == *s);
        runs.extend(mine.map(|(_, (speed, packet))| (*speed, *packet, shape)));
    }
    let babbles = side_by_side(&runs, |(speed, packet, shape)| {
        let frames = shape.frames();
        let sizes = if shape.sizes.is_empty() {
            &[shape.frame]
        } else {
            shape.sizes
        };
        let want = Expected::input(&frames, sizes, *packet);
        let settings = shape.settings(speed);
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let run = go("iio-to-usb", PATCHED, ORDINARY, &settings);
        let result = if want.babble {
            run.ends(3, Verdict::InfraError)
        } else {
            run.passes()
        };
        let of = &result.replay;
        let host = ends::usb_host(&result.machine.as_ref().unwrap().extra).unwrap();
        let babble = host.errors.iter().any(|e| e.contains("babble"));
        assert_eq!(Expected::of(&host.steps[0], babble), want, "{of}");
        // Whatever the host does, what did arrive is right, and the guest lives.
        assert_eq!(result.data.corrupt_bytes, 0, "{of}");
        assert!(result.hazards.is_empty(), "{of}");
        assert_eq!(result.guest.warnings, [] as [String; 0], "{of}");
        want.babble
    });
    assert!(babbles.contains(&true) && babbles.contains(&false));
}

#[test]
fn two_at_a_time_usb_to_dac_in_any_sizes() {
    let shapes = [
        Shape {
            frame: 12_040,
            last: 1000,
            sizes: &[],
        },
        Shape {
            frame: 12_288,
            last: 4096,
            sizes: &[1024, 5120],
        },
        Shape {
            frame: 8,
            last: 8,
            sizes: &[],
        },
        Shape {
            frame: 8192,
            last: 8192,
            sizes: &[65_536],
        },
    ];
    let mut runs = Vec::new();
    for speed in ["super", "high"] {
        runs.extend(shapes.iter().map(|shape| (speed, shape)));
    }
    side_by_side(&runs, |(speed, shape)| {
        let settings = shape.settings(speed);
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        go("usb-to-iio", PATCHED, ORDINARY, &settings).passes();
    });
}
