// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the agent is asked to do. The VMM writes it as JSON into the property
//! [`FDT_PROPERTY`] of `/chosen`; the agent reads it back below `/sys/firmware/devicetree`.

use serde::{Deserialize, Serialize};

mod check;
mod parts;

pub use parts::{Parts, Trailer, TrailerSync, When};

/// Property of `/chosen` that holds the plan as JSON text.
pub const FDT_PROPERTY: &str = "staleline,plan";

/// Version of [`Plan`]; the agent refuses any other.
pub const SCHEMA: u32 = 1;

/// One run of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`SCHEMA`] of the writer.
    pub schema: u32,
    /// Seed of every data pattern of the run.
    pub seed: u64,
    /// The CPU that the agent stays on, from 0; `None` leaves that to the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u8>,
    /// The data path to drive; without one, and without `dmatest`, `disk`, `raw_disk` and `exec`, the guest boots,
    /// takes in what `modules` there are, reports and powers off.
    pub transfer: Option<Transfer>,
    /// Copies to be made by the kernel's own test of DMA engines; not together with `transfer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dmatest: Option<DmaTest>,
    /// Work on the disk that the guest has booted from; not together with the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskTest>,
    /// Patterns to be written to a disk, and read back; not together with the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_disk: Option<RawDisk>,
    /// A program of the user's to be run; not together with the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Exec>,
    /// Modules of the user's, inserted in this order before all else begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<Module>,
}

/// A module of the user's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Module {
    /// What the kernel calls it.
    pub name: String,
    /// Its file, in the guest.
    pub file: String,
    /// Its parameters, as the kernel takes them: `NAME=VALUE`, with spaces between them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parameters: String,
}

/// A program of the user's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Exec {
    /// What to run, as a path in the guest or a name to be found on its `PATH`, and its arguments: at
    /// least one.
    pub argv: Vec<String>,
    /// All of its environment, `NAME=VALUE` each.
    #[serde(default)]
    pub env: Vec<String>,
    /// Its working directory.
    pub dir: String,
    /// A file of the guest that is its standard input; without one, that is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Whether there is to be a USB gadget, bound and configured, when it starts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gadget: bool,
    /// The console is its terminal: its input, output and error, and it may use job control there. Then
    /// `stdin` does not count, nothing is told of what it does, and who switches the machine off from
    /// there has come to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Terminal>,
    /// Whether its standard output is to be the pattern, from its start, as the ADC brings it. It is
    /// compared, told as frame 0, and not passed on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub check_output: bool,
}

/// A terminal's size, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terminal {
    /// Lines.
    pub rows: u16,
    /// Characters in each.
    pub columns: u16,
}

/// Why a plan cannot be carried out as written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Written for another version of the agent.
    #[error("plan has schema {found}, this agent speaks {SCHEMA}: rebuild the initramfs")]
    Schema {
        /// What the plan says.
        found: u32,
    },
    /// A number outside its range.
    #[error("{field} = {value}: {rule}")]
    Range {
        /// Name of the field of [`Transfer`].
        field: &'static str,
        /// What the plan says.
        value: u64,
        /// What is allowed.
        rule: &'static str,
    },
}

impl Plan {
    /// Checks the ranges that the field descriptions promise. `page` is the guest's page size in
    /// bytes.
    pub fn check(&self, page: u64) -> Result<(), PlanError> {
        if self.schema != SCHEMA {
            return Err(PlanError::Schema { found: self.schema });
        }
        if let Some(test) = &self.dmatest {
            test.check()?;
        }
        if let Some(test) = &self.disk {
            test.check(page)?;
        }
        if let Some(test) = &self.raw_disk {
            test.check(page)?;
        }
        if self.exec.as_ref().is_some_and(|exec| exec.argv.is_empty()) {
            return Err(PlanError::Range {
                field: "argv",
                value: 0,
                rule: "must have at least a program",
            });
        }
        self.transfer.as_ref().map_or(Ok(()), |t| t.check(page))
    }
}

