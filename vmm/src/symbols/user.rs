// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Code of user processes: the agent's, and that of the programs that it ran. The agent is linked to
//! addresses of its own; what others have mapped, it has told.

use std::cell::{OnceCell, RefCell};
use std::path::{Path, PathBuf};

use object::read::elf::{FileHeader as _, ProgramHeader as _};
use object::{Endianness, elf::FileHeader64, elf::PT_LOAD};
use staleline_protocol::report::Report;

use super::elf::{Elf, Names};
use super::excerpt::Excerpts;
use staleline_results::{Frame, Input};

/// A file whose code user processes have run, and where they had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// On the host.
    pub host: PathBuf,
    /// First address, one past the last, and the place in the file of the first, each in bytes.
    pub parts: Vec<(u64, u64, u64)>,
}

/// What processes had mapped of the files that the guest was given, by what the agent has told. Two that
/// had different files in one place: the later one counts.
pub fn mapped(reports: &[Report], inputs: &[Input]) -> Vec<Mapped> {
    let told = reports.iter().rev().filter_map(|report| match report {
        Report::Mapped { file, parts, .. } => Some((file, parts)),
        _ => None,
    });
    told.filter_map(|(file, parts)| {
        Some(Mapped {
            host: on_host(file, inputs)?,
            parts: parts.clone(),
        })
    })
    .collect()
}

/// Where a file of the guest is on the host.
pub(super) fn on_host(guest: &str, inputs: &[Input]) -> Option<PathBuf> {
    let exact = inputs.iter().rev().find(|input| input.guest == guest);
    if let Some(input) = exact {
        return Some(PathBuf::from(&input.host));
    }
    let guest = Path::new(guest);
    let mut candidates = inputs.iter().rev().filter_map(|input| {
        let below = guest.strip_prefix(&input.guest).ok()?;
        Some(Path::new(&input.host).join(below))
    });
    candidates.find(|path| path.is_file())
}

/// What is known of it.
pub(super) struct User {
    files: Vec<Code>,
    /// Parts, and the index of the file; the first that fits counts.
    parts: Vec<((u64, u64, u64), usize)>,
    agent: Option<(Code, u64)>,
}

/// A file, opened when it is first asked for.
pub(super) struct Code {
    path: PathBuf,
    who: String,
    /// The guest has told where it was.
    is_mapped: bool,
    elf: OnceCell<Option<Elf>>,
    names: OnceCell<Option<Names>>,
    segments: OnceCell<Vec<Segment>>,
    excerpts: OnceCell<Excerpts>,
}

/// A part of an ELF file that is loaded: where it is in the file, how long, and its address.
#[derive(Debug, Clone, Copy)]
struct Segment {
    offset: u64,
    len: u64,
    va: u64,
}

impl User {
    /// `agent`: its ELF file, and the difference between an address of its process and there.
    pub fn new(agent: Option<(&Path, u64)>, mapped: &[Mapped]) -> Self {
        let mut user = User {
            files: Vec::new(),
            parts: Vec::new(),
            agent: agent.map(|(path, bias)| (Code::new(path, "the agent".into(), false), bias)),
        };
        for file in mapped {
            let known = user.files.iter().position(|f| f.path == file.host);
            let index = known.unwrap_or_else(|| {
                let name = file.host.file_name().unwrap_or(file.host.as_os_str());
                let who = name.to_string_lossy().into_owned();
                user.files.push(Code::new(&file.host, who, true));
                user.files.len() - 1
            });
            let parts = file.parts.iter().map(|part| (*part, index));
            user.parts.extend(parts);
        }
        user
    }

    /// The file that has the code at an address, and the address there.
    fn at(&self, va: u64) -> Option<(&Code, u64)> {
        let part = self
            .parts
            .iter()
            .find(|((from, to, _), _)| (*from..*to).contains(&va));
        let Some(((from, _, offset), file)) = part else {
            let (agent, bias) = self.agent.as_ref()?;
            return Some((agent, va.wrapping_sub(*bias)));
        };
        let code = self.files.get(*file)?;
        let place = offset.checked_add(va - from)?;
        Some((code, code.linked(place)?))
    }

    /// `function+0xoffset`.
    pub fn symbol(&self, va: u64, troubles: &RefCell<Vec<String>>) -> Option<String> {
        let (code, va) = self.at(va)?;
        let known = code.names(troubles).and_then(|names| names.symbol(va));
        // A stripped library tells no more.
        known.or_else(|| code.is_mapped.then(|| format!("{}+{va:#x}", code.who)))
    }

    /// The user's program that has the code at an address.
    pub fn program(&self, va: u64) -> Option<String> {
        let (code, _) = self.at(va)?;
        code.is_program().then(|| code.who.clone())
    }

    /// The functions at an address, innermost first, with files and lines.
    pub fn frames(&self, va: u64, troubles: &RefCell<Vec<String>>) -> Option<Vec<Frame>> {
        let (code, va) = self.at(va)?;
        Some(code.elf(troubles)?.frames(va, None, code.excerpts()))
    }
}

