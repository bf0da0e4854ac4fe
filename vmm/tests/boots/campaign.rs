// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Campaigns on the real kernel.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use staleline_testing::{program, staleline};

/// One frame, and only what goes wrong with maintenance.
const SMALL: &str = "schema = 1\n[faults]\nclasses = [\"drop\", \"skip\", \"as\", \"barrier:dmb\"]\n\
                     [sample]\nmode = \"exhaustive\"\nrepeat = 0.1\n[[target]]\n\
                     scenarios = [\"iio-to-usb\"]\nkernels = [\"begin-end-access\"]\nset = [\"frames=1\"]\n";

/// The same, brief.
const DROPS: &str = "schema = 1\n[faults]\nclasses = [\"drop\", \"skip\"]\n[[target]]\n\
                     scenarios = [\"iio-to-usb\"]\nkernels = [\"begin-end-access\"]\nset = [\"frames=1\"]\n";

/// What goes wrong with maintenance and barriers: one of each group.
const SOFTWARE: &str = "schema = 1\n[sample]\ncheck = 0.0\nrepeat = 0.0\n\
                        [faults]\nclasses = [\"drop\", \"skip\", \"delay\", \"widen\", \"as\", \"barrier:removed\"]\n\
                        [[target]]\nscenarios = [\"iio-playback\"]\nkernels = [\"base\"]\n\
                        set = [\"frames=1\"]\n\
                        [[target]]\nscenarios = [\"iio-to-usb\"]\nkernels = [\"begin-end-access\"]\n\
                        set = [\"frames=1\"]\n";

/// Rules that these fall under, by the name that the sanitizer has for them.
const RULES: [&str; 6] = [
    "Clean",
    "LateClean",
    "Invalidate",
    "Discarded",
    "Order",
    "AliasStore",
];

fn campaign(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = staleline();
    command.current_dir(dir).arg("campaign").args(arguments);
    command
}

fn ends(mut command: Command, code: i32) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}\n{error}");
    said
}

fn results(dir: &Path, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join(name).join("results.jsonl")).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn nothing_is_missed_and_shares_are_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("small.toml"), SMALL).unwrap();
    let said = ends(campaign(dir, &["small.toml", "--out", "whole"]), 0);
    assert!(
        said.contains("0 came to something else the second time"),
        "{said}"
    );
    let whole = results(dir, "whole");
    assert!(whole.len() > 20, "{}", whole.len());
    let of = |outcome: &str| whole.iter().filter(|line| line.contains(outcome)).count();
    assert!(of("\"detected-visible\"") >= 2, "{said}");
    assert!(of("\"detected-latent\"") >= 2, "{said}");
    // From a guest that was saved as from one that boots.
    ends(
        campaign(dir, &["small.toml", "--boot", "--out", "booted"]),
        0,
    );
    assert_eq!(results(dir, "booted"), whole);
    for share in ["1/2", "2/2"] {
        let out = &share[..1];
        ends(
            campaign(dir, &["small.toml", "--shard", share, "--out", out]),
            0,
        );
    }
    let merged = ends(campaign(dir, &["--merge", "1", "2", "--out", "merged"]), 0);
    assert_eq!(results(dir, "merged"), whole);
    assert_eq!(merged, ends(campaign(dir, &["--report", "whole"]), 0));
    // Of one share alone, the other is missing.
    ends(campaign(dir, &["--merge", "1", "--out", "half"]), 3);
}

/// The exact engine's plugin, with rules that can be turned off.
fn plugin_with_rules() -> PathBuf {
    let target = program().ancestors().nth(2).unwrap().join("mutate");
    let built = Command::new(env!("CARGO"))
        .args(["build", "-p", "staleline-tcg", "--features", "mutate"])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status();
    assert!(built.unwrap().success());
    target.join("debug/libstaleline_tcg.so")
}

/// A campaign whose sanitizer lacks a rule.
fn without(dir: &Path, (plugin, rule): (&Path, &str), (file, out): (&str, &str)) -> Command {
    let mut command = campaign(dir, &[file, "--out", out]);
    command.env("STALELINE_TCG_PLUGIN", plugin);
    command.env("STALELINE_RULE_OFF", rule);
    command
}

fn missed(dir: &Path, name: &str) -> usize {
    let missed = |line: &&String| line.contains("\"miss\"");
    results(dir, name).iter().filter(missed).count()
}

/// A sanitizer that lacks a rule misses what that finds, and the campaign says so.
#[test]
#[ignore = "builds the plugin once more, with a rule that can be turned off"]
fn a_planted_miss_is_told() {
    let plugin = plugin_with_rules();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let late = SMALL.replace(
        "\"drop\", \"skip\", \"as\", \"barrier:dmb\"",
        "\"drop\", \"delay:end\"",
    );
    std::fs::write(dir.join("late.toml"), late).unwrap();
    let with =
        |rule: &str, out: &str, code| ends(without(dir, (&plugin, rule), ("late.toml", out)), code);
    with("", "all", 0);
    let said = with("Invalidate", "blind", 1);
    let missed = missed(dir, "blind");
    assert!(missed >= 2, "{said}");
    assert!(
        said.contains("miss (") && said.contains("--set inject=drop@"),
        "{said}"
    );
    // Whatever is not missed comes to what it came to before.
    let all = results(dir, "all");
    let blind = results(dir, "blind");
    let same = blind.iter().filter(|line| all.contains(line)).count();
    assert_eq!(same + missed, all.len(), "{said}");
}

