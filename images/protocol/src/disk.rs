// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What is on the disk that a guest boots from, beside the agent: files whose contents the agent knows.

use crate::pattern::Pattern;

/// Seed of what is in [`DATA`]: the same on all disks.
const SEED: u64 = 0x6469_736b;

/// Name of the file that holds [`data()`] from its start.
pub const DATA: &str = "data";
/// Its length in bytes: several requests, and no multiple of a page.
pub const DATA_BYTES: usize = 300_000;

/// Names of two programs of a page each. They are called like a function and return their number,
/// from 1.
pub const PROGRAMS: [&str; 2] = ["one", "two"];
/// Bytes of a program.
pub const PROGRAM_BYTES: usize = 4096;

/// The contents of [`DATA`].
pub fn data() -> Pattern {
    Pattern::new(SEED)
}

/// A file in the root directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: &'static str,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// All of them.
pub fn files() -> Vec<File> {
    let mut content = vec![0; DATA_BYTES];
    data().fill(0, &mut content);
    let mut files = vec![File {
        name: DATA,
        content,
    }];
    for (number, name) in (1..).zip(PROGRAMS) {
        let content = program(number);
        files.push(File { name, content });
    }
    files
}

/// `mov x0, #number`, `ret` (DDI 0487, C6.2 "MOVZ", "RET"); zeros after it.
fn program(number: u32) -> Vec<u8> {
    let code = [0xd280_0000 | (number & 0xffff) << 5, 0xd65f_03c0_u32];
    let mut bytes: Vec<u8> = code.into_iter().flat_map(u32::to_le_bytes).collect();
    bytes.resize(PROGRAM_BYTES, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_differ_by_their_number_only() {
        let [one, two] = [1, 2].map(program);
        assert_eq!(one[4..], two[4..]);
        // mov x0, #1; ret
        assert_eq!(one[..8], [0x20, 0, 0x80, 0xd2, 0xc0, 0x03, 0x5f, 0xd6]);
        assert_eq!(two[0] - one[0], 1 << 5);
    }

    #[test]
    fn the_data_file_is_its_pattern() {
        let files = files();
        assert_eq!(files[0].content.len(), DATA_BYTES);
        assert_eq!(data().check(0, &files[0].content).corrupt, 0);
    }
}
