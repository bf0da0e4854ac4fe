// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The same run again: what differs, and what may be why.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::directory;
use crate::engine::EngineKind;
use crate::exit::Error;
use crate::result::fold::Fold;
use crate::scenario::{append, limits};
use crate::spec::{self, RunSpec};
use staleline_results::RunResult;

/// An earlier run.
#[derive(Debug, Clone, PartialEq)]
pub struct Earlier {
    /// What was run.
    pub spec: RunSpec,
    /// What came of it.
    pub result: RunResult,
    /// Its hash.
    pub run_hash: String,
}

impl Earlier {
    /// Reads it from its log, or from what lies in its directory if there is no evidence in that.
    ///
    /// # Errors
    /// [`Error::NotARun`] if it is none or did not get far enough to be compared.
    pub fn read(run: &Path) -> Result<Self, Error> {
        let (from, spec, result) = match of_log(run) {
            Ok(Some(known)) => known,
            Ok(None) => of_files(run)?,
            Err(damaged) => return Err(damaged),
        };
        let not_a_run = |why: String| Error::NotARun {
            path: run.to_owned(),
            why,
        };
        if spec.schema != spec::SCHEMA {
            return Err(not_a_run(format!(
                "what was run has schema {}, this program reads {}",
                spec.schema,
                spec::SCHEMA
            )));
        }
        if spec.terminal.is_some() {
            return Err(not_a_run(
                "what was typed at its guest's console is not known: it cannot be done again"
                    .into(),
            ));
        }
        limits::check(&spec.scenario, &from.display().to_string())?;
        let run_hash = result
            .run_hash
            .clone()
            .ok_or_else(|| not_a_run("the run broke off and has no hash to compare with".into()))?;
        Ok(Earlier {
            spec,
            result,
            run_hash,
        })
    }
}

impl Earlier {
    /// Adds to the kernel command line of what is to be run again.
    ///
    /// # Errors
    /// If the kernel cannot be given that.
    pub fn append(&mut self, words: &str) -> Result<(), Error> {
        let guest = &mut self.spec.scenario.guest;
        guest.append = append::joined(&guest.append, words);
        let option = format!("--append {}", spec::quote(words));
        // A program of the user's comes last.
        self.spec.invocation = match self.spec.invocation.split_once(" -- ") {
            Some((before, program)) => format!("{before} {option} -- {program}"),
            None => format!("{} {option}", self.spec.invocation),
        };
        limits::check(&self.spec.scenario, "--append")
    }
}

/// What was run and what came of it, and the file that says so.
type Known = (PathBuf, RunSpec, RunResult);

fn of_log(run: &Path) -> Result<Option<Known>, Error> {
    let Ok(path) = directory::log_of(run) else {
        return Ok(None);
    };
    let fold = match Fold::of(&path) {
        Ok(fold) => fold,
        Err(source) => return Err(Error::Log { path, source }),
    };
    Ok(fold.map(|fold| {
        let spec = fold.carried_out();
        let mut result = fold.result();
        // It is made by this program, but of what that one has seen.
        result.staleline.clone_from(&spec.staleline);
        (path, spec, result)
    }))
}

fn of_files(dir: &Path) -> Result<Known, Error> {
    let spec = directory::read_json(dir, directory::SPEC)?;
    let result = directory::read_json(dir, directory::RESULT)?;
    Ok((dir.join(directory::SPEC), spec, result))
}

/// Something that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Name of the field of `result.json`.
    pub what: String,
    /// Then.
    pub before: String,
    /// Now.
    pub after: String,
}

/// The outcome of a replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Whether the same happened, as far as its engine does the same each time.
    pub same: bool,
    /// Whether it does, down to the last access. If not, verdict, kinds of findings and what was moved are compared.
    pub exact: bool,
    /// What happened otherwise.
    pub differences: Vec<Difference>,
    /// What went into the run and is not what it was; may be why.
    pub inputs: Vec<Difference>,
}

