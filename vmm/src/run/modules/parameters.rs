// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Parameters of modules, read as the kernel reads them (kernel/params.c, lib/cmdline.c, lib/kstrtox.c): it
//! passes over one that a module does not have without a word that reaches anybody.

use std::fmt;

use crate::names;

/// A parameter that a module has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameter {
    /// Its name.
    pub name: String,
    /// Its type, as the module's author declares it.
    pub declared: Option<String>,
    /// What it takes.
    pub kind: Kind,
}

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One value.
    One(Scalar),
    /// Values with commas between them.
    Array {
        /// How many at most.
        most: u32,
        /// Each of them.
        of: Scalar,
    },
    /// What only the module itself can say.
    Own,
}

/// Types of values that the kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    /// A number, and its limits.
    Number {
        /// What it is called.
        name: &'static str,
        /// The smallest; 0 takes no minus sign.
        from: i64,
        /// The largest.
        to: u64,
        /// In hexadecimal, with or without 0x.
        hex: bool,
    },
    /// `bool`, and the same by other names.
    Bool(&'static str),
    /// A text of limited length.
    Text,
}

const fn number(name: &'static str, from: i64, to: u64) -> Scalar {
    Scalar::Number {
        name,
        from,
        to,
        hex: false,
    }
}

/// The kernel's operations for parameters, by name behind `param_ops_`, and what they take.
const OPS: [(&str, Scalar); 14] = [
    ("byte", number("byte", 0, 0xff)),
    ("short", number("short", -0x8000, 0x7fff)),
    ("ushort", number("ushort", 0, 0xffff)),
    ("int", number("int", i32::MIN as i64, 0x7fff_ffff)),
    ("uint", number("uint", 0, 0xffff_ffff)),
    ("long", number("long", i64::MIN, i64::MAX as u64)),
    ("ulong", number("ulong", 0, u64::MAX)),
    ("ullong", number("ullong", 0, u64::MAX)),
    (
        "hexint",
        Scalar::Number {
            name: "hexint",
            from: 0,
            to: 0xffff_ffff,
            hex: true,
        },
    ),
    ("bool", Scalar::Bool("bool")),
    ("bool_enable_only", Scalar::Bool("bool")),
    ("invbool", Scalar::Bool("invbool")),
    ("bint", Scalar::Bool("bint")),
    ("charp", Scalar::Text),
];

/// Bytes of a text (`param_set_charp()`).
const TEXT_BYTES: usize = 1024;

/// How values of a `bool` start. Some of these, only newer kernels know.
const BOOL_STARTS: &str = "yYtT1nNfF0eEdD";

/// What every module takes (`unknown_module_param_cb()`).
const OF_ALL: [&str; 2] = ["async_probe", "dyndbg"];

impl Scalar {
    /// By the name of its operations.
    pub fn of_ops(ops: &str) -> Option<Self> {
        let name = ops.strip_prefix("param_ops_")?;
        let found = OPS.iter().find(|(known, _)| *known == name);
        found.map(|(_, scalar)| *scalar)
    }

    /// Whether it can certainly not be such a value.
    fn refuses(self, value: &str) -> bool {
        match self {
            Scalar::Number { from, to, hex, .. } => !is_number(value, from, to, hex),
            Scalar::Bool(_) => {
                let mut chars = value.chars();
                match chars.next() {
                    Some('o' | 'O') => !matches!(chars.next(), Some('n' | 'N' | 'f' | 'F')),
                    Some(first) => !BOOL_STARTS.contains(first),
                    None => true,
                }
            }
            Scalar::Text => value.len() > TEXT_BYTES,
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scalar::Number { name, .. } | Scalar::Bool(name) => name,
            Scalar::Text => "charp",
        })
    }
}

