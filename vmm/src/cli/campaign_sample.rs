// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! How many of a campaign's faults are run, by the command line.

use clap::Args;

use crate::campaign::file::{Campaign, Mode};
use crate::exit::Error;

/// What has a campaign that was begun, as it was.
pub(super) const GONE_ON_WITH: [&str; 4] = ["resume", "report", "merge", "compare"];

/// How runs are chosen, whatever the file says.
#[derive(Debug, Args)]
pub(super) struct SampleArgs {
    /// Run all faults.
    #[arg(long, conflicts_with_all = GONE_ON_WITH)]
    exhaustive: bool,
    /// Run as many, by chance, as make estimates so sure: 0.9, 0.95 or 0.99.
    #[arg(long, value_name = "SHARE", conflicts_with_all = GONE_ON_WITH, conflicts_with = "exhaustive")]
    confidence: Option<f64>,
    /// And off by so much at most: 0.001 to 0.5.
    #[arg(long, value_name = "SHARE", conflicts_with_all = GONE_ON_WITH, conflicts_with = "exhaustive")]
    margin: Option<f64>,
    /// What chance goes by.
    #[arg(long, value_name = "N", conflicts_with_all = GONE_ON_WITH)]
    seed: Option<u64>,
}

impl SampleArgs {
    /// In the place of what a file has.
    pub fn apply(&self, campaign: &mut Campaign) -> Result<(), Error> {
        let sample = &mut campaign.sample;
        if self.exhaustive {
            sample.mode = Mode::Exhaustive;
        }
        if self.confidence.is_some() || self.margin.is_some() {
            sample.mode = Mode::Sampled;
        }
        sample.confidence = self.confidence.unwrap_or(sample.confidence);
        sample.margin = self.margin.unwrap_or(sample.margin);
        sample.seed = self.seed.unwrap_or(sample.seed);
        campaign.check("--confidence, --margin")
    }

    /// The same, for another command line.
    pub fn options(&self) -> String {
        let flag = self.exhaustive.then(|| " --exhaustive".to_owned());
        let share =
            |name: &str, share: Option<f64>| share.map(|share| format!(" --{name} {share}"));
        let seed = self.seed.map(|seed| format!(" --seed {seed}"));
        let all = [
            flag,
            share("confidence", self.confidence),
            share("margin", self.margin),
            seed,
        ];
        all.into_iter().flatten().collect()
    }
}
