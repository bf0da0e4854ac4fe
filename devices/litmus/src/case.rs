// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The case file: TOML, any number of cases, each a program and, if it is part of a corpus, what
//! is expected of it.

use serde::Deserialize;

use crate::distinct;
use crate::due::Kind;
use crate::event::{self, Scene};
use crate::program::{
    Granules, Initial, MAX_EVENTS, MAX_LINES, MAX_NAMES, MAX_POLLED, Name, Observer, Op, Policy,
    Program, Symbols, View,
};

/// Version of the format.
pub const SCHEMA: u32 = 1;
/// Largest file, in bytes.
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// Cases of one file.
pub const MAX_CASES: usize = 256;

/// A file that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not TOML, or not of this format.
    #[error("{origin} is not valid\n{detail}")]
    Syntax {
        /// The file.
        origin: String,
        /// Place and reason.
        detail: String,
    },
    /// A case that makes no sense.
    #[error("{origin}: case `{case}`: {place}: {what}")]
    Case {
        /// The file.
        origin: String,
        /// The case's id.
        case: String,
        /// `event 3 (the text)`, or the field.
        place: String,
        /// What was expected, and what was found.
        what: String,
    },
    /// Something beyond a limit.
    #[error("{origin}: {what}")]
    Limit {
        /// The file.
        origin: String,
        /// Which, and the limit.
        what: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    #[serde(default)]
    case: Vec<CaseText>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct CaseText {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    title: String,
    #[serde(default)]
    cite: Vec<String>,
    #[serde(default)]
    setup: String,
    #[serde(default)]
    why: String,
    #[serde(default)]
    unsure: String,
    init: Vec<String>,
    cacheable: Vec<String>,
    policy: PolicyText,
    events: Vec<String>,
    allowed: Option<Vec<AllowedText>>,
    due: Option<Vec<DueText>>,
    #[serde(default)]
    also: Vec<usize>,
    #[serde(default)]
    lost_ok: Vec<usize>,
    #[serde(default)]
    fix: String,
    #[serde(default)]
    fixed_events: Vec<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PolicyText {
    Wt,
    Alloc,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct AllowedText {
    at: usize,
    bytes: Option<String>,
    values: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct DueText {
    kind: String,
    at: usize,
    bytes: String,
    #[serde(default)]
    or_at: Vec<usize>,
    #[serde(default)]
    alt: Vec<String>,
}

/// The legal values of some bytes of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// The read, by index.
    pub at: usize,
    /// Which of its bytes.
    pub bytes: Granules,
    /// Exactly these.
    pub values: Symbols,
}

/// A finding that is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Kind of hazard.
    pub kind: String,
    /// The ambiguous read, or the write that may be destroyed, or the event that destroys.
    pub at: usize,
    /// Bytes.
    pub bytes: Granules,
    /// Places that are as good.
    pub or_at: Vec<usize>,
    /// Kinds that can be defended too.
    pub alt: Vec<String>,
}

/// What a case says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expected {
    /// Legal values of every read.
    pub allowed: Vec<Allowed>,
    /// Findings due.
    pub due: Vec<Due>,
    /// Events at which another finding is a consequence, neither due nor wrong.
    pub also: Vec<usize>,
    /// Writes that may be discarded, but which nobody can read before they are overwritten.
    pub lost_ok: Vec<usize>,
}

/// One case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Its name.
    pub id: String,
    /// One line.
    pub title: String,
    /// Where the architecture or the kernel says so.
    pub cite: Vec<String>,
    /// Ports and tree.
    pub setup: String,
    /// The argument.
    pub why: String,
    /// Doubts.
    pub unsure: String,
    /// What there is to explore.
    pub program: Program,
    /// What is expected; none: a question.
    pub expected: Option<Expected>,
    /// The repair, in words.
    pub fix: String,
    /// The repaired program.
    pub fixed: Option<Program>,
}

