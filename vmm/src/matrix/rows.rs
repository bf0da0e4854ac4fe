// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Rows of a matrix: what groups of cells are about, in words. A row may have no cells, and then it says why.

use serde::{Deserialize, Serialize};

use super::Group;

/// Rows of a matrix, at most.
const MOST: usize = 200;
/// Bytes of each of its texts.
const TEXT: usize = 400;

/// What groups are about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Row {
    /// By which groups name it.
    pub id: String,
    /// What it is, in words.
    pub what: String,
    /// Why there are no cells for it, if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unbuilt: Option<String>,
}

/// What is wrong with rows and the groups that name them, for people.
pub(super) fn check(rows: &[Row], groups: &[Group]) -> Result<(), String> {
    if rows.len() > MOST {
        return Err(format!(
            "it has {} rows, at most {MOST} are told",
            rows.len()
        ));
    }
    for (n, row) in rows.iter().enumerate() {
        let texts = [Some(&row.id), Some(&row.what), row.unbuilt.as_ref()];
        if texts
            .iter()
            .flatten()
            .any(|t| t.is_empty() || t.len() > TEXT)
        {
            return Err(format!(
                "row {:?}: each text needs 1 to {TEXT} bytes",
                row.id
            ));
        }
        if rows[..n].iter().any(|other| other.id == row.id) {
            return Err(format!("row {:?} is there twice", row.id));
        }
        let cells = groups.iter().any(|g| g.row.as_ref() == Some(&row.id));
        match (cells, &row.unbuilt) {
            (false, None) => {
                return Err(format!(
                    "row {:?}: no group is of it: say why, in `unbuilt`",
                    row.id
                ));
            }
            (true, Some(_)) => {
                return Err(format!("row {:?}: it is `unbuilt` and has groups", row.id));
            }
            _ => {}
        }
    }
    for id in groups.iter().filter_map(|g| g.row.as_ref()) {
        if !rows.iter().any(|row| row.id == *id) {
            return Err(format!(
                "a group is of row {id:?}, and there is no such row"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::matrix::Matrix;

    const ROWS: &str = "schema = 1\n\
        [[row]]\nid = \"A\"\nwhat = \"boots\"\n\
        [[row]]\nid = \"B\"\nwhat = \"flies\"\nunbuilt = \"it has no wings\"\n";

    fn parsed(rest: &str) -> Result<Matrix, String> {
        Matrix::parse(&format!("{ROWS}{rest}"), "t").map_err(|e| e.to_string())
    }

    #[test]
    fn groups_and_rows_name_each_other() {
        let group = |row: &str| format!("[[group]]\nrow = \"{row}\"\nscenarios = [\"boot\"]\n");
        let matrix = parsed(&group("A")).unwrap();
        let cells = matrix.cells(crate::engine::EngineKind::default(), None);
        assert_eq!(cells.unwrap()[0].row.as_deref(), Some("A"));
        for (rest, said) in [
            (group("A") + &group("C"), "there is no such row"),
            (
                String::from("[[group]]\nscenarios = [\"boot\"]\n"),
                "\"A\": no group is of it",
            ),
            (group("A") + &group("B"), "`unbuilt` and has groups"),
            (
                group("A") + "[[row]]\nid = \"A\"\nwhat = \"x\"\n",
                "there twice",
            ),
            (
                group("A") + "[[row]]\nid = \"\"\nwhat = \"x\"\n",
                "1 to 400 bytes",
            ),
        ] {
            let why = parsed(&rest).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
    }

    #[test]
    fn where_time_is_short_a_group_has_a_cell_for_each_scenario() {
        let text = "schema = 1\n\
            [[group]]\nscenarios = [\"iio-to-usb\", \"usb-to-iio\"]\nkernels = [\"base\", \"x\"]\n\
            exporters = [\"cma\", \"system\"]\nseeds = [3, 4]\n\
            [[group]]\nscenarios = [\"boot\"]\nbrief = false\n";
        let matrix = Matrix::parse(text, "t").unwrap();
        let names = |brief| {
            let matrix = matrix.clone().of_extent(crate::matrix::Extent { brief });
            let cells = matrix.cells(crate::engine::EngineKind::default(), None);
            let cells = cells.unwrap().into_iter();
            cells.map(|cell| cell.name).collect::<Vec<_>>()
        };
        assert_eq!(names(false).len(), 2 * 2 * 2 * 2 + 1);
        assert_eq!(
            names(true),
            [
                "iio-to-usb.base.cma.zynqmp.s3",
                "usb-to-iio.base.cma.zynqmp.s3"
            ]
        );
    }
}
