// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `staleline exec`.

use std::path::PathBuf;

use clap::Args;
use toml::Value;

use super::given::Given;
use super::{RunOptions, stdin};
use crate::exit::Error;
use crate::scenario::exec::SCENARIO;
use crate::scenario::outside;
use crate::spec::RunSpec;

/// `staleline exec`.
#[derive(Debug, Args)]
#[command(
    after_help = "The guest is what `staleline run` boots. The program, for arm64 and static or \
    dynamic, becomes /root/NAME there, and its libraries come with it. Its output is passed on, and \
    standard input, up to 1 MiB, unless that is a terminal. With --root or --package, PROGRAM is one of \
    that file system. With --module, modules are inserted first; \
    without a program, it passes if the init of each succeeds and nothing was found. Exit codes are those of `staleline run`: 0 if the program ended with 0 and \
    nothing was found, 1 if something was found or it ended otherwise."
)]
pub struct ExecArgs {
    /// How it is run.
    #[command(flatten)]
    pub options: RunOptions,
    /// Give the guest a file or directory, as /root/NAME or as DESTINATION; may be repeated.
    #[arg(long, value_name = "SOURCE[:DESTINATION]")]
    pub file: Vec<String>,
    /// Set a variable of the program's environment; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Look for the program's libraries in this directory of the host first; may be repeated.
    #[arg(long, value_name = "DIR")]
    pub library_path: Vec<String>,
    /// The program's standard input is this file.
    #[arg(long, value_name = "FILE")]
    pub stdin: Option<String>,
    /// Have a USB gadget for the program, bound, configured, with /dev/ffs/ep1 to the host and ep2 from it.
    /// The host reads and checks IN bytes, sends OUT bytes, and sends and reads back LOOPBACK bytes (any of
    /// them, first out, then loopback, then in).
    #[arg(long, value_name = "in=BYTES,out=BYTES,loopback=BYTES,speed=SPEED")]
    pub gadget: Option<String>,
    /// Expect the program to have the ADC bring RX bytes and the DAC take TX bytes, which that checks.
    #[arg(long, value_name = "rx=BYTES,tx=BYTES")]
    pub iio: Option<String>,
    /// Give the guest this file system; PROGRAM is then one of it.
    #[arg(long, value_name = "DIR")]
    pub root: Option<String>,
    /// Give the guest a file system made of this package of Debian's for arm64 and what it depends on, which
    /// is kept in the cache (`staleline root` makes and renews it); may be repeated.
    #[arg(long, value_name = "NAME[=VERSION]", conflicts_with = "root")]
    pub package: Vec<String>,
    /// Run one of the kernel's own tests, as kselftest names it (drivers/dma-buf:udmabuf), built of the
    /// sources of the kernel that is run.
    #[arg(long, value_name = "COLLECTION:TEST", conflicts_with_all = ["root", "package", "command"])]
    pub selftest: Option<String>,
    /// What the program writes to its standard output is to be what the ADC brings: the guest compares RX
    /// bytes of it with the pattern, and does not pass it on.
    #[arg(long, requires = "iio")]
    pub check_output: bool,
    /// The program and its arguments; none if all there is to run is the init of a module.
    #[arg(
        trailing_var_arg = true,
        required_unless_present_any = ["module", "selftest"],
        value_name = "PROGRAM"
    )]
    pub command: Vec<String>,
}

impl ExecArgs {
    /// The file that is the program's standard input, if it has one.
    ///
    /// # Errors
    /// If there is one that cannot be passed on.
    pub fn input(&self) -> Result<Option<PathBuf>, Error> {
        match &self.stdin {
            Some(file) => Ok(Some(file.into())),
            // Modules and the kernel's tests read none.
            None if self.command.is_empty() => Ok(None),
            None => stdin::kept(),
        }
    }

