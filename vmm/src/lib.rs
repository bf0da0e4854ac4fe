//! staleline
