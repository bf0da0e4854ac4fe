// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A guest kernel that somebody built already: an `Image`, or a build directory.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use memchr::memmem;
use staleline_support::digest;

use crate::boot::{self, HEADER_BYTES};
use crate::exit::Error;
use staleline_results::KernelId;

/// No symbol table is longer.
const MAX_MAP_BYTES: u64 = 1 << 28;

/// What every kernel says of itself.
const BANNER: &[u8] = b"Linux version ";

/// What to give instead of what is no kernel.
const HELP: &str = "give an Image, a kernel's build directory or source tree, or a name from `staleline \
                    kernel list`";

/// What to do with a build directory that has no image.
const BUILD_HELP: &str = "make ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu- Image (and O=DIR, if it is built apart from its \
     sources)";

/// Where a build directory keeps its image.
const IN_BUILD: &str = "arch/arm64/boot/Image";

/// A kernel by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prebuilt {
    /// Its `Image`.
    pub image: PathBuf,
    /// Its `vmlinux`, if it lies where a build leaves it.
    pub vmlinux: Option<PathBuf>,
    /// Its `System.map`, likewise.
    pub system_map: Option<PathBuf>,
    /// Where its configuration may lie.
    pub configs: Vec<PathBuf>,
    /// Top of its sources, if they are where kbuild says.
    pub source: Option<PathBuf>,
}

/// Whether it is the top of a kernel's sources.
pub fn is_source(path: &Path) -> bool {
    ["Makefile", "Kconfig", "arch/arm64/Kconfig"]
        .iter()
        .all(|file| path.join(file).is_file())
}

impl Prebuilt {
    /// Finds it; quick.
    ///
    /// # Errors
    /// [`Error::UnknownKernel`].
    pub fn find(path: &Path) -> Result<Self, Error> {
        let image = image_of(path).ok_or_else(|| absent(path))?;
        let mut head = Vec::new();
        std::fs::File::open(&image)
            .and_then(|f| f.take(HEADER_BYTES as u64).read_to_end(&mut head))
            .map_err(|e| bad(path, &format!("cannot read {}: {e}", image.display())))?;
        let header = head.first_chunk::<HEADER_BYTES>();
        if !header.is_some_and(boot::is_image) {
            let what = other(&head);
            return Err(bad(path, &format!("{} is {what}", image.display())));
        }
        // arch/arm64/boot/Image: three levels below the build directory.
        let dir = image.parent();
        let tops = [dir, dir.and_then(|dir| dir.ancestors().nth(3))];
        let tops = || tops.into_iter().flatten();
        let beside = |name: &str| tops().map(|d| d.join(name)).find(|p| p.is_file());
        let source = tops()
            // Kbuild leaves a link in a build directory of its own.
            .flat_map(|top| [top.to_owned(), top.join("source")])
            .find(|top| is_source(top))
            .and_then(|top| top.canonicalize().ok());
        Ok(Prebuilt {
            source,
            vmlinux: beside("vmlinux"),
            system_map: beside("System.map"),
            configs: [".config", "config"]
                .iter()
                .flat_map(|name| tops().map(move |d| d.join(name)))
                .collect(),
            image,
        })
    }

    /// Who it is; reads the whole image.
    ///
    /// # Errors
    /// [`Error::Kernel`], and [`Error::UnknownKernel`] if part of it is missing.
    pub fn identify(&self, name: &str) -> Result<KernelId, Error> {
        let size = std::fs::metadata(&self.image).map_err(|e| Error::Kernel(e.into()))?;
        if size.len() > boot::MOST_BYTES {
            return Err(Error::Kernel("the image is larger than 1 GiB".into()));
        }
        let bytes = std::fs::read(&self.image).map_err(|e| Error::Kernel(e.into()))?;
        if let Some(whole) = self.system_map.as_deref().and_then(file_bytes)
            && whole > size.len()
        {
            return Err(bad(
                &self.image,
                &format!(
                    "it is cut short: it has {} bytes, and {whole} by the System.map beside it",
                    size.len()
                ),
            ));
        }
        let digest = digest::bytes(&bytes);
        Ok(KernelId {
            name: name.into(),
            version: version(&bytes).unwrap_or_else(|| "unknown".into()),
            stack: Vec::new(),
            hash: digest.clone(),
            image_hash: Some(digest),
        })
    }
}

/// The image that a path stands for: it, or that of a build directory.
pub fn image_of(path: &Path) -> Option<PathBuf> {
    [path.join(IN_BUILD), path.join("Image"), path.to_owned()]
        .into_iter()
        .find(|p| p.is_file())
}

/// What a file is that is no image, by how it begins.
fn other(head: &[u8]) -> &'static str {
    match head {
        [0x7f, b'E', b'L', b'F', ..] => "an ELF file, as vmlinux is: the Image is made from it",
        [0x1f, 0x8b, ..] => "compressed: unpack it first",
        [b'M', b'Z', _, _, b'z', b'i', b'm', b'g', ..] => {
            "an image that unpacks itself for EFI: give the arch/arm64/boot/Image that it was made from"
        }
        _ => "no uncompressed arm64 Image",
    }
}

