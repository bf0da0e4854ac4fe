// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
use std::fs;

use staleline_support::cache::CacheDir;
use staleline_support::lock::Lock;

use super::*;
use crate::run::directory::{self, RunDir};

const ALL: Policy = Policy {
    keep: 0,
    older_than: None,
    dry_run: false,
};

/// A run's directory with some files.
fn run(root: &Path, name: &str) -> RunDir {
    let path = directory::create_next(root, name).unwrap();
    let dir = RunDir::create(&path).unwrap();
    dir.write_json(directory::SPEC, &1).unwrap();
    dir.write_json(directory::RESULT, &"x".repeat(4000))
        .unwrap();
    dir
}

fn fates(done: &Done) -> Vec<(String, Fate)> {
    let name = |line: &Line| {
        line.path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned()
    };
    let fates = done.lines.iter().map(|l| (name(l), l.fate.clone()));
    fates.collect()
}

#[test]
fn what_is_in_use_or_not_ours_stays() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    drop(run(root, "boot"));
    let busy = run(root, "boot");
    let noted = run(root, "boot");
    fs::write(noted.file("notes.txt"), "x").unwrap();
    drop(noted);
    let foreign = root.join("boot/0009");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("thesis.tex"), "x").unwrap();
    fs::create_dir_all(root.join("other/thing")).unwrap();
    std::os::unix::fs::symlink(&foreign, root.join("boot/0008")).unwrap();

    let dry = Policy {
        dry_run: true,
        ..ALL
    };
    let would = results(root, &dry);
    assert!(root.join("boot/0001/result.json").is_file());
    let done = results(root, &ALL);
    assert_eq!(
        (&would.lines, would.to_string().contains("would free")),
        (&done.lines, true)
    );
    let mut got = fates(&done);
    got.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        ("0001", Fate::Removed),
        ("0002", Fate::InUse),
        ("0003", Fate::Partly),
    ];
    let expected = expected.map(|(name, fate)| (name.to_owned(), fate));
    assert_eq!(got, expected, "{done}");
    assert!(done.lines.iter().map(|l| l.bytes).sum::<u64>() >= 8000);
    assert!(!root.join("boot/0001").exists());
    assert!(busy.file(directory::RESULT).is_file());
    assert!(root.join("boot/0003/notes.txt").is_file());
    assert!(!root.join("boot/0003/result.json").exists());
    assert!(foreign.join("thesis.tex").is_file());
    assert!(root.join("other/thing").is_dir());
}

#[test]
fn replays_and_cells_go_with_what_they_belong_to() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let first = run(root, "boot");
    drop(run(first.path(), "replay"));
    drop(first);
    let matrix = directory::create_next(root, "matrix").unwrap();
    fs::write(matrix.join("matrix.json"), "{}").unwrap();
    drop(RunDir::create(&matrix.join("boot.base")).unwrap());
    let done = results(root, &ALL);
    assert_eq!(done.lines.len(), 2, "{done}");
    assert!(!matrix.exists() && !root.join("boot/0001").exists());
}

#[test]
fn the_latest_and_the_young_stay() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    for n in 1..=4 {
        let dir = run(root, "boot");
        let path = dir.path().to_owned();
        drop(dir);
        let age = Duration::from_secs(86_400 * (5 - n));
        let file = fs::File::open(path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }
    let left = || {
        let mut names: Vec<_> = fs::read_dir(root.join("boot"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let older_than = Some(age("3d").unwrap());
    results(root, &Policy { older_than, ..ALL });
    assert_eq!(left(), ["0003", "0004"]);
    results(root, &Policy { keep: 1, ..ALL });
    assert_eq!(left(), ["0004"]);
}

#[test]
fn of_the_cache_only_what_nobody_uses_goes() {
    let root = tempfile::tempdir().unwrap();
    let cache = CacheDir::at(root.path());
    let kernel = |digit: &str| cache.join("kernels").join(digit.repeat(64));
    for digit in ["a", "b"] {
        fs::create_dir_all(kernel(digit)).unwrap();
        fs::write(kernel(digit).join("Image"), "x").unwrap();
    }
    for other in ["kernels/notes", "work/tree/src", "agent/target/x", "mine"] {
        fs::create_dir_all(cache.join(other)).unwrap();
    }
    fs::write(cache.join("work/tree/lock"), "").unwrap();
    fs::create_dir_all(cache.join("initramfs")).unwrap();
    let archive = cache.join(format!("initramfs/{}.cpio", "c".repeat(64)));
    fs::write(&archive, "x").unwrap();
    fs::write(cache.join("initramfs/notes"), "x").unwrap();
    fs::create_dir_all(cache.join("plugin/target")).unwrap();
    let given = [
        cache.keep("stdin", "", b"x").unwrap().0,
        cache.keep("overlay", ".dtbo", b"x").unwrap().0,
        cache.join("plugin/target"),
    ];

    let used = Lock::shared(&kernel("a")).unwrap().unwrap();
    let building = Lock::alone(&cache.join("work/tree/lock")).unwrap().unwrap();
    let done = in_cache(&cache, &ALL);
    assert!(kernel("a").is_dir() && !kernel("b").exists(), "{done}");
    assert!(cache.join("work/tree/src").is_dir(), "{done}");
    assert!(given.iter().all(|path| !path.exists()), "{done}");
    assert!(!archive.exists() && !cache.join("agent/target").exists());
    for stays in ["kernels/notes", "initramfs/notes", "mine"] {
        assert!(cache.join(stays).exists(), "{stays}");
    }
    drop((used, building));
    let done = in_cache(&cache, &ALL);
    assert_eq!(done.lines.len(), 2, "{done}");
    assert!(!kernel("a").exists() && !cache.join("work/tree").exists());
}

#[test]
fn ages_have_units() {
    assert_eq!(age("2w").unwrap(), Duration::from_secs(14 * 86_400));
    for bad in [
        "",
        "3",
        "d",
        "-1d",
        "1.5h",
        "99999999999999999999d",
        "99999999999999999d",
        "1é",
    ] {
        assert!(age(bad).is_err(), "{bad}");
    }
    assert_eq!(
        (human(1000), human(1536)),
        ("1000 bytes".into(), "1.5 KiB".into())
    );
}