impl Kind {
    /// Why it can certainly not be given that value, as the end of a sentence; `None` is no value at all.
    fn refuses(self, value: Option<&str>) -> Option<String> {
        let needs = |what: &str| value.is_none().then(|| format!("needs a value, {what}"));
        match self {
            Kind::Own => None,
            // It need not be said that something is to be.
            Kind::One(scalar @ Scalar::Bool(_)) => {
                let value = value.filter(|value| scalar.refuses(value))?;
                Some(format!(
                    "takes a {scalar} (y, n, 1, 0), which `{value}` is not"
                ))
            }
            Kind::One(scalar) => needs(&format!("of type {scalar}")).or_else(|| {
                let value = value.filter(|value| scalar.refuses(value))?;
                Some(match scalar {
                    Scalar::Text => format!("takes at most {TEXT_BYTES} bytes"),
                    _ => format!("is of type {scalar}, which `{value}` is not"),
                })
            }),
            Kind::Array { most, of } => needs(&format!("each of type {of}")).or_else(|| {
                let values: Vec<&str> = value?.split(',').collect();
                if values.len() as u64 > u64::from(most) {
                    return Some(format!(
                        "takes at most {most} values, and {} are given",
                        values.len()
                    ));
                }
                let bad = values.into_iter().find(|value| of.refuses(value))?;
                Some(format!("takes values of type {of}, which `{bad}` is not"))
            }),
        }
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.name)?;
        match (self.kind, &self.declared) {
            (Kind::One(scalar), _) => write!(f, "{scalar}")?,
            (Kind::Array { most, of }, _) => write!(f, "{of}, at most {most}")?,
            (Kind::Own, Some(declared)) => write!(f, "{declared}")?,
            (Kind::Own, None) => f.write_str("of its own type")?,
        }
        f.write_str(")")
    }
}

/// What is wrong with the parameters that a module is given, and the way out.
pub(super) fn check(has: &[Parameter], given: &str) -> Result<(), (String, String)> {
    let list = || match has {
        [] => "it has no parameters: leave them out".to_owned(),
        has => {
            let all: Vec<String> = has.iter().map(ToString::to_string).collect();
            format!("it has {}", all.join(", "))
        }
    };
    for (name, value) in words(given) {
        if name == "--" && value.is_none() {
            return Err((
                "the kernel takes no parameters behind `--`".into(),
                "leave it out".into(),
            ));
        }
        let same = |known: &str| known.replace('-', "_") == name.replace('-', "_");
        let Some(known) = has.iter().find(|p| same(&p.name)) else {
            if OF_ALL.iter().any(|known| same(known)) {
                continue;
            }
            return Err((
                format!("it has no parameter `{name}`, which the kernel would pass over"),
                names::suggestion(&name, has.iter().map(|p| p.name.as_str())) + &list(),
            ));
        };
        if let Some(why) = known.kind.refuses(value.as_deref()) {
            return Err((format!("its parameter `{}` {why}", known.name), list()));
        }
    }
    Ok(())
}

/// Names and values, with white space between them that stands in no quotes.
fn words(given: &str) -> Vec<(String, Option<String>)> {
    let mut all = Vec::new();
    let mut rest = given.trim_start_matches(is_space);
    while !rest.is_empty() {
        let mut quoted = false;
        let end = rest.find(|c| {
            quoted ^= c == '"';
            is_space(c) && !quoted
        });
        let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
        rest = behind.trim_start_matches(is_space);
        // Quotes go from around all of it, or from around the value.
        let (word, whole) = match word.strip_prefix('"') {
            Some(word) => (word.strip_suffix('"').unwrap_or(word), true),
            None => (word, false),
        };
        all.push(match word.split_once('=') {
            Some((name, value)) => {
                let inner = value.strip_prefix('"').filter(|_| !whole);
                let value = inner.map_or(value, |v| v.strip_suffix('"').unwrap_or(v));
                (name.to_owned(), Some(value.to_owned()))
            }
            None => (word.to_owned(), None),
        });
    }
    all
}

/// White space, to the kernel.
fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{b}'
}

