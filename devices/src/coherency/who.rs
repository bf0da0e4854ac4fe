// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Who made an access, packed for the metadata of lines.

use serde::{Deserialize, Serialize};

use crate::cpu::{CpuId, SiteId};
use crate::dma::{MasterId, TransferId};
use crate::hazard::Actor;

/// An [`Actor`] in four bytes: 0 unknown; bit 31 clear: a place in guest code, with the CPU in bits 28
/// and 29 and the site, of which there are fewer than 2^28, in the others; set: a device, with
/// its master in bits 25 to 30, whether it snooped in bit 24, and its transfer in bits 0 to 23.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Who(u32);

const CPU_AT: u32 = 28;
/// Bits of a site: its number, and that it is in user space.
const SITE: u32 = !(1 << 31 | 3 << CPU_AT);

impl Who {
    /// Nobody that is known.
    pub const UNKNOWN: Who = Who(0);

    #[inline(always)]
    pub fn cpu(cpu: CpuId, site: SiteId) -> Self {
        Who((cpu.index() as u32) << CPU_AT | site.0 & SITE)
    }

    /// The CPU, if it is one.
    #[inline]
    pub fn cpu_id(self) -> Option<CpuId> {
        (self.0 >> 31 == 0).then_some(CpuId((self.0 >> CPU_AT & 3) as u8))
    }

    /// The CPU and the place, if it is one.
    #[inline]
    pub fn cpu_and_site(self) -> Option<(CpuId, SiteId)> {
        let cpu = self.cpu_id().filter(|_| self != Who::UNKNOWN)?;
        Some((cpu, SiteId(self.0 & SITE)))
    }

    /// A master, of which there are at most 64, in an access that snooped or did not.
    pub fn device(master: MasterId, transfer: TransferId, snoops: bool) -> Self {
        let master = u32::from(master.0 & 0x3f) << 25 | u32::from(snoops) << 24;
        Who(1 << 31 | master | transfer.0 & 0x00ff_ffff)
    }

    /// The packed form, as a key.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether it is code of user space.
    pub fn is_user(self) -> bool {
        matches!(self.actor(), Actor::Cpu { site, .. } if site.is_user())
    }

    /// The master, if it is a device.
    pub fn device_master(self) -> Option<MasterId> {
        self.actor().master()
    }

    pub fn actor(self) -> Actor {
        match self.0 {
            0 => Actor::Unknown,
            w if w >> 31 == 0 => Actor::Cpu {
                cpu: CpuId((w >> CPU_AT & 3) as u8),
                site: SiteId(w & SITE),
            },
            w => Actor::Device {
                master: MasterId((w >> 25 & 0x3f) as u8),
                transfer: TransferId(w & 0x00ff_ffff),
                snoops: w >> 24 & 1 != 0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_survive_packing() {
        for snoops in [false, true] {
            let (master, transfer) = (MasterId(63), TransferId(0x00ff_ffff));
            let device = Actor::Device {
                master,
                transfer,
                snoops,
            };
            assert_eq!(Who::device(master, transfer, snoops).actor(), device);
        }
        for site in [SiteId(17), SiteId(SiteId::USER | 18)] {
            let cpu = CpuId(3);
            assert_eq!(Who::cpu(cpu, site).actor(), Actor::Cpu { cpu, site });
            assert_eq!(Who::cpu(cpu, site).cpu_id(), Some(cpu));
        }
        assert_eq!(Who::default().actor(), Actor::Unknown);
    }
}
