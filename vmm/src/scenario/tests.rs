// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
use proptest::prelude::*;

use super::*;
use crate::board::settings::{CachePolicy, Port, SnoopWrite};

const SMALL: &str = r#"
schema = 1
name = "x"
description = "d"
[transfer]
path = "iio-capture"
buffers = 1
frames = 1
buffer-bytes = 4096
frame-bytes = 64
"#;

fn small() -> Scenario {
    Scenario::parse(SMALL, "test").unwrap()
}

fn set(settings: &[&str]) -> Result<Scenario, Error> {
    set::apply(
        &small(),
        &settings.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>(),
    )
}

#[test]
fn defaults_are_the_projects_board() {
    let s = small();
    assert_eq!(s.board, BoardSettings::default());
    assert_eq!(s.transfer.unwrap().exporter, Exporter::System);
}

#[test]
fn errors_point_into_the_file() {
    for (text, expect) in [
        (SMALL.replace("frames = 1", "frmes = 1"), "line 8, column 1"),
        (SMALL.replace("frames = 1", "frames = -1"), "frames = -1"),
        (SMALL.replace("iio-capture", "iio"), "unknown variant `iio`"),
        (format!("{SMALL}\n[usb]\nspeed = 1"), "speed = 1"),
        (SMALL.replace("schema = 1", "schema = "), "line 2"),
    ] {
        let e = Scenario::parse(&text, "file.toml").unwrap_err();
        let message = e.render();
        assert!(matches!(e, Error::Syntax { .. }), "{message}");
        assert!(message.contains(expect), "{message}");
    }
}

#[test]
fn limits_name_the_key() {
    for (from, to, key) in [
        ("schema = 1", "schema = 2", "schema = 2"),
        ("name = \"x\"", "name = \"../x\"", "name"),
        ("name = \"x\"", "name = \"-\"", "no dash at either end"),
        ("name = \"x\"", "name = \"x-\"", "no dash at either end"),
        (
            "[transfer]",
            "[usb]\nsizes = [512]\n[transfer]",
            "usb.sizes needs",
        ),
        ("buffers = 1", "buffers = 65", "transfer.buffers"),
        ("frames = 1", "frames = 0", "transfer.frames"),
        (
            "buffer-bytes = 4096",
            "buffer-bytes = 4000",
            "transfer.buffer-bytes",
        ),
        (
            "buffer-bytes = 4096",
            "buffer-bytes = 1073741824",
            "transfer.buffer-bytes",
        ),
        (
            "buffer-bytes = 4096",
            "buffer-bytes = 67108864",
            "a quarter",
        ),
        (
            "frame-bytes = 64",
            "frame-bytes = 4104",
            "transfer.frame-bytes",
        ),
        (
            "frame-bytes = 64",
            "frame-bytes = 63",
            "transfer.frame-bytes",
        ),
        (
            "frame-bytes = 64",
            "frame-bytes = 64\nlast-frame-bytes = 0",
            "last-frame-bytes",
        ),
        (
            "[transfer]",
            "timeout-seconds = 0\n[transfer]",
            "timeout-seconds",
        ),
        (
            "[transfer]",
            "[board]\nram-mib = 63\n[transfer]",
            "board.ram-mib",
        ),
    ] {
        let text = SMALL.replace(from, to);
        assert_ne!(text, SMALL);
        let e = Scenario::parse(&text, "f").unwrap_err();
        assert!(matches!(e, Error::Limit { .. }), "{to}: {e}");
        assert!(e.to_string().contains(key), "{to}: {e}");
    }
}

#[test]
fn dmatest_has_bounds_and_needs_its_device() {
    let base = Scenario::load("gdma-memcpy").unwrap();
    assert_eq!(base.board.gdma.as_ref().unwrap().port, Port::Hp);
    let set = |settings: &[&str]| {
        let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
        set::apply(&base, &settings)
    };
    let plan = set(&["board.gdma.dma-coherent=true", "dmatest.random=false"]);
    let plan = plan.unwrap().plan();
    assert!(plan.transfer.is_none() && !plan.dmatest.unwrap().random);
    for (wrong, key) in [
        ("dmatest.iterations=0", "dmatest.iterations"),
        ("dmatest.buffer-bytes=0", "dmatest.buffer-bytes"),
        ("dmatest.buffer-bytes=1048577", "dmatest.buffer-bytes"),
        ("dmatest.iterations=65536", "is more than"),
    ] {
        let e = set(&[wrong]).unwrap_err();
        assert!(matches!(e, Error::Limit { .. }), "{wrong}: {e}");
        assert!(e.to_string().contains(key), "{wrong}: {e}");
    }
    let both = format!("{SMALL}\n[dmatest]\niterations = 1\nbuffer-bytes = 64\n");
    let e = Scenario::parse(&both, "f").unwrap_err();
    assert!(e.to_string().contains("leave one of them out"), "{e}");
    let alone = both.replace("[transfer]", "[usb]");
    let lines = alone.lines().filter(|l| {
        !["path", "buffers", "frames", "frame-", "buffer-bytes = 4"]
            .iter()
            .any(|key| l.starts_with(key))
    });
    let alone: Vec<&str> = lines.collect();
    let e = Scenario::parse(&alone.join("\n"), "f").unwrap_err();
    assert!(e.to_string().contains("set board.gdma.port"), "{e}");
}

