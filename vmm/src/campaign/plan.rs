// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! All faults of a campaign, and which of them are run: written before the first is.

use std::collections::HashSet;

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use staleline_devices::faults::Fault;
use staleline_support::digest;

use super::file::{Campaign, Mode, PairsOf};
use super::points::Point;
use super::sites::Site;

/// Faults that are tried together, on one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Its number, from 0.
    pub id: u32,
    /// Which target.
    pub target: u32,
    /// One, or a combination.
    pub faults: Vec<Fault>,
    /// What all of its group come to, if the first of them does.
    pub group: String,
    /// Where in the guest's kernel they are.
    #[serde(default)]
    pub site: Site,
    /// Whether it is the first of its group.
    pub pilot: bool,
    /// Whether it is run.
    pub run: bool,
    /// Whether it is run twice.
    pub twice: bool,
}

impl Planned {
    /// What kind of faults they are.
    pub fn class(&self) -> String {
        let classes: Vec<&str> = self.faults.iter().map(|fault| fault.class()).collect();
        classes.join(" and ")
    }

    /// When its turn is, beside those of others: by chance, and the same each time.
    pub fn turn(&self) -> u64 {
        draw(&format!("turn {} {}", self.target, self.setting()), 0)
    }

    /// The faults as a setting has them.
    pub fn setting(&self) -> String {
        let faults: Vec<String> = self.faults.iter().map(Fault::to_string).collect();
        faults.join(",")
    }
}

/// Normal deviate for a confidence that a file may ask for.
pub fn deviate(confidence: f64) -> f64 {
    if confidence < 0.925 {
        1.644_853_6
    } else if confidence < 0.97 {
        1.959_964
    } else {
        2.575_829_3
    }
}

/// How many of a population have to be looked at for a share to be known so well, at worst (Cochran's formula,
/// with the correction for finite populations).
pub fn sample_size(population: usize, confidence: f64, margin: f64) -> usize {
    let z = deviate(confidence);
    let infinite = z * z * 0.25 / (margin * margin);
    let n = population as f64;
    let size = infinite / (1.0 + (infinite - 1.0) / n.max(1.0));
    let whole = size.ceil().clamp(0.0, f64::from(u32::MAX));
    #[allow(clippy::cast_sign_loss, reason = "it is not negative")]
    let whole = whole as usize;
    whole.min(population)
}

/// A number that depends on a text and a seed alone.
fn draw(text: &str, seed: u64) -> u64 {
    let digest = digest::bytes(format!("{seed} {text}"));
    u64::from_str_radix(digest::short(&digest), 16).unwrap_or(0)
}

/// The same, from 0 to 1.
fn chance(text: &str, seed: u64) -> f64 {
    draw(text, seed) as f64 / u64::MAX as f64
}

/// The plan, from the faults that are possible on each target.
pub fn plan(campaign: &Campaign, targets: &[Vec<Point>]) -> Vec<Planned> {
    let mut all = Vec::new();
    for (target, points) in (0..).zip(targets) {
        let wanted: Vec<&Point> = points
            .iter()
            .filter(|point| campaign.wants(point.fault.class()))
            .collect();
        let one = |point: &&Point| (vec![point.fault], point.group.clone());
        let singles = wanted.iter().map(one);
        let pairs = pairs(&wanted, campaign, target);
        for (faults, group) in singles.chain(pairs) {
            all.push(Planned {
                // Bounded by what a census has room for.
                id: all.len() as u32,
                target,
                faults,
                group,
                site: Site::default(),
                pilot: false,
                run: false,
                twice: false,
            });
        }
    }
    choose(campaign, &mut all);
    all
}

/// Combinations of two faults, by chance.
fn pairs(points: &[&Point], campaign: &Campaign, target: u32) -> Vec<(Vec<Fault>, String)> {
    let combined = |point: &&&Point| match campaign.faults.pairs_of {
        PairsOf::Software => point.fault.is_software(),
        PairsOf::All => true,
    };
    let combined: Vec<&&Point> = points.iter().filter(combined).collect();
    let mut rng = SplitMix64::seed_from_u64(campaign.sample.seed ^ u64::from(target) << 32);
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let (wanted, n) = (campaign.faults.pairs as usize, combined.len() as u64);
    if n < 2 {
        return found;
    }
    // Not all draws are of two different ones that were not drawn yet.
    for _ in 0..wanted.saturating_mul(4) {
        if found.len() == wanted {
            break;
        }
        let mut draw = || (rng.next_u64() % n) as usize;
        let (a, b) = (draw(), draw());
        let (a, b) = (a.min(b), a.max(b));
        if a == b || !seen.insert((a, b)) {
            continue;
        }
        if let (Some(a), Some(b)) = (combined.get(a), combined.get(b)) {
            let group = format!("{} & {}", a.group, b.group);
            found.push((vec![a.fault, b.fault], group));
        }
    }
    found
}

fn choose(campaign: &Campaign, all: &mut [Planned]) {
    let sample = &campaign.sample;
    let mut seen: HashSet<(u32, String)> = HashSet::new();
    for planned in all.iter_mut() {
        planned.pilot = seen.insert((planned.target, planned.group.clone()));
        let name = format!("{} {}", planned.target, planned.setting());
        planned.run = match sample.mode {
            Mode::Exhaustive => true,
            Mode::Pruned => planned.pilot || chance(&name, sample.seed) < sample.check,
            Mode::Sampled => false,
        };
        planned.twice = chance(&format!("twice {name}"), sample.seed) < sample.repeat;
    }
    if sample.mode == Mode::Sampled {
        let size = sample_size(all.len(), sample.confidence, sample.margin);
        let mut by_chance: Vec<(u64, usize)> = all
            .iter()
            .enumerate()
            .map(|(index, planned)| {
                let name = format!("{} {}", planned.target, planned.setting());
                (draw(&format!("sample {name}"), sample.seed), index)
            })
            .collect();
        by_chance.sort_unstable();
        for (_, index) in by_chance.into_iter().take(size) {
            if let Some(planned) = all.get_mut(index) {
                planned.run = true;
            }
        }
    }
}

/// A hash over a plan.
pub fn hash(all: &[Planned]) -> String {
    let mut hasher = digest::FieldHasher::default();
    for planned in all {
        let (target, run) = (planned.target.to_string(), planned.run.to_string());
        hasher.named(&target, planned.setting());
        hasher.named(&run, &planned.group);
    }
    hasher.finish()
}
