// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What tests of whole runs share: the command in a directory of its own, and a look at what it leaves.
//!
//! All of it panics where a test would fail.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a part of tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use staleline::run::ledger;
use staleline::run::wiring::Production;
use staleline::scenario::builtin;
use staleline_results::HazardKind;
use staleline_results::{MaintenanceOp, RunResult, Verdict};
use tempfile::TempDir;

/// Bytes of a cache line.
const LINE: u64 = 64;
const PLUGIN: &str = "libstaleline_tcg.so";

/// Guests that a test runs at a time; such tests say so in `.config/nextest.toml`.
const AT_A_TIME: usize = 2;

/// The command that Cargo has built for the test that runs: tests stand in `deps/`, it one up.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let dir = test.ancestors().nth(2).unwrap();
    dir.join("staleline")
}

/// The command, with nothing of the environment that would change what it does.
pub fn staleline() -> Command {
    let mut command = Command::new(program());
    command
        .env_remove("STALELINE_LOG")
        .env("STALELINE_TCG_PLUGIN", plugin())
        .env("NO_COLOR", "1");
    command
}

/// The plugin beside the command, which must be as new as the command: the models are in it.
fn plugin() -> PathBuf {
    let program = program();
    let dir = program.parent().unwrap();
    let build = match dir.file_name().is_some_and(|name| name == "release") {
        true => "cargo build --release -p staleline-tcg",
        false => "cargo build -p staleline-tcg",
    };
    // Cargo leaves it in deps/ when it builds tests, and links it here when it builds all.
    let places = [dir.join("deps").join(PLUGIN), dir.join(PLUGIN)];
    let built = places.iter().filter_map(|p| Some((modified(p)?, p)));
    let Some((time, plugin)) = built.max() else {
        panic!("there is no {PLUGIN} in {}: run `{build}`", dir.display());
    };
    // What Cargo wrote down about the sources; paths with spaces are passed over.
    let sources = std::fs::read_to_string(dir.join("libstaleline_tcg.d")).unwrap_or_default();
    let newer = sources
        .split_whitespace()
        .filter(|path| path.ends_with(".rs"))
        .find(|path| modified(Path::new(path)).is_some_and(|t| t > time));
    if let Some(newer) = newer {
        panic!("{newer} is newer than {PLUGIN}, in which it runs: run `{build}`");
    }
    plugin.clone()
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

/// A kernel that is not built yet would be built now, for minutes, and by several tests at once.
pub fn need_kernel(stack: &str) {
    let kernels = Production::default().kernels().unwrap();
    let built = kernels
        .iter()
        .any(|k| k.name == stack && k.version.is_some());
    assert!(
        built,
        "the guest kernel `{stack}` is not built: run `{} kernel build --stack {stack}`",
        program().display()
    );
}

/// A command that is over, and the directory it wrote, which lives as long as this.
pub struct Run {
    /// Its exit code.
    pub code: i32,
    /// All it printed.
    pub stdout: String,
    /// And complained.
    pub stderr: String,
    arguments: String,
    dir: TempDir,
}

/// The scenarios that come with the program and can be run as they are: `exec` is there to be given a program.
pub fn scenarios() -> impl Iterator<Item = &'static str> {
    builtin::names().filter(|name| *name != "exec")
}

/// `staleline run` with these arguments.
#[track_caller]
pub fn run(arguments: &[&str]) -> Run {
    need_kernel("base");
    let dir = tempfile::tempdir().unwrap();
    let mut command = staleline();
    command.arg("run").args(arguments).arg("--out");
    finish(command, arguments, dir)
}

/// `staleline run` of one of the kernel's paths with settings: `("frames", "4")`.
#[track_caller]
pub fn run_set(scenario: &str, settings: &[&str]) -> Run {
    run(&set(&[scenario], settings))
}

