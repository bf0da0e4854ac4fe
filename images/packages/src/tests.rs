// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Without a network: packages and a repository of the test's own.

use std::process::Command;

use super::*;

#[test]
fn a_name_is_no_option_and_no_wish_to_be_rid_of_something() {
    for good in [
        "iiod",
        "libstdc++6",
        "g++",
        "libiio0=0.24-4",
        "libusb-1.0-0=2:1.0.26-1",
    ] {
        check_name(good).unwrap();
    }
    for bad in [
        "", "x", "-y", "--root", "perl-", "a b", "a=", "a=-o", "A1", "a/b", "a;b", "a=1 2",
    ] {
        assert!(check_name(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_a_list_stood_for_is_kept_and_what_is_not_there_any_more_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let roots = dir.path();
    let hash = "0123456789abcdef";
    let request = roots.join("requests/x.json");
    let note = |root: &str| {
        let note = Request {
            names: vec!["a".into()],
            root: root.into(),
        };
        write_json(&request, &note).unwrap();
    };
    note(hash);
    assert_eq!(last(&request, roots), None);
    let packages = [Package {
        name: "a".into(),
        version: "1".into(),
        hash: "00".into(),
    }];
    write_json(&roots.join(hash).join("packages.json"), &packages).unwrap();
    assert_eq!(last(&request, roots), None, "half of it is gone");
    fs::create_dir(roots.join(hash).join("root")).unwrap();
    assert_eq!(last(&request, roots).unwrap().packages, packages);
    // The cache may have been written by anybody.
    note("../../etc");
    assert_eq!(last(&request, roots), None);
    fs::write(&request, "{").unwrap();
    assert_eq!(last(&request, roots), None);
}

#[test]
fn files_of_either_place_come_together_and_links_stay_links() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    unpack::skeleton(&root).unwrap();
    let deb = package(
        dir.path(),
        "one",
        "1:2.0-3",
        "",
        &["lib/a", "usr/lib/b", "bin/c"],
    );
    unpack::archive(&deb, &root).unwrap();
    for file in ["usr/lib/a", "usr/lib/b", "usr/bin/c"] {
        assert!(root.join(file).is_file(), "{file}");
    }
    assert!(root.join("lib").is_symlink());
    let whole = fs::read(&deb).unwrap();
    fs::write(&deb, &whole[..whole.len() / 2]).unwrap();
    let e = unpack::archive(&deb, &root).unwrap_err();
    assert!(matches!(e, PackagesError::Failed { .. }), "{e}");
}

/// All of it, with a repository on the disk in place of a mirror.
#[test]
fn packages_come_with_what_they_need_and_the_same_are_one_root() {
    let dir = tempfile::tempdir().unwrap();
    let repository = dir.path().join("repository");
    fs::create_dir(&repository).unwrap();
    let add = |name, version, depends, files: &[&str]| {
        package(&repository, name, version, depends, files);
        index(&repository);
    };
    add("tool", "1:1.0", "library (>= 2)", &["usr/bin/tool"]);
    add("library", "2.1", "", &["lib/aarch64-linux-gnu/library.so"]);
    add("other", "1", "", &["usr/bin/other"]);
    let sources = dir.path().join("own.list");
    let line = format!("deb [trusted=yes] copy:{} ./\n", repository.display());
    fs::write(&sources, line).unwrap();
    let apt = |lists: &str| {
        let lists = dir.path().join(lists);
        fs::create_dir_all(&lists).unwrap();
        Apt::new(&lists, Some(&sources)).unwrap()
    };
    let get = |apt: &Apt, to: &str, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let to = dir.path().join(to);
        fs::create_dir_all(&to).unwrap();
        apt.download(&names, &to, "")
            .map(|()| archives(&to).unwrap())
    };
    let first = apt("lists");
    assert_eq!(first.update().unwrap(), "");
    let got = get(&first, "first", &["tool"]).unwrap();
    let names: Vec<_> = got.iter().map(|(p, _)| (&*p.name, &*p.version)).collect();
    assert_eq!(names, [("library", "2.1"), ("tool", "1:1.0")]);
    let packages =
        |got: &[(Package, PathBuf)]| got.iter().map(|(p, _)| p.clone()).collect::<Vec<_>>();
    let again = get(&first, "again", &["tool", "library"]).unwrap();
    assert_eq!(hash(&packages(&got)), hash(&packages(&again)));
    let kept = dir.path().join("kept");
    make(&kept, dir.path(), &got, &staleline_support::progress::Quiet).unwrap();
    assert!(
        kept.join("root/usr/lib/aarch64-linux-gnu/library.so")
            .is_file()
    );
    assert!(kept.join("packages.json").is_file());

    let e = get(&first, "none", &["tol"]).unwrap_err();
    assert!(e.is_usage() && e.to_string().contains("tol"), "{e}");
    // If it may be the network's fault, it is nobody's mistake.
    let names = ["tol".to_owned()];
    let e = first
        .download(&names, dir.path(), "W: Failed to fetch")
        .unwrap_err();
    assert!(
        !e.is_usage() && e.to_string().contains("Failed to fetch"),
        "{e}"
    );

    add("library", "2.2", "", &["usr/lib/library.so"]);
    first.update().unwrap();
    let newer = get(&first, "newer", &["tool"]).unwrap();
    assert_ne!(hash(&packages(&got)), hash(&packages(&newer)));
}

/// A package with these files.
fn package(dir: &Path, name: &str, version: &str, depends: &str, files: &[&str]) -> PathBuf {
    let tree = tempfile::tempdir().unwrap();
    for file in files {
        let path = tree.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    let control = tree.path().join("DEBIAN");
    fs::create_dir(&control).unwrap();
    let depends = match depends {
        "" => String::new(),
        some => format!("Depends: {some}\n"),
    };
    let text = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: arm64\nMaintainer: nobody <nobody@localhost>\n\
         {depends}Description: of a test\n"
    );
    fs::write(control.join("control"), text).unwrap();
    // dpkg-deb wants no more than usual permissions.
    fs::set_permissions(tree.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let deb = dir.join(format!("{name}_{}_arm64.deb", version.replace(':', "%3a")));
    let built = Command::new("dpkg-deb")
        .args(["--root-owner-group", "--build"])
        .arg(tree.path())
        .arg(&deb)
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    deb
}

/// The index of a repository: what each package says of itself, and where it is.
fn index(repository: &Path) {
    let mut text = String::new();
    for entry in fs::read_dir(repository).unwrap().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|end| end != "deb") {
            continue;
        }
        let fields = Command::new("dpkg-deb")
            .arg("--field")
            .arg(&path)
            .output()
            .unwrap();
        let fields = String::from_utf8(fields.stdout).unwrap();
        text += &format!(
            "{fields}Filename: ./{}\nSize: {}\nSHA256: {}\n\n",
            entry.file_name().to_string_lossy(),
            fs::metadata(&path).unwrap().len(),
            digest::file(&path).unwrap()
        );
    }
    fs::write(repository.join("Packages"), text).unwrap();
}
