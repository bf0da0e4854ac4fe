// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Where the VMM runs: on this machine's KVM, or in a machine that QEMU emulates.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use command_fds::CommandFdExt as _;
use staleline_kernels::{KernelBuilder, KernelRequest};
use staleline_machine::engine::wire::{DEVICES, PORT};
use staleline_support::cache::CacheDir;
use staleline_support::lock::Lock;
use staleline_support::progress::Progress;
use tempfile::TempDir;

use super::KvmError;
use crate::engine::EngineError;
use crate::engine::tcg::{die_with_parent, qemu_program};

/// Bytes of an emulated host's memory besides what its guest takes: its kernel, the VMM, and files that the VMM is sent
/// (up to half of all memory, as the host's kernel has it; see [`super::session`]).
const HOST_BYTES: u64 = 384 << 20;

/// How often an emulated host's guest's memory is in it: as CPUs see it, as it is in DRAM, what the model knows of
/// its lines, what a snapshot of it holds, and that of two guests before it.
const TIMES: u64 = 6;

/// The emulated host's CPUs: one for the guest, one for device time and the console.
const HOST_CPUS: u8 = 2;

/// This machine's KVM.
pub(super) const KVM: &str = "/dev/kvm";

/// Where the VMM runs.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// Beside this program.
    Native {
        /// The VMM.
        vmm: PathBuf,
    },
    /// In an emulated machine.
    Emulated {
        /// QEMU for arm64.
        qemu: PathBuf,
        /// That machine's kernel.
        kernel: PathBuf,
        /// Its initramfs, with the VMM as /init.
        initrd: PathBuf,
    },
}

/// Whether guests run on this machine's KVM: it is arm64, and has one. Whether we may use it shows when a run
/// tries to; another place is never taken instead.
pub(super) fn is_native() -> bool {
    cfg!(target_arch = "aarch64") && Path::new(KVM).exists()
}

/// Makes what is not there yet.
pub(super) fn make(progress: &dyn Progress) -> Result<(), EngineError> {
    let cache = cache()?;
    staleline_initramfs::build_vmm(&cache, progress).map_err(|e| KvmError::NoVmm(e.into()))?;
    if !is_native() {
        let builder = KernelBuilder::new().map_err(|e| KvmError::NoHostKernel(e.into()))?;
        builder
            .build(&KernelRequest::host(), progress)
            .map_err(|e| KvmError::NoHostKernel(e.into()))?;
    }
    Ok(())
}

fn cache() -> Result<CacheDir, KvmError> {
    CacheDir::from_environment().map_err(|e| KvmError::NoVmm(e.into()))
}

impl Place {
    /// Finds it, and holds what of it lies in the cache.
    pub(super) fn find() -> Result<(Self, Vec<Lock>), KvmError> {
        let cache = cache()?;
        let place = Self::find_in(&cache)?;
        let used = place.hold(&cache)?;
        Ok((place, used))
    }

    fn hold(&self, cache: &CacheDir) -> Result<Vec<Lock>, KvmError> {
        let parts = match self {
            // It, or the directory that the builder has made for it, and it alone.
            Place::Native { vmm } => vec![vmm.parent()],
            Place::Emulated { kernel, initrd, .. } => vec![kernel.parent(), Some(initrd)],
        };
        let parts = parts.into_iter().flatten();
        let of_the_cache = parts.filter(|path| path.starts_with(cache.path()));
        let hold = |path: &Path| match Lock::using(path) {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(KvmError::Going {
                path: path.to_owned(),
                source: std::io::ErrorKind::WouldBlock.into(),
            }),
            Err(source) => Err(KvmError::Going {
                path: path.to_owned(),
                source,
            }),
        };
        of_the_cache.map(hold).collect()
    }

