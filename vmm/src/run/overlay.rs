// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Overlays of the user's on the board's device tree: compiled if they are source, kept by content, and
//! applied by the tools of device-tree-compiler.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::Command;

use staleline_support::cache::CacheDir;
use tempfile::TempDir;

use crate::board::{Board, fdt};
use crate::evidence::GuestFile;
use crate::exit::Error;
use crate::scenario::guest::DTB_OVERLAY;

/// Where compiled ones are in the cache, and how their names end.
pub const KEPT: &str = "overlay";
/// See [`KEPT`].
pub const SUFFIX: &str = ".dtbo";

/// What a blob starts with (Devicetree Specification, 5.2).
const MAGIC: [u8; 4] = 0xd00d_feed_u32.to_be_bytes();

/// How the part of a fragment begins that is laid over a tree: the token of a node (5.4 there), and its name.
const FRAGMENT: &[u8] = b"\0\0\0\x01__overlay__\0";

/// How the names of files end that are no source.
const BLOBS: [&str; 2] = ["dtbo", "dtb"];

/// Most bytes of an overlay: with the tree, it has to fit into what the boot protocol allows.
const MAX_BYTES: u64 = 1 << 20;

/// The node with paths by label.
const SYMBOLS: &str = "/__symbols__";

/// A property whose presence claims that the master's accesses are coherent.
const COHERENT: &str = "dma-coherent";
const NONCOHERENT: &str = "dma-noncoherent";

/// The node that says how the guest boots.
const CHOSEN: &str = "/chosen";

/// An overlay as a blob in the cache.
///
/// # Errors
/// Usage errors, and trouble with the cache or the compiler.
pub fn compile(path: &Path, cache: &CacheDir) -> Result<GuestFile, Error> {
    let told = |why: String| wrong(path.display(), &why);
    let length = std::fs::metadata(path).map_err(|e| told(e.to_string()))?;
    if !length.is_file() || length.len() > MAX_BYTES {
        return Err(told(format!("it is no file of at most {MAX_BYTES} bytes")));
    }
    let mut bytes = std::fs::read(path).map_err(|e| told(e.to_string()))?;
    if bytes.starts_with(&MAGIC) {
        // What dtc makes needs no second look.
        well_formed(path, &bytes)?;
    } else if is_no_source(path, &bytes) {
        return Err(told(
            "it is no device tree blob, or a damaged one, as it does not begin with d00dfeed; nor is it \
             source, which is text in a file that is named .dtso or .dts"
                .into(),
        ));
    } else {
        let place = Workplace::new()?;
        let out = place.0.path().join("overlay.dtbo");
        place
            .run("dtc", |dtc| {
                dtc.args(["-q", "-@", "-I", "dts", "-O", "dtb", "-o"])
                    .arg(&out)
                    .arg(path)
            })?
            .map_err(|said| {
                let hint = "sources with #include go through the C preprocessor first";
                told(format!("dtc does not compile it ({hint}):\n{said}"))
            })?;
        bytes = std::fs::read(&out).map_err(|e| Error::host("dtc has left nothing", e))?;
    }
    if !bytes.windows(FRAGMENT.len()).any(|part| part == FRAGMENT) {
        return Err(told(
            "it has no fragment, so that there is nothing to be laid over the board's device tree: an overlay \
             says `/plugin/;`, and `&LABEL { ... };` for each node that it changes"
                .into(),
        ));
    }
    let kept = cache.keep(KEPT, SUFFIX, &bytes);
    let (path, hash) = kept.map_err(|e| Error::host("cannot keep an overlay", e))?;
    Ok(GuestFile { path, hash })
}

/// Whether name or content say that a file which is no blob was never meant to be source.
fn is_no_source(path: &Path, bytes: &[u8]) -> bool {
    let is_blob = |ending: &OsStr| BLOBS.iter().any(|blob| ending == *blob);
    let is_text = |b: &u8| !b.is_ascii_control() || b.is_ascii_whitespace();
    path.extension().is_some_and(is_blob) || !bytes.iter().all(is_text)
}

