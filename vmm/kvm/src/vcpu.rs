// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A CPU of the guest.

use kvm_bindings::{
    KVM_ARM_VCPU_POWER_OFF, KVM_ARM_VCPU_PSCI_0_2, KVM_REG_ARM_CORE, KVM_REG_ARM64,
    KVM_REG_ARM64_SYSREG, KVM_REG_SIZE_MASK, KVM_REG_SIZE_SHIFT, KVM_REG_SIZE_U64,
    KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN, RegList, kvm_mp_state, kvm_vcpu_events,
    kvm_vcpu_init,
};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use rustix::io::Errno;
use staleline_devices::cpu::CpuId;
use staleline_machine::engine::RESTARTED;
use staleline_machine::engine::guest::Guest;
use staleline_machine::engine::wire::Ended;

use crate::bus::Bus;
use crate::error::KvmError;
use crate::snapshot::{CpuState, Register};

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

/// A system register as KVM numbers it, whose op0 is 3.
const fn system_register(op1: u64, crn: u64, crm: u64, op2: u64) -> u64 {
    let number = 3 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2;
    KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM64_SYSREG as u64 | number
}

/// One of the timers', as KVM numbers those that it names for itself.
const fn counter(crm: u64, op2: u64) -> u64 {
    system_register(3, 14, crm, op2)
}

/// ID_AA64MMFR2_EL1, and where it has FEAT_S2FWB (Arm ARM, D24.2).
const FEATURES: u64 = system_register(0, 0, 7, 2);
const FWB: u32 = 40;

/// Whether memory is write-back for the guest, however it maps it, so that it and this process see the same there.
///
/// # Errors
/// [`KvmError::Refused`].
pub fn is_write_back(vcpu: &VcpuFd) -> Result<bool, KvmError> {
    let mut features = [0; 8];
    let read = vcpu.get_one_reg(FEATURES, &mut features);
    read.map_err(KvmError::kvm("tell what its CPUs can do"))?;
    Ok(u64::from_le_bytes(features) >> FWB & 0xf != 0)
}

/// What the virtual and the physical counter show: KVM_REG_ARM_TIMER_CNT, KVM_REG_ARM_PTIMER_CNT
/// (arch/arm64/include/uapi/asm/kvm.h).
const COUNTERS: [u64; 2] = [counter(3, 2), counter(0, 1)];

/// Registers of a CPU, at most: KVM has some hundreds.
const REGISTERS: usize = 500;

