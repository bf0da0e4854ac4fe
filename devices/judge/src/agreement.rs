// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What comes of a comparison.

use std::collections::BTreeSet;

use crate::known::Class;

/// Whether domain and explorer agree on a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agreement {
    /// Under all policies.
    Agrees,
    /// They differ as it is known, for these reasons.
    Known(BTreeSet<Class>),
    /// They differ: under which policy, and how.
    Differs(String),
}

impl Agreement {
    /// This one and another, of the same program.
    #[must_use]
    pub fn and(self, other: Agreement) -> Self {
        match (self, other) {
            (Agreement::Differs(how), _) | (_, Agreement::Differs(how)) => Agreement::Differs(how),
            (Agreement::Known(mut all), Agreement::Known(more)) => {
                all.extend(more);
                Agreement::Known(all)
            }
            (known @ Agreement::Known(_), _) | (_, known) => known,
        }
    }
}
