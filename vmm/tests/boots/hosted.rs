// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The workflows for hosted CI, as far as they can be gone through here: their commands are carried out in
//! the order in which the service would, with its expressions filled in. What actions do is done by hand.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize;
use tempfile::TempDir;

use crate::support::{need_kernel, program, staleline};

const SERIES: &str = include_str!("../../../ci/hosted/github.yml");
const MATRIX: &str = include_str!("../../../ci/hosted/matrix.yml");

/// Of a workflow, what is looked at.
#[derive(Debug, Deserialize)]
struct Workflow {
    jobs: BTreeMap<String, Job>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Job {
    #[serde(default)]
    strategy: Strategy,
    #[serde(default)]
    needs: Option<String>,
    container: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
    steps: Vec<Step>,
}

#[derive(Debug, Default, Deserialize)]
struct Strategy {
    #[serde(default)]
    matrix: BTreeMap<String, Vec<serde_json::Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Step {
    #[serde(default)]
    uses: Option<String>,
    #[serde(default)]
    run: Option<String>,
    #[serde(default)]
    with: BTreeMap<String, String>,
}

fn workflow(text: &str) -> Workflow {
    serde_saphyr::from_str(text).unwrap()
}

/// A machine of the service's: a checkout, and `staleline` on its PATH.
struct Machine {
    dir: TempDir,
}

impl Machine {
    fn new(matrix: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("work/ci")).unwrap();
        fs::create_dir(at("bin")).unwrap();
        fs::write(at("work/ci/staleline.toml"), matrix).unwrap();
        // The kernels are there; the command that builds one is only to be understood.
        let shim = format!(
            "#!/bin/sh\nif [ \"$1\" = kernel ]; then exec '{0}' \"$@\" --help >/dev/null; fi\nexec '{0}' \"$@\"\n",
            program().display()
        );
        fs::write(at("bin/staleline"), shim).unwrap();
        fs::set_permissions(at("bin/staleline"), fs::Permissions::from_mode(0o755)).unwrap();
        Machine { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("work").join(name)
    }

