// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What goes into a kernel.

use staleline_support::digest::FieldHasher;

use super::fragment::Fragment;
use super::kconfig;
use super::source::Source;
use super::stack::{BASE_STACK, Stack};

/// Part of every kernel's hash: raised whenever the way kernels are built changes.
pub const BUILDER_VERSION: u32 = 1;

/// A request with everything read that determines the result.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) stack: Stack,
    /// All of it, what comes from the user last.
    pub(super) config: String,
    pub(super) fragments: Vec<Fragment>,
    pub(super) toolchain: String,
    pub(super) source: Source,
    pub(super) hash: String,
}

impl Plan {
    pub(super) fn new(
        name: String,
        stack: Stack,
        (mut config, fragments): (String, Vec<Fragment>),
        toolchain: String,
        source: Source,
    ) -> Self {
        for fragment in &fragments {
            kconfig::override_with(&mut config, &fragment.text);
        }
        let mut key = FieldHasher::default();
        key.named("builder", BUILDER_VERSION.to_le_bytes());
        key.named("name", &name);
        key.named("source", source.digest());
        key.named("config", &config);
        key.named("toolchain", &toolchain);
        for patch in &stack.patches {
            key.named("patch", &patch.name);
            key.named("text", &patch.text);
        }
        let hash = key.finish();
        Self {
            name,
            stack,
            config,
            fragments,
            toolchain,
            source,
            hash,
        }
    }

    /// The suffix of the kernel's release, so that a console log names its stack.
    pub(super) fn local_version(&self) -> String {
        if self.name == BASE_STACK {
            String::new()
        } else {
            format!("-{}", self.name)
        }
    }
}
