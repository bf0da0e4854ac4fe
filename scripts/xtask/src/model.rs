// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The coherency model alone: what `cargo bench` has left of it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use walkdir::WalkDir;

/// One benchmark.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Group and name.
    pub name: String,
    /// Nanoseconds of one iteration, the median.
    pub ns: f64,
}

#[derive(Deserialize)]
struct Benchmark {
    full_id: String,
}

#[derive(Deserialize)]
struct Estimates {
    median: Point,
}

#[derive(Deserialize)]
struct Point {
    point_estimate: f64,
}

/// All that is below a directory of criterion's, by name.
///
/// # Errors
/// If a file there is not criterion's.
pub fn estimates(dir: &Path) -> Result<Vec<Estimate>> {
    let mut found = Vec::new();
    for entry in WalkDir::new(dir).sort_by_file_name() {
        let entry = entry.with_context(|| dir.display().to_string())?;
        let named = entry.path().join("new/benchmark.json");
        if !entry.file_type().is_dir() || !named.exists() {
            continue;
        }
        let benchmark: Benchmark = read(&named)?;
        let estimates: Estimates = read(&entry.path().join("new/estimates.json"))?;
        found.push(Estimate {
            name: benchmark.full_id,
            ns: estimates.median.point_estimate,
        });
    }
    Ok(found)
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let text = fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

/// The peer in the group of DMA accesses.
const PEER: &str = "dma 4 KiB/peer: memcpy";

/// DMA accesses by name, and their speed as a share of memcpy's.
pub fn beside_memcpy(all: &[Estimate]) -> Vec<(String, f64)> {
    let Some(peer) = all.iter().find(|e| e.name == PEER) else {
        return Vec::new();
    };
    let group = all.iter().filter_map(|e| {
        let name = e.name.strip_prefix("dma 4 KiB/")?;
        let plain = ["read/", "write/"].iter().any(|s| name.starts_with(s));
        (plain && !name.contains("not cleaned")).then(|| (name.to_owned(), peer.ns / e.ns))
    });
    group.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leave(dir: &Path, id: &str, ns: f64) {
        let dir = dir.join(id.replace('/', "_")).join("new");
        fs::create_dir_all(&dir).unwrap();
        let benchmark = serde_json::json!({ "full_id": id, "group_id": "g" });
        let median = serde_json::json!({ "point_estimate": ns });
        fs::write(dir.join("benchmark.json"), benchmark.to_string()).unwrap();
        let estimates = serde_json::json!({ "median": median });
        fs::write(dir.join("estimates.json"), estimates.to_string()).unwrap();
    }

    #[test]
    fn speeds_are_told_beside_the_peer() {
        let dir = tempfile::tempdir().unwrap();
        leave(dir.path(), PEER, 100.0);
        leave(dir.path(), "dma 4 KiB/read/snooping", 200.0);
        leave(
            dir.path(),
            "dma 4 KiB/write/non-snooping, not cleaned",
            900.0,
        );
        leave(dir.path(), "cpu/load hit/lazy", 7.0);
        let all = estimates(dir.path()).unwrap();
        assert_eq!(all.len(), 4);
        assert_eq!(beside_memcpy(&all), [("read/snooping".to_owned(), 0.5)]);
        assert_eq!(beside_memcpy(&all[..1]), []);
    }

    #[test]
    fn a_foreign_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        leave(dir.path(), PEER, 100.0);
        let file = dir.path().join("dma 4 KiB_peer: memcpy/new/estimates.json");
        fs::write(&file, "{}").unwrap();
        let said = format!("{:#}", estimates(dir.path()).unwrap_err());
        assert!(said.contains("estimates.json"), "{said}");
    }
}
