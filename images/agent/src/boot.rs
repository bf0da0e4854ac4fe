// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What an init owes the machine: the plan, the end.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;

use rustix::system::RebootCommand;
use rustix::thread::{CpuSet, sched_setaffinity};
use staleline_guest::{Context, Error};
use staleline_protocol::plan::Plan;
use staleline_protocol::report::Report;

use crate::error::Trouble;

/// Where the kernel shows `/chosen/staleline,plan` (`staleline_protocol::plan::FDT_PROPERTY`).
pub const PLAN: &str = "/sys/firmware/devicetree/base/chosen/staleline,plan";

/// Reads the plan; `None` if the device tree holds none.
pub fn plan() -> Result<Option<Plan>, Trouble> {
    let bytes = match fs::read(PLAN) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.file("read", PLAN)?,
    };
    let plan = parse(&bytes)?;
    plan.check(page_size() as u64)?;
    Ok(Some(plan))
}

/// A device-tree string may end with a NUL.
fn parse(bytes: &[u8]) -> Result<Plan, Trouble> {
    let text = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    serde_json::from_slice(text).map_err(|source| Trouble::Json { path: PLAN, source })
}

/// Page size in bytes.
pub fn page_size() -> usize {
    rustix::param::page_size()
}

/// Who and where we are, for symbolising program counters. Needs `Proc`.
pub fn process() -> Result<Report, Error> {
    const EXE: &str = "/proc/self/exe";
    const MAPS: &str = "/proc/self/maps";
    let mut header = [0; 18];
    fs::File::open(EXE)
        .and_then(|f| f.read_exact_at(&mut header, 0))
        .file("read", EXE)?;
    let load_bias = if is_position_independent(&header) {
        let maps = fs::read_to_string(MAPS).file("read", MAPS)?;
        let init = fs::read_link(EXE).file("read", EXE)?;
        load_address(&maps, &init.to_string_lossy()).ok_or_else(|| Error::Missing {
            what: format!("mapping of {} in {MAPS}", init.display()),
            hint: "was /init removed while it ran?",
        })?
    } else {
        0
    };
    Ok(Report::Process {
        pid: std::process::id(),
        load_bias,
    })
}

/// Whether an ELF header is that of an ET_DYN file (e_type, 2 bytes at 16, is 3). Such a file is
/// linked at address 0.
fn is_position_independent(header: &[u8; 18]) -> bool {
    u16::from_le_bytes([header[16], header[17]]) == 3
}

/// Where the first byte of `file` is mapped, from the text of /proc/PID/maps.
fn load_address(maps: &str, file: &str) -> Option<u64> {
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let start = fields.next()?.split('-').next()?;
        let offset = fields.nth(1)?;
        let path = fields.nth(2)?;
        (path == file && u64::from_str_radix(offset, 16) == Ok(0))
            .then(|| u64::from_str_radix(start, 16).ok())
            .flatten()
    })
}

/// The console that the kernel gave to /init as its standard output. Unbuffered and lock-free, so
/// that a panic hook can use it.
#[derive(Debug, Clone, Copy)]
pub struct Console;

impl Write for Console {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stdout(), buf)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(rustix::termios::tcdrain(rustix::stdio::stdout())?)
    }
}

/// Keeps this process, and what it starts from now on, on one CPU.
pub fn stay_on(cpu: u8) -> Result<(), Error> {
    let mut set = CpuSet::new();
    set.set(cpu.into());
    sched_setaffinity(None, &set).call("sched_setaffinity", format!("CPU {cpu}"))
}

/// Ends the run once the console has taken everything.
pub fn power_off() -> ! {
    // A console that cannot drain must not keep the machine on.
    let _ = Console.flush();
    let e = rustix::system::reboot(RebootCommand::PowerOff);
    let _ = writeln!(Console, "Bail out! cannot power off: {e:?}");
    // The kernel panics when init ends, which at least ends the run.
    std::process::exit(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_parse_with_and_without_nul() {
        let text = br#"{"schema":1,"seed":3,"transfer":null}"#;
        let with_nul = [text.as_slice(), &[0]].concat();
        assert_eq!(parse(text).unwrap(), parse(&with_nul).unwrap());
        assert_eq!(parse(text).unwrap().seed, 3);
        assert!(parse(b"").is_err());
        assert!(
            parse(br#"{"schema":1}"#)
                .unwrap_err()
                .to_string()
                .contains("seed")
        );
    }

    #[test]
    fn load_address_is_that_of_offset_zero() {
        let maps = "00400000-00480000 r-xp 00001000 00:02 12 /init\n\
                    7f0000-7f1000 r--p 00000000 00:02 13 /other\n\
                    aaaa0000-aaab0000 r--p 00000000 00:02 12 /init\n\
                    ffff0000-ffff1000 rw-p 00000000 00:00 0\n";
        assert_eq!(load_address(maps, "/init"), Some(0xaaaa_0000));
        assert_eq!(load_address(maps, "/elsewhere"), None);
        assert_eq!(load_address("", "/init"), None);
    }
}
