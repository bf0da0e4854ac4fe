// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Shares of one campaign, run by several machines, put together.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use staleline_support::lock::Lock;

use super::plan::Planned;
use super::store::{Head, Store};
use crate::exit::Error;
use crate::run::directory;

/// Puts shares together in a directory of their own, as if one machine had run it all.
///
/// # Errors
/// [`Error::CannotMerge`] if they are not shares of one campaign, run by the same program on the same guests,
/// each fault by one of them.
pub fn merge(parts: &[PathBuf], out: &Path) -> Result<(Store, Lock), Error> {
    Store::is_not_in(out)?;
    // Nothing is made before it is known that they go together.
    let mut whole: Option<(Head, Vec<Planned>)> = None;
    let mut seen = HashSet::new();
    let (mut all, mut sessions) = (Vec::new(), Vec::new());
    for path in parts {
        let refused = |why: String| Error::CannotMerge {
            path: path.clone(),
            why,
        };
        Store::is_in(path)?;
        let _held = directory::lock(path)?;
        let part = Store::read(path)?;
        let (head, plan) = part.begun_with()?;
        let first = match &whole {
            Some((first, _)) => first,
            None => {
                let all = Head {
                    share: None,
                    ..head.clone()
                };
                &whole.insert((all, plan)).0
            }
        };
        if let Some(what) = first.differs(&head) {
            let first = parts.first().map(|path| path.display().to_string());
            let first = first.unwrap_or_default();
            return Err(refused(format!("{what} is not that of {first}")));
        }
        let mut entries = part.entries()?;
        if let Some(entry) = entries.iter().find(|entry| !seen.insert(entry.id)) {
            return Err(refused(format!(
                "another share has run number {}, too",
                entry.id
            )));
        }
        // Shares run side by side: theirs is no order of one run behind the other.
        for entry in &mut entries {
            entry.after_us = 0;
        }
        all.append(&mut entries);
        sessions.append(&mut part.sessions()?);
    }
    let (head, plan) = whole.ok_or_else(|| Error::CannotMerge {
        path: out.to_owned(),
        why: "no share is named".into(),
    })?;
    let lock = directory::lock(out)?;
    // Somebody else may have been faster.
    Store::is_not_in(out)?;
    let store = Store::create_with(out, &head, &plan, (&all, &sessions))?;
    Ok((store, lock))
}
