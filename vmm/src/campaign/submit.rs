// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Files for a cluster's scheduler: a task for each share of a campaign, and one that puts them together.
//!
//! Shares know nothing of each other, and a task needs nothing but its number. What was stopped, wherever, is
//! gone on with by who is given that number next.

use std::path::Path;

use askama::Template;
use serde_json::{Value, json};
use staleline_support::digest;

use super::store;
use crate::spec::quote;

/// What came of the runs, in order and without times: the same for the same campaign, however it was run.
pub const RESULTS: &str = "results.jsonl";

/// Where the campaign's file is in a container.
const FILE: &str = "/campaign/campaign.toml";

/// How often a share is tried again that could not be carried out.
const TRIES: u32 = 6;

/// Seconds in which a guest that is told to stop has written down what it came to.
const GRACE: u32 = 60;

/// A campaign that is to be run by a cluster.
#[derive(Debug, Clone)]
pub struct Submission<'a> {
    /// This program.
    pub program: &'a str,
    /// The campaign's file.
    pub file: &'a str,
    /// What stands there.
    pub text: &'a str,
    /// The directory for results, on a file system that all machines have.
    pub dir: &'a str,
    /// Shares.
    pub shards: u32,
    /// Guests at a time in each.
    pub jobs: u16,
    /// Memory that a share needs, in MiB.
    pub mib: u64,
    /// Options of a share that is begun.
    pub chosen: String,
    /// Options of one that is begun or gone on with.
    pub options: String,
}

#[derive(Template)]
#[template(path = "campaign.sbatch", escape = "none")]
struct Array<'a> {
    shards: u32,
    jobs: u16,
    mib: u64,
    dir: String,
    program: String,
    file: String,
    store: &'a str,
    chosen: &'a str,
    options: &'a str,
}

#[derive(Template)]
#[template(path = "merge.sbatch", escape = "none")]
struct Merge {
    dir: String,
    merge: String,
}

#[derive(Template)]
#[template(path = "merge.sh", escape = "none")]
struct MergeScript<'a> {
    program: &'a str,
    shards: u32,
    results: &'a str,
}

#[derive(Template)]
#[template(path = "share.sh", escape = "none")]
struct ShareScript<'a> {
    shards: u32,
    file: &'a str,
    store: &'a str,
    chosen: &'a str,
    options: &'a str,
}

/// A file's name, and what stands in it.
pub type Written = (&'static str, String);

impl Submission<'_> {
    /// For Slurm: a job array, and a job that depends on it.
    ///
    /// # Errors
    /// What cannot be written as text.
    pub fn slurm(&self) -> Result<Vec<Written>, askama::Error> {
        let (dir, program) = (quote(self.dir), quote(self.program));
        let array = Array {
            shards: self.shards,
            jobs: self.jobs,
            mib: self.mib,
            dir: dir.clone(),
            program: program.clone(),
            file: quote(self.file),
            store: store::FILE,
            chosen: &self.chosen,
            options: &self.options,
        };
        let merge = Merge {
            dir,
            merge: self.merge(&program)?,
        };
        let text = |text: String| text + "\n";
        Ok(vec![
            ("campaign.sbatch", text(array.render()?)),
            ("merge.sbatch", text(merge.render()?)),
        ])
    }

    fn merge(&self, program: &str) -> Result<String, askama::Error> {
        let script = MergeScript {
            program,
            shards: self.shards,
            results: RESULTS,
        };
        script.render()
    }

    /// What it is called in Kubernetes: another campaign has another name, and so has another sample of it.
    fn name(&self) -> String {
        let seed = digest::bytes(format!("{}{} {}", self.shards, self.chosen, self.text));
        let short = digest::short(&seed);
        format!("staleline-{}", short.get(..8).unwrap_or(short))
    }

    /// For Kubernetes: an indexed job over a volume for results, and a job for afterwards.
    ///
    /// # Errors
    /// What cannot be written as text.
    pub fn kubernetes(&self, image: &str) -> Result<Vec<Written>, askama::Error> {
        let name = self.name();
        let script = ShareScript {
            shards: self.shards,
            file: FILE,
            store: store::FILE,
            chosen: &self.chosen,
            options: &self.options,
        };
        let share = script.render()? + "\n";
        let merge = format!("set -u\ndir=/results\n{}\n", self.merge("staleline")?);
        let config = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": name },
            "data": { "campaign.toml": self.text },
        });
        let claim = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": { "name": name },
            "spec": {
                "accessModes": ["ReadWriteMany"],
                "resources": { "requests": { "storage": "20Gi" } },
            },
        });
        let job = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": { "name": name },
            "spec": {
                "completionMode": "Indexed",
                "completions": self.shards,
                "parallelism": self.shards,
                "backoffLimitPerIndex": TRIES,
                "maxFailedIndexes": self.shards,
                "podFailurePolicy": { "rules": [
                    // Who is evicted has not failed.
                    { "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }] },
                ] },
                "template": self.pod(&name, image, &share),
            },
        });
        let after = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": { "name": format!("{name}-merge") },
            "spec": {
                "backoffLimit": 0,
                "template": self.pod(&name, image, &merge),
            },
        });
        let comment = "# Made by `staleline campaign --submit kubernetes`.\n";
        Ok(vec![
            (
                "campaign.yaml",
                format!("{comment}{}", yaml(&[config, claim, job])?),
            ),
            ("merge.yaml", format!("{comment}{}", yaml(&[after])?)),
        ])
    }

    fn pod(&self, name: &str, image: &str, script: &str) -> Value {
        json!({ "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": GRACE,
            "containers": [{
                "name": "staleline",
                "image": image,
                "command": ["/bin/sh", "-c", script],
                // Kernels are built once for all shares.
                "env": [{ "name": "XDG_CACHE_HOME", "value": "/results/cache" }],
                "resources": { "requests": {
                    "cpu": self.jobs.to_string(),
                    "memory": format!("{}Mi", self.mib),
                } },
                "volumeMounts": [
                    { "name": "campaign", "mountPath": "/campaign", "readOnly": true },
                    { "name": "results", "mountPath": "/results" },
                ],
            }],
            "volumes": [
                { "name": "campaign", "configMap": { "name": name } },
                { "name": "results", "persistentVolumeClaim": { "claimName": name } },
            ],
        } })
    }
}

