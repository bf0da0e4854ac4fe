// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The interrupt controller, KVM's GICv3 (Documentation/virt/kvm/devices/arm-vgic-v3.rst).

use std::ptr::from_ref;

use kvm_bindings::{
    KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_DEV_ARM_VGIC_GRP_CTRL,
    KVM_DEV_ARM_VGIC_GRP_NR_IRQS, KVM_VGIC_V3_ADDR_TYPE_DIST, KVM_VGIC_V3_ADDR_TYPE_REDIST,
    kvm_create_device, kvm_device_attr, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
};
use kvm_ioctls::{DeviceFd, VmFd};
use staleline_machine::board::{GIC_DISTRIBUTOR, GIC_REDISTRIBUTORS};

use crate::error::KvmError;

/// Interrupts, private and shared: the board's shared ones go up to 63.
const INTERRUPTS: u32 = 128;

/// The first shared interrupt.
const FIRST_SHARED: u32 = 32;

/// In KVM_IRQ_LINE's number: a shared interrupt (KVM_ARM_IRQ_TYPE_SPI; Documentation/virt/kvm/api.rst, 4.25).
const SHARED: u32 = 1 << 24;

/// An interrupt controller for a machine that has all its CPUs.
///
/// # Errors
/// [`KvmError`] if KVM has none.
pub fn create(vm: &VmFd) -> Result<DeviceFd, KvmError> {
    let mut device = kvm_create_device {
        type_: kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
        fd: 0,
        flags: 0,
    };
    let gic = vm.create_device(&mut device);
    let gic = gic.map_err(|_| KvmError::Lacks("GICv3 for its guests"))?;
    let set = |group, attr: u32, value: Option<u64>| {
        let attr = kvm_device_attr {
            group,
            attr: attr.into(),
            addr: value.as_ref().map_or(0, |value| from_ref(value) as u64),
            flags: 0,
        };
        let set = gic.set_device_attr(&attr);
        set.map_err(KvmError::kvm("set up the interrupt controller"))
    };
    let place = |kind, at| set(KVM_DEV_ARM_VGIC_GRP_ADDR, kind, Some(at));
    place(KVM_VGIC_V3_ADDR_TYPE_DIST, GIC_DISTRIBUTOR)?;
    place(KVM_VGIC_V3_ADDR_TYPE_REDIST, GIC_REDISTRIBUTORS)?;
    // 32 bits, which are the lower half of 64.
    set(KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, Some(INTERRUPTS.into()))?;
    set(KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, None)?;
    Ok(gic)
}

/// Sets the level of a shared peripheral interrupt, 0 to 63.
///
/// # Errors
/// [`KvmError::Refused`].
pub fn set_line(vm: &VmFd, interrupt: u8, level: bool) -> Result<(), KvmError> {
    let number = SHARED | (FIRST_SHARED + u32::from(interrupt & 63));
    vm.set_irq_line(number, level)
        .map_err(KvmError::kvm("set an interrupt line"))
}
