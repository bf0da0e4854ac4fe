// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the guest is given for the user's program, and modules: read, and looked at.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use staleline_initramfs::{InitramfsError, Inputs};

use super::provided;
use crate::board::Board;
use crate::board::settings::BoardSettings;
use crate::exit::Error;
use crate::scenario::guest::GuestSettings;

/// What the guest is given for the user's program, and modules, read once: what was looked at before the first run is
/// what all runs get, though somebody may be compiling meanwhile.
pub(super) fn inputs(guest: &GuestSettings, board: &BoardSettings) -> Result<Arc<Inputs>, Error> {
    type Read = (Key, Arc<Inputs>);
    type Key = (GuestSettings, u64);
    static READ: Mutex<Vec<Read>> = Mutex::new(Vec::new());
    // The kernel holds archive and files at once.
    let most = Board::new(board).ram_bytes() / 4;
    // Only what names files.
    let key = GuestSettings {
        exec: guest.exec.get(..1).unwrap_or_default().to_vec(),
        files: guest.files.clone(),
        library_path: guest.library_path.clone(),
        stdin: guest.stdin.clone(),
        root: guest.root.clone(),
        modules: guest.modules.clone(),
        ..GuestSettings::default()
    };
    let key = (key, most);
    let mut all = READ.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, read)) = all.iter().find(|(known, _)| *known == key) {
        return Ok(Arc::clone(read));
    }
    let folder = guest.stdin.as_ref().map(PathBuf::from);
    if let Some(path) = folder.filter(|path| path.is_dir()) {
        let source = std::io::ErrorKind::IsADirectory.into();
        return Err(provided::unreadable(
            guest,
            InitramfsError::io("read", &path)(source),
        ));
    }
    if let Some(path) = guest
        .library_path
        .iter()
        .map(PathBuf::from)
        .find(|p| !p.is_dir())
    {
        return Err(Error::Input {
            path,
            source: std::io::ErrorKind::NotADirectory.into(),
            help: "--library-path DIR (guest.library-path) names a directory with libraries for arm64",
        });
    }
    let places: Vec<PathBuf> = guest.library_path.iter().map(PathBuf::from).collect();
    let mut given = guest.inputs();
    given.extend(guest.module_files());
    let read = Inputs::read(guest.program().as_ref(), &given, &places, most);
    let read = Arc::new(read.map_err(|e| provided::unreadable(guest, e))?);
    all.push((key, Arc::clone(&read)));
    Ok(read)
}

/// That the program is one of the file system that the guest is given, if it is given one.
pub(super) fn can_start(guest: &GuestSettings, given: &Inputs) -> Result<(), Error> {
    // The seed is in the environment, and of no interest here.
    let plan = guest.root.as_ref().and_then(|_| guest.plan(0));
    let Some(plan) = plan else { return Ok(()) };
    let program = plan.argv.first().map_or("", String::as_str);
    let path = plan.env.iter().find_map(|v| v.strip_prefix("PATH="));
    let started = given.can_start(program, path.unwrap_or_default(), &plan.dir);
    started.map_err(|e| Error::Program(e.into()))
}
