//! staleline

pub mod initramfs;
