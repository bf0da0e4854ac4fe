// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The part of the `[guest]` table that is about a program of the user's, or a test of the kernel's.

use std::path::{Path, PathBuf};

use staleline_initramfs::Input;
use staleline_kernels::Selftest;
use staleline_protocol::places::{HOME, INIT};
use staleline_protocol::plan::Exec;

use super::guest::GuestSettings;
use super::{destination, outside};

/// The scenario of `staleline exec`.
pub const SCENARIO: &str = "exec";

/// Words of `exec`, entries of `files` and of `env`, each.
pub const MAX_ENTRIES: usize = 256;
/// Bytes of `exec` and `env` together: they go into the device tree.
pub const MAX_BYTES: usize = 32 << 10;

/// Where the cache has what was a program's standard input.
pub const STDIN_KEPT: &str = "stdin";

/// Where the guest has the program's standard input.
const STDIN: &str = "/.staleline/stdin";

/// What a program finds in its environment unless it is told otherwise.
const ENVIRONMENT: [&str; 3] = [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "TERM=dumb",
];

impl GuestSettings {
    /// Makes its relative paths those below `base`.
    pub fn anchor(&mut self, base: &Path) {
        let absolute = |path: &str| absolute(base, path);
        if self.program_is_hosts()
            && let Some(program) = self.exec.first_mut()
        {
            *program = absolute(program);
        }
        for file in &mut self.files {
            let (from, to) = parts(file);
            *file = match to {
                Some(to) => format!("{}:{to}", absolute(from)),
                None => absolute(from),
            };
        }
        let single = self.root.iter_mut().chain(&mut self.stdin);
        let lists = self.library_path.iter_mut().chain(&mut self.dtb_overlay);
        for path in single.chain(lists) {
            *path = absolute(path);
        }
        self.anchor_modules(base);
    }

    /// Whether the program is a file of the host, and not of `root`.
    fn program_is_hosts(&self) -> bool {
        !self.exec.is_empty() && self.root.is_none() && self.packages.is_empty()
    }

    /// Whether there is a program to be run.
    pub fn has_program(&self) -> bool {
        !self.exec.is_empty() || self.selftest.is_some()
    }

    /// The program, if it is a file of the host.
    pub fn program(&self) -> Option<Input> {
        let host = PathBuf::from(self.exec.first().filter(|_| self.program_is_hosts())?);
        let guest = below_home(&host);
        Some(Input { host, guest })
    }

    /// All else that the guest is given, in order: of what has one name, the last counts.
    pub fn inputs(&self) -> Vec<Input> {
        let root = self.root.iter().map(|root| Input {
            host: root.into(),
            guest: "/".into(),
        });
        let stdin = self.stdin.iter().map(|file| Input {
            host: file.into(),
            guest: STDIN.into(),
        });
        root.chain(self.files_given()).chain(stdin).collect()
    }

    /// What `files` names.
    pub(super) fn files_given(&self) -> impl Iterator<Item = Input> {
        self.files.iter().map(|file| {
            let (from, to) = parts(file);
            let host = PathBuf::from(from);
            let guest = match to {
                None => below_home(&host),
                Some(to) if to.ends_with('/') => format!("{to}{}", name(&host)),
                Some(to) => to.to_owned(),
            };
            Input { host, guest }
        })
    }

    /// The agent's part of it, in a run with that seed.
    pub fn plan(&self, seed: u64) -> Option<Exec> {
        let mut argv = self.exec.clone();
        if let Some(test) = self.selftest.as_ref().and_then(|name| name.parse().ok()) {
            let Selftest { test, .. } = test;
            argv = vec![below_home(Path::new(&test))];
        }
        let first = argv.first_mut()?;
        if let Some(program) = self.program() {
            *first = program.guest;
        }
        let env = ENVIRONMENT.iter().map(|v| (*v).to_owned());
        // Of the patterns that the converters send and expect.
        let env = env.chain([format!("STALELINE_SEED={seed}")]);
        Some(Exec {
            argv,
            env: last_of_each(env.chain(self.env.iter().cloned())),
            dir: HOME.into(),
            stdin: self.stdin.as_ref().map(|_| STDIN.into()),
            gadget: self.gadget.is_some(),
            terminal: None,
            check_output: self.check_output,
        })
    }
}

/// A path below `base`, written in one way only: a run and its replay name the same file, however it was named
/// first.
pub(super) fn absolute(base: &Path, path: &str) -> String {
    let path = base.join(path);
    // Without what leads nowhere (`./`, `//`); what `..` leads to, only the file system knows.
    path.components().collect::<PathBuf>().display().to_string()
}

