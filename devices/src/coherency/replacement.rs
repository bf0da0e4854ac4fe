// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Which lines leave the cache, and which come in unasked.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

use crate::state::{Invalid, at_most, same};

/// Replacement policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The L2 of a ZynqMP's Cortex-A53 cluster: 1 MiB, 16 ways, 64-byte lines (UG1085), with
    /// tree pseudo-LRU replacement.
    Zynqmp,
    /// Unbounded; never evicts, never fills on its own.
    Lazy,
    /// Unbounded; fills a line just before a non-snooping write to it and writes a dirty one back
    /// just after: the worst legal moments.
    Eager,
    /// Unbounded; lines of buffers under DMA are evicted and filled at random.
    Random,
}

impl Policy {
    /// All policies.
    pub const ALL: [Policy; 4] = [Policy::Zynqmp, Policy::Lazy, Policy::Eager, Policy::Random];

    /// The name used in results and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Zynqmp => "zynqmp",
            Policy::Lazy => "lazy",
            Policy::Eager => "eager",
            Policy::Random => "random",
        }
    }
}

/// Ways of each set.
pub(super) const WAYS: usize = 16;
const SETS: usize = (1 << 20) / 64 / WAYS;

/// For each way, the tree bits on its path and the values that point away from it. Node *n* of
/// the tree is bit *n*; its children are nodes 2n+1 (bit 0: the victim is there) and 2n+2.
const PATHS: [(u16, u16); WAYS] = paths();

const fn paths() -> [(u16, u16); WAYS] {
    let mut table = [(0, 0); WAYS];
    let mut way = 0;
    while way < WAYS {
        let (mut node, mut level) = (0, 0);
        while level < 4 {
            let right = way >> (3 - level) & 1;
            table[way].0 |= 1 << node;
            if right == 0 {
                table[way].1 |= 1 << node;
            }
            node = 2 * node + 1 + right;
            level += 1;
        }
        way += 1;
    }
    table
}

/// A set-associative cache's directory with tree pseudo-LRU.
///
/// Trees stand apart from ways: a hit needs only its set's tree, and all trees fit into few lines of the
/// host's cache.
#[derive(Debug)]
pub(super) struct Directory {
    /// By set.
    trees: Box<[u16; SETS]>,
    /// By set; line number + 1, or 0: the way is free.
    ways: Box<[[u32; WAYS]; SETS]>,
}

impl Directory {
    pub fn new() -> Self {
        Directory {
            trees: Box::new([0; SETS]),
            ways: Box::new([[0; WAYS]; SETS]),
        }
    }

    fn set(line: u64) -> usize {
        line as usize % SETS
    }

    /// `line`, which is in `way`, was used.
    #[inline]
    pub fn touch(&mut self, line: u64, way: u8) {
        let tree = &mut self.trees[Self::set(line)];
        let (mask, away) = PATHS[usize::from(way) % WAYS];
        *tree = *tree & !mask | away;
    }

    /// Makes room for `line`: its way, and the line that has to leave.
    pub fn insert(&mut self, line: u64) -> (u8, Option<u64>) {
        let set = Self::set(line);
        let (ways, tree) = (&mut self.ways[set], self.trees[set]);
        let way = ways.iter().position(|w| *w == 0).unwrap_or_else(|| {
            let mut node = 0;
            for _ in 0..4 {
                node = 2 * node + 1 + usize::from(tree >> node & 1);
            }
            node - (WAYS - 1)
        });
        let victim = ways[way].checked_sub(1).map(u64::from);
        ways[way] = line as u32 + 1;
        self.touch(line, way as u8);
        (way as u8, victim)
    }

    /// `line` has left `way`.
    pub fn remove(&mut self, line: u64, way: u8) {
        self.ways[Self::set(line)][usize::from(way) % WAYS] = 0;
    }
}

/// The same in vectors: of any 16 ways in a row, a set.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DirectoryState {
    trees: Vec<u16>,
    ways: Vec<u32>,
}

impl Directory {
    pub fn state(&self) -> DirectoryState {
        let Directory { trees, ways } = self;
        DirectoryState {
            trees: trees.to_vec(),
            ways: ways.as_flattened().to_vec(),
        }
    }

    /// Of so many lines of RAM.
    pub fn set_state(&mut self, state: DirectoryState, lines: u64) -> Result<(), Invalid> {
        same("sets of the cache", &state.trees.len(), &self.trees.len())?;
        let ways = self.ways.as_flattened_mut();
        same("ways of the cache", &state.ways.len(), &ways.len())?;
        for (n, way) in state.ways.iter().enumerate() {
            at_most("line in the cache", u64::from(*way), lines)?;
            if let Some(line) = way.checked_sub(1) {
                same("set of a line", &Self::set(line.into()), &(n / WAYS))?;
            }
        }
        ways.copy_from_slice(&state.ways);
        self.trees.copy_from_slice(&state.trees);
        Ok(())
    }
}

/// The generator behind every random choice of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Rng(SplitMix64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Rng(SplitMix64::seed_from_u64(seed))
    }

    pub fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `n`, which is small and not 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((self.next() >> 32) * n) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_in_use_outlives_fifteen_others() {
        let mut d = Directory::new();
        let same_set = |n: u64| n * SETS as u64;
        let (way, victim) = d.insert(same_set(0));
        assert_eq!(victim, None);
        for n in 1..100 {
            d.touch(same_set(0), way);
            let (_, victim) = d.insert(same_set(n));
            assert_ne!(victim, Some(same_set(0)));
            assert_eq!(victim.is_some(), n >= 16, "at line {n}");
        }
    }

    #[test]
    fn untouched_lines_leave_in_some_order_and_all_of_them() {
        let mut d = Directory::new();
        let mut gone = std::collections::BTreeSet::new();
        for n in 0..32 {
            gone.extend(d.insert(n * SETS as u64).1);
        }
        assert_eq!(gone, (0..16).map(|n| n * SETS as u64).collect());
    }

    #[test]
    fn removed_lines_leave_room() {
        let mut d = Directory::new();
        for n in 0..16 {
            d.insert(n * SETS as u64);
        }
        let (way, victim) = d.insert(16 * SETS as u64);
        assert!(victim.is_some());
        d.remove(16 * SETS as u64, way);
        assert_eq!(d.insert(17 * SETS as u64), (way, None));
    }
}