/// Bytes of a register of that number.
fn bytes_of(id: u64) -> usize {
    1 << ((id & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT)
}

/// What a CPU holds that does not run.
///
/// # Errors
/// [`KvmError::Refused`].
pub fn save(vcpu: &VcpuFd, number: u8) -> Result<CpuState, KvmError> {
    let what = "save a CPU";
    let failed = || KvmError::kvm(what);
    let mut list = RegList::new(REGISTERS).map_err(|_| KvmError::Lacks("so few registers"))?;
    vcpu.get_reg_list(&mut list).map_err(failed())?;
    let read = |id: &u64| {
        let mut value = vec![0; bytes_of(*id)];
        vcpu.get_one_reg(*id, &mut value).map_err(failed())?;
        Ok(Register { id: *id, value })
    };
    let registers = list.as_slice().iter().map(read);
    let registers = registers.collect::<Result<Vec<_>, KvmError>>()?;
    let mp_state = vcpu.get_mp_state().map_err(failed())?.mp_state;
    let exception = vcpu.get_vcpu_events().map_err(failed())?.exception;
    let serror = (exception.serror_pending != 0)
        .then_some((exception.serror_esr, exception.serror_has_esr != 0));
    Ok(CpuState {
        number,
        registers,
        mp_state,
        serror,
    })
}

/// Has a CPU that was reset hold that, but for the time ([`restore_time`]).
///
/// # Errors
/// [`KvmError::Refused`], and [`KvmError::Register`] for one that cannot be set to what it held.
pub fn restore(vcpu: &VcpuFd, state: &CpuState) -> Result<(), KvmError> {
    let what = "restore a CPU";
    let own = |register: &&Register| !COUNTERS.contains(&register.id);
    for register in state.registers.iter().filter(own) {
        set(vcpu, state.number, register)?;
    }
    let mp_state = kvm_mp_state {
        mp_state: state.mp_state,
    };
    vcpu.set_mp_state(mp_state).map_err(KvmError::kvm(what))?;
    if let Some((syndrome, has_syndrome)) = state.serror {
        let mut events = kvm_vcpu_events::default();
        events.exception.serror_pending = 1;
        events.exception.serror_has_esr = has_syndrome.into();
        events.exception.serror_esr = syndrome;
        vcpu.set_vcpu_events(&events).map_err(KvmError::kvm(what))?;
    }
    Ok(())
}

fn set(vcpu: &VcpuFd, cpu: u8, Register { id, value }: &Register) -> Result<(), KvmError> {
    let register = || KvmError::Register { cpu, id: *id };
    if value.len() != bytes_of(*id) {
        return Err(register());
    }
    if vcpu.set_one_reg(*id, value).is_err() {
        // Some tell what the CPU is, and cannot be set: they have to be the same.
        let mut now = vec![0; value.len()];
        let read = vcpu.get_one_reg(*id, &mut now);
        if read.is_err() || now != *value {
            return Err(register());
        }
    }
    Ok(())
}

/// Has all CPUs, whose other registers are restored, see the time at which they were saved.
///
/// A counter is the machine's: whichever CPU it is set by, all see it. They were saved one after the other while time
/// went on, so it is the latest that counts: with any other, it would go back for a CPU.
///
/// # Errors
/// As [`restore`].
pub fn restore_time(vcpus: &[VcpuFd], states: &[CpuState]) -> Result<(), KvmError> {
    let Some(first) = vcpus.first() else {
        return Ok(());
    };
    times(states)
        .into_iter()
        .try_for_each(|(cpu, register)| set(first, cpu, register))
}

/// What each counter has shown last, and to which CPU.
fn times(states: &[CpuState]) -> Vec<(u8, &Register)> {
    let shown = |register: &Register| {
        let bytes = register.value.first_chunk().copied();
        u64::from_le_bytes(bytes.unwrap_or_default())
    };
    let last = |counter: u64| {
        let all = states.iter().flat_map(|state| {
            let registers = state.registers.iter();
            registers.map(|register| (state.number, register))
        });
        all.filter(|(_, register)| register.id == counter)
            .max_by_key(|(_, register)| shown(register))
    };
    COUNTERS.into_iter().filter_map(last).collect()
}

/// Waits until the guest may go on, having said what the CPU holds.
fn stand_still<M: Guest>(vcpu: &mut VcpuFd, cpu: CpuId, bus: &Bus<M>) -> Result<(), KvmError> {
    // The access that it came out for is over only when it is entered again
    // (Documentation/virt/kvm/api.rst, 4.10 and 5, KVM_EXIT_MMIO).
    vcpu.set_kvm_immediate_exit(1);
    let entered = vcpu.run().map(drop);
    vcpu.set_kvm_immediate_exit(0);
    match entered {
        Err(e) if Errno::from_raw_os_error(e.errno()) == Errno::INTR => {}
        Err(e) => return Err(KvmError::kvm("stop a CPU")(e)),
        Ok(()) => {
            return Err(KvmError::Machine(
                "a CPU went on that should not have".into(),
            ));
        }
    }
    bus.pause.wait(save(vcpu, cpu.0)?);
    Ok(())
}

/// Where a CPU is.
fn pc(vcpu: &VcpuFd) -> Option<u64> {
    let mut bytes = [0; 8];
    vcpu.get_one_reg(PC, &mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// What a CPU has come out of the guest for, apart from reads.
enum Came {
    /// To write these bytes, of which so many count.
    Wrote(u64, [u8; 8], usize),
    /// The guest has ended.
    Ended(Ended),
    /// For nothing.
    Nothing,
    /// For what cannot be carried out.
    Odd(String),
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
    let ring = KvmError::kvm("read what the guest has written");
    loop {
        if bus.is_over() {
            return Ok(None);
        }
        if bus.pause.is_wanted() {
            stand_still(vcpu, cpu, bus)?;
            continue;
        }
        let came = match vcpu.run() {
            Ok(VcpuExit::MmioRead(pa, data)) => {
                // Nothing that KVM has kept makes a difference to it.
                bus.read(cpu, pa, data)?;
                Came::Nothing
            }
            Ok(VcpuExit::MmioWrite(pa, data)) => {
                let mut bytes = [0; 8];
                let len = data.len().min(bytes.len());
                bytes
                    .iter_mut()
                    .zip(data)
                    .for_each(|(to, from)| *to = *from);
                Came::Wrote(pa, bytes, len)
            }
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _)) => {
                Came::Ended(Ended::PoweredOff)
            }
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _)) => Came::Ended(Ended::Died {
                what: RESTARTED.into(),
            }),
            Ok(VcpuExit::Intr) => Came::Nothing,
            Ok(other) => Came::Odd(format!("{other:?}")),
            Err(e) => match Errno::from_raw_os_error(e.errno()) {
                Errno::INTR | Errno::AGAIN => Came::Nothing,
                // KVM says so of accesses outside memory whose syndrome is not valid (ESR_EL2.ISV).
                Errno::NOSYS => Came::Odd(
                    "an access outside memory that KVM cannot decode: of several registers, with \
                                 write-back, or an atomic one"
                        .into(),
                ),
                _ => return Err(KvmError::kvm("run a CPU")(e)),
            },
        };
        // It was written before.
        bus.fetch(|| vcpu.coalesced_mmio_read().map_err(&ring))?;
        match came {
            Came::Wrote(pa, bytes, len) => bus.write(cpu, pa, bytes.get(..len).unwrap_or(&[]))?,
            Came::Ended(end) => return Ok(Some(end)),
            Came::Nothing => {}
            Came::Odd(what) => {
                return Err(KvmError::Exit {
                    cpu: cpu.0,
                    what,
                    pc: pc(vcpu),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_restored_once_and_goes_back_for_nobody() {
        // Documentation/virt/kvm/api.rst, 4.68, gives that of the virtual one.
        assert_eq!(COUNTERS, [0x6030_0000_0013_df1a, 0x6030_0000_0013_df01]);
        let [virtual_, physical] = COUNTERS;
        let register = |id, value: u64| Register {
            id,
            value: value.to_le_bytes().to_vec(),
        };
        let cpu = |number, shown: u64| CpuState {
            number,
            registers: vec![
                register(7, shown),
                register(virtual_, shown),
                register(physical, 2 * shown),
            ],
            ..CpuState::default()
        };
        let states = [cpu(0, 500), cpu(1, 0x1_0000_0000), cpu(2, 501)];
        let latest = [
            (1, &register(virtual_, 0x1_0000_0000)),
            (1, &register(physical, 0x2_0000_0000)),
        ];
        assert_eq!(times(&states), latest);
        assert_eq!(times(&[]), []);
    }
}