/// Whether the tools can read a blob, wherever it may fit.
fn well_formed(path: &Path, blob: &[u8]) -> Result<(), Error> {
    let length = blob.get(MAGIC.len()..).and_then(|rest| rest.first_chunk());
    let length = length.map_or(u32::MAX, |length| u32::from_be_bytes(*length));
    if u64::from(length) > blob.len() as u64 {
        let why = "it is a device tree blob that was cut short";
        return Err(wrong(path.display(), why));
    }
    let place = Workplace::new()?;
    let copy = place.0.path().join("overlay.dtbo");
    std::fs::write(&copy, blob).map_err(|e| Error::host("cannot write a device tree", e))?;
    // It goes through all nodes.
    let read = place.run("fdtget", |get| get.arg("-l").arg(&copy).arg("/"))?;
    read.map(drop).map_err(|said| {
        let why = format!("it begins as a device tree blob, and is none, or damaged:\n{said}");
        wrong(path.display(), &why)
    })
}

/// The board's device tree with these on top, in order, each with the name that it was given.
///
/// # Errors
/// Usage errors: an overlay does not fit, or says of a port what diagnostics would not know.
pub fn apply(
    board: &Board,
    tree: &[u8],
    overlays: &[(&str, &GuestFile)],
) -> Result<Vec<u8>, Error> {
    if overlays.is_empty() {
        return Ok(tree.to_vec());
    }
    let place = Workplace::new()?;
    let (base, out) = (
        place.0.path().join("board.dtb"),
        place.0.path().join("whole.dtb"),
    );
    std::fs::write(&base, tree).map_err(|e| Error::host("cannot write a device tree", e))?;
    // The writer of the tree has no such names.
    let refused = |said| Error::host("cannot label the device tree", io::Error::other(said));
    place
        .run("fdtput", |put| put.arg("-c").arg(&base).arg(SYMBOLS))?
        .map_err(refused)?;
    for (label, path) in fdt::labels(board) {
        place
            .run("fdtput", |put| {
                let put = put.args(["-t", "s"]).arg(&base);
                put.args([SYMBOLS, &label, &path])
            })?
            .map_err(refused)?;
    }
    for (name, overlay) in overlays {
        place
            .run("fdtoverlay", |merge| {
                let merge = merge.arg("-i").arg(&base).arg("-o").arg(&out);
                merge.arg(&overlay.path)
            })?
            .map_err(|said| {
                let labels: Vec<_> = fdt::labels(board).into_iter().map(|(l, _)| l).collect();
                let labels = labels.join(", ");
                wrong(
                    name,
                    &format!(
                        "it does not fit on the board, whose labels are {labels}{}:\n{said}",
                        match overlays.len() {
                            1 => "",
                            _ => ", with the overlays before it",
                        }
                    ),
                )
            })?;
        keeps_own(&place, (&base, &out), name)?;
        keeps_claims(board, &place, &out, name)?;
        std::fs::rename(&out, &base).map_err(|e| Error::host("fdtoverlay has left nothing", e))?;
    }
    std::fs::read(&base).map_err(|e| Error::host("cannot read a device tree", e))
}

/// Whether what the run itself has written into the tree, by which the guest boots, is still as it was before.
fn keeps_own(
    place: &Workplace,
    (before, after): (&Path, &Path),
    overlay: &str,
) -> Result<(), Error> {
    let own = [
        (
            CHOSEN.to_owned(),
            "--append adds to the kernel's command line",
        ),
        (fdt::memory(), "board.ram-mib says how much memory there is"),
    ];
    for (node, instead) in own {
        let lost = |said| wrong(overlay, &format!("it leaves no {node}: {said}"));
        let names = place
            .run("fdtget", |get| get.arg("-p").arg(before).arg(&node))?
            .map_err(lost)?;
        // A line for each.
        let values = |tree: &Path| {
            let get = place.run("fdtget", |get| {
                let get = get.args(["-t", "bx"]).arg(tree);
                names
                    .lines()
                    .fold(get, |get, name| get.args([node.as_str(), name]))
            })?;
            get.map_err(lost)
        };
        let (was, is) = (values(before)?, values(after)?);
        if was != is {
            let mut lines = names.lines().zip(was.lines().zip(is.lines()));
            let what = lines.find(|(_, (was, is))| was != is);
            let what = what.map(|(name, _)| format!("/{name}")).unwrap_or_default();
            let why = format!("it changes {node}{what}, which the run sets itself: {instead}");
            return Err(wrong(overlay, &why));
        }
    }
    Ok(())
}