/// Reads a file's text; `origin` is for messages.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(text: &str, origin: &str) -> Result<Vec<Case>, Error> {
    let limit = |what: String| Error::Limit {
        origin: origin.to_owned(),
        what,
    };
    if text.len() > MAX_FILE_BYTES {
        return Err(limit(format!("larger than {MAX_FILE_BYTES} bytes")));
    }
    let file: File = toml::from_str(text).map_err(|e| Error::Syntax {
        origin: origin.to_owned(),
        detail: e.to_string().trim_end().to_owned(),
    })?;
    if file.schema != SCHEMA {
        let found = file.schema;
        return Err(limit(format!(
            "schema = {found}, this version reads schema = {SCHEMA}"
        )));
    }
    if file.case.is_empty() || file.case.len() > MAX_CASES {
        return Err(limit(format!(
            "{} cases; a file has 1 to {MAX_CASES}, each under [[case]]",
            file.case.len()
        )));
    }
    let mut ids: Vec<String> = Vec::new();
    let cases = file.case.into_iter().enumerate();
    cases
        .map(|(i, text)| {
            let id = text.id.clone().unwrap_or_else(|| format!("case-{}", i + 1));
            let built = match ids.contains(&id) {
                true => Err((
                    "id".to_owned(),
                    "another case of the file has it too".to_owned(),
                )),
                false => build(text, &id),
            };
            ids.push(id.clone());
            built.map_err(|(place, what)| Error::Case {
                origin: origin.to_owned(),
                case: id.chars().take(64).collect(),
                place,
                what,
            })
        })
        .collect()
}

type Wrong = (String, String);

fn in_field(field: &str) -> impl Fn(String) -> Wrong + '_ {
    move |what| (field.to_owned(), what)
}

fn build(text: CaseText, id: &str) -> Result<Case, Wrong> {
    let (mut scene, initial) = initial(&text.init, &text.cacheable)?;
    let policy = match text.policy {
        PolicyText::Wt => Policy::WriteThrough,
        PolicyText::Alloc => Policy::Allocate,
    };
    let events = program(&mut scene, &text.events, "event")?;
    let fixed = program(&mut scene, &text.fixed_events, "fixed event")?;
    for (what, texts, events) in [
        ("event", &text.events, &events),
        ("fixed event", &text.fixed_events, &fixed),
    ] {
        if let Some((i, why)) = distinct::repeated(&initial, events) {
            let shown: String = texts[i].chars().take(80).collect();
            return Err((format!("{what} {i} (`{shown}`)"), why));
        }
    }
    let with = |events| Program {
        names: scene.names.clone(),
        symbols: scene.symbols.clone(),
        initial,
        policy,
        events,
    };
    let program = with(events);
    let fixed = (!fixed.is_empty()).then(|| with(fixed));
    let expected = match (text.allowed, text.due) {
        (None, None) if !text.also.is_empty() || !text.lost_ok.is_empty() => {
            return Err(in_field("also, lost-ok")(
                "a case that expects nothing (`allowed`, `due`) has none".to_owned(),
            ));
        }
        (None, None) => None,
        (allowed, due) => Some(expected(
            &mut scene,
            &program,
            allowed.unwrap_or_default(),
            due.unwrap_or_default(),
            text.also,
            text.lost_ok,
        )?),
    };
    Ok(Case {
        id: id.to_owned(),
        title: text.title,
        cite: text.cite,
        setup: text.setup,
        why: text.why,
        unsure: text.unsure,
        program,
        expected,
        fix: text.fix,
        fixed,
    })
}

