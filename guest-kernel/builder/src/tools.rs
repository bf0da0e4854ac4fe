// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The programs a kernel build needs, and the packages that bring them.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::Command;

use staleline_support::needs;

use super::cache::Cache;
use super::error::KernelError;
use super::source::Source;
use super::tool::Tool;

/// What looks at C for kernel developers, as `make C=1` does.
const SPARSE: &str = "sparse";

const TARGET_PREFIX: &str = "aarch64-linux-gnu-";

/// What the kernel's scripts `use`. Debian has perl everywhere, but not all of its modules.
fn perl_modules() -> Vec<&'static str> {
    needs::of(needs::Kind::Perl).map(|need| need.name).collect()
}

/// Where programs are looked for, and how the target's toolchain is named.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    path: OsString,
    /// Prefix of the target's toolchain; empty on an arm64 host.
    prefix: String,
}

impl Tools {
    /// `PATH`, and `CROSS_COMPILE` if it is set, as in kernel builds.
    pub(super) fn from_environment() -> Self {
        let native = if cfg!(target_arch = "aarch64") {
            ""
        } else {
            TARGET_PREFIX
        };
        Self {
            path: std::env::var_os("PATH").unwrap_or_default(),
            prefix: std::env::var("CROSS_COMPILE").unwrap_or_else(|_| native.to_owned()),
        }
    }

    #[cfg(test)]
    pub(super) fn for_tests(path: OsString) -> Self {
        Self {
            path,
            prefix: TARGET_PREFIX.to_owned(),
        }
    }

    /// The value of make's `CROSS_COMPILE`.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A command with our search path, in the C locale (by all variables there are: kbuild
    /// takes `LC_ALL` away from the compiler, whose messages we read), and without what a
    /// surrounding make (or cargo under make) passes on.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let program = program.as_ref();
        let mut command = Command::new(self.find(program).unwrap_or_else(|| program.into()));
        command
            .env("PATH", &self.path)
            .env("LC_ALL", "C")
            .env("LANG", "C");
        for variable in [
            "LANGUAGE",
            "LC_CTYPE",
            "LC_MESSAGES",
            "MAKEFLAGS",
            "MFLAGS",
            "MAKELEVEL",
            "ARCH",
            "CROSS_COMPILE",
            "KCONFIG_CONFIG",
        ] {
            command.env_remove(variable);
        }
        command
    }

    fn find(&self, program: &OsStr) -> Option<PathBuf> {
        which::which_in(program, Some(&self.path), "/").ok()
    }

    /// What compiles and links: the first lines of their `--version`.
    pub(super) fn toolchain(&self, cache: &Cache) -> Result<String, KernelError> {
        let [gcc, ld] = self.target_tools();
        self.require([&gcc, &ld])?;
        let version = |program: &str| match self.own_file(program) {
            Some(file) => cache.once("tools.json", &file, || self.version(program)),
            None => self.version(program),
        };
        Ok(format!(
            "{}; {}",
            version(&gcc.program)?,
            version(&ld.program)?
        ))
    }

    /// The file of a program, if that decides what the program is: it is no script, and no program of
    /// another name that only runs it, as ccache does.
    fn own_file(&self, program: &str) -> Option<PathBuf> {
        let file = self.find(program.as_ref())?.canonicalize().ok()?;
        let name = file.file_name()?.to_string_lossy();
        let mut magic = [0; 4];
        File::open(&file)
            .and_then(|mut f| f.read_exact(&mut magic))
            .ok()?;
        (name.starts_with(program) && magic == *b"\x7fELF").then(|| file.clone())
    }

    /// All programs that building from `source` takes, reported at once.
    pub(super) fn require_for_build(&self, source: &Source) -> Result<(), KernelError> {
        let tool = |&(program, package): &(&str, _)| Tool {
            program: program.to_owned(),
            package,
        };
        let unpack = source.unpack_tools().iter().map(tool);
        let build = needs::of(needs::Kind::Kernel).map(|need| tool(&(need.name, need.package())));
        let tools: Vec<_> = self
            .target_tools()
            .into_iter()
            .chain(build)
            .chain(unpack)
            .collect();
        self.require(&tools)
    }

    /// As [`require_for_build`](Self::require_for_build), and what checking patches takes.
    pub(super) fn require_for_check(&self, source: &Source) -> Result<(), KernelError> {
        self.require_for_build(source)?;
        let mut perl = self.command("perl");
        let modules = perl_modules();
        perl.args(modules.iter().map(|module| format!("-M{module}")))
            .args(["-e", "1"]);
        match perl.output() {
            Ok(output) if output.status.success() => self.require_sparse(),
            Ok(_) => Err(KernelError::MissingTools {
                tools: vec![Tool {
                    program: format!("perl's modules {}", modules.join(", ")),
                    package: "perl",
                }],
            }),
            Err(error) => Err(KernelError::Program {
                program: "perl".to_owned(),
                reason: error.to_string(),
            }),
        }
    }

    fn require_sparse(&self) -> Result<(), KernelError> {
        match self.find(OsStr::new(SPARSE)) {
            Some(_) => Ok(()),
            None => Err(KernelError::MissingTools {
                tools: vec![Tool {
                    program: SPARSE.to_owned(),
                    package: SPARSE,
                }],
            }),
        }
    }

    fn target_tools(&self) -> [Tool; 2] {
        let (gcc, binutils) = if self.prefix == TARGET_PREFIX {
            ("gcc-aarch64-linux-gnu", "binutils-aarch64-linux-gnu")
        } else {
            ("gcc", "binutils")
        };
        [("gcc", gcc), ("ld", binutils)].map(|(name, package)| Tool {
            program: format!("{}{name}", self.prefix),
            package,
        })
    }

    fn require<'a>(&self, tools: impl IntoIterator<Item = &'a Tool>) -> Result<(), KernelError> {
        let missing: Vec<_> = tools
            .into_iter()
            .filter(|tool| self.find(tool.program.as_ref()).is_none())
            .cloned()
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(KernelError::MissingTools { tools: missing })
        }
    }

    fn version(&self, program: &str) -> Result<String, KernelError> {
        let failed = |reason| KernelError::Program {
            program: format!("{program} --version"),
            reason,
        };
        let output = self
            .command(program)
            .arg("--version")
            .output()
            .map_err(|error| failed(error.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        match text.lines().next() {
            Some(line) if output.status.success() => Ok(line.trim().to_owned()),
            _ => Err(failed(String::from_utf8_lossy(&output.stderr).into_owned())),
        }
    }
}
