// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What FunctionFS wants written to ep0 and what it lets read from there: formats in
//! include/uapi/linux/usb/functionfs.h, descriptors in USB 3.2 section 9.6.

/// File name of the endpoint to the host: FunctionFS numbers endpoints in descriptor order.
pub const BULK_IN: &str = "ep1";
/// File name of the endpoint from the host.
pub const BULK_OUT: &str = "ep2";

const DESCRIPTORS_MAGIC_V2: u32 = 3;
const STRINGS_MAGIC: u32 = 2;
const HAS_FS_DESC: u32 = 1;
const HAS_HS_DESC: u32 = 2;
const HAS_SS_DESC: u32 = 4;
const ENGLISH_US: u16 = 0x0409;

// Vendor-specific interface 0 with two endpoints; its name is string 1.
const INTERFACE: [u8; 9] = [9, 4, 0, 0, 2, 0xff, 0, 0, 1];
// No bursts, no streams.
const COMPANION: [u8; 6] = [6, 0x30, 0, 0, 0, 0];

fn bulk(address: u8, max_packet: u16) -> [u8; 7] {
    let [low, high] = max_packet.to_le_bytes();
    [7, 5, address, 2, low, high, 0]
}

/// Prefixes a payload with magic and total length.
fn with_head(magic: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 8).unwrap_or(u32::MAX);
    [&magic.to_le_bytes(), &length.to_le_bytes(), payload].concat()
}

/// Descriptors for all speeds. The controller's driver assigns the real addresses.
///
/// Full speed is not for use: with descriptors for the two higher speeds only, the function's bind
/// in 6.12 takes the endpoint's address from the full-speed descriptor that is not there
/// (`__ffs_func_bind_do_descs` in f_fs.c), and the kernel dies of a NULL pointer.
pub fn descriptors() -> Vec<u8> {
    let fs: [&[u8]; 3] = [&INTERFACE, &bulk(0x81, 64), &bulk(0x02, 64)];
    let hs: [&[u8]; 3] = [&INTERFACE, &bulk(0x81, 512), &bulk(0x02, 512)];
    let ss: [&[u8]; 5] = [
        &INTERFACE,
        &bulk(0x81, 1024),
        &COMPANION,
        &bulk(0x02, 1024),
        &COMPANION,
    ];
    let mut payload = Vec::new();
    for word in [HAS_FS_DESC | HAS_HS_DESC | HAS_SS_DESC, 3, 3, 5] {
        payload.extend(u32::to_le_bytes(word));
    }
    payload.extend(fs.concat());
    payload.extend(hs.concat());
    payload.extend(ss.concat());
    with_head(DESCRIPTORS_MAGIC_V2, &payload)
}

/// The one string, in one language.
pub fn strings() -> Vec<u8> {
    let mut payload = Vec::new();
    payload.extend(1u32.to_le_bytes());
    payload.extend(1u32.to_le_bytes());
    payload.extend(ENGLISH_US.to_le_bytes());
    payload.extend(b"staleline\0");
    with_head(STRINGS_MAGIC, &payload)
}

/// Size of `struct usb_functionfs_event`.
pub const EVENT_BYTES: usize = 12;

/// What happened on endpoint 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The host selected the configuration.
    Enable,
    /// The configuration is no longer selected: reset, disconnection, unbinding.
    Disable,
    /// A control request for this function.
    Setup {
        /// Its data stage goes to the host (bit 7 of bmRequestType).
        to_host: bool,
    },
    /// Bind, suspend, resume.
    Other,
}

impl Event {
    /// Decodes one event of [`EVENT_BYTES`]: the setup packet, then the type.
    pub fn parse(event: &[u8]) -> Self {
        match (event.first(), event.get(8)) {
            (_, Some(1 | 3)) => Event::Disable,
            (_, Some(2)) => Event::Enable,
            (Some(request_type), Some(4)) => Event::Setup {
                to_host: request_type & 0x80 != 0,
            },
            _ => Event::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(blob: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(blob[at..at + 4].try_into().unwrap())
    }

    /// Walks the descriptors by their lengths, as the kernel does.
    fn walk(mut rest: &[u8]) -> Vec<&[u8]> {
        let mut found = Vec::new();
        while let Some(&n) = rest.first() {
            let (one, more) = rest.split_at(n.into());
            found.push(one);
            rest = more;
        }
        found
    }

    #[test]
    fn descriptor_blob_is_consistent() {
        let blob = descriptors();
        assert_eq!(word(&blob, 0), DESCRIPTORS_MAGIC_V2);
        assert_eq!(word(&blob, 4) as usize, blob.len());
        assert_eq!(word(&blob, 8), HAS_FS_DESC | HAS_HS_DESC | HAS_SS_DESC);
        let all = walk(&blob[24..]);
        let (fs, rest) = all.split_at(word(&blob, 12) as usize);
        let (hs, ss) = rest.split_at(word(&blob, 16) as usize);
        assert_eq!(ss.len(), word(&blob, 20) as usize);
        for (speed, max_packet) in [(fs, 64u16), (hs, 512), (ss, 1024)] {
            let endpoints: Vec<_> = speed.iter().filter(|d| d[1] == 5).collect();
            assert_eq!(endpoints.len(), 2);
            // In the order of the file names.
            assert_eq!([endpoints[0][2], endpoints[1][2]], [0x81, 0x02]);
            for e in endpoints {
                assert_eq!(u16::from_le_bytes([e[4], e[5]]), max_packet);
            }
        }
        assert_eq!(ss.iter().filter(|d| d[1] == 0x30).count(), 2);
    }

    #[test]
    fn string_blob_is_consistent() {
        let blob = strings();
        assert_eq!(word(&blob, 4) as usize, blob.len());
        assert_eq!(&blob[18..], b"staleline\0");
    }

    #[test]
    fn events() {
        let mut event = [0; EVENT_BYTES];
        assert_eq!(Event::parse(&event), Event::Other);
        event[8] = 2;
        assert_eq!(Event::parse(&event), Event::Enable);
        for gone in [1, 3] {
            event[8] = gone;
            assert_eq!(Event::parse(&event), Event::Disable);
        }
        event[8] = 4;
        event[0] = 0xc1;
        assert_eq!(Event::parse(&event), Event::Setup { to_host: true });
        event[0] = 0x41;
        assert_eq!(Event::parse(&event), Event::Setup { to_host: false });
        assert_eq!(Event::parse(&[]), Event::Other);
    }
}
