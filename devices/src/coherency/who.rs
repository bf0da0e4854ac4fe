// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Who made an access, packed for the metadata of lines.

use super::hazard::Actor;
use crate::cpu::SiteId;
use crate::dma::{MasterId, TransferId};

/// An [`Actor`] in four bytes: 0 unknown; bit 31 clear: a place in guest code; set: a device,
/// with its master in bits 24 to 30 and its transfer in bits 0 to 23.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Who(u32);

impl Who {
    pub fn cpu(site: SiteId) -> Self {
        Who(site.0 & 0x7fff_ffff)
    }

    pub fn device(master: MasterId, transfer: TransferId) -> Self {
        Who(1 << 31 | u32::from(master.0 & 0x7f) << 24 | transfer.0 & 0x00ff_ffff)
    }

    /// The packed form, as a key.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether it is code of user space.
    pub fn is_user(self) -> bool {
        matches!(self.actor(), Actor::Cpu { site } if site.is_user())
    }

    /// The master, if it is a device.
    pub fn device_master(self) -> Option<MasterId> {
        match self.actor() {
            Actor::Device { master, .. } => Some(master),
            _ => None,
        }
    }

    pub fn actor(self) -> Actor {
        match self.0 {
            0 => Actor::Unknown,
            w if w >> 31 == 0 => Actor::Cpu { site: SiteId(w) },
            w => Actor::Device {
                master: MasterId((w >> 24 & 0x7f) as u8),
                transfer: TransferId(w & 0x00ff_ffff),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_survive_packing() {
        let device = Actor::Device {
            master: MasterId(3),
            transfer: TransferId(0xfffff),
        };
        assert_eq!(
            Who::device(MasterId(3), TransferId(0xfffff)).actor(),
            device
        );
        assert_eq!(
            Who::cpu(SiteId(17)).actor(),
            Actor::Cpu { site: SiteId(17) }
        );
        assert_eq!(Who::default().actor(), Actor::Unknown);
    }
}
