// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the engine needs of a machine.

use std::fs::File;
use std::path::{Path, PathBuf};

use staleline_initramfs::VMM_ENV;
use staleline_kernels::{KernelBuilder, KernelRequest};
use staleline_support::cache::CacheDir;
use staleline_support::{home, text};

use super::KvmError;
use super::place;
use crate::engine::description::{Places, Requirement};

/// What is not there yet, and is made when it is first needed.
const LATER: &str = "not built yet; the first run with this engine does";

/// Found, or what is the matter and what to do.
type Found = Result<String, (String, String)>;

/// KVM, in this machine or in an emulated one, and the VMM.
pub(super) fn all() -> Vec<Requirement> {
    let mut all = vec![Requirement {
        name: "VMM (kvm engine)",
        found: vmm(),
    }];
    if place::is_native() {
        all.push(Requirement {
            name: "KVM (kvm engine)",
            found: open(Path::new(place::KVM)),
        });
    } else {
        // QEMU is what the exact engine needs, too.
        all.push(Requirement {
            name: "host (kvm engine)",
            found: host_kernel(),
        });
    }
    all
}

fn vmm() -> Found {
    let cache = CacheDir::from_environment().map_err(|e| told(&KvmError::NoVmm(e.into())))?;
    match staleline_initramfs::find_vmm(&cache) {
        Some(vmm) => Ok(vmm.display().to_string()),
        None => match staleline_initramfs::can_build_vmm(&cache) {
            Ok(()) => Ok(LATER.into()),
            Err(e) => Err(told(&KvmError::NoVmm(e.into()))),
        },
    }
}

/// Whether we may use this machine's KVM.
fn open(kvm: &Path) -> Found {
    let open = File::options().read(true).write(true).open(kvm);
    match open {
        Ok(_) => Ok(kvm.display().to_string()),
        Err(e) => Err((
            format!("{}: {e}", kvm.display()),
            "let your user have it, by its group (`usermod -aG kvm USER`, then log in again)"
                .into(),
        )),
    }
}

fn host_kernel() -> Found {
    let failed = |e: staleline_kernels::KernelError| told(&KvmError::NoHostKernel(e.into()));
    let builder = KernelBuilder::new().map_err(failed)?;
    match builder.cached(&KernelRequest::host()).map_err(failed)? {
        Some(kernel) => Ok(format!("emulated by QEMU, Linux {}", kernel.version)),
        None => Ok(format!("emulated by QEMU; its kernel is {LATER}")),
    }
}

/// An error with its causes, and what to do.
fn told(error: &KvmError) -> (String, String) {
    (text::chain(error), error.help().into_owned())
}

/// Where the guests run, and the VMM.
pub(super) fn places() -> Places {
    let host = match place::is_native() {
        true => format!("this machine, by {}", place::KVM),
        false => "an arm64 machine that QEMU emulates".into(),
    };
    vec![
        ("VMM", staleline_initramfs::vmm_place(), Some(VMM_ENV)),
        ("host of the VMM", host, None),
    ]
}

/// What the VMM is built of, or the VMM itself if it is there; and what the emulated host's kernel is configured
/// by. All of it is the same before and after a run that builds them.
pub(super) fn files() -> Vec<PathBuf> {
    let mut files = staleline_initramfs::vmm_inputs();
    let config = home::find(&format!(
        "guest-kernel/config/{}.config",
        KernelRequest::host().name()
    ));
    files.extend(config.ok().filter(|_| !place::is_native()));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_not_use_kvm_is_told_how_to() {
        let dir = tempfile::tempdir().unwrap();
        let kvm = dir.path().join("kvm");
        let (found, fix) = open(&kvm).unwrap_err();
        assert!(found.contains("No such file"), "{found}");
        assert!(fix.contains("usermod -aG kvm"), "{fix}");
        std::fs::write(&kvm, "").unwrap();
        assert_eq!(open(&kvm).unwrap(), kvm.display().to_string());
    }

    #[test]
    fn what_it_is_made_of_is_there() {
        let files = files();
        for file in &files {
            assert!(file.is_file(), "{}", file.display());
        }
        let ends = |end: &str| files.iter().any(|file| file.ends_with(end));
        assert!(ends("vmm/kvm/src/sandbox.rs") && ends("devices/src/lib.rs"));
        assert!(ends("guest-kernel/config/host.config") || place::is_native());
    }
}
