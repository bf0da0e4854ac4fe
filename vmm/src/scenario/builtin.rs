// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The scenarios that come with the program: the files below `ci/scenarios/`.

macro_rules! builtin {
    ($($name:literal),* $(,)?) => {
        const ALL: &[(&str, &str)] = &[$((
            $name,
            include_str!(concat!("../../../ci/scenarios/", $name, ".toml")),
        )),*];
    };
}

builtin![
    "boot",
    "exec",
    "iio-capture",
    "iio-capture-nosync",
    "iio-playback",
    "iio-playback-nosync",
    "usb-loopback",
    "iio-to-usb",
    "iio-to-usb-sync",
    "iio-to-usb-long",
    "usb-to-iio",
    "usb-to-iio-sync",
    "usb-to-iio-long",
    "gdma-memcpy",
    "blk-root",
    "nvme",
];

/// The text of one.
pub fn text(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
}

/// All names.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn every_file_is_built_in_and_valid() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../ci/scenarios");
        let files: BTreeSet<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|e| {
                e.unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        assert_eq!(files, names().map(str::to_owned).collect());
        for name in names() {
            assert_eq!(Scenario::load(name).unwrap().name, name);
        }
    }

    #[test]
    fn streaming_scenarios_reuse_buffers_and_end_short() {
        for name in names().filter(|n| n.contains("iio-")) {
            let t = Scenario::load(name).unwrap().transfer.unwrap();
            assert!(t.buffers > 1 && t.frames > t.buffers, "{name}");
            assert!(!t.frame_bytes.is_multiple_of(4096), "{name}");
            assert!(t.last_frame_bytes.unwrap() < t.frame_bytes, "{name}");
        }
    }
}