    fn find_in(cache: &CacheDir) -> Result<Self, KvmError> {
        let vmm = staleline_initramfs::find_vmm(cache).ok_or_else(|| {
            KvmError::NoVmm("it has not been built: the first run with this engine does".into())
        })?;
        if is_native() {
            return Ok(Place::Native { vmm });
        }
        let no_kernel = |e: staleline_kernels::KernelError| KvmError::NoHostKernel(e.into());
        let builder = KernelBuilder::new().map_err(no_kernel)?;
        let kernel = builder.cached(&KernelRequest::host()).map_err(no_kernel)?;
        let kernel = kernel.ok_or_else(|| {
            KvmError::NoHostKernel(
                "it has not been built: the first run with this engine does".into(),
            )
        })?;
        let initrd = staleline_initramfs::host_initramfs(&vmm, cache);
        Ok(Place::Emulated {
            qemu: qemu_program(),
            kernel: kernel.image,
            initrd: initrd.map_err(|e| KvmError::NoVmm(e.into()))?,
        })
    }

    /// Who has ended, if it has.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Place::Native { .. } => "the VMM",
            Place::Emulated { .. } => "the emulated host",
        }
    }

    /// What runs on this machine for it.
    pub(super) fn program(&self) -> String {
        match self {
            Place::Native { vmm } => vmm.display().to_string(),
            Place::Emulated { qemu, .. } => qemu.display().to_string(),
        }
    }

    /// The machine that guests run on, of whose kernel this is the name.
    pub(super) fn told(&self, kernel: &str) -> String {
        match self {
            Place::Native { .. } => format!("this machine's KVM, {kernel}"),
            Place::Emulated { .. } => format!("KVM of an emulated machine, {kernel}"),
        }
    }

    /// Starts it for guests of up to `ram_bytes`, and with devices of the host's or without, with what it writes on
    /// its console in `console`. With it comes the directory of its files, if they are on this machine: it is killed
    /// before it could remove that.
    pub(super) fn start(
        &self,
        (ram_bytes, devices): (u64, bool),
        console: &File,
    ) -> Result<(Child, UnixStream, Option<TempDir>), KvmError> {
        let (ours, theirs) = UnixStream::pair().map_err(|source| KvmError::Start {
            program: "a connection".into(),
            source,
        })?;
        let emulated_devices = devices && matches!(self, Place::Emulated { .. });
        let disk = emulated_devices.then(disk).transpose();
        let disk = disk.map_err(|source| KvmError::Start {
            program: "a disk of the emulated host".into(),
            source,
        })?;
        let (mut command, files) = match self {
            Place::Native { vmm } => {
                let files = tempfile::tempdir().map_err(|source| KvmError::Start {
                    program: "a directory for the VMM".into(),
                    source,
                })?;
                (native(vmm, files.path(), theirs, devices), Some(files))
            }
            Place::Emulated {
                qemu,
                kernel,
                initrd,
            } => {
                let images = (kernel.as_path(), initrd.as_path());
                (emulated(qemu, images, ram_bytes, theirs, disk), None)
            }
        };
        let failed = |source| KvmError::Start {
            program: self.program(),
            source,
        };
        let out = console.try_clone().map_err(failed)?;
        let err = console.try_clone().map_err(failed)?;
        let child = command.stdout(out).stderr(err).spawn().map_err(failed)?;
        Ok((child, ours, files))
    }
}

fn native(vmm: &Path, dir: &Path, connection: UnixStream, devices: bool) -> Command {
    let mut command = Command::new(vmm);
    command
        .arg(dir)
        .args(devices.then_some(DEVICES))
        .stdin(Stdio::from(OwnedFd::from(connection)));
    die_with_parent(&mut command);
    command
}

