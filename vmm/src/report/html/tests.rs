// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Pages of runs that a fake engine has made, with logs that a machine could have written.

use std::path::Path;

use staleline_devices::cpu::{CacheOp, ChainId, CpuId, SiteId};
use staleline_devices::dma::{Content, MasterId, TransferId};
use staleline_devices::events::{Cached, Event};
use staleline_results::RunResult;

use super::*;
use crate::engine::EngineKind;
use crate::events::sample::write_log;
use crate::run::fake::{FakeBackend, stale_read};
use crate::spec::RunSpec;

const LINES: u64 = 10_000;

fn failing() -> RunResult {
    let spec = RunSpec::resolve("iio-capture-nosync", "base", EngineKind::default(), &[]).unwrap();
    FakeBackend::new(|_, e, _| {
        let hazards = &mut e.report.as_mut().unwrap().domain.hazards;
        hazards.extend([stale_read(1, true), stale_read(2, false)]);
    })
    .run(&spec)
}

fn page(result: &RunResult, log: &Path) -> String {
    use askama::Template as _;
    let source = Source::of(log, SnoopWrite::WriteThrough);
    Page::of_run(result, "What was run.", &source)
        .render()
        .unwrap()
}

fn moved(write: bool, snoops: bool, pa: u64, len: u64) -> Event {
    Event::Moved {
        master: MasterId(0),
        transfer: TransferId(1),
        snoops,
        write,
        content: Content::Data,
        pa,
        len,
    }
}

#[test]
fn a_page_tells_what_the_terminal_tells_and_what_happened_to_the_lines() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("events.bin");
    let pa = 0x4500_0000;
    let clean = Event::Maintained {
        cpu: CpuId::BOOT,
        op: CacheOp::Clean,
        operation: 101,
        site: SiteId(2),
        chain: ChainId(1),
        pa,
        lines: 256,
        found: Cached::Dirty,
        dropped: false,
    };
    let events = [(900, clean), (1000, moved(true, false, pa, 189 * 64))];
    write_log(&log, &[], &events, 1 << 24).unwrap();
    let result = failing();
    let html = page(&result, &log);
    let of_run: Vec<RunEvent> = RunEvent::of_result(&result);
    let RunEvent::Hazard { explained, .. } = &of_run[0] else {
        panic!("{of_run:?}");
    };
    for text in [
        "iio-capture-nosync on ",
        "What was run.",
        "error[missing-invalidate]",
        &explained.diagnostic.help,
        &result.replay,
        "0x45000000",
        "axi-dmac-rx writes, not snooping, transfer #1",
        "clean, operation @101",
        "written in memory, and not invalidated: a copy in the cache may be stale",
        "Lines maintained, by who asked for it",
    ] {
        let text = text
            .replace('&', "&#38;")
            .replace('<', "&#60;")
            .replace('>', "&#62;");
        assert!(html.contains(&text), "{text}\n{html}");
    }
    assert_eq!(html.matches("<svg class=\"timeline\"").count(), 2);
    // Nothing that is elsewhere.
    for outside in ["src=", "http:", "https:", "@import", "url(h"] {
        assert!(!html.contains(outside), "{outside}");
    }
}

#[test]
fn a_finding_on_many_lines_in_disorder_makes_no_large_page() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("events.bin");
    let pa = 0x4500_0000;
    let mut result = failing();
    for hazard in &mut result.hazards {
        hazard.lines = LINES;
        hazard.end_pa.0 = pa + LINES * 64;
    }
    // Each line with a life of its own, nearly.
    let events: Vec<(u64, Event)> = (0..4 * LINES)
        .map(|n| {
            let line = (n * 7919) % LINES;
            (900 + n, moved(n % 3 == 0, n % 2 == 0, pa + line * 64, 64))
        })
        .collect();
    write_log(&log, &[], &events, 1 << 24).unwrap();
    let html = page(&result, &log);
    assert!(html.contains("Timeline: The 10000 lines"));
    assert!(html.contains("more groups of lines"), "{html}");
    assert!(html.len() < 300_000, "{} bytes", html.len());
}

#[test]
fn without_events_the_page_says_why_there_is_no_timeline() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("events.bin");
    let result = failing();
    let html = page(&result, &log);
    assert!(html.contains("the run&#39;s log cannot be read"), "{html}");
    write_log(&log, &[], &[], 1 << 24).unwrap();
    let html = page(&result, &log);
    assert!(
        html.contains("the log has no event of these lines"),
        "{html}"
    );
}

#[test]
fn a_log_that_was_full_or_cut_off_is_told_up_to_there() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("events.bin");
    let result = failing();
    let many = (0..100_000).map(|n| {
        // So that it cannot be packed well.
        let pa = 0x4500_0000 + n * n * 7919 % (189 * 64);
        (
            1000 + n / 1000,
            moved(n % 3 == 0, n % 5 == 0, pa, 1 + n * n % 61),
        )
    });
    write_log(&log, &[], &many.collect::<Vec<_>>(), 1 << 16).unwrap();
    let html = page(&result, &log);
    let told = "The log was full, or was cut off, at @1";
    assert!(html.contains(told), "{html}");
    assert!(html.contains("<svg class=\"timeline\""));
    let whole = std::fs::read(&log).unwrap();
    std::fs::write(&log, &whole[..whole.len() - 9]).unwrap();
    assert!(page(&result, &log).contains(told));
}

#[test]
fn what_a_guest_or_a_file_calls_itself_is_text() {
    let mut result = failing();
    let evil = "</script><script>alert(1)</script>\"'&";
    evil.clone_into(&mut result.scenario);
    evil.clone_into(&mut result.replay);
    result.notes.push(evil.into());
    result.reasons.push(evil.into());
    evil.clone_into(&mut result.diagnostics[0].help);
    evil.clone_into(&mut result.maintenance.callers[0].function);
    let html = page(&result, Path::new("/nonexistent"));
    // The page has one script of its own.
    assert_eq!(html.matches("<script").count(), 1);
    assert!(html.contains("&#60;script&#62;alert(1)"));
}

#[test]
fn a_place_that_no_page_can_be_written_to_is_told_before_the_run() {
    let dir = tempfile::tempdir().unwrap();
    for (path, why) in [
        (dir.path().to_owned(), "it is a directory"),
        (dir.path().join("no/where.html"), "no such directory"),
    ] {
        let error = page::check(&path).unwrap_err();
        assert_eq!(error.exit_code(), crate::exit::USAGE);
        assert!(error.to_string().contains(why), "{error}");
    }
    page::check(Path::new("here.html")).unwrap();
    // What is no page is left alone, also by whoever did not ask before.
    let log = dir.path().join("events.bin");
    std::fs::write(&log, "a log").unwrap();
    let link = dir.path().join("link.html");
    std::os::unix::fs::symlink(&log, &link).unwrap();
    let new = || Page::new(String::new(), "pass");
    for path in [log.as_path(), &link, Path::new("/dev/null")] {
        assert!(page::check(path).is_err());
        assert!(new().write(path).is_err());
    }
    assert_eq!(std::fs::read(&log).unwrap(), b"a log");
    // Another page is replaced.
    let file = dir.path().join("page.html");
    new().write(&file).unwrap();
    page::check(&file).unwrap();
    new().write(&file).unwrap();
}
