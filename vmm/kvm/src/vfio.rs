// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Devices of the host's that are handed to the guest (Documentation/driver-api/vfio.rst).

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kvm_ioctls::VmFd;
use staleline_machine::board::pci::{irq, slot};
use staleline_machine::engine::wire::HostDevices;
use vfio_ioctls::{VfioContainer, VfioDevice, VfioError};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::error::KvmError;
use crate::pci::{Backing, Bridge};

/// Where the kernel tells of PCI devices.
const DEVICES: &str = "/sys/bus/pci/devices";
const DRIVER: &str = "vfio-pci";

/// Numbers of a PCI device's regions and interrupts (include/uapi/linux/vfio.h).
const CONFIGURATION: u32 = 7;
const INTX: u32 = 0;

/// The pin that a device's interrupt is on, in its configuration space.
const PIN: u64 = 0x3d;

/// A device that is ours.
pub struct Device {
    vfio: VfioDevice,
    /// Kept as long as the interrupt is.
    _interrupt: Option<(EventFd, EventFd)>,
}

impl Backing for Device {
    fn read_configuration(&self, register: u16, data: &mut [u8]) {
        self.vfio.region_read(CONFIGURATION, data, register.into());
    }

    fn write_configuration(&self, register: u16, data: &[u8]) {
        self.vfio.region_write(CONFIGURATION, data, register.into());
    }

    fn bytes(&self, bar: usize) -> u64 {
        // Of 6.
        self.vfio.get_region_size(bar as u32)
    }

    fn read(&self, bar: usize, offset: u64, data: &mut [u8]) {
        self.vfio.region_read(bar as u32, data, offset);
    }

    fn write(&self, bar: usize, offset: u64, data: &[u8]) {
        self.vfio.region_write(bar as u32, data, offset);
    }
}

/// The bridge with these devices behind it, which reach the guest's memory where `memory` has it: the host's
/// address of so many bytes of RAM, if they are all there.
///
/// # Errors
/// [`KvmError::Device`] with what to do about it; none of the devices is ours then.
pub fn open(
    devices: &HostDevices,
    vm: &VmFd,
    memory: impl Fn(u64, usize) -> Result<*mut u8, KvmError>,
) -> Result<Bridge<Device>, KvmError> {
    let names = &devices.addresses;
    let Some(first) = names.first() else {
        return Ok(Bridge::new([]));
    };
    // The first process of an emulated machine.
    let emulated = std::process::id() == 1;
    for name in names {
        prepare(Path::new(DEVICES), name, emulated)?;
    }
    let container = VfioContainer::new(None).map_err(|e| failed(first, &e))?;
    let container = Arc::new(container);
    let mut opened = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let path = Path::new(DEVICES).join(name);
        let vfio = VfioDevice::new(&path, container.clone(), true);
        let vfio = vfio.map_err(|e| failed(name, &e))?;
        vfio.reset();
        let interrupt = interrupt(&vfio, vm, slot(index))
            .map_err(|why| device(name, why, "look at the kernel's log (`dmesg`) for why"))?;
        opened.push(Device {
            vfio,
            _interrupt: interrupt,
        });
    }
    // Only once it has a device can a container be told.
    for (pa, bytes) in &devices.ram {
        let len = usize::try_from(*bytes).map_err(|_| KvmError::BadRequest("too much RAM"))?;
        let at = memory(*pa, len)?;
        // SAFETY: it is memory of that length that is accessed by volatile accesses and the guest only, and outlives the
        // devices: `guest::run` has it for longer. What is mapped there stays until then: pages
        // are replaced (`dram`) in RAM only where devices have the other image.
        let mapped = unsafe { container.vfio_dma_map(*pa, len, at) };
        mapped.map_err(|e| failed(first, &e))?;
    }
    Ok(Bridge::new(opened))
}