/// Copies from memory to memory that dmatest makes, on one channel, and checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DmaTest {
    /// Copies, at least 1, one after the other.
    pub iterations: u32,
    /// Size of each of the two buffers, at least 1.
    pub buffer_bytes: u32,
    /// Whether dmatest chooses lengths and offsets within the buffers; else it copies them whole.
    #[serde(default = "yes")]
    pub random: bool,
}

fn yes() -> bool {
    true
}

impl DmaTest {
    fn check(&self) -> Result<(), PlanError> {
        let fields = [
            ("iterations", self.iterations),
            ("buffer_bytes", self.buffer_bytes),
        ];
        match fields.into_iter().find(|(_, value)| *value == 0) {
            None => Ok(()),
            Some((field, _)) => Err(PlanError::Range {
                field,
                value: 0,
                rule: "must be at least 1",
            }),
        }
    }

    /// Bytes that dmatest checks after each copy: both buffers, with what lies around the data.
    pub fn checked_bytes(&self) -> u64 {
        2 * u64::from(self.buffer_bytes)
    }
}

/// Files read and written on the disk that the guest has booted from, by two ways: past the kernel's
/// page cache (`O_DIRECT`) and through it. Each file that is read and checked is a frame: first
/// [`disk::DATA`](crate::disk::DATA) by either way, then in each round a file written past the cache and
/// read through it, and one written through the cache and read past it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DiskTest {
    /// How often two files are written and read.
    pub rounds: u32,
    /// Size of each, a multiple of the page size.
    pub file_bytes: u32,
}

impl DiskTest {
    fn check(&self, page: u64) -> Result<(), PlanError> {
        let bytes = u64::from(self.file_bytes);
        if bytes > 0 && bytes.is_multiple_of(page) {
            return Ok(());
        }
        Err(PlanError::Range {
            field: "file_bytes",
            value: bytes,
            rule: "must be a multiple of the page size, and not 0",
        })
    }

    /// Files that are checked.
    pub fn frames(&self) -> u32 {
        2 + 2 * self.rounds
    }

    /// Bytes of a frame.
    pub fn bytes_of_frame(&self, frame: u32) -> u64 {
        match frame {
            0 | 1 => crate::disk::DATA_BYTES as u64,
            _ => self.file_bytes.into(),
        }
    }

    /// Bytes of all frames together.
    pub fn total_bytes(&self) -> u64 {
        let written = u64::from(self.rounds) * 2 * u64::from(self.file_bytes);
        2 * crate::disk::DATA_BYTES as u64 + written
    }
}

/// Frames moved along one data path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// From where to where.
    pub path: DataPath,
    /// Who allocates the DMABUFs.
    pub exporter: Exporter,
    /// DMABUFs allocated and used in rotation, at least 1.
    pub buffers: u32,
    /// Frames moved in all, at least 1; more than `buffers` means reuse.
    pub frames: u32,
    /// Size of each DMABUF in bytes, a multiple of the page size.
    pub buffer_bytes: u64,
    /// Bytes moved in each frame, at most `buffer_bytes`, a multiple of 8.
    pub frame_bytes: u64,
    /// Bytes moved in the last frame, if other than `frame_bytes`; same range.
    pub last_frame_bytes: Option<u64>,
    /// Whether user space brackets its own accesses with `DMA_BUF_IOCTL_SYNC`; on device-to-device
    /// paths, whether it uses SYNC between the devices as a work-around.
    pub cpu_sync: bool,
    /// Whether the USB host will cut transfers off: then user space looks at how each one ended
    /// before it goes on with its buffer, and moves a frame again whose transfer was cancelled.
    pub resume: bool,
    /// Whether a DMABUF of two devices is attached to the USB endpoint first.
    #[serde(default)]
    pub usb_first: bool,
    /// Whether a DMABUF is detached before user space reads a frame, and attached again.
    #[serde(default)]
    pub read_detached: bool,
    /// Which parts of memory DMABUFs are, and which of them are the CPU's.
    #[serde(default, skip_serializing_if = "Parts::is_default")]
    pub parts: Parts,
}

