// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Where Staleline's own files are that are no programs: configurations and patch stacks of guest
//! kernels, sources of the agent, and in an installation the agent itself and the engine's plugin.
//!
//! They stand as in the source tree, in the first of these that has them: the directory that
//! [`HOME_ENV`] names (then nowhere else is looked), `share/staleline` beside the directory of the
//! program, a checkout that the program stands in, as what Cargo builds does, and the checkout that it
//! was built from.

use std::path::{Path, PathBuf};

use super::text;

/// Environment variable: the directory.
pub const HOME_ENV: &str = "STALELINE_HOME";

/// In an installation, below `bin/..`.
const SHARE: &str = "share/staleline";
/// `target/PROFILE/deps/PROGRAM`.
const DEPTH: usize = 4;

/// Nothing of that name is in any of the places.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no {name} in {}", text::paths(searched))]
pub struct NotFound {
    /// What was looked for.
    pub name: String,
    /// Where.
    pub searched: Vec<PathBuf>,
}

/// The places, best first; each once.
pub fn places() -> Vec<PathBuf> {
    let named = std::env::var_os(HOME_ENV).filter(|path| !path.is_empty());
    let program = std::env::current_exe().ok();
    of(
        named.as_deref().map(Path::new),
        program.as_deref(),
        &built_from(),
    )
}

/// A file or directory of Staleline's own, by its name in the source tree.
///
/// # Errors
/// [`NotFound`], with the places.
pub fn find(name: &str) -> Result<PathBuf, NotFound> {
    find_in(places(), name)
}

fn find_in(places: Vec<PathBuf>, name: &str) -> Result<PathBuf, NotFound> {
    let found = places.iter().map(|place| place.join(name));
    let found = found.into_iter().find(|path| path.exists());
    found.ok_or_else(|| NotFound {
        name: name.to_owned(),
        searched: places,
    })
}

/// The checkout that this program was built from; it may be gone.
fn built_from() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

fn of(named: Option<&Path>, program: Option<&Path>, built_from: &Path) -> Vec<PathBuf> {
    if let Some(named) = named {
        return vec![named.to_owned()];
    }
    let around = program.into_iter().flat_map(|p| p.ancestors().skip(2));
    let installed = around.clone().take(1).map(|prefix| prefix.join(SHARE));
    let checkout = around
        .take(DEPTH - 1)
        .filter(|dir| dir.join("guest-kernel/stacks").is_dir())
        .map(Path::to_owned);
    let mut places: Vec<PathBuf> = Vec::new();
    let all = installed.chain(checkout).chain([built_from.to_owned()]);
    for place in all {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_place_that_has_it_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let checkout = root.join("checkout");
        std::fs::create_dir_all(checkout.join("guest-kernel/stacks")).unwrap();
        let program = checkout.join("target/debug/deps/test");
        let built_from = root.join("gone");
        let places = of(None, Some(&program), &built_from);
        let share = checkout.join("target/debug").join(SHARE);
        assert_eq!(places, [share.clone(), checkout.clone(), built_from]);
        let find = |name| find_in(places.clone(), name);
        assert_eq!(find("guest-kernel"), Ok(checkout.join("guest-kernel")));
        std::fs::create_dir_all(share.join("guest-kernel")).unwrap();
        assert_eq!(find("guest-kernel"), Ok(share.join("guest-kernel")));
        let error = find("agent").unwrap_err().to_string();
        assert!(error.starts_with("there is no agent in /"), "{error}");
        assert!(error.contains("gone"), "{error}");
    }

    #[test]
    fn a_place_that_the_user_names_is_the_only_one() {
        let named = Path::new("/somewhere");
        let places = of(Some(named), Some(Path::new("/usr/bin/x")), Path::new("/y"));
        assert_eq!(places, [named]);
        let places = of(None, Some(Path::new("/usr/bin/x")), Path::new("/y"));
        assert_eq!(places, ["/usr/share/staleline", "/y"].map(PathBuf::from));
    }

    #[test]
    fn a_test_finds_its_own_checkout() {
        assert!(find("vmm/support/src/home.rs").is_ok());
    }
}
