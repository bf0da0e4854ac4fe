// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Board files: the `[board]` table of a scenario in a file of its own, for any scenario.

use std::path::Path;

use toml::{Table, Value};

use super::read_config;
use crate::board::settings::BoardSettings;
use crate::exit::Error;

/// The file's keys as settings, as `--set` takes them: they say all that the file does.
///
/// # Errors
/// [`Error::Read`]; [`Error::Syntax`] with the place in the text. Bounds are not checked.
pub fn settings(path: &Path) -> Result<Vec<String>, Error> {
    let text = read_config(path)?;
    let syntax = |e: toml::de::Error| Error::Syntax {
        origin: path.display().to_string(),
        detail: e.to_string().trim_end().to_owned(),
    };
    // What is wrong with a key is told with its place.
    toml::from_str::<BoardSettings>(&text).map_err(syntax)?;
    let table: Table = toml::from_str(&text).map_err(syntax)?;
    let keys = table.into_iter();
    Ok(keys
        .map(|(key, value)| match value {
            // Names need no quotes.
            Value::String(name) => format!("board.{key}={name}"),
            value => format!("board.{key}={value}"),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::scenario::{Scenario, set};

    fn of(text: &str) -> Result<Vec<String>, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("board.toml");
        fs::write(&path, text).unwrap();
        settings(&path)
    }

    #[test]
    fn a_board_file_says_what_the_table_of_a_scenario_would() {
        let text = "cpus = 2\ncache = \"lazy\"\n[usb]\nport = \"hp\"\ndma-coherent = true\n[gdma]\n\
                    port = \"hpc\"\n";
        let boot = Scenario::load("boot").unwrap();
        let changed = set::apply(&boot, &of(text).unwrap()).unwrap();
        assert_eq!(changed.board, toml::from_str(text).unwrap());
        assert_ne!(changed.board, boot.board);
        assert_eq!(of("").unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, said) in [
            ("cpus = 2\ncolour = \"red\"\n", "line 2"),
            ("usb = { port = \"hpx\" }", "hpx"),
            ("[board]\ncpus = 2\n", "unknown field `board`"),
            ("cpus = ", "line 1"),
        ] {
            let error = of(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert!(matches!(
            settings(Path::new("/nonexistent")),
            Err(Error::Read { .. })
        ));
    }
}