/// Patterns on a disk without a file system, written and read past the page cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawDisk {
    /// Its name in /dev.
    pub device: String,
    /// Stretches that are written one behind the other, and then read, at least 1.
    pub rounds: u32,
    /// Bytes of each, a multiple of the page size.
    pub bytes: u32,
}

impl RawDisk {
    fn check(&self, page: u64) -> Result<(), PlanError> {
        let range = |field, value, rule| Err(PlanError::Range { field, value, rule });
        let bytes = u64::from(self.bytes);
        if self.rounds == 0 {
            return range("rounds", 0, "must be at least 1");
        }
        if bytes == 0 || !bytes.is_multiple_of(page) {
            let rule = "must be a multiple of the page size, and not 0";
            return range("bytes", bytes, rule);
        }
        Ok(())
    }

    /// Bytes of all stretches together.
    pub fn total_bytes(&self) -> u64 {
        u64::from(self.rounds) * u64::from(self.bytes)
    }
}

impl Transfer {
    fn check(&self, page: u64) -> Result<(), PlanError> {
        let range = |ok: bool, field, value, rule| {
            if ok {
                Ok(())
            } else {
                Err(PlanError::Range { field, value, rule })
            }
        };
        range(self.buffers > 0, "buffers", 0, "must be at least 1")?;
        range(self.frames > 0, "frames", 0, "must be at least 1")?;
        range(
            self.buffer_bytes > 0 && self.buffer_bytes.is_multiple_of(page),
            "buffer_bytes",
            self.buffer_bytes,
            "must be a positive multiple of the page size",
        )?;
        for (field, bytes) in [
            ("frame_bytes", Some(self.frame_bytes)),
            ("last_frame_bytes", self.last_frame_bytes),
        ] {
            let bytes = bytes.unwrap_or(8);
            range(
                (1..=self.buffer_bytes).contains(&bytes) && bytes.is_multiple_of(8),
                field,
                bytes,
                "must be a multiple of 8 from 8 to buffer_bytes",
            )?;
        }
        self.parts.check(self, page)
    }

    /// Bytes of frame `n`.
    pub fn bytes_of_frame(&self, n: u32) -> u64 {
        match self.last_frame_bytes {
            Some(last) if n + 1 == self.frames => last,
            _ => self.frame_bytes,
        }
    }

    /// Bytes of all frames.
    pub fn total_bytes(&self) -> u64 {
        (0..self.frames).map(|n| self.bytes_of_frame(n)).sum()
    }
}

/// A data path through the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataPath {
    /// ADC to a DMABUF; user space checks it through its mapping.
    IioCapture,
    /// User space fills a DMABUF through its mapping; DAC plays it.
    IioPlayback,
    /// USB host to the gadget and back, through FunctionFS read and write.
    UsbLoopback,
    /// ADC to a DMABUF to the USB host, without the CPU.
    IioToUsb,
    /// USB host to a DMABUF to the DAC, without the CPU.
    UsbToIio,
}

impl DataPath {
    /// All paths.
    pub const ALL: [DataPath; 5] = [
        DataPath::IioCapture,
        DataPath::IioPlayback,
        DataPath::UsbLoopback,
        DataPath::IioToUsb,
        DataPath::UsbToIio,
    ];

    /// Whether the USB controller takes part.
    pub fn uses_usb(self) -> bool {
        matches!(
            self,
            DataPath::UsbLoopback | DataPath::IioToUsb | DataPath::UsbToIio
        )
    }
}

/// Who allocates a DMABUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exporter {
    /// `/dev/udmabuf` over a memfd.
    Udmabuf,
    /// `/dev/dma_heap/system`.
    System,
    /// The default CMA heap.
    Cma,
    /// `/dev/dma_heap/iio`: no kernel has it as it is, but those in which IIO exports buffers and
    /// synchronises them itself.
    Iio,
}

impl Exporter {
    /// All exporters.
    pub const ALL: [Exporter; 4] = [
        Exporter::Udmabuf,
        Exporter::System,
        Exporter::Cma,
        Exporter::Iio,
    ];

