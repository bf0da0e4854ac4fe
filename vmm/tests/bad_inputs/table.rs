// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Tables of inputs that a file or the command line can hold.

use serde::Deserialize;

use super::runner::{Bench, Expected};

/// The file that rows with text are about.
const FILE: &str = "bad.toml";
/// What stands for [`Repeated`] text.
const PLACE: &str = "@@";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Of rows that have none.
    #[serde(default)]
    args: Vec<String>,
    row: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    args: Option<Vec<String>>,
    file: Option<String>,
    repeat: Option<Repeated>,
    code: i32,
    /// A part of what is said.
    says: String,
}

/// What is too long to be written down.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Repeated {
    text: String,
    times: usize,
}

impl Table {
    pub fn read(text: &str) -> Self {
        toml::from_str(text).unwrap()
    }

    pub fn check(&self) {
        let troubles: Vec<String> = self.row.iter().filter_map(|row| self.wrong(row)).collect();
        let (bad, all) = (troubles.len(), self.row.len());
        assert!(bad == 0, "{bad} of {all}:\n{}", troubles.join("\n"));
    }

    fn wrong(&self, row: &Row) -> Option<String> {
        let full = |text: &String| match &row.repeat {
            Some(r) => text.replace(PLACE, &r.text.repeat(r.times)),
            None => text.clone(),
        };
        let bench = Bench::new();
        if let Some(file) = &row.file {
            std::fs::write(bench.path().join(FILE), full(file)).unwrap();
        }
        let args: Vec<String> = row
            .args
            .as_ref()
            .unwrap_or(&self.args)
            .iter()
            .map(full)
            .collect();
        let expected = Expected {
            code: row.code,
            says: &row.says,
        };
        let what = || format!("{:?} {:?}", row.args, row.file);
        bench
            .wrong(&args, expected)
            .map(|why| format!("{}\n    {why}", what()))
    }
}
