// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What tells the cells of a matrix apart: the first columns of tables of them, on paper and on pages, and what
//! matrices are compared by.

use serde::Serialize;

use super::Cell;
use super::runner::CellResult;
use crate::engine::EngineKind;
use crate::names;

/// What tells cells of a matrix apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    /// The scenario.
    Scenario,
    /// The kernel.
    Kernel,
    /// The exporter.
    Exporter,
    /// The replacement policy.
    Cache,
    /// The seed.
    Seed,
    /// The engine.
    Engine,
    /// Settings of the cell's group.
    Set,
}

impl Axis {
    /// All of them, in order.
    pub const ALL: [Axis; 7] = [
        Axis::Scenario,
        Axis::Kernel,
        Axis::Exporter,
        Axis::Cache,
        Axis::Seed,
        Axis::Engine,
        Axis::Set,
    ];

    /// Its name.
    pub fn name(self) -> String {
        names::name(&self)
    }

    /// What a cell has there.
    pub fn of(self, cell: &Cell) -> String {
        let scenario = &cell.spec.scenario;
        match self {
            Axis::Scenario => scenario.name.clone(),
            Axis::Kernel => match cell.spec.kernel.path() {
                Some(_) => cell.spec.kernel.0.clone(),
                None => cell.spec.engine.asked(&cell.spec.kernel.0),
            },
            Axis::Exporter => cell.exporter().to_owned(),
            Axis::Cache => names::name(&scenario.board.cache),
            Axis::Seed => scenario.seed.to_string(),
            Axis::Engine => cell.spec.engine.name().to_owned(),
            Axis::Set => Cell::settings(&cell.set),
        }
    }
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// The matrix's row that the cell is of.
    Row,
    /// What tells it from others.
    Of(Axis),
}

impl Column {
    /// Those of a table of these cells: rows and settings only if any cell has such, the engine only if it is
    /// not the exact one in all.
    pub fn of(results: &[CellResult]) -> Vec<Column> {
        let any = |has: fn(&Cell) -> bool| results.iter().any(|r| has(&r.cell));
        let row = any(|cell| cell.row.is_some()).then_some(Column::Row);
        let with_set = any(|cell| !cell.set.is_empty());
        let axes = Axis::ALL.into_iter();
        let other_engine = any(|cell| cell.spec.engine != EngineKind::default());
        let axes = axes.filter(|axis| match axis {
            Axis::Set => with_set,
            Axis::Engine => other_engine,
            _ => true,
        });
        row.into_iter().chain(axes.map(Column::Of)).collect()
    }

    /// What stands above it.
    pub fn title(self) -> String {
        match self {
            Column::Row => "row".into(),
            Column::Of(axis) => axis.name(),
        }
    }

    /// What a cell has there.
    pub fn text(self, cell: &Cell) -> String {
        match self {
            Column::Row => cell.row.clone().unwrap_or_default(),
            Column::Of(axis) => axis.of(cell),
        }
    }
}