    /// As a step's shell does: the first command that fails ends it.
    fn run(&self, script: &str) -> Output {
        let path = std::env::var("PATH").unwrap();
        let bin = self.dir.path().join("bin");
        let ours = staleline();
        let mut shell = Command::new("sh");
        shell
            .args(["-e", "-c", script])
            .current_dir(self.dir.path().join("work"))
            .env("PATH", format!("{}:{path}", bin.display()));
        for (name, value) in ours.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell.output().unwrap()
    }
}

/// With what stands for the machine and the share put in.
fn filled(text: &str, runner: &str, share: &str) -> String {
    let text = text
        .replace("${{ matrix.runner }}", runner)
        .replace("${{ matrix.share }}", share);
    assert!(!text.contains("${{"), "{text}");
    text
}

fn move_into(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::rename(from, to).unwrap();
}

/// Goes through `share` once for each, and gives what they upload, by name.
fn shares(job: &Job, runner: &str, matrix: &str) -> Vec<(String, PathBuf, Machine)> {
    let all = job.strategy.matrix["share"].iter();
    all.map(|share| {
        let (share, machine) = (share.to_string(), Machine::new(matrix));
        let mut uploaded = Vec::new();
        for step in &job.steps {
            if let Some(script) = &step.run {
                let done = machine.run(&filled(script, runner, &share));
                assert!(done.status.success(), "{done:?}");
            }
            if step
                .uses
                .as_deref()
                .is_some_and(|u| u.contains("upload-artifact"))
            {
                let with = |key: &str| filled(&step.with[key], runner, &share);
                uploaded.push((with("name"), machine.path(&with("path"))));
            }
        }
        let [(name, path)] = &uploaded[..] else {
            panic!("{uploaded:?}");
        };
        assert!(path.is_dir(), "{}", path.display());
        (name.clone(), path.clone(), machine)
    })
    .collect()
}

/// Goes through `whole`: what its last command ended with, and the machine.
fn whole(
    job: &Job,
    runner: &str,
    matrix: &str,
    shares: &[(String, PathBuf, Machine)],
) -> (Output, Machine) {
    let machine = Machine::new(matrix);
    let mut last = None;
    for step in &job.steps {
        if step
            .uses
            .as_deref()
            .is_some_and(|u| u.contains("download-artifact"))
        {
            let pattern = filled(&step.with["pattern"], runner, "");
            let start = pattern.strip_suffix('*').unwrap();
            for (name, path, _) in shares.iter().filter(|(name, ..)| name.starts_with(start)) {
                move_into(path, &machine.path(&step.with["path"]).join(name));
            }
        }
        if let Some(script) = &step.run {
            last = Some(machine.run(&filled(script, runner, "")));
        }
    }
    (last.unwrap(), machine)
}

#[test]
fn a_matrix_is_shared_by_machines_and_put_together() {
    need_kernel("base");
    let workflow = workflow(MATRIX);
    let (share, all) = (&workflow.jobs["share"], &workflow.jobs["whole"]);
    assert_eq!(all.needs.as_deref(), Some("share"));
    let runner = share.strategy.matrix["runner"][0].as_str().unwrap();
    let group = |expect: &str| {
        format!(
            "schema = 1\n[[group]]\nscenarios = [\"boot\", \"iio-capture-nosync\"]\nseeds = [1, 2]\n\
             expect = \"{expect}\"\n"
        )
    };

    let matrix = group("any");
    let parts = shares(share, runner, &matrix);
    let (done, machine) = whole(all, runner, &matrix, &parts);
    let table = String::from_utf8(done.stdout.clone()).unwrap();
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(table.contains("4 cells, 4 as expected, 0 not"), "{table}");
    assert!(machine.path("whole/junit.xml").is_file());
    let mut uploads = all.steps.iter().filter_map(|step| step.with.get("path"));
    let last = uploads.next_back().unwrap();
    assert!(
        last.lines().all(|path| machine.path(path).exists()),
        "{last}"
    );
    let page = fs::read_to_string(machine.path("whole.html")).unwrap();
    assert_eq!(page.matches("<tr id=\"c").count(), 4);

    // What is not as expected fails the whole, and no share.
    let matrix = group("pass");
    let parts = shares(share, runner, &matrix);
    let (done, _) = whole(all, runner, &matrix, &parts);
    assert_eq!(done.status.code(), Some(1), "{done:?}");

    // A machine that was lost is no pass.
    let mut parts = shares(share, runner, &matrix);
    let with_cells = |(_, path, _): &(String, PathBuf, Machine)| {
        fs::read(path.join("cells.jsonl")).unwrap().is_empty()
    };
    let lost = parts.iter().position(|part| !with_cells(part)).unwrap();
    parts.remove(lost);
    let (done, _) = whole(all, runner, &matrix, &parts);
    assert_eq!(done.status.code(), Some(3), "{done:?}");
}

/// What it uploads is there, and its commands end as the service has to know.
#[test]
fn a_series_is_judged_beside_its_lines() {
    need_kernel("base");
    let workflow = workflow(SERIES);
    let job = &workflow.jobs["coherency"];
    for (scenario, code) in [("boot", 0), ("iio-capture-nosync", 1)] {
        let matrix = format!("schema = 1\n[[group]]\nscenarios = [\"{scenario}\"]\n");
        let machine = Machine::new(&matrix);
        let mut codes = Vec::new();
        for script in job.steps.iter().filter_map(|step| step.run.as_ref()) {
            codes.push(machine.run(script).status.code());
        }
        assert_eq!(codes, [Some(0), Some(code)]);
        for step in &job.steps {
            let path = ["sarif_file", "path"]
                .iter()
                .find_map(|key| step.with.get(*key));
            let paths = path.iter().flat_map(|p| p.lines());
            // The cache is elsewhere.
            for path in paths.filter(|p| Path::new(p).is_relative()) {
                assert!(machine.path(path).exists(), "{path}");
            }
        }
        let sarif = fs::read(machine.path("staleline.sarif")).unwrap();
        let sarif: serde_json::Value = serde_json::from_slice(&sarif).unwrap();
        let found = sarif["runs"][0]["results"].as_array().unwrap();
        assert_eq!(found.is_empty(), code == 0, "{found:?}");
    }
}

/// Actions are of a version, and the container is what the Containerfile makes.
#[test]
fn workflows_name_what_they_use() {
    for text in [SERIES, MATRIX] {
        for (name, job) in workflow(text).jobs {
            assert!(
                job.container.starts_with("ghcr.io/OWNER/staleline:"),
                "{name}"
            );
            for step in job.steps {
                assert_ne!(step.uses.is_some(), step.run.is_some(), "{step:?}");
                let version = |uses: &str| {
                    uses.split_once("@v")
                        .is_some_and(|(_, v)| v.parse::<u8>().is_ok())
                };
                assert!(step.uses.as_deref().is_none_or(version), "{step:?}");
                // In the checkout it would be part of the source that it is the cache of.
                let caches = |uses: &str| uses.starts_with("actions/cache@");
                if step.uses.as_deref().is_some_and(caches) {
                    let cache = &job.env["XDG_CACHE_HOME"];
                    assert!(cache.starts_with("/var/"), "{cache}");
                    assert_eq!(&step.with["path"], cache);
                }
            }
        }
    }
}
