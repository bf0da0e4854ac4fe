// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Time from left to right. What matters happens in bursts with long pauses in between, so an interval is as wide
//! as its logarithm says.

use std::collections::BTreeSet;

/// Pixels between two moments that follow each other.
const NARROW: f64 = 16.0;
const WIDE: f64 = 120.0;
const PER_OCTAVE: f64 = 6.0;

/// Pixels of all of it.
const LEAST: f64 = 640.0;
const MOST: f64 = 4000.0;

/// Where moments are.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Moment and place, both ascending.
    knots: Vec<(u64, f64)>,
}

impl Axis {
    /// With these moments, in accesses since power-on, of which there is one at least.
    pub fn of(moments: &BTreeSet<u64>) -> Self {
        let mut knots: Vec<(u64, f64)> = Vec::with_capacity(moments.len());
        for at in moments {
            let place = knots.last().map_or(0.0, |(before, place)| {
                let gap = (at - before) as f64;
                place + (PER_OCTAVE * gap.log2()).clamp(NARROW, WIDE)
            });
            knots.push((*at, place));
        }
        let width = knots.last().map_or(0.0, |(_, place)| *place);
        if width > 0.0 {
            let scale = width.clamp(LEAST, MOST) / width;
            for (_, place) in &mut knots {
                *place *= scale;
            }
        }
        Axis { knots }
    }

    /// Pixels from the first moment to the last.
    pub fn width(&self) -> f64 {
        self.knots.last().map_or(0.0, |(_, place)| *place)
    }

    /// Where a moment is; of one that the axis was not told of, between its neighbours.
    pub fn x(&self, at: u64) -> f64 {
        let behind = self.knots.partition_point(|(knot, _)| *knot < at);
        match (behind.checked_sub(1), self.knots.get(behind)) {
            (_, Some((knot, place))) if *knot == at => *place,
            (None, Some((_, place))) => *place,
            (Some(before), Some((to, right))) => {
                let (from, left) = self.knots.get(before).copied().unwrap_or((at, *right));
                let part = at.saturating_sub(from) as f64 / to.saturating_sub(from).max(1) as f64;
                left + (right - left) * part
            }
            (_, None) => self.width(),
        }
    }
}

/// Moves labels of some width to the right where they would lie on each other, and back to the left where they would
/// be beyond `end`; their order stays.
pub fn spread(places: &mut [f64], width: f64, end: f64) {
    let mut free = f64::NEG_INFINITY;
    for place in &mut *places {
        *place = place.max(free);
        free = *place + width;
    }
    let mut free = end;
    for place in places.iter_mut().rev() {
        *place = place.min(free);
        free = *place - width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(moments: &[u64]) -> Axis {
        Axis::of(&moments.iter().copied().collect())
    }

    #[test]
    fn time_goes_to_the_right_and_long_pauses_take_little_more_room_than_short_ones() {
        let axis = axis(&[7, 8, 1 << 10, u64::MAX]);
        let places: Vec<f64> = [7, 8, 1 << 10, u64::MAX].map(|at| axis.x(at)).to_vec();
        assert!(places.is_sorted_by(|a, b| a < b), "{places:?}");
        assert_eq!(places.first(), Some(&0.0));
        assert_eq!(places.last(), Some(&axis.width()));
        let (short, long) = (places[1] - places[0], places[3] - places[2]);
        assert!(long / short <= WIDE / NARROW + 0.001, "{short} {long}");
        // Between, before and behind.
        assert!(axis.x(9) > axis.x(8) && axis.x(9) < axis.x(1 << 10));
        assert_eq!((axis.x(0), axis.x(u64::MAX)), (0.0, axis.width()));
    }

    #[test]
    fn of_any_number_of_moments_the_width_is_bounded() {
        assert_eq!(axis(&[5]).width(), 0.0);
        assert_eq!(axis(&[5]).x(9), 0.0);
        assert_eq!(axis(&[5, 6]).width(), LEAST);
        let many: Vec<u64> = (0..100_000).collect();
        assert_eq!(axis(&many).width(), MOST);
    }

    #[test]
    fn labels_do_not_lie_on_each_other() {
        let mut places = [0.0, 1.0, 2.0, 50.0];
        spread(&mut places, 10.0, 99.0);
        assert_eq!(places, [0.0, 10.0, 20.0, 50.0]);
        let mut places = [0.0, 49.0, 50.0];
        spread(&mut places, 10.0, 50.0);
        assert_eq!(places, [0.0, 40.0, 50.0]);
    }
}
