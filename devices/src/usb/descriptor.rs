// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Descriptors, parsed and checked against the specification (USB 2.0 and USB 3.2, chapter 9).

use serde::{Deserialize, Serialize};

use super::Speed;
use crate::state::{Invalid, at_most};

/// Descriptor types.
pub(super) const DEVICE: u8 = 1;
pub(super) const CONFIG: u8 = 2;
pub(super) const STRING: u8 = 3;
const INTERFACE: u8 = 4;
const ENDPOINT: u8 = 5;
pub(super) const BOS: u8 = 15;
const CAPABILITY: u8 = 16;
const SS_COMPANION: u8 = 48;

/// Device capability type of the SuperSpeed capability.
const CAPABILITY_SUPER_SPEED: u8 = 3;

/// What is wrong with a descriptor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// Shorter than its type requires, or cut off.
    #[error("{what} descriptor is too short ({len} bytes)")]
    Short {
        /// Which.
        what: &'static str,
        /// Bytes there are.
        len: usize,
    },
    /// bDescriptorType is not the one asked for.
    #[error("{what} descriptor has type {got}")]
    Type {
        /// Which.
        what: &'static str,
        /// bDescriptorType.
        got: u8,
    },
    /// A field has a value that the specification forbids.
    #[error("{what} is {got:#x}, which is not allowed at {speed:?} speed")]
    Value {
        /// Name of the field.
        what: &'static str,
        /// Its value.
        got: u32,
        /// Speed of the link.
        speed: Speed,
    },
    /// Something that the specification requires is missing.
    #[error("{what} is missing")]
    Missing {
        /// What.
        what: &'static str,
    },
    /// A count does not match what follows.
    #[error("{what} says {said}, but there are {found}")]
    Count {
        /// Name of the field.
        what: &'static str,
        /// Its value.
        said: usize,
        /// What there is.
        found: usize,
    },
}

use DescriptorError as E;

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
    u16::from_le_bytes([byte(at), byte(at + 1)])
}

/// Checks the head of a descriptor and returns its first `len` bytes.
fn head<'a>(
    bytes: &'a [u8],
    what: &'static str,
    kind: u8,
    len: usize,
) -> Result<&'a [u8], DescriptorError> {
    let short = E::Short {
        what,
        len: bytes.len(),
    };
    let head = bytes.get(..len).ok_or(short.clone())?;
    if head[1] != kind {
        return Err(E::Type { what, got: head[1] });
    }
    if usize::from(head[0]) < len {
        return Err(short);
    }
    Ok(head)
}

/// The device descriptor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeviceDescriptor {
    pub(super) usb: u16,
    pub(super) vendor: u16,
    pub(super) product: u16,
    /// Indices of manufacturer, product and serial number; 0 if there is none.
    pub(super) strings: [u8; 3],
}

impl DeviceDescriptor {
    pub(super) fn parse(bytes: &[u8], speed: Speed) -> Result<Self, DescriptorError> {
        let d = head(bytes, "device", DEVICE, 18)?;
        check_packet0(d[7], speed)?;
        let usb = u16_at(d, 2);
        let value = |what, got: u16| E::Value {
            what,
            got: u32::from(got),
            speed,
        };
        if (usb >= 0x300) != (speed == Speed::Super) {
            return Err(value("bcdUSB", usb));
        }
        if d[17] == 0 {
            return Err(value("bNumConfigurations", 0));
        }
        Ok(DeviceDescriptor {
            usb,
            vendor: u16_at(d, 8),
            product: u16_at(d, 10),
            strings: [d[14], d[15], d[16]],
        })
    }
}

/// bMaxPacketSize0: an exponent at SuperSpeed, else bytes.
fn check_packet0(got: u8, speed: Speed) -> Result<(), DescriptorError> {
    let fine = match speed {
        Speed::Super => got == 9,
        Speed::High => got == 64,
        Speed::Full => matches!(got, 8 | 16 | 32 | 64),
    };
    if fine {
        return Ok(());
    }
    Err(E::Value {
        what: "bMaxPacketSize0",
        got: u32::from(got),
        speed,
    })
}