/// Names and contents from `init`: `NAME+lo..hi mem=value [dirty=value]`.
fn initial(init: &[String], cacheable: &[String]) -> Result<(Scene, [Initial; 64]), Wrong> {
    let wrong = in_field("init");
    let mut scene = Scene {
        names: Vec::new(),
        symbols: vec!["0".to_owned()],
    };
    let mut texts = Vec::new();
    for text in init {
        let range = text.split_whitespace().next().unwrap_or_default();
        let (name, lo, hi) = event::split_range(range).map_err(&wrong)?;
        let lines = u8::try_from(hi.div_ceil(64)).unwrap_or(u8::MAX);
        match scene.names.iter_mut().find(|n| n.text == name) {
            Some(n) => n.lines = n.lines.max(lines),
            None => scene.names.push(Name {
                text: name.to_owned(),
                first: 0,
                lines,
                cacheable: cacheable.iter().any(|c| c == name),
            }),
        }
        texts.push((name.to_owned(), lo, hi, text));
    }
    if let Some(unknown) = cacheable
        .iter()
        .find(|c| !scene.names.iter().any(|n| n.text == **c))
    {
        let what = format!("`{unknown}` is not in `init`");
        return Err(in_field("cacheable")(what));
    }
    let lines: usize = scene.names.iter().map(|n| usize::from(n.lines)).sum();
    if scene.names.is_empty() || scene.names.len() > MAX_NAMES || lines > MAX_LINES {
        return Err(wrong(format!(
            "{} names of {lines} lines; there may be 1 to {MAX_NAMES} of {MAX_LINES}",
            scene.names.len()
        )));
    }
    let mut first = 0;
    for name in &mut scene.names {
        name.first = first;
        first += name.lines;
    }
    let mut initial = [Initial::default(); 64];
    let mut given = Granules::NONE;
    for (name, lo, hi, text) in texts {
        let first = scene.names.iter().find(|n| n.text == name);
        let bytes = event::granules(first.map_or(0, |n| n.first), lo, hi);
        if bytes.meets(given) {
            return Err(wrong(format!("`{text}`: bytes given twice")));
        }
        given = given.or(bytes);
        let mut here = Initial::default();
        let mut memory = false;
        for word in text.split_whitespace().skip(1) {
            if let Some(value) = word.strip_prefix("mem=") {
                here.memory = scene.symbol(value).map_err(&wrong)?;
                memory = true;
            } else if let Some(value) = word.strip_prefix("dirty=") {
                here.dirty = Some(scene.symbol(value).map_err(&wrong)?);
            } else {
                return Err(wrong(format!(
                    "expected mem=value or dirty=value, found `{word}`"
                )));
            }
        }
        if !memory {
            return Err(wrong(format!(
                "`{text}`: expected mem=value, found the end"
            )));
        }
        if let Some(why) = distinct::same_at_first(here) {
            return Err(wrong(format!("`{text}`: {why}")));
        }
        for g in bytes.iter() {
            initial[usize::from(g)] = here;
        }
    }
    let missing = scene
        .names
        .iter()
        .find(|n| !n.bytes().without(given).is_empty());
    match missing {
        Some(n) => Err(wrong(format!(
            "{} is not given whole: {} bytes from {}+0",
            n.text,
            u32::from(n.lines) * 64,
            n.text
        ))),
        None => Ok((scene, initial)),
    }
}

