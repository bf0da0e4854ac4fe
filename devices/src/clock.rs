// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Device time: an event queue whose order depends on nothing but what was scheduled.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};

use crate::jitter::Jitter;
use crate::state::{Refused, SaveError, State, Stateful, at_most, no_longer, same, times};

/// Device time in ticks. One tick is one guest memory access; idle time is skipped to the next
/// event, so a tick has no fixed length in seconds.
pub type Ticks = u64;

/// Index of a device on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceId(pub u16);

/// A device's own name for one of its events.
pub type Token = u32;

/// Events allowed to wait at one time; devices keep at most a few each.
const LIMIT: usize = 4096;

/// The queue.
#[derive(Debug, Default)]
pub struct EventQueue {
    now: Ticks,
    sequence: u64,
    // Ordered by time, then by order of scheduling.
    heap: BinaryHeap<Reverse<(Ticks, u64, DeviceId, Token)>>,
    /// How much later devices are woken than they ask for.
    jitter: Jitter,
}

impl EventQueue {
    /// An empty queue at time 0.
    pub fn new() -> Self {
        EventQueue {
            heap: BinaryHeap::with_capacity(64),
            ..Self::default()
        }
    }

    /// An empty queue that wakes devices later than they ask for.
    pub fn with_jitter(jitter: Jitter) -> Self {
        EventQueue {
            jitter,
            ..Self::new()
        }
    }

    /// The present.
    pub fn now(&self) -> Ticks {
        self.now
    }

    /// A delay by chance, if there are any.
    pub fn late(&mut self) -> Option<Ticks> {
        self.jitter.is_on().then(|| self.jitter.ticks())
    }

    /// When the next event is due; `Ticks::MAX` if none waits.
    pub fn next_due(&self) -> Ticks {
        self.heap.peek().map_or(Ticks::MAX, |Reverse((at, ..))| *at)
    }

    /// Events waiting.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether no event waits.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Lets time pass up to `now`; never backwards.
    pub fn advance(&mut self, now: Ticks) {
        self.now = self.now.max(now);
    }

    /// Takes the next event that is due, in order of time and scheduling.
    pub fn pop_due(&mut self) -> Option<(DeviceId, Token)> {
        if self.next_due() > self.now {
            return None;
        }
        self.heap
            .pop()
            .map(|Reverse((_, _, device, token))| (device, token))
    }

    /// Schedules an event. A queue that is full drops the request with a log message: no device
    /// model has more than a few events waiting, so this is a bug in a model, not a guest error.
    pub fn schedule(&mut self, device: DeviceId, delay: Ticks, token: Token) {
        if self.heap.len() >= LIMIT {
            log::error!(
                "event queue full: event {token} of device {} dropped",
                device.0
            );
            return;
        }
        self.sequence += 1;
        let at = self.now.saturating_add(delay);
        self.heap.push(Reverse((at, self.sequence, device, token)));
    }
}

/// The time, and what waits.
#[derive(Debug, Serialize, Deserialize)]
pub struct ClockState {
    now: Ticks,
    sequence: u64,
    jitter: Jitter,
    /// In the order in which they come.
    events: Vec<(Ticks, u64, DeviceId, Token)>,
}

impl State for ClockState {
    const COMPONENT: &'static str = "clock";
    const VERSION: u16 = 2;
}

impl Stateful for EventQueue {
    type State = ClockState;

    fn state(&self) -> Result<ClockState, SaveError> {
        let EventQueue {
            now,
            sequence,
            heap,
            jitter,
        } = self;
        let mut events: Vec<_> = heap.iter().map(|Reverse(event)| *event).collect();
        events.sort_unstable();
        Ok(ClockState {
            now: *now,
            sequence: *sequence,
            jitter: jitter.clone(),
            events,
        })
    }

    /// An event of a device that does not exist comes to nothing when it is due.
    fn set_state(&mut self, state: ClockState) -> Result<(), Refused> {
        times("time", &[state.now, state.sequence])?;
        same(
            "most ticks of a delay",
            &state.jitter.bound(),
            &self.jitter.bound(),
        )?;
        no_longer("events", state.events.len(), LIMIT)?;
        for (at, sequence, ..) in &state.events {
            times("time of an event", &[*at])?;
            at_most("number of an event", *sequence, state.sequence)?;
        }
        self.now = state.now;
        self.sequence = state.sequence;
        self.jitter = state.jitter;
        self.heap = state.events.into_iter().map(Reverse).collect();
        Ok(())
    }
}

/// A device's view of the queue for the time of one call.
pub struct Clock<'a> {
    queue: &'a mut EventQueue,
    device: DeviceId,
}

impl<'a> Clock<'a> {
    /// Binds `queue` to `device`.
    pub fn new(queue: &'a mut EventQueue, device: DeviceId) -> Self {
        Clock { queue, device }
    }

    /// The present.
    pub fn now(&self) -> Ticks {
        self.queue.now()
    }

    /// The device.
    pub(crate) fn device(&self) -> DeviceId {
        self.device
    }

    /// Wakes another device at once.
    pub(crate) fn wake(&mut self, device: DeviceId, token: Token) {
        self.queue.schedule(device, 0, token);
    }

    /// Asks for [`crate::bus::Device::wake`] with `token` after `delay` ticks. Cannot be
    /// cancelled: a device that has changed its mind ignores the event (by a generation in its
    /// token, or by its state).
    pub fn schedule(&mut self, delay: Ticks, token: Token) {
        let late = self.queue.late().unwrap_or(0);
        self.queue
            .schedule(self.device, delay.saturating_add(late), token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_time_come_in_order_of_scheduling() {
        let mut q = EventQueue::new();
        q.schedule(DeviceId(1), 10, 1);
        q.schedule(DeviceId(0), 10, 2);
        q.schedule(DeviceId(2), 5, 3);
        assert_eq!(q.pop_due(), None);
        q.advance(10);
        let order: Vec<_> = std::iter::from_fn(|| q.pop_due()).map(|(_, t)| t).collect();
        assert_eq!(order, [3, 1, 2]);
        assert_eq!(q.next_due(), Ticks::MAX);
    }

    #[test]
    fn devices_are_woken_later_by_chance_but_not_by_more_than_the_bound() {
        let wakes = |seed| {
            let mut q = EventQueue::with_jitter(Jitter::new(seed, 50));
            for token in 0..100 {
                Clock::new(&mut q, DeviceId(0)).schedule(10, token);
            }
            let mut at = vec![0; 100];
            for now in 10..=60 {
                q.advance(now);
                while let Some((_, token)) = q.pop_due() {
                    at[token as usize] = now;
                }
            }
            assert!(q.is_empty() && at.iter().all(|at| *at >= 10));
            at
        };
        assert_eq!(wakes(3), wakes(3));
        assert_ne!(wakes(3), wakes(4));
    }

    #[test]
    fn delays_go_on_from_a_saved_state_and_not_with_another_bound() {
        let new = |bound| EventQueue::with_jitter(Jitter::new(5, bound));
        let mut q = new(9);
        q.late();
        let saved = q.save_state().unwrap();
        let mut other = new(9);
        other.restore_state(&saved).unwrap();
        assert_eq!([q.late(), q.late()], [other.late(), other.late()]);
        assert!(new(8).restore_state(&saved).is_err());
    }

    #[test]
    fn a_full_queue_drops_instead_of_growing() {
        let mut q = EventQueue::new();
        for _ in 0..2 * LIMIT {
            q.schedule(DeviceId(0), 1, 0);
        }
        assert_eq!(q.heap.len(), LIMIT);
    }
}