/// Why there is no image: what was looked at, and what is there instead.
fn absent(path: &Path) -> Error {
    if !path.exists() {
        return bad(path, "there is no such file or directory");
    }
    if !path.is_dir() {
        return bad(path, "it is neither a file nor a directory");
    }
    let mut why = format!("there is no {IN_BUILD} in that directory, and no Image");
    let mut help = HELP;
    let is_there = |name: &str| path.join(name).exists();
    let compressed = ["gz", "zst", "xz", "lz4", "lzma", "bz2"];
    let compressed = compressed.iter().map(|ext| format!("{IN_BUILD}.{ext}"));
    let found = |name: String| is_there(&name).then_some(name);
    if let Some(found) = compressed.into_iter().find_map(found) {
        why = format!("{why} but a compressed one, {found}");
        help = "unpack it, or build the target Image";
    } else if is_there("arch/x86/boot/bzImage") {
        why += ": it was built for another machine, as arch/x86/boot/bzImage shows";
        help = BUILD_HELP;
    } else if is_there(".config") {
        why += ", but a .config: it is a build directory in which none was built, or not for arm64";
        help = BUILD_HELP;
    } else {
        why += "; nor is it the top of a kernel's sources";
    }
    Error::UnknownKernel {
        name: path.display().to_string(),
        why,
        help: help.into(),
    }
}

/// Length of the `Image` that belongs to a symbol table: from the first byte to the end of
/// initialised data (arch/arm64/kernel/vmlinux.lds.S).
fn file_bytes(system_map: &Path) -> Option<u64> {
    let file = std::fs::File::open(system_map).ok()?;
    let mut text = String::new();
    file.take(MAX_MAP_BYTES).read_to_string(&mut text).ok()?;
    // A line: address, type, name.
    let address = |symbol: &str| {
        let end = text.find(&format!(" {symbol}\n"))?;
        let line = text.get(..end)?.rsplit('\n').next()?;
        u64::from_str_radix(line.split(' ').next()?, 16).ok()
    };
    address("_edata")?.checked_sub(address("_text")?)
}

/// The release that an image calls itself.
pub fn version(image: &[u8]) -> Option<String> {
    // The first match may be a format string ("Linux version %s"); a release starts with a digit.
    memmem::find_iter(image, BANNER).find_map(|at| {
        let rest = image.get(at + BANNER.len()..)?;
        let word = rest.iter().take(64).take_while(|b| b.is_ascii_graphic());
        let word: String = word.map(|b| char::from(*b)).collect();
        word.starts_with(|c: char| c.is_ascii_digit())
            .then_some(word)
    })
}

fn bad(path: &Path, why: &str) -> Error {
    Error::UnknownKernel {
        name: path.display().to_string(),
        why: why.into(),
        help: HELP.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[56..60].copy_from_slice(b"ARM\x64");
        bytes.extend(b"Linux version %s (%s)\0Linux version 6.12.117-staleline (gcc)\0");
        bytes
    }

    #[test]
    fn a_build_directory_has_symbols_too() {
        let root = tempfile::tempdir().unwrap();
        let boot = root.path().join("arch/arm64/boot");
        std::fs::create_dir_all(&boot).unwrap();
        std::fs::write(boot.join("Image"), image()).unwrap();
        std::fs::write(root.path().join("vmlinux"), "x").unwrap();
        let by_dir = Prebuilt::find(root.path()).unwrap();
        assert_eq!(by_dir, Prebuilt::find(&boot.join("Image")).unwrap());
        assert_eq!(by_dir.vmlinux, Some(root.path().join("vmlinux")));
        assert_eq!(by_dir.system_map, None);
        assert!(by_dir.configs.contains(&root.path().join(".config")));
        let id = by_dir.identify("x").unwrap();
        assert_eq!(
            (id.version.as_str(), id.hash.len()),
            ("6.12.117-staleline", 64)
        );
    }

    #[test]
    fn an_image_shorter_than_its_symbols_say_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let (file, whole) = (root.path().join("Image"), image());
        std::fs::write(&file, &whole).unwrap();
        let end = 0x1000 + whole.len();
        let map = format!("0000000000001000 T _text\n{end:016x} D _edata\nffff B _end\n");
        std::fs::write(root.path().join("System.map"), map).unwrap();
        Prebuilt::find(root.path()).unwrap().identify("x").unwrap();
        std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
        let e = Prebuilt::find(root.path())
            .unwrap()
            .identify("x")
            .unwrap_err();
        assert!(e.to_string().contains("cut short"), "{e}");
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let root = tempfile::tempdir().unwrap();
        assert!(Prebuilt::find(root.path()).is_err());
        let file = root.path().join("bzImage");
        std::fs::write(&file, vec![0; 100]).unwrap();
        let e = Prebuilt::find(&file).unwrap_err();
        assert!(e.to_string().contains("no uncompressed arm64 Image"), "{e}");
    }

    #[test]
    fn what_is_there_instead_is_told() {
        let root = tempfile::tempdir().unwrap();
        let told = |path: &Path| Prebuilt::find(path).unwrap_err().render();
        let vmlinux = root.path().join("vmlinux");
        for (head, what) in [
            (&b"\x7fELF"[..], "an ELF file"),
            (b"\x1f\x8b\x08", "compressed"),
            (b"MZ\0\0zimg", "unpacks itself"),
        ] {
            std::fs::write(&vmlinux, head).unwrap();
            assert!(told(&vmlinux).contains(what), "{}", told(&vmlinux));
        }
        assert!(told(&root.path().join("none")).contains("no such file or directory"));

        let told = || told(root.path());
        assert!(told().contains("nor is it the top"), "{}", told());
        std::fs::write(root.path().join(".config"), "").unwrap();
        assert!(told().contains("but a .config"), "{}", told());
        assert!(told().contains("make ARCH=arm64"), "{}", told());
        for (file, what) in [
            ("arch/x86/boot/bzImage", "for another machine"),
            (
                "arch/arm64/boot/Image.gz",
                "a compressed one, arch/arm64/boot/Image.gz",
            ),
        ] {
            let file = root.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "").unwrap();
            assert!(told().contains(what), "{}", told());
        }
    }
}