fn program(
    scene: &mut Scene,
    texts: &[String],
    what: &str,
) -> Result<Vec<crate::program::Event>, Wrong> {
    if texts.len() > MAX_EVENTS || (texts.is_empty() && what == "event") {
        return Err(in_field("events")(format!(
            "{} events; there may be 1 to {MAX_EVENTS}",
            texts.len()
        )));
    }
    let mut events = Vec::with_capacity(texts.len());
    let mut polled = Granules::NONE;
    let mut transfers: Vec<(Observer, String)> = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        let shown: String = text.chars().take(80).collect();
        let wrong = |w: String| (format!("{what} {i} (`{shown}`)"), w);
        let event = scene.event(text).map_err(wrong)?;
        let cached = match &event.op {
            Op::Access {
                view: View::WriteBack,
                bytes,
                ..
            } => *bytes,
            Op::Dc { line, .. } => Granules::line(*line),
            _ => Granules::NONE,
        };
        let mut names = scene.names.iter().filter(|n| n.bytes().meets(cached));
        if let Some(name) = names.find(|n| !n.cacheable) {
            return Err(wrong(format!("{} is not in `cacheable`", name.text)));
        }
        match &event.op {
            Op::Wait(dev) if event.by == Observer::Dev(*dev) => {
                return Err(wrong(format!("dev{dev} cannot wait for itself")));
            }
            Op::Acquire(cpu) if event.by == Observer::Cpu(*cpu) => {
                return Err(wrong(format!("cpu{cpu} cannot acquire from itself")));
            }
            Op::Begin { id, .. } => {
                let this = (event.by, id.clone());
                if transfers.contains(&this) {
                    return Err(wrong(format!("transfer `{id}` has begun and not ended")));
                }
                transfers.push(this);
            }
            Op::End { id } => {
                let open = transfers.iter().position(|t| t.0 == event.by && t.1 == *id);
                let open = open
                    .ok_or_else(|| wrong(format!("{} has not begun transfer `{id}`", event.by)))?;
                transfers.remove(open);
            }
            _ => {}
        }
        if event.poll().is_some() {
            polled = polled.or(event.bytes());
        }
        if polled.0.count_ones() as usize > MAX_POLLED {
            return Err(wrong(format!("more than {MAX_POLLED} words are polled")));
        }
        events.push(event);
    }
    Ok(events)
}

fn expected(
    scene: &mut Scene,
    program: &Program,
    allowed: Vec<AllowedText>,
    due: Vec<DueText>,
    also: Vec<usize>,
    lost_ok: Vec<usize>,
) -> Result<Expected, Wrong> {
    let known = |at: usize| {
        program.events.get(at).ok_or_else(|| {
            (
                format!("at = {at}"),
                "there is no event of that index".to_owned(),
            )
        })
    };
    let mut result = Expected {
        also,
        lost_ok,
        ..Expected::default()
    };
    for text in allowed {
        let event = known(text.at)?;
        let place = format!("allowed, at = {}", text.at);
        let wrong = in_field(&place);
        if event.read().is_none() {
            return Err(wrong("not a read".to_owned()));
        }
        let bytes = match &text.bytes {
            Some(range) => scene.range(range).map_err(&wrong)?,
            None => event.bytes(),
        };
        let mut values = Symbols::default();
        for value in &text.values {
            let symbol = scene.symbols.iter().position(|s| s == value);
            let symbol = symbol.and_then(|s| u8::try_from(s).ok());
            values.add(symbol.ok_or_else(|| wrong(format!("nobody writes `{value}`")))?);
        }
        result.allowed.push(Allowed {
            at: text.at,
            bytes,
            values,
        });
    }
    for (field, indices) in [("also", &result.also), ("lost-ok", &result.lost_ok)] {
        for at in indices {
            known(*at).map_err(|(_, what)| (format!("{field}, {at}"), what))?;
        }
    }
    for text in due {
        known(text.at)?;
        let place = format!("due, at = {}", text.at);
        for at in &text.or_at {
            known(*at).map_err(|(_, what)| (format!("{place}, or-at {at}"), what))?;
        }
        for kind in text.alt.iter().chain([&text.kind]) {
            if !Kind::ALL.iter().any(|k| k.name() == kind) {
                let all = Kind::ALL.map(Kind::name).join(", ");
                let kind: String = kind.chars().take(40).collect();
                let what = format!("expected one of {all}, found `{kind}`");
                return Err(in_field(&place)(what));
            }
        }
        let mut bytes = Granules::NONE;
        for range in text.bytes.split(',') {
            bytes = bytes.or(scene.range(range.trim()).map_err(in_field(&place))?);
        }
        result.due.push(Due {
            kind: text.kind,
            at: text.at,
            bytes,
            or_at: text.or_at,
            alt: text.alt,
        });
    }
    Ok(result)
}
