// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a campaign has come to, as text, JUnit and an exit code.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{self, Write};

use super::file::Mode;
use super::heard::Diagnosis;
use super::judge::Outcome;
use super::plan::Planned;
use super::sites::Site;
use super::store::{Entry, Head};
use super::tally::{self, Diagnosed, Tally};
use super::weigh::{Outcomes, estimate};
use crate::exit;
use crate::report::cases::{Case, Status};
use crate::report::junit;
use crate::report::sheet::{Row, Sheet};
use crate::spec::quote;

/// Misses and the like that are shown each; the file has all.
const SHOWN: usize = 20;

/// Places and diagnoses that the terminal shows; the page has all.
const PLACES: usize = 20;

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
    fn outcomes(&self) -> Outcomes<'_> {
        Outcomes::new(self.head.sample.mode, self.plan, self.entries)
    }

    /// How far the first of each group tells what the others come to.
    pub fn predicted(&self) -> Predicted {
        let outcomes = self.outcomes();
        let mut predicted = Predicted::default();
        for planned in self.plan.iter().filter(|planned| !outcomes.speaks(planned)) {
            let Some(pilot) = outcomes.pilot(planned) else {
                continue;
            };
            match outcomes.ran(planned) {
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
        if self.left().is_some() {
            exit::INFRA
        } else if ours || unlike {
            exit::FAIL
        } else {
            exit::PASS
        }
    }

    /// How much of what was to be run is not, or has said nothing; none if all is.
    pub fn left(&self) -> Option<String> {
        let planned = self.plan.iter().filter(|planned| planned.run).count();
        let silent = self.count(Outcome::InfraError);
        let left = planned.saturating_sub(self.entries.len() - silent);
        (left > 0)
            .then(|| format!("incomplete: {left} of {planned} runs are not made, or say nothing"))
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
        let mut text = self.classes().table();
        text.push('\n');
        text += &self.of_all().text();
        for sentence in self.sure() {
            text += &sentence;
            text.push('\n');
        }
        text.push('\n');
        text += &self.places().cut(PLACES).text();
        text += &self.diagnoses().cut(PLACES).text();
        for outcome in [Outcome::Miss, Outcome::Misdiagnosed, Outcome::InfraError] {
            self.each(outcome, &mut text);
        }
        text
    }

    /// Classes of faults, and what was run of them.
    pub fn classes(&self) -> Sheet {
        let ran = self.outcomes();
        let mut classes: BTreeMap<String, Vec<&Planned>> = BTreeMap::new();
        for planned in self.plan {
            classes.entry(planned.class()).or_default().push(planned);
        }
        let outcomes: Vec<Outcome> = Outcome::ALL
            .into_iter()
            .filter(|outcome| outcome.is_ours() || self.count(*outcome) > 0)
            .collect();
        let row = |name: &str, all: &[&Planned]| {
            let ran: Vec<&Entry> = all.iter().filter_map(|p| ran.ran(p)).collect();
            let count = |outcome: &Outcome| {
                let its = |entry: &&&Entry| entry.judged.outcome == *outcome;
                match ran.iter().filter(its).count() {
                    0 => "-".into(),
                    n => n.to_string(),
                }
            };
            let mut row = vec![
                name.to_owned(),
                all.len().to_string(),
                ran.len().to_string(),
            ];
            row.extend(outcomes.iter().map(count));
            Row {
                is_bad: ran.iter().any(|entry| entry.judged.outcome.is_ours()),
                ..row.into()
            }
        };
        let mut rows: Vec<Row> = classes.iter().map(|(name, all)| row(name, all)).collect();
        rows.push(row("all", &self.plan.iter().collect::<Vec<_>>()));
        let head = ["fault", "possible", "run"].into_iter();
        let head = head.chain(outcomes.iter().map(|outcome| outcome.name()));
        Sheet {
            id: "classes",
            title: "Classes of faults".into(),
            about: "what there can be of each, what was run, and what that came to".into(),
            head: head.map(str::to_owned).collect(),
            words: 1,
            rows,
            more: 0,
        }
    }

    /// What all faults come to, by those that were run.
    pub fn of_all(&self) -> Sheet {
        let outcomes = self.outcomes();
        let mut spoken = 0;
        let rows = Outcome::ALL
            .into_iter()
            .filter(|o| self.count(*o) > 0 || o.is_ours());
        let rows: Vec<Row> = rows
            .map(|outcome| {
                let all = outcomes.weighed(self.confidence, |one| one == outcome);
                spoken = all.of;
                vec![
                    outcome.name().to_owned(),
                    all.seen.to_string(),
                    format!("{:.1}", all.count),
                    format!("{:.2} %", all.percent(all.count)),
                    format!("{:.1} to {:.1}", all.from, all.to),
                    format!(
                        "{:.2} to {:.2} %",
                        all.percent(all.from),
                        all.percent(all.to)
                    ),
                ]
                .into()
            })
            .collect();
        Sheet {
            id: "all",
            title: "Of all".into(),
            about: format!(
                "{spoken} of {} possible faults, {}, with {:.0} % confidence",
                self.plan.len(),
                match self.head.sample.mode {
                    Mode::Sampled => "by a sample of them",
                    Mode::Pruned | Mode::Exhaustive => {
                        "those that were run weighing as much as their groups are large"
                    }
                },
                self.confidence * 100.0
            ),
            head: [
                "outcome",
                "runs",
                "of all",
                "share",
                "from, to",
                "share from, to",
            ]
            .map(str::to_owned)
            .into(),
            words: 1,
            rows,
            more: 0,
        }
    }

    /// Lines of the guest's kernel, by what their faults do in silence.
    pub fn places(&self) -> Sheet {
        let outcomes = self.outcomes();
        let all = tally::by(self.plan, &outcomes, |planned| &planned.site);
        let row = |(site, tally): &(&Site, Tally)| {
            vec![
                site.to_string(),
                tally.possible.to_string(),
                tally.known.to_string(),
                tally.harm.to_string(),
                tally.silent.to_string(),
                format!("{:.1} %", tally.silent_share() * 100.0),
                tally.found.to_string(),
            ]
            .into()
        };
        Sheet {
            id: "places",
            title: "By place".into(),
            about: "faults by line of the guest's kernel, or by device: of those that are known (run, or taken as \
                    the first of their group came to) so many do harm, so many of all in silence (nobody but the \
                    sanitizer would notice), and so many the sanitizer has found"
                .into(),
            head: ["place", "possible", "known", "harm", "silent", "silent share", "found"]
                .map(str::to_owned)
                .into(),
            words: 1,
            rows: all.iter().map(row).collect(),
            more: 0,
        }
    }

    /// What was found, and where the fault was.
    pub fn diagnoses(&self) -> Sheet {
        let outcomes = self.outcomes();
        let all = tally::diagnosed(self.plan, &outcomes);
        let row = |((diagnosis, site), one): &((&Diagnosis, &Site), Diagnosed)| {
            vec![
                diagnosis.kind.clone(),
                diagnosis.missing.clone(),
                site.to_string(),
                one.faults.to_string(),
                one.silent.to_string(),
                one.visible.to_string(),
            ]
            .into()
        };
        Sheet {
            id: "diagnoses",
            title: "By diagnosis".into(),
            about: "what the sanitizer has found, and where the fault was: so many faults, so many of them in \
                    silence, and so many with wrong bytes seen"
                .into(),
            head: ["finding", "missing", "place", "faults", "silent", "visible"]
                .map(str::to_owned)
                .into(),
            words: 3,
            rows: all.iter().map(row).collect(),
            more: 0,
        }
    }

    /// What can be said of what was not run, and whether it is the same each time.
    pub fn sure(&self) -> Vec<String> {
        let of = self.outcomes().weighed(self.confidence, Outcome::is_ours);
        let ours = format!(
            "{} of {} runs are missed or misnamed; of the {} faults that they speak for, with {:.0} % \
             confidence {:.1} to {:.1} ({:.2} to {:.2} %)",
            of.seen,
            self.entries.len(),
            of.of,
            self.confidence * 100.0,
            of.from,
            of.to,
            of.percent(of.from),
            of.percent(of.to),
        );
        let sampled = self.head.sample.mode == Mode::Sampled;
        let predicted = self.predicted();
        let wrong = estimate(
            predicted.wrong,
            predicted.tested,
            predicted.tested + predicted.trusted,
            self.confidence,
        );
        let groups = format!(
            "{} runs were predicted by the first of their group and made all the same: {} came to something \
             else ({:.2} %; of all that were predicted, with {:.0} % confidence {:.2} to {:.2} %); {} were taken as \
             predicted",
            predicted.tested,
            predicted.wrong,
            wrong.share * 100.0,
            self.confidence * 100.0,
            wrong.from * 100.0,
            wrong.to * 100.0,
            predicted.trusted,
        );
        let groups = (!sampled).then_some(groups);
        let twice: Vec<bool> = self.entries.iter().filter_map(|entry| entry.same).collect();
        let twice = format!(
            "{} runs were made twice: {} came to something else the second time",
            twice.len(),
            twice.iter().filter(|same| !**same).count()
        );
        let hung: u32 = self.entries.iter().map(|entry| entry.hung).sum();
        let hung = (hung != 0).then(|| {
            format!(
                "{hung} guests were stopped by the time, and not when made again alone: either the host was busy, or \
                 they are not the same each time"
            )
        });
        let known = [
            Some(ours),
            Some(self.software()),
            self.unseen(),
            groups,
            Some(twice),
            hung,
        ];
        known.into_iter().flatten().collect()
    }

    /// Of how many faults of software it is that some were missed: of those that could be.
    fn software(&self) -> String {
        let outcomes = self.outcomes();
        let mut software = Tally::default();
        for planned in self.plan {
            let entry = outcomes.ran(planned);
            if entry.is_some() && planned.faults.iter().any(|fault| fault.is_software()) {
                software.add(entry);
            }
        }
        format!(
            "{} runs had faults of software: {} did harm, and of these {} were missed and {} misnamed",
            software.possible, software.harm, software.missed, software.misnamed
        )
    }

    /// Faults after which the run was the one without.
    fn unseen(&self) -> Option<String> {
        let outcomes = self.outcomes();
        let is_unseen = |planned: &&Planned| {
            let target = self.head.targets.get(planned.target as usize);
            let entry = outcomes.ran(planned);
            let (Some(target), Some(entry)) = (target, entry) else {
                return false;
            };
            planned.faults.len() == 1
                && entry.judged.outcome == Outcome::NoEffect
                && entry.run_hash.as_ref() == Some(&target.run_hash)
        };
        let unseen = self.plan.iter().filter(is_unseen).count();
        (unseen != 0).then(|| {
            format!(
                "{unseen} of {} runs without effect were the run without faults, to the hash: all that was stored, done \
                 and written came as before",
                self.count(Outcome::NoEffect)
            )
        })
    }

    /// Those that came to that, with why.
    pub fn all(&self, outcome: Outcome) -> impl Iterator<Item = (&Planned, &Entry)> {
        let plan: HashMap<u32, &Planned> = self.plan.iter().map(|p| (p.id, p)).collect();
        let its = move |entry: &&Entry| entry.judged.outcome == outcome;
        let entries = self.entries.iter().filter(its);
        entries.filter_map(move |entry| Some((*plan.get(&entry.id)?, entry)))
    }

    fn each(&self, outcome: Outcome, text: &mut String) {
        let all: Vec<_> = self.all(outcome).collect();
        if all.is_empty() {
            return;
        }
        let _ = writeln!(text, "\n{} ({}):", outcome.name(), all.len());
        for (planned, entry) in all.iter().take(SHOWN) {
            let why = entry.judged.why.as_deref().unwrap_or("");
            let _ = writeln!(text, "  {}, {}\n    {why}", planned.group, planned.site);
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
        let outcomes = self.outcomes();
        let mut classes: BTreeMap<(u32, String), Vec<(&Planned, &Entry)>> = BTreeMap::new();
        for planned in self.plan {
            let Some(entry) = outcomes.ran(planned) else {
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
    use crate::campaign::plan;

    #[test]
    fn a_sample_is_as_large_as_the_margin_asks_for() {
        // Cochran: 384.16 for 5 % at 95 %, of a population without end.
        assert_eq!(plan::sample_size(usize::MAX >> 12, 0.95, 0.05), 385);
        assert_eq!(plan::sample_size(1000, 0.95, 0.05), 278);
        assert_eq!(plan::sample_size(10, 0.99, 0.01), 10);
        assert_eq!(plan::sample_size(0, 0.99, 0.01), 0);
    }
}
