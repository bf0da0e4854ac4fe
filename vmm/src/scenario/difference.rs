// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The settings that make one scenario of another, as `--set` takes them.

use toml::{Table, Value};

use super::Scenario;
use super::set::{SHORT, apply, value};

/// Those that make `to` of `from`, in order of keys.
///
/// # Errors
/// If one of them cannot be written as TOML, which has no integers beyond 2^63.
pub fn settings(from: &Scenario, to: &Scenario) -> Result<Vec<String>, String> {
    let table = |scenario| Table::try_from(scenario).map_err(|e| e.to_string());
    let (before, mut after) = (table(from)?, table(to)?);
    let plain = between(&before, &after);
    // Keys that say what is so anyway are not written, and missing then: so they are said.
    nothing(&before, &mut after);
    let said = between(&before, &after);
    match apply(from, &said) {
        Ok(made) if made == *to => Ok(said),
        _ => Ok(plain),
    }
}

fn between(from: &Table, to: &Table) -> Vec<String> {
    let mut found = Vec::new();
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        found.push(format!("{key}={{}}"));
    }
    for (key, value) in to {
        of_key(key, from.get(key), value, &mut found);
    }
    found
}

/// Gives a table what another has and it lacks, as far as there is a value that means nothing.
fn nothing(from: &Table, to: &mut Table) {
    for (key, value) in from {
        match (to.get_mut(key), value) {
            (Some(Value::Table(to)), Value::Table(from)) => nothing(from, to),
            (Some(_), _) => {}
            (None, value) => {
                let none = match value {
                    Value::Boolean(_) => Value::Boolean(false),
                    Value::Integer(_) => Value::Integer(0),
                    Value::Array(_) => Value::Array(Vec::new()),
                    _ => continue,
                };
                to.insert(key.clone(), none);
            }
        }
    }
}

fn of_key(key: &str, from: Option<&Value>, to: &Value, found: &mut Vec<String>) {
    if from == Some(to) {
        return;
    }
    // That a table has lost a key, no setting of one of its keys can say.
    if let (Some(Value::Table(from)), Value::Table(to)) = (from, to)
        && from.keys().all(|key| to.contains_key(key))
    {
        for (name, value) in to {
            of_key(&format!("{key}.{name}"), from.get(name), value, found);
        }
        return;
    }
    let short = SHORT.iter().find(|(_, full)| *full == key);
    let name = short.map_or(key, |(short, _)| short);
    found.push(format!("{name}={}", text(key, to)));
}

/// A value, in the shortest form that `--set` reads as that.
fn text(key: &str, value: &Value) -> String {
    match value {
        Value::String(text) if key == "seed" || is_plain(text) => text.clone(),
        Value::Array(faults) if key == "faults.inject" && !faults.is_empty() => {
            let faults = faults.iter().filter_map(Value::as_str);
            faults.collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

/// Whether a text needs no quotes to be read as text.
fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '@';
    !text.is_empty()
        && text.chars().all(plain)
        && value(text).is_ok_and(|value| value.as_str() == Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(name: &str, set: &[&str]) -> Scenario {
        let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        apply(&Scenario::load(name).unwrap(), &set).unwrap()
    }

    #[test]
    fn what_they_say_is_what_differs() {
        let from = Scenario::load("iio-to-usb").unwrap();
        for (set, want) in [
            (vec![], vec![]),
            (
                vec!["frames=1", "inject=drop@3,irq@2:late+7", "cache=lazy"],
                vec!["cache=lazy", "inject=drop@3,irq@2:late+7", "frames=1"],
            ),
            (
                vec!["seed=18446744073709551615"],
                vec!["seed=18446744073709551615"],
            ),
            (vec!["guest.append=\"true\""], vec!["guest.append=\"true\""]),
            (
                vec!["usb.incidents=[{after-bytes=1,action={pause={ticks=3}}}]"],
                vec!["usb.incidents=[{ action = { pause = { ticks = 3 } }, after-bytes = 1 }]"],
            ),
            (vec!["drop-maintenance=@7"], vec!["drop-maintenance=@7"]),
        ] {
            let to = load("iio-to-usb", &set);
            let said = settings(&from, &to).unwrap();
            assert_eq!(said, want);
            assert_eq!(apply(&from, &said).unwrap(), to);
        }
    }

    #[test]
    fn what_is_gone_is_gone_with_its_table() {
        let from = load(
            "iio-to-usb",
            &["inject=drop@3", "log.limit-mib=2", "trailer={bytes=8}"],
        );
        let mut to = from.clone();
        to.faults.inject.clear();
        to.log = Default::default();
        to.transfer.as_mut().unwrap().trailer = None;
        to.transfer.as_mut().unwrap().last_frame_bytes = None;
        let said = settings(&from, &to).unwrap();
        assert_eq!(apply(&from, &said).unwrap(), to, "{said:?}");
        assert!(said.contains(&"log={}".to_owned()), "{said:?}");
    }

    #[test]
    fn all_built_in_scenarios_can_be_made_of_each_other() {
        let all: Vec<Scenario> = crate::scenario::builtin::names()
            .map(|name| Scenario::load(name).unwrap())
            .collect();
        for one in &all {
            let said = settings(one, one).unwrap();
            assert_eq!(said, Vec::<String>::new());
        }
    }
}