/// Checks the first 8 bytes of the device descriptor, which a host reads first.
pub(super) fn check_device_head(bytes: &[u8], speed: Speed) -> Result<(), DescriptorError> {
    let short = E::Short {
        what: "device",
        len: bytes.len(),
    };
    let head = bytes.get(..8).ok_or(short)?;
    if head[1] != DEVICE {
        return Err(E::Type {
            what: "device",
            got: head[1],
        });
    }
    check_packet0(head[7], speed)
}

/// wTotalLength of a configuration or BOS descriptor.
pub(super) fn total_length(
    bytes: &[u8],
    what: &'static str,
    kind: u8,
) -> Result<u16, DescriptorError> {
    let len = if kind == CONFIG { 9 } else { 5 };
    let head = head(bytes, what, kind, len)?;
    let total = u16_at(head, 2);
    if usize::from(total) < len {
        return Err(E::Short {
            what,
            len: usize::from(total),
        });
    }
    Ok(total)
}

/// A bulk endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BulkEndpoint {
    /// bEndpointAddress.
    pub(super) address: u8,
    /// Bytes per packet.
    pub(super) packet: u16,
}

impl BulkEndpoint {
    /// For a state that comes from outside.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        let packet = u64::from(self.packet);
        at_most("bytes of a packet", packet.wrapping_sub(1), MAX_PACKET - 1)
    }
}

/// Largest packet of a bulk endpoint, at any speed.
const MAX_PACKET: u64 = 1024;

impl Configuration {
    /// For a state that comes from outside.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        let mut bulk = self.bulk_in.iter().chain(&self.bulk_out);
        bulk.try_for_each(BulkEndpoint::check)
    }
}

/// What the host needs of a configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Configuration {
    pub(super) value: u8,
    pub(super) interfaces: u8,
    pub(super) bulk_in: Option<BulkEndpoint>,
    pub(super) bulk_out: Option<BulkEndpoint>,
}

/// Descriptors one after the other, each with its bLength.
fn split(bytes: &[u8]) -> impl Iterator<Item = Result<&[u8], DescriptorError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let len = usize::from(*rest.first()?);
        match rest.split_at_checked(len) {
            Some((d, tail)) if len >= 2 => {
                rest = tail;
                Some(Ok(d))
            }
            _ => {
                let len = rest.len();
                rest = &[];
                Some(Err(E::Short {
                    what: "a nested",
                    len,
                }))
            }
        }
    })
}

impl Configuration {
    /// Parses a configuration descriptor with all that it contains.
    pub(super) fn parse(bytes: &[u8], speed: Speed) -> Result<Self, DescriptorError> {
        let total = usize::from(total_length(bytes, "configuration", CONFIG)?);
        let bytes = bytes.get(..total).ok_or(E::Count {
            what: "wTotalLength",
            said: total,
            found: bytes.len(),
        })?;
        let mut config = Configuration {
            value: bytes[5],
            interfaces: bytes[4],
            ..Configuration::default()
        };
        let mut interfaces = 0;
        // Endpoints that the current interface announced, and those found.
        let mut announced = 0;
        let mut endpoints = 0;
        let mut companion_due = false;
        for d in split(&bytes[usize::from(bytes[0]).min(total)..]) {
            let d = d?;
            if companion_due && d[1] != SS_COMPANION {
                return Err(NO_COMPANION);
            }
            companion_due = false;
            match d[1] {
                INTERFACE => {
                    let d = head(d, "interface", INTERFACE, 9)?;
                    count("bNumEndpoints", announced, endpoints)?;
                    interfaces += usize::from(d[3] == 0);
                    (announced, endpoints) = (usize::from(d[4]), 0);
                }
                ENDPOINT => {
                    let d = head(d, "endpoint", ENDPOINT, 7)?;
                    endpoints += 1;
                    companion_due = speed == Speed::Super;
                    config.add(d, speed)?;
                }
                SS_COMPANION => {
                    let d = head(d, "SuperSpeed companion", SS_COMPANION, 6)?;
                    if d[2] > 15 {
                        return Err(E::Value {
                            what: "bMaxBurst",
                            got: u32::from(d[2]),
                            speed,
                        });
                    }
                }
                _ => {}
            }
        }
        if companion_due {
            return Err(NO_COMPANION);
        }
        count("bNumEndpoints", announced, endpoints)?;
        count("bNumInterfaces", usize::from(config.interfaces), interfaces)?;
        Ok(config)
    }

