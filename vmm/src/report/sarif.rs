// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! SARIF 2.1.0 (OASIS), by which code hosts show findings beside the lines of a patch.
//!
//! A finding stands where code of a driver, or of the user's program, last had a part in it: that is
//! most often what a patch changes. The way there are its related locations.

use std::io::{self, Write};

use serde_json::{Value, json};
use staleline_results::{Class, Diagnostic, KERNEL_REPORT, Party, Place, RunResult, Verdict};

use super::fold::{self, ChainLine};
use super::uri::{self, Base};
use super::{Explained, Reporter, RunEvent, finding};
use crate::explain::{self, Kind};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";
/// Findings of a document, at most: code hosts refuse more.
const MOST: usize = 5000;

/// Writes a run when it is over.
pub struct Sarif<W>(pub W);

impl<W: Write> Reporter for Sarif<W> {
    fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        if let RunEvent::Finished { result, .. } = event {
            let mut document = Document::default();
            document.add(result);
            document.write(&mut self.0)?;
        }
        self.0.flush()
    }
}

/// Runs as one document; what several found alike stands there once.
#[derive(Default)]
pub struct Document {
    found: Vec<Found>,
    /// What kept runs from checking what they were to check.
    troubles: Vec<String>,
}

impl Document {
    /// One more run.
    pub fn add(&mut self, result: &RunResult) {
        let Document { found, troubles } = self;
        if result.verdict == Verdict::InfraError && troubles.len() < MOST {
            troubles.push(format!("{}\n{}", result.reasons.join("\n"), result.replay));
        }
        for new in of(result) {
            match found.iter().position(|known| known.is_like(&new)) {
                Some(known) => found[known].replays.extend(new.replays),
                None if found.len() < MOST => found.push(new),
                None => {}
            }
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// Those of the output.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let Document { found, troubles } = self;
        let base = Base::here();
        let troubles = troubles
            .iter()
            .map(|text| json!({ "level": "error", "message": { "text": text } }));
        let troubles: Vec<_> = troubles.collect();
        let rules = Kind::rules().map(|kind| {
            json!({
                "id": kind.name(),
                "shortDescription": { "text": explain::summary(kind) },
                "help": { "text": explain::text(kind) },
            })
        });
        let document = json!({
            "$schema": SCHEMA,
            "version": "2.1.0",
            "runs": [{
                "tool": { "driver": {
                    "name": "staleline",
                    "version": env!("CARGO_PKG_VERSION"),
                    "rules": rules.collect::<Vec<_>>(),
                } },
                "invocations": [{
                    "executionSuccessful": troubles.is_empty(),
                    "toolExecutionNotifications": troubles,
                }],
                "columnKind": "utf16CodeUnits",
                "results": found.iter().map(|found| found.json(&base)).collect::<Vec<_>>(),
            }],
        });
        serde_json::to_writer_pretty(&mut *out, &document)?;
        out.write_all(b"\n")
    }
}

/// One finding.
struct Found {
    rule: &'static str,
    level: &'static str,
    /// What people read.
    text: String,
    /// What is the same in each run that has it.
    print: String,
    at: Option<Spot>,
    way: Vec<(String, Spot)>,
    replays: Vec<String>,
}

/// A line of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Spot {
    /// The file, from the top of its tree where that is known.
    file: String,
    line: u32,
    /// Where on the host it is, if that is known, and it is the user's.
    path: Option<String>,
}

impl Found {
    fn is_like(&self, other: &Found) -> bool {
        (self.rule, &self.at, &self.print) == (other.rule, &other.at, &other.print)
    }

    fn json(&self, base: &Base) -> Value {
        let replays = self.replays.join("\n  ");
        let mut json = json!({
            "ruleId": self.rule,
            "level": self.level,
            "message": { "text": format!("{}\nreplay:\n  {replays}", self.text) },
            "partialFingerprints": { "staleline/v1": self.print },
            "properties": { "replay": self.replays },
        });
        if let Some(at) = &self.at {
            json["locations"] = json!([at.json(base)]);
        }
        if !self.way.is_empty() {
            let way = self.way.iter().map(|(text, spot)| {
                let mut location = spot.json(base);
                location["message"] = json!({ "text": text });
                location
            });
            json["relatedLocations"] = way.collect();
        }
        json
    }
}

impl Spot {
    /// Of `file:line`, which is `path` on the host.
    fn new(place: &str, path: Option<String>) -> Option<Self> {
        let (file, line) = place.rsplit_once(':')?;
        let whole = || file.starts_with('/').then(|| file.to_owned());
        Some(Spot {
            file: file.to_owned(),
            line: line.parse().ok().filter(|line| *line > 0)?,
            path: path.or_else(whole),
        })
    }

