// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `--set key=value`: any key of the scenario by its dotted path, or by a short form.

use toml::{Table, Value};

use super::{Scenario, append, limits};
use crate::exit::Error;

/// Short forms: what is typed, and the key it stands for.
pub const SHORT: &[(&str, &str)] = &[
    ("frames", "transfer.frames"),
    ("buffers", "transfer.buffers"),
    ("buffer-bytes", "transfer.buffer-bytes"),
    ("frame-bytes", "transfer.frame-bytes"),
    ("last-frame-bytes", "transfer.last-frame-bytes"),
    ("cpu-sync", "transfer.cpu-sync"),
    ("usb-first", "transfer.usb-first"),
    ("read-detached", "transfer.read-detached"),
    ("offset-bytes", "transfer.offset-bytes"),
    ("stride-bytes", "transfer.stride-bytes"),
    ("order", "transfer.order"),
    ("trailer", "transfer.trailer"),
    ("exporter", "transfer.exporter"),
    ("cache", "board.cache"),
    ("power-on", "board.power-on"),
    ("snoop-write", "board.snoop-write"),
    ("ram-mib", "board.ram-mib"),
    ("jitter-ticks", "board.jitter-ticks"),
    ("timeout", "timeout-seconds"),
    ("drop-maintenance", "faults.drop-maintenance"),
    ("inject", "faults.inject"),
];

/// The key of a setting, long, as the scenario's file has it.
pub fn full_key(setting: &str) -> &str {
    let key = setting.split_once('=').map_or(setting, |(key, _)| key);
    let key = key.trim().trim_end_matches('+');
    let full = SHORT.iter().find(|(short, _)| *short == key);
    full.map_or(key, |(_, full)| full)
}

/// Levels of tables in the longest sensible key, and some more.
const MAX_DEPTH: usize = 8;

/// The scenario with one setting changed; limits are **not** checked, see [`apply`].
fn apply_one(scenario: &Scenario, setting: &str) -> Result<Scenario, String> {
    let (key, text) = setting.split_once('=').ok_or("expected key=value")?;
    let key = key.trim();
    let full = match key {
        append::KEY => key,
        _ => full_key(setting),
    };
    // Start from the complete scenario, defaults and all, so that one key of a table can be set.
    let mut root = Table::try_from(scenario).map_err(|e| e.to_string())?;
    if key == append::KEY {
        let more = append::added(setting).unwrap_or_else(|| text.trim().to_owned());
        let mut changed = scenario.clone();
        changed.guest.append = append::joined(&changed.guest.append, &more);
        return Ok(changed);
    }
    let value = match full {
        // Of those that are no TOML integer, too.
        "seed" if text.trim().parse::<u64>().is_ok() => Value::String(text.trim().to_owned()),
        _ => value(text.trim())?,
    };
    insert(&mut root, full, value)?;
    root.try_into()
        .map_err(|e: toml::de::Error| e.message().to_owned())
}

/// A TOML value if it reads as one, else a string, so that names need no quotes. What starts as no name
/// does is meant to be TOML.
pub(super) fn value(text: &str) -> Result<Value, String> {
    let parsed = toml::from_str::<Table>(&format!("v = {text}"));
    let meant = text.starts_with(['[', '{', '"', '\'']) || text.parse::<f64>().is_ok();
    match parsed {
        Ok(mut table) if table.len() == 1 => table.remove("v").ok_or_else(String::new),
        Err(e) if meant => {
            let what = e.message().trim();
            // TOML has no larger ones, and does not say so.
            let is_long = |digits: &str| digits.len() >= i64::MAX.to_string().len();
            let mut numbers = text.split(|c: char| !c.is_ascii_digit());
            Err(match numbers.any(is_long) {
                true => format!("{what} (integers are at most {})", i64::MAX),
                false => what.to_owned(),
            })
        }
        _ => Ok(Value::String(text.to_owned())),
    }
}

fn insert(root: &mut Table, key: &str, value: Value) -> Result<(), String> {
    let parts: Vec<&str> = key.split('.').collect();
    if parts.len() > MAX_DEPTH || parts.iter().any(|p| p.is_empty()) {
        return Err(format!("`{key}` is not a dotted key"));
    }
    let (last, tables) = parts.split_last().ok_or("empty key")?;
    let mut table = root;
    for part in tables {
        table = table
            .entry((*part).to_owned())
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
            .ok_or_else(|| format!("`{part}` has no keys below it"))?;
    }
    table.insert((*last).to_owned(), value);
    Ok(())
}

/// The scenario with all settings applied in order.
///
/// # Errors
/// [`Error::Setting`] for the first that cannot be applied, [`Error::Limit`] if the outcome is
/// out of bounds.
pub fn apply(scenario: &Scenario, settings: &[String]) -> Result<Scenario, Error> {
    let mut changed = scenario.clone();
    for setting in settings {
        changed = apply_one(&changed, setting).map_err(|why| Error::Setting {
            setting: setting.clone(),
            why,
        })?;
    }
    limits::check(&changed, &format!("scenario {} with --set", scenario.name))?;
    Ok(changed)
}
