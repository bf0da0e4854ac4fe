// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What has to be on a machine: the table that `scripts/setup` installs from.

/// The table.
const TABLE: &str = include_str!("../../../scripts/needs");

/// What kind of thing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A program on the search path.
    Program,
    /// One that building a kernel takes.
    Kernel,
    /// One that making a file system of Debian's packages takes, which only who asks for one needs.
    Packages,
    /// A program that may be where only root looks.
    Sbin,
    /// A module of Perl.
    Perl,
    /// A C header.
    Header,
    /// Any other file.
    File,
    /// A program that only tests take.
    Test,
    /// QEMU; the name is its least version.
    Qemu,
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// What it is.
    pub kind: Kind,
    /// Its name: of a program, a module, a file.
    pub name: &'static str,
    /// Debian's packages that bring it, with commas between them.
    packages: &'static str,
    /// Whether only hosts that are no arm64 need it.
    cross: bool,
}

impl Need {
    fn parse(line: &'static str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (kind, name, host, packages) =
            (words.next()?, words.next()?, words.next()?, words.next()?);
        let kind = match kind {
            "program" => Kind::Program,
            "kernel" => Kind::Kernel,
            "packages" => Kind::Packages,
            "sbin" => Kind::Sbin,
            "perl" => Kind::Perl,
            "header" => Kind::Header,
            "file" => Kind::File,
            "test" => Kind::Test,
            "qemu" => Kind::Qemu,
            _ => return None,
        };
        let cross = match host {
            "all" => false,
            "cross" => true,
            _ => return None,
        };
        let need = Need {
            kind,
            name,
            packages,
            cross,
        };
        words.next().is_none().then_some(need)
    }

    /// Debian's packages that bring it.
    pub fn packages(&self) -> impl Iterator<Item = &'static str> {
        self.packages.split(',')
    }

    /// The package to name for it.
    pub fn package(&self) -> &'static str {
        self.packages().next().unwrap_or(self.packages)
    }

    /// Whether this host needs it.
    pub fn here(&self) -> bool {
        !self.cross || cfg!(not(target_arch = "aarch64"))
    }
}

fn lines() -> impl Iterator<Item = &'static str> {
    let lines = TABLE.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// What this host needs, in the table's order.
pub fn all() -> impl Iterator<Item = Need> {
    lines().filter_map(Need::parse).filter(Need::here)
}

/// The same, of one kind.
pub fn of(kind: Kind) -> impl Iterator<Item = Need> {
    all().filter(move |need| need.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_understood() {
        let bad: Vec<_> = lines().filter(|line| Need::parse(line).is_none()).collect();
        assert!(bad.is_empty(), "{bad:?}");
        assert_eq!(of(Kind::Qemu).count(), 1);
        assert!(of(Kind::Kernel).any(|need| need.name == "make"));
    }

    #[test]
    fn several_packages_can_bring_one_thing() {
        let need = Need::parse("program cc all gcc,libc6-dev").unwrap();
        assert_eq!(need.packages().collect::<Vec<_>>(), ["gcc", "libc6-dev"]);
        assert_eq!(need.package(), "gcc");
        for bad in [
            "program cc all",
            "tool cc all gcc",
            "program cc arm gcc",
            "program cc all gcc x",
        ] {
            assert_eq!(Need::parse(bad), None, "{bad}");
        }
    }
}
