// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The engine against programs that only pretend to be QEMU.