/// Compares two results of what should be the same run.
pub fn compare(before: &RunResult, after: &RunResult) -> Comparison {
    let mut differences = Vec::new();
    let mut differs = |what: &str, get: &dyn Fn(&RunResult) -> String| {
        note(&mut differences, what, get, before, after);
    };
    let text = |o: &Option<String>| o.clone().unwrap_or_else(|| "none".into());
    let exact = EngineKind::named(&after.engine).is_none_or(EngineKind::is_exact);
    if exact {
        differs("run_hash", &|r| text(&r.run_hash));
        differs("accesses", &|r| r.accesses.to_string());
    }
    differs("verdict", &|r| r.verdict.name().into());
    match exact {
        true => differs("hazards", &|r| r.hazards_total.to_string()),
        false => differs("kinds of hazards", &|r| {
            let kinds: BTreeSet<&str> = r.hazards.iter().map(|h| h.kind.name()).collect();
            kinds.into_iter().collect::<Vec<_>>().join(", ")
        }),
    }
    differs("data.bytes", &|r| r.data.bytes.to_string());
    match exact {
        true => differs("data.corrupt_bytes", &|r| r.data.corrupt_bytes.to_string()),
        false => differs("wrong data", &|r| (r.data.corrupt_bytes != 0).to_string()),
    }

    let mut inputs = Vec::new();
    let mut differs = |what: &str, get: &dyn Fn(&RunResult) -> String| {
        note(&mut inputs, what, get, before, after);
    };
    // First what the user can have changed.
    let given = before.inputs.iter().chain(&after.inputs);
    let given: BTreeSet<&str> = given.map(|input| &*input.guest).collect();
    for guest in given {
        differs(guest, &|r| {
            let input = r.inputs.iter().rev().find(|input| input.guest == guest);
            text(&input.map(|input| input.hash.clone()))
        });
    }
    let packages = before.packages.iter().chain(&after.packages);
    let packages: BTreeSet<&str> = packages.map(|package| &*package.name).collect();
    for name in packages {
        differs(&format!("package {name}"), &|r| {
            let package = r.packages.iter().find(|package| package.name == name);
            text(&package.map(|p| format!("{} ({})", p.version, p.hash)))
        });
    }
    differs("append", &|r| r.append.clone());
    differs("engine_arguments", &|r| r.engine_arguments.join(" "));
    differs("staleline", &|r| r.staleline.clone());
    differs("kernel.hash", &|r| {
        text(&r.kernel.as_ref().map(|k| k.hash.clone()))
    });
    differs("kernel.image_hash", &|r| {
        text(&r.kernel.as_ref().and_then(|k| k.image_hash.clone()))
    });
    // What is made of all that.
    differs("initrd_hash", &|r| text(&r.initrd_hash));
    differs("disk_hash", &|r| text(&r.disk_hash));
    Comparison {
        same: differences.is_empty() && after.run_hash.is_some(),
        exact,
        differences,
        inputs,
    }
}