fn emulated(
    qemu: &Path,
    (kernel, initrd): (&Path, &Path),
    ram_bytes: u64,
    connection: UnixStream,
    disk: Option<File>,
) -> Command {
    let mut machine = "virt,gic-version=3,virtualization=on".to_owned();
    if disk.is_some() {
        machine.push_str(",iommu=smmuv3");
    }
    let memory = ram_bytes.saturating_mul(TIMES).saturating_add(HOST_BYTES);
    let memory = memory.div_ceil(1 << 20);
    machine.push_str(",memory-backend=ram");
    let mut command = Command::new(qemu);
    command
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-no-reboot", "-monitor", "none"])
        // EL2 is there, so that KVM is.
        .args(["-machine", &machine])
        // Authentication codes are not what is tested, and slow when they are those of the architecture.
        .args(["-cpu", "max,pauth-impdef=on", "-smp"])
        .arg(HOST_CPUS.to_string())
        .arg("-m")
        .arg(format!("{memory}M"))
        .arg("-object")
        .arg(format!(
            "memory-backend-ram,id=ram,size={memory}M{}",
            reservation()
        ))
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        .args(["-append", "console=ttyAMA0 loglevel=5 panic=-1"])
        .args(["-serial", "stdio"])
        .arg("-chardev")
        .arg(format!("socket,id=vmm,fd={}", connection.as_raw_fd()))
        .args(["-device", "virtio-serial-pci,addr=2", "-device"])
        .arg(OsString::from(format!(
            "virtserialport,chardev=vmm,name={PORT}"
        )))
        .stdin(Stdio::null());
    let mut descriptors = vec![OwnedFd::from(connection)];
    if let Some(disk) = disk {
        add_devices(&mut command, &disk);
        descriptors.push(disk.into());
    }
    command.preserved_fds(descriptors);
    die_with_parent(&mut command);
    command
}

/// How QEMU is to have the memory of an emulated host, most of which is never touched: without a claim on as much of this
/// machine's, where its kernel lets programs have more than there is (QEMU's `reserve` needs that; see
/// `vm.overcommit_memory` in Documentation/mm/overcommit-accounting.rst).
fn reservation() -> &'static str {
    const NEVER: &str = "2";
    let mode = std::fs::read_to_string("/proc/sys/vm/overcommit_memory");
    match mode.is_ok_and(|mode| mode.trim() == NEVER) {
        true => "",
        false => ",reserve=off",
    }
}

/// Bytes of the disk that an emulated host has for its guest.
const DISK_BYTES: u64 = 64 << 20;

/// An empty one, gone when nobody has it any more.
fn disk() -> std::io::Result<File> {
    let disk = tempfile::tempfile()?;
    disk.set_len(DISK_BYTES)?;
    Ok(disk)
}

/// PCI devices for the guest, behind the IOMMU: an NVMe disk at 0000:00:03.0, and a network card at 0000:00:04.0
/// in a network of its own.
fn add_devices(command: &mut Command, disk: &File) {
    // It is opened more than once, each time for something else.
    let file = format!("/proc/self/fd/{}", disk.as_raw_fd());
    command
        .arg("-drive")
        .arg(format!("if=none,id=disk,format=raw,file={file}"))
        .args(["-device", "nvme,drive=disk,serial=staleline,addr=3"])
        .args(["-netdev", "user,id=net,restrict=on"])
        .args([
            "-device",
            "e1000e,netdev=net,mac=52:54:00:53:4c:01,romfile=,addr=4",
        ]);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_it_runs_is_not_removed_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let cache = CacheDir::at(dir.path().to_owned());
        let kernel = dir.path().join("kernels/k/Image");
        let initrd = dir.path().join("initramfs/i.cpio");
        let elsewhere = tempfile::NamedTempFile::new().unwrap();
        for path in [&kernel, &initrd] {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let place = |initrd: &Path| Place::Emulated {
            qemu: "qemu".into(),
            kernel: kernel.clone(),
            initrd: initrd.to_owned(),
        };
        let used = place(&initrd).hold(&cache).unwrap();
        for path in [kernel.parent().unwrap(), &initrd] {
            assert!(Lock::alone(path).unwrap().is_none());
        }
        drop(used);
        // What is not the cache's is nobody's business here.
        assert_eq!(place(elsewhere.path()).hold(&cache).unwrap().len(), 1);
        let going = Lock::alone(&initrd).unwrap().unwrap();
        let refused = place(&initrd).hold(&cache).unwrap_err();
        assert!(refused.to_string().contains("i.cpio"), "{refused}");
        assert!(refused.help().contains("clean"));
        drop(going);
    }
}
