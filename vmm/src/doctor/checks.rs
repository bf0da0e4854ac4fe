// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The checks, in the order in which a first user meets what they are about.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use staleline_initramfs::AGENT_ENV;
use staleline_support::cache::CacheDir;
use staleline_support::needs::{self, Kind, Need};
use staleline_support::{child, kib};

use super::Check;
use crate::engine::EngineKind;
use crate::engine::description::Requirement;
use crate::run::wiring;

/// What a guest of the usual size, QEMU and the models take, and some more.
const MEMORY_KIB: u64 = 1 << 20;

/// How long a program may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs all checks.
pub fn all() -> Vec<Check> {
    let mut checks = engines();
    checks.extend(needs::all().filter_map(need));
    checks.push(perl_modules());
    checks.extend([rust_target(), memory()]);
    checks
}

/// One line of the table; QEMU and Perl's modules have checks of their own, and no run needs what tests do.
fn need(need: Need) -> Option<Check> {
    Some(match need.kind {
        Kind::Qemu | Kind::Perl | Kind::Test => return None,
        Kind::Program | Kind::Kernel => program(&need, which::which(need.name).ok()),
        Kind::Packages => {
            let check = program(&need, which::which(need.name).ok());
            // Any other file system for arm64 will do in place of one that is made of packages.
            check.optional()
        }
        Kind::Sbin => program(&need, staleline_initramfs::disk::find(need.name).ok()),
        Kind::Header => header(&need),
        Kind::File if Path::new(need.name) == wiring::kernel_source() => source(),
        Kind::File => {
            let path = PathBuf::from(need.name);
            program(&need, path.is_file().then_some(path))
        }
    })
}

fn program(need: &Need, found: Option<PathBuf>) -> Check {
    match found {
        Some(path) => Check::ok(need.name, path.display().to_string()),
        None => Check::missing(need.name, "not found", install(need)),
    }
}

fn install(need: &Need) -> String {
    apt(&need.packages().collect::<Vec<_>>().join(" "))
}

fn apt(package: &str) -> String {
    format!("apt-get install {package}")
}

fn first_line(program: &Path, args: &[&str]) -> Result<String, String> {
    let output = child::output_within(Command::new(program).args(args), PATIENCE)
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().next() {
        Some(line) if output.status.success() => Ok(line.trim().to_owned()),
        _ => Err(format!("it fails ({})", output.status)),
    }
}

/// What the engines need. Who does not ask for another can do without it.
fn engines() -> Vec<Check> {
    let check = |need: Requirement| match need.found {
        Ok(found) => Check::ok(need.name, found),
        Err((found, fix)) => Check::missing(need.name, found, fix),
    };
    let of = |kind: EngineKind| {
        let checks = kind.needs().into_iter().map(check);
        let usual = kind == EngineKind::default();
        checks.map(move |check| if usual { check } else { check.optional() })
    };
    EngineKind::ALL.into_iter().flat_map(of).collect()
}

fn source() -> Check {
    const NAME: &str = "kernel source";
    let path = wiring::kernel_source();
    if path.exists() {
        return Check::ok(NAME, path.display().to_string());
    }
    let fix = format!("{}   (or name a tree with --src)", apt("linux-source-6.12"));
    Check::missing(NAME, format!("no {}", path.display()), fix)
}

/// The program alone is not enough.
fn perl_modules() -> Check {
    const NAME: &str = "perl's modules";
    let needed: Vec<_> = needs::of(Kind::Perl).collect();
    let modules: Vec<_> = needed.iter().map(|need| need.name).collect();
    let mut perl = Command::new("perl");
    perl.args(modules.iter().map(|module| format!("-M{module}")));
    match child::output_within(perl.args(["-e", "1"]), PATIENCE) {
        Ok(output) if output.status.success() => Check::ok(NAME, modules.join(", ")),
        _ => {
            let found = format!("not all of {}", modules.join(", "));
            let package = needed.first().map_or("perl", Need::package);
            Check::missing(NAME, found, apt(package))
        }
    }
}

fn header(need: &Need) -> Check {
    // Architecture-independent, or below one of Debian's multiarch directories.
    let mut dirs = vec![PathBuf::from("/usr/include"), "/usr/local/include".into()];
    let subdirs = std::fs::read_dir("/usr/include").into_iter().flatten();
    dirs.extend(
        subdirs
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.to_string_lossy().ends_with("-linux-gnu")),
    );
    let mut files = dirs.iter().map(|dir| dir.join(need.name));
    program(need, files.find(|path| path.is_file()))
}

fn rust_target() -> Check {
    const TARGETS: [&str; 2] = ["aarch64-unknown-linux-gnu", "aarch64-unknown-linux-musl"];
    const NAME: &str = "Rust for the guest";
    if let Some(agent) = std::env::var_os(AGENT_ENV) {
        let found = format!("not needed, {AGENT_ENV} is {}", Path::new(&agent).display());
        return Check::ok(NAME, found);
    }
    // Debian's compiler has standard libraries of other architectures, rustup's may not.
    for rustc in ["rustc", "/usr/bin/rustc"] {
        let Ok(sysroot) = first_line(Path::new(rustc), &["--print", "sysroot"]) else {
            continue;
        };
        let libraries = Path::new(&sysroot).join("lib/rustlib");
        let found = TARGETS
            .iter()
            .find(|t| libraries.join(t).join("lib").is_dir());
        if let Some(target) = found {
            return Check::ok(NAME, format!("{rustc} for {target}"));
        }
    }
    let found = format!("no standard library for {}", TARGETS.join(" or "));
    let fix = format!("rustup target add {}   (or scripts/setup)", TARGETS[0]);
    match CacheDir::from_environment() {
        Ok(cache) if staleline_initramfs::agent_is_built(&cache) => {
            let found = format!("{found}; the agent in the cache will do until its sources change");
            Check::missing(NAME, found, fix).optional()
        }
        _ => Check::missing(NAME, found, fix),
    }
}

/// Guest RAM is anonymous shared memory, limited by the host's memory alone.
fn memory() -> Check {
    const NAME: &str = "memory";
    let fix = "end other programs, or run fewer guests at a time (matrix -j)";
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    match kib::told(&text, "MemAvailable") {
        Some(kib) if kib >= MEMORY_KIB => Check::ok(NAME, format!("{} MiB available", kib >> 10)),
        Some(kib) => Check::missing(NAME, format!("{} MiB available", kib >> 10), fix),
        None => Check::missing(NAME, "/proc/meminfo does not tell", fix).optional(),
    }
}
