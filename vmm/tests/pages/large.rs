// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A page with a thousand cells and all the findings that one tells, each on ten thousand lines.

use std::fmt::Write as _;

use askama::Template as _;
use serde_json::json;
use staleline::report::html::article::{Article, Timeline, Where};
use staleline::report::html::figure::{Figure, Subject};
use staleline::report::html::lanes::{Lanes, Watch};
use staleline::report::html::page::{CellRow, Cells, Page as Html};
use staleline_browser::Page;
use staleline_devices::coherency::SnoopWrite;
use staleline_devices::dma::{Content, MasterId, TransferId};
use staleline_devices::events::Event;

use crate::DESK;

const CELLS: usize = 1000;
const FINDINGS: usize = 200;
const LINES: u64 = 10_000;

/// Lines that have hardly anything in common.
fn timeline() -> Timeline {
    let watch = Watch {
        first: 0x4000_0000,
        end: 0x4000_0000 + LINES * 64,
        from: 0,
        to: 8 * LINES,
        finding: None,
    };
    let mut lanes = Lanes::of(watch, SnoopWrite::WriteThrough, LINES);
    for at in 0..8 * LINES {
        let event = Event::Moved {
            master: MasterId(0),
            transfer: TransferId(1),
            snoops: at % 2 == 0,
            write: at % 3 == 0,
            content: Content::Data,
            pa: 0x4000_0000 + (at * 7919) % LINES * 64,
            len: 64,
        };
        lanes.take(at, &event);
    }
    let rows = lanes.rows(16);
    let figure = Figure::of(&Subject {
        from: watch.from,
        to: watch.to,
        rows: &rows,
        history: &[],
        master: &|_| "dma".into(),
        several_cpus: false,
    });
    Timeline {
        about: "ten thousand lines".into(),
        figure: figure.unwrap(),
    }
}

#[test]
fn a_page_of_a_thousand_cells_and_ten_thousand_lines_is_usable() {
    let mut html = Html::new("Large".into(), "fail");
    let timeline = timeline();
    for n in 0..2 * FINDINGS {
        let mut article = Article {
            topic: "missing-clean",
            level: "error",
            headline: format!("finding {n}"),
            timelines: vec![timeline.clone()],
            ..Article::default()
        };
        article.cells = (1..=CELLS)
            .step_by(100)
            .map(|row| Where {
                name: format!("cell {row}"),
                row,
                is_bad: true,
            })
            .collect();
        let number = html.add(article);
        // What is too much is told, and leads nowhere.
        assert_eq!(number, if n < FINDINGS { n + 1 } else { 0 });
    }
    let rows = (0..CELLS).map(|n| CellRow {
        key: vec![format!("scenario-{n}"), "base".into()],
        verdict: "fail",
        is_bad: n % 10 == 0,
        findings: vec![("missing-clean".into(), format!("f{}", n % FINDINGS + 1))],
        ..CellRow::default()
    });
    html.matrix = Some(Cells {
        columns: vec!["scenario".into(), "kernel".into()],
        rows: rows.collect(),
        ..Cells::default()
    });
    let text = html.render().unwrap();
    // A few megabytes are read in no time.
    assert!(text.len() < 12 << 20, "{} bytes", text.len());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("large.html");
    std::fs::write(&file, text).unwrap();

    let page = Page::open(&file, &DESK);
    assert!(page.errors().is_empty(), "{:?}", page.errors());
    assert_eq!(page.overflow(), None);
    assert!(page.nodes() < 600_000, "{}", page.nodes());
    let mut script = String::from("document.getElementById('filter-text').value = 'scenario-99';");
    let _ = write!(
        script,
        "document.getElementById('filter').dispatchEvent(new Event('input'));\
         [...document.querySelectorAll('#table tbody tr')].filter(r => !r.hidden).length"
    );
    // 99, and 990 to 999.
    assert_eq!(page.evaluate(&script), json!(11));
    let told = page.evaluate("document.getElementById('findings').textContent");
    assert!(
        told.as_str()
            .unwrap()
            .contains("There are more than 200 findings")
    );
}