impl Code {
    fn new(path: &Path, who: String, is_mapped: bool) -> Self {
        Code {
            path: path.to_owned(),
            who,
            is_mapped,
            elf: OnceCell::new(),
            names: OnceCell::new(),
            segments: OnceCell::new(),
            excerpts: OnceCell::new(),
        }
    }

    /// Its sources. The agent is no business of the user's.
    fn excerpts(&self) -> Option<&Excerpts> {
        let excerpts = || Excerpts::new(&self.path, None);
        self.is_mapped.then(|| self.excerpts.get_or_init(excerpts))
    }

    /// Whether it is the user's to compile. Distributions' libraries come without lines.
    fn is_program(&self) -> bool {
        self.is_mapped && !self.who.contains(".so")
    }

    /// The address that a byte of the file is linked to.
    fn linked(&self, place: u64) -> Option<u64> {
        let segments = self.segments.get_or_init(|| segments(&self.path));
        let holds = |s: &&Segment| (s.offset..s.offset.saturating_add(s.len)).contains(&place);
        let segment = segments.iter().find(holds)?;
        segment.va.checked_add(place - segment.offset)
    }

    fn elf(&self, troubles: &RefCell<Vec<String>>) -> Option<&Elf> {
        let what = format!("files and lines of {}", self.who);
        let elf = self.elf.get_or_init(|| {
            if self.is_program() && !Elf::has_lines(&self.path) {
                troubles.borrow_mut().push(format!(
                    "files and lines of {} are missing, because it was compiled without -g",
                    self.who
                ));
            }
            told(troubles, &what, &self.path, Elf::load(&self.path))
        });
        elf.as_ref()
    }

    fn names(&self, troubles: &RefCell<Vec<String>>) -> Option<&Names> {
        let what = format!("names of functions of {}", self.who);
        let load = || told(troubles, &what, &self.path, Names::load(&self.path));
        self.names.get_or_init(load).as_ref()
    }
}

/// `what` a file is for: noted if it cannot be read.
pub(super) fn told<T>(
    troubles: &RefCell<Vec<String>>,
    what: &str,
    path: &Path,
    result: Result<T, String>,
) -> Option<T> {
    let tell = |e: &String| {
        let path = path.display();
        let trouble = format!("{what} are missing, because {path} cannot be used: {e}");
        troubles.borrow_mut().push(trouble);
    };
    result.inspect_err(tell).ok()
}

/// What of a file is loaded; nothing if it cannot be read.
fn segments(path: &Path) -> Vec<Segment> {
    let Ok(bytes) = std::fs::read(path) else {
        return Vec::new();
    };
    let read = || -> object::read::Result<Vec<Segment>> {
        let header = FileHeader64::<Endianness>::parse(&*bytes)?;
        let endian = header.endian()?;
        let all = header.program_headers(endian, &*bytes)?.iter();
        let loaded = all.filter(|s| s.p_type(endian) == PT_LOAD).map(|s| {
            let (offset, len) = s.file_range(endian);
            Segment {
                offset,
                len,
                va: s.p_vaddr(endian),
            }
        });
        Ok(loaded.collect())
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(guest: &str, host: &Path) -> Input {
        Input {
            guest: guest.into(),
            host: host.display().to_string(),
            hash: String::new(),
        }
    }

    #[test]
    fn files_of_the_guest_are_found_on_the_host() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("lib")).unwrap();
        let library = dir.path().join("lib/libx.so");
        std::fs::write(&library, "").unwrap();
        let inputs = [
            input("/", dir.path()),
            input("/root/prog", Path::new("/home/me/prog")),
        ];
        let report = |file: &str| Report::Mapped {
            pid: 50,
            task: "prog".into(),
            file: file.into(),
            parts: vec![(0x1000, 0x2000, 0)],
        };
        let all = ["/root/prog", "/lib/libx.so", "/lib/none"].map(report);
        let hosts: Vec<_> = mapped(&all, &inputs).into_iter().map(|m| m.host).collect();
        assert_eq!(hosts, [library, PathBuf::from("/home/me/prog")]);
    }

    #[test]
    fn an_address_leads_to_the_function_of_the_file_that_was_there() {
        // This program stands in for one that was mapped somewhere else.
        let own = std::env::current_exe().unwrap();
        let bytes = std::fs::read(&own).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let map = object::Object::symbol_map(&file);
        let known = |s: &&object::SymbolMapName<'_>| s.name().contains("segments");
        let symbol = map.symbols().iter().find(known).unwrap();
        let segments = segments(&own);
        let holds = |s: &&Segment| (s.va..s.va + s.len).contains(&symbol.address());
        let segment = segments.iter().find(holds).unwrap();
        let mapped = Mapped {
            host: own,
            parts: vec![(0x7000_0000, 0x7000_0000 + segment.len, segment.offset)],
        };
        let troubles = RefCell::default();
        let user = User::new(None, &[mapped]);
        let va = 0x7000_0000 + (symbol.address() - segment.va);
        let name = user.symbol(va, &troubles).unwrap();
        assert!(name.contains("segments"), "{name}");
        assert_eq!(user.symbol(0x6fff_ffff, &troubles), None);
        assert!(troubles.borrow().is_empty());
    }
}
