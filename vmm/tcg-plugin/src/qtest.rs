// SPDX-License-Identifier: GPL-2.0-or-later
//! Interrupt lines and writes of memory by QEMU's qtest protocol (QEMU's `system/qtest.c`, comment at the top).

use std::io::{self, BufRead, BufReader, Read, Write};

/// Longest answer accepted, in bytes.
const ANSWER_LIMIT: u64 = 4096;

/// A connection to QEMU's qtest server.
pub struct Qtest<S> {
    stream: BufReader<S>,
    gic: String,
    line: String,
}

impl<S: Read + Write> Qtest<S> {
    /// Uses `stream`; `gic` is the QOM path of the interrupt controller.
    pub fn new(stream: S, gic: String) -> Self {
        Qtest {
            stream: BufReader::new(stream),
            gic,
            line: String::new(),
        }
    }

    /// QOM path of the interrupt controller.
    pub fn gic(&self) -> &str {
        &self.gic
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &S {
        self.stream.get_ref()
    }

    /// Sets the level of shared interrupt `irq`, and waits until the interrupt controller has it.
    ///
    /// # Errors
    /// Those of the stream, and `InvalidData` if QEMU refuses.
    pub fn set_irq(&mut self, irq: u32, level: bool) -> io::Result<()> {
        use std::fmt::Write as _;
        self.line.clear();
        writeln!(
            self.line,
            "set_irq_in {} unnamed-gpio-in {irq} {}",
            self.gic,
            u8::from(level)
        )
        .map_err(io::Error::other)?;
        self.command()
    }

    /// Writes guest memory as a device of QEMU's own would, and waits until that is done.
    ///
    /// # Errors
    /// As [`Qtest::set_irq`].
    pub fn write(&mut self, pa: u64, data: &[u8]) -> io::Result<()> {
        use std::fmt::Write as _;
        self.line.clear();
        let mut command = || {
            write!(self.line, "write {pa:#x} {:#x} 0x", data.len())?;
            data.iter()
                .try_for_each(|byte| write!(self.line, "{byte:02x}"))?;
            writeln!(self.line)
        };
        command().map_err(io::Error::other)?;
        self.command()
    }

    /// Has the line carried out.
    fn command(&mut self) -> io::Result<()> {
        // One write, so that QEMU wakes up once.
        self.stream.get_mut().write_all(self.line.as_bytes())?;
        loop {
            self.line.clear();
            let answer = &mut (&mut self.stream).take(ANSWER_LIMIT);
            if answer.read_line(&mut self.line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match self.line.trim_end() {
                "OK" => return Ok(()),
                // Unsolicited reports of intercepted lines.
                line if line.starts_with("IRQ ") => {}
                line => {
                    let message = format!("qtest answered {line:?}");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with canned bytes and keeps what is written.
    struct Peer {
        answers: io::Cursor<Vec<u8>>,
        written: Vec<u8>,
    }

    impl Read for Peer {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.answers.read(buf)
        }
    }

    impl Write for Peer {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.written.write(buf)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn qtest(answers: &[u8]) -> Qtest<Peer> {
        let peer = Peer {
            answers: io::Cursor::new(answers.to_vec()),
            written: Vec::new(),
        };
        Qtest::new(peer, "/machine/gic".into())
    }

    #[test]
    fn a_line_is_set_and_confirmed() {
        let mut q = qtest(b"OK\nIRQ raise 3\nOK\n");
        q.set_irq(7, true).unwrap();
        q.set_irq(7, false).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&q.stream.get_ref().written),
            "set_irq_in /machine/gic unnamed-gpio-in 7 1\n\
             set_irq_in /machine/gic unnamed-gpio-in 7 0\n"
        );
    }

    #[test]
    fn memory_is_written_in_hexadecimal() {
        let mut q = qtest(b"OK\n");
        q.write(0x4000_1000, &[0, 0xd2, 0x1f]).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&q.stream.get_ref().written),
            "write 0x40001000 0x3 0x00d21f\n"
        );
        assert!(qtest(b"ERR\n").write(0, &[1]).is_err());
    }

    #[test]
    fn refusal_and_silence_are_errors() {
        let error = qtest(b"FAIL Unknown device\n")
            .set_irq(1, true)
            .unwrap_err();
        assert!(error.to_string().contains("Unknown device"));
        let error = qtest(b"").set_irq(1, true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(qtest(&[b'x'; 10_000]).set_irq(1, true).is_err());
    }
}
