// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Whole diagnostics of real boots, for each kind of hazard and each row of the table of advice, and
//! the kernel's reports on itself. What differs from build to build is normalised: addresses,
//! offsets, times, lines of source.
//!
//! Tests that need a kernel with a known error (`guest-kernel/mutants`) build it, and are ignored
//! unless asked for: `cargo nextest run -p staleline --test diagnostics --run-ignored all`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use staleline_testing as support;

use staleline::explain::CORRUPT_DATA;
use staleline_results::KERNEL_REPORT;
use staleline_results::{Class, Diagnostic, Verdict};
use staleline_results::{Event, Step};
use staleline_results::{HazardKind, Why};

use support::{Run, need_kernel, run, staleline};

/// A run of an unchanged kernel.
#[track_caller]
fn plain(arguments: &[&str]) -> Run {
    need_kernel("base");
    run(arguments)
}

/// A run of a kernel with a known error.
#[track_caller]
fn mutant(kernel: &str, arguments: &[&str]) -> Run {
    let mut command = staleline();
    let build = ["kernel", "build", "--stack", kernel];
    let output = command.args(build).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{kernel}: {told}");
    let with = ["--kernel", kernel];
    run(&[arguments, &with].concat())
}

/// The text of the first diagnostic like this that the row of this name has given advice for, and
/// what is told of it. All diagnostics are held by the same rules of form: those that stand for their
/// cause are told, and the others with them.
#[track_caller]
fn told(run: &Run, row: &str, like: impl Fn(&Diagnostic) -> bool) -> (String, Diagnostic) {
    let result = run.result();
    let (code, verdict) = match result.errors().count() {
        0 => (0, Verdict::Pass),
        _ => (1, Verdict::Fail),
    };
    assert_eq!(run.code, code, "{}{}", run.stdout, run.stderr);
    assert_eq!(result.verdict, verdict);
    let mut texts = run.stdout.split("\n\n");
    let mut found = None;
    let others = [CORRUPT_DATA, KERNEL_REPORT].map(|other| format!("error[{other}]"));
    let heads = texts.clone().map(str::trim_start);
    let heads = heads.filter(|t| t.starts_with("error[") || t.starts_with("note["));
    let heads = heads.filter(|t| others.iter().all(|other| !t.starts_with(other)));
    assert_eq!(heads.count(), result.causes().count(), "{}", run.stdout);
    for cause in result.causes() {
        let diagnostic = &result.diagnostics[cause];
        let level = match diagnostic.class {
            Class::Error => "error",
            Class::StaleCopy => "note",
        };
        let head = format!("{level}[{}]", diagnostic.topic());
        let text = texts.find(|t| t.trim_start().starts_with(&head));
        let text = text.unwrap_or_else(|| panic!("{head}: {}", run.stdout));
        well_formed(text, diagnostic);
        let flat: Vec<_> = text.split_whitespace().collect();
        let flat = flat.join(" ");
        for also in result.consequences(cause) {
            in_order(also);
            assert!(flat.contains(&format!(" {} at ", also.topic())), "{text}");
            let memory = format!("pa {}..{} (", also.first_pa, also.end_pa);
            assert!(flat.contains(&memory), "{memory}: {text}");
        }
        assert_eq!(
            text.contains("\n  also "),
            result.consequences(cause).next().is_some()
        );
        if diagnostic.advice == row && like(diagnostic) && found.is_none() {
            found = Some((text.trim().to_owned(), diagnostic.clone()));
        }
    }
    let rows: Vec<_> = result.diagnostics.iter().map(|d| &d.advice).collect();
    found.unwrap_or_else(|| panic!("no `{row}` in {rows:?}: {}", run.stdout))
}

#[track_caller]
fn well_formed(text: &str, diagnostic: &Diagnostic) {
    for line in text.lines() {
        let long = line.chars().count() > 80;
        assert!(!long || line.trim_start().starts_with("replay"), "{line}");
    }
    let at = |label: &str| text.find(&format!("\n  {label}"));
    assert!(
        at("missing") < at("help") && at("help") < at("history"),
        "{text}"
    );
    for stretch in diagnostic.stretches.iter().take(6) {
        let line = format!("\n{:14}{}..{}", "", stretch.first_pa, stretch.end_pa);
        let scattered = diagnostic.stretches.len() > 1;
        assert_eq!(text.contains(&line), scattered, "{line}: {text}");
    }
    in_order(diagnostic);
}

