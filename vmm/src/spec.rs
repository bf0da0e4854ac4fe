// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A run as it is to be carried out, with nothing left to defaults: `run.json`.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use staleline_devices::fidelity::Fidelity;
use staleline_kernels::KernelBuilder;
use staleline_protocol::plan::{Plan, Terminal};

use crate::engine::EngineKind;
use crate::exit::Error;
use crate::names;
use crate::scenario::set::full_key;
use crate::scenario::{self, Scenario, append, limits};

/// Version of `run.json`.
pub const SCHEMA: u32 = 1;

/// Kernel a run uses if none is named: the tree as it is, no patches.
pub const DEFAULT_KERNEL: &str = "base";

/// Arguments for the engine, and bytes of them together.
const MAX_ARGUMENTS: usize = 256;
const MAX_ARGUMENT_BYTES: usize = 32 << 10;

/// Name of a patch stack, or path of a kernel that is built already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KernelChoice(pub String);

impl KernelChoice {
    /// The path, if it is one.
    pub fn path(&self) -> Option<&Path> {
        let text = self.0.as_str();
        (text.contains('/') || text.starts_with('.')).then(|| Path::new(text))
    }
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of the program that resolved it.
    pub staleline: String,
    /// The scenario with all settings applied.
    pub scenario: Scenario,
    /// Name or file the scenario came from.
    pub origin: String,
    /// The kernel.
    pub kernel: KernelChoice,
    /// The engine.
    pub engine: EngineKind,
    /// More arguments for the engine, which only it understands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub engine_arguments: Vec<String>,
    /// The terminal of this host that the program has for its own, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Terminal>,
    /// A command line that gives the same run.
    pub invocation: String,
}

/// Makes relative paths among these names those below `base`, which is absolute. Names of built-in scenarios and of patch
/// stacks are none.
pub fn anchor(scenarios: &mut [String], kernels: &mut [String], base: &Path) {
    let below = |name: &mut String| *name = base.join(&*name).display().to_string();
    let scenarios = scenarios.iter_mut();
    scenarios.filter(|s| Scenario::is_path(s)).for_each(below);
    let is_path = |name: &&mut String| KernelChoice((**name).clone()).path().is_some();
    kernels.iter_mut().filter(is_path).for_each(below);
}

