// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Options that stand for settings of the scenario: what is wrong with one is told of the option that was
//! typed, not of the setting.

use std::path::Path;

use super::list;
use crate::exit::Error;
use crate::scenario::set::full_key;
use crate::spec::quote;

/// The option that takes any setting.
const SET: &str = "--set";

/// Options and the settings that they stand for, in the order in which those are applied.
#[derive(Debug, Default)]
pub struct Given(Vec<Typed>);

#[derive(Debug)]
struct Typed {
    /// As it is shown, with its value if that is short.
    option: String,
    setting: String,
    /// Whether the option stands for this key and no other, so that there is no need to name it.
    is_alone: bool,
}

impl Given {
    /// `option` with one value, if it was given.
    pub fn value(&mut self, option: &str, setting: Option<(String, String)>) {
        self.0.extend(setting.map(|(value, setting)| Typed {
            option: format!("{option} {}", quote(&value)),
            setting,
            is_alone: true,
        }));
    }

    /// `option`, which may be repeated, as the list that is `key`.
    pub fn list(&mut self, option: &str, key: &str, words: &[String]) {
        if !words.is_empty() {
            self.flag(option, format!("{key}={}", list(words)));
        }
    }

    /// `option`, shown without a value.
    pub fn flag(&mut self, option: &str, setting: String) {
        self.0.push(Typed {
            option: option.to_owned(),
            setting,
            is_alone: true,
        });
    }

    /// What `--board FILE` comes to.
    pub fn board(&mut self, file: &Path, settings: Vec<String>) {
        let option = format!("--board {}", quote(&file.display().to_string()));
        self.0.extend(settings.into_iter().map(|setting| Typed {
            option: option.clone(),
            setting,
            is_alone: false,
        }));
    }

    /// What `--set` was given.
    pub fn set(&mut self, settings: &[String]) {
        self.0.extend(settings.iter().map(|setting| Typed {
            option: SET.into(),
            setting: setting.clone(),
            is_alone: false,
        }));
    }

    /// All settings.
    pub fn settings(&self) -> Vec<String> {
        self.0.iter().map(|typed| typed.setting.clone()).collect()
    }

    /// The error, of the option that it is about.
    pub fn retold(&self, e: Error) -> Error {
        match e {
            Error::Setting { setting, why } => {
                let is_it = |t: &&Typed| t.setting == setting || t.key() == full_key(&setting);
                match self.0.iter().rev().find(is_it) {
                    Some(typed) if typed.option != SET => typed.error(&why),
                    _ => Error::Setting { setting, why },
                }
            }
            Error::Limit { origin, what } => {
                let of_it = |t: &&Typed| mentions(&what, t.key());
                match self.0.iter().rev().find(of_it) {
                    Some(typed) if typed.option != SET => typed.error(&what),
                    _ => Error::Limit { origin, what },
                }
            }
            e => e,
        }
    }
}

impl Typed {
    fn key(&self) -> &str {
        full_key(&self.setting)
    }

    fn error(&self, why: &str) -> Error {
        let short = why.strip_prefix(self.key()).filter(|_| self.is_alone);
        let short = short.and_then(|rest| {
            // As keys with an option are named where there may be none.
            let rest = match rest.strip_prefix(" (").and_then(|r| r.split_once(')')) {
                Some((_, rest)) => rest,
                None => rest,
            };
            let of_value = || {
                rest.strip_prefix(" = ")?
                    .split_once(' ')
                    .map(|(_, why)| why)
            };
            rest.strip_prefix(": ").or_else(of_value)
        });
        Error::Option {
            option: self.option.clone(),
            why: short.unwrap_or(why).to_owned(),
        }
    }
}

/// Whether a sentence names a key: that, and not one that begins like it.
fn mentions(text: &str, key: &str) -> bool {
    let more = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    !key.is_empty()
        && text.match_indices(key).any(|(at, _)| {
            let (before, from) = text.split_at(at);
            let after = from.get(key.len()..).unwrap_or_default();
            !before.ends_with(more) && !after.starts_with(more)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> Given {
        let mut given = Given::default();
        given.board(Path::new("b.toml"), vec!["board.cpus=9".into()]);
        given.value("--timeout", Some(("0".into(), "timeout=0".into())));
        given.list("--env", "guest.env", &["X".into()]);
        given.set(&["frames=0".into()]);
        given.value(
            "--append",
            Some(("init=x".into(), "guest.append+=\"init=x\"".into())),
        );
        given
    }

    fn limit(what: &str) -> String {
        let e = given().retold(Error::Limit {
            origin: "scenario x with --set".into(),
            what: what.into(),
        });
        assert_eq!(e.exit_code(), crate::exit::USAGE);
        e.to_string()
    }

    #[test]
    fn what_is_wrong_is_told_of_the_option_that_was_typed() {
        for (what, told) in [
            (
                "timeout-seconds = 0 must be from 1 to 9",
                "--timeout 0: must be from 1 to 9",
            ),
            (
                "guest.env: \"X\" must be NAME=VALUE",
                "--env: \"X\" must be NAME=VALUE",
            ),
            (
                "guest.exec and guest.env have 9 bytes",
                "--env: guest.exec and guest.env have 9 bytes",
            ),
            (
                "board.cpus = 9 must be from 1 to 4",
                "--board b.toml: board.cpus = 9 must be from 1 to 4",
            ),
            (
                "guest.append (--append): `init=x` is refused",
                "--append init=x: `init=x` is refused",
            ),
            (
                "transfer.frames = 0 must be from 1 to 9",
                "scenario x with --set: transfer.frames = 0 must be from 1 to 9",
            ),
            (
                "guest.environment is none",
                "scenario x with --set: guest.environment is none",
            ),
        ] {
            assert_eq!(limit(what), told);
        }
    }

    #[test]
    fn settings_that_are_refused_are_those_of_options() {
        let of = |setting: &str| {
            let e = Error::Setting {
                setting: setting.into(),
                why: "no".into(),
            };
            given().retold(e).to_string()
        };
        assert_eq!(of("timeout=0"), "--timeout 0: no");
        assert_eq!(of("timeout-seconds"), "--timeout 0: no");
        assert_eq!(of("frames=0"), "--set frames=0: no");
    }
}