fn note(
    list: &mut Vec<Difference>,
    what: &str,
    get: &dyn Fn(&RunResult) -> String,
    before: &RunResult,
    after: &RunResult,
) {
    let (before, after) = (get(before), get(after));
    if before != after {
        list.push(Difference {
            what: what.into(),
            before,
            after,
        });
    }
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let told = match (self.same, self.exact) {
            (true, true) => "same",
            (true, false) => "same verdict and kinds, which is all that its engine does each time",
            (false, _) => "different",
        };
        writeln!(f, "replay: {told}")?;
        for d in &self.differences {
            writeln!(f, "  {}: {} before, {} now", d.what, d.before, d.after)?;
        }
        for d in &self.inputs {
            writeln!(
                f,
                "  input {}: {} before, {} now",
                d.what, d.before, d.after
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use staleline_results::Input;
    use staleline_support::progress::Quiet;

    use super::super::directory::RunDir;
    use super::super::fake::FakeBackend;
    use super::super::logbook;
    use super::super::orchestrate::Runner;
    use super::*;
    use crate::engine::EngineKind;
    use crate::report::Reporters;

    fn run(backend: &FakeBackend, spec: &RunSpec, dir: &Path) -> RunResult {
        let runner = Runner {
            backend,
            progress: &Quiet,
            trace: false,
        };
        let dir = RunDir::replace(dir).unwrap();
        runner.run(spec, &dir, &mut Reporters::default()).unwrap()
    }

    #[test]
    fn the_same_run_is_the_same_and_another_is_not() {
        let root = tempfile::tempdir().unwrap();
        let settings = ["drop-maintenance=2".to_owned()];
        let spec =
            RunSpec::resolve("iio-capture", "base", EngineKind::default(), &settings).unwrap();
        let before = run(&FakeBackend::good(), &spec, root.path());
        let earlier = Earlier::read(root.path()).unwrap();
        assert_eq!(earlier.result, before);

        let again = FakeBackend::good();
        let after = run(&again, &earlier.spec, &root.path().join("replay"));
        assert!(compare(&before, &after).same);
        // No second pilot: the run is known by its absolute number.
        assert_eq!(*again.attempts.lock().unwrap(), [Some(102)]);

        let other = FakeBackend::new(|_, e, _| e.report.as_mut().unwrap().domain.run_hash = 1);
        let mut after = run(&other, &earlier.spec, &root.path().join("replay"));
        after.initrd_hash = Some("new".into());
        after.inputs.push(Input {
            guest: "/root/prog".into(),
            host: "/home/me/prog".into(),
            hash: "88bb".into(),
        });
        insta::assert_snapshot!(compare(&before, &after), @r"
        replay: different
          run_hash: 0123456789abcdef before, 0000000000000001 now
          input /root/prog: none before, 88bb now
          input initrd_hash: 77aa before, new now
        ");
    }

    /// Its hash is another each time; what it does the same is its verdict, and that it has run at all.
    #[test]
    fn an_engine_that_is_not_exact_is_held_to_what_it_does_each_time() {
        let root = tempfile::tempdir().unwrap();
        let spec = RunSpec::resolve("iio-capture", "base", EngineKind::default(), &[]).unwrap();
        let mut before = run(&FakeBackend::good(), &spec, root.path());
        let inexact = EngineKind::ALL.into_iter().find(|kind| !kind.is_exact());
        before.engine = inexact.unwrap().name().into();
        let mut after = before.clone();
        after.run_hash = Some("another".into());
        after.accesses += 1;
        let same = compare(&before, &after);
        assert!(same.same && !same.exact, "{same}");
        after.data.corrupt_bytes = 1;
        assert_eq!(compare(&before, &after).differences[0].what, "wrong data");
        let mut broken = before.clone();
        broken.run_hash = None;
        assert!(!compare(&broken, &broken).same);
    }

    #[test]
    fn the_log_alone_is_enough() {
        let root = tempfile::tempdir().unwrap();
        let settings = ["drop-maintenance=2".to_owned()];
        let spec =
            RunSpec::resolve("iio-capture", "base", EngineKind::default(), &settings).unwrap();
        let backend = FakeBackend::good();
        let runner = Runner {
            backend: &backend,
            progress: &Quiet,
            trace: false,
        };
        let dir = RunDir::create(root.path()).unwrap();
        let files = &mut logbook::files(&dir).unwrap();
        let before = runner.run(&spec, &dir, files).unwrap();
        let resolved: RunSpec = directory::read_json(root.path(), directory::SPEC).unwrap();
        // Nor does it matter what lies beside it.
        let mut other = before.clone();
        other.run_hash = Some("0123".into());
        dir.write_json(directory::RESULT, &other).unwrap();
        assert_eq!(Earlier::read(root.path()).unwrap().result, before);
        std::fs::remove_file(dir.file(directory::RESULT)).unwrap();
        std::fs::remove_file(dir.file(directory::SPEC)).unwrap();
        for run in [root.path().to_owned(), dir.file(directory::LOG)] {
            let earlier = Earlier::read(&run).unwrap();
            assert_eq!(earlier.result, before);
            // Which operation was suppressed is known, so that there is no second pilot.
            assert_eq!(earlier.spec, resolved);
        }

        // What cannot be read is told, whatever lies beside it.
        dir.write_json(directory::RESULT, &before).unwrap();
        dir.write_json(directory::SPEC, &resolved).unwrap();
        std::fs::write(dir.file(directory::LOG), "STALE").unwrap();
        let e = Earlier::read(root.path()).unwrap_err();
        assert!(matches!(e, Error::Log { .. }), "{e}");
    }

    #[test]
    fn what_was_typed_cannot_be_done_again() {
        let root = tempfile::tempdir().unwrap();
        let mut spec = RunSpec::resolve("boot", "base", EngineKind::default(), &[]).unwrap();
        let (rows, columns) = (24, 80);
        spec.terminal = Some(staleline_protocol::plan::Terminal { rows, columns });
        let typed = FakeBackend::new(|_, e, _| {
            e.attended.typed = Some(7);
            e.end = staleline_results::GuestEnd::Left;
        });
        let result = run(&typed, &spec, root.path());
        assert_eq!((result.attended.typed, &result.run_hash), (Some(7), &None));
        let note = "7 bytes were typed at the guest's console: this run cannot be done again";
        assert!(result.notes.iter().any(|n| n == note), "{:?}", result.notes);
        let e = Earlier::read(root.path()).unwrap_err();
        assert!(e.to_string().contains("cannot be done again"), "{e}");
    }

    #[test]
    fn what_the_engine_was_given_is_given_again() {
        let root = tempfile::tempdir().unwrap();
        let spec = RunSpec::resolve("boot", "base", EngineKind::default(), &[]).unwrap();
        let with = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            spec.clone().with_arguments(&words)
        };
        let spec = with(&["-x", "y z"]).unwrap();
        assert!(spec.invocation.ends_with(" --qemu-arg=-x '--qemu-arg=y z'"));
        let before = run(&FakeBackend::good(), &spec, root.path());
        assert_eq!(before.engine_arguments, ["-x", "y z"]);
        assert_eq!(Earlier::read(root.path()).unwrap().spec, spec);
        let mut after = before.clone();
        after.engine_arguments.clear();
        let told = compare(&before, &after).to_string();
        assert!(told.contains("engine_arguments: -x y z before"), "{told}");
        for bad in [&["a\0"][..], &["-daemonize"], &[""; 257]] {
            assert!(with(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_run_that_broke_off_cannot_be_compared() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(
            Earlier::read(root.path()),
            Err(Error::NotARun { .. })
        ));
        let spec = RunSpec::resolve("boot", "base", EngineKind::default(), &[]).unwrap();
        run(
            &FakeBackend::new(|_, e, _| e.report = None),
            &spec,
            root.path(),
        );
        let e = Earlier::read(root.path()).unwrap_err();
        assert!(e.to_string().contains("broke off"), "{e}");
    }
}
