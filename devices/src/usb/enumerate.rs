// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Enumeration: the requests by which a host gets to know a device and configures it.

use serde::{Deserialize, Serialize};

use super::control::{ControlTransfer, MAX_DATA, Progress, Setup};
use super::descriptor::{
    self, BOS, CONFIG, Configuration, DEVICE, DescriptorError, DeviceDescriptor, STRING,
};
use super::report::{Enumeration, UsbHostReport};
use super::{Speed, UsbPort};
use crate::state::{Invalid, no_longer};

/// Standard requests (USB 2.0, table 9-4; USB 3.2, table 9-5).
const GET_STATUS: u8 = 0;
const SET_ADDRESS: u8 = 5;
const GET_DESCRIPTOR: u8 = 6;
const GET_CONFIGURATION: u8 = 8;
const SET_CONFIGURATION: u8 = 9;
const SET_SEL: u8 = 48;
const SET_ISOCH_DELAY: u8 = 49;
const TO_DEVICE: u8 = 0x00;
const FROM_DEVICE: u8 = 0x80;

/// The only device on the bus gets this address.
const ADDRESS: u16 = 1;
/// Isochronous delay of a root port, in ns, as Linux sets it.
const ISOCH_DELAY: u16 = 40;
/// U1SEL, U1PEL in µs, then U2SEL, U2PEL in µs as 16 bits.
const EXIT_LATENCIES: [u8; 6] = [10, 5, 0, 1, 0, 1];
/// English (United States), if a device lists no language.
const LANGUAGE: u16 = 0x0409;

/// Each request of the sequence. Lengths come from the answer before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Request {
    DeviceHead,
    SetAddress,
    Device,
    IsochDelay,
    BosHead,
    Bos(u16),
    ConfigHead,
    Config(u16),
    Languages,
    Text(usize),
    SetSel,
    SetConfiguration,
    GetConfiguration,
    Status,
}

/// What came of one use of the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EnumeratorEvent {
    Moved,
    Waiting,
    Done,
    /// The report tells why.
    Failed,
}

/// An enumeration under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Enumerator {
    speed: Speed,
    request: Request,
    control: ControlTransfer,
    device: DeviceDescriptor,
    language: u16,
    config: Configuration,
    facts: Enumeration,
}

impl Enumerator {
    /// For a device that has just been reset.
    pub(super) fn new(speed: Speed) -> Self {
        let device = DeviceDescriptor::default();
        let config = Configuration::default();
        let request = Request::DeviceHead;
        Enumerator {
            speed,
            request,
            control: transfer(request, &device, &config, LANGUAGE),
            device,
            language: LANGUAGE,
            config,
            facts: Enumeration {
                speed,
                ..Enumeration::default()
            },
        }
    }

