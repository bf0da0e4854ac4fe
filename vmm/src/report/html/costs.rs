// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What maintenance cost, as bars.

use staleline_results::{LineCost, Maintenance, PairCost};

/// Bars of a chart, at most; the rest is one.
const BARS: usize = 12;

/// A chart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chart {
    /// What the bars are.
    pub title: &'static str,
    /// What a bar's name is.
    pub of: &'static str,
    /// Longest first.
    pub bars: Vec<Bar>,
}

/// A bar.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bar {
    /// Whose.
    pub name: String,
    /// Lines.
    pub cost: LineCost,
    /// Parts of the chart's width, in percent: needed, redundant, untouched.
    pub parts: [f64; 3],
}

impl Bar {
    /// Of a cost, where the longest bar has `most` lines.
    pub fn of(name: String, cost: LineCost, most: u64) -> Self {
        let part = |lines: u64| 100.0 * lines as f64 / most.max(1) as f64;
        Bar {
            name,
            cost,
            parts: [
                part(cost.needed),
                part(cost.redundant),
                part(cost.untouched),
            ],
        }
    }
}

/// Charts of a run's maintenance: who asked for it, and between which devices it stood.
pub fn charts(m: &Maintenance) -> Vec<Chart> {
    let callers = m.callers.iter().map(|c| (c.function.clone(), c.cost()));
    let pairs = m.cost.pairs.iter().map(|p| (pair(p), p.cost));
    let charts = [
        chart(
            "Lines maintained, by who asked for it",
            "caller",
            callers.collect(),
        ),
        chart(
            "Lines maintained, by the devices before and after",
            "devices",
            pairs.collect(),
        ),
    ];
    charts.into_iter().filter(|c| !c.bars.is_empty()).collect()
}

fn pair(pair: &PairCost) -> String {
    let name = |device: &Option<String>| device.clone().unwrap_or_else(|| "no device".into());
    format!("{} \u{2192} {}", name(&pair.before), name(&pair.after))
}

fn chart(title: &'static str, of: &'static str, mut all: Vec<(String, LineCost)>) -> Chart {
    all.sort_by_key(|(_, cost)| std::cmp::Reverse(cost.lines));
    if let Some(rest) = all.get(BARS..).filter(|rest| !rest.is_empty()) {
        let mut sum = LineCost::default();
        for (_, cost) in rest {
            sum.add(cost);
        }
        let name = format!("{} more", rest.len());
        all.truncate(BARS);
        all.push((name, sum));
    }
    let most = all.iter().map(|(_, cost)| cost.lines).max().unwrap_or(0);
    let bars = all
        .into_iter()
        .map(|(name, cost)| Bar::of(name, cost, most));
    Chart {
        title,
        of,
        bars: bars.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(needed: u64, redundant: u64) -> LineCost {
        LineCost {
            lines: needed + redundant,
            needed,
            redundant,
            ..LineCost::default()
        }
    }

    #[test]
    fn bars_are_parts_of_the_longest() {
        let all = vec![("a".into(), cost(10, 10)), ("b".into(), cost(0, 40))];
        let chart = chart("t", "of", all);
        let parts: Vec<_> = chart.bars.iter().map(|b| (&b.name[..], b.parts)).collect();
        assert_eq!(parts, [("b", [0.0, 100.0, 0.0]), ("a", [25.0, 25.0, 0.0])]);
    }

    #[test]
    fn of_many_the_rest_is_one_bar() {
        let all = (0..100).map(|n| (n.to_string(), cost(1, 0))).collect();
        let chart = chart("t", "of", all);
        assert_eq!(chart.bars.len(), BARS + 1);
        let lines: u64 = chart.bars.iter().map(|b| b.cost.lines).sum();
        assert_eq!(lines, 100);
        // The sum may be longer than any of them.
        assert!(chart.bars.iter().all(|b| b.parts[0] <= 100.0));
    }

    #[test]
    fn nothing_makes_no_chart() {
        assert!(charts(&Maintenance::default()).is_empty());
    }
}