#[track_caller]
fn in_order(diagnostic: &Diagnostic) {
    let times: Vec<u64> = diagnostic.history.iter().map(|s| s.at).collect();
    assert!(times.is_sorted() && times.len() > 1, "{diagnostic:?}");
}

/// Compares with what was looked at and found right.
macro_rules! blessed {
    ($run:expr, $row:expr) => {
        blessed!($run, $row, |_| true)
    };
    ($run:expr, $row:expr, $like:expr) => {{
        let (text, diagnostic) = told(&$run, $row, $like);
        as_blessed!(text);
        diagnostic
    }};
}

macro_rules! as_blessed {
    ($text:expr) => {{
        let filters = vec![
            // In how many pieces memory was handed out: see `well_formed`.
            (
                r"\n {14}(0x[0-9a-f]+\.\.0x[0-9a-f]+(, DMABUF \d+)?: .*|and \d+ more in .*)",
                "",
            ),
            (r"\+0x[0-9a-f]+(/0x[0-9a-f]+)?", "+[offset]"),
            (r"0x[0-9a-f]+", "[address]"),
            (r"address [0-9a-f]{16}", "address [address]"),
            (r"@\d+", "@[time]"),
            (r"\.(rs|c|h|S):\d+", ".$1:[line]"),
            (r"(?i)pid:? \d+", "pid [n]"),
            (r"closure#\d+", "closure#[n]"),
            // How many lines show it is the luck of the cache, and of where the agent stands in memory.
            (
                r"manifested: \d+ of (\d+) lines \(64 bytes each\), \d+ bytes",
                "manifested: [n] of $1 lines (64 bytes each), [n] bytes",
            ),
        ];
        insta::with_settings!({filters => filters, omit_expression => true}, {
            insta::assert_snapshot!($text);
        });
    }};
}

#[test]
fn user_space_writes_without_sync() {
    let run = plain(&["iio-playback-nosync", "--cache", "lazy"]);
    blessed!(run, "kind");
}

#[test]
fn user_space_reads_without_sync() {
    let run = plain(&["iio-capture-nosync", "--cache", "lazy"]);
    blessed!(run, "kind");
}

#[test]
fn nobody_acts_between_two_devices_and_the_kernel_has_no_call() {
    let to_usb = plain(&["iio-to-usb"]);
    let told = blessed!(to_usb, "kind");
    assert!(!told.help.contains("_access()"), "{}", told.help);
    let from_usb = plain(&["usb-to-iio", "--set", "snoop-write=allocate"]);
    blessed!(from_usb, "kind");
}

#[test]
fn fresh_pages_are_not_cleaned() {
    let run = plain(&["iio-capture", "--exporter", "udmabuf", "--cache", "eager"]);
    blessed!(run, "fresh-page");
}

#[test]
fn an_operation_was_suppressed() {
    let run = plain(&["iio-playback", "--set", "drop-maintenance=10"]);
    let told = blessed!(run, "suppressed");
    let suppressed =
        |s: &Step| matches!(s.what, Event::Maintained { suppressed, .. } if suppressed);
    assert!(told.history.iter().any(suppressed));
}

#[test]
fn the_tree_claims_what_the_port_does_not_do() {
    let claims = ["--set", "board.dmac.dma-coherent=true"];
    let run = plain(&[&["iio-playback"], &claims[..]].concat());
    let told = blessed!(run, "lying-tree");
    assert!(told.notes[0].contains("its port (hp) does not snoop"));
}

#[test]
fn the_tree_denies_what_the_port_does() {
    let run = plain(&["usb-loopback", "--set", "board.usb.dma-coherent=false"]);
    let told = blessed!(run, "lying-tree");
    assert_eq!(told.kind, HazardKind::MismatchedAlias);
    assert!(told.help.starts_with("add dma-coherent"));
}