fn set<'a>(arguments: &[&'a str], settings: &[&'a str]) -> Vec<&'a str> {
    let settings = settings.iter().flat_map(|s| ["--set", *s]);
    arguments.iter().copied().chain(settings).collect()
}

/// The same, without a second pass for call chains.
#[track_caller]
pub fn run_once(scenario: &str, settings: &[&str]) -> Run {
    run(&set(&[scenario, "--no-trace"], settings))
}

/// Settings for each replacement policy.
pub const CACHES: [&str; 4] = ["cache=zynqmp", "cache=lazy", "cache=eager", "cache=random"];
/// And for each that snooping writes have.
pub const WRITES: [&str; 2] = ["snoop-write=write-through", "snoop-write=allocate"];

/// Each of these settings with all of those.
pub fn under_every_policy(first: &[&'static str]) -> Vec<[&'static str; 3]> {
    let caches = first.iter().flat_map(|first| CACHES.map(|c| (*first, c)));
    let all = caches.flat_map(|(first, cache)| WRITES.map(|write| [first, cache, write]));
    all.collect()
}

/// Runs `command`, of which only the directory is missing, to its end.
#[track_caller]
pub fn finish(mut command: Command, arguments: &[&str], dir: TempDir) -> Run {
    command.arg(out(&dir));
    finish_with(command, &[], arguments, dir)
}

/// Runs `command`, of which only these words are missing, to its end. It writes to `out` below `dir`.
#[track_caller]
pub fn finish_with(mut command: Command, rest: &[&str], arguments: &[&str], dir: TempDir) -> Run {
    let Output {
        status,
        stdout,
        stderr,
    } = command.args(rest).output().unwrap();
    let run = Run {
        code: status.code().expect("a signal ended staleline"),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
        arguments: arguments.join(" "),
        dir,
    };
    let left = processes_in(run.dir.path());
    assert!(left.is_empty(), "{}: left behind: {left:?}", run.arguments);
    run
}

fn out(dir: &TempDir) -> PathBuf {
    dir.path().join("out")
}

impl Run {
    /// The directory it wrote.
    pub fn path(&self) -> PathBuf {
        out(&self.dir)
    }

    /// `staleline replay` of it, with more arguments: the exit code, and what it printed.
    pub fn replay(&self, more: &[&str]) -> (i32, String) {
        let mut command = staleline();
        let output = command.arg("replay").arg(self.path()).args(more).output();
        let output = output.unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), told)
    }

    /// A file of that directory.
    #[track_caller]
    pub fn file(&self, name: &str) -> String {
        let path = self.path().join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", self.told(name)))
    }

    /// `result.json`.
    #[track_caller]
    pub fn result(&self) -> RunResult {
        let text = self.file("result.json");
        let result =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", self.told(&text)));
        // It follows from the log, and from nothing else.
        let evidence = ledger::of(&self.path()).unwrap();
        assert!(evidence.result() == result, "{}", self.told("the log"));
        for hazard in &result.hazards {
            let lines = (hazard.end_pa.0 - hazard.first_pa.0) / LINE;
            let fits = hazard.manifested_lines <= hazard.lines
                && hazard.lines <= lines
                && hazard.wrong_bytes <= hazard.manifested_lines * LINE;
            assert!(fits, "{hazard:#?} of {}", self.told("counts"));
        }
        result
    }

    /// Its result, after a look at exit code and verdict.
    #[track_caller]
    pub fn ends(&self, code: i32, verdict: Verdict) -> RunResult {
        assert_eq!(self.code, code, "{}", self.told("exit code"));
        let result = self.result();
        assert_eq!(result.verdict, verdict, "{}", self.told("verdict"));
        result
    }

    /// It has passed, and has really checked what it set out to.
    #[track_caller]
    pub fn passes(&self) -> RunResult {
        let result = self.ends(0, Verdict::Pass);
        clean(&result);
        result
    }

    /// It has failed by exactly these hazards.
    #[track_caller]
    pub fn fails(&self, kinds: &[HazardKind]) -> RunResult {
        let result = self.ends(1, Verdict::Fail);
        assert_eq!(kinds_of(&result), kinds, "{}", self.told("hazards"));
        result
    }

    fn told(&self, what: &str) -> String {
        format!(
            "{what} of `staleline run {}`:\n{}{}",
            self.arguments, self.stdout, self.stderr
        )
    }
}

/// A result in which nothing is wrong and nothing was left out.
#[track_caller]
pub fn clean(result: &RunResult) {
    let of = &result.replay;
    assert_eq!(result.verdict, Verdict::Pass, "{of}: {:?}", result.reasons);
    assert!(
        result.hazards.is_empty() && result.hazards_dropped == 0,
        "{of}"
    );
    assert_eq!(result.data.corrupt_bytes, 0, "{of}");
    assert!(result.data.planned > 0, "{of}: it moves nothing");
    assert_eq!(result.data.bytes, result.data.planned, "{of}");
    assert!(
        result.guest.tests.iter().all(|t| t.ok && !t.skipped),
        "{of}"
    );
    assert!(result.guest.warnings.is_empty(), "{of}");
    assert!(result.guest.reports.is_empty(), "{of}");
}

/// Maintenance on DMA memory that somebody asked for. The boot code's own, before it turns the MMU on
/// and the caches with it, is needed on every board: its stores go past the cache. It has no callers.
pub fn asked_for(result: &RunResult) -> Vec<&MaintenanceOp> {
    let operations = result.maintenance.operations.iter();
    operations.filter(|o| !o.caller.is_empty()).collect()
}

/// The kinds of hazards found, each once, in the order of the sanitizer's list.
pub fn kinds_of(result: &RunResult) -> Vec<HazardKind> {
    let mut kinds: Vec<_> = result.hazards.iter().map(|h| h.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// Each of these scenarios with each exporter that any kernel has.
pub fn by_every_exporter(scenarios: &[&'static str]) -> Vec<(&'static str, &'static str)> {
    let exporters = |scenario| ["udmabuf", "system", "cma"].map(|exporter| (scenario, exporter));
    scenarios.iter().copied().flat_map(exporters).collect()
}

/// Does `work` on all items, [`AT_A_TIME`] at a time; results are in the order of the items.
pub fn side_by_side<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, R)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some((n, item)) = {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    items.get(n).map(|item| (n, item))
                } {
                    let result = work(item);
                    done.lock().unwrap().push((n, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(n, _)| *n);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Processes whose command line names something below `dir`, as QEMU's does its console.
pub fn processes_in(dir: &Path) -> Vec<String> {
    let dir = dir.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|p| p.file_name().to_string_lossy().parse::<u32>().is_ok())
        .filter_map(|p| {
            // A process that has ended meanwhile has no command line.
            let bytes = std::fs::read(p.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
            line.contains(dir)
                .then(|| format!("{}: {line}", p.file_name().display()))
        })
        .collect()
}
