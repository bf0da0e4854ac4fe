// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `staleline kernel list`, for people.

use std::fmt::Write as _;

use crate::run::choice;
use crate::run::stacks::KernelRow;
use crate::spec::quote;

/// Stacks first, builds of the user's own below, and how to come to what is missing.
pub fn table(rows: &[KernelRow]) -> String {
    let mut out = String::new();
    let (own, stacks): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.build.is_some());
    for row in &stacks {
        let built = row.version.as_deref().unwrap_or("not built");
        let (name, patches) = (&row.name, row.patches);
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name:<28}{patches:>3} patches  {built}");
    }
    if !own.is_empty() {
        let _ = writeln!(out, "\nbuilds of your own:");
    }
    for row in &own {
        let Some(build) = &row.build else { continue };
        let name = &row.name;
        let _ = match &row.version {
            Some(version) => writeln!(out, "{name:<28}{version}"),
            None => writeln!(
                out,
                "{name:<28}not in the cache any more; {}",
                choice::command(build)
            ),
        };
        let mut made_of = vec![build.patches.clone()];
        let fragments = build.fragments.iter();
        made_of.extend(fragments.map(|f| quote(&f.display().to_string())));
        let source = quote(&build.source.display().to_string());
        let when = when(build.built);
        let _ = writeln!(out, "    {} of {source}, {when}", made_of.join(" + "));
    }
    let missing: Vec<_> = stacks.iter().filter(|row| row.version.is_none()).collect();
    if let Some(first) = missing.first() {
        let _ = writeln!(
            out,
            "\nWhat is not built is built by the first run that names it, or by: staleline kernel build \
             --stack {}",
            first.name
        );
    }
    if own.is_empty() {
        let _ = writeln!(
            out,
            "\nA tree of your own gets a name here by: staleline kernel build --src DIR"
        );
    }
    out
}

/// A time in seconds since 1970, in UTC.
fn when(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok();
    let time = time.and_then(|s| jiff::Timestamp::from_second(s).ok());
    time.map_or_else(
        || "at no time known".into(),
        |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use staleline_kernels::Named;

    use super::*;

    fn stack(name: &str, version: Option<&str>) -> KernelRow {
        KernelRow {
            name: name.into(),
            version: version.map(str::to_owned),
            hash: None,
            image: None,
            patches: 0,
            build: None,
        }
    }

    fn own(version: Option<&str>) -> KernelRow {
        KernelRow {
            build: Some(Named {
                name: "linux".into(),
                source: "/src/my linux".into(),
                digest: "77".into(),
                patches: "base+lockdep".into(),
                stack_dir: None,
                fragments: vec!["/etc/x.config".into()],
                built: 1_764_275_400,
                hash: "5f".into(),
            }),
            ..stack("linux", version)
        }
    }

    #[test]
    fn the_list_advises_what_there_is_to_do() {
        let built = stack("base", Some("6.12.117"));
        let text = table(&[built.clone(), stack("mine", None), own(Some("6.16.3"))]);
        assert_eq!(
            text,
            "base                          0 patches  6.12.117\n\
             mine                          0 patches  not built\n\
             \n\
             builds of your own:\n\
             linux                       6.16.3\n    \
             base+lockdep + /etc/x.config of '/src/my linux', 2025-11-27 20:30 UTC\n\
             \n\
             What is not built is built by the first run that names it, or by: staleline kernel build \
             --stack mine\n"
        );
        let text = table(std::slice::from_ref(&built));
        assert!(text.contains("kernel build --src DIR") && !text.contains("not built"));
        let text = table(&[built, own(None)]);
        let again = "kernel build --src '/src/my linux' --stack base+lockdep --fragment /etc/x.config \
                     --name linux\n";
        assert!(text.contains(again), "{text}");
    }

    #[test]
    fn any_number_is_a_time_or_none() {
        assert_eq!(when(0), "1970-01-01 00:00 UTC");
        assert_eq!(when(u64::MAX), "at no time known");
    }
}
