// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Classes of which a changed program is the proof: without the one thing that the class is about, there
//! is no difference left, or only one that is known.

use std::collections::BTreeSet;

use staleline_litmus::explore::explore;
use staleline_litmus::program::Program;

use super::{Class, Difference, Known};
use crate::domain::{Error, findings};
use crate::{ownership, variants};

impl Known<'_> {
    /// The classes that cover all differences once the program is changed in one thing, or in several one
    /// after the other; none: there is no such thing, or a difference is left.
    pub(super) fn agrees_if_changed(&self) -> Result<Option<BTreeSet<Class>>, Error> {
        // Only beside a word that is polled does it matter that lines come together.
        let apart = match self.program.polled().is_empty() {
            true => None,
            false => variants::apart_by_line(self.program),
        };
        if let Some(classes) = self.agrees_on(apart, Class::Wide)? {
            return Ok(Some(classes));
        }
        self.agrees_on(variants::all_told(self.program), Class::Unprompted)
    }

    /// `class`, and the classes that cover all differences of the changed program; none: there is none, or
    /// they differ on it for no reason that is known.
    fn agrees_on(
        &self,
        changed: Option<Program>,
        class: Class,
    ) -> Result<Option<BTreeSet<Class>>, Error> {
        let explored = changed.and_then(|p| explore(&p).ok().map(|answer| (p, answer)));
        let Some((changed, answer)) = explored else {
            return Ok(None);
        };
        let found = findings(&changed, self.replacement, self.seed)?;
        if ownership::difference(&changed, &found).is_some() {
            return Ok(None);
        }
        let known = Known::new(&changed, &answer, self.replacement, self.seed);
        let classes = match Difference::of(&changed, &answer, &found) {
            Some(difference) => known.classes(&found, difference)?,
            None => Some(BTreeSet::new()),
        };
        Ok(classes.map(|mut classes| {
            classes.insert(class);
            classes
        }))
    }
}
