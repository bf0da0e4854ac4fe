// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Staleline: boards, engines, scenarios, runs and reports.

pub mod kernel;
