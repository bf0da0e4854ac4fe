// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Logs of runs that never were, for tests of whatever reads logs.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use staleline_devices::events::{Event, Witness as _};
use staleline_devices::soc::report::Names;
use staleline_events::{Tag, append, begin};

use super::{EventLog, Filter, Head, Recording};

/// Writes a log of these events of a machine with an AXI-DMAC and a DWC3, each with its time. The runner
/// has made the steps before; they are JSON.
///
/// # Errors
/// Those of the file.
pub fn write_log(
    path: &Path,
    steps: &[&str],
    events: &[(u64, Event)],
    limit: u64,
) -> io::Result<()> {
    let mut file = File::create(path)?;
    begin(&mut file)?;
    for step in steps {
        append(&mut file, Tag::RUN, 1, step.as_bytes())?;
    }
    let recording = Recording {
        path: path.to_owned(),
        filter: Filter::default(),
        limit,
    };
    let names = Names {
        masters: vec!["axi-dmac-rx".into(), "dwc3".into()],
        devices: vec!["axi-dmac-rx".into(), "dwc3".into()],
        interrupts: vec![(3, "axi-dmac-rx".into())],
        windows: 0x5000_0000,
    };
    let head = Head {
        names,
        filter: recording.filter,
        limit,
    };
    let sites = Arc::new(Mutex::new(vec![0, 0xffff_8000_8001_0014, 0x40_1000]));
    let mut log = EventLog::open(&recording, &head, sites)?;
    for (at, event) in events {
        log.event(*at, event);
    }
    log.end();
    Ok(())
}
