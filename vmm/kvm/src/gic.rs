// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The interrupt controller, KVM's GICv3 (Documentation/virt/kvm/devices/arm-vgic-v3.rst).

use std::ptr::{from_mut, from_ref};

use kvm_bindings::{
    KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS,
    KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO,
    KVM_DEV_ARM_VGIC_GRP_NR_IRQS, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, KVM_VGIC_V3_ADDR_TYPE_DIST,
    KVM_VGIC_V3_ADDR_TYPE_REDIST, kvm_create_device, kvm_device_attr,
    kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
};
use kvm_ioctls::{DeviceFd, VmFd};
use staleline_machine::board::{GIC_DISTRIBUTOR, GIC_REDISTRIBUTORS};

use crate::error::KvmError;
use crate::snapshot::GicRegister;

/// The first shared interrupt.
const FIRST_SHARED: u32 = 32;

/// Interrupts by which an interrupt controller is larger or smaller.
const GROUP: u32 = 32;

/// Interrupts, private and shared, of a board with so many shared ones, of which there is at least one. A guest sets up each that there is, which
/// takes an exit for some of its registers.
fn interrupts(lines: u8) -> u32 {
    (FIRST_SHARED + u32::from(lines)).next_multiple_of(GROUP)
}

/// In KVM_IRQ_LINE's number: a shared interrupt (KVM_ARM_IRQ_TYPE_SPI; Documentation/virt/kvm/api.rst, 4.25).
const SHARED: u32 = 1 << 24;

