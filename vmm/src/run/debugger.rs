// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A debugger's way to a guest: a file of gdb's commands in the run's directory, and the command that uses it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use staleline_protocol::report::PREFIX;
use staleline_support::files;

use super::backend::Attempt;
use super::directory;
use super::kernels;
use crate::exit::Error;
use crate::spec::quote;

/// Debuggers that know arm64 on any host, the best first.
const DEBUGGERS: [&str; 2] = ["gdb-multiarch", "aarch64-linux-gnu-gdb"];

/// A command of gdb's that finds modules: by the kernel's own list, on which one is before its init begins, and
/// by what the agent has told of them on the console.
const MODULES: &str = include_str!("debugger.gdb");

/// Leaves gdb's commands in the run's directory, and says how they are used.
///
/// # Errors
/// [`Error::Output`].
pub(super) fn invite(attempt: &Attempt<'_>, dir: &Path, port: u16) -> Result<(), Error> {
    let path = dir.join(directory::DEBUGGER);
    let output = |source| Error::Output {
        path: path.clone(),
        source,
    };
    let path = std::path::absolute(&path).map_err(output)?;
    let text = commands(attempt, &path, port);
    files::write_whole(&path, text.as_bytes(), files::READABLE).map_err(output)?;
    let command = format!("{} -x {}", debugger(), quote(&path.display().to_string()));
    let symbols = match &attempt.artifacts.vmlinux {
        Some(_) => "",
        None => "\n  (there is no vmlinux beside the kernel, so that nothing has a name)",
    };
    anstream::eprintln!(
        "staleline: the guest waits for a debugger before its first instruction; this connects one:\n  \
         {command}{symbols}"
    );
    Ok(())
}

/// The debugger to name.
fn debugger() -> &'static str {
    let mut all = DEBUGGERS.into_iter();
    match all.find(|name| which::which(name).is_ok()) {
        Some(name) => name,
        None if cfg!(target_arch = "aarch64") => "gdb",
        None => DEBUGGERS[0],
    }
}

/// Commands of gdb's that connect it, with the symbols of the kernel, and for those of modules.
fn commands(attempt: &Attempt<'_>, path: &Path, port: u16) -> String {
    let mut text = format!(
        "# {} -x {}\nset architecture aarch64\n",
        debugger(),
        quote(&path.display().to_string())
    );
    let artifacts = attempt.artifacts;
    let own = artifacts.source_root.clone();
    // The names of files in our kernels are relative to their source.
    let sources = own.or_else(|| kernels::unpacked(&artifacts.kernel));
    for (command, file) in [("file", &artifacts.vmlinux), ("directory", &sources)] {
        if let Some(file) = file.as_deref().and_then(quoted) {
            let _ = writeln!(text, "{command} {file}");
        }
    }
    text += &modules(attempt, path);
    let _ = writeln!(
        text,
        "target remote 127.0.0.1:{port}\n\
         echo The guest stands before its first instruction: `hbreak FUNCTION`, then `continue`.\\n"
    );
    if !attempt.spec.plan().modules.is_empty() {
        text += "echo A module is there before its init: `hbreak do_init_module`, `continue`, \
                 `staleline-modules`, then `hbreak` in it.\\n\n";
    }
    text
}

/// What finds the modules, if there are any.
fn modules(attempt: &Attempt<'_>, path: &Path) -> String {
    let plan = attempt.spec.plan();
    let inputs = &attempt.artifacts.inputs;
    let host_file = |guest: &str| inputs.iter().rev().find(|input| input.guest == guest);
    let known = plan.modules.iter().filter_map(|module| {
        let file = quoted(Path::new(&host_file(&module.file)?.host))?;
        Some((module.name.clone(), file.into()))
    });
    let known: serde_json::Map<String, serde_json::Value> = known.collect();
    if known.is_empty() {
        return String::new();
    }
    // Where `staleline module build` leaves a module, its source is, too.
    let files = plan.modules.iter().filter_map(|m| host_file(&m.file));
    let sources: BTreeSet<_> = files
        .filter_map(|input| quoted(Path::new(&input.host).parent()?))
        .collect();
    let sources: String = sources.iter().map(|d| format!("directory {d}\n")).collect();
    let dir = path.parent().unwrap_or(path);
    // The second is where it is in the end.
    let consoles = [
        dir.join(directory::ENGINE).join(directory::CONSOLE),
        dir.join(directory::CONSOLE),
    ];
    // What JSON writes of texts, Python reads.
    format!(
        "{sources}python\nSTALELINE_MODULES = {}\nSTALELINE_CONSOLES = {}\nSTALELINE_MARK = {}\nend\n{MODULES}",
        serde_json::Value::Object(known),
        serde_json::json!(consoles.map(|c| c.display().to_string())),
        serde_json::json!(PREFIX),
    )
}

/// A file's name as gdb's commands have it; none if there is no such way.
fn quoted(file: &Path) -> Option<String> {
    let file = file.to_str()?;
    if file.chars().any(char::is_control) {
        return None;
    }
    Some(format!(
        "\"{}\"",
        file.replace('\\', "\\\\").replace('"', "\\\"")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineKind;
    use crate::run::backend::Backend as _;
    use crate::run::fake::FakeBackend;
    use crate::spec::RunSpec;
    use staleline_results::Input;
    use staleline_support::progress::Quiet;

    #[test]
    fn names_of_files_are_no_commands() {
        let of = |text: &str| quoted(Path::new(text));
        assert_eq!(of("/a b/vmlinux").unwrap(), "\"/a b/vmlinux\"");
        assert_eq!(of("/a\"\\b").unwrap(), "\"/a\\\"\\\\b\"");
        assert_eq!(of("/a\nshell true"), None);
    }

    #[test]
    fn kernel_and_modules_have_their_symbols() {
        let settings = ["guest.modules=[\"/x/dma_copy.ko\"]".to_owned()];
        let spec = RunSpec::resolve("boot", "base", EngineKind::default(), &settings).unwrap();
        let mut artifacts = FakeBackend::good().prepare(&spec, &Quiet).unwrap();
        artifacts.vmlinux = Some("/k/vmlinux".into());
        artifacts.inputs = vec![Input {
            guest: spec.plan().modules[0].file.clone(),
            host: "/x/dma_copy.ko".into(),
            hash: String::new(),
        }];
        let attempt = Attempt {
            spec: &spec,
            artifacts: &artifacts,
            drop_operation: None,
            census: false,
            trace: &[],
            events: None,
            snapshot: None,
            attended: None,
            dir: Path::new("/r/engine"),
        };
        let text = commands(&attempt, Path::new("/r/staleline.gdb"), 1234);
        for line in [
            "file \"/k/vmlinux\"",
            "directory \"/x\"",
            "target remote 127.0.0.1:1234",
            "STALELINE_MODULES = {\"dma_copy\":\"\\\"/x/dma_copy.ko\\\"\"}",
            "        super().__init__(\"staleline-modules\", gdb.COMMAND_FILES)",
            "STALELINE_CONSOLES = [\"/r/engine/console.log\",\"/r/console.log\"]",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        assert!(text.contains("`hbreak do_init_module`"), "{text}");
    }
}
