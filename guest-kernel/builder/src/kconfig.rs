// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Kernel configurations: what one asks for, and what a kernel has.

use std::collections::{HashMap, HashSet};

/// How a kernel has an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting<'a> {
    /// `=y`.
    BuiltIn,
    /// `=m`.
    Module,
    /// A number or a string, as it stands there.
    Value(&'a str),
    /// Known, and off.
    Off,
    /// Not there: this source does not have it, or what it depends on is off.
    Absent,
}

/// The configuration of a kernel: its `.config`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kconfig(HashMap<String, String>);

impl Kconfig {
    /// Reads the text of a `.config`. Lines that are no settings are passed over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let settings = text.lines().filter_map(setting);
        Self(
            settings
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    /// Whether there is no setting at all: then it is the configuration of nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How it has an option, by its whole name (`CONFIG_...`).
    #[must_use]
    pub fn setting(&self, option: &str) -> Setting<'_> {
        match self.0.get(option).map(String::as_str) {
            None => Setting::Absent,
            Some("n") => Setting::Off,
            Some("y") => Setting::BuiltIn,
            Some("m") => Setting::Module,
            Some(value) => Setting::Value(value),
        }
    }

    /// Takes an option away, as if the source did not have it.
    pub fn remove(&mut self, option: &str) {
        self.0.remove(option);
    }

    /// Whether an option is as a fragment asks for. What is off may as well not be there.
    fn has(&self, name: &str, value: &str) -> bool {
        match self.0.get(name) {
            None => value == "n",
            Some(is) => is == value,
        }
    }
}

/// The option that a line of a `.config` or a fragment sets, and to what: `n` if it is to be off.
pub(super) fn setting(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let off = line
        .strip_prefix("# ")
        .and_then(|rest| rest.strip_suffix(" is not set"));
    let (name, value) = match off {
        Some(name) => (name, "n"),
        None => line.split_once('=')?,
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let rest = name.strip_prefix("CONFIG_")?;
    (!rest.is_empty() && rest.chars().all(plain)).then_some((name, value))
}

/// What `fragment` asks for and `config` does not have so, in the fragment's order. Of an option that it
/// sets more than once the last counts, as it does to Kconfig.
pub(super) fn unmet<'a>(
    fragment: &'a str,
    config: &'a Kconfig,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let settings: Vec<_> = fragment.lines().filter_map(setting).collect();
    let last: HashMap<_, _> = settings.iter().copied().collect();
    settings
        .into_iter()
        .filter(move |(name, value)| last.get(name) == Some(value) && !config.has(name, value))
}

/// Puts `more` on top of a configuration, from which goes what `more` sets, too: two settings of one
/// option are worth a warning to Kconfig, and the first may be none that this source knows.
pub(super) fn override_with(config: &mut String, more: &str) {
    let of_more: HashSet<_> = more
        .lines()
        .filter_map(setting)
        .map(|(name, _)| name)
        .collect();
    let stays = |line: &&str| setting(line).is_none_or(|(name, _)| !of_more.contains(name));
    let kept: Vec<_> = config.lines().filter(stays).collect();
    if kept.len() < config.lines().count() {
        *config = kept.join("\n") + "\n";
    }
    config.push_str(more);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unmet_of(fragment: &str, config: &str) -> Vec<String> {
        let config = Kconfig::parse(config);
        let unmet = unmet(fragment, &config);
        unmet
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    #[test]
    fn unmet_are_those_not_taken() {
        let fragment = "# why\nCONFIG_A=y\nCONFIG_B=n\nCONFIG_C=16\nCONFIG_D=n\nCONFIG_E=\"\"\n";
        let config = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=8\nCONFIG_D=y\nCONFIG_E=\"\"\n";
        assert_eq!(unmet_of(fragment, config), ["CONFIG_C=16", "CONFIG_D=n"]);
        assert_eq!(unmet_of("CONFIG_A=y\n", ""), ["CONFIG_A=y"]);
        assert_eq!(
            unmet_of("# CONFIG_A is not set\n", "CONFIG_A=m\n"),
            ["CONFIG_A=n"]
        );
    }

    #[test]
    fn of_an_option_set_twice_the_last_counts() {
        let fragment = "CONFIG_A=y\nCONFIG_A=n\n";
        assert!(unmet_of(fragment, "").is_empty());
        assert_eq!(unmet_of(fragment, "CONFIG_A=y\n"), ["CONFIG_A=n"]);
    }

    #[test]
    fn what_goes_on_top_takes_the_place_of_what_was_there() {
        let mut config = "# head\nCONFIG_A=y\n\nCONFIG_B=y\n".to_owned();
        override_with(&mut config, "CONFIG_C=y\n");
        assert_eq!(config, "# head\nCONFIG_A=y\n\nCONFIG_B=y\nCONFIG_C=y\n");
        override_with(&mut config, "# CONFIG_A is not set\nCONFIG_C=2\n");
        let left = "# head\n\nCONFIG_B=y\n# CONFIG_A is not set\nCONFIG_C=2\n";
        assert_eq!(config, left);
    }

    #[test]
    fn an_option_is_found_as_it_is() {
        let text =
            "# Linux\nCONFIG_Y=y\nCONFIG_M=m\nCONFIG_N=4\n# CONFIG_O is not set\nCONFIG_=y\n";
        let config = Kconfig::parse(text);
        for (option, is) in [
            ("CONFIG_Y", Setting::BuiltIn),
            ("CONFIG_M", Setting::Module),
            ("CONFIG_N", Setting::Value("4")),
            ("CONFIG_O", Setting::Off),
            ("CONFIG_X", Setting::Absent),
            ("CONFIG_", Setting::Absent),
        ] {
            assert_eq!(config.setting(option), is, "{option}");
        }
        assert!(Kconfig::parse("no configuration\nA=b\n").is_empty());
    }
}
