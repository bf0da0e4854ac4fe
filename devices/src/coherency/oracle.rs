// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The naive model of the data that the domain is tested against.
//!
//! It shares nothing with the domain but its types: DRAM and a map of explicit line copies, from
//! which the coherent view is derived. It also knows the *truth*: the byte that whoever wrote last
//! has written, which is what every reader ought to get. It knows no rules: those are judged by the
//! exhaustive explorer of small cases.

use std::collections::{BTreeMap, BTreeSet};

use super::SnoopWrite;
use crate::cpu::CacheOp;

pub(super) const LINE: usize = 64;
pub(super) const PAGE: usize = 4096;

#[derive(Debug, Clone)]
struct Copy {
    data: [u8; LINE],
    dirty: bool,
}

/// The model. Addresses are offsets in RAM.
#[derive(Debug)]
pub(super) struct Oracle {
    snoop_write: SnoopWrite,
    /// Fills before each non-snooping write, writes dirty lines back after: the `eager` policy.
    eager: bool,
    /// Lines that are mapped as non-cacheable: no clean copy of them may differ from DRAM.
    aliased: std::ops::Range<usize>,
    pub dram: Vec<u8>,
    cache: BTreeMap<usize, Copy>,
    truth: Vec<u8>,
    /// Bytes of which a finding has been made since they were written.
    reported: BTreeSet<usize>,
    /// Bytes that somebody has just read wrongly.
    misread: Vec<usize>,
}

/// Line by line: line, first byte in it, bytes.
pub(super) fn pieces(at: usize, len: usize) -> Vec<(usize, usize, usize)> {
    let mut out: Vec<(usize, usize, usize)> = Vec::new();
    for byte in at..at + len {
        match out.last_mut() {
            Some((line, _, n)) if *line == byte / LINE => *n += 1,
            _ => out.push((byte / LINE, byte % LINE, 1)),
        }
    }
    out
}

impl Oracle {
    pub fn new(
        bytes: usize,
        snoop_write: SnoopWrite,
        eager: bool,
        aliased: std::ops::Range<usize>,
    ) -> Self {
        Oracle {
            snoop_write,
            eager,
            aliased,
            dram: vec![0; bytes],
            cache: BTreeMap::new(),
            truth: vec![0; bytes],
            reported: BTreeSet::new(),
            misread: Vec::new(),
        }
    }

    /// What a CPU or a snooping master would read.
    pub fn view(&self) -> Vec<u8> {
        let mut view = self.dram.clone();
        for (line, copy) in &self.cache {
            view[line * LINE..][..LINE].copy_from_slice(&copy.data);
        }
        view
    }

    pub fn is_cached(&self, line: usize) -> bool {
        self.cache.contains_key(&line)
    }

    /// A finding was made of some bytes of a line.
    pub fn report(&mut self, line: u64, bytes: u64) {
        let bytes = (0..LINE).filter(|b| bytes >> b & 1 == 1);
        self.reported
            .extend(bytes.map(|b| line as usize * LINE + b));
    }

    /// Bytes read wrongly since the last call, of which there is no finding.
    pub fn silent(&mut self) -> Vec<usize> {
        let misread = std::mem::take(&mut self.misread);
        let silent = misread.into_iter();
        silent
            .filter(|byte| !self.reported.contains(byte))
            .collect()
    }

    /// Somebody reads `got` at `at`.
    fn read(&mut self, at: usize, got: &[u8]) {
        for (n, byte) in got.iter().enumerate() {
            if *byte != self.truth[at + n] {
                self.misread.push(at + n);
            }
        }
    }

    fn set_truth(&mut self, at: usize, data: &[u8]) {
        self.truth[at..at + data.len()].copy_from_slice(data);
        for byte in at..at + data.len() {
            self.reported.remove(&byte);
        }
    }

    // ---- the cache

