// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a campaign has come to, as text, JUnit and an exit code.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};

use super::judge::Outcome;
use super::plan::{self, Planned};
use super::store::{Entry, Head};
use crate::exit;
use crate::report::cases::{Case, Status};
use crate::report::junit;
use crate::spec::quote;

/// Misses and the like that are shown each; the file has all.
const SHOWN: usize = 20;

/// A share of a population that was looked at in part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The share.
    pub share: f64,
    /// Where it is, with the confidence that was asked for.
    pub from: f64,
    /// Likewise.
    pub to: f64,
}

/// Wilson's interval, for `found` of `looked` things at, of `all` there are.
pub fn estimate(found: usize, looked: usize, all: usize, confidence: f64) -> Estimate {
    let (x, n, all) = (found as f64, looked as f64, all as f64);
    if looked == 0 {
        return Estimate {
            share: 0.0,
            from: 0.0,
            to: 1.0,
        };
    }
    let share = x / n;
    if n >= all {
        return Estimate {
            share,
            from: share,
            to: share,
        };
    }
    // What is left to be looked at makes an uncertain thing of it: as much as that many draws with replacement.
    let n = n * (all - 1.0) / (all - n);
    let z = plan::deviate(confidence);
    let z2 = z * z;
    let middle = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = z / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    Estimate {
        share,
        from: (middle - half).max(0.0),
        to: (middle + half).min(1.0),
    }
}

/// What a campaign has come to.
pub struct Report<'a> {
    /// What it was begun with.
    pub head: &'a Head,
    /// Its plan.
    pub plan: &'a [Planned],
    /// Of these, what was run.
    pub entries: &'a [Entry],
    /// How sure estimates are.
    pub confidence: f64,
}

/// Of how many runs the first of a group has said what they come to, and how often it was wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Predicted {
    /// Runs that were predicted, and made.
    pub tested: usize,
    /// Of these, those that came to something else.
    pub wrong: usize,
    /// Runs that were predicted, and not made.
    pub trusted: usize,
}