    fn add(&mut self, d: &[u8], speed: Speed) -> Result<(), DescriptorError> {
        let (address, attributes, packet) = (d[2], d[3], u16_at(d, 4));
        let value = |what, got: u16| E::Value {
            what,
            got: u32::from(got),
            speed,
        };
        if address & 0x0f == 0 || address & 0x70 != 0 {
            return Err(value("bEndpointAddress", u16::from(address)));
        }
        if attributes & 3 != 2 {
            return Ok(());
        }
        let fine = match speed {
            Speed::Full => matches!(packet, 8 | 16 | 32 | 64),
            Speed::High | Speed::Super => packet == speed.bulk_packet(),
        };
        if !fine {
            return Err(value("wMaxPacketSize of a bulk endpoint", packet));
        }
        let slot = if address & 0x80 != 0 {
            &mut self.bulk_in
        } else {
            &mut self.bulk_out
        };
        slot.get_or_insert(BulkEndpoint { address, packet });
        Ok(())
    }
}

const NO_COMPANION: DescriptorError = E::Missing {
    what: "SuperSpeed endpoint companion descriptor",
};

fn count(what: &'static str, said: usize, found: usize) -> Result<(), DescriptorError> {
    if said == found {
        return Ok(());
    }
    Err(E::Count { what, said, found })
}

/// Checks a BOS descriptor with all that it contains. A SuperSpeed device has a SuperSpeed
/// capability.
pub(super) fn check_bos(bytes: &[u8], speed: Speed) -> Result<(), DescriptorError> {
    let total = usize::from(total_length(bytes, "BOS", BOS)?);
    let all = bytes.get(..total).ok_or(E::Count {
        what: "wTotalLength",
        said: total,
        found: bytes.len(),
    })?;
    let mut found = 0;
    let mut super_speed = false;
    for d in split(&all[usize::from(all[0]).min(total)..]) {
        let d = head(d?, "device capability", CAPABILITY, 3)?;
        found += 1;
        super_speed |= d[2] == CAPABILITY_SUPER_SPEED;
    }
    count("bNumDeviceCaps", usize::from(all[4]), found)?;
    if speed == Speed::Super && !super_speed {
        return Err(E::Missing {
            what: "SuperSpeed device capability",
        });
    }
    Ok(())
}

