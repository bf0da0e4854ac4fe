// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Pages of `--html`, in a browser: without an error, by keyboard and screen reader, light and dark, on a desk
//! and on a phone, and large ones.
//!
//! What they need is what `boots` needs, and a headless Chromium (`scripts/setup --tests`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod large;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use staleline_browser::{Page, Settings};
use staleline_testing::{need_kernel, run, staleline};

const DESK: Settings = Settings {
    width: 1280,
    height: 900,
    dark: false,
    javascript: true,
};
const PHONE: Settings = Settings {
    width: 390,
    height: 844,
    ..DESK
};

/// Nothing is wrong with it, wherever it is looked at, with all that can be opened closed and open.
fn is_good_everywhere(file: &Path) {
    let page = Page::open(file, &DESK);
    for settings in [DESK, PHONE] {
        for dark in [false, true] {
            page.set(&Settings { dark, ..settings });
            page.is_good();
        }
    }
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })");
    for settings in [PHONE, DESK] {
        for dark in [true, false] {
            page.set(&Settings { dark, ..settings });
            page.is_good();
        }
    }
    // All of it is there without the script, which only adds comfort.
    let plain = Settings {
        javascript: false,
        ..DESK
    };
    Page::open(file, &plain).is_good();
}

fn count(page: &Page, selector: &str) -> Value {
    page.evaluate(&format!("document.querySelectorAll({selector:?}).length"))
}

/// `iio-to-usb` on base, which fails.
fn failing(html: &Path) -> staleline_testing::Run {
    run(&["iio-to-usb", "--html", html.to_str().unwrap()])
}

#[test]
fn a_run_that_fails_shows_its_lines() {
    let dir = tempfile::tempdir().unwrap();
    let html = dir.path().join("run.html");
    let run = failing(&html);
    assert_eq!(run.code, 1);
    is_good_everywhere(&html);

    let page = Page::open(&html, &DESK);
    // One cause: the finding that the history tells, and the lines of all.
    assert_eq!(count(&page, "article"), json!(1));
    assert_eq!(count(&page, "svg.timeline"), json!(2));
    // What the log says of it: cleaned, the ADC's DMA started and written, USB started and read, and that is the
    // finding. Nobody knows of the time before the clean; from the write on it is stale.
    let marks = "[...document.querySelector('svg.timeline').querySelectorAll('g[class^=m-] text')]\
                 .map(t => t.textContent).join(' ')";
    assert_eq!(page.evaluate(marks), json!("C \u{25b8} W \u{25b8} R !"));
    let states = "[...document.querySelector('svg.timeline').querySelectorAll('polygon')]\
                  .map(p => p.getAttribute('class')).join(' ')";
    assert_eq!(
        page.evaluate(states),
        json!("s-unknown s-cleaned s-cleaned s-unseen s-unseen")
    );
    // Its history is that of the result, with the lines of code.
    let result = run.result();
    let history = &result.diagnostics[0].history;
    assert_eq!(count(&page, "ol.history > li"), json!(history.len()));
    let text = page.evaluate("document.querySelector('ol.history').textContent");
    assert!(
        text.as_str()
            .unwrap()
            .contains("arch/arm64/lib/clear_page.S:")
    );
    let replay = page.evaluate("document.querySelector('.again .command').textContent");
    assert_eq!(replay, json!(result.replay));

    // What a screen reader has of it.
    let tree = page.accessibility();
    let has = |role: &str, name: &str| tree.iter().any(|(r, n)| r == role && n.starts_with(name));
    for (role, name) in [
        (
            "image",
            "Timeline: The 64 lines of the finding at 0x40e12000",
        ),
        ("region", "Timeline 1 of finding 1"),
        ("heading", "error[missing-invalidate] dwc3 (snooping) read"),
        ("heading", "What maintenance cost"),
        ("table", "Lines maintained, by who asked for it"),
        ("navigation", "Contents"),
    ] {
        assert!(has(role, name), "{role} {name}: {tree:#?}");
    }

    // By keyboard: to the findings, and the timeline opens in words.
    page.press("Tab");
    assert_eq!(page.focus().1, "Findings");
    page.press("Enter");
    assert_eq!(page.evaluate("location.hash"), json!("#findings"));
    let closed = "document.querySelector('details.words').open";
    assert_eq!(page.evaluate(closed), json!(false));
    let mut steps = 0;
    while page.focus().1 != "The timeline in words" {
        page.press("Tab");
        steps += 1;
        assert!(steps < 20, "{:?}", page.focus());
    }
    page.press("Enter");
    assert_eq!(page.evaluate(closed), json!(true));
    assert!(page.errors().is_empty());

    // The log says the same to whoever asks later; the second pass is over then, too.
    let again = dir.path().join("again.html");
    let status = staleline()
        .args(["report", "--html"])
        .args([&again, &run.path()])
        .output()
        .unwrap();
    assert_eq!(status.status.code(), Some(1));
    assert_eq!(
        fs::read_to_string(again).unwrap(),
        fs::read_to_string(html).unwrap()
    );
}