/// Passes the device's interrupt on to the guest, by KVM itself: it is a level, which VFIO masks when it comes, and
/// unmasks when the guest has acknowledged it.
fn interrupt(
    vfio: &VfioDevice,
    vm: &VmFd,
    slot: u32,
) -> Result<Option<(EventFd, EventFd)>, String> {
    let mut pin = [0];
    vfio.region_read(CONFIGURATION, &mut pin, PIN);
    if pin == [0] || vfio.get_irq_info(INTX).is_none_or(|info| info.count == 0) {
        return Ok(None);
    }
    let eventfd = || EventFd::new(EFD_NONBLOCK).map_err(|e| format!("no eventfd: {e}"));
    let (raised, acknowledged) = (eventfd()?, eventfd()?);
    // By default, KVM's interrupts have the numbers of shared ones.
    let number = irq(slot, pin[0]).into();
    vm.register_irqfd_with_resample(&raised, &acknowledged, number)
        .map_err(|e| format!("KVM does not take its interrupt: {e}"))?;
    vfio.enable_irq(INTX, vec![&raised])
        .map_err(|e| format!("its interrupt cannot be had: {e}"))?;
    vfio.set_irq_resample_fd(INTX, vec![&acknowledged])
        .map_err(|e| format!("its interrupt cannot be acknowledged: {e}"))?;
    Ok(Some((raised, acknowledged)))
}

fn device(name: &str, why: impl Into<String>, help: &'static str) -> KvmError {
    KvmError::Device {
        device: name.to_owned(),
        why: why.into(),
        help,
    }
}

/// What to do where the machine has been made for this, and nobody can do anything in it.
const EMULATED: &str = "an emulated host has two devices for its guest: 0000:00:03.0, an NVMe disk, and 0000:00:04.0, an e1000e \
     network card";

/// Looks whether a device among those in the directory can be had, in words of what is the matter.
fn prepare(devices: &Path, name: &str, emulated: bool) -> Result<(), KvmError> {
    let path = devices.join(name);
    if !path.exists() {
        let help = match emulated {
            true => EMULATED,
            false => "`lspci -D` lists them",
        };
        return Err(device(name, "there is no such device", help));
    }
    if emulated && driver(&path).is_none_or(|driver| driver != DRIVER) {
        return Err(device(
            name,
            "it is a part of the emulated host itself",
            EMULATED,
        ));
    }
    match driver(&path) {
        Some(driver) if driver == DRIVER => {}
        other => {
            return Err(device(
                name,
                match other {
                    Some(driver) => format!("the host's driver {driver} has it"),
                    None => "no driver of the host's has it, and vfio-pci has to".into(),
                },
                "give it to vfio-pci, as root: `driverctl set-override ADDRESS vfio-pci`, or echo vfio-pci into its \
             driver_override below /sys/bus/pci/devices, then its address into driver/unbind there and \
             /sys/bus/pci/drivers_probe",
            ));
        }
    }
    // It is in a group only once a driver has it.
    if !path.join("iommu_group").exists() {
        return Err(device(
            name,
            "no IOMMU is in front of it",
            "switch the IOMMU on in the firmware, or on the kernel's command line",
        ));
    }
    Ok(())
}

/// Gives all devices that no driver of the host's has to VFIO, in a machine that was made for this: whether it has any
/// now. One that it does not take is told of when somebody wants it.
pub fn give_all() -> bool {
    let mut any = false;
    for entry in fs::read_dir(DEVICES).into_iter().flatten().flatten() {
        if driver(&entry.path()).is_some() {
            continue;
        }
        let name = entry.file_name();
        let _ = fs::write(entry.path().join("driver_override"), DRIVER)
            .and_then(|()| fs::write("/sys/bus/pci/drivers_probe", name.as_encoded_bytes()));
        any |= driver(&entry.path()).is_some_and(|driver| driver == DRIVER);
    }
    any
}

/// Takes a device's group, which nobody else has as long as the file is there.
///
/// # Errors
/// Those of the kernel.
pub fn hold(name: &str) -> io::Result<File> {
    let group = fs::read_link(Path::new(DEVICES).join(name).join("iommu_group"))?;
    let group = group.file_name().ok_or(ErrorKind::NotFound)?;
    let group = Path::new("/dev/vfio").join(group);
    File::options().read(true).write(true).open(group)
}