    /// The run that is asked for, with that standard input.
    ///
    /// # Errors
    /// Usage errors.
    pub fn spec(&self, stdin: Option<PathBuf>) -> Result<RunSpec, Error> {
        let mut given = Given::default();
        let value = |key: &str, value: String| {
            let setting = format!("guest.{key}={}", Value::String(value.clone()));
            (value, setting)
        };
        given.list("PROGRAM", "guest.exec", &self.command);
        given.list("--file", "guest.files", &self.file);
        given.list("--env", "guest.env", &self.env);
        given.list("--library-path", "guest.library-path", &self.library_path);
        given.list("--package", "guest.packages", &self.package);
        given.value("--root", self.root.clone().map(|root| value("root", root)));
        let test = self.selftest.clone();
        given.value("--selftest", test.map(|test| value("selftest", test)));
        if self.check_output {
            given.flag("--check-output", "guest.check-output=true".into());
        }
        given.value(
            "--stdin",
            stdin.map(|path| value("stdin", path.display().to_string())),
        );
        for (key, words) in [("gadget", &self.gadget), ("iio", &self.iio)] {
            let Some(words) = words else {
                continue;
            };
            let apart = match key {
                "gadget" => Some("speed"),
                _ => None,
            };
            let option = format!("--{key}");
            let (table, speed) = outside::table(words, apart).map_err(|why| Error::Option {
                option: format!("{option} {words}"),
                why,
            })?;
            let typed = |setting| Some((words.clone(), setting));
            given.value(&option, typed(format!("guest.{key}={table}")));
            let speed = speed.map(|speed| format!("usb.speed={speed}"));
            given.value(&option, speed.and_then(typed));
        }
        self.options.spec(SCENARIO, given)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::{Cli, Command};

    #[test]
    fn a_module_needs_no_program() {
        let spec = |words: &str| {
            let cli = Cli::try_parse_from(words.split(' ')).unwrap();
            match cli.command {
                Command::Exec(args) => args.spec(None).unwrap(),
                Command::Run(args) => args.spec().unwrap(),
                _ => panic!("neither exec nor run"),
            }
        };
        let here = std::env::current_dir().unwrap();
        let module = format!("--module {}/a.ko:x=1", here.display());
        let alone = spec("staleline exec --module a.ko:x=1");
        assert!(alone.scenario.guest.exec.is_empty());
        assert!(alone.invocation.ends_with(&module), "{}", alone.invocation);
        let with = spec("staleline exec --module a.ko:x=1 -- ./prog");
        let end = format!("{module} -- {}/prog", here.display());
        assert!(with.invocation.ends_with(&end), "{}", with.invocation);
        let run = spec("staleline run iio-capture --module a.ko:x=1");
        assert!(run.invocation.ends_with(&module), "{}", run.invocation);
        assert_ne!(run.guest(), spec("staleline run iio-capture").guest());
        assert!(Cli::try_parse_from(["staleline", "exec"]).is_err());
    }

    #[test]
    fn what_is_to_be_run_is_a_scenario() {
        let words = "staleline exec --kernel base --file x:/y --env A=1 --seed 3 --iio tx=8 \
                     --gadget out=7,speed=high,in=9 -- ./prog -v it's";
        let cli = Cli::try_parse_from(words.split(' ')).unwrap();
        let Command::Exec(args) = cli.command else {
            panic!("not exec");
        };
        let spec = args.spec(Some("in".into())).unwrap();
        let guest = &spec.scenario.guest;
        let here = std::env::current_dir().unwrap();
        assert_eq!(guest.exec[0], here.join("prog").to_str().unwrap());
        assert_eq!(guest.exec[1..], ["-v", "it's"]);
        assert_eq!(guest.files, [format!("{}:/y", here.join("x").display())]);
        assert_eq!((spec.scenario.seed, &*guest.env[0]), (3, "A=1"));
        let (here, replay) = (here.display(), &spec.invocation);
        let end = format!(
            "--set usb.speed=high --file {here}/x:/y --env A=1 --stdin {here}/in --gadget in=9,out=7 \
             --iio tx=8 -- {here}/prog -v 'it'\\''s'"
        );
        assert!(
            replay.starts_with("staleline exec --kernel base "),
            "{replay}"
        );
        assert!(replay.ends_with(&end), "{replay}");
    }
}