#[test]
fn a_liar_destroys_what_was_written_past_the_cache() {
    let denies = [
        "--set",
        "board.usb.dma-coherent=false",
        "--set",
        "snoop-write=allocate",
    ];
    let run = plain(&[&["usb-loopback"], &denies[..]].concat());
    let told = blessed!(run, "lying-tree");
    assert!(told.manifested && told.cause.is_none());
    assert!(told.notes[0].contains("snoops, the device tree says that it does not"));
    // All that comes of the lie is known in full, and told with it.
    let result = run.result();
    assert_eq!(result.causes().count(), 1);
    let merged = |d: &Diagnostic| d.why == Why::StaleStore;
    let discarded = |d: &Diagnostic| d.kind == HazardKind::DiscardedWrite;
    let all = &result.diagnostics;
    assert!(all.iter().all(|d| d.advice == told.advice));
    assert!(all.iter().any(|d| merged(d) && d.cause.is_some()));
    let lost = all.iter().find(|d| discarded(d)).unwrap();
    assert!(lost.cause.is_some() && lost.help.contains("the DMA API invalidates"));
    let hazards = result.hazards_total;
    let summary = format!("hazards   {hazards} of 1 cause\n");
    assert!(run.stdout.contains(&summary), "{}", run.stdout);
}

#[test]
fn a_port_snoops_one_way_only() {
    let reads = plain(&["usb-loopback", "--set", "board.usb.port=hpc-read"]);
    let told = blessed!(reads, "half-coherent");
    assert_eq!(told.kind, HazardKind::MismatchedAlias);
    assert!(reads.stdout.contains("read by dwc3 (snooping)"));
    let claims = [
        "usb-loopback",
        "--set",
        "board.usb.port=hpc-write",
        "--set",
        "board.usb.dma-coherent=true",
    ];
    let writes = plain(&claims);
    let told = blessed!(writes, "half-coherent");
    assert_eq!(told.kind, HazardKind::MissingClean);
    assert!(writes.stdout.contains("read by dwc3 (non-snooping)"));
}

#[test]
#[ignore = "builds a kernel"]
fn user_space_does_not_wait_for_the_device() {
    let long = "buffers=1 buffer-bytes=262144 frame-bytes=262144 last-frame-bytes=262144";
    let settings = long.split(' ').flat_map(|s| ["--set", s]);
    let arguments: Vec<&str> = ["iio-capture"]
        .into_iter()
        .chain(settings.clone())
        .collect();
    let run = mutant("base~iio-signal-early", &arguments);
    let told = blessed!(run, "early");
    assert_eq!(told.why, Why::Early);
    // Had the invalidate waited, the touches that came after it would have, too.
    let result = run.result();
    let [read, touched] = &result.diagnostics[..] else {
        panic!("{}", run.stdout);
    };
    assert_eq!((read, read.cause), (&told, None));
    assert_eq!(
        (touched.kind, touched.cause),
        (HazardKind::Ownership, Some(0))
    );
    assert_eq!(touched.advice, "in-flight");
    // Without an invalidate there are two mistakes: the fence is no better if user space syncs.
    let arguments: Vec<&str> = ["iio-capture-nosync"].into_iter().chain(settings).collect();
    let run = mutant("base~iio-signal-early", &arguments);
    let told = blessed!(run, "in-flight");
    assert_eq!(told.kind, HazardKind::Ownership);
    assert_eq!(run.result().causes().count(), 2);
}

#[test]
#[ignore = "builds a kernel"]
fn maintenance_comes_after_the_device_was_told_to_go() {
    let arguments = ["usb-to-iio", "--set", "snoop-write=allocate"];
    let run = mutant("begin-end-access~iio-begin-after-queue", &arguments);
    let told = blessed!(run, "late");
    let order = |wanted: fn(&Event) -> bool| told.history.iter().position(|s| wanted(&s.what));
    let go = order(|e| matches!(e, Event::Started { .. }));
    assert!(go.is_some() && go < order(|e| matches!(e, Event::Maintained { .. })));
}