fn yaml(documents: &[Value]) -> Result<String, askama::Error> {
    let text = documents.iter().map(serde_saphyr::to_string);
    let text: Result<Vec<String>, _> = text.collect();
    text.map(|text| text.join("---\n"))
        .map_err(|e| askama::Error::Custom(Box::new(e)))
}

impl Submission<'_> {
    fn path(&self, name: &str) -> String {
        quote(&Path::new(self.dir).join(name).display().to_string())
    }

    /// How the files for Slurm are handed in.
    pub fn hand_in_slurm(&self) -> String {
        format!(
            "sbatch --dependency=afterany:\"$(sbatch --parsable {})\" {}\n",
            self.path("campaign.sbatch"),
            self.path("merge.sbatch")
        )
    }

    /// How those for Kubernetes are.
    pub fn hand_in_kubernetes(&self) -> String {
        format!(
            // A share that fails fails the job, and the others are worth putting together all the same.
            "kubectl apply -f {}\nuntil kubectl get job/{} -o jsonpath='{{.status.conditions[*].type}}' | grep -Eq \
             'Complete|Failed'; do sleep 30; done\nkubectl apply -f {}\n",
            self.path("campaign.yaml"),
            self.name(),
            self.path("merge.yaml")
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use k8s_openapi::api::batch::v1::Job;
    use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim};
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::*;

    /// Of names that shells and YAML make something else of, if they are let.
    fn submission() -> Submission<'static> {
        Submission {
            program: "/opt/stale line/bin/staleline",
            file: "/home/o'neil/$(halt)/a.toml",
            text: "schema = 1 # \": {}\n- a\n",
            dir: "/shared/\"results\" of `date`",
            shards: 3,
            jobs: 2,
            mib: 768,
            chosen: " --engine tcg".into(),
            options: " --jobs 2".into(),
        }
    }

    fn of(written: &[Written], name: &str) -> String {
        written
            .iter()
            .find(|(own, _)| *own == name)
            .unwrap()
            .1
            .clone()
    }

    #[test]
    fn slurm_gets_an_array_and_what_depends_on_it() {
        let written = submission().slurm().unwrap();
        insta::assert_snapshot!(of(&written, "campaign.sbatch"));
        insta::assert_snapshot!("merge.sbatch", of(&written, "merge.sbatch"));
        insta::assert_snapshot!(
            "hand_in",
            submission().hand_in_slurm() + &submission().hand_in_kubernetes()
        );
    }

    /// What a shell makes of the scripts: a program of that name is run with these arguments, for a share that is
    /// new, for one that was begun, and for the merge.
    #[test]
    fn shells_read_the_scripts_as_they_are_meant() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("it's \"$HOME\"");
        std::fs::create_dir_all(root.join("logs")).unwrap();
        let program = root.join("stale line");
        // It makes what the real one would, as far as the scripts look at it.
        let fake = "#!/bin/sh\nprintf '[%s]' \"$@\"\necho\nfor last; do :; done\n\
                    [ \"$2\" = --merge ] && touch \"$last/results.jsonl\"\nexit 1\n";
        std::fs::write(&program, fake).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let root = root.to_str().unwrap();
        let submission = Submission {
            program: program.to_str().unwrap(),
            dir: root,
            ..submission()
        };
        let written = submission.slurm().unwrap();
        let run = |name: &str, log: &str| {
            let script = dir.path().join(name);
            std::fs::write(&script, of(&written, name)).unwrap();
            let status = std::process::Command::new("bash")
                .arg(&script)
                .env("SLURM_ARRAY_TASK_ID", "2")
                .status();
            assert_eq!(status.unwrap().code(), Some(1));
            let log = Path::new(root).join("logs").join(log);
            let text = std::fs::read_to_string(&log).unwrap();
            std::fs::remove_file(log).unwrap();
            text
        };
        assert_eq!(
            run("campaign.sbatch", "2.log"),
            format!(
                "[campaign][/home/o'neil/$(halt)/a.toml][--shard][2/3][--out][{root}/shares/2][--engine][tcg]\
                 [--jobs][2]\n"
            )
        );
        let share = Path::new(root).join("shares/2");
        std::fs::create_dir_all(&share).unwrap();
        std::fs::write(share.join(store::FILE), "").unwrap();
        let again = run("campaign.sbatch", "2.log");
        assert_eq!(
            again,
            format!("[campaign][--resume][{root}/shares/2][--jobs][2]\n")
        );
        let merged = run("merge.sbatch", "merge.log");
        let shares = [1, 2, 3].map(|n| format!("[{root}/shares/{n}]")).concat();
        assert!(
            merged.starts_with(&format!(
                "[campaign][--merge]{shares}[--out][{root}/merging."
            )),
            "{merged}"
        );
        assert!(Path::new(root).join("merged/results.jsonl").is_file());
        // Handed in again, shares may have come further: what there was makes room for what there is.
        let merged = Path::new(root).join("merged");
        std::fs::write(merged.join("old"), "").unwrap();
        let again = run("merge.sbatch", "merge.log");
        assert!(again.contains("[--merge]"), "{again}");
        assert!(merged.join("results.jsonl").is_file() && !merged.join("old").exists());
        let left = std::fs::read_dir(root).unwrap();
        let names: Vec<_> = left.map(|e| e.unwrap().file_name()).collect();
        let merging = |name: &&std::ffi::OsString| name.to_string_lossy().starts_with("merging");
        assert_eq!(names.iter().find(merging), None);
    }

    /// By the types of the API: what they do not know is not in what they write.
    fn known<T: Serialize + DeserializeOwned>(document: &Value) -> T {
        let read: T = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(&serde_json::to_value(&read).unwrap(), document);
        read
    }

    #[test]
    fn kubernetes_gets_what_its_api_knows() {
        let written = submission().kubernetes("registry/staleline:1").unwrap();
        let text = of(&written, "campaign.yaml");
        insta::assert_snapshot!("campaign.yaml", text);
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let [config, claim, job] = &documents[..] else {
            panic!("{documents:?}");
        };
        let config: ConfigMap = known(config);
        assert_eq!(config.data.unwrap()["campaign.toml"], submission().text);
        known::<PersistentVolumeClaim>(claim);
        let job = known::<Job>(job).spec.unwrap();
        assert_eq!(job.completions, Some(3));
        assert_eq!(job.completion_mode.as_deref(), Some("Indexed"));
        let merge = of(&written, "merge.yaml");
        insta::assert_snapshot!("merge.yaml", merge);
        known::<Job>(&serde_saphyr::from_str(&merge).unwrap());
        // Another campaign has other names.
        let other = Submission {
            shards: 4,
            ..submission()
        };
        let name = |written: &[Written]| {
            let text = of(written, "merge.yaml");
            text.lines()
                .find(|line| line.contains("claimName"))
                .unwrap()
                .to_owned()
        };
        assert_ne!(name(&written), name(&other.kubernetes("i").unwrap()));
    }
}
