// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The language of events: one line of text each.
//!
//! ```text
//! cpuN store wb|nc|wt RANGE = val      cpuN load wb|nc|wt RANGE     cpuN poll wb|nc|wt RANGE == val
//! cpuN dc cvac|ivac|civac|cvap|cvadp|cvau|zva|gva|gzva NAME+off
//! cpuN dmb|dsb sy|st|ld|[nsh|ish|osh][st|ld]
//! cpuN doorbell devM                   cpuN wait devM               cpuN acquire cpuM
//! devN read|write ns|snoop RANGE [= val]      devN poll ns|snoop RANGE == val
//! devN prefetch ns|snoop RANGE         devN wait devM
//! devN begin ID to|from|bidi RANGE     devN end ID
//! ```
//! `RANGE` is `NAME+lo..hi`: byte offsets, multiples of 8, the end not included.

use crate::program::{
    Barrier, Dc, Does, Event, GRANULE, Granules, LINE, MAX_NAME_LINES, MAX_OBSERVERS, MAX_SYMBOLS,
    Name, Observer, Op, Orders, Scope, Symbol, View,
};

/// Longest word, in bytes.
const MAX_WORD: usize = 24;

/// Names and symbols known so far.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    /// All names.
    pub names: Vec<Name>,
    /// All symbols, the first of which is `0`.
    pub symbols: Vec<String>,
}

