// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A guest kernel that somebody built already: an `Image`, or a build directory.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use memchr::memmem;
use staleline_support::digest;

use crate::exit::Error;
use staleline_results::KernelId;

/// Offset and value of the magic number of an arm64 `Image`
/// (Documentation/arch/arm64/booting.rst).
const MAGIC: (usize, [u8; 4]) = (56, *b"ARM\x64");

/// Larger images are refused.
const MAX_IMAGE_BYTES: u64 = 1 << 30;

/// No symbol table is longer.
const MAX_MAP_BYTES: u64 = 1 << 28;

/// What every kernel says of itself.
const BANNER: &[u8] = b"Linux version ";

/// Said of any other file.
const NO_IMAGE: &str = "it is no uncompressed arm64 Image";

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
}

impl Prebuilt {
    /// Finds it; quick.
    ///
    /// # Errors
    /// [`Error::UnknownKernel`].
    pub fn find(path: &Path) -> Result<Self, Error> {
        let image = [path.join(IN_BUILD), path.join("Image"), path.to_owned()]
            .into_iter()
            .find(|p| p.is_file())
            .ok_or_else(|| {
                bad(
                    path,
                    "there is no such file, nor an Image in that directory",
                )
            })?;
        let mut head = [0; 64];
        std::fs::File::open(&image)
            .and_then(|mut f| f.read_exact(&mut head))
            .map_err(|e| match e.kind() {
                std::io::ErrorKind::UnexpectedEof => bad(path, NO_IMAGE),
                _ => bad(path, &format!("cannot read {}: {e}", image.display())),
            })?;
        if head[MAGIC.0..MAGIC.0 + 4] != MAGIC.1 {
            return Err(bad(path, NO_IMAGE));
        }
        let beside = |name: &str| {
            let dir = image.parent()?;
            // arch/arm64/boot/Image: three levels below the build directory.
            let tops = [Some(dir), dir.ancestors().nth(3)];
            tops.into_iter()
                .flatten()
                .map(|d| d.join(name))
                .find(|p| p.is_file())
        };
        Ok(Prebuilt {
            vmlinux: beside("vmlinux"),
            system_map: beside("System.map"),
            image,
        })
    }

    /// Who it is; reads the whole image.
    ///
    /// # Errors
    /// [`Error::Kernel`], and [`Error::UnknownKernel`] if part of it is missing.
    pub fn identify(&self, name: &str) -> Result<KernelId, Error> {
        let size = std::fs::metadata(&self.image).map_err(|e| Error::Kernel(e.into()))?;
        if size.len() > MAX_IMAGE_BYTES {
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

fn version(image: &[u8]) -> Option<String> {
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
        help: "give an Image, a kernel build directory, or a name from `staleline kernel list`"
            .into(),
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
}