/// What decides what a guest is made of: see [`RunSpec::guest`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GuestKey<'a> {
    kernel: &'a str,
    /// Whether the board has a disk, and whether the guest boots from it.
    disk: (bool, bool),
    /// The user's program, and modules, and what goes with them, within that much memory.
    program: [&'a [String]; 5],
    /// What is laid over the board's device tree.
    overlays: &'a [String],
    /// Single files and directories.
    named: [Option<&'a str>; 3],
    ram_mib: [u32; 2],
}

impl RunSpec {
    /// Runs with the same have guests that are made of the same.
    pub fn guest(&self) -> GuestKey<'_> {
        let Scenario { guest, board, .. } = &self.scenario;
        GuestKey {
            kernel: &self.kernel.0,
            disk: (board.blk.is_some(), self.scenario.disk.is_some()),
            program: [
                guest.exec.get(..1).unwrap_or_default(),
                &guest.files,
                &guest.library_path,
                &guest.modules,
                &guest.packages,
            ],
            overlays: &guest.dtb_overlay,
            named: [&guest.root, &guest.stdin, &guest.selftest].map(Option::as_deref),
            ram_mib: [board.ram_mib, board.ram_high_mib],
        }
    }

    /// What its engine can judge of it.
    pub fn fidelity(&self) -> Fidelity {
        let fidelity = self.engine.fidelity();
        match &self.scenario.board.pci {
            Some(pci) => fidelity.beside_outsider(pci.port.is_coherent()),
            None => fidelity,
        }
    }

    /// The guest's part of it.
    pub fn plan(&self) -> Plan {
        let mut plan = self.scenario.plan();
        if let Some(exec) = &mut plan.exec {
            exec.terminal = self.terminal;
        }
        plan
    }

    /// The same with more arguments for its engine.
    ///
    /// # Errors
    /// If that is not to be given one of them.
    pub fn with_arguments(mut self, arguments: &[String]) -> Result<Self, Error> {
        self.engine_arguments = arguments.to_vec();
        self.check_arguments()?;
        let option = self.engine.arguments_option();
        // With =, as what follows may begin with dashes; and before a program of the user's.
        let words = arguments.iter().map(|argument| {
            let word = format!("--{option}={argument}");
            format!(" {}", quote(&word))
        });
        let words: String = words.collect();
        self.invocation = match self.invocation.split_once(" -- ") {
            Some((before, program)) => format!("{before}{words} -- {program}"),
            None => format!("{}{words}", self.invocation),
        };
        Ok(self)
    }

    /// Whether its engine is to be given its arguments: what comes from a file may be anything.
    ///
    /// # Errors
    /// [`Error::Option`].
    pub fn check_arguments(&self) -> Result<(), Error> {
        let option = format!("--{}", self.engine.arguments_option());
        let bytes: usize = self.engine_arguments.iter().map(String::len).sum();
        if self.engine_arguments.len() > MAX_ARGUMENTS || bytes > MAX_ARGUMENT_BYTES {
            return Err(Error::Option {
                option,
                why: format!("at most {MAX_ARGUMENTS} of {MAX_ARGUMENT_BYTES} bytes may be given"),
            });
        }
        for argument in &self.engine_arguments {
            let why = match argument.contains('\0') {
                true => Some("there is a NUL in it"),
                false => self.engine.refuses(argument),
            };
            if let Some(why) = why {
                return Err(Error::Option {
                    option: format!("{option}={argument}"),
                    why: why.into(),
                });
            }
        }
        Ok(())
    }

    /// Resolves a scenario by name or file, and the settings of the command line.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn resolve(
        origin: &str,
        kernel: &str,
        engine: EngineKind,
        settings: &[String],
    ) -> Result<Self, Error> {
        Self::resolve_from(None, (origin, kernel), engine, settings)
    }

    /// As [`RunSpec::resolve`], for the scenario and kernel of these names, with settings that name files
    /// from `base`; none for the working directory.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn resolve_from(
        base: Option<&Path>,
        (origin, kernel): (&str, &str),
        engine: EngineKind,
        settings: &[String],
    ) -> Result<Self, Error> {
        let from = base.map(Path::to_owned);
        let base = Scenario::load(origin)?;
        let exporter_set = settings.iter().any(|s| s.starts_with("exporter="));
        if base.transfer.is_none() && exporter_set {
            return Err(Error::Setting {
                setting: "exporter".into(),
                why: format!(
                    "scenario {} moves no data{}, so nothing is exported",
                    base.name,
                    base.dmatest.as_ref().map_or("", |_| " through DMABUFs")
                ),
            });
        }
        let mut scenario = crate::scenario::set::apply(&base, settings)?;
        let here = match from {
            Some(from) => from,
            None => std::env::current_dir().map_err(|e| Error::host("no working directory", e))?,
        };
        let guest = &scenario.guest;
        if origin == scenario::exec::SCENARIO && !guest.has_program() && guest.modules.is_empty() {
            return Err(Error::Limit {
                origin: origin.into(),
                what: "it is there to run a program of yours, and none is named: `staleline exec -- PROGRAM`, \
                       or guest.exec, guest.selftest or guest.modules in settings"
                    .into(),
            });
        }
        scenario.guest.anchor(&here);
        let mut kernel_choice = KernelChoice(kernel.into());
        // What a build of the user's own is made of is settled; whether it will do is looked at later.
        if kernel_choice.path().is_none() && !is_own_build(kernel) {
            kernel_choice.0 = engine.kernel(kernel);
        }
        if kernel_choice.path().is_none() {
            limits::check_pool(&scenario, origin)?;
        }
        let invocation = invocation(origin, kernel, engine, &scenario, settings);
        Ok(RunSpec {
            schema: SCHEMA,
            staleline: env!("CARGO_PKG_VERSION").into(),
            scenario,
            origin: origin.into(),
            kernel: kernel_choice,
            engine,
            engine_arguments: Vec::new(),
            terminal: None,
            invocation,
        })
    }
}

/// Whether a build of the user's own has that name.
fn is_own_build(name: &str) -> bool {
    let named = KernelBuilder::new().and_then(|builder| builder.named(name));
    named.is_ok_and(|named| named.is_some())
}

/// Settings that have an option of their own on the command line, shown by it: always, or if they were set.
const ALWAYS: [&str; 3] = ["board.cache", "transfer.exporter", "seed"];
const TIMEOUT: &str = "timeout-seconds";
const LOG: &str = "log.filter";

/// The settings among these that an option can stand for. Options come before `--set`: one behind a whole
/// table is shown as it was given.
fn with_option(settings: &[String]) -> impl Iterator<Item = &str> {
    let is_whole = |table: &str| settings.iter().any(|s| full_key(s) == table);
    let keys = settings.iter().map(|setting| full_key(setting));
    keys.filter(move |key| {
        let table = key.split_once('.').map(|(table, _)| table);
        (ALWAYS.contains(key) || [TIMEOUT, LOG].contains(key)) && !table.is_some_and(is_whole)
    })
}