#[test]
#[ignore = "builds a kernel"]
fn the_kernel_reads_a_dmabuf_and_user_space_too() {
    let run = mutant("base~iio-vmap-read", &["iio-capture-nosync"]);
    let by_kernel = blessed!(run, "importer-cpu");
    let by_user = blessed!(run, "kind");
    assert_eq!(by_kernel.kind, by_user.kind);
    assert_eq!(run.result().diagnostics.len(), 2, "each is told once");
}

#[test]
#[ignore = "builds a kernel"]
fn the_kernel_stores_into_a_dmabuf_over_a_stale_copy() {
    let run = mutant("base~iio-vmap-stamp", &["iio-capture"]);
    let told = blessed!(run, "stale-store");
    assert_eq!(told.kind, HazardKind::WritebackClobber);
    // The same store is thrown away, too: the same pair of calls would keep it, and is told once.
    let result = run.result();
    assert_eq!(result.causes().count(), 1, "{}", run.stdout);
    let lost = |d: &&Diagnostic| d.kind == HazardKind::DiscardedWrite;
    assert!(
        result
            .diagnostics
            .iter()
            .find(lost)
            .unwrap()
            .cause
            .is_some()
    );
}

#[test]
#[ignore = "builds a kernel"]
fn a_page_is_copied_that_nobody_has_asked_for() {
    let run = mutant("base~iio-keep-page", &["iio-capture"]);
    let told = blessed!(run, "stale-copy");
    assert_eq!(told.class, Class::StaleCopy);
    assert_eq!(run.code, 0);
    assert!(run.stdout.contains("none (and 6 stale copies)"));
}

#[test]
#[ignore = "builds a kernel"]
fn a_reference_count_shares_a_line_with_a_buffer() {
    let settings = "board.usb.port=hp buffer-bytes=4096 frame-bytes=2048";
    let settings = settings.split(' ').flat_map(|s| ["--set", s]);
    let arguments: Vec<&str> = ["usb-loopback"].into_iter().chain(settings).collect();
    let run = mutant("base~ffs-shared-line", &arguments);
    let told = blessed!(run, "shared-line");
    assert_eq!(told.kind, HazardKind::WritebackClobber);
}

#[test]
#[ignore = "builds a kernel"]
fn an_exporter_syncs_for_one_device_only() {
    let run = mutant("base~system-sync-newest", &["iio-to-usb-sync"]);
    let told = blessed!(run, "sync-without-effect");
    assert!(told.help.contains("axi-dmac-rx is one"));
}

#[test]
#[ignore = "builds a kernel"]
fn a_descriptor_is_handed_over_before_it_is_written() {
    let arguments = [
        "usb-to-iio",
        "--set",
        "buffers=4",
        "--set",
        "usb.incidents=[{after-bytes=20000,action={pause={ticks=200000}}}]",
    ];
    let run = mutant("base~dwc3-no-wmb", &arguments);
    let told = blessed!(run, "unordered");
    assert!(told.help.contains("hands the descriptor over"));
}