/// Whether it is a number within these limits, as the kernel writes them: 0x10, 020 and 16 are one.
fn is_number(value: &str, from: i64, to: u64, hex: bool) -> bool {
    let value = value.strip_suffix('\n').unwrap_or(value);
    let (negative, digits) = match (value.strip_prefix('-'), value.strip_prefix('+')) {
        (Some(digits), _) => (true, digits),
        (None, Some(digits)) => (false, digits),
        (None, None) => (false, value),
    };
    if negative && from == 0 {
        return false;
    }
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match (lower.strip_prefix("0x"), hex) {
        (Some(digits), _) => (16, digits),
        (None, true) => (16, &*lower),
        (None, false) if lower.starts_with('0') => (8, &*lower),
        (None, false) => (10, &*lower),
    };
    // from_str_radix() takes signs of its own.
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return false;
    }
    match u64::from_str_radix(digits, radix) {
        Ok(number) if negative => number <= from.unsigned_abs(),
        Ok(number) => number <= to,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(name: &str, ops: &str) -> Parameter {
        Parameter {
            name: name.into(),
            declared: None,
            kind: Scalar::of_ops(ops).map_or(Kind::Own, Kind::One),
        }
    }

    fn has() -> Vec<Parameter> {
        let mut has = vec![
            parameter("forget", "param_ops_bool"),
            parameter("count", "param_ops_int"),
            parameter("size_kb", "param_ops_ushort"),
            parameter("mask", "param_ops_hexint"),
            parameter("big", "param_ops_ullong"),
            parameter("who", "param_ops_charp"),
            parameter("mode", "mode_ops"),
        ];
        has.push(Parameter {
            name: "list".into(),
            declared: None,
            kind: Kind::Array {
                most: 2,
                of: Scalar::of_ops("param_ops_uint").unwrap(),
            },
        });
        has
    }

    #[test]
    fn what_the_kernel_takes_is_taken() {
        for given in [
            "",
            "  ",
            "forget",
            "forget=1 forget=Yes forget=on forget=oFF forget=false",
            "count=-2147483648 count=0x7fffffff count=+7 count=0 count=017",
            "count=\"5\" \"count=5\"",
            "size-kb=65535",
            "mask=ff mask=0xFF mask=0",
            "big=18446744073709551615",
            "who=\"a b=c\" who= who=a,b",
            "mode mode=whatever",
            "list=1 list=1,0x2",
            "async_probe dyndbg=+p async-probe=1",
        ] {
            assert_eq!(check(&has(), given), Ok(()), "{given}");
        }
    }

    #[test]
    fn what_it_cannot_take_is_refused() {
        for (given, why) in [
            ("forgot=1", "no parameter `forgot`"),
            ("Count=1", "no parameter `Count`"),
            ("=1", "no parameter ``"),
            ("count", "needs a value, of type int"),
            ("count=", "type int, which `` is not"),
            ("count=x", "type int, which `x` is not"),
            ("count=5x", "`5x`"),
            ("count=08", "`08`"),
            ("count=0x", "`0x`"),
            ("count=--5", "`--5`"),
            ("count=+-5", "`+-5`"),
            ("count=\"5 6\"", "`5 6`"),
            ("count=2147483648", "`2147483648`"),
            ("count=-2147483649", "`-2147483649`"),
            ("size_kb=-1", "`-1`"),
            ("mask=0xfg", "`0xfg`"),
            ("big=18446744073709551616", "ullong"),
            ("forget=maybe", "takes a bool"),
            ("forget=", "takes a bool"),
            ("forget=ox", "takes a bool"),
            ("list=1,2,3", "at most 2 values, and 3"),
            ("list=1,", "uint, which `` is not"),
            ("list", "each of type uint"),
            ("count=1 -- x", "behind `--`"),
        ] {
            let (told, help) = check(&has(), given).unwrap_err();
            assert!(told.contains(why), "{given}: {told}");
            let listed = help.contains("forget (bool), count (int), size_kb (ushort)");
            assert!(listed || given.contains("--"), "{help}");
        }
        let long = format!("who={}", "x".repeat(1025));
        assert!(check(&has(), &long).unwrap_err().0.contains("1024 bytes"));
        let (_, help) = check(&has(), "forgt=1").unwrap_err();
        assert!(help.starts_with("did you mean `forget`? it has"), "{help}");
        assert!(help.ends_with("mode (of its own type), list (uint, at most 2)"));
        assert!(check(&[], "a=1").unwrap_err().1.contains("no parameters"));
    }
}