/// Keys of the `[guest]` table that `staleline exec` has options for.
const PROGRAM: [&str; 11] = [
    "exec",
    "files",
    "env",
    "root",
    "library-path",
    "stdin",
    "gadget",
    "iio",
    "packages",
    "selftest",
    "check-output",
];

/// Keys of lists for which all runs have an option, and that.
const MODULES: (&str, &str) = ("guest.modules", "module");
const OVERLAYS: (&str, &str) = ("guest.dtb-overlay", "dtb-overlay");

fn invocation(
    origin: &str,
    kernel: &str,
    engine: EngineKind,
    scenario: &Scenario,
    settings: &[String],
) -> String {
    // A program is shown as people give it.
    let guest = &scenario.guest;
    let exec =
        origin == scenario::exec::SCENARIO && (guest.has_program() || !guest.modules.is_empty());
    let mut words = match exec {
        true => vec!["staleline".to_owned(), "exec".into()],
        false => vec!["staleline".to_owned(), "run".into(), origin.into()],
    };
    let mut option = |name: &str, value: String| {
        words.push(format!("--{name}"));
        words.push(value);
    };
    option("kernel", kernel.into());
    if engine != EngineKind::default() {
        option("engine", engine.name().into());
    }
    if let Some(transfer) = &scenario.transfer {
        option("exporter", transfer.exporter.name().into());
    }
    option("cache", names::name(&scenario.board.cache));
    option("seed", scenario.seed.to_string());
    // One before its whole table says nothing.
    let last = |key: &str| settings.iter().rposition(|s| full_key(s) == key);
    let is_void = |at: usize, setting: &str| {
        let table = full_key(setting).split_once('.').map(|(table, _)| table);
        table.and_then(last).is_some_and(|whole| whole > at)
    };
    let settings = settings.iter().enumerate();
    let settings = settings.filter(|(at, setting)| !is_void(*at, setting));
    let settings: Vec<String> = settings.map(|(_, setting)| setting.clone()).collect();
    let by_option: HashSet<&str> = with_option(&settings).collect();
    if by_option.contains(LOG) {
        option("log", scenario.log.filter.to_string());
    }
    if by_option.contains(TIMEOUT) {
        option("timeout", scenario.timeout_seconds.to_string());
    }
    for setting in &settings {
        if let Some(words) = append::added(setting) {
            option("append", words);
            continue;
        }
        let key = full_key(setting);
        let own = exec
            && key
                .strip_prefix("guest.")
                .is_some_and(|k| PROGRAM.contains(&k));
        if !by_option.contains(key) && !own && ![MODULES.0, OVERLAYS.0].contains(&key) {
            option("set", setting.clone());
        }
    }
    // Those of a scenario's file come by themselves, unless others were asked for.
    for ((key, name), list) in [(MODULES, &guest.modules), (OVERLAYS, &guest.dtb_overlay)] {
        if settings.iter().any(|s| s.starts_with(key)) {
            for word in list {
                option(name, word.clone());
            }
        }
    }
    if exec {
        let guest = &scenario.guest;
        let lists = [
            ("file", &guest.files),
            ("env", &guest.env),
            ("library-path", &guest.library_path),
            ("package", &guest.packages),
        ];
        for (name, value) in lists
            .iter()
            .flat_map(|(n, l)| l.iter().map(move |v| (n, v)))
        {
            option(name, value.clone());
        }
        for (name, value) in [
            ("root", &guest.root),
            ("stdin", &guest.stdin),
            ("selftest", &guest.selftest),
        ] {
            if let Some(value) = value {
                option(name, value.clone());
            }
        }
        for (name, value) in [
            ("gadget", guest.gadget.map(|g| g.to_string())),
            ("iio", guest.iio.map(|i| i.to_string())),
        ] {
            if let Some(value) = value {
                option(name, value);
            }
        }
        if guest.check_output {
            words.push("--check-output".into());
        }
        if !guest.exec.is_empty() {
            words.push("--".into());
            words.extend(guest.exec.iter().cloned());
        }
    }
    words.iter().map(|w| quote(w)).collect::<Vec<_>>().join(" ")
}

