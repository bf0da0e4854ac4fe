// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Which files and directories a run would use, and the variables that name others.

use std::path::PathBuf;

use serde::Serialize;
use staleline_initramfs::AGENT_ENV;
use staleline_initramfs::busybox::{self, BUSYBOX_ENV};
use staleline_kernels::GUEST_KERNEL_ENV;
use staleline_packages::SOURCES_ENV;
use staleline_support::cache::CacheDir;
use staleline_support::home::{self, HOME_ENV};
use staleline_support::text;

use crate::engine::EngineKind;
use crate::run::wiring;

/// What programs in the guest include.
const HEADER: &str = "staleline.h";

/// A file or directory, or what it is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// What is there.
    pub name: &'static str,
    /// Where, or why it is nowhere.
    pub at: String,
    /// The variable of the environment that would name another.
    pub variable: Option<&'static str>,
    /// Whether that variable is set.
    pub set: bool,
}

/// All of them.
pub fn all() -> Vec<Place> {
    let found = |found: Result<PathBuf, home::NotFound>| match found {
        Ok(path) => path.display().to_string(),
        Err(e) => text::chain(&e),
    };
    let named = |variable: &str, otherwise: &dyn Fn() -> String| match std::env::var_os(variable) {
        Some(path) if !path.is_empty() => PathBuf::from(path).display().to_string(),
        _ => otherwise(),
    };
    let cache = CacheDir::from_environment();
    let shell = match cache.as_ref().map(|cache| busybox::find(cache, None)) {
        Ok(Some(busybox)) => busybox.display().to_string(),
        _ => "none: scripts/get-busybox fetches one".into(),
    };
    let cache = match cache {
        Ok(cache) => cache.path().display().to_string(),
        Err(e) => e.to_string(),
    };
    let own = home::places();
    let own = own.iter().find(|place| place.is_dir());
    let own = own.map_or("none".into(), |place| place.display().to_string());
    let mut places = vec![
        place("own files", own, Some(HOME_ENV)),
        place(
            "kernel stacks",
            named(GUEST_KERNEL_ENV, &|| found(home::find("guest-kernel"))),
            Some(GUEST_KERNEL_ENV),
        ),
        place(
            "guest agent",
            named(AGENT_ENV, &staleline_initramfs::agent_place),
            Some(AGENT_ENV),
        ),
        place("guest shell", shell, Some(BUSYBOX_ENV)),
        place("C header", header(&home::places()), None),
        place(
            "apt's sources",
            named(SOURCES_ENV, &|| "this machine's own".into()),
            Some(SOURCES_ENV),
        ),
        place("cache", cache, Some("XDG_CACHE_HOME")),
        place(
            "kernel source",
            wiring::kernel_source().display().to_string(),
            None,
        ),
    ];
    let engines = EngineKind::ALL.into_iter().flat_map(EngineKind::places);
    places.extend(engines.map(|(name, at, variable)| place(name, at, variable)));
    places.push(place(
        "log level",
        named("STALELINE_LOG", &|| "warn".into()),
        Some("STALELINE_LOG"),
    ));
    places
}

/// The directory of the header for programs in the guest, as a compiler's `-I` takes it.
fn header(places: &[PathBuf]) -> String {
    // As it stands in a checkout, and beside `share` in an installation.
    let all = places
        .iter()
        .flat_map(|own| [own.join("images/guest/include"), own.join("../../include")]);
    let mut all = all.filter(|dir| dir.join(HEADER).is_file());
    let found = all.next();
    let found = found.map(|dir| dir.canonicalize().unwrap_or(dir));
    found.map_or_else(
        || format!("none: {HEADER} comes with the sources"),
        |dir| dir.display().to_string(),
    )
}

fn place(name: &'static str, at: String, variable: Option<&'static str>) -> Place {
    let set = |variable| std::env::var_os(variable).is_some_and(|value| !value.is_empty());
    Place {
        name,
        at,
        variable,
        set: variable.is_some_and(set),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_found_in_a_checkout_and_in_an_installation() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let share = root.join("share/staleline");
        std::fs::create_dir_all(&share).unwrap();
        let places = [share, root.join("checkout")];
        assert!(header(&places).starts_with("none"));
        for place in ["checkout/images/guest/include", "include"] {
            std::fs::create_dir_all(root.join(place)).unwrap();
            std::fs::write(root.join(place).join(HEADER), "").unwrap();
            assert_eq!(header(&places), root.join(place).display().to_string());
        }
    }
}