/// An interrupt controller for a machine that has all its CPUs, with so many shared interrupts.
///
/// # Errors
/// [`KvmError`] if KVM has none.
pub fn create(vm: &VmFd, lines: u8) -> Result<DeviceFd, KvmError> {
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
    set(
        KVM_DEV_ARM_VGIC_GRP_NR_IRQS,
        0,
        Some(interrupts(lines).into()),
    )?;
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

/// Registers of the distributor that a guest sets, by first offset, offset after the last, for each 32
/// interrupts how many bytes (GICv3 architecture, IHI 0069H, 12.8). Those of the first 32 are the
/// redistributors'.
const DISTRIBUTOR: [(u32, u32); 7] = [
    // IGROUPR, ICFGR, IPRIORITYR, IROUTER, ISENABLER, ISPENDR, ISACTIVER
    (0x0080, 4),
    (0x0c00, 8),
    (0x0400, 32),
    (0x6000, 256),
    (0x0100, 4),
    (0x0200, 4),
    (0x0300, 4),
];

/// Control.
const GICD_CTLR: u32 = 0;

/// Offsets of priorities, for private interrupts in the redistributors' second frame, and of routes.
const PRIORITIES: std::ops::Range<u64> = 0x0400..0x0800;
const PRIVATE_PRIORITIES: std::ops::Range<u64> = 0x1_0400..0x1_0420;
const ROUTES: std::ops::Range<u64> = 0x6000..0x8000;

/// Of registers in which ones are set by writing ones, and zeros change nothing: first offset, offset behind the last.
/// Each has another that far on, in which ones are cleared so. IS(ENABLE|ACTIVE)R in either place; what is pending is
/// as it is written, when it is userspace that writes (arm-vgic-v3.rst, KVM_DEV_ARM_VGIC_GRP_DIST_REGS).
const SET_BY_ONES: [std::ops::Range<u64>; 4] = [
    0x0100..0x0180,
    0x0300..0x0380,
    0x1_0100..0x1_0180,
    0x1_0300..0x1_0380,
];
const TO_CLEAR: u64 = 0x80;

/// Registers of a redistributor (12.10, 12.11): GICR_WAKER; of its frame of interrupts GICR_IGROUPR0, GICR_ICFGR1,
/// GICR_IPRIORITYR, GICR_ISENABLER0, GICR_ISPENDR0, GICR_ISACTIVER0; and GICR_CTLR.
const REDISTRIBUTOR: [u32; 15] = [
    0x0_0014, 0x1_0080, 0x1_0c04, 0x1_0400, 0x1_0404, 0x1_0408, 0x1_040c, 0x1_0410, 0x1_0414,
    0x1_0418, 0x1_041c, 0x1_0100, 0x1_0200, 0x1_0300, 0x0_0000,
];

/// A system register's number: Op0, Op1, CRn, CRm and Op2 as in an instruction.
const fn sysreg(crn: u32, crm: u32, op2: u32) -> u32 {
    3 << 14 | crn << 7 | crm << 3 | op2
}

/// Registers of a CPU's interface (12.2): ICC_SRE_EL1, which decides about the others, ICC_CTLR_EL1, ICC_PMR_EL1,
/// ICC_BPR0_EL1, ICC_BPR1_EL1, ICC_AP0R0_EL1, ICC_AP1R0_EL1, ICC_IGRPEN0_EL1, ICC_IGRPEN1_EL1.
const INTERFACE: [u32; 9] = [
    sysreg(12, 12, 5),
    sysreg(12, 12, 4),
    sysreg(4, 6, 0),
    sysreg(12, 8, 3),
    sysreg(12, 12, 3),
    sysreg(12, 8, 4),
    sysreg(12, 9, 0),
    sysreg(12, 12, 6),
    sysreg(12, 12, 7),
];

/// All that is to be saved for so many CPUs and shared interrupts, in the order in which it is restored: group, and
/// number there.
fn registers(cpus: u8, lines: u8) -> impl Iterator<Item = (u32, u64)> {
    // Affinity 0 is a CPU's number, and there are no more than 16.
    let of_cpu = |cpu: u8, at: u32| u64::from(cpu) << 32 | u64::from(at);
    let interrupts = interrupts(lines);
    let shared = DISTRIBUTOR.into_iter().flat_map(move |(first, each)| {
        let begin = first + each;
        let end = first + each * (interrupts / GROUP);
        (begin..end).step_by(4)
    });
    let shared = shared.map(|at| (KVM_DEV_ARM_VGIC_GRP_DIST_REGS, u64::from(at)));
    let private = (0..cpus).flat_map(move |cpu| {
        let of = REDISTRIBUTOR.into_iter();
        of.map(move |at| (KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, of_cpu(cpu, at)))
    });
    let interfaces = (0..cpus).flat_map(move |cpu| {
        let of = INTERFACE.into_iter();
        of.map(move |at| (KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, of_cpu(cpu, at)))
    });
    // By 32 interrupts; the kind of information, of which there is one, is 0.
    let private_levels = (0..cpus).map(move |cpu| of_cpu(cpu, 0));
    let shared_levels = (FIRST_SHARED..interrupts)
        .step_by(GROUP as usize)
        .map(u64::from);
    let levels = private_levels.chain(shared_levels);
    let levels = levels.map(|attr| (KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO, attr));
    // First, and before what is pending what is enabled: KVM looks at all that when something becomes pending,
    // and not again (arch/arm64/kvm/vgic/vgic.c: vgic_target_oracle()).
    let control = (KVM_DEV_ARM_VGIC_GRP_DIST_REGS, GICD_CTLR.into());
    [control]
        .into_iter()
        .chain(shared)
        .chain(private)
        .chain(levels)
        .chain(interfaces)
}

/// What an interrupt controller holds, of a machine with so many CPUs and shared interrupts, none of which runs.
///
/// # Errors
/// [`KvmError::Refused`].
pub fn save(gic: &DeviceFd, cpus: u8, lines: u8) -> Result<Vec<GicRegister>, KvmError> {
    let read = |(group, attr)| {
        let mut value = 0_u64;
        let mut asked = kvm_device_attr {
            group,
            attr,
            addr: from_mut(&mut value) as u64,
            flags: 0,
        };
        // SAFETY: KVM writes 32 or 64 bits there, and `value` has 64 that nobody else knows of.
        let got = unsafe { gic.get_device_attr(&mut asked) };
        got.map_err(KvmError::kvm("save the interrupt controller"))?;
        Ok(GicRegister { group, attr, value })
    };
    registers(cpus, lines).map(read).collect()
}

/// Has one that was just made hold that.
///
/// # Errors
/// [`KvmError::Refused`]; [`KvmError::BadRequest`] if it is of another machine.
pub fn restore(
    gic: &DeviceFd,
    (cpus, lines): (u8, u8),
    state: &[GicRegister],
) -> Result<(), KvmError> {
    let same = registers(cpus, lines).eq(state.iter().map(|r| (r.group, r.attr)));
    if !same {
        return Err(KvmError::BadRequest(
            "the saved interrupt controller is another one",
        ));
    }
    for GicRegister { group, attr, value } in state.iter().flat_map(writes) {
        let attr = kvm_device_attr {
            group,
            attr,
            addr: from_ref(&value) as u64,
            flags: 0,
        };
        gic.set_device_attr(&attr)
            .map_err(KvmError::kvm("restore the interrupt controller"))?;
    }
    Ok(())
}

/// What is written so that a register holds that.
fn writes(register: &GicRegister) -> impl Iterator<Item = GicRegister> + use<> {
    let register = *register;
    let offset = register.attr & 0xffff_ffff;
    let is_memory = matches!(
        register.group,
        KVM_DEV_ARM_VGIC_GRP_DIST_REGS | KVM_DEV_ARM_VGIC_GRP_REDIST_REGS
    );
    let among = |ranges: &[std::ops::Range<u64>]| {
        is_memory && ranges.iter().any(|range| range.contains(&offset))
    };
    // KVM makes these zero, and they are nearly all there is. Others it makes something else: an interrupt has an edge,
    // is of group 1, and is enabled if it is one of software's (arch/arm64/kvm/vgic/vgic-init.c).
    let is_made_so = register.value == 0 && among(&[PRIORITIES, PRIVATE_PRIORITIES, ROUTES]);
    let clear = among(&SET_BY_ONES).then(|| GicRegister {
        attr: register.attr + TO_CLEAR,
        // Of 32 bits.
        value: !register.value & 0xffff_ffff,
        ..register
    });
    let set = (!is_made_so).then_some(register);
    clear.into_iter().chain(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_zero_is_written_where_it_is_not_made_so() {
        let zeros = registers(2, 64).map(|(group, attr)| GicRegister {
            group,
            attr,
            value: 0,
        });
        let zeros: Vec<_> = zeros.collect();
        let written: Vec<_> = zeros.iter().flat_map(writes).collect();
        let is_written = |group, attr, value| {
            let register = GicRegister { group, attr, value };
            written.iter().filter(|one| **one == register).count()
        };
        let (shared, private) = (
            KVM_DEV_ARM_VGIC_GRP_DIST_REGS,
            KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
        );
        // Groups, and whether it is an edge or a level.
        for at in [0x84, 0x0c08] {
            assert_eq!(is_written(shared, at, 0), 1, "{at:#x}");
        }
        for at in [0x1_0080, 0x1_0c04, 1 << 32 | 0x1_0080] {
            assert_eq!(is_written(private, at, 0), 1, "{at:#x}");
        }
        // What is not enabled or active is cleared.
        for at in [0x0184, 0x0384] {
            assert_eq!(is_written(shared, at, 0xffff_ffff), 1, "{at:#x}");
        }
        for at in [0x1_0180, 0x1_0380, 1 << 32 | 0x1_0180] {
            assert_eq!(is_written(private, at, 0xffff_ffff), 1, "{at:#x}");
        }
        assert_eq!(is_written(KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO, 32, 0), 1);
        // Nothing else is left out.
        let left_out = zeros.iter().filter(|one| !written.contains(one));
        for GicRegister { group, attr, .. } in left_out {
            let offset = attr & 0xffff_ffff;
            let made_so = match *group == shared {
                true => PRIORITIES.contains(&offset) || ROUTES.contains(&offset),
                false => *group == private && PRIVATE_PRIORITIES.contains(&offset),
            };
            assert!(made_so, "{group} {attr:#x}");
        }
    }

    #[test]
    fn what_is_set_by_ones_is_cleared_before() {
        let enabled = GicRegister {
            group: KVM_DEV_ARM_VGIC_GRP_DIST_REGS,
            attr: 0x104,
            value: 0b101,
        };
        let written: Vec<_> = writes(&enabled).collect();
        let cleared = GicRegister {
            attr: 0x184,
            value: 0xffff_fffa,
            ..enabled
        };
        assert_eq!(written, [cleared, enabled]);
    }
}