    fn json(&self, base: &Base) -> Value {
        let below = self.path.as_deref().and_then(|path| base.relative(path));
        let file = below.as_ref().unwrap_or(&self.file);
        json!({ "physicalLocation": {
            "artifactLocation": { "uri": uri::of(file) },
            "region": { "startLine": self.line },
        } })
    }
}

/// A function that has a place in a source.
struct Stop {
    name: String,
    spot: Spot,
    /// It is a driver's; of the user's own, a module's or one whose source is there.
    driver: bool,
    own: bool,
    /// It is of the user's program.
    program: bool,
}

/// The way to a place, innermost function first.
fn stops(place: &Place) -> Vec<Stop> {
    let lines = fold::chain(place).into_iter();
    let stop = |line| match line {
        ChainLine::Folded { .. } => None,
        ChainLine::Function {
            name,
            place,
            driver,
            program,
            module,
            text,
            path,
        } => {
            let mut spot = Spot::new(&place?, path)?;
            // Nobody knows where its own tree is but who has it.
            if module && let Some(path) = &spot.path {
                spot.file.clone_from(path);
            }
            Some(Stop {
                own: driver && (module || text.is_some()),
                program: program && !is_ours(&spot.file),
                name,
                spot,
                driver,
            })
        }
    };
    lines.filter_map(stop).collect()
}

/// Where a person would look at a place first: in a driver of the user's own, a module or one whose source is
/// there; else in the user's program, if it went through one; else in a driver of the kernel's.
fn stop(place: &Place) -> Option<Stop> {
    let mut stops = stops(place);
    let first = |fits: fn(&Stop) -> bool| stops.iter().position(fits);
    // Of kernel code without a driver, no line is anybody's.
    let any = || (!place.kernel && !stops.is_empty()).then_some(0);
    let at = first(|stop| stop.own)
        .or_else(|| first(|stop| stop.program))
        .or_else(|| first(|stop| stop.driver))
        .or_else(any)?;
    Some(stops.swap_remove(at))
}

fn spot(place: &Place) -> Option<Spot> {
    Some(stop(place)?.spot)
}

/// The function, and its file and line, where a person would look at a finding first: where code of a driver, or
/// of a program, last had a part in it.
pub fn site(diagnostic: &Diagnostic) -> Option<(String, String)> {
    let stop = diagnostic.history.iter().rev().find_map(|step| {
        let Party::Cpu { place, .. } = &step.who else {
            return None;
        };
        stop(place)
    })?;
    Some((stop.name, format!("{}:{}", stop.spot.file, stop.spot.line)))
}

/// What programs are written with, and not by the user: who looks for a mistake looks where it is used.
fn is_ours(file: &str) -> bool {
    file.ends_with("/staleline.h") || file.contains("images/guest/src/")
}

fn of(result: &RunResult) -> Vec<Found> {
    let causes = result.causes().filter_map(|cause| {
        let diagnostic = result.diagnostics.get(cause)?;
        let explained = Explained::of(result, diagnostic)?;
        let consequences = Explained::consequences(result, cause);
        Some(one(result, diagnostic, &explained, &consequences))
    });
    let reports = result.guest.complaints().map(|report| {
        let stops = report.place.as_ref().map(stops).unwrap_or_default();
        // The kernel itself says that it is this line, whosever it is.
        let first = || Some(stops.first()?.spot.clone());
        Found {
            rule: KERNEL_REPORT,
            level: "error",
            text: super::human::plain_report(report, result.has_errors(), ""),
            print: report.headline.clone(),
            at: report.place.as_ref().and_then(spot).or_else(first),
            way: stops.into_iter().map(|s| (s.name, s.spot)).collect(),
            replays: vec![result.replay.clone()],
        }
    });
    let found: Vec<_> = causes.chain(reports).collect();
    if found.is_empty() && result.verdict == Verdict::Fail {
        return vec![failed(result)];
    }
    found
}

/// A failure of which nothing was found that has a place.
fn failed(result: &RunResult) -> Found {
    let reasons = result.reasons.join("\n");
    let corrupt = result.data.corrupt_ends().next().is_some();
    Found {
        rule: if corrupt {
            explain::CORRUPT_DATA
        } else {
            explain::FAILED
        },
        level: "error",
        print: format!("{} {reasons}", result.scenario),
        text: reasons,
        at: None,
        way: Vec::new(),
        replays: vec![result.replay.clone()],
    }
}