/// Whether the tree claims of each port what the board's settings say that it does.
fn keeps_claims(board: &Board, place: &Workplace, tree: &Path, overlay: &str) -> Result<(), Error> {
    for (node, (_, path)) in board.nodes().iter().zip(fdt::labels(board)) {
        let Some(port) = &node.port else { continue };
        if claims(place, tree, &path, overlay)? != port.claims_coherent() {
            return Err(wrong(
                overlay,
                &format!(
                    "it changes {COHERENT} for {}, or above it: say so by the board's settings (--set \
                     board.usb.dma-coherent=true and the like), for diagnostics to know what the tree claims",
                    node.name()
                ),
            ));
        }
    }
    Ok(())
}

/// Whether a tree claims that a node snoops: what stands nearest to it counts, there or above
/// (of_dma_is_coherent() in drivers/of/address.c).
fn claims(place: &Workplace, tree: &Path, node: &str, overlay: &str) -> Result<bool, Error> {
    for above in Path::new(node).ancestors() {
        let properties = place
            .run("fdtget", |get| get.arg("-p").arg(tree).arg(above))?
            .map_err(|said| wrong(overlay, &format!("it takes {node} away: {said}")))?;
        let has = |name| properties.lines().any(|property| property == name);
        if has(COHERENT) {
            return Ok(true);
        }
        if has(NONCOHERENT) {
            break;
        }
    }
    Ok(false)
}

fn wrong(what: impl std::fmt::Display, why: &str) -> Error {
    Error::Option {
        option: format!("{DTB_OVERLAY} {what}"),
        why: why.to_owned(),
    }
}

/// A directory for the tools' files.
struct Workplace(TempDir);

impl Workplace {
    fn new() -> Result<Self, Error> {
        let dir = tempfile::tempdir();
        let dir = dir.map_err(|e| Error::host("cannot make a temporary directory", e))?;
        Ok(Workplace(dir))
    }

