// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Machine-readable lines among the agent's KTAP output: a KTAP diagnostic line that starts with
//! [`PREFIX`] and goes on with one JSON object.

use serde::{Deserialize, Serialize};

/// Start of a report line; what follows is the JSON of one [`Report`].
pub const PREFIX: &str = "# staleline: ";

/// The line of the agent's KTAP that says that it is there. The scenario's first step comes next.
pub const BOOTED: &str = "ok 1 boot";

/// A report of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "kebab-case")]
pub enum Report {
    /// A DMABUF was allocated.
    Buffer {
        /// Order of allocation, from 0.
        index: u32,
        /// Exporter name.
        exporter: String,
        /// Size in bytes.
        bytes: u64,
        /// Physical extents `(first byte, length)`, if the guest could tell; in buffer order.
        extents: Vec<(u64, u64)>,
        /// Where user space mapped it.
        va: u64,
    },
    /// A DMABUF was attached to a device.
    Attached {
        /// Order of allocation, from 0.
        buffer: u32,
        /// Where the device is attached to user space, for example `iio:device0 buffer 0`.
        to: String,
    },
    /// The kernel would not attach a DMABUF to a device, for the sake of what they are ([`refusal`]). The
    /// transfer was given up before any data was moved.
    Refused {
        /// Order of allocation, from 0.
        buffer: u32,
        /// What the device is called, as in [`Report::Attached`].
        to: String,
        /// The error, a number of errno.
        error: i32,
    },
    /// User space checked data against the pattern; or dmatest a copy against its own, of which there
    /// is one a frame, and no byte if it failed otherwise.
    Data {
        /// Frame number from 0.
        frame: u32,
        /// DMABUF index; 0 where user space has an ordinary buffer (FunctionFS read and write).
        buffer: u32,
        /// Bytes compared.
        bytes: u64,
        /// Bytes that were wrong.
        corrupt: u64,
        /// Stream offset in bytes of the first wrong one.
        first_corrupt: Option<u64>,
    },
    /// The agent's own process, for symbolising user-space program counters.
    Process {
        /// Process ID.
        pid: u32,
        /// Load bias of the agent's ELF file.
        load_bias: u64,
    },
    /// The user's program wrote something.
    Output {
        /// Where to.
        stream: Stream,
        /// The bytes, each as the character of that number.
        text: String,
    },
    /// Executable parts of a file that a process of the user's program has mapped, told when it ends.
    Mapped {
        /// Process ID.
        pid: u32,
        /// What the kernel calls it: the program's name, cut after 15 bytes.
        task: String,
        /// The file, as the guest calls it.
        file: String,
        /// First address, one past the last, and the place in the file of the first, each in bytes.
        parts: Vec<(u64, u64, u64)>,
    },
    /// The user's program has ended.
    Exited {
        /// Its exit code, unless a signal ended it.
        code: Option<i32>,
        /// That signal.
        signal: Option<i32>,
        /// Processes that it has started and that were still there: they are ended with it.
        #[serde(default, skip_serializing_if = "is_zero")]
        left: u32,
    },
    /// Where the kernel has put the code of a module, told once that is known: while its init runs, or
    /// after it.
    Module {
        /// What the kernel calls it.
        name: String,
        /// Its file, as the guest calls it; unknown of a module that the agent has not inserted.
        file: Option<String>,
        /// Name and first address of each section with code. Those of its init were there only as long
        /// as that ran.
        sections: Vec<(String, u64)>,
    },
    /// A module of the plan is in, or its init has failed.
    Inserted {
        /// What the kernel calls it.
        name: String,
        /// The error of its init, if it had one.
        error: Option<i32>,
        /// What the kernel said meanwhile, a message each, if that was an error.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        said: Vec<String>,
    },
    /// The plan could not be carried out; the run proves nothing about coherency.
    Broken {
        /// The step that failed and why.
        what: String,
    },
}

/// Errors with which kernels say that a device cannot share a DMABUF with those that have it already, or
/// cannot reach it: no shortage, and no mistake in the call. `EIO` is what the DMA API has for a mapping that
/// it does not make.
pub const REFUSALS: [(i32, &str); 4] = [
    (5, "EIO"),
    (18, "EXDEV"),
    (95, "EOPNOTSUPP"),
    (121, "EREMOTEIO"),
];

// serde hands over a reference.
#[expect(clippy::trivially_copy_pass_by_ref)]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// The name of an error, a number of errno, if an attachment that fails with it was refused.
pub fn refusal(error: i32) -> Option<&'static str> {
    let mut known = REFUSALS.iter();
    known
        .find(|(code, _)| *code == error)
        .map(|(_, name)| *name)
}

/// An output of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Bytes as text that JSON can hold and people can read: each is the character of that number.
pub fn text_of(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

/// The bytes again; none if it is no such text.
pub fn bytes_of(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(c).ok()).collect()
}

impl Report {
    /// The line to print, without a newline.
    pub fn to_line(&self) -> String {
        let json = serde_json::to_string(self).unwrap_or_else(|e| {
            format!(r#"{{"report":"broken","what":"report not serialisable: {e}"}}"#)
        });
        format!("{PREFIX}{json}")
    }

    /// Parses a console line; `None` if it is no report line, `Err` if it is a damaged one.
    pub fn from_line(line: &str) -> Option<Result<Report, serde_json::Error>> {
        // The console may put kernel messages or a carriage return around it.
        let at = line.find(PREFIX)?;
        Some(serde_json::from_str(line[at + PREFIX.len()..].trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back() {
        let report = Report::Buffer {
            index: 1,
            exporter: "system".into(),
            bytes: 8192,
            extents: vec![(0x4500_0000, 8192)],
            va: 0x7f00_0000,
        };
        let line = report.to_line();
        assert_eq!(
            Report::from_line(&format!("{line}\r")).unwrap().unwrap(),
            report
        );
        let all: Vec<u8> = (0..=255).collect();
        let output = Report::Output {
            stream: Stream::Stderr,
            text: text_of(&all),
        };
        let line = output.to_line();
        assert!(line.chars().all(|c| c != '\n' && c != '\r'));
        let back = Report::from_line(&line).unwrap().unwrap();
        assert_eq!(back, output);
        assert_eq!(bytes_of(&text_of(&all)), Some(all));
        assert_eq!(bytes_of("\u{100}"), None);
        assert_eq!((refusal(95), refusal(12)), (Some("EOPNOTSUPP"), None));
        assert!(Report::from_line("ok 1 capture").is_none());
        assert!(Report::from_line("# staleline: {").unwrap().is_err());
    }
}