    /// Those of kernels as they are.
    pub const MAINLINE: [Exporter; 3] = [Exporter::Udmabuf, Exporter::System, Exporter::Cma];

    /// The name users give on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Exporter::Udmabuf => "udmabuf",
            Exporter::System => "system",
            Exporter::Cma => "cma",
            Exporter::Iio => "iio",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            cpu: None,
            dmatest: None,
            disk: None,
            raw_disk: None,
            exec: None,
            modules: Vec::new(),
            schema: SCHEMA,
            seed: 7,
            transfer: Some(Transfer {
                path: DataPath::IioCapture,
                exporter: Exporter::System,
                buffers: 2,
                frames: 5,
                buffer_bytes: 8192,
                frame_bytes: 8192,
                last_frame_bytes: Some(1000),
                cpu_sync: true,
                resume: false,
                usb_first: false,
                read_detached: false,
                parts: Parts::default(),
            }),
        }
    }

    #[test]
    fn a_plan_survives_json() {
        let json = serde_json::to_string(&plan()).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan());
    }

    #[test]
    fn copies_are_checked_too() {
        let json =
            r#"{"schema":1,"seed":0,"transfer":null,"dmatest":{"iterations":3,"buffer-bytes":64}}"#;
        let mut plan: Plan = serde_json::from_str(json).unwrap();
        assert_eq!(plan.check(4096), Ok(()));
        let test = plan.dmatest.as_mut().unwrap();
        assert!(test.random && test.checked_bytes() == 128);
        test.buffer_bytes = 0;
        let wrong = plan.check(4096);
        assert!(matches!(
            wrong,
            Err(PlanError::Range {
                field: "buffer_bytes",
                ..
            })
        ));
    }

    #[test]
    fn files_have_whole_pages() {
        let json = r#"{"schema":1,"seed":0,"transfer":null,"disk":{"rounds":3,"file-bytes":8192}}"#;
        let mut plan: Plan = serde_json::from_str(json).unwrap();
        assert_eq!(plan.check(4096), Ok(()));
        let test = plan.disk.as_mut().unwrap();
        let frames: u64 = (0..test.frames()).map(|n| test.bytes_of_frame(n)).sum();
        assert_eq!((test.frames(), frames), (8, test.total_bytes()));
        for wrong in [0, 8191] {
            plan.disk.as_mut().unwrap().file_bytes = wrong;
            let field = "file_bytes";
            assert!(
                matches!(plan.check(4096), Err(PlanError::Range { field: f, .. }) if f == field)
            );
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        let json = r#"{"schema":1,"seed":0,"transfer":null,"frobs":1}"#;
        assert!(serde_json::from_str::<Plan>(json).is_err());
    }

    #[test]
    fn only_the_last_frame_is_short() {
        let t = plan().transfer.unwrap();
        assert_eq!(t.bytes_of_frame(3), 8192);
        assert_eq!(t.bytes_of_frame(4), 1000);
        assert_eq!(t.total_bytes(), 4 * 8192 + 1000);
    }

    #[test]
    fn ranges_are_checked() {
        assert_eq!(plan().check(4096), Ok(()));
        let field = |change: fn(&mut Transfer)| {
            let mut p = plan();
            change(p.transfer.as_mut().unwrap());
            match p.check(4096) {
                Err(PlanError::Range { field, .. }) => field,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(field(|t| t.buffers = 0), "buffers");
        assert_eq!(field(|t| t.frames = 0), "frames");
        assert_eq!(field(|t| t.buffer_bytes = 0), "buffer_bytes");
        assert_eq!(field(|t| t.buffer_bytes = 8000), "buffer_bytes");
        assert_eq!(field(|t| t.frame_bytes = 8200), "frame_bytes");
        assert_eq!(field(|t| t.frame_bytes = 0), "frame_bytes");
        assert_eq!(field(|t| t.last_frame_bytes = Some(12)), "last_frame_bytes");
        let schema = Plan {
            schema: 2,
            ..plan()
        };
        assert_eq!(schema.check(4096), Err(PlanError::Schema { found: 2 }));
    }
}