impl Scene {
    /// The number of a value; new ones get one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn symbol(&mut self, text: &str) -> Result<Symbol, String> {
        let known = self.symbols.iter().position(|s| s == text);
        let number = match known {
            Some(number) => number,
            None => {
                word(text, "a value")?;
                if self.symbols.len() >= MAX_SYMBOLS {
                    return Err(format!("more than {} different values", MAX_SYMBOLS - 1));
                }
                self.symbols.push(text.to_owned());
                self.symbols.len() - 1
            }
        };
        Symbol::try_from(number).map_err(|e| e.to_string())
    }

    fn name(&self, text: &str) -> Result<&Name, String> {
        let name = self.names.iter().find(|n| n.text == text);
        name.ok_or_else(|| format!("`{text}` is not in `init`"))
    }

    /// The granules of `NAME+lo..hi`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn range(&self, text: &str) -> Result<Granules, String> {
        let (name, lo, hi) = split_range(text)?;
        let name = self.name(name)?;
        if hi > u32::from(name.lines) * LINE {
            return Err(format!(
                "`{text}` ends beyond what `init` gives of {}",
                name.text
            ));
        }
        Ok(granules(name.first, lo, hi))
    }

    /// The line of `NAME+off`.
    fn line(&self, text: &str) -> Result<u8, String> {
        let expected = || format!("expected NAME+offset, found `{text}`");
        let (name, offset) = text.split_once('+').ok_or_else(expected)?;
        let name = self.name(name)?;
        let offset: u32 = offset.parse().map_err(|_| expected())?;
        match u8::try_from(offset / LINE) {
            Ok(line) if line < name.lines => Ok(name.first + line),
            _ => Err(format!(
                "`{text}` is beyond what `init` gives of {}",
                name.text
            )),
        }
    }

    /// One event.
    ///
    /// # Errors
    /// What was expected, and what was found.
    pub fn event(&mut self, text: &str) -> Result<Event, String> {
        let mut words = text.split_whitespace();
        let by = observer(next(&mut words, "an observer: cpu0..cpu3, dev0..dev3")?)?;
        let op = match by {
            Observer::Cpu(_) => self.cpu(&mut words)?,
            Observer::Dev(_) => self.dev(&mut words)?,
        };
        match words.next() {
            Some(more) => Err(format!("expected the end, found `{more}`")),
            None => Ok(Event { by, op }),
        }
    }

    fn cpu<'a>(&mut self, words: &mut impl Iterator<Item = &'a str>) -> Result<Op, String> {
        const EXPECTED: &str = "load, store, poll, dc, dmb, dsb, doorbell, wait or acquire";
        let verb = next(words, EXPECTED)?;
        Ok(match verb {
            "load" | "store" | "poll" => self.access(verb, words, &cpu_view)?,
            "dc" => {
                let mnemonic = next(words, "an operation of dc")?;
                let op = Dc::ALL.into_iter().find(|d| d.name() == mnemonic);
                let op = op.ok_or_else(|| {
                    let all = Dc::ALL.map(Dc::name).join(", ");
                    format!("expected one of {all}, found `{mnemonic}`")
                })?;
                let line = self.line(next(words, "NAME+offset")?)?;
                Op::Dc { op, line }
            }
            "dmb" | "dsb" => {
                let (orders, scope) = barrier(next(words, "the type of the barrier")?)?;
                Op::Barrier(Barrier {
                    completes: verb == "dsb",
                    orders,
                    scope,
                })
            }
            "doorbell" => Op::Doorbell(dev(next(words, "devM")?)?),
            "wait" => Op::Wait(dev(next(words, "devM")?)?),
            "acquire" => match observer(next(words, "cpuM")?)? {
                Observer::Cpu(n) => Op::Acquire(n),
                other => return Err(format!("expected cpuM, found `{other}`")),
            },
            _ => return Err(format!("expected {EXPECTED}, found `{verb}`")),
        })
    }

    fn dev<'a>(&mut self, words: &mut impl Iterator<Item = &'a str>) -> Result<Op, String> {
        const EXPECTED: &str = "read, write, poll, prefetch, wait, begin or end";
        let verb = next(words, EXPECTED)?;
        Ok(match verb {
            "read" | "write" | "poll" | "prefetch" => self.access(verb, words, &dev_view)?,
            "wait" => Op::Wait(dev(next(words, "devM")?)?),
            "begin" => {
                let id = next(words, "the name of the transfer")?;
                word(id, "a transfer")?;
                let direction = match next(words, "to, from or bidi")? {
                    "to" => "to",
                    "from" => "from",
                    "bidi" => "bidi",
                    other => return Err(format!("expected to, from or bidi, found `{other}`")),
                };
                Op::Begin {
                    id: id.to_owned(),
                    direction,
                    bytes: self.range(next(words, "NAME+lo..hi")?)?,
                }
            }
            "end" => {
                let id = next(words, "the name of the transfer")?;
                word(id, "a transfer")?;
                Op::End { id: id.to_owned() }
            }
            _ => return Err(format!("expected {EXPECTED}, found `{verb}`")),
        })
    }

    fn access<'a>(
        &mut self,
        verb: &str,
        words: &mut impl Iterator<Item = &'a str>,
        view: &dyn Fn(&str) -> Result<View, String>,
    ) -> Result<Op, String> {
        let view = view(next(words, "how it goes to memory")?)?;
        let bytes = self.range(next(words, "NAME+lo..hi")?)?;
        let sign = match verb {
            "store" | "write" => "=",
            "poll" => "==",
            _ => "",
        };
        let does = match sign {
            "" if verb == "prefetch" => Does::Prefetch,
            "" => Does::Read,
            _ => {
                let found = next(words, sign)?;
                if found != sign {
                    return Err(format!("expected `{sign}`, found `{found}`"));
                }
                let value = self.symbol(next(words, "a value")?)?;
                if sign == "=" {
                    Does::Write(value)
                } else {
                    Does::Poll(value)
                }
            }
        };
        if matches!(does, Does::Poll(_)) && bytes.0.count_ones() != 1 {
            return Err(format!("a poll reads {GRANULE} bytes"));
        }
        Ok(Op::Access { does, view, bytes })
    }
}

