// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What an engine sees of the guest beside the machine: call chains, and where user pages are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use staleline_devices::cpu::ChainId;

/// How a CPU came to an instruction. All addresses are virtual, and those of call instructions,
/// not of the instructions that the calls return to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Chain {
    /// CONTEXTIDR_EL1, in which Linux keeps the current thread's ID (CONFIG_PID_IN_CONTEXTIDR).
    pub pid: Option<u32>,
    /// The call before the address in x30, if it is none of `callers`: the caller, if the
    /// instruction's function has no stack frame of its own, else a call by that function.
    pub link: Option<u64>,
    /// The calls before the return addresses in the frame records, innermost first. Ends where the
    /// kernel was entered.
    pub callers: Vec<u64>,
    /// Where it was entered, if that was by a system call.
    #[serde(default)]
    pub user: Option<SystemCall>,
}

/// How user space came to a system call. Addresses as in [`Chain`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SystemCall {
    /// Address of the `svc` instruction.
    pub pc: u64,
    /// As in [`Chain`]: the caller, if the function around the `svc` has no frame of its own.
    pub link: Option<u64>,
    /// The calls before the return addresses in the frame records, innermost first.
    pub callers: Vec<u64>,
}

/// How the CPU came to a load or store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedAccess {
    /// Its number, from 1.
    pub at: u64,
    /// Address of the instruction; 0 if unknown.
    pub pc: u64,
    /// How the CPU came to it.
    pub chain: Chain,
}

/// A page of a process, when the process pointed at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserPage {
    /// Virtual address of its first byte.
    pub va: u64,
    /// Physical address of its first byte.
    pub pa: u64,
}

/// A table of the engine that was full. What did not fit costs names in diagnostics: nothing is
/// judged less for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// What there is room for, in words: `call chains`.
    pub what: String,
    /// For how many.
    pub limit: u64,
    /// How often there was none.
    pub lost: u64,
}

impl Forgotten {
    /// Of a table that had no room `lost` times; `None` for one that always had.
    pub fn of(what: &str, limit: usize, lost: u64) -> Option<Self> {
        (lost > 0).then(|| Forgotten {
            what: what.to_owned(),
            limit: limit as u64,
            lost,
        })
    }
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observations {
    /// Call chains of cache maintenance: that of `ChainId(n + 1)` at index *n*.
    pub chains: Vec<Chain>,
    /// Call chains of loads and stores that were asked for, in order.
    pub accesses: Vec<TracedAccess>,
    /// Pages that a process has pointed at, with `dc cvau`, in order.
    pub pages: Vec<UserPage>,
    /// The engine has looked for the kernel's calls for shared buffers.
    #[serde(default)]
    pub fences: bool,
    /// Tables that were full.
    #[serde(default)]
    pub forgotten: Vec<Forgotten>,
}

impl Observations {
    /// The chain with this ID; `None` for the unknown one or a foreign ID.
    pub fn chain(&self, id: ChainId) -> Option<&Chain> {
        self.chains.get((id.0 as usize).checked_sub(1)?)
    }

    /// How the CPU came to access `at`, if that was made by the instruction at `pc`.
    pub fn access(&self, at: u64, pc: u64) -> Option<&Chain> {
        let access = self.accesses.iter().find(|a| a.at == at && a.pc == pc)?;
        Some(&access.chain)
    }

    /// Physical extents (first byte, length) of `bytes` bytes from `va` on, in order of `va`;
    /// without those pages that are not known.
    pub fn extents(&self, va: u64, bytes: u64) -> Vec<(u64, u64)> {
        const PAGE: u64 = 4096;
        // The latest, should an address have been used again.
        let pages: BTreeMap<u64, u64> = self
            .pages
            .iter()
            .filter_map(|p| Some((p.va.checked_sub(va)?, p.pa)))
            .filter(|(offset, _)| *offset < bytes)
            .collect();
        let mut extents: Vec<(u64, u64)> = Vec::new();
        for (offset, pa) in pages {
            let len = PAGE.min(bytes - offset);
            match extents.last_mut() {
                Some((start, sum)) if start.checked_add(*sum) == Some(pa) => *sum += len,
                _ => extents.push((pa, len)),
            }
        }
        extents
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_and_accesses_are_found() {
        let chain = |pid| Chain {
            pid: Some(pid),
            ..Chain::default()
        };
        let seen = Observations {
            chains: vec![chain(1), chain(2)],
            accesses: vec![TracedAccess {
                at: 7,
                pc: 0x40,
                chain: chain(3),
            }],
            ..Observations::default()
        };
        assert_eq!(seen.chain(ChainId(2)), Some(&chain(2)));
        assert_eq!(seen.chain(ChainId(0)), None);
        assert_eq!(seen.chain(ChainId(3)), None);
        assert_eq!(seen.access(7, 0x40), Some(&chain(3)));
        assert_eq!(seen.access(7, 0x44), None);
        assert_eq!(seen.access(8, 0x40), None);
    }

    #[test]
    fn known_pages_make_extents() {
        let page = |va, pa| UserPage { va, pa };
        let seen = Observations {
            pages: vec![
                page(0x1000, 0x8000),
                page(0x2000, 0x9000),
                page(0x3000, 0x4000),
                // Mapped anew.
                page(0x1000, 0x7000),
            ],
            ..Observations::default()
        };
        assert_eq!(
            seen.extents(0x1000, 0x2800),
            [(0x7000, 0x1000), (0x9000, 0x1000), (0x4000, 0x800)]
        );
        assert_eq!(seen.extents(0x2000, 0x1000), [(0x9000, 0x1000)]);
        let all = [(0x7000, 0x1000), (0x9000, 0x1000), (0x4000, 0x1000)];
        assert_eq!(seen.extents(0x1000, u64::MAX), all);
        assert_eq!(seen.extents(0, 0x2000), all[..1]);
        assert_eq!(seen.extents(0x4000, 0x1000), []);
    }
}
