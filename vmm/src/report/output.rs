// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the user's program writes, passed on.

use std::io::{self, IsTerminal, Write};

use staleline_protocol::report::{Stream, bytes_of};

use super::{Reporter, RunEvent};

/// Passes on what the user's program has written: byte for byte, but to a terminal only what is text there.
pub struct Output {
    stdout: Sink,
    stderr: Sink,
}

impl Output {
    /// To this process's own outputs. `stdout_is_text`: nothing else there has a format that a program's
    /// output would break; all goes to standard error otherwise.
    pub fn of_this_process(stdout_is_text: bool) -> Self {
        let stderr = || Sink::new(io::stderr(), io::stderr().is_terminal());
        Output {
            stdout: match stdout_is_text {
                true => Sink::new(io::stdout(), io::stdout().is_terminal()),
                false => stderr(),
            },
            stderr: stderr(),
        }
    }

    #[cfg(test)]
    fn to(stdout: Sink, stderr: Sink) -> Self {
        Output { stdout, stderr }
    }
}

impl Reporter for Output {
    fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        match event {
            RunEvent::Output { stream, text } => {
                let bytes = bytes_of(text).unwrap_or_default();
                match stream {
                    Stream::Stdout => self.stdout.write(&bytes),
                    Stream::Stderr => self.stderr.write(&bytes),
                }
            }
            // What is said now begins a line of its own.
            _ => {
                self.stdout.end_line()?;
                self.stderr.end_line()
            }
        }
    }
}

/// Where output goes.
struct Sink {
    to: Box<dyn Write + Send>,
    is_terminal: bool,
    in_line: bool,
}

impl Sink {
    fn new(to: impl Write + Send + 'static, is_terminal: bool) -> Self {
        Sink {
            to: Box::new(to),
            is_terminal,
            in_line: false,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(last) = bytes.last() {
            self.in_line = *last != b'\n';
        }
        match self.is_terminal {
            true => self.to.write_all(printable(bytes).as_bytes())?,
            false => self.to.write_all(bytes)?,
        }
        self.to.flush()
    }

    fn end_line(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.in_line) {
            self.to.write_all(b"\n")?;
            self.to.flush()?;
        }
        Ok(())
    }
}

/// Text with its lines, and nothing that moves a cursor.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let plain = |c: &char| !c.is_control() || ['\n', '\t'].contains(c);
    text.chars().filter(plain).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use staleline_protocol::report::text_of;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What comes of these pieces on standard output and standard error, with something said after them.
    fn passed_on(is_terminal: bool, pieces: &[(Stream, &[u8])]) -> [Vec<u8>; 2] {
        let kept = [Kept::default(), Kept::default()];
        let [stdout, stderr] = kept.clone().map(|kept| Sink::new(kept, is_terminal));
        let mut output = Output::to(stdout, stderr);
        for (stream, bytes) in pieces {
            let (stream, text) = (*stream, text_of(bytes));
            output.event(&RunEvent::Output { stream, text }).unwrap();
        }
        let step = RunEvent::Step {
            what: "judging".into(),
        };
        output.event(&step).unwrap();
        output.event(&step).unwrap();
        kept.map(|kept| kept.0.lock().unwrap().clone())
    }

    #[test]
    fn all_bytes_go_into_a_file() {
        let all: Vec<u8> = (0..=255).chain([b'\n']).collect();
        let [stdout, stderr] = passed_on(false, &[(Stream::Stdout, &all)]);
        assert_eq!((stdout, stderr), (all, vec![]));
    }

    #[test]
    fn a_terminal_is_given_text() {
        let piece = b"\x1b[2Jred \xc3\xa4\xff\t1\r\n";
        let [stdout, stderr] = passed_on(true, &[(Stream::Stderr, piece)]);
        assert_eq!(stdout, b"");
        assert_eq!(stderr, "[2Jred \u{e4}\u{fffd}\t1\n".as_bytes());
    }

    #[test]
    fn what_follows_begins_a_line() {
        let pieces: &[(Stream, &[u8])] = &[
            (Stream::Stdout, b"a"),
            (Stream::Stderr, b"b\n"),
            (Stream::Stdout, b"c"),
        ];
        assert_eq!(passed_on(false, pieces), [b"ac\n".to_vec(), b"b\n".into()]);
    }
}
