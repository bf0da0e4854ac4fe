// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The checks, in the order in which a first user meets what they are about.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Check;
use crate::run::wiring;

/// Oldest QEMU whose plugins can do what ours needs: version 4 of the plugin interface.
const QEMU: (u32, u32) = (9, 2);

/// Where the guest's RAM files go.
const SHM: &str = "/dev/shm";
/// One guest with the largest RAM a scenario may ask for.
const SHM_BYTES: u64 = 2 << 30;

/// Runs all checks.
pub fn all() -> Vec<Check> {
    let mut checks = vec![qemu(), qemu_plugins(), plugin(), source()];
    for (tool, package) in [
        ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
        ("make", "make"),
        ("flex", "flex"),
        ("bison", "bison"),
        ("bc", "bc"),
        ("perl", "perl"),
        ("patch", "patch"),
        ("xz", "xz-utils"),
    ] {
        checks.push(tool_check(tool, package));
    }
    checks.push(header("openssl/opensslv.h", "libssl-dev"));
    checks.push(header("libelf.h", "libelf-dev"));
    checks.extend([rust_target(), shared_memory(), kvm()]);
    checks
}

fn apt(package: &str) -> String {
    format!("apt-get install {package}")
}

fn first_line(program: &Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().next() {
        Some(line) if output.status.success() => Ok(line.trim().to_owned()),
        _ => Err(format!("it fails ({})", output.status)),
    }
}

fn qemu() -> Check {
    const NAME: &str = "QEMU for arm64";
    let wanted = format!("{}.{} or newer is needed", QEMU.0, QEMU.1);
    let fix = format!(
        "{}   (Debian 12: from bookworm-backports; {wanted})",
        apt("qemu-system-arm")
    );
    let Some(program) = wiring::qemu() else {
        return Check::missing(NAME, "not found", fix);
    };
    match first_line(&program, &["--version"]) {
        Ok(line) => match version(&line) {
            Some(found) if found >= QEMU => Check::ok(NAME, line),
            Some(_) => Check::missing(NAME, format!("{line} is too old"), fix),
            None => Check::missing(NAME, format!("{line:?} names no version"), fix),
        },
        Err(e) => Check::missing(NAME, format!("{}: {e}", program.display()), fix),
    }
}

/// Major and minor of `QEMU emulator version 10.0.2 (...)`.
fn version(line: &str) -> Option<(u32, u32)> {
    let number = line
        .split_whitespace()
        .find(|w| w.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut parts = number.split('.').map(|p| p.parse().ok());
    Some((parts.next()??, parts.next()??))
}

fn qemu_plugins() -> Check {
    const NAME: &str = "QEMU with plugins";
    let fix = "use a QEMU configured with --enable-plugins (Debian's is)";
    let output = wiring::qemu().map(|program| Command::new(program).arg("-help").output());
    match output {
        None => Check::missing(NAME, "no QEMU", fix),
        Some(Err(e)) => Check::missing(NAME, e.to_string(), fix),
        Some(Ok(o)) if String::from_utf8_lossy(&o.stdout).contains("-plugin ") => {
            Check::ok(NAME, "-plugin is known")
        }
        Some(Ok(_)) => Check::missing(NAME, "-plugin is not known", fix),
    }
}

fn plugin() -> Check {
    const NAME: &str = "our QEMU plugin";
    match wiring::plugin() {
        Ok(path) => Check::ok(NAME, path.display().to_string()),
        Err(e) => Check::missing(NAME, e, "cargo build --release -p staleline-tcg"),
    }
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

fn tool_check(tool: &str, package: &str) -> Check {
    match which::which(tool) {
        Ok(path) => Check::ok(tool, path.display().to_string()),
        Err(_) => Check::missing(tool, "not found", apt(package)),
    }
}

fn header(name: &str, package: &str) -> Check {
    // Architecture-independent, or below one of Debian's multiarch directories.
    let mut dirs = vec![PathBuf::from("/usr/include"), "/usr/local/include".into()];
    let subdirs = std::fs::read_dir("/usr/include").into_iter().flatten();
    dirs.extend(
        subdirs
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.to_string_lossy().ends_with("-linux-gnu")),
    );
    match dirs.iter().map(|d| d.join(name)).find(|p| p.is_file()) {
        Some(path) => Check::ok(name, path.display().to_string()),
        None => Check::missing(name, "not found", apt(package)),
    }
}

fn rust_target() -> Check {
    const TARGETS: [&str; 2] = ["aarch64-unknown-linux-musl", "aarch64-unknown-linux-gnu"];
    const NAME: &str = "Rust for the guest";
    let Ok(sysroot) = first_line(Path::new("rustc"), &["--print", "sysroot"]) else {
        return Check::missing(NAME, "no rustc", "see https://rustup.rs");
    };
    let libraries = Path::new(&sysroot).join("lib/rustlib");
    match TARGETS
        .iter()
        .find(|t| libraries.join(t).join("lib").is_dir())
    {
        Some(target) => Check::ok(NAME, *target),
        None => Check::missing(
            NAME,
            format!("no standard library for {}", TARGETS.join(" or ")),
            format!("rustup target add {}", TARGETS[0]),
        ),
    }
}

fn shared_memory() -> Check {
    let name = "room in /dev/shm";
    match rustix::fs::statvfs(SHM) {
        Ok(fs) => {
            let free = fs.f_bavail.saturating_mul(fs.f_frsize);
            let found = format!("{} MiB free", free >> 20);
            if free >= SHM_BYTES {
                Check::ok(name, found)
            } else {
                let fix = format!("mount -o remount,size={}G {SHM}", (SHM_BYTES >> 30) * 2);
                // Guests have 128 MiB unless a scenario asks for more.
                Check::missing(name, found, fix).optional()
            }
        }
        Err(e) => Check::missing(name, e.to_string(), format!("mount -t tmpfs tmpfs {SHM}")),
    }
}

fn kvm() -> Check {
    const NAME: &str = "KVM for arm64";
    let fix = "only an arm64 host with /dev/kvm has it; the tcg engine needs none";
    if cfg!(not(target_arch = "aarch64")) {
        let found = format!("this host is {}", std::env::consts::ARCH);
        return Check::missing(NAME, found, fix).optional();
    }
    match kvm_ioctls::Kvm::new() {
        Ok(kvm) => Check::ok(NAME, format!("API version {}", kvm.get_api_version())),
        Err(e) => Check::missing(NAME, format!("/dev/kvm: {e}"), fix).optional(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let line = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)";
        assert_eq!(version(line), Some((10, 0)));
        assert_eq!(version("QEMU emulator version 9.2"), Some((9, 2)));
        assert_eq!(version("no number"), None);
    }
}
