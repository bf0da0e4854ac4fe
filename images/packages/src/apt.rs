// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! apt, for a machine that is none: nothing is installed there, and all its state is in a directory of ours.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use staleline_support::child::{self, Said};

use super::error::{PackagesError, program};

const GET: &str = "apt-get";
const CACHE: &str = "apt-cache";

/// How long apt may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// A package that says that /bin, /lib and /sbin are links into /usr, as they are from the start in what we
/// make. Without it, one that depends on that gets a tool with all of perl, which would move them.
const MERGED: &str = "usr-is-merged";

/// What apt says of what there is not.
const UNKNOWN: [&str; 4] = [
    "Unable to locate package",
    "has no installation candidate",
    "was not found",
    "unmet dependencies",
];

/// The programs.
pub(super) struct Apt {
    get: PathBuf,
    cache: PathBuf,
    options: Vec<OsString>,
}

impl Apt {
    /// With its lists in that directory, and another file of sources than the machine's.
    pub fn new(lists: &Path, sources: Option<&Path>) -> Result<Self, PackagesError> {
        let status = lists.join("status");
        for dir in [lists.join("lists/partial"), lists.join("cache")] {
            fs::create_dir_all(&dir).map_err(PackagesError::io("create", &dir))?;
        }
        fs::write(&status, "").map_err(PackagesError::io("write", &status))?;
        let mut options = Vec::new();
        let mut set = |key: &str, value: &std::ffi::OsStr| {
            let mut word = OsString::from(format!("{key}="));
            word.push(value);
            options.extend([OsString::from("-o"), word]);
        };
        set("Dir::State", lists.as_os_str());
        set("Dir::State::status", status.as_os_str());
        set("Dir::Cache", lists.join("cache").as_os_str());
        if let Some(sources) = sources {
            set("Dir::Etc::sourcelist", sources.as_os_str());
            set("Dir::Etc::sourceparts", "/dev/null".as_ref());
        }
        for (key, value) in [
            ("APT::Architecture", "arm64"),
            ("APT::Architectures", "arm64"),
            ("APT::Install-Recommends", "false"),
            // Another user could not write to the cache.
            ("APT::Sandbox::User", "root"),
            ("Acquire::Languages", "none"),
            (
                "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled",
                "false",
            ),
            ("Acquire::Retries", "2"),
            ("Acquire::http::Timeout", "30"),
            ("Acquire::https::Timeout", "30"),
        ] {
            set(key, value.as_ref());
        }
        Ok(Apt {
            get: program(GET)?,
            cache: program(CACHE)?,
            options,
        })
    }

    fn run(&self, program: &Path, words: &[&str]) -> Result<Said, PackagesError> {
        let mut command = Command::new(program);
        command
            .args(&self.options)
            .args(words)
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive");
        child::output_within(&mut command, PATIENCE).map_err(|e| PackagesError::Failed {
            program: GET,
            status: "it could not be run to its end".into(),
            said: e.to_string(),
        })
    }

    /// Fetches the lists of what there is; gives what went wrong with one or the other of the sources,
    /// which need not matter.
    pub fn update(&self) -> Result<String, PackagesError> {
        let said = self.run(&self.get, &["-q", "update"])?;
        let complaint = child::complaint(&said.stderr);
        match said.status.success() {
            true => Ok(complaint),
            false => Err(failed(&said, complaint)),
        }
    }

    /// Downloads these packages and all that they need into a directory.
    pub fn download(&self, names: &[String], to: &Path, doubts: &str) -> Result<(), PackagesError> {
        let partial = to.join("partial");
        fs::create_dir_all(&partial).map_err(PackagesError::io("create", &partial))?;
        let to = format!("Dir::Cache::archives={}", to.display());
        let mut words = vec!["-q", "-y", "--download-only", "-o", &to, "install"];
        words.extend(names.iter().map(String::as_str));
        let merged = self.run(&self.cache, &["show", MERGED])?;
        if merged.status.success() {
            words.push(MERGED);
        }
        let said = self.run(&self.get, &words)?;
        if said.status.success() {
            return Ok(());
        }
        let complaint = child::complaint(&said.stderr);
        let out = String::from_utf8_lossy(&said.stdout);
        // Of what it knows nothing because it could not be asked, nobody can say that it is not there.
        let unknown = |text: &str| UNKNOWN.iter().any(|words| text.contains(words));
        if doubts.is_empty() && (unknown(&complaint) || unknown(&out)) {
            return Err(PackagesError::Unknown { said: complaint });
        }
        let told = [complaint.as_str(), doubts];
        let told = told.into_iter().filter(|text| !text.is_empty());
        Err(failed(&said, told.collect::<Vec<_>>().join("\n")))
    }
}

fn failed(said: &Said, complaint: String) -> PackagesError {
    PackagesError::Failed {
        program: GET,
        status: said.status.to_string(),
        said: complaint,
    }
}