/// Name and byte offsets of `NAME+lo..hi`, a valid range of at most [`MAX_NAME_LINES`] lines.
///
/// # Errors
/// What is wrong with it.
pub fn split_range(text: &str) -> Result<(&str, u32, u32), String> {
    let expected = || format!("expected NAME+lo..hi, found `{}`", clip(text));
    let (name, range) = text.split_once('+').ok_or_else(expected)?;
    word(name, "a name")?;
    let (lo, hi) = range.split_once("..").ok_or_else(expected)?;
    let lo: u32 = lo.parse().map_err(|_| expected())?;
    let hi: u32 = hi.parse().map_err(|_| expected())?;
    let most = LINE * u32::try_from(MAX_NAME_LINES).unwrap_or(u32::MAX / LINE);
    if lo >= hi || !lo.is_multiple_of(GRANULE) || !hi.is_multiple_of(GRANULE) || hi > most {
        return Err(format!(
            "`{}`: offsets are multiples of {GRANULE}, upwards, up to {most}",
            clip(text)
        ));
    }
    Ok((name, lo, hi))
}

/// The granules from byte `lo` to byte `hi` of a name that starts at line `first`.
pub fn granules(first: u8, lo: u32, hi: u32) -> Granules {
    let base = 8 * u32::from(first);
    (lo / GRANULE..hi / GRANULE)
        .filter_map(|g| u8::try_from(base + g).ok())
        .fold(Granules::NONE, |all, g| all.or(Granules::one(g)))
}

fn next<'a>(words: &mut impl Iterator<Item = &'a str>, expected: &str) -> Result<&'a str, String> {
    words
        .next()
        .ok_or_else(|| format!("expected {expected}, found the end"))
}

/// At most so much of a text as a message can bear.
fn clip(text: &str) -> String {
    text.chars().take(2 * MAX_WORD).collect()
}

fn word(text: &str, what: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if text.is_empty() || text.len() > MAX_WORD || !text.chars().all(fine) {
        return Err(format!(
            "{what} has 1 to {MAX_WORD} letters, digits, `_` and `-`, found `{}`",
            clip(text)
        ));
    }
    Ok(())
}

fn observer(text: &str) -> Result<Observer, String> {
    let number = |n: &str| n.parse::<u8>().ok().filter(|n| *n < MAX_OBSERVERS);
    let cpu = text.strip_prefix("cpu").and_then(number);
    let dev = text.strip_prefix("dev").and_then(number);
    match (cpu, dev) {
        (Some(n), _) => Ok(Observer::Cpu(n)),
        (_, Some(n)) => Ok(Observer::Dev(n)),
        _ => Err(format!(
            "expected cpu0..cpu{0} or dev0..dev{0}, found `{1}`",
            MAX_OBSERVERS - 1,
            clip(text)
        )),
    }
}

fn dev(text: &str) -> Result<u8, String> {
    match observer(text)? {
        Observer::Dev(n) => Ok(n),
        Observer::Cpu(_) => Err(format!("expected devM, found `{text}`")),
    }
}

fn cpu_view(text: &str) -> Result<View, String> {
    match text {
        "wb" => Ok(View::WriteBack),
        "nc" => Ok(View::NonCacheable),
        "wt" => Ok(View::WriteThrough),
        _ => Err(format!("expected wb, nc or wt, found `{}`", clip(text))),
    }
}

fn dev_view(text: &str) -> Result<View, String> {
    match text {
        "ns" => Ok(View::NonSnooping),
        "snoop" => Ok(View::Snooping),
        _ => Err(format!("expected ns or snoop, found `{}`", clip(text))),
    }
}

fn barrier(text: &str) -> Result<(Orders, Scope), String> {
    let scopes = [
        ("nsh", Scope::Own),
        ("ish", Scope::Inner),
        ("osh", Scope::Everyone { outer: true }),
    ];
    let access = |rest: &str| match rest {
        "" => Some(Orders::Full),
        "st" => Some(Orders::Stores),
        "ld" => Some(Orders::Loads),
        _ => None,
    };
    for (prefix, scope) in scopes {
        if let Some(orders) = text.strip_prefix(prefix).and_then(access) {
            return Ok((orders, scope));
        }
    }
    let everyone = Scope::Everyone { outer: false };
    match text {
        "sy" => Ok((Orders::Full, everyone)),
        "st" | "ld" => Ok((access(text).unwrap_or(Orders::Full), everyone)),
        _ => Err(format!(
            "expected sy, st, ld, or nsh, ish, osh with or without st or ld, found `{}`",
            clip(text)
        )),
    }
}