impl Report<'_> {
    fn by_id(&self) -> HashMap<u32, &Entry> {
        self.entries.iter().map(|entry| (entry.id, entry)).collect()
    }

    /// How far the first of each group tells what the others come to.
    pub fn predicted(&self) -> Predicted {
        let (pilots, entries) = (plan::pilots(self.plan), self.by_id());
        let mut predicted = Predicted::default();
        for planned in self.plan.iter().filter(|planned| !planned.pilot) {
            let pilot = pilots.get(&(planned.target, &*planned.group));
            let Some(pilot) = pilot.and_then(|id| entries.get(id)) else {
                continue;
            };
            match entries.get(&planned.id) {
                None => predicted.trusted += 1,
                Some(entry) => {
                    predicted.tested += 1;
                    predicted.wrong += usize::from(entry.judged.outcome != pilot.judged.outcome);
                }
            }
        }
        predicted
    }

    fn count(&self, outcome: Outcome) -> usize {
        let entries = self.entries.iter();
        entries
            .filter(|entry| entry.judged.outcome == outcome)
            .count()
    }

    /// The exit code: sanitizer misses and wrong names fail, and so does a run that was not the same twice;
    /// what says nothing is trouble.
    pub fn exit_code(&self) -> u8 {
        let unlike = self.entries.iter().any(|entry| entry.same == Some(false));
        let ours = self
            .entries
            .iter()
            .any(|entry| entry.judged.outcome.is_ours());
        let planned = self.plan.iter().filter(|planned| planned.run).count();
        if self.count(Outcome::InfraError) > 0 || self.entries.len() < planned {
            exit::INFRA
        } else if ours || unlike {
            exit::FAIL
        } else {
            exit::PASS
        }
    }

    /// The command that does one of its runs alone.
    pub fn command(&self, planned: &Planned) -> String {
        let target = self.head.targets.get(planned.target as usize);
        let command = target.map_or("", |target| &target.command);
        let setting = format!("inject={}", planned.setting());
        format!("{command} --set {}", quote(&setting))
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let entries = self.by_id();
        let mut classes: BTreeMap<String, Vec<&Planned>> = BTreeMap::new();
        for planned in self.plan {
            classes.entry(planned.class()).or_default().push(planned);
        }
        let outcomes: Vec<Outcome> = Outcome::ALL
            .into_iter()
            .filter(|outcome| outcome.is_ours() || self.count(*outcome) > 0)
            .collect();
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        let head = ["fault", "possible", "run"].into_iter();
        table.set_header(head.chain(outcomes.iter().map(|outcome| outcome.name())));
        let row = |name: &str, all: &[&Planned]| {
            let ran: Vec<&&Entry> = all.iter().filter_map(|p| entries.get(&p.id)).collect();
            let count = |outcome: &Outcome| {
                let n = ran
                    .iter()
                    .filter(|entry| entry.judged.outcome == *outcome)
                    .count();
                if n == 0 { "-".into() } else { n.to_string() }
            };
            let mut row = vec![
                name.to_owned(),
                all.len().to_string(),
                ran.len().to_string(),
            ];
            row.extend(outcomes.iter().map(count));
            row
        };
        for (class, all) in &classes {
            table.add_row(row(class, all));
        }
        let all: Vec<&Planned> = self.plan.iter().collect();
        table.add_row(row("all", &all));
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let _ = writeln!(text, "{table}\n");
        self.sure(&mut text);
        for outcome in [Outcome::Miss, Outcome::Misdiagnosed, Outcome::InfraError] {
            self.each(outcome, &mut text);
        }
        text
    }

    /// What can be said of what was not run, and whether it is the same each time.
    fn sure(&self, text: &mut String) {
        let ran = self.entries.len();
        let ours = self.count(Outcome::Miss) + self.count(Outcome::Misdiagnosed);
        let of = estimate(ours, ran, self.plan.len(), self.confidence);
        let _ = writeln!(
            text,
            "{ours} of {ran} runs are missed or misnamed: {:.2} %, with {:.0} % confidence {:.2} to {:.2} % of \
             the {} that are possible",
            of.share * 100.0,
            self.confidence * 100.0,
            of.from * 100.0,
            of.to * 100.0,
            self.plan.len(),
        );
        let predicted = self.predicted();
        let wrong = estimate(
            predicted.wrong,
            predicted.tested,
            predicted.tested + predicted.trusted,
            self.confidence,
        );
        let _ = writeln!(
            text,
            "{} runs were predicted by the first of their group and made all the same: {} came to something \
             else ({:.2} %); {} were taken as predicted",
            predicted.tested,
            predicted.wrong,
            wrong.share * 100.0,
            predicted.trusted,
        );
        let twice = self.entries.iter().filter_map(|entry| entry.same);
        let (same, unlike) = twice.fold((0, 0), |(same, unlike), one| match one {
            true => (same + 1, unlike),
            false => (same, unlike + 1),
        });
        let _ = writeln!(
            text,
            "{} runs were made twice: {unlike} came to something else the second time",
            same + unlike
        );
    }

    fn each(&self, outcome: Outcome, text: &mut String) {
        let plan: HashMap<u32, &Planned> = self.plan.iter().map(|p| (p.id, p)).collect();
        let all: Vec<&Entry> = self
            .entries
            .iter()
            .filter(|entry| entry.judged.outcome == outcome)
            .collect();
        if all.is_empty() {
            return;
        }
        let _ = writeln!(text, "\n{} ({}):", outcome.name(), all.len());
        for entry in all.iter().take(SHOWN) {
            let Some(planned) = plan.get(&entry.id) else {
                continue;
            };
            let why = entry.judged.why.as_deref().unwrap_or("");
            let _ = writeln!(text, "  {}\n    {why}", planned.group);
            let _ = writeln!(text, "    {}", self.command(planned));
        }
        if all.len() > SHOWN {
            let _ = writeln!(text, "  and {} more", all.len() - SHOWN);
        }
    }

    /// A case for each class of faults on each target.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_junit(&self, out: &mut dyn Write) -> io::Result<()> {
        let entries = self.by_id();
        let mut classes: BTreeMap<(u32, String), Vec<(&Planned, &Entry)>> = BTreeMap::new();
        for planned in self.plan {
            let Some(entry) = entries.get(&planned.id) else {
                continue;
            };
            let class = (planned.target, planned.class());
            classes.entry(class).or_default().push((planned, entry));
        }
        let mut suite = quick_junit::TestSuite::new("campaign");
        for ((target, class), all) in &classes {
            let target = self.head.targets.get(*target as usize);
            let target = target.map_or("", |target| &target.name);
            let bad = |entry: &Entry| entry.judged.outcome.is_ours() || entry.same == Some(false);
            let infra = all
                .iter()
                .any(|(_, e)| e.judged.outcome == Outcome::InfraError);
            let failed: Vec<_> = all.iter().filter(|(_, entry)| bad(entry)).collect();
            let case = Case {
                name: format!("{target}: {class}"),
                status: match (infra, failed.is_empty()) {
                    (true, _) => Status::Error,
                    (false, false) => Status::Failed,
                    (false, true) => Status::Passed,
                },
                kind: failed.first().map_or(String::new(), |(_, entry)| {
                    entry.judged.outcome.name().into()
                }),
                details: failed
                    .iter()
                    .take(SHOWN)
                    .map(|(planned, entry)| {
                        let why = entry
                            .judged
                            .why
                            .as_deref()
                            .unwrap_or("it is not the same twice");
                        format!("{why}: {}", self.command(planned))
                    })
                    .collect(),
            };
            suite.add_test_case(junit::test_case("campaign", &case));
        }
        junit::write(out, suite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_holds_the_share_and_is_exact_where_all_was_looked_at() {
        let all = estimate(3, 100, 100, 0.95);
        assert_eq!((all.share, all.from, all.to), (0.03, 0.03, 0.03));
        // Wilson without correction, from the literature: 0 of 10 is at most 27.75 %.
        let some = estimate(0, 10, usize::MAX, 0.95);
        assert!((some.to - 0.2775).abs() < 0.0005, "{some:?}");
        assert_eq!(some.from, 0.0);
        let nearly = estimate(0, 10, 11, 0.95);
        assert!(nearly.to < 0.05, "{nearly:?}");
        assert_eq!(estimate(0, 0, 10, 0.95).to, 1.0);
    }

    #[test]
    fn a_sample_is_as_large_as_the_margin_asks_for() {
        // Cochran: 384.16 for 5 % at 95 %, of a population without end.
        assert_eq!(plan::sample_size(usize::MAX >> 12, 0.95, 0.05), 385);
        assert_eq!(plan::sample_size(1000, 0.95, 0.05), 278);
        assert_eq!(plan::sample_size(10, 0.99, 0.01), 10);
        assert_eq!(plan::sample_size(0, 0.99, 0.01), 0);
    }
}
