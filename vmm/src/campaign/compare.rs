// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Two campaigns side by side, before and after a patch: what is found, missed and silent now.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use super::file::{Campaign, Faults, Sample, TargetGroup};
use super::judge::Outcome;
use super::plan::Planned;
use super::report::Report;
use super::sites::Site;
use super::store::{Entry, Head, Store};
use super::tally::{self, Tally};
use super::weigh::Outcomes;
use crate::exit::{self, Error};
use crate::report::sheet::{Row, Sheet};

/// Rows of each table, and misses, that are told.
const ROWS: usize = 40;

/// One of two.
struct Side {
    head: Head,
    plan: Vec<Planned>,
    entries: Vec<Entry>,
}

/// Settings by which campaigns are alike: everything but what their kernels are.
#[derive(PartialEq)]
struct Alike {
    faults: Faults,
    sample: Sample,
    /// Scenario and settings of each target, in order.
    targets: Vec<(String, Vec<String>)>,
}

impl Side {
    fn load(dir: &Path) -> Result<(Self, Alike), Error> {
        let store = Store::read(dir)?;
        let (head, plan) = store.begun_with()?;
        let side = Side {
            head,
            plan,
            entries: store.entries()?,
        };
        if let Some(share) = &side.head.share {
            return Err(refused(
                dir,
                &format!(
                    "it is the share {share} of a campaign: put all shares together first (--merge)"
                ),
            ));
        }
        let campaign = Campaign::parse(&side.head.campaign, &dir.display().to_string())?;
        let of = |group: &TargetGroup| -> Vec<(String, Vec<String>)> {
            let one = |scenario: &String| (scenario.clone(), group.set.clone());
            let each = group.scenarios.iter().map(one);
            each.flat_map(|one| vec![one; group.kernels.len()])
                .collect()
        };
        let alike = Alike {
            faults: campaign.faults,
            sample: side.head.sample.clone(),
            targets: campaign.target.iter().flat_map(of).collect(),
        };
        Ok((side, alike))
    }

    fn report(&self) -> Report<'_> {
        Report {
            head: &self.head,
            plan: &self.plan,
            entries: &self.entries,
            confidence: self.head.sample.confidence,
        }
    }

    /// Whether all of it was carried out.
    fn is_whole(&self) -> bool {
        self.report().exit_code() != exit::INFRA
    }

    fn outcomes(&self) -> Outcomes<'_> {
        Outcomes::new(self.head.sample.mode, &self.plan, &self.entries)
    }

    /// What is a fault of ours: class, scenario's number, file and function of each, as lines and numbers
    /// move with a patch; and how many there are of each, with one of them.
    fn ours(&self) -> BTreeMap<Ours<'_>, (usize, String)> {
        let report = self.report();
        let came: BTreeMap<u32, Outcome> = self
            .entries
            .iter()
            .filter(|entry| entry.judged.outcome.is_ours())
            .map(|entry| (entry.id, entry.judged.outcome))
            .collect();
        let mut ours: BTreeMap<Ours<'_>, (usize, String)> = BTreeMap::new();
        for planned in &self.plan {
            let Some(outcome) = came.get(&planned.id) else {
                continue;
            };
            let site = planned.site.without_line();
            let key = (outcome.name(), planned.target, planned.class(), site);
            let one = ours.entry(key);
            one.or_insert_with(|| (0, report.command(planned))).0 += 1;
        }
        ours
    }
}

/// Outcome, target, class, and file and function.
type Ours<'a> = (&'static str, u32, String, (&'a str, &'a str));

fn refused(dir: &Path, why: &str) -> Error {
    Error::Option {
        option: format!("--compare {}", dir.display()),
        why: why.to_owned(),
    }
}

/// What two campaigns have come to.
pub struct Comparison {
    text: String,
    worse: bool,
    whole: bool,
}

impl Comparison {
    /// For people.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The exit code: that a side was not carried out goes before all; then, whether anything has become worse.
    pub fn exit_code(&self) -> u8 {
        match (self.whole, self.worse) {
            (false, _) => exit::INFRA,
            (true, true) => exit::FAIL,
            (true, false) => exit::PASS,
        }
    }
}

