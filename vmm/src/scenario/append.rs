// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `guest.append`: more kernel command line of the user's.

use toml::Value;

/// The key that adds to it, with `--set`.
pub const KEY: &str = "guest.append+";

/// Bytes. The kernel takes 2047 in all (COMMAND_LINE_SIZE of arm64) and cuts off what is more without a
/// word; our own part is much less than the rest.
pub const MAX_BYTES: usize = 1536;

/// The lowest level of the console at which it shows what a run is judged by.
const LEAST_LEVEL: u8 = 5;

/// What would break a run, or what it is judged by, and what to do instead.
const REFUSED: &[(&str, &str)] = &[
    ("console", "the run needs the console that it has"),
    ("keep_bootcon", "each line would come twice"),
    (
        "console_msg_format",
        "the run reads the kernel's messages as they are",
    ),
    ("quiet", "the run is judged by the kernel's warnings, too"),
    (
        "sysctl.kernel.printk",
        "the run is judged by the kernel's warnings, too",
    ),
    (
        "init",
        "the agent is the guest's init; `staleline exec` runs a program of yours",
    ),
    (
        "rdinit",
        "the agent is the guest's init; `staleline exec` runs a program of yours",
    ),
    (
        "initrd",
        "the guest has the run's initramfs; `staleline exec --file` adds to it",
    ),
    ("noinitrd", "the agent is in the initramfs"),
    ("root", "the scenario says what the guest boots from"),
    ("rootfstype", "the scenario says what the guest boots from"),
    ("rootflags", "the scenario says what the guest boots from"),
    ("ro", "the scenario says what the guest boots from"),
    ("rw", "the scenario says what the guest boots from"),
    ("mem", "board.ram-mib sets the guest's memory"),
    ("maxcpus", "board.cpus sets how many CPUs there are"),
    ("nr_cpus", "board.cpus sets how many CPUs there are"),
    ("nosmp", "board.cpus sets how many CPUs there are"),
    ("panic", "a panic ends the run"),
    ("oops", "an oops ends the run"),
    ("kgdbwait", "nobody would answer the debugger"),
    (
        "driver_async_probe",
        "the run sets it for a board with a disk",
    ),
    ("--", "what comes after it would be for the agent"),
];

/// The setting that adds `words` at the end.
pub fn setting(words: &str) -> String {
    format!("{KEY}={}", Value::String(words.to_owned()))
}

/// What such a setting adds.
pub fn added(setting: &str) -> Option<String> {
    let (key, value) = setting.split_once('=')?;
    if key.trim() != KEY {
        return None;
    }
    let table: toml::Table = toml::from_str(&format!("v = {}", value.trim())).ok()?;
    table.get("v")?.as_str().map(str::to_owned)
}

/// Two parts, one behind the other.
pub fn joined(before: &str, after: &str) -> String {
    [before.trim(), after.trim()].join(" ").trim().to_owned()
}

/// Checks it; what is wrong, for people.
pub(super) fn check(append: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("guest.append (--append): {why}"));
    if append.len() > MAX_BYTES {
        return wrong(&format!(
            "it has {} bytes, at most {MAX_BYTES} fit into the kernel's command line",
            append.len()
        ));
    }
    if !append.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
        return wrong("only printable ASCII characters and spaces");
    }
    let Some(words) = words(append) else {
        return wrong("a quotation mark has no other");
    };
    for word in words {
        let bare = word.replace('"', "");
        let (name, value) = bare.split_once('=').unwrap_or((&bare, ""));
        // To the kernel, both are one (kernel/params.c).
        let name = name.replace('-', "_");
        // And of both forms of a sysctl's name (fs/proc/proc_sysctl.c).
        let name = name.replace('/', ".");
        let name = if bare == "--" { "--" } else { &name };
        if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            return wrong(&format!("`{word}` is refused: {why}"));
        }
        let level = (name == "loglevel").then(|| value.parse::<u8>().unwrap_or(0));
        if level.is_some_and(|level| level < LEAST_LEVEL) {
            return wrong(&format!(
                "`{word}` is refused: the run is judged by the kernel's warnings, too, which takes a level \
                 of {LEAST_LEVEL} at least"
            ));
        }
    }
    Ok(())
}

/// Words as the kernel takes them: spaces within quotation marks belong to them. None if a mark has no
/// other.
fn words(line: &str) -> Option<Vec<String>> {
    let mut quoted = false;
    let mut words = vec![String::new()];
    for c in line.chars() {
        quoted ^= c == '"';
        match words.last_mut() {
            Some(word) if c != ' ' || quoted => word.push(c),
            _ => words.push(String::new()),
        }
    }
    words.retain(|word| !word.is_empty());
    (!quoted).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_the_run_is_refused_with_a_reason() {
        for (append, why) in [
            ("loglevel=8 console=ttyS0", "`console=ttyS0` is refused"),
            ("init=/bin/sh", "staleline exec"),
            ("rdinit=/x", "staleline exec"),
            ("root=/dev/vda", "the scenario says"),
            ("\"root=/dev/vda\"", "the scenario says"),
            ("keep-bootcon", "twice"),
            ("quiet", "warnings"),
            ("sysctl.kernel.printk=1", "warnings"),
            ("sysctl.kernel/printk=1", "warnings"),
            ("loglevel=3", "a level of 5 at least"),
            ("loglevel=x", "a level of 5 at least"),
            ("maxcpus=1", "board.cpus"),
            ("panic=0", "ends the run"),
            ("a=b -- c", "for the agent"),
            ("a=\"b", "has no other"),
            ("a\nb", "printable"),
            ("größe=1", "printable"),
        ] {
            let told = check(append).unwrap_err();
            assert!(told.contains(why), "{append:?}: {told}");
        }
        let long = check(&"x".repeat(MAX_BYTES + 1)).unwrap_err();
        assert!(long.contains("at most 1536"), "{long}");
        for good in [
            "",
            "loglevel=8 ignore_loglevel earlycon",
            "dyndbg=\"file drivers/iio/* +p\" cma=8M",
            "initcall_debug debug panic_on_warn=1 console_suspend=0",
            &"x".repeat(MAX_BYTES),
        ] {
            check(good).unwrap();
        }
    }

    #[test]
    fn a_setting_gives_back_what_it_was_made_of() {
        for words in ["loglevel=8", "a=\"b c\" d", "it's"] {
            assert_eq!(added(&setting(words)).as_deref(), Some(words));
        }
        assert_eq!(added("guest.append=\"x\""), None);
        assert_eq!(joined("", " a "), "a");
        assert_eq!(joined("a", "b"), "a b");
    }
}
