// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is missing on this machine, and the command that installs it.

mod checks;
mod places;

use std::fmt::Write as _;

use serde::Serialize;

pub use places::Place;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// There.
    Ok,
    /// Not there, and not needed for what this version can do.
    Optional,
    /// Not there, and runs will not work.
    Missing,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked for.
    pub name: String,
    /// Whether it is there.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// The command, or what else to do, if it is not.
    pub fix: Option<String>,
}

impl Check {
    fn ok(name: &str, found: impl Into<String>) -> Self {
        Check {
            name: name.into(),
            status: Status::Ok,
            found: found.into(),
            fix: None,
        }
    }

    fn missing(name: &str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Check {
            name: name.into(),
            status: Status::Missing,
            found: found.into(),
            fix: Some(fix.into()),
        }
    }

    fn optional(self) -> Self {
        Check {
            status: match self.status {
                Status::Missing => Status::Optional,
                other => other,
            },
            ..self
        }
    }
}

/// All findings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Whether nothing needed is missing.
    pub ok: bool,
    /// Each finding.
    pub checks: Vec<Check>,
    /// Which files and directories a run would use.
    pub places: Vec<Place>,
}

impl Diagnosis {
    /// Looks at this machine.
    pub fn of_this_machine() -> Self {
        Diagnosis::of(checks::all(), places::all())
    }

    fn of(checks: Vec<Check>, places: Vec<Place>) -> Self {
        Diagnosis {
            ok: checks.iter().all(|c| c.status != Status::Missing),
            checks,
            places,
        }
    }

    /// The exit code that says so.
    pub fn exit_code(&self) -> u8 {
        if self.ok {
            crate::exit::PASS
        } else {
            crate::exit::INFRA
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for check in &self.checks {
            let mark = match check.status {
                Status::Ok => "ok      ",
                Status::Optional => "optional",
                Status::Missing => "MISSING ",
            };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{mark}  {:<22}  {}", check.name, check.found);
            if let Some(fix) = &check.fix {
                let _ = writeln!(text, "{:34}fix: {fix}", "");
            }
        }
        for (n, place) in self.places.iter().enumerate() {
            let variable = match place.variable {
                Some(variable) if place.set => format!("   (set by {variable})"),
                Some(variable) => format!("   ({variable})"),
                None => String::new(),
            };
            let mark = if n == 0 { "in use" } else { "" };
            let _ = writeln!(
                text,
                "{mark:<8}  {:<22}  {}{variable}",
                place.name, place.at
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_counts() {
        let good = Check::ok("a", "1");
        let bad = Check::missing("b", "no", "apt install b");
        assert!(Diagnosis::of(vec![good.clone(), bad.clone().optional()], Vec::new()).ok);
        let place = |name, variable, set| Place {
            name,
            at: "/x".into(),
            variable,
            set,
        };
        let places = vec![
            place("c", Some("C"), false),
            place("d", Some("D"), true),
            place("e", None, false),
        ];
        let d = Diagnosis::of(vec![good, bad], places);
        assert_eq!(d.exit_code(), crate::exit::INFRA);
        insta::assert_snapshot!(d.text(), @r"
        ok        a                       1
        MISSING   b                       no
                                          fix: apt install b
        in use    c                       /x   (C)
                  d                       /x   (set by D)
                  e                       /x
        ");
    }

    #[test]
    fn every_missing_thing_has_a_fix() {
        let d = Diagnosis::of_this_machine();
        assert!(d.checks.len() >= 12);
        for check in d.checks {
            assert_eq!(check.status == Status::Ok, check.fix.is_none(), "{check:?}");
        }
        assert!(d.places.len() >= 8);
    }
}