fn one(
    result: &RunResult,
    diagnostic: &Diagnostic,
    explained: &Explained,
    consequences: &[Explained],
) -> Found {
    let steps = diagnostic.history.iter().rev();
    let mut way: Vec<(String, Spot)> = Vec::new();
    for step in steps {
        if let Party::Cpu { place, .. } = &step.who
            && let Some(spot) = spot(place)
            && !way.iter().any(|(_, known)| *known == spot)
        {
            way.push((finding::in_words(step), spot));
        }
    }
    let at = way.first().map(|(_, spot)| spot.clone());
    Found {
        rule: diagnostic.topic(),
        level: match diagnostic.class {
            Class::Error => "error",
            Class::StaleCopy => "note",
        },
        text: super::human::plain(explained, consequences, ""),
        // Neither addresses nor counts, which differ from run to run.
        print: format!(
            "{} {} {}",
            diagnostic.topic(),
            diagnostic.advice,
            explained.finding.master
        ),
        at,
        way,
        replays: vec![result.replay.clone()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_by_file_and_line() {
        let spot = Spot::new("drivers/iio/a b.c:12", None).unwrap();
        assert_eq!((spot.file.as_str(), spot.line), ("drivers/iio/a b.c", 12));
        assert_eq!(
            spot.json(&Base::here())["physicalLocation"]["artifactLocation"]["uri"],
            "drivers/iio/a%20b.c"
        );
        assert_eq!(Spot::new("lib/memcpy.S", None), None);
        assert_eq!(Spot::new("x.c:0", None), None);
    }

    fn uri_of(spot: &Spot) -> String {
        let json = spot.json(&Base::here());
        let uri = &json["physicalLocation"]["artifactLocation"]["uri"];
        uri.as_str().unwrap().to_owned()
    }

    /// A code host can do nothing with the bare name of a file.
    #[test]
    fn a_modules_own_file_is_named_from_the_checkout() {
        let here = std::env::current_dir().unwrap();
        let mut of_module = place("copy", "own.c", 3);
        of_module.module = Some("own".into());
        for (path, uri) in [
            (here.join("src/own.c"), "vmm/src/own.c".to_owned()),
            (
                "/elsewhere/own.c".into(),
                "file:///elsewhere/own.c".to_owned(),
            ),
        ] {
            of_module.frames[0].path = Some(path.display().to_string());
            let found = uri_of(&spot(&of_module).unwrap());
            // A copy of the sources without git knows only where it is.
            assert!(found == uri || found == "src/own.c", "{found}");
        }
        // A tree is its own top, wherever it is.
        let mut of_tree = place("read", "drivers/my/read.c", 7);
        of_tree.frames[0].path = Some("/elsewhere/linux/drivers/my/read.c".into());
        assert_eq!(uri_of(&spot(&of_tree).unwrap()), "drivers/my/read.c");
        let of_program = place("main", &format!("{}/src/main.c", here.display()), 9);
        let found = uri_of(&spot(&of_program).unwrap());
        assert!(!found.contains(':'), "{found}");
    }

    fn place(function: &str, file: &str, line: u32) -> Place {
        Place {
            va: staleline_results::Hex(0x40_0000),
            kernel: !file.starts_with('/'),
            symbol: Some(format!("{function}+0x8")),
            module: None,
            program: file.starts_with('/').then(|| "prog".to_owned()),
            frames: vec![staleline_results::Frame {
                function: function.into(),
                file: Some(file.into()),
                line: Some(line),
                text: None,
                path: None,
            }],
            stack: None,
        }
    }

    #[test]
    fn who_made_the_system_call_is_where_people_look_unless_a_driver_is_theirs() {
        let ioctl = [
            place("clean", "arch/arm64/mm/cache.S", 1),
            place("heap", "drivers/dma-buf/heaps/system_heap.c", 2),
            place("dma_buf_ioctl", "drivers/dma-buf/dma-buf.c", 3),
            place("el0_svc", "arch/arm64/kernel/entry-common.c", 4),
            place("stl_sync_start", "/home/me/include/staleline.h", 5),
            place("main", "/home/me/prog.c", 6),
        ];
        let spot_of = |mut places: Vec<Place>| {
            let mut first = places.remove(0);
            first.stack = Some(staleline_results::Stack {
                callers: places,
                ..staleline_results::Stack::default()
            });
            spot(&first).map(|spot| (spot.file, spot.line))
        };
        let at = |file: &str, line| Some((file.to_owned(), line));
        assert_eq!(spot_of(ioctl.to_vec()), at("/home/me/prog.c", 6));
        let in_kernel = ioctl[..4].to_vec();
        assert_eq!(
            spot_of(in_kernel),
            at("drivers/dma-buf/heaps/system_heap.c", 2)
        );
        let mut module = ioctl.to_vec();
        module[2].module = Some("mine".into());
        module[2].frames[0].file = Some("mine.c".into());
        assert_eq!(spot_of(module), at("mine.c", 3));
        // The tree is the user's: its lines can be shown.
        let mut tree = ioctl.to_vec();
        tree[1].frames[0].text = Some("sync();".into());
        assert_eq!(spot_of(tree), at("drivers/dma-buf/heaps/system_heap.c", 2));
    }
}
