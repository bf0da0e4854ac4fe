// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Where the configuration of a kernel can be read that somebody built.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use memchr::memmem;
use staleline_kernels::Kconfig;

/// With CONFIG_IKCONFIG a kernel has its configuration between two such words, compressed by gzip
/// (kernel/configs.c).
const EMBEDDED: &[u8] = b"IKCFG_ST";

/// What gzip begins with: its magic, and deflate.
const GZIP: &[u8] = &[0x1f, 0x8b, 8];

/// Larger images are refused elsewhere; a configuration is much smaller than this.
const MAX_IMAGE: u64 = 1 << 30;
const MAX_CONFIG: u64 = 1 << 24;

/// A configuration and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// It.
    pub config: Kconfig,
    /// In words.
    pub place: String,
}

/// The configuration of an `Image`: the one inside it, which is what it was built with whatever became
/// of the build directory, or that of the first of `files` that has any.
///
/// # Errors
/// If the image, or a file that is there, cannot be read.
pub fn find(image: &Path, files: &[PathBuf]) -> io::Result<Option<Found>> {
    if let Some(config) = embedded(image)? {
        let place = format!("inside {}", image.display());
        return Ok(Some(Found { config, place }));
    }
    of_files(files)
}

/// The configuration in the first of these files that has any.
///
/// # Errors
/// If one that is there cannot be read.
pub fn of_files(files: &[PathBuf]) -> io::Result<Option<Found>> {
    for file in files.iter().filter(|file| file.is_file()) {
        let mut text = Vec::new();
        File::open(file)?.take(MAX_CONFIG).read_to_end(&mut text)?;
        let config = Kconfig::parse(&String::from_utf8_lossy(&text));
        if !config.is_empty() {
            let place = file.display().to_string();
            return Ok(Some(Found { config, place }));
        }
    }
    Ok(None)
}

fn embedded(image: &Path) -> io::Result<Option<Kconfig>> {
    let mut bytes = Vec::new();
    File::open(image)?.take(MAX_IMAGE).read_to_end(&mut bytes)?;
    Ok(memmem::find_iter(&bytes, EMBEDDED).find_map(|at| {
        // The word alone may stand anywhere.
        let packed = bytes.get(at + EMBEDDED.len()..)?;
        let mut text = Vec::new();
        let unpacked = packed.starts_with(GZIP).then(|| {
            GzDecoder::new(packed)
                .take(MAX_CONFIG)
                .read_to_end(&mut text)
        });
        unpacked?.ok()?;
        let config = Kconfig::parse(&String::from_utf8_lossy(&text));
        (!config.is_empty()).then_some(config)
    }))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use staleline_kernels::Setting;

    use super::*;

    fn image_with(config: &str) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(config.as_bytes()).unwrap();
        // The word is in the kernel's text, too.
        let mut image = b"code IKCFG_ST code IKCFG_ST".to_vec();
        image.extend(gzip.finish().unwrap());
        image.extend(b"IKCFG_ED more");
        image
    }

    #[test]
    fn what_is_inside_the_image_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let (image, beside) = (dir.path().join("Image"), dir.path().join(".config"));
        std::fs::write(&image, image_with("CONFIG_A=y\n")).unwrap();
        std::fs::write(&beside, "CONFIG_A=m\n").unwrap();
        let files = [dir.path().join("none"), beside.clone()];
        let found = find(&image, &files).unwrap().unwrap();
        assert_eq!(found.config.setting("CONFIG_A"), Setting::BuiltIn);
        assert!(found.place.starts_with("inside "), "{}", found.place);

        std::fs::write(&image, "no configuration").unwrap();
        let found = find(&image, &files).unwrap().unwrap();
        assert_eq!(found.config.setting("CONFIG_A"), Setting::Module);
        assert_eq!(found.place, beside.display().to_string());
        std::fs::write(&beside, "").unwrap();
        assert_eq!(find(&image, &files).unwrap(), None);
        assert!(find(&dir.path().join("none"), &files).is_err());
    }

    #[test]
    fn a_damaged_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("Image");
        let mut bytes = image_with("CONFIG_A=y\n");
        let end = bytes.len() - 30;
        bytes.truncate(end);
        std::fs::write(&image, &bytes).unwrap();
        assert_eq!(find(&image, &[]).unwrap(), None);
    }
}