#[test]
fn a_disk_has_bounds_and_needs_its_device() {
    let base = Scenario::load("blk-root").unwrap();
    assert_eq!(base.board.blk.as_ref().unwrap().port, Port::Hp);
    let set = |settings: &[&str]| {
        let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
        set::apply(&base, &settings)
    };
    let blk = set(&[
        "board.blk.dma-coherent=true",
        "board.blk.order-platform=false",
    ]);
    let blk = blk.unwrap().board.blk.unwrap();
    assert!(blk.attachment().lies() && !blk.order_platform);
    for (wrong, key) in [
        ("disk.rounds=65", "disk.rounds"),
        ("disk.file-bytes=0", "disk.file-bytes"),
        ("disk.file-bytes=4097", "disk.file-bytes"),
        ("disk.file-bytes=2097152000", "is more than"),
    ] {
        let e = set(&[wrong]).unwrap_err();
        assert!(matches!(e, Error::Limit { .. }), "{wrong}: {e}");
        assert!(e.to_string().contains(key), "{wrong}: {e}");
    }
    let head = "schema = 1\nname = \"x\"\ndescription = \"x\"\n";
    let disk = "[disk]\nrounds = 1\nfile-bytes = 4096\n";
    let e = Scenario::parse(&format!("{head}{disk}"), "f").unwrap_err();
    assert!(e.to_string().contains("set board.blk.port"), "{e}");
    let e = Scenario::parse(&format!("{SMALL}\n{disk}"), "f").unwrap_err();
    assert!(e.to_string().contains("leave one of them out"), "{e}");
}

#[test]
fn settings_reach_every_key() {
    let s = set(&[
        "transfer.frames=8",
        "frame-bytes=128",
        "board.snoop-write=allocate",
        "cache=lazy",
        "board.dmac.dma-coherent=true",
        "board.usb.port=hp",
        "drop-maintenance=@17",
        "seed=0x10",
        "timeout=5",
        "cpu-sync=false",
    ])
    .unwrap();
    let t = s.transfer.unwrap();
    assert_eq!((t.frames, t.frame_bytes, t.cpu_sync), (8, 128, false));
    assert_eq!(s.board.snoop_write, SnoopWrite::Allocate);
    assert_eq!(s.board.cache, CachePolicy::Lazy);
    assert_eq!((s.board.dmac.port, s.board.dmac.lies()), (Port::Hp, true));
    assert_eq!(s.board.usb.port, Port::Hp);
    assert_eq!(s.faults.drop_maintenance, Some(DropMaintenance::Number(17)));
    assert_eq!((s.seed, s.timeout_seconds), (16, 5));
    let nth = set(&["drop-maintenance=3"])
        .unwrap()
        .faults
        .drop_maintenance;
    assert_eq!(nth, Some(DropMaintenance::Nth(3)));
}

#[test]
fn every_short_form_names_a_key() {
    for (short, full) in set::SHORT {
        // A value of no type that any key has: the key must be known to complain about it.
        let e = set(&[&format!("{short}=1979-05-27")])
            .unwrap_err()
            .to_string();
        assert!(!e.contains("unknown field"), "{short} -> {full}: {e}");
    }
}

#[test]
fn what_is_no_toml_is_told_as_such() {
    for (setting, why) in [
        ("frames=99999999999999999999", "at most 9223372036854775807"),
        (
            "usb.incidents=[{after-bytes=1,action={pause={ticks=18446744073709551615}}}]",
            "at most",
        ),
        ("usb.incidents=[{", "unclosed"),
    ] {
        let e = set(&[setting]).unwrap_err();
        let text = e.render();
        assert!(text.contains(why), "{setting}: {text}");
        assert!(!text.contains("string"), "{setting}: {text}");
    }
}