    /// What a program prints; inside, what it complains of if it fails.
    fn run(
        &self,
        program: &str,
        arguments: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<Result<String, String>, Error> {
        let mut command = Command::new(program);
        command.env("LC_ALL", OsStr::new("C"));
        let output = arguments(&mut command).output().map_err(|e| {
            let what = match e.kind() {
                io::ErrorKind::NotFound => {
                    format!("cannot run {program}; install device-tree-compiler")
                }
                _ => format!("cannot run {program}"),
            };
            Error::host(what, e)
        })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Ok(match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => {
                let said = text(&output.stderr);
                let here = format!("{}/", self.0.path().display());
                Err(said.replace(&here, ""))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::board::settings::BoardSettings;
    use crate::boot::Layout;

    struct Rig {
        dir: TempDir,
        board: Board,
    }

    impl Rig {
        fn new() -> Self {
            Rig {
                dir: tempfile::tempdir().unwrap(),
                board: Board::new(&BoardSettings::default()),
            }
        }

        fn compile(&self, source: &str) -> Result<GuestFile, Error> {
            let path = self.dir.path().join("overlay.dtso");
            fs::write(&path, source).unwrap();
            compile(&path, &CacheDir::at(self.dir.path().join("cache")))
        }

        fn tree(&self) -> Vec<u8> {
            let layout = Layout {
                entry: 0,
                kernel: 0..1,
                fdt: 0..1,
                initrd: None,
            };
            let chosen = fdt::Chosen {
                bootargs: "",
                plan: "",
                seed: 0,
                port: false,
                layout: &layout,
            };
            fdt::write(&self.board, &chosen).unwrap()
        }

        fn apply(&self, source: &str) -> Result<Vec<u8>, Error> {
            apply(
                &self.board,
                &self.tree(),
                &[("my.dts", &self.compile(source)?)],
            )
        }

        fn property(&self, tree: &[u8], node: &str, name: &str) -> String {
            let file = self.dir.path().join("out.dtb");
            fs::write(&file, tree).unwrap();
            let get = Command::new("fdtget")
                .arg(&file)
                .args([node, name])
                .output();
            String::from_utf8(get.unwrap().stdout)
                .unwrap()
                .trim()
                .into()
        }
    }

    const SPEED: &str =
        "/dts-v1/; /plugin/; &dwc3 { maximum-speed = \"high-speed\"; snps,dis_u3_susphy_quirk; };";

    #[test]
    fn an_overlay_adds_to_a_node_by_its_label() {
        let rig = Rig::new();
        let whole = rig.apply(SPEED).unwrap();
        let usb = fdt::labels(&rig.board)
            .into_iter()
            .find(|(l, _)| l == "dwc3");
        let (_, path) = usb.unwrap();
        assert_eq!(rig.property(&whole, &path, "maximum-speed"), "high-speed");
        // The same content is one file, and a blob is taken as it is.
        let (one, other) = (rig.compile(SPEED).unwrap(), rig.compile(SPEED).unwrap());
        assert_eq!(one.hash, other.hash);
        let blob = compile(&one.path, &CacheDir::at(rig.dir.path())).unwrap();
        assert_eq!(blob.hash, one.hash);
        let none = apply(&rig.board, b"as it is", &[]).unwrap();
        assert_eq!(none, b"as it is");
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let rig = Rig::new();
        for (source, said) in [
            (
                "/dts-v1/; /plugin/; &dwc4 { a; };",
                "labels are axi_dmac_rx",
            ),
            ("/dts-v1/; /plugin/; &dwc3 { a; ", "syntax error"),
            ("#include <x.h>\n", "preprocessor"),
            ("", "dtc"),
            (
                "/dts-v1/; /plugin/; &axi_dmac_rx { dma-coherent; };",
                "dma-coherent for axi-dmac-rx",
            ),
            // What stands above a master is said of it, too.
            (
                "/dts-v1/; /plugin/; / { fragment@0 { target-path = \"/\"; \
                 __overlay__ { dma-coherent; }; }; };",
                "dma-coherent for axi-dmac-rx, or above it",
            ),
            ("/dts-v1/; /plugin/; / { };", "it has no fragment"),
            (
                "/dts-v1/; / { chosen { bootargs = \"x\"; }; };",
                "it has no fragment",
            ),
            // What the run says of itself.
            (
                "/dts-v1/; /plugin/; &{/chosen} { more; bootargs = \"quiet\"; };",
                "it changes /chosen/bootargs, which the run sets itself: --append adds",
            ),
            (
                "/dts-v1/; /plugin/; &{/} { memory@40000000 { reg = <0 0 0 0>; }; };",
                "it changes /memory@40000000/reg, which the run sets itself: board.ram-mib says",
            ),
        ] {
            let error = rig.apply(source).unwrap_err();
            assert_eq!(error.exit_code(), crate::exit::USAGE, "{error}");
            let error = error.to_string();
            assert!(error.contains(said), "{source}: {error}");
            let named = ["my.dts", "overlay.dtso"]
                .iter()
                .any(|name| error.contains(name));
            assert!(named, "{error}");
        }
        let cache = CacheDir::at(rig.dir.path());
        for path in ["/nonexistent", "/dev/zero", "/"] {
            assert!(compile(Path::new(path), &cache).is_err(), "{path}");
        }
    }

    #[test]
    fn what_is_no_blob_is_told() {
        let rig = Rig::new();
        let good = fs::read(rig.compile(SPEED).unwrap().path).unwrap();
        let is = |name: &str, bytes: &[u8]| {
            let path = rig.dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            let cache = CacheDir::at(rig.dir.path().join("cache"));
            compile(&path, &cache).map_or_else(|e| e.to_string(), |_| "good".into())
        };
        assert_eq!(is("o.dtbo", &good), "good");
        let none = "it is no device tree blob, or a damaged one";
        for (name, bytes) in [
            ("o.dtbo", &good[1..]),
            ("o", &good[1..]),
            ("o.dtbo", b"<html>"),
            ("o.dtb", b""),
        ] {
            let told = is(name, bytes);
            assert!(told.contains(none), "{name}: {told}");
        }
        for cut in [4, 6, 60, good.len() - 1] {
            let told = is("o.dtbo", &good[..cut]);
            assert!(told.contains("was cut short"), "{cut}: {told}");
        }
        let node = good.windows(FRAGMENT.len()).position(|p| p == FRAGMENT);
        let mut damaged = good.clone();
        damaged[node.unwrap()..][..4].fill(0xff);
        let junk = [&MAGIC[..], &[0, 0, 0, 100], &[0xff; 100]].concat();
        for bytes in [damaged, junk] {
            let told = is("o.dtbo", &bytes);
            assert!(told.contains("is none, or damaged"), "{told}");
        }
    }

    #[test]
    fn what_the_run_does_not_set_is_free() {
        let rig = Rig::new();
        let whole = rig.apply("/dts-v1/; /plugin/; &{/chosen} { more = \"x\"; };");
        let whole = whole.unwrap();
        assert_eq!(rig.property(&whole, CHOSEN, "more"), "x");
    }
}
