// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Amounts of memory as the kernel tells them in /proc, a line each (proc_meminfo(5), proc_pid_status(5)).

/// What such a text says of `field`, in KiB.
pub fn told(text: &str, field: &str) -> Option<u64> {
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_read() {
        let text = "MemTotal:  49000000 kB\nMemAvailable:   48000000 kB\nHugePages_Total:       0\nVmHWM:\t  52 kB\n";
        assert_eq!(told(text, "MemAvailable"), Some(48_000_000));
        assert_eq!(told(text, "VmHWM"), Some(52));
        assert_eq!(told("MemTotal: 1 kB", "MemAvailable"), None);
        for none in ["Mem", "MemFree", "HugePages_Total", ""] {
            assert_eq!(told(text, none), None, "{none}");
        }
    }
}