/// Variables, of each name the last, in the order in which they first came.
fn last_of_each(variables: impl Iterator<Item = String>) -> Vec<String> {
    let name = |variable: &str| variable.split('=').next().map(str::to_owned);
    let mut all: Vec<String> = Vec::new();
    for variable in variables {
        match all.iter_mut().find(|known| name(known) == name(&variable)) {
            Some(known) => *known = variable,
            None => all.push(variable),
        }
    }
    all
}

pub(super) fn below_home(host: &Path) -> String {
    format!("{HOME}/{}", name(host))
}

fn name(host: &Path) -> String {
    let name = host.file_name().unwrap_or(host.as_os_str());
    name.to_string_lossy().into_owned()
}

/// `SOURCE` or `SOURCE:DESTINATION`.
fn parts(file: &str) -> (&str, Option<&str>) {
    match file.rsplit_once(':') {
        Some((from, to)) if to.starts_with('/') => (from, Some(to)),
        _ => (file, None),
    }
}

/// What is wrong with it, for people.
pub(super) fn check(settings: &GuestSettings) -> Result<(), String> {
    let GuestSettings {
        exec,
        files,
        env,
        library_path,
        stdin,
        gadget,
        iio,
        root,
        packages,
        selftest,
        check_output,
        ..
    } = settings;
    let lists = [
        ("exec", exec),
        ("files", files),
        ("env", env),
        ("library-path", library_path),
        ("packages", packages),
    ];
    for (key, entries) in lists {
        if entries.len() > MAX_ENTRIES {
            return Err(format!(
                "guest.{key} has {} entries, at most {MAX_ENTRIES} may be given",
                entries.len()
            ));
        }
        if let Some(bad) = entries.iter().find(|e| e.contains('\0')) {
            return Err(format!("guest.{key}: {bad:?} has a NUL in it"));
        }
    }
    let bytes: usize = exec.iter().chain(env).map(String::len).sum();
    if bytes > MAX_BYTES {
        return Err(format!(
            "guest.exec and guest.env have {bytes} bytes, at most {MAX_BYTES} may be given: put them into \
             a file"
        ));
    }
    if exec.first().is_some_and(String::is_empty) {
        return Err("guest.exec: the program has no name".into());
    }
    if exec.first().is_some_and(|program| program == INIT) && settings.program().is_none() {
        return Err(format!(
            "guest.exec: {INIT} is Staleline's own in each guest, whatever its file system has there: give \
             the program another name"
        ));
    }
    destination::check(settings)?;
    let named = |v: &&String| !v.starts_with('=') && v.contains('=');
    if let Some(bad) = env.iter().find(|v| !named(v)) {
        return Err(format!("guest.env: {bad:?} must be NAME=VALUE"));
    }
    // A module may want files, as firmware.
    let files_are_for_none = !files.is_empty() && settings.modules.is_empty();
    let beside = [
        files_are_for_none,
        !env.is_empty(),
        !library_path.is_empty(),
        stdin.is_some(),
        gadget.is_some(),
        iio.is_some(),
        root.is_some(),
        !packages.is_empty(),
    ];
    if !settings.has_program() && beside.contains(&true) {
        return Err(
            "guest.files, env, library-path, stdin, gadget, iio, root and packages are for the program \
             that guest.exec names, and there is none"
                .into(),
        );
    }
    for package in packages {
        staleline_packages::check_name(package).map_err(|why| format!("guest.packages: {why}"))?;
    }
    if !packages.is_empty() && root.is_some() {
        return Err(
            "guest.root and guest.packages both give the guest its file system: leave one of \
                    them out"
                .into(),
        );
    }
    if let Some(name) = selftest {
        name.parse::<Selftest>()
            .map_err(|why| format!("guest.selftest: {why}"))?;
        if !exec.is_empty() || root.is_some() || !packages.is_empty() {
            return Err(
                "guest.selftest is a program of its own, which needs no other file system: leave \
                        exec, root and packages out"
                    .into(),
            );
        }
    }
    if *check_output && iio.is_none_or(|iio| iio.rx == 0) {
        return Err(
            "guest.check-output compares with what the ADC brings: say how much that is, with \
                    iio.rx"
                .into(),
        );
    }
    outside::check(gadget.as_ref(), iio.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn a_program_of_the_host_is_found_below_root_in_the_guest() {
        let mut settings = GuestSettings {
            exec: words(&["./build/.//prog", "-v"]),
            files: words(&["./data.bin", "conf:/etc/", "x:y:/z"]),
            env: words(&["A=b=c"]),
            ..GuestSettings::default()
        };
        check(&settings).unwrap();
        settings.anchor(Path::new("/home/me"));
        assert_eq!(
            settings.program().unwrap().host,
            Path::new("/home/me/build/prog")
        );
        let plan = settings.plan(7).unwrap();
        assert_eq!(plan.argv, ["/root/prog", "-v"]);
        assert_eq!(plan.env.last().unwrap(), "A=b=c");
        settings.env = words(&["HOME=/x", "HOME=/y", "A=1"]);
        let env = settings.plan(7).unwrap().env;
        let homes: Vec<_> = env.iter().filter(|v| v.starts_with("HOME=")).collect();
        assert_eq!(homes, ["HOME=/y"]);
        let all: Vec<_> = settings.inputs();
        let all: Vec<_> = all
            .iter()
            .map(|s| (s.host.to_str().unwrap(), &*s.guest))
            .collect();
        assert_eq!(
            all,
            [
                ("/home/me/data.bin", "/root/data.bin"),
                ("/home/me/conf", "/etc/conf"),
                ("/home/me/x:y", "/z"),
            ]
        );
        // Once is enough.
        let anchored = settings.clone();
        settings.anchor(Path::new("/elsewhere"));
        assert_eq!(settings, anchored);
    }

    #[test]
    fn with_a_root_the_program_is_of_that() {
        let mut settings = GuestSettings {
            exec: words(&["iio_info"]),
            root: Some("rootfs".into()),
            ..GuestSettings::default()
        };
        settings.anchor(Path::new("/home/me"));
        assert_eq!(settings.program(), None);
        assert_eq!(settings.plan(7).unwrap().argv, ["iio_info"]);
        assert_eq!(settings.inputs()[0].host, Path::new("/home/me/rootfs"));
    }

    #[test]
    fn a_test_of_the_kernels_is_a_program_though_none_is_named() {
        let settings = GuestSettings {
            selftest: Some("drivers/dma-buf:udmabuf".into()),
            ..GuestSettings::default()
        };
        check(&settings).unwrap();
        assert!(settings.has_program());
        assert_eq!(settings.program(), None, "it has yet to be built");
        assert_eq!(settings.plan(7).unwrap().argv, ["/root/udmabuf"]);
        let packaged = GuestSettings {
            exec: words(&["iio_info"]),
            packages: words(&["libiio-utils"]),
            ..GuestSettings::default()
        };
        check(&packaged).unwrap();
        assert_eq!(packaged.program(), None, "it is one of the packages'");
        assert_eq!(packaged.plan(7).unwrap().argv, ["iio_info"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let with = |change: fn(&mut GuestSettings)| {
            let mut settings = GuestSettings {
                exec: words(&["prog"]),
                ..GuestSettings::default()
            };
            change(&mut settings);
            check(&settings).unwrap_err()
        };
        assert!(with(|s| s.files = words(&["x:/init"])).contains("/init"));
        assert!(with(|s| s.files = words(&["y:/root/prog"])).contains("/root/prog"));
        assert!(with(|s| s.env = words(&["=x"])).contains("NAME=VALUE"));
        assert!(with(|s| s.env = words(&["x"])).contains("NAME=VALUE"));
        assert!(with(|s| s.exec = words(&[""])).contains("no name"));
        assert!(with(|s| s.exec.push("\0".into())).contains("NUL"));
        assert!(with(|s| s.exec = vec!["x".into(); 257]).contains("257 entries"));
        assert!(with(|s| s.exec.push("x".repeat(40_000))).contains("bytes"));
        let why = with(|s| {
            s.exec.clear();
            s.root = Some("r".into());
        });
        assert!(why.contains("there is none"), "{why}");
        assert!(with(|s| s.packages = words(&["--x"])).contains("guest.packages"));
        let why = with(|s| {
            s.packages = words(&["iiod"]);
            s.root = Some("r".into());
        });
        assert!(why.contains("leave one of them out"), "{why}");
        assert!(with(|s| s.selftest = Some("a:b".into())).contains("program of its own"));
        assert!(with(|s| s.check_output = true).contains("iio.rx"));
        let why = with(|s| {
            s.exec.clear();
            s.selftest = Some("dmabuf-heaps".into());
        });
        assert!(why.contains("COLLECTION:TEST"), "{why}");
    }
}