/// Quotes a word for a POSIX shell if it needs it.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=@:,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(settings: &[&str]) -> Result<RunSpec, Error> {
        let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
        RunSpec::resolve("iio-capture", "base", EngineKind::default(), &settings)
    }

    #[test]
    fn the_invocation_gives_the_same_run() {
        let spec = resolve(&["cache=lazy", "seed=7", "frames=9", "drop-maintenance=@4"]).unwrap();
        assert_eq!(
            spec.invocation,
            "staleline run iio-capture --kernel base --exporter system --cache lazy --seed 7 \
             --set frames=9 --set drop-maintenance=@4"
        );
    }

    #[test]
    fn what_has_an_option_is_shown_by_it() {
        let shown = |settings: &[&str]| {
            let shown = resolve(settings).unwrap().invocation;
            let (_, options) = shown.split_once(" --exporter ").unwrap();
            options.to_owned()
        };
        let set = [
            "timeout=5",
            "board.cache=lazy",
            "log.filter=off",
            "timeout=7",
        ];
        assert_eq!(
            shown(&set),
            "system --cache lazy --seed 1 --log off --timeout 7"
        );
        let set = ["timeout-seconds=7", "transfer.exporter=cma"];
        assert_eq!(shown(&set), "cma --cache zynqmp --seed 1 --timeout 7");
        let table =
            "transfer={path=\"iio-capture\",buffers=1,frames=1,buffer-bytes=4096,frame-bytes=8}";
        assert_eq!(
            shown(&["transfer.exporter=cma", table]),
            format!("system --cache zynqmp --seed 1 --set '{table}'")
        );
        // The option would come before the table.
        let set = ["log={limit-mib=2}", "log.filter=off"];
        assert_eq!(
            shown(&set),
            "system --cache zynqmp --seed 1 --set 'log={limit-mib=2}' --set log.filter=off"
        );
    }

    #[test]
    fn what_is_appended_is_behind_what_the_scenario_has() {
        let settings = [
            "guest.append=cma=8M",
            "guest.append+=\"a=\\\"b c\\\"\"",
            "guest.append+=\"d\"",
        ];
        let spec = resolve(&settings).unwrap();
        assert_eq!(spec.scenario.guest.append, "cma=8M a=\"b c\" d");
        let shown = "--set guest.append=cma=8M --append 'a=\"b c\"' --append d";
        assert!(spec.invocation.ends_with(shown), "{}", spec.invocation);
        let e = resolve(&["guest.append+=\"console=tty0\""]).unwrap_err();
        assert!(e.to_string().contains("`console=tty0` is refused"), "{e}");
    }

    #[test]
    fn guests_are_told_apart_by_what_they_are_made_of() {
        let of = |name: &str, settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
            RunSpec::resolve(name, "base", EngineKind::default(), &settings).unwrap()
        };
        let boot = of("boot", &[]);
        let same = of("iio-capture", &["cache=lazy", "seed=3"]);
        assert_eq!(boot.guest(), same.guest());
        let others = [
            of("blk-root", &[]),
            of("boot", &["board.blk.port=hp"]),
            of("exec", &["guest.exec=[\"a\"]"]),
            of("exec", &["guest.exec=[\"b\", \"x\"]"]),
            of("exec", &["guest.exec=[\"b\"]", "guest.files=[\"c\"]"]),
            of("boot", &["guest.dtb-overlay=[\"o\"]"]),
        ];
        for (n, other) in others.iter().enumerate() {
            assert_ne!(other.guest(), boot.guest());
            assert!(others[n + 1..].iter().all(|o| o.guest() != other.guest()));
        }
        let arguments = of("exec", &["guest.exec=[\"b\", \"y\"]"]);
        assert_eq!(arguments.guest(), others[3].guest());
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), r"'it'\''s'");
    }

    #[test]
    fn an_exporter_needs_a_transfer() {
        let set = ["exporter=cma".to_owned()];
        let e = RunSpec::resolve("boot", "base", EngineKind::default(), &set).unwrap_err();
        assert!(e.to_string().contains("moves no data"), "{e}");
    }

    #[test]
    fn a_run_keeps_what_its_settings_say() {
        let resolve = |settings: &[&str]| {
            let settings: Vec<_> = settings.iter().map(|s| (*s).to_owned()).collect();
            RunSpec::resolve("iio-capture", "base", EngineKind::default(), &settings)
        };
        let log = |settings| resolve(settings).unwrap().scenario.log;
        assert!(log(&[]).is_default());
        let set = log(&["log.filter=transfer,dma", "log.limit-mib=2"]);
        assert_eq!(
            (set.filter.to_string(), set.limit()),
            ("transfer,dma".into(), 2 << 20)
        );
        assert!(log(&["log.filter=off"]).filter.0.is_empty());
        let e = resolve(&["log.limit-mib=0"]).unwrap_err();
        assert!(
            e.to_string().contains("log.limit-mib = 0 must be from 1"),
            "{e}"
        );
        let e = resolve(&["log.filter=everything"]).unwrap_err();
        assert!(
            e.to_string().contains("`everything` is no kind of event"),
            "{e}"
        );
    }
}