/// The driver that has it.
fn driver(path: &Path) -> Option<String> {
    let link: PathBuf = fs::read_link(path.join("driver")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

/// What is the matter, and what to do.
fn failed(name: &str, e: &VfioError) -> KvmError {
    let (why, help) = match e {
        VfioError::OpenContainer(e) if e.kind() == ErrorKind::NotFound => (
            "there is no VFIO on this host".to_owned(),
            "load the modules vfio, vfio_iommu_type1 and vfio_pci, or use a kernel that has them",
        ),
        VfioError::OpenContainer(e) | VfioError::OpenGroup(e, _)
            if e.kind() == ErrorKind::PermissionDenied =>
        {
            (
                "you may not use its VFIO group".to_owned(),
                "let your user have it: `chown USER /dev/vfio/GROUP`, by a rule of udev's so that it stays",
            )
        }
        VfioError::OpenGroup(e, _) if e.kind() == ErrorKind::ResourceBusy => (
            "its VFIO group is in use".to_owned(),
            "another virtual machine has it, or another run: `fuser -v /dev/vfio/GROUP` says who",
        ),
        VfioError::GroupViable => (
            "other devices of its IOMMU group are in use by the host".to_owned(),
            "give all devices of the group (iommu_group/devices in its directory) to vfio-pci",
        ),
        VfioError::IommuDmaMap(_) => (
            format!("the guest's memory cannot be mapped for it: {e}"),
            "all of it is locked for a device: raise the limit (`ulimit -l`), or lower board.ram-mib",
        ),
        _ => (e.to_string(), "look at the kernel's log (`dmesg`) for why"),
    };
    device(name, why, help)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_device_that_cannot_be_had_is_told_with_what_can_be_done_there() {
        let dir = tempfile::tempdir().unwrap();
        for (name, driver) in [("0000:00:02.0", Some("virtio-pci")), ("0000:00:05.0", None)] {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            if let Some(driver) = driver {
                symlink(Path::new("/drivers").join(driver), path.join("driver")).unwrap();
            }
        }
        let told = |name: &str, emulated| {
            let error = prepare(dir.path(), name, emulated).unwrap_err();
            (error.to_string(), error.help())
        };
        for (name, real, emulated) in [
            (
                "0000:00:1f.0",
                ("no such device", "lspci"),
                "no such device",
            ),
            ("0000:00:02.0", ("virtio-pci has it", "driverctl"), "itself"),
            ("0000:00:05.0", ("no driver", "driverctl"), "itself"),
        ] {
            let (why, help) = told(name, false);
            assert!(
                why.contains(real.0) && help.contains(real.1),
                "{why}; {help}"
            );
            assert!(!help.contains("NVMe"), "{help}");
            let (why, help) = told(name, true);
            assert!(why.contains(emulated) && help == EMULATED, "{why}; {help}");
        }
    }

    #[test]
    fn whoever_cannot_have_a_group_is_told_why_and_what_to_do() {
        let group = |kind: ErrorKind| VfioError::OpenGroup(io::Error::from(kind), "7".into());
        let cases = [
            (group(ErrorKind::ResourceBusy), "is in use", "fuser -v"),
            (
                group(ErrorKind::PermissionDenied),
                "you may not use",
                "chown USER",
            ),
            (
                VfioError::GroupViable,
                "in use by the host",
                "iommu_group/devices",
            ),
            (
                VfioError::OpenContainer(ErrorKind::NotFound.into()),
                "no VFIO on this host",
                "vfio_pci",
            ),
        ];
        for (error, why, what) in cases {
            let failed = failed("0000:00:03.0", &error);
            let told = failed.to_string();
            assert!(
                told.contains("0000:00:03.0") && told.contains(why),
                "{told}"
            );
            assert!(failed.help().contains(what), "{}", failed.help());
        }
    }
}