#[test]
fn a_run_that_passes_has_a_page_without_findings() {
    let dir = tempfile::tempdir().unwrap();
    let html = dir.path().join("run.html");
    assert_eq!(
        run(&["iio-capture", "--html", html.to_str().unwrap()]).code,
        0
    );
    is_good_everywhere(&html);
    let page = Page::open(&html, &DESK);
    assert_eq!(count(&page, "article, svg.timeline"), json!(0));
    assert_eq!(count(&page, ".v-pass"), json!(1));
    assert_ne!(count(&page, "table.chart"), json!(0));
}

/// A matrix with its page.
fn matrix(dir: &Path) -> PathBuf {
    need_kernel("base");
    let text = "schema = 1\n[[row]]\nid = \"A\"\nwhat = \"What is asked\"\n\
                [[group]]\nrow = \"A\"\nscenarios = [\"iio-to-usb\", \"iio-capture\"]\ncaches = [\"lazy\", \"eager\"]\n";
    fs::write(dir.join("m.toml"), text).unwrap();
    let html = dir.join("m.html");
    let output = staleline()
        .current_dir(dir)
        .args(["matrix", "m.toml", "--out", "out", "--html", "m.html"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    html
}

#[test]
fn two_at_a_time_a_matrix_is_filtered_and_leads_to_its_causes() {
    let dir = tempfile::tempdir().unwrap();
    let html = matrix(dir.path());
    is_good_everywhere(&html);
    let page = Page::open(&html, &DESK);
    assert_eq!(count(&page, "#table tbody tr"), json!(4));
    assert_eq!(count(&page, "#table tbody tr.bad"), json!(2));
    // One cause, however many cells have it.
    assert_eq!(count(&page, "article"), json!(1));
    let named = page.evaluate("document.querySelector('table.named tbody').textContent");
    assert!(named.as_str().unwrap().contains("What is asked"), "{named}");

    let shown = "[...document.querySelectorAll('#table tbody tr')].filter(r => !r.hidden).length";
    page.evaluate("document.getElementById('filter-text').focus()");
    assert_eq!(page.focus(), ("searchbox".into(), "Filter".into()));
    for key in ["l", "a", "z", "y"] {
        page.press(key);
    }
    assert_eq!(page.evaluate(shown), json!(2));
    page.press("Tab");
    page.press("Space");
    assert_eq!(page.evaluate(shown), json!(1));
    let told = page.evaluate("document.getElementById('filter-count').textContent");
    assert_eq!(told, json!("1 of 4 cells"));

    // To the cause, and from there to a cell that is filtered away, which is shown again.
    page.evaluate("document.querySelector('#table tbody tr:not([hidden]) a').focus()");
    page.press("Enter");
    assert_eq!(page.evaluate("location.hash"), json!("#f1"));
    page.evaluate("document.querySelector('article details').open = true");
    page.evaluate("document.querySelector('article ul.names li:last-child a').focus()");
    page.press("Enter");
    let target = "new Promise(done => setTimeout(() => { const t = document.querySelector('tr:target'); \
                  done(t !== null && !t.hidden); }, 50))";
    assert_eq!(page.evaluate(target), json!(true));
    assert!(page.errors().is_empty());
}

/// The picture in the README: `cargo nextest run --workspace --run-ignored only -E 'test(the_screenshot)'`.
#[test]
#[ignore = "writes into the source"]
fn the_screenshot() {
    let dir = tempfile::tempdir().unwrap();
    let html = dir.path().join("run.html");
    failing(&html);
    let page = Page::open(
        &html,
        &Settings {
            width: 1100,
            ..DESK
        },
    );
    let rest = "main > section:not(#findings), nav, .facts, footer";
    page.evaluate(&format!(
        "document.querySelectorAll({rest:?}).forEach(e => e.remove())"
    ));
    let whole = page.screenshot();
    let to = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/screenshot.png");
    fs::write(to, whole).unwrap();
}

#[test]
fn a_campaign_is_a_page_of_tables() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("drops.toml");
    let text = "schema = 1\n[faults]\nclasses = [\"drop\"]\n[[target]]\nscenarios = [\"iio-to-usb\"]\n\
                kernels = [\"begin-end-access\"]\nset = [\"frames=1\"]\n";
    fs::write(&file, text).unwrap();
    let html = dir.path().join("campaign.html");
    let status = staleline()
        .current_dir(dir.path())
        .args(["campaign", "drops.toml", "--out", "out", "--html"])
        .arg(&html)
        .status();
    assert!(status.unwrap().success());
    is_good_everywhere(&html);
    let page = Page::open(&html, &DESK);
    // Classes, all faults, places and diagnoses; and nothing was missed.
    assert_eq!(count(&page, "table.sheet"), json!(4));
    // A place for each line that asks for an operation.
    let results = fs::read_to_string(dir.path().join("out/results.jsonl")).unwrap();
    let places = count(&page, "#places tbody tr").as_u64().unwrap();
    assert!(places > 1 && places <= results.lines().count() as u64);
}
