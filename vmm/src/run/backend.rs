// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a run needs from the rest of the program: kernel, guest file system, engine.

use std::path::Path;

use staleline_devices::faults::{Fault, OperationFault};
use staleline_support::progress::Progress;

use crate::engine::Snapshot;
use crate::events::Recording;
use crate::evidence::{Artifacts, Execution};
use crate::exit::Error;
use crate::spec::RunSpec;

/// One start of the guest.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// What to run.
    pub spec: &'a RunSpec,
    /// What the guest is made of.
    pub artifacts: &'a Artifacts,
    /// Number of the maintenance operation to suppress.
    pub drop_operation: Option<u32>,
    /// Whether to count what faults can be of.
    pub census: bool,
    /// Numbers of the loads and stores whose call chains are wanted, ascending. Changes nothing
    /// that the guest can see, but takes longer.
    pub trace: &'a [u64],
    /// What to keep of what happens on the machine, and where.
    pub events: Option<&'a Recording>,
    /// What is done with the guest's snapshot, if that is not what is done in all runs.
    pub snapshot: Option<&'a Snapshot>,
    /// The run's directory, if this is the pass of it that people may attend to.
    pub attended: Option<&'a Path>,
    /// An existing directory for `console.log` and whatever else the engine leaves.
    pub dir: &'a Path,
}

impl Attempt<'_> {
    /// All that is to go wrong.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let drop = self.drop_operation.into_iter();
        let drop = drop.map(|number| Fault::Operation(number, OperationFault::Drop));
        let inject = self.spec.scenario.faults.inject.iter().copied();
        drop.chain(inject).collect()
    }
}

/// The rest of the program, as runs see it.
pub trait Backend: Sync {
    /// Checks, without doing anything slow, that the run can be prepared.
    ///
    /// # Errors
    /// A usage error, or an infrastructure error if something is missing on the machine.
    fn check(&self, spec: &RunSpec) -> Result<(), Error>;

    /// What this program is: the same for the same code only.
    ///
    /// # Errors
    /// An infrastructure error.
    fn identity(&self) -> Result<String, Error>;

    /// Builds or finds what the guest is made of. May take minutes.
    ///
    /// # Errors
    /// An infrastructure error.
    fn prepare(&self, spec: &RunSpec, progress: &dyn Progress) -> Result<Artifacts, Error>;

    /// Runs the guest to its end or to the time limit.
    ///
    /// # Errors
    /// An infrastructure error if it could not even be started.
    fn execute(&self, attempt: Attempt<'_>) -> Result<Execution, Error>;
}