#[test]
#[ignore = "builds a kernel"]
fn the_kernel_reports_on_itself() {
    let run = mutant("base~iio-own-device", &["iio-capture"]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    let texts = run.stdout.split("\n\n");
    let mut reports = texts.filter(|t| t.starts_with("error[kernel-report]"));
    as_blessed!(reports.next().unwrap());
    as_blessed!(reports.next().unwrap());
    assert!(reports.next().is_none());
}

#[test]
#[ignore = "builds a kernel"]
fn an_exporter_syncs_a_part_of_the_buffer() {
    let run = mutant("base~system-sync-first-page", &["iio-capture"]);
    blessed!(run, "sync-incomplete");
}

#[test]
#[ignore = "builds a kernel"]
fn an_importers_end_of_access_syncs_a_part_of_the_buffer() {
    let sizes = [
        "--set",
        "frame-bytes=16384",
        "--set",
        "last-frame-bytes=16384",
    ];
    let kernel = "begin-end-access~system-sync-all-but-last";
    let run = mutant(kernel, &[&["iio-to-usb"], &sizes[..]].concat());
    blessed!(run, "sync-incomplete");
}

#[test]
#[ignore = "builds a kernel"]
fn a_sync_only_cleans() {
    let arguments = ["iio-capture", "--exporter", "udmabuf"];
    let run = mutant("base~udmabuf-map-at-first-access", &arguments);
    blessed!(run, "sync-incomplete");
}

#[test]
#[ignore = "builds a kernel"]
fn an_access_is_begun_and_not_ended() {
    let run = mutant("begin-end-access~iio-attach-to-device", &["iio-to-usb"]);
    blessed!(run, "half-a-pair");
}

#[test]
#[ignore = "builds a kernel"]
fn an_access_is_begun_before_the_other_device_is_done() {
    let arguments = [
        "usb-to-iio",
        "--set",
        "snoop-write=allocate",
        "--set",
        "buffer-bytes=262144",
        "--set",
        "frame-bytes=262144",
        "--set",
        "last-frame-bytes=262144",
        "--set",
        "buffers=4",
        "--set",
        "frames=12",
        "--set",
        "usb.incidents=[{after-bytes=300000,action={pause={ticks=2000000}}},\
         {after-bytes=900000,action={pause={ticks=2000000}}}]",
    ];
    let run = mutant("begin-end-access~begin-before-wait", &arguments);
    blessed!(run, "begun-too-early");
}

#[test]
#[ignore = "builds a kernel"]
fn what_fresh_pages_held_is_thrown_away() {
    let run = mutant("base~map-invalidates", &["iio-capture"]);
    let told = blessed!(run, "fresh-page");
    assert_eq!(told.kind, HazardKind::DiscardedWrite);
}

#[test]
#[ignore = "builds a kernel"]
fn maintenance_ends_with_a_barrier_that_does_not_complete_it() {
    let stores = mutant("base~weak-dsb-ishst", &["iio-playback"]);
    blessed!(stores, "incomplete");
    let inner = mutant("base~weak-dsb-ish", &["iio-playback"]);
    blessed!(inner, "incomplete");
}

#[test]
#[ignore = "builds a kernel"]
fn a_doorbell_overtakes_the_descriptor() {
    let run = mutant("base~dmac-relaxed-writes", &["iio-playback"]);
    let told = blessed!(run, "unordered");
    assert!(told.help.contains("writel()"));
}

#[test]
#[ignore = "builds a kernel"]
fn coherent_memory_is_handed_out_dirty() {
    let run = mutant("base~prep-coherent-empty", &["iio-playback"]);
    let told = blessed!(run, "power-on");
    assert_eq!(told.kind, HazardKind::MismatchedAlias);
    assert_eq!(run.result().diagnostics.len(), 1, "one cause is told once");
}

#[test]
#[ignore = "builds a kernel"]
fn a_cpu_does_not_wait_for_maintenance_either() {
    let arguments = ["usb-loopback", "--set", "board.usb.port=hp"];
    let run = mutant("base~weak-dsb-ishst", &arguments);
    blessed!(run, "incomplete");
    assert_eq!(run.result().causes().count(), 1, "{}", run.stdout);
    // So it is with memory that nobody has cleaned.
    let run = mutant("base~prep-coherent-empty", &arguments);
    assert_eq!(run.result().causes().count(), 1, "{}", run.stdout);
}

#[test]
#[ignore = "builds a kernel"]
fn a_call_of_the_dma_api_only_cleans() {
    let arguments = ["usb-loopback", "--set", "board.usb.port=hp"];
    let run = mutant("base~inval-by-clean", &arguments);
    blessed!(run, "only-cleaned");
}

#[test]
#[ignore = "builds a kernel"]
fn an_access_ends_after_its_fence_has_signalled() {
    let run = mutant("begin-end-access~iio-end-after-signal", &["iio-to-usb"]);
    let told = blessed!(run, "signalled-early");
    assert!(told.help.contains("after dma_buf_end_access()"));
}

#[test]
#[ignore = "builds a kernel"]
fn an_access_ends_in_deferred_work() {
    let run = mutant("begin-end-access~iio-end-in-work", &["iio-capture"]);
    blessed!(run, "signalled-early");
}