/// Each of the rules that faults of software fall under on these paths, whether a wrong byte is seen or not: what it
/// would have found is missed, and comes to nothing else.
#[test]
#[ignore = "builds the plugin once more, with rules that can be turned off"]
fn whichever_rule_is_off_is_missed() {
    let plugin = plugin_with_rules();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("software.toml"), SOFTWARE).unwrap();
    let with = |rule: &str, out: &str| {
        let output = without(dir, (&plugin, rule), ("software.toml", out)).output();
        let output = output.unwrap();
        (output.status.code(), missed(dir, out))
    };
    let field = |line: &str, name: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line[name].to_string()
    };
    assert_eq!(with("", "all"), (Some(0), 0));
    let found = results(dir, "all");
    let found = found
        .iter()
        .filter(|line| field(line, "outcome").contains("detected"));
    let found: HashSet<String> = found.map(|line| field(line, "id")).collect();
    for rule in RULES {
        let (code, missed) = with(rule, rule);
        assert!(code == Some(1) && missed >= 1, "{rule}: {code:?}, {missed}");
        let all = results(dir, rule);
        let mut silent = all.iter().filter(|line| {
            found.contains(&field(line, "id")) && field(line, "outcome").contains("no-effect")
        });
        assert_eq!(silent.next(), None, "{rule}");
    }
}

/// What a campaign on this kernel is told by: lines of its drivers, times, a page, and beside itself.
#[test]
fn faults_have_their_line_in_the_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("drops.toml"), DROPS).unwrap();
    let ran = campaign(dir, &["drops.toml", "--out", "a", "--html", "a.html"]);
    let said = ends(ran, 0);
    assert!(
        said.contains("drivers/dma-buf/heaps/system_heap.c:"),
        "{said}"
    );
    let lines = results(dir, "a");
    let silent = lines.iter().filter(|line| line.contains("\"silent\":true"));
    assert!(silent.count() >= 2, "{said}");
    let page = std::fs::read_to_string(dir.join("a.html")).unwrap();
    assert!(page.contains("id=\"places\""), "{page}");
    let priced = ends(campaign(dir, &["--report", "a", "--cost", "1000000"]), 0);
    assert!(priced.starts_with(&said), "{priced}");
    assert!(priced.contains("1000000 runs: "), "{priced}");
    let same = ends(campaign(dir, &["--compare", "a", "a"]), 0);
    assert!(same.contains("Nothing has become worse"), "{same}");
}

/// Shares that a cluster's scheduler hands out, one of which is stopped and begun again on the way, come to what
/// one machine comes to.
#[test]
#[ignore = "needs Slurm: apt-get install slurm-wlm munge"]
fn a_slurm_array_comes_to_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let small = SMALL.replace("\"barrier:dmb\"", "\"barrier:dmb\", \"flip:memory\"");
    std::fs::write(dir.join("small.toml"), small).unwrap();
    ends(campaign(dir, &["small.toml", "--out", "whole"]), 0);
    let submit = ["small.toml", "--submit", "slurm", "--shards", "3", "--out"];
    let hand_in = ends(
        campaign(dir, &[&submit[..], &["its directory"]].concat()),
        0,
    );
    assert!(hand_in.starts_with("sbatch --dependency="), "{hand_in}");
    let script = format!(
        "set -e\n\
         cd 'its directory'\n\
         {}\n\
         # One of the shares, once it has something, is taken off its node.\n\
         until [ -s logs/1.log ] && ls shares/1/campaign.sqlite >/dev/null 2>&1; do sleep 0.2; done\n\
         sleep 6\n\
         job=$(squeue --noheader --format=%F --name=staleline | head -n 1)\n\
         scontrol requeue \"${{job}}_1\"\n\
         for _ in $(seq 900); do\n\
             task=$(squeue --noheader --format=%A --name=staleline --states=PENDING | head -n 1)\n\
             [ -z \"$task\" ] || scontrol update JobId=\"$task\" StartTime=now || true\n\
             [ -z \"$(squeue --noheader)\" ] && break\n\
             sleep 1\n\
         done\n",
        hand_in.trim_end()
    );
    let node = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/slurm-node");
    let mut command = Command::new(node);
    let plugin = staleline();
    for (name, value) in plugin.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
        .current_dir(dir)
        .arg("slurm")
        .args(["bash", "-c", &script]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    let log = |name: &str| {
        let log = dir.join("its directory/logs").join(name);
        std::fs::read_to_string(log).unwrap_or_default()
    };
    let logs = format!("{said}\n{error}\n{}\n{}", log("1.log"), log("merge.log"));
    println!("{logs}");
    assert!(output.status.success(), "{logs}");
    assert_eq!(
        results(dir, "its directory/merged"),
        results(dir, "whole"),
        "{logs}"
    );
    // It was begun twice.
    assert!(
        log("1.log").matches("without faults").count() >= 2,
        "{logs}"
    );
}
