// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Scenarios: what one run is to do, as a versioned TOML file.

pub mod append;
pub mod board;
pub mod builtin;
mod destination;
pub mod difference;
pub mod exec;
mod faults;
pub mod guest;
pub mod limits;
pub mod modules;
pub mod outside;
mod parts;
mod ranges;
pub mod seed;
pub mod set;
pub mod usb;

use std::path::Path;

use serde::{Deserialize, Serialize};
use staleline_devices::faults::Fault;
use staleline_protocol::plan::{
    self, DataPath, DiskTest, DmaTest, Exporter, Plan, RawDisk, Trailer,
};

use crate::board::settings::BoardSettings;
use crate::events::LogSettings;
use crate::exit::Error;
use crate::names;
use guest::GuestSettings;
use usb::UsbSettings;

/// Version of the scenario format.
pub const SCHEMA: u32 = 1;

/// A scenario file larger than this is refused unread.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// One scenario; see `ci/scenarios/` for examples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// Version of the format: [`SCHEMA`].
    pub schema: u32,
    /// Its name: lower-case letters, digits and dashes.
    pub name: String,
    /// One sentence.
    pub description: String,
    /// Seed of data patterns and of everything random in the models.
    #[serde(default = "default_seed", with = "seed::number")]
    pub seed: u64,
    /// The guest is stopped after so many seconds of host time, 1 to 3600.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u32,
    /// The data path to drive; none: boot and power off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<Transfer>,
    /// Copies that the kernel's dmatest makes, instead of a data path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dmatest: Option<DmaTest>,
    /// The guest boots from the board's disk, and works on it, instead of a data path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskTest>,
    /// Patterns are written to a disk and read back, instead of a data path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_disk: Option<RawDisk>,
    /// The board.
    #[serde(default)]
    pub board: BoardSettings,
    /// The USB host.
    #[serde(default)]
    pub usb: UsbSettings,
    /// What is expected of the guest.
    #[serde(default)]
    pub guest: GuestSettings,
    /// What to break on purpose.
    #[serde(default)]
    pub faults: Faults,
    /// What to keep of what happens.
    #[serde(default, skip_serializing_if = "LogSettings::is_default")]
    pub log: LogSettings,
}

fn default_seed() -> u64 {
    1
}

fn default_timeout() -> u32 {
    120
}

/// The `[transfer]` table; see [`staleline_protocol::plan::Transfer`] for what each means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Transfer {
    /// From where to where.
    pub path: DataPath,
    /// Who allocates the DMABUFs.
    #[serde(default = "default_exporter")]
    pub exporter: Exporter,
    /// DMABUFs used in rotation.
    pub buffers: u32,
    /// Frames moved in all.
    pub frames: u32,
    /// Size of each DMABUF in bytes.
    pub buffer_bytes: u64,
    /// Bytes moved in each frame.
    pub frame_bytes: u64,
    /// Bytes moved in the last frame, if other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_frame_bytes: Option<u64>,
    /// Whether user space uses `DMA_BUF_IOCTL_SYNC`.
    #[serde(default = "default_cpu_sync")]
    pub cpu_sync: bool,
    /// Whether DMABUFs are attached to the USB endpoint before the IIO device.
    #[serde(default, skip_serializing_if = "is_false")]
    pub usb_first: bool,
    /// Whether a DMABUF is detached before user space reads a frame, and attached again.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_detached: bool,
    /// Bytes of the memfd before the first DMABUF on it (udmabuf).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub offset_bytes: u64,
    /// All DMABUFs are on one memfd, each so many bytes behind the one before (udmabuf).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride_bytes: Option<u64>,
    /// In which order frames go to DMABUFs; empty: that of allocation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<u32>,
    /// What the CPU writes behind each frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trailer: Option<Trailer>,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn is_false(value: &bool) -> bool {
    !value
}

fn default_exporter() -> Exporter {
    Exporter::System
}

fn default_cpu_sync() -> bool {
    true
}

/// The `[faults]` table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Faults {
    /// Suppress one maintenance operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop_maintenance: Option<DropMaintenance>,
    /// What else is to go wrong.
    #[serde(
        default,
        deserialize_with = "faults::read",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub inject: Vec<Fault>,
}

/// Which maintenance operation to suppress: `K` or `@N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "DropForm", into = "String")]
pub enum DropMaintenance {
    /// The K-th, from 1, of those that touch memory used for DMA; a pilot run finds it.
    Nth(u32),
    /// Number N, from 1, of all maintenance operations since power-on.
    Number(u32),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected K, a number, or \"@N\"")]
enum DropForm {
    Integer(i64),
    Text(String),
}

impl TryFrom<DropForm> for DropMaintenance {
    type Error = String;