    /// For a state that comes from outside.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        if let Request::Text(n) = self.request {
            no_longer("string asked for", n, self.device.strings.len() - 1)?;
        }
        self.config.check()?;
        self.control.check()
    }

    /// The configuration that was set, and what to report.
    pub(super) fn into_result(self) -> (Configuration, Enumeration) {
        (self.config, self.facts)
    }

    /// Uses the port once.
    pub(super) fn advance(
        &mut self,
        port: &mut dyn UsbPort,
        report: &mut UsbHostReport,
    ) -> EnumeratorEvent {
        let next = match self.control.advance(port) {
            Progress::Moved => return EnumeratorEvent::Moved,
            Progress::Waiting => return EnumeratorEvent::Waiting,
            Progress::Disconnected => {
                return self.failed(report, "the device has gone");
            }
            Progress::Overflow => return self.failed(report, "babble"),
            Progress::Stalled => match self.without() {
                Some(next) => {
                    if self.request != Request::BosHead || self.speed == Speed::Super {
                        let request = self.request;
                        report.error(format!("enumeration: {request:?} was refused (STALL)"));
                    }
                    Some(next)
                }
                None => return self.failed(report, "refused (STALL)"),
            },
            Progress::Done => match self.take() {
                Ok(next) => next,
                Err(e) => return self.failed(report, &e.to_string()),
            },
        };
        match next {
            Some(request) => {
                self.request = request;
                self.control = transfer(request, &self.device, &self.config, self.language);
                EnumeratorEvent::Moved
            }
            None => EnumeratorEvent::Done,
        }
    }

    fn failed(&self, report: &mut UsbHostReport, why: &str) -> EnumeratorEvent {
        let (request, bytes) = (self.request, self.control.setup().bytes());
        report.error(format!("enumeration: {request:?} {bytes:02x?}: {why}"));
        EnumeratorEvent::Failed
    }

    /// How to go on if the request is refused; `None` if it is indispensable.
    fn without(&self) -> Option<Request> {
        match self.request {
            Request::BosHead | Request::Bos(_) => Some(Request::ConfigHead),
            Request::Languages => Some(self.sel()),
            Request::Text(n) => Some(self.text_after(n)),
            Request::IsochDelay | Request::SetSel => self.after(),
            _ => None,
        }
    }

    /// The next string to read.
    fn text_after(&self, n: usize) -> Request {
        (n + 1..self.device.strings.len())
            .find(|&n| self.device.strings[n] != 0)
            .map_or_else(|| self.sel(), Request::Text)
    }

    fn sel(&self) -> Request {
        match self.speed {
            Speed::Super => Request::SetSel,
            Speed::High | Speed::Full => Request::SetConfiguration,
        }
    }

    /// The request after the current one where that does not depend on its answer.
    fn after(&self) -> Option<Request> {
        match self.request {
            Request::DeviceHead => Some(Request::SetAddress),
            Request::SetAddress => Some(Request::Device),
            Request::Device if self.speed == Speed::Super => Some(Request::IsochDelay),
            // Older devices have no BOS descriptor (USB 3.2, 9.6.2).
            Request::Device if self.device.usb < 0x0201 => Some(Request::ConfigHead),
            Request::Device | Request::IsochDelay => Some(Request::BosHead),
            Request::BosHead | Request::Bos(_) => Some(Request::ConfigHead),
            Request::ConfigHead => None,
            Request::Config(_) if self.device.strings == [0; 3] => Some(self.sel()),
            Request::Config(_) => Some(Request::Languages),
            Request::Languages => {
                let first = self.device.strings.iter().position(|&s| s != 0);
                Some(first.map_or_else(|| self.sel(), Request::Text))
            }
            Request::Text(n) => Some(self.text_after(n)),
            Request::SetSel => Some(Request::SetConfiguration),
            Request::SetConfiguration => Some(Request::GetConfiguration),
            Request::GetConfiguration => Some(Request::Status),
            Request::Status => None,
        }
    }

    /// Takes the answer to the current request. Returns the next one, `None` at the end.
    fn take(&mut self) -> Result<Option<Request>, DescriptorError> {
        let data = self.control.data();
        match self.request {
            Request::DeviceHead => descriptor::check_device_head(data, self.speed)?,
            Request::Device => {
                self.device = DeviceDescriptor::parse(data, self.speed)?;
                self.facts.usb = self.device.usb;
                self.facts.vendor = self.device.vendor;
                self.facts.product = self.device.product;
            }
            Request::BosHead => {
                let total = descriptor::total_length(data, "BOS", BOS)?;
                return Ok(Some(Request::Bos(total)));
            }
            Request::Bos(_) => descriptor::check_bos(data, self.speed)?,
            Request::ConfigHead => {
                let total = descriptor::total_length(data, "configuration", CONFIG)?;
                return Ok(Some(Request::Config(total)));
            }
            Request::Config(_) => {
                self.config = Configuration::parse(data, self.speed)?;
                self.facts.configuration = self.config.value;
                self.facts.interfaces = self.config.interfaces;
                self.facts.bulk_in = self.config.bulk_in.map(|e| e.address);
                self.facts.bulk_out = self.config.bulk_out.map(|e| e.address);
            }
            Request::Languages => {
                if let Some(&[low, high]) = data.get(2..4).and_then(|l| l.first_chunk::<2>()) {
                    self.language = u16::from_le_bytes([low, high]);
                }
            }
            Request::Text(n) => {
                let text = descriptor::parse_string(data)?;
                if let Some(slot) = self.facts.strings.get_mut(n) {
                    *slot = Some(text);
                }
            }
            Request::GetConfiguration => {
                if data != [self.config.value] {
                    return Err(DescriptorError::Value {
                        what: "the current configuration",
                        got: data.first().copied().map_or(0, u32::from),
                        speed: self.speed,
                    });
                }
            }
            Request::Status => {
                if data.len() != 2 {
                    return Err(DescriptorError::Short {
                        what: "status, which is no",
                        len: data.len(),
                    });
                }
            }
            Request::SetAddress
            | Request::IsochDelay
            | Request::SetSel
            | Request::SetConfiguration => {}
        }
        Ok(self.after())
    }
}

/// The control transfer of a request.
fn transfer(
    request: Request,
    device: &DeviceDescriptor,
    config: &Configuration,
    language: u16,
) -> ControlTransfer {
    let setup = |kind, request, value, index, length| Setup {
        kind,
        request,
        value,
        index,
        length,
    };
    let get = |descriptor: u8, number: u8, index, length| {
        let value = u16::from(descriptor) << 8 | u16::from(number);
        setup(FROM_DEVICE, GET_DESCRIPTOR, value, index, length)
    };
    let set = |request, value| setup(TO_DEVICE, request, value, 0, 0);
    let setup = match request {
        Request::DeviceHead => get(DEVICE, 0, 0, 8),
        Request::SetAddress => set(SET_ADDRESS, ADDRESS),
        Request::Device => get(DEVICE, 0, 0, 18),
        Request::IsochDelay => set(SET_ISOCH_DELAY, ISOCH_DELAY),
        Request::BosHead => get(BOS, 0, 0, 5),
        Request::Bos(total) => get(BOS, 0, 0, total.min(MAX_DATA)),
        Request::ConfigHead => get(CONFIG, 0, 0, 9),
        Request::Config(total) => get(CONFIG, 0, 0, total.min(MAX_DATA)),
        Request::Languages => get(STRING, 0, 0, 255),
        Request::Text(n) => {
            let number = device.strings.get(n).copied().unwrap_or_default();
            get(STRING, number, language, 255)
        }
        Request::SetSel => {
            let setup = setup(TO_DEVICE, SET_SEL, 0, 0, 0);
            return ControlTransfer::sending(setup, &EXIT_LATENCIES);
        }
        Request::SetConfiguration => set(SET_CONFIGURATION, u16::from(config.value)),
        Request::GetConfiguration => setup(FROM_DEVICE, GET_CONFIGURATION, 0, 0, 1),
        Request::Status => setup(FROM_DEVICE, GET_STATUS, 0, 0, 2),
    };
    ControlTransfer::new(setup)
}