/// Compares two campaigns, by directory. Of one and the same faults on the same scenarios, chosen the same way;
/// kernels, and what can go wrong in them, may differ.
///
/// # Errors
/// [`Error::NotARun`] for what is no campaign; [`Error::Option`] for two that differ in more.
pub fn compare(before: &Path, after: &Path) -> Result<Comparison, Error> {
    let ((a, alike), (b, other)) = (Side::load(before)?, Side::load(after)?);
    let differs = if a.head.engine != b.head.engine {
        Some(format!(
            "the engine, {} and {}",
            a.head.engine, b.head.engine
        ))
    } else if alike.faults != other.faults {
        Some("[faults], so in what was to go wrong".into())
    } else if alike.sample != other.sample {
        Some("[sample] or --exhaustive, so in how runs were chosen".into())
    } else if alike.targets != other.targets {
        Some("the scenarios of their targets, or these' settings".into())
    } else {
        None
    };
    match differs {
        Some(what) => Err(refused(
            after,
            &format!(
                "it and {} differ in {what}; only kernels may differ",
                before.display()
            ),
        )),
        None => Ok(compared((before, &a), (after, &b))),
    }
}

fn compared((before, a): (&Path, &Side), (after, b): (&Path, &Side)) -> Comparison {
    let (of_a, of_b) = (a.outcomes(), b.outcomes());
    let class = |planned: &Planned| planned.class();
    let classes = paired(
        tally::by(&a.plan, &of_a, class),
        tally::by(&b.plan, &of_b, class),
    );
    let place = |planned: &Planned| planned.site.clone();
    let places = lines(
        tally::by(&a.plan, &of_a, place),
        tally::by(&b.plan, &of_b, place),
    );
    let mut text = String::new();
    for (name, path, side) in [("before", before, a), ("after ", after, b)] {
        let targets: Vec<&str> = side.head.targets.iter().map(|t| &*t.name).collect();
        let _ = writeln!(text, "{name}  {}: {}", path.display(), targets.join(", "));
    }
    if a.head.program != b.head.program {
        text += "They were run by different builds of staleline: what differs may come of that.\n";
    }
    text.push('\n');
    let louder = |both: &(Tally, Tally)| both.1.silent > both.0.silent;
    let mut worse = classes.iter().any(|(_, both)| louder(both));
    let rows = classes
        .iter()
        .map(|(name, both)| row(name, both, louder(both)));
    text += &sheet("By class", rows.collect()).text();
    let moved = places.iter().filter(|(_, (a, b))| a != b);
    let rows = moved
        .map(|(name, both)| row(name, both, louder(both)))
        .collect();
    text += &sheet("By place, where it differs", rows).cut(ROWS).text();
    let (ours_a, ours_b) = (a.ours(), b.ours());
    let count =
        |all: &BTreeMap<Ours<'_>, (usize, String)>, key| all.get(key).map_or(0, |one| one.0);
    let keys: BTreeSet<&Ours<'_>> = ours_a.keys().chain(ours_b.keys()).collect();
    let (mut new, mut gone) = (Vec::new(), Vec::new());
    for key in keys {
        let (before, after) = (count(&ours_a, key), count(&ours_b, key));
        let (list, all) = match before.cmp(&after) {
            std::cmp::Ordering::Less => (&mut new, &ours_b),
            std::cmp::Ordering::Greater => (&mut gone, &ours_a),
            std::cmp::Ordering::Equal => continue,
        };
        let (outcome, _, class, (file, function)) = key;
        let command = all.get(key).map_or("", |one| &*one.1);
        list.push(format!(
            "  {outcome} {class}, {file} {function}: {before} -> {after}\n    {command}\n"
        ));
    }
    for (name, list) in [("New", &new), ("Gone", &gone)] {
        let _ = writeln!(text, "{name} misses and misnamed findings: {}", list.len());
        text.extend(list.iter().take(ROWS).map(String::as_str));
        if list.len() > ROWS {
            let _ = writeln!(text, "  and {} more", list.len() - ROWS);
        }
    }
    worse |= !new.is_empty();
    let whole = a.is_whole() && b.is_whole();
    text += match (whole, worse) {
        (false, _) => "\nOne of them was not carried out to its end, and says nothing.\n",
        (true, true) => "\nSomething has become worse.\n",
        (true, false) => "\nNothing has become worse.\n",
    };
    Comparison { text, worse, whole }
}

/// What each was before, and is after.
type Both = Vec<(String, (Tally, Tally))>;

fn paired(before: Vec<(String, Tally)>, after: Vec<(String, Tally)>) -> Both {
    let mut both: BTreeMap<String, (Tally, Tally)> = BTreeMap::new();
    for (name, tally) in before {
        both.entry(name).or_default().0 = tally;
    }
    for (name, tally) in after {
        both.entry(name).or_default().1 = tally;
    }
    both.into_iter().collect()
}

/// By file and function: lines, in order.
type Functions = BTreeMap<(String, String), Vec<(u32, (Site, Tally))>>;

