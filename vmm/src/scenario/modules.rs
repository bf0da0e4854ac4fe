// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The part of the `[guest]` table that is about modules of the user's.

use std::path::{Path, PathBuf};

use staleline_initramfs::Input;
use staleline_protocol::plan::Module;

use super::exec::{MAX_BYTES, absolute, below_home};
use super::guest::GuestSettings;

/// Modules of a run.
pub const MAX_MODULES: usize = 32;
/// Bytes of what the kernel calls one: its MODULE_NAME_LEN, without the NUL.
const NAME_BYTES: usize = 55;

/// How a module's file ends, and what stands between it and its parameters.
const SUFFIX: &str = ".ko";

/// `FILE.ko` or `FILE.ko:PARAMETERS`.
fn parts(module: &str) -> (&str, &str) {
    match module.find(".ko:") {
        Some(at) => {
            let end = at + SUFFIX.len();
            (&module[..end], &module[end + 1..])
        }
        None => (module, ""),
    }
}

/// What a module is given, by the word that names it.
pub fn parameters_of(module: &str) -> &str {
    parts(module).1
}

/// What the kernel calls the module of a file, which kbuild names after it.
pub fn name_of(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    stem.replace('-', "_")
}

impl GuestSettings {
    /// Makes relative paths of modules those below `base`.
    pub(super) fn anchor_modules(&mut self, base: &Path) {
        for module in &mut self.modules {
            let (file, parameters) = parts(module);
            let file = absolute(base, file);
            *module = match parameters {
                "" => file,
                parameters => format!("{file}:{parameters}"),
            };
        }
    }

    /// The modules' files on the host and in the guest, in order.
    pub fn module_files(&self) -> impl Iterator<Item = Input> {
        self.modules.iter().map(|module| {
            let host = PathBuf::from(parts(module).0);
            let guest = below_home(&host);
            Input { host, guest }
        })
    }

    /// The agent's part of it.
    pub(super) fn plan_modules(&self) -> Vec<Module> {
        let files = self.module_files();
        let all = self.modules.iter().zip(files).map(|(module, file)| Module {
            name: name_of(&file.host),
            file: file.guest,
            parameters: parts(module).1.to_owned(),
        });
        all.collect()
    }
}

/// What is wrong with it, for people.
pub(super) fn check(settings: &GuestSettings) -> Result<(), String> {
    let modules = &settings.modules;
    if modules.len() > MAX_MODULES {
        return Err(format!(
            "guest.modules has {} entries, at most {MAX_MODULES} may be given",
            modules.len()
        ));
    }
    let bytes: usize = modules.iter().map(String::len).sum();
    if bytes > MAX_BYTES {
        return Err(format!(
            "guest.modules has {bytes} bytes, at most {MAX_BYTES} may be given"
        ));
    }
    let mut names = Vec::new();
    for module in modules {
        if module.contains('\0') {
            return Err(format!("guest.modules: {module:?} has a NUL in it"));
        }
        let (file, _) = parts(module);
        let name = name_of(Path::new(file));
        if !file.ends_with(SUFFIX) || name.is_empty() {
            return Err(format!(
                "guest.modules: {module:?} must be FILE.ko or FILE.ko:PARAMETERS"
            ));
        }
        if name.len() > NAME_BYTES {
            return Err(format!(
                "guest.modules: the kernel has room for {NAME_BYTES} bytes of a module's name, and {name} has {}",
                name.len()
            ));
        }
        if names.contains(&name) {
            return Err(format!("guest.modules: module {name} is named twice"));
        }
        names.push(name);
    }
    let guest: Vec<String> = settings.module_files().map(|file| file.guest).collect();
    match settings.inputs().iter().find(|s| guest.contains(&s.guest)) {
        Some(twice) => Err(format!(
            "guest.files: {} is a module that guest.modules names",
            twice.guest
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(modules: &[&str]) -> GuestSettings {
        GuestSettings {
            modules: modules.iter().map(|m| (*m).to_owned()).collect(),
            ..GuestSettings::default()
        }
    }

    #[test]
    fn a_module_has_a_file_a_name_and_parameters() {
        let mut settings = settings(&["./b/my-dma.ko", "/a:b/x.ko:size=4 name=a:b.ko:c"]);
        check(&settings).unwrap();
        settings.anchor(Path::new("/home/me"));
        let files: Vec<_> = settings.module_files().map(|f| f.host).collect();
        assert_eq!(
            files,
            [Path::new("/home/me/b/my-dma.ko"), Path::new("/a:b/x.ko")]
        );
        let plan = settings.plan_modules();
        let told: Vec<_> = plan
            .iter()
            .map(|m| [&*m.name, &*m.file, &*m.parameters])
            .collect();
        assert_eq!(
            told,
            [
                ["my_dma", "/root/my-dma.ko", ""],
                ["x", "/root/x.ko", "size=4 name=a:b.ko:c"]
            ]
        );
        let anchored = settings.clone();
        settings.anchor(Path::new("/elsewhere"));
        assert_eq!(settings, anchored);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let fails = |modules: &[&str]| check(&settings(modules)).unwrap_err();
        assert!(fails(&["a.o"]).contains("FILE.ko"));
        assert!(fails(&[""]).contains("FILE.ko"));
        assert!(fails(&["a-b.ko", "x/a_b.ko:p=1"]).contains("a_b is named twice"));
        assert!(fails(&["a\0.ko"]).contains("NUL"));
        assert!(fails(&[&format!("a.ko:{}", "x".repeat(40_000))]).contains("bytes"));
        assert!(fails(&["a.ko"; 33]).contains("33 entries"));
        assert!(fails(&[&format!("{}.ko", "x".repeat(56))]).contains("55 bytes"));
        let mut twice = settings(&["a.ko"]);
        twice.exec = vec!["prog".into()];
        twice.files = vec!["other:/root/a.ko".into()];
        assert!(check(&twice).unwrap_err().contains("/root/a.ko"));
    }
}