/// The text of a string descriptor.
pub(super) fn parse_string(bytes: &[u8]) -> Result<String, DescriptorError> {
    let len = usize::from(head(bytes, "string", STRING, 2)?[0]);
    let text = bytes.get(2..len).ok_or(E::Short {
        what: "string",
        len: bytes.len(),
    })?;
    let units = text.chunks_exact(2).map(|unit| u16_at(unit, 0));
    Ok(char::decode_utf16(units)
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect())
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A device descriptor as a gadget has at `speed`.
    pub(in crate::usb) fn device(speed: Speed) -> Vec<u8> {
        let (usb, packet0) = match speed {
            Speed::Super => (0x0320_u16, 9),
            Speed::High | Speed::Full => (0x0200, 64),
        };
        let [u0, u1] = usb.to_le_bytes();
        vec![
            18, DEVICE, u0, u1, 0, 0, 0, packet0, 0x6b, 0x1d, 4, 1, 0, 0, 1, 0, 2, 1,
        ]
    }

    /// A configuration with bulk endpoints 0x81 and 0x02.
    pub(in crate::usb) fn config(speed: Speed) -> Vec<u8> {
        let [p0, p1] = speed.bulk_packet().to_le_bytes();
        let mut d = vec![9, CONFIG, 0, 0, 1, 5, 0, 0x80, 1];
        d.extend([9, INTERFACE, 0, 0, 2, 0xff, 0, 0, 0]);
        for address in [0x81, 0x02] {
            d.extend([7, ENDPOINT, address, 2, p0, p1, 0]);
            if speed == Speed::Super {
                d.extend([6, SS_COMPANION, 3, 0, 0, 0]);
            }
        }
        d[2] = u8::try_from(d.len()).unwrap();
        d
    }

    /// A BOS descriptor with a USB 2.0 extension and a SuperSpeed capability.
    pub(in crate::usb) fn bos() -> Vec<u8> {
        let mut d = vec![5, BOS, 22, 0, 2];
        d.extend([7, CAPABILITY, 2, 2, 0, 0, 0]);
        d.extend([10, CAPABILITY, 3, 0, 15, 0, 1, 10, 0xff, 1]);
        d
    }

    #[test]
    fn good_descriptors_are_understood() {
        for speed in [Speed::Super, Speed::High] {
            let d = DeviceDescriptor::parse(&device(speed), speed).unwrap();
            assert_eq!((d.vendor, d.product), (0x1d6b, 0x0104));
            assert_eq!(d.strings, [1, 0, 2]);
            let c = Configuration::parse(&config(speed), speed).unwrap();
            let packet = speed.bulk_packet();
            let endpoint = |address| Some(BulkEndpoint { address, packet });
            assert_eq!((c.value, c.interfaces), (5, 1));
            assert_eq!((c.bulk_in, c.bulk_out), (endpoint(0x81), endpoint(0x02)));
            assert_eq!(check_bos(&bos(), speed), Ok(()));
        }
        let text = [10, STRING, b'U', 0, 0x3d, 0xd8, 0x00, 0xde, b'B', 0];
        assert_eq!(parse_string(&text).unwrap(), "U\u{1f600}B");
    }

    #[test]
    fn a_descriptor_for_another_speed_is_refused() {
        for (is, at) in [(Speed::Super, Speed::High), (Speed::High, Speed::Super)] {
            assert!(check_device_head(&device(is), at).is_err());
            assert!(DeviceDescriptor::parse(&device(is), at).is_err());
            assert!(Configuration::parse(&config(is), at).is_err());
        }
        assert!(check_bos(&bos()[..12], Speed::Super).is_err());
    }

    #[test]
    fn each_wrong_field_is_named() {
        let broken = |at: usize, value: u8| {
            let mut d = config(Speed::Super);
            d[at] = value;
            Configuration::parse(&d, Speed::Super)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(broken(1, 4), "configuration descriptor has type 4");
        assert_eq!(broken(2, 45), "wTotalLength says 45, but there are 44");
        assert_eq!(broken(4, 2), "bNumInterfaces says 2, but there are 1");
        assert_eq!(broken(13, 3), "bNumEndpoints says 3, but there are 2");
        assert!(broken(20, 0x80).starts_with("bEndpointAddress is 0x80"));
        assert!(broken(23, 2).starts_with("wMaxPacketSize of a bulk endpoint is 0x200"));
        assert_eq!(
            broken(26, 99),
            "SuperSpeed endpoint companion descriptor is missing"
        );
        assert!(broken(27, 16).starts_with("bMaxBurst is 0x10"));
        assert_eq!(broken(31, 0), "a nested descriptor is too short (13 bytes)");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(
            mut bytes in prop::collection::vec(any::<u8>(), 0..80),
            kind in prop::sample::select(vec![DEVICE, CONFIG, STRING, BOS]),
        ) {
            if let [_, k, ..] = bytes.as_mut_slice() {
                *k = kind;
            }
            for speed in [Speed::Full, Speed::High, Speed::Super] {
                let _ = check_device_head(&bytes, speed);
                let _ = DeviceDescriptor::parse(&bytes, speed);
                let _ = Configuration::parse(&bytes, speed);
                let _ = check_bos(&bytes, speed);
                let _ = parse_string(&bytes);
            }
        }

        #[test]
        fn any_damage_is_survived(at in 0usize..44, value: u8, len in 0usize..=44) {
            let mut d = config(Speed::Super);
            d[at] = value;
            let _ = Configuration::parse(&d[..len], Speed::Super);
        }
    }
}
