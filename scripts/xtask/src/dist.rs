// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! An installation: programs and files as they stand below a prefix such as `/usr`, wherever that is.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use staleline_initramfs::{build_agent, build_vmm};
use staleline_support::cache::CacheDir;
use staleline_support::progress::Stderr;
use walkdir::WalkDir;

use crate::tool::{Tool, step};

/// Where `cargo deb` takes its files from (`package.metadata.deb` in `vmm/Cargo.toml`).
const FOR_DEB: &str = "target/dist";

/// What of the source tree goes to `share/staleline`. The agent's and the VMM's sources do not: these come built.
const SHARED: [&str; 9] = [
    "ci/clients",
    "ci/matrix",
    "ci/campaign",
    "ci/litmus",
    "ci/scenarios",
    "guest-kernel/config",
    "guest-kernel/mutants",
    "guest-kernel/stacks",
    "images/examples",
];
/// C headers for programs in the guest.
const HEADERS: &str = "images/guest/include";
const DOCUMENTS: [&str; 6] = [
    "README.md",
    "ARCHITECTURE.md",
    "SPECIFICATION.md",
    "LICENSE-APACHE",
    "LICENSE-BSD-3-Clause",
    "LICENSE-GPL-2.0",
];
/// Shells, and where they look for scripts.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/staleline"),
    ("zsh", "share/zsh/vendor-completions/_staleline"),
    ("fish", "share/fish/vendor_completions.d/staleline.fish"),
];

/// Makes one below `prefix`, which must not be there yet, or a package of one.
///
/// # Errors
/// If something cannot be built or copied.
pub fn run(prefix: Option<&Path>, deb: bool) -> Result<bool> {
    let tool = Tool::build()?;
    let for_deb = tool.root().join(FOR_DEB);
    let prefix = match prefix {
        Some(prefix) => prefix.to_owned(),
        None => {
            // Nobody's but ours.
            let _ = fs::remove_dir_all(&for_deb);
            for_deb
        }
    };
    ensure!(
        !prefix.exists(),
        "{} exists: name a directory that does not",
        prefix.display()
    );
    let prefix = Prefix(prefix);
    step("Building the guest's agent, and the VMM");
    let cache = CacheDir::from_environment()?;
    let agent = build_agent(&cache, &Stderr::new())?;
    let vmm = build_vmm(&cache, &Stderr::new())?;

    step(&format!("Laying out {}", prefix.0.display()));
    let built = tool.root().join("target/release");
    prefix.file(&built.join("staleline"), "bin/staleline")?;
    let plugin = "libstaleline_tcg.so";
    prefix.file(&built.join(plugin), &format!("lib/staleline/{plugin}"))?;
    prefix.file(&agent, "share/staleline/agent/staleline-agent")?;
    prefix.file(&vmm, "share/staleline/kvm/staleline-kvm")?;
    for tree in SHARED {
        prefix.tree(&tool.root().join(tree), &format!("share/staleline/{tree}"))?;
    }
    prefix.tree(&tool.root().join(HEADERS), "include")?;
    for document in DOCUMENTS {
        prefix.file(
            &tool.root().join(document),
            &format!("share/doc/staleline/{document}"),
        )?;
    }
    for (shell, to) in COMPLETIONS {
        let output = tool.command(&["completions", shell]).output()?;
        ensure!(output.status.success(), "no completion script for {shell}");
        fs::write(prefix.place(to)?, output.stdout)?;
    }
    let pages = prefix.0.join("share/man/man1");
    let man = tool.command(&["man", "--out"]).arg(pages).status()?;
    ensure!(man.success(), "the manual pages cannot be written");
    if deb {
        step("Packing it");
        let mut cargo = tool.cargo();
        let packed = cargo.args(["deb", "--no-build", "-p", "staleline"]);
        let status = packed.status()?;
        ensure!(
            status.success(),
            "cargo-deb fails; is it there? `cargo install cargo-deb`"
        );
    }
    Ok(true)
}

struct Prefix(PathBuf);

impl Prefix {
    /// A file's path, in a directory that is there.
    fn place(&self, to: &str) -> Result<PathBuf> {
        let to = self.0.join(to);
        let dir = to.parent().unwrap_or(&self.0);
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(to)
    }

    fn file(&self, from: &Path, to: &str) -> Result<()> {
        let to = self.place(to)?;
        fs::copy(from, &to)
            .map(drop)
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
    }

    fn tree(&self, from: &Path, to: &str) -> Result<()> {
        for entry in WalkDir::new(from).sort_by_file_name() {
            let entry = entry?;
            if entry.file_type().is_file() {
                let name = entry.path().strip_prefix(from)?.to_string_lossy();
                self.file(entry.path(), &format!("{to}/{name}"))?;
            }
        }
        Ok(())
    }
}
