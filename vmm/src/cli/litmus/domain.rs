// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the coherency domain says of a case, beside the explorer.

use std::fmt::Write as _;

use serde::{Serialize, Serializer};
use staleline_judge::known::Class;
use staleline_judge::operation::Operation;
use staleline_judge::{Agreement, Judgement};
use staleline_litmus::case::Case;
use staleline_litmus::explore::Answer;

use crate::exit::Error;

/// What the coherency domain says, under every policy.
#[derive(Debug, Default, Serialize)]
pub(super) struct Domain {
    pub agrees: Agrees,
    /// Why it is not judged, or how it differs for no known reason.
    pub reason: Option<String>,
    /// Known reasons for which it differs.
    #[serde(serialize_with = "names")]
    pub classes: Vec<Class>,
    /// Pairs of a replacement policy and a policy for snooping writes that it was run under.
    pub runs: usize,
    findings: Vec<DomainFound>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Agrees {
    Yes,
    /// No, for a reason that is known.
    Known,
    No,
    /// The domain cannot judge it.
    #[default]
    NotJudged,
}

fn names<S: Serializer>(classes: &[Class], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(classes.iter().map(|class| class.name()))
}

#[derive(Debug, Serialize)]
pub(super) struct DomainFound {
    kind: &'static str,
    at: Option<usize>,
    bytes: String,
    missing: &'static str,
}

impl Domain {
    pub fn of(case: &Case, answer: &Answer) -> Result<Self, Error> {
        match staleline_judge::judge(&case.program, answer) {
            Ok(judgement) => Ok(Domain::judged(case, judgement)),
            Err(e @ staleline_judge::Error::SeveralCpus) => Ok(Domain {
                reason: Some(e.to_string()),
                ..Domain::default()
            }),
            Err(e) => Err(Error::host(format!("case {} cannot be judged", case.id), e)),
        }
    }

    fn judged(case: &Case, judgement: Judgement) -> Self {
        let program = &case.program;
        let (agrees, classes, reason) = match judgement.agreement {
            Agreement::Agrees => (Agrees::Yes, Vec::new(), None),
            Agreement::Known(classes) => (Agrees::Known, classes.into_iter().collect(), None),
            Agreement::Differs(how) => (Agrees::No, Vec::new(), Some(how)),
        };
        let findings = judgement.found.iter().map(|f| DomainFound {
            kind: f.kind.name(),
            at: f.at,
            bytes: program.ranges(f.bytes),
            missing: Operation::of(program, f).name(),
        });
        Domain {
            agrees,
            reason,
            classes,
            runs: judgement.runs,
            findings: findings.collect(),
        }
    }

    /// Whether it agrees, for the table.
    pub fn agree(&self) -> String {
        match self.agrees {
            Agrees::Yes => "yes".to_owned(),
            Agrees::Known => {
                let names: Vec<&str> = self.classes.iter().map(|class| class.name()).collect();
                format!("differs: {}", names.join(", "))
            }
            Agrees::No => "differs: unknown".to_owned(),
            Agrees::NotJudged => "-".to_owned(),
        }
    }

    /// Its findings for the table.
    pub fn cell(&self) -> String {
        if self.agrees == Agrees::NotJudged {
            return "-".to_owned();
        }
        let mut cells: Vec<String> = Vec::new();
        for f in &self.findings {
            let cell = match f.at {
                Some(at) => format!("{} at {at}", f.kind),
                None => f.kind.to_owned(),
            };
            if !cells.contains(&cell) {
                cells.push(cell);
            }
        }
        match cells.is_empty() {
            true => "safe".to_owned(),
            false => cells.join(", "),
        }
    }

    /// In words.
    pub fn detail(&self, text: &mut String) {
        let reason = self.reason.as_deref().unwrap_or_default();
        let _ = match self.agrees {
            Agrees::NotJudged => writeln!(text, "  domain: does not judge it: {reason}"),
            Agrees::Yes => writeln!(text, "  domain: agrees ({} runs)", self.runs),
            Agrees::Known => writeln!(text, "  domain: differs as is known ({} runs)", self.runs),
            Agrees::No => writeln!(text, "  domain: differs, not known why: {reason}"),
        };
        for class in &self.classes {
            let _ = writeln!(text, "    differs: {}: {}", class.name(), class.reason());
        }
        for f in &self.findings {
            let at = match f.at {
                Some(at) => format!("at event {at}"),
                None => "before the first event".to_owned(),
            };
            let _ = writeln!(
                text,
                "    {} {at}, {}; missing: {}",
                f.kind, f.bytes, f.missing
            );
        }
    }
}
