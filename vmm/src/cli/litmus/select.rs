// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The cases that are asked for.

use std::path::{Path, PathBuf};

use staleline_litmus::builtin;
use staleline_litmus::case::{self, Case};

use crate::exit::Error;
use crate::names;
use crate::scenario::read_config;

/// The cases of that name, family or file, and whether to print them in detail.
///
/// # Errors
/// If there are none, or the file is wrong.
pub(super) fn select(name: &str) -> Result<Vec<(Case, bool)>, Error> {
    let path = Path::new(name);
    if name.ends_with(".toml") || name.contains('/') || path.is_file() {
        let text = read_config(path)?;
        let mut cases = case::parse(&text, name).map_err(wrong)?;
        if let [only] = &mut cases[..]
            && only.id == "case-1"
        {
            let stem = PathBuf::from(name);
            only.id = stem
                .file_stem()
                .map_or_else(|| only.id.clone(), |s| s.to_string_lossy().into_owned());
        }
        return Ok(cases.into_iter().map(|c| (c, true)).collect());
    }
    let family = builtin::files().iter().find(|(family, _)| *family == name);
    if let Some((family, text)) = family {
        let cases = case::parse(text, family).map_err(wrong)?;
        return Ok(cases.into_iter().map(|c| (c, false)).collect());
    }
    let all = builtin::cases().map_err(wrong)?;
    if let Some(case) = all.iter().find(|c| c.id == name) {
        return Ok(vec![(case.clone(), true)]);
    }
    let families = builtin::files().iter().map(|(family, _)| *family);
    let known = all.iter().map(|c| c.id.as_str()).chain(families);
    let hint = match names::did_you_mean(name, known) {
        Some(similar) => format!("did you mean `{similar}`?"),
        None => "`staleline litmus` lists all".to_owned(),
    };
    Err(Error::Limit {
        origin: "litmus".to_owned(),
        what: format!("there is no case, family or file `{name}`; {hint}"),
    })
}

/// A case file's error as the command tells it.
pub(super) fn wrong(error: case::Error) -> Error {
    match error {
        case::Error::Syntax { origin, detail } => Error::Syntax { origin, detail },
        case::Error::Limit { origin, what } => Error::Limit { origin, what },
        case::Error::Case {
            origin,
            case,
            place,
            what,
        } => Error::Limit {
            origin,
            what: format!("case `{case}`: {place}: {what}"),
        },
    }
}
