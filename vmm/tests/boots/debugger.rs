// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A debugger at the guest: gdb's protocol, by hand.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use staleline_results::{RunResult, Verdict};

use crate::support;

/// A guest that waits.
struct Waiting {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    port: u16,
    dir: tempfile::TempDir,
}

fn begin(arguments: &[&str]) -> Waiting {
    support::need_kernel("base");
    let dir = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut command = support::staleline();
    command.arg("run").args(arguments).arg("--out");
    command
        .arg(dir.path().join("out"))
        .arg(format!("--gdb={port}"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let mut waiting = Waiting {
        child,
        stderr,
        port,
        dir,
    };
    let mut told = String::new();
    while !told.contains("-x ") {
        let read = waiting.stderr.read_line(&mut told).unwrap();
        assert!(read > 0, "{told}");
    }
    let script = waiting.dir.path().join("out/staleline.gdb");
    assert!(told.contains(script.to_str().unwrap()), "{told}");
    let script = std::fs::read_to_string(script).unwrap();
    assert!(script.contains(&format!("target remote 127.0.0.1:{port}")));
    assert!(script.contains("/vmlinux\"\n"), "{script}");
    waiting
}

impl Waiting {
    fn out(&self) -> std::path::PathBuf {
        self.dir.path().join("out")
    }

    fn connect(&self) -> Gdb {
        let begun = Instant::now();
        loop {
            match TcpStream::connect(("127.0.0.1", self.port)) {
                Ok(stream) => {
                    stream
                        .set_read_timeout(Some(Duration::from_secs(60)))
                        .unwrap();
                    return Gdb(stream);
                }
                Err(e) => assert!(begun.elapsed() < Duration::from_secs(60), "{e}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ends(mut self, code: i32) -> RunResult {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{rest}");
        let left = support::processes_in(self.dir.path());
        assert!(left.is_empty(), "{left:?}");
        let text = std::fs::read_to_string(self.out().join("result.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

/// The other end of gdb's protocol.
struct Gdb(TcpStream);

impl Gdb {
    fn send(&mut self, packet: &str) {
        let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
        self.0
            .write_all(format!("${packet}#{sum:02x}").as_bytes())
            .unwrap();
    }

    /// The next packet of QEMU's.
    fn hear(&mut self) -> String {
        let mut byte = [0];
        let mut packet = String::new();
        let mut begun = false;
        loop {
            self.0.read_exact(&mut byte).unwrap();
            match byte[0] {
                b'$' => begun = true,
                b'#' if begun => break,
                c if begun => packet.push(c.into()),
                _ => {}
            }
        }
        self.0.read_exact(&mut [0; 2]).unwrap();
        self.0.write_all(b"+").unwrap();
        packet
    }

    fn ask(&mut self, packet: &str) -> String {
        self.send(packet);
        self.hear()
    }
}

fn plain() -> Option<String> {
    let run = support::run(&["iio-capture"]);
    run.ends(0, Verdict::Pass).run_hash
}

#[test]
fn a_guest_waits_for_its_debugger_and_is_the_same_guest() {
    let hash = plain();
    let waiting = begin(&["iio-capture", "--timeout", "1"]);
    // Longer than the time limit would be.
    std::thread::sleep(Duration::from_millis(1500));
    let mut gdb = waiting.connect();
    let stopped = gdb.ask("?");
    assert!(stopped.starts_with('T'), "{stopped}");
    gdb.send("c");
    let result = waiting.ends(0);
    assert_eq!(result.verdict, Verdict::Pass);
    assert!(result.attended.debugger);
    assert!(result.notes.iter().any(|n| n.contains("debugger")));
    assert_eq!(result.run_hash, hash);
}

/// The address of a function of the kernel's, by the System.map beside the vmlinux that the script names.
fn address(out: &Path, function: &str) -> String {
    let script = std::fs::read_to_string(out.join("staleline.gdb")).unwrap();
    let vmlinux = script.split('"').nth(1).unwrap();
    let map = Path::new(vmlinux).with_file_name("System.map");
    let map = std::fs::read_to_string(map).unwrap();
    let line = map.lines().find(|l| l.ends_with(&format!(" {function}")));
    line.unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn a_guest_stops_at_a_breakpoint_and_goes_on() {
    let waiting = begin(&["iio-capture"]);
    let at = address(&waiting.out(), "axi_dmac_start_transfer");
    let mut gdb = waiting.connect();
    assert!(gdb.ask("?").starts_with('T'));
    assert_eq!(gdb.ask(&format!("Z1,{at},4")), "OK");
    let stopped = gdb.ask("c");
    assert!(stopped.starts_with("T05"), "{stopped}");
    // Registers, and memory there.
    assert!(gdb.ask("g").len() > 64);
    assert_eq!(gdb.ask(&format!("m{at},4")).len(), 8);
    assert_eq!(gdb.ask(&format!("z1,{at},4")), "OK");
    gdb.send("c");
    // It is not the run that it would have been, and says so.
    let result = waiting.ends(0);
    assert_eq!(result.verdict, Verdict::Pass);
    assert!(result.notes.iter().any(|n| n.contains("another run")));
}

#[test]
fn the_debugger_may_end_it() {
    let waiting = begin(&["iio-capture"]);
    let at = address(&waiting.out(), "start_kernel");
    let mut gdb = waiting.connect();
    assert!(gdb.ask("?").starts_with('T'));
    assert_eq!(gdb.ask(&format!("Z1,{at},4")), "OK");
    assert!(gdb.ask("c").starts_with("T05"));
    gdb.send("k");
    let result = waiting.ends(3);
    assert_eq!(result.verdict, Verdict::InfraError);
}

#[test]
fn nobody_waits_for_a_debugger_after_ctrl_c() {
    for comes in [false, true] {
        let waiting = begin(&["iio-capture"]);
        let gdb = comes.then(|| waiting.connect());
        kill_process(Pid::from_child(&waiting.child), Signal::INT).unwrap();
        let begun = Instant::now();
        let result = waiting.ends(130);
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert!(result.interrupted, "{:?}", result.reasons);
        assert_eq!(result.verdict, Verdict::InfraError);
        drop(gdb);
    }
}

#[test]
fn a_port_that_is_taken_is_told() {
    support::need_kernel("base");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let mut command = support::staleline();
    command.args(["run", "boot", "--out"]).arg(dir.path());
    let output = command.arg(format!("--gdb={port}")).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("name another one"), "{told}");
}

/// gdb's own part, with all that the script gives it: symbols of a module before its init has begun.
#[test]
#[ignore = "needs gdb-multiarch"]
fn gdb_stops_in_the_init_of_a_module() {
    let dir = tempfile::tempdir().unwrap();
    let module = crate::module::build(&dir, "base+userland", "dma_copy", None);
    let mut words = vec!["boot", "--kernel", "base+userland"];
    words.extend(["--set", "board.gdma.port=hp", "--module"]);
    words.push(module.to_str().unwrap());
    let waiting = begin(&words);
    let mut gdb = std::process::Command::new("gdb-multiarch");
    gdb.args(["-nx", "-batch", "-x"])
        .arg(waiting.out().join("staleline.gdb"));
    for command in [
        "hbreak do_init_module",
        "continue",
        "staleline-modules",
        "hbreak copy_once",
        "continue",
        "backtrace 2",
        "list start_kernel",
        "delete",
        "continue",
    ] {
        gdb.args(["-ex", command]);
    }
    let output = gdb.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    // Compilers put the one function into the other: what is certain is the place.
    for part in [
        "breakpoint 2 at",
        "dma_copy_init () at ./dma_copy.c:",
        "void start_kernel(void)",
    ] {
        assert!(told.contains(part), "{part} in\n{told}");
    }
    waiting.ends(0);
}
