// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The conversation with a browser, in Chromium's DevTools protocol.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Display;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::{self, Process};

/// How long the browser may take for one thing.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page.
pub struct Conversation {
    pub process: Process,
    stream: BufReader<UnixStream>,
    /// Of the page, once there is one.
    session: Option<String>,
    asked: u64,
    /// What has happened, in order.
    pub events: Vec<Value>,
    pub patience: Duration,
}

impl Conversation {
    /// Starts a browser with an empty page.
    pub fn start() -> Result<Self, String> {
        let program = process::find(&std::env::var_os("PATH").unwrap_or_default())?;
        let failed = format!("cannot start {}", program.display());
        let started = Process::start(program).and_then(|(process, stream)| {
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok((process, stream))
        });
        let (process, stream) = started.map_err(|e| format!("{failed}: {e}"))?;
        let mut new = Conversation {
            process,
            stream: BufReader::new(stream),
            session: None,
            asked: 0,
            events: Vec::new(),
            patience: PATIENCE,
        };
        let target = new.call("Target.createTarget", &json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = new.call("Target.attachToTarget", &attach)?;
        new.session = attached["sessionId"].as_str().map(str::to_owned);
        Ok(new)
    }

    /// The answer to a request. What happened before it is among the events then.
    pub fn call(&mut self, method: &str, parameters: &Value) -> Result<Value, String> {
        self.asked += 1;
        let mut request = json!({"id": self.asked, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        let request = format!("{request}\0");
        let written = self.stream.get_mut().write_all(request.as_bytes());
        let end = Instant::now() + self.patience;
        let answer = written.map_err(|e| self.broken(&e)).and_then(|()| {
            loop {
                let message = self.read(end)?;
                match message.get("id") {
                    Some(id) if *id == self.asked => return Ok(message),
                    Some(_) => {}
                    None => self.events.push(message),
                }
            }
        });
        let mut answer = answer.map_err(|e| format!("{method}: {e}"))?;
        match answer.get("error") {
            Some(error) => Err(format!("{method}: {error}")),
            None => Ok(answer["result"].take()),
        }
    }

    /// Waits for an event, if it has not come.
    pub fn wait(&mut self, what: &str, found: impl Fn(&Value) -> bool) -> Result<(), String> {
        let end = Instant::now() + self.patience;
        let mut looked = 0;
        while !self.events[looked..].iter().any(&found) {
            looked = self.events.len();
            let message = self.read(end).map_err(|e| format!("{what}: {e}"))?;
            self.events.push(message);
        }
        Ok(())
    }

    fn read(&mut self, end: Instant) -> Result<Value, String> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.silent());
        }
        let limited = self.stream.get_ref().set_read_timeout(Some(left));
        let mut message = Vec::new();
        let read = limited.and_then(|()| self.stream.read_until(0, &mut message));
        match read {
            Ok(_) if message.pop() == Some(0) => serde_json::from_slice(&message)
                .map_err(|e| format!("{} said what is no JSON: {e}", self.name())),
            Ok(_) => Err(self.ended()),
            Err(e) => Err(self.broken(&e)),
        }
    }

    fn broken(&self, error: &io::Error) -> String {
        match error.kind() {
            ErrorKind::WouldBlock => self.silent(),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => self.ended(),
            _ => format!("talking to {}: {error}", self.name()),
        }
    }

    fn silent(&self) -> String {
        format!(
            "{} has not answered within {:?}",
            self.name(),
            self.patience
        )
    }

    fn ended(&self) -> String {
        format!("{} has ended:\n{}", self.name(), self.process.said())
    }

    fn name(&self) -> Display<'_> {
        self.process.program.display()
    }
}
