// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A CPU of the guest.

use kvm_bindings::{
    KVM_ARM_VCPU_POWER_OFF, KVM_ARM_VCPU_PSCI_0_2, KVM_REG_ARM_CORE, KVM_REG_ARM64,
    KVM_REG_SIZE_U64, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN, kvm_vcpu_init,
};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use rustix::io::Errno;
use staleline_devices::cpu::CpuId;
use staleline_machine::engine::RESTARTED;
use staleline_machine::engine::guest::Guest;
use staleline_machine::engine::wire::Ended;

use crate::bus::Bus;
use crate::error::KvmError;

/// The program counter: `regs.pc` of `struct kvm_regs`, in units of 32 bits (Documentation/virt/kvm/api.rst, 4.68).
const PC: u64 = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE as u64 | 0x40;

/// Makes CPU number `n` of the machine.
///
/// # Errors
/// [`KvmError::Refused`].
pub fn create(vm: &VmFd, n: u8) -> Result<VcpuFd, KvmError> {
    vm.create_vcpu(n.into())
        .map_err(KvmError::kvm("make a CPU"))
}

/// Resets a CPU. The first starts at `entry`, the others when it tells them to.
///
/// # Errors
/// [`KvmError::Refused`].
pub fn reset(vm: &VmFd, vcpu: &VcpuFd, n: u8, entry: u64) -> Result<(), KvmError> {
    let what = "set up a CPU";
    let mut init = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut init)
        .map_err(KvmError::kvm(what))?;
    if let Some(features) = init.features.first_mut() {
        *features |= 1 << KVM_ARM_VCPU_PSCI_0_2;
        if n != 0 {
            *features |= 1 << KVM_ARM_VCPU_POWER_OFF;
        }
    }
    vcpu.vcpu_init(&init).map_err(KvmError::kvm(what))?;
    if n == 0 {
        let set = vcpu.set_one_reg(PC, &entry.to_le_bytes());
        set.map_err(KvmError::kvm(what))?;
    }
    Ok(())
}

/// Where a CPU is.
fn pc(vcpu: &VcpuFd) -> Option<u64> {
    let mut bytes = [0; 8];
    vcpu.get_one_reg(PC, &mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// Runs a CPU until the guest has ended. `None` if somebody else has ended it.
///
/// # Errors
/// [`KvmError`] if the guest does what cannot be carried out.
pub fn run<M: Guest>(
    vcpu: &mut VcpuFd,
    cpu: CpuId,
    bus: &Bus<M>,
) -> Result<Option<Ended>, KvmError> {
    loop {
        if bus.is_over() {
            return Ok(None);
        }
        let what = match vcpu.run() {
            Ok(VcpuExit::MmioRead(pa, data)) => {
                bus.read(cpu, pa, data)?;
                continue;
            }
            Ok(VcpuExit::MmioWrite(pa, data)) => {
                bus.write(cpu, pa, data)?;
                continue;
            }
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _)) => {
                return Ok(Some(Ended::PoweredOff));
            }
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _)) => {
                return Ok(Some(Ended::Died {
                    what: RESTARTED.into(),
                }));
            }
            Ok(VcpuExit::Intr) => continue,
            Ok(other) => format!("{other:?}"),
            Err(e) => match Errno::from_raw_os_error(e.errno()) {
                Errno::INTR | Errno::AGAIN => continue,
                // KVM says so of accesses outside memory whose syndrome is not valid (ESR_EL2.ISV).
                Errno::NOSYS => {
                    "an access outside memory that KVM cannot decode: of several registers, with \
                                 write-back, or an atomic one"
                        .into()
                }
                _ => return Err(KvmError::kvm("run a CPU")(e)),
            },
        };
        return Err(KvmError::Exit {
            cpu: cpu.0,
            what,
            pc: pc(vcpu),
        });
    }
}