    fn try_from(form: DropForm) -> Result<Self, String> {
        match form {
            DropForm::Integer(k) => k.to_string().parse(),
            DropForm::Text(text) => text.parse(),
        }
    }
}

impl std::str::FromStr for DropMaintenance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (absolute, digits) = match text.strip_prefix('@') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        match digits.parse::<u32>() {
            Ok(n) if n > 0 && absolute => Ok(DropMaintenance::Number(n)),
            Ok(k) if k > 0 => Ok(DropMaintenance::Nth(k)),
            _ => Err(format!(
                "`{text}` is neither K (the K-th operation on DMA memory, from 1) nor @N \
                 (operation N since power-on, from 1)"
            )),
        }
    }
}

impl std::fmt::Display for DropMaintenance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DropMaintenance::Nth(k) => write!(f, "{k}"),
            DropMaintenance::Number(n) => write!(f, "@{n}"),
        }
    }
}

impl From<DropMaintenance> for String {
    fn from(drop: DropMaintenance) -> String {
        drop.to_string()
    }
}

impl Scenario {
    /// Parses and checks a scenario; `origin` is for messages.
    ///
    /// # Errors
    /// [`Error::Syntax`] with the place in the text, or [`Error::Limit`].
    pub fn parse(text: &str, origin: &str) -> Result<Self, Error> {
        let scenario: Scenario = toml::from_str(text).map_err(|e| Error::Syntax {
            origin: origin.to_owned(),
            detail: e.to_string().trim_end().to_owned(),
        })?;
        limits::check(&scenario, origin)?;
        Ok(scenario)
    }

    /// The built-in scenario of that name, or the file of that path.
    ///
    /// # Errors
    /// If there is none, or it is wrong.
    pub fn load(name: &str) -> Result<Self, Error> {
        if let Some(text) = builtin::text(name) {
            return Scenario::parse(text, &format!("built-in scenario {name}"));
        }
        let path = Path::new(name);
        if !(Scenario::is_path(name) || path.is_file()) {
            return Err(Error::UnknownScenario {
                name: name.to_owned(),
                suggestion: names::did_you_mean(name, builtin::names()).map(str::to_owned),
                known: builtin::names().map(str::to_owned).collect(),
            });
        }
        let mut scenario = Scenario::parse(&read_config(path)?, name)?;
        // What it names is named from where it is.
        let base = std::path::absolute(path).map_err(|e| Error::host("no working directory", e))?;
        scenario.guest.anchor(base.parent().unwrap_or(&base));
        Ok(scenario)
    }

    /// Whether that cannot be a built-in scenario's name, and so is a file's.
    pub fn is_path(name: &str) -> bool {
        builtin::text(name).is_none() && (name.ends_with(".toml") || name.contains('/'))
    }

    /// Whether the USB host breaks transfers off, by plan or by a fault, so that frames are moved again.
    pub fn cuts(&self) -> bool {
        self.usb.cuts() || self.faults.inject.iter().any(|fault| fault.is_hosts())
    }

    /// The guest's part of it.
    pub fn plan(&self) -> Plan {
        Plan {
            schema: plan::SCHEMA,
            seed: self.seed,
            cpu: self.guest.cpu,
            transfer: self.transfer.as_ref().map(|t| t.plan(self.cuts())),
            dmatest: self.dmatest.clone(),
            disk: self.disk.clone(),
            raw_disk: self.raw_disk.clone(),
            exec: self.guest.plan(self.seed),
            modules: self.guest.plan_modules(),
        }
    }
}

impl Transfer {
    /// As the guest agent is told; `resume` if the USB host breaks transfers off.
    pub fn plan(&self, resume: bool) -> plan::Transfer {
        plan::Transfer {
            path: self.path,
            exporter: self.exporter,
            buffers: self.buffers,
            frames: self.frames,
            buffer_bytes: self.buffer_bytes,
            frame_bytes: self.frame_bytes,
            last_frame_bytes: self.last_frame_bytes,
            cpu_sync: self.cpu_sync,
            resume,
            usb_first: self.usb_first,
            read_detached: self.read_detached,
            parts: plan::Parts {
                offset_bytes: self.offset_bytes,
                stride_bytes: self.stride_bytes,
                order: self.order.clone(),
                trailer: self.trailer.clone(),
            },
        }
    }
}

/// Reads a configuration file of bounded size.
///
/// # Errors
/// [`Error::Read`].
pub fn read_config(path: &Path) -> Result<String, Error> {
    let read = || {
        let meta = std::fs::metadata(path)?;
        if !meta.is_file() || meta.len() > MAX_FILE_BYTES {
            return Err(std::io::Error::other(format!(
                "not a file of at most {MAX_FILE_BYTES} bytes"
            )));
        }
        std::fs::read_to_string(path)
    };
    read().map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