#[test]
fn wrong_settings_are_told() {
    for (setting, expect) in [
        ("frames", "key=value"),
        ("frame=3", "unknown field `frame`"),
        ("transfer.frames=many", "invalid type"),
        ("seed.x=1", "no keys below"),
        ("a..b=1", "dotted key"),
        ("drop-maintenance=0", "@N"),
        ("drop-maintenance=@x", "@N"),
        ("inject=drop", "expected CLASS@N"),
        ("inject=[\"delay@3\"]", "followed by :barrier"),
        ("inject=3", "expected a list of faults"),
        ("inject=irq@1:lost, irq@1:lost", "stands there twice"),
    ] {
        let e = set(&[setting]).unwrap_err();
        assert_eq!(e.exit_code(), crate::exit::USAGE);
        assert!(e.to_string().contains(expect), "{setting}: {e}");
    }
    assert!(matches!(set(&["frames=0"]), Err(Error::Limit { .. })));
}

#[test]
fn faults_are_a_list_or_a_text() {
    let list = set(&["inject=[\"drop@17\", \"irq@2:late+50\"]"]).unwrap();
    assert_eq!(list, set(&["inject=drop@17, irq@2:late+50"]).unwrap());
    let faults: Vec<String> = list.faults.inject.iter().map(|f| f.to_string()).collect();
    assert_eq!(faults, ["drop@17", "irq@2:late+50"]);
    let many: Vec<String> = (1..=65).map(|n| format!("drop@{n}")).collect();
    let e = set(&[&format!("inject={}", many.join(","))]).unwrap_err();
    assert!(e.to_string().contains("65 faults, at most 64"), "{e}");
}

#[test]
fn scenarios_come_back_from_json() {
    let s = set(&["drop-maintenance=@4", "inject=beat@9:torn"]).unwrap();
    let json = serde_json::to_string(&s).unwrap();
    assert_eq!(serde_json::from_str::<Scenario>(&json).unwrap(), s);
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = Scenario::parse(&text, "x");
        let _ = set(&[&text]);
    }

    #[test]
    fn no_numbers_get_past_the_limits(
        buffers: u32, frames: u32, buffer_bytes in 0..i64::MAX as u64,
        frame_bytes in 0..i64::MAX as u64, last in 0..i64::MAX as u64, ram: u32,
    ) {
        let settings = [
            format!("buffers={buffers}"), format!("frames={frames}"),
            format!("buffer-bytes={buffer_bytes}"), format!("frame-bytes={frame_bytes}"),
            format!("last-frame-bytes={last}"), format!("ram-mib={ram}"),
        ];
        if let Ok(s) = set::apply(&small(), &settings) {
            let t = s.transfer.unwrap();
            prop_assert!(t.plan(false).total_bytes() <= limits::TOTAL_BYTES);
            prop_assert!(t.buffer_bytes * u64::from(t.buffers) <= u64::from(s.board.ram_mib) << 18);
        }
    }
}

#[test]
fn seeds_are_all_of_u64() {
    for seed in [
        0,
        i64::MAX.cast_unsigned(),
        i64::MAX.cast_unsigned() + 1,
        u64::MAX,
    ] {
        let with = format!("seed={seed}");
        // A setting that follows one starts from the whole scenario.
        for settings in [vec![&*with], vec![&*with, "frames=2"]] {
            let s = set(&settings).unwrap();
            assert_eq!(s.seed, seed);
            let text = toml::to_string(&s).unwrap();
            assert_eq!(Scenario::parse(&text, "t").unwrap(), s);
            let json = serde_json::to_string(&s).unwrap();
            assert_eq!(serde_json::from_str::<Scenario>(&json).unwrap(), s);
        }
    }
    for bad in ["-1", "18446744073709551616", "x", "1.5", "[]", "true"] {
        let e = set(&[&format!("seed={bad}")]).unwrap_err();
        let told = e.render();
        assert!(matches!(e, Error::Setting { .. }), "{bad}: {told}");
    }
}

#[test]
fn buffers_from_the_pool_fit_into_it() {
    let of = |kernel: &str, exporter: &str, bytes: u64| {
        let settings = [
            "buffers=2".to_owned(),
            format!("buffer-bytes={bytes}"),
            format!("exporter={exporter}"),
            "ram-mib=512".into(),
        ];
        let engine = crate::engine::EngineKind::default();
        crate::spec::RunSpec::resolve("iio-capture", kernel, engine, &settings)
    };
    let most = limits::CMA_BYTES / 2;
    of("base", "cma", most).unwrap();
    of("base", "system", most + 4096).unwrap();
    // What pool another kernel has, nobody knows here.
    of("./Image", "cma", most + 4096).unwrap();
    let e = of("base", "cma", most + 4096).unwrap_err();
    assert!(
        e.to_string().contains("more than the 16777216 bytes"),
        "{e}"
    );

    let config = include_str!("../../../guest-kernel/config/staleline.config");
    let size = format!("CONFIG_CMA_SIZE_MBYTES={}", limits::CMA_BYTES >> 20);
    assert!(config.lines().any(|line| line == size));
}