    /// An absent line comes in.
    pub fn fill(&mut self, line: usize) {
        let mut data = [0; LINE];
        data.copy_from_slice(&self.dram[line * LINE..][..LINE]);
        self.cache
            .entry(line)
            .or_insert(Copy { data, dirty: false });
    }

    fn write_back(&mut self, line: usize) {
        if let Some(copy) = self.cache.get_mut(&line).filter(|copy| copy.dirty) {
            copy.dirty = false;
            self.dram[line * LINE..][..LINE].copy_from_slice(&copy.data);
        }
    }

    /// A line leaves.
    pub fn evict(&mut self, line: usize) {
        self.write_back(line);
        self.cache.remove(&line);
    }

    // ---- events

    pub fn load(&mut self, at: usize, len: usize) {
        for (line, first, n) in pieces(at, len) {
            self.fill(line);
            let got = self.cache[&line].data[first..first + n].to_vec();
            self.read(line * LINE + first, &got);
        }
    }

    pub fn store(&mut self, at: usize, data: &[u8]) {
        let mut data = data;
        for (line, first, n) in pieces(at, data.len()) {
            self.fill(line);
            if let Some(copy) = self.cache.get_mut(&line) {
                copy.data[first..first + n].copy_from_slice(&data[..n]);
                copy.dirty = true;
            }
            self.set_truth(line * LINE + first, &data[..n]);
            data = &data[n..];
        }
    }

    pub fn maintain(&mut self, op: CacheOp, at: usize) {
        let line = at / LINE;
        if op != CacheOp::Invalidate {
            let was_dirty = self.cache.get(&line).is_some_and(|copy| copy.dirty);
            self.write_back(line);
            if was_dirty && self.aliased.contains(&line) {
                self.cache.remove(&line);
            }
        }
        if op != CacheOp::Clean {
            self.cache.remove(&line);
        }
    }

    /// An access through the non-cacheable alias; `stored`: the data, if it is a store.
    pub fn non_cacheable(&mut self, at: usize, len: usize, stored: Option<&[u8]>) {
        let mut data = stored.unwrap_or(&[]);
        for (line, first, n) in pieces(at, len) {
            // A dirty copy leaves first. That is one of the things it may do.
            self.evict(line);
            let start = line * LINE + first;
            if stored.is_some() {
                self.dram[start..][..n].copy_from_slice(&data[..n]);
                self.set_truth(start, &data[..n]);
                data = &data[n..];
            } else {
                let got = self.dram[start..][..n].to_vec();
                self.read(start, &got);
            }
        }
    }

    pub fn snooping_read(&mut self, at: usize, len: usize) -> Vec<u8> {
        let got = self.view()[at..at + len].to_vec();
        self.read(at, &got);
        got
    }

    pub fn snooping_write(&mut self, at: usize, data: &[u8]) {
        if self.snoop_write == SnoopWrite::Allocate {
            return self.store(at, data);
        }
        for (line, ..) in pieces(at, data.len()) {
            self.evict(line);
        }
        self.dram[at..at + data.len()].copy_from_slice(data);
        self.set_truth(at, data);
    }

    pub fn device_read(&mut self, at: usize, len: usize) -> Vec<u8> {
        let got = self.dram[at..at + len].to_vec();
        self.read(at, &got);
        got
    }

    pub fn device_write(&mut self, at: usize, data: &[u8]) {
        let mut rest = data;
        for (line, first, n) in pieces(at, data.len()) {
            if self.eager {
                self.fill(line);
            }
            let clean = self.cache.get(&line).is_some_and(|copy| !copy.dirty);
            if clean && self.aliased.contains(&line) {
                self.cache.remove(&line);
            }
            self.dram[line * LINE + first..][..n].copy_from_slice(&rest[..n]);
            self.set_truth(line * LINE + first, &rest[..n]);
            if self.eager && self.cache.get(&line).is_some_and(|copy| copy.dirty) {
                self.evict(line);
            }
            rest = &rest[n..];
        }
    }
}
