// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What tells the cells of a matrix apart: the first columns of tables of them, on paper and on pages.

use super::Cell;
use super::runner::CellResult;
use crate::names;

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// The matrix's row that the cell is of.
    Row,
    /// Its scenario.
    Scenario,
    /// Its kernel.
    Kernel,
    /// Its exporter.
    Exporter,
    /// Its replacement policy.
    Cache,
    /// Its seed.
    Seed,
    /// Settings of its group.
    Set,
}

impl Column {
    /// All of them, in order.
    const ALL: [Column; 7] = [
        Column::Row,
        Column::Scenario,
        Column::Kernel,
        Column::Exporter,
        Column::Cache,
        Column::Seed,
        Column::Set,
    ];

    /// Those of a table of these cells: rows and settings only if any cell has such.
    pub fn of(results: &[CellResult]) -> Vec<Column> {
        let any = |has: fn(&Cell) -> bool| results.iter().any(|r| has(&r.cell));
        let is_there = |column: &Column| match column {
            Column::Row => any(|cell| cell.row.is_some()),
            Column::Set => any(|cell| !cell.set.is_empty()),
            _ => true,
        };
        Column::ALL.into_iter().filter(is_there).collect()
    }

    /// What stands above it.
    pub fn title(self) -> &'static str {
        match self {
            Column::Row => "row",
            Column::Scenario => "scenario",
            Column::Kernel => "kernel",
            Column::Exporter => "exporter",
            Column::Cache => "cache",
            Column::Seed => "seed",
            Column::Set => "set",
        }
    }

    /// What a cell has there.
    pub fn text(self, cell: &Cell) -> String {
        let scenario = &cell.spec.scenario;
        match self {
            Column::Row => cell.row.clone().unwrap_or_default(),
            Column::Scenario => scenario.name.clone(),
            Column::Kernel => cell.spec.kernel.0.clone(),
            Column::Exporter => cell.exporter().to_owned(),
            Column::Cache => names::name(&scenario.board.cache),
            Column::Seed => scenario.seed.to_string(),
            Column::Set => Cell::settings(&cell.set),
        }
    }
}
