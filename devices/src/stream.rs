// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Sample streams of the fabric: what an ADC produces and a DAC consumes.
//!
//! A converter core (axi-adc, axi-dac) gates its stream; a DMA engine moves it. Both know the
//! stream by its index on the board.

use serde::{Deserialize, Serialize};
use staleline_protocol::pattern::{Mismatch, Pattern};

use crate::clock::{DeviceId, Token};
use crate::state::{Refused, SaveError, State, Stateful, at_most, same, times};

/// Index of a stream on the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamId(pub u8);

/// One stream, either end of which is a pattern of known contents.
#[derive(Debug, Clone)]
pub struct Stream {
    enabled: bool,
    /// Who is to be woken, and with what, when the gate opens.
    waits: Option<(DeviceId, Token)>,
    pattern: Pattern,
    position: u64,
    checked: Mismatch,
}

impl Stream {
    /// A gated stream at position 0.
    pub fn new(pattern: Pattern) -> Self {
        Stream {
            enabled: false,
            waits: None,
            pattern,
            position: 0,
            checked: Mismatch::default(),
        }
    }

    /// Bytes that have passed.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// What the sink found so far.
    pub fn checked(&self) -> Mismatch {
        self.checked
    }
}

/// All streams of the board.
#[derive(Debug, Clone, Default)]
pub struct Streams {
    streams: Vec<Stream>,
}

impl Streams {
    /// Adds a stream.
    pub fn add(&mut self, stream: Stream) -> StreamId {
        self.streams.push(stream);
        StreamId((self.streams.len() - 1) as u8)
    }

    /// The stream, if it exists.
    pub fn get(&self, id: StreamId) -> Option<&Stream> {
        self.streams.get(usize::from(id.0))
    }

    fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.streams.get_mut(usize::from(id.0))
    }

    /// All streams, by ID.
    pub fn all(&self) -> impl Iterator<Item = &Stream> {
        self.streams.iter()
    }

    /// Opens or closes the gate. Returns whom to wake; see [`crate::bus::Context::set_gate`].
    pub fn set_enabled(&mut self, id: StreamId, enabled: bool) -> Option<(DeviceId, Token)> {
        let s = self.get_mut(id)?;
        s.enabled = enabled;
        if enabled { s.waits.take() } else { None }
    }

    /// A device waits for the gate to open: the one that moves the stream. The last one counts.
    pub fn wait(&mut self, id: StreamId, device: DeviceId, token: Token) {
        if let Some(s) = self.get_mut(id) {
            s.waits = Some((device, token));
        }
    }

    /// Whether samples flow.
    pub fn enabled(&self, id: StreamId) -> bool {
        self.get(id).is_some_and(|s| s.enabled)
    }

    /// Takes the next samples from a source. Returns false, and leaves `buf` alone, while the
    /// gate is closed: the engine then waits.
    pub fn produce(&mut self, id: StreamId, buf: &mut [u8]) -> bool {
        match self.get_mut(id) {
            Some(s) if s.enabled => {
                s.pattern.fill(s.position, buf);
                s.position += buf.len() as u64;
                true
            }
            _ => false,
        }
    }

    /// Gives samples to a sink, which checks every byte. Returns false while the gate is closed.
    pub fn consume(&mut self, id: StreamId, data: &[u8]) -> bool {
        match self.get_mut(id) {
            Some(s) if s.enabled => {
                let found = s.pattern.check(s.position, data);
                s.checked.merge(found);
                s.position += data.len() as u64;
                true
            }
            _ => false,
        }
    }
}

/// What is known of one stream beside its pattern, which is the board's.
#[derive(Debug, Serialize, Deserialize)]
struct StreamState {
    enabled: bool,
    waits: Option<(DeviceId, Token)>,
    position: u64,
    checked: Mismatch,
}

/// All streams, by ID.
#[derive(Debug, Serialize, Deserialize)]
pub struct StreamsState(Vec<StreamState>);

impl State for StreamsState {
    const COMPONENT: &'static str = "streams";
    const VERSION: u16 = 1;
}

impl Stateful for Streams {
    type State = StreamsState;

    fn state(&self) -> Result<StreamsState, SaveError> {
        let state = |stream: &Stream| {
            let Stream {
                enabled,
                waits,
                pattern: _,
                position,
                checked,
            } = *stream;
            StreamState {
                enabled,
                waits,
                position,
                checked,
            }
        };
        Ok(StreamsState(self.streams.iter().map(state).collect()))
    }

    /// A device that waits and does not exist is never woken.
    fn set_state(&mut self, state: StreamsState) -> Result<(), Refused> {
        same("number of streams", &state.0.len(), &self.streams.len())?;
        for (stream, state) in self.streams.iter_mut().zip(state.0) {
            let Mismatch { bytes, corrupt, .. } = state.checked;
            times("position", &[state.position, bytes])?;
            at_most("corrupt bytes", corrupt, bytes)?;
            *stream = Stream {
                enabled: state.enabled,
                waits: state.waits,
                pattern: stream.pattern,
                position: state.position,
                checked: state.checked,
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_gate_moves_nothing() {
        let mut streams = Streams::default();
        let id = streams.add(Stream::new(Pattern::new(7)));
        let mut buf = [0u8; 16];
        assert!(!streams.produce(id, &mut buf));
        streams.set_enabled(id, true);
        assert!(streams.produce(id, &mut buf));
        assert_eq!(Pattern::new(7).check(0, &buf).corrupt, 0);
        assert!(!streams.produce(StreamId(9), &mut buf));
    }

    #[test]
    fn a_sink_counts_wrong_bytes_at_their_position() {
        let mut streams = Streams::default();
        let id = streams.add(Stream::new(Pattern::new(7)));
        streams.set_enabled(id, true);
        let mut buf = [0u8; 32];
        Pattern::new(7).fill(0, &mut buf);
        buf[20] ^= 1;
        assert!(streams.consume(id, &buf[..16]));
        assert!(streams.consume(id, &buf[16..]));
        let found = streams.get(id).unwrap().checked();
        assert_eq!((found.bytes, found.corrupt, found.first), (32, 1, Some(20)));
    }
}
