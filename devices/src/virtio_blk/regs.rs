// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Registers and numbers of a virtio block device over MMIO. Sections are those of "Virtual I/O Device
//! (VIRTIO) Version 1.2" (OASIS).

use crate::registers::Register;

// 4.2.2, "MMIO Device Register Layout".
pub(super) const MAGIC_VALUE: u64 = 0x000;
pub(super) const VERSION: u64 = 0x004;
pub(super) const DEVICE_ID: u64 = 0x008;
pub(super) const VENDOR_ID: u64 = 0x00c;
pub(super) const DEVICE_FEATURES: u64 = 0x010;
pub(super) const DEVICE_FEATURES_SEL: u64 = 0x014;
pub(super) const DRIVER_FEATURES: u64 = 0x020;
pub(super) const DRIVER_FEATURES_SEL: u64 = 0x024;
pub(super) const QUEUE_SEL: u64 = 0x030;
pub(super) const QUEUE_NUM_MAX: u64 = 0x034;
pub(super) const QUEUE_NUM: u64 = 0x038;
pub(super) const QUEUE_READY: u64 = 0x044;
pub(super) const QUEUE_NOTIFY: u64 = 0x050;
pub(super) const INTERRUPT_STATUS: u64 = 0x060;
pub(super) const INTERRUPT_ACK: u64 = 0x064;
pub(super) const STATUS: u64 = 0x070;
pub(super) const QUEUE_DESC_LOW: u64 = 0x080;
pub(super) const QUEUE_DESC_HIGH: u64 = 0x084;
pub(super) const QUEUE_DRIVER_LOW: u64 = 0x090;
pub(super) const QUEUE_DRIVER_HIGH: u64 = 0x094;
pub(super) const QUEUE_DEVICE_LOW: u64 = 0x0a0;
pub(super) const QUEUE_DEVICE_HIGH: u64 = 0x0a4;
const SHM_SEL: u64 = 0x0ac;
const SHM_LEN_LOW: u64 = 0x0b0;
const SHM_LEN_HIGH: u64 = 0x0b4;
const SHM_BASE_LOW: u64 = 0x0b8;
const SHM_BASE_HIGH: u64 = 0x0bc;
const CONFIG_GENERATION: u64 = 0x0fc;

// 5.2.4, "Device configuration layout", from 0x100 on.
pub(super) const CONFIG_CAPACITY_LOW: u64 = 0x100;
pub(super) const CONFIG_CAPACITY_HIGH: u64 = 0x104;
const CONFIG_SIZE_MAX: u64 = 0x108;
const CONFIG_SEG_MAX: u64 = 0x10c;

/// "virt".
const MAGIC: u32 = 0x7472_6976;
/// 5: a block device has number 2.
const BLOCK_DEVICE: u32 = 2;
/// "STLN".
const VENDOR: u32 = 0x4e4c_5453;

/// Entries of the queue at most.
pub(super) const QUEUE_SIZE: u16 = 128;
/// Data segments of a request at most: all but its header and its status.
const SEGMENTS: u32 = QUEUE_SIZE as u32 - 2;

// InterruptStatus.
pub(super) const USED_BUFFER: u32 = 1 << 0;
pub(super) const CONFIGURATION_CHANGE: u32 = 1 << 1;

// 2.1, "Device Status Field".
pub(super) const DRIVER_OK: u32 = 4;
pub(super) const FEATURES_OK: u32 = 8;
pub(super) const NEEDS_RESET: u32 = 64;
/// ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, FAILED.
pub(super) const STATUS_BITS: u32 = 1 | 2 | DRIVER_OK | FEATURES_OK | 128;

// 5.2.3 and 6, feature bits.
const SEG_MAX: u64 = 1 << 2;
const FLUSH: u64 = 1 << 9;
pub(super) const VERSION_1: u64 = 1 << 32;
pub(super) const ACCESS_PLATFORM: u64 = 1 << 33;
pub(super) const ORDER_PLATFORM: u64 = 1 << 36;
/// What is always offered: [`ORDER_PLATFORM`] is a matter of configuration.
pub(super) const FEATURES: u64 = SEG_MAX | FLUSH | VERSION_1 | ACCESS_PLATFORM;
/// What a driver has to accept: without the second, it would not look how the device is attached.
pub(super) const REQUIRED: u64 = VERSION_1 | ACCESS_PLATFORM;

/// Words written here act at once, and nothing is kept.
const fn act(offset: u64, name: &'static str) -> Register {
    Register::ro(offset, name, 0).with_acts(u32::MAX)
}

const fn rw(offset: u64, name: &'static str) -> Register {
    Register::rw(offset, name, u32::MAX)
}

/// All that a driver can access. Those of the queue are what QueueSel selects.
pub(super) const TABLE: &[Register] = &[
    Register::ro(MAGIC_VALUE, "MagicValue", MAGIC),
    Register::ro(VERSION, "Version", 2),
    Register::ro(DEVICE_ID, "DeviceID", BLOCK_DEVICE),
    Register::ro(VENDOR_ID, "VendorID", VENDOR),
    Register::ro(DEVICE_FEATURES, "DeviceFeatures", 0),
    rw(DEVICE_FEATURES_SEL, "DeviceFeaturesSel"),
    act(DRIVER_FEATURES, "DriverFeatures"),
    rw(DRIVER_FEATURES_SEL, "DriverFeaturesSel"),
    rw(QUEUE_SEL, "QueueSel"),
    Register::ro(QUEUE_NUM_MAX, "QueueNumMax", 0),
    rw(QUEUE_NUM, "QueueNum"),
    act(QUEUE_READY, "QueueReady"),
    act(QUEUE_NOTIFY, "QueueNotify"),
    Register::ro(INTERRUPT_STATUS, "InterruptStatus", 0),
    act(INTERRUPT_ACK, "InterruptACK"),
    act(STATUS, "Status"),
    rw(QUEUE_DESC_LOW, "QueueDescLow"),
    rw(QUEUE_DESC_HIGH, "QueueDescHigh"),
    rw(QUEUE_DRIVER_LOW, "QueueDriverLow"),
    rw(QUEUE_DRIVER_HIGH, "QueueDriverHigh"),
    rw(QUEUE_DEVICE_LOW, "QueueDeviceLow"),
    rw(QUEUE_DEVICE_HIGH, "QueueDeviceHigh"),
    rw(SHM_SEL, "SHMSel"),
    // There is no shared memory, whatever is selected.
    Register::ro(SHM_LEN_LOW, "SHMLenLow", u32::MAX),
    Register::ro(SHM_LEN_HIGH, "SHMLenHigh", u32::MAX),
    Register::ro(SHM_BASE_LOW, "SHMBaseLow", u32::MAX),
    Register::ro(SHM_BASE_HIGH, "SHMBaseHigh", u32::MAX),
    Register::ro(CONFIG_GENERATION, "ConfigGeneration", 0),
    Register::ro(CONFIG_CAPACITY_LOW, "capacity", 0),
    Register::ro(CONFIG_CAPACITY_HIGH, "capacity", 0),
    Register::ro(CONFIG_SIZE_MAX, "size_max", 0),
    Register::ro(CONFIG_SEG_MAX, "seg_max", SEGMENTS),
];
