// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The one description of the board, from which device tree, bus and documents derive.

pub mod settings;