fn by_function(sites: Vec<(Site, Tally)>) -> Functions {
    let mut by = Functions::new();
    for (site, tally) in sites {
        let (file, function) = site.without_line();
        let line = site.place.rsplit_once(':');
        let line = line.and_then(|(_, line)| line.parse().ok());
        let key = (file.to_owned(), function.to_owned());
        let lines = by.entry(key).or_default();
        lines.push((line.unwrap_or(0), (site, tally)));
    }
    by.values_mut()
        .for_each(|lines| lines.sort_by_key(|(line, _)| *line));
    by
}

/// Lines, of which a patch may have moved some. Those of a function are paired in their order, if it has as many
/// as before; if not, those of one number first.
fn lines(before: Vec<(Site, Tally)>, after: Vec<(Site, Tally)>) -> Both {
    let mut both = Both::new();
    let mut after = by_function(after);
    for (key, mut old) in by_function(before) {
        let mut new = after.remove(&key).unwrap_or_default();
        if old.len() != new.len() {
            old.retain(|(line, (site, tally))| {
                let there = new.iter().position(|(other, _)| other == line);
                let other = there.map(|at| new.remove(at).1.1);
                both.extend(other.map(|other| (site.to_string(), (*tally, other))));
                other.is_none()
            });
        }
        let mut new = new.into_iter();
        for (line, (site, tally)) in old {
            both.push(match new.next() {
                Some((now, (_, other))) if now == line => (site.to_string(), (tally, other)),
                Some((now, (_, other))) => (format!("{site} (now line {now})"), (tally, other)),
                None => (format!("{site} (gone)"), (tally, Tally::default())),
            });
        }
        after.insert(key, new.collect());
    }
    for (_, (site, tally)) in after.into_values().flatten() {
        both.push((format!("{site} (new)"), (Tally::default(), tally)));
    }
    both.sort_by_key(|(_, (a, b))| std::cmp::Reverse(b.silent.abs_diff(a.silent)));
    both
}

fn row(name: &str, (a, b): &(Tally, Tally), is_bad: bool) -> Row {
    let counts = |of: fn(&Tally) -> usize| match (of(a), of(b)) {
        (a, b) if a == b => a.to_string(),
        (a, b) => format!("{a} -> {b}"),
    };
    let share = |tally: &Tally| format!("{:.1}", tally.silent_share() * 100.0);
    let shares = match (share(a), share(b)) {
        (a, b) if a == b => format!("{a} %"),
        (a, b) => format!("{a} -> {b} %"),
    };
    Row {
        is_bad,
        ..vec![
            name.to_owned(),
            counts(|t| t.possible),
            counts(|t| t.known),
            counts(|t| t.harm),
            counts(|t| t.silent),
            shares,
            counts(|t| t.found),
            counts(|t| t.missed),
            counts(|t| t.misnamed),
        ]
        .into()
    }
}

fn sheet(title: &str, rows: Vec<Row>) -> Sheet {
    let head = [
        "faults",
        "possible",
        "known",
        "harm",
        "silent",
        "silent share",
        "found",
        "missed",
        "misnamed",
    ];
    Sheet {
        title: title.into(),
        about: "before -> after, or the one number that is both".into(),
        head: head.map(str::to_owned).into(),
        words: 1,
        rows,
        ..Sheet::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(line: u32, function: &str) -> Site {
        Site {
            place: format!("a.c:{line}"),
            function: function.into(),
        }
    }

    fn tally(silent: usize) -> Tally {
        Tally {
            silent,
            ..Tally::default()
        }
    }

    #[test]
    fn lines_that_moved_are_paired_by_their_function() {
        let before = vec![
            (site(9, "f"), tally(1)),
            (site(100, "f"), tally(2)),
            (site(20, "g"), tally(3)),
            (site(30, "h"), tally(4)),
            (site(50, "i"), tally(5)),
            (site(51, "i"), tally(6)),
        ];
        let after = vec![
            (site(11, "f"), tally(1)),
            (site(102, "f"), tally(2)),
            (site(110, "f"), tally(9)),
            (site(20, "g"), tally(2)),
            (site(51, "i"), tally(5)),
            (site(52, "i"), tally(6)),
        ];
        let told: Vec<String> = lines(before, after)
            .iter()
            .map(|(name, (a, b))| format!("{name}: {} {}", a.silent, b.silent))
            .collect();
        assert_eq!(
            told,
            [
                "a.c:110 f (new): 0 9",
                "a.c:30 h (gone): 4 0",
                "a.c:20 g: 3 2",
                "a.c:9 f (now line 11): 1 1",
                "a.c:100 f (now line 102): 2 2",
                "a.c:50 i (now line 51): 5 5",
                "a.c:51 i (now line 52): 6 6",
            ]
        );
    }
}
