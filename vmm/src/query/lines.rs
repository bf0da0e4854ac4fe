// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Events for programs: a JSON object in each line.

use std::io::{self, Write};

use serde_json::{Map, Value, json};
use staleline_devices::events::Event;
use staleline_results::Hex;

use super::context::Context;
use super::{Form, words};
use crate::events::{Entry, Item};
use crate::names;

/// Fields that are addresses, or masks with a bit for each byte of a line.
const HEX: [&str; 5] = ["pa", "descriptor", "wrong", "uncleaned", "value"];

/// The lines. The runner's steps are as the runner wrote them.
pub struct Lines;

impl Form for Lines {
    fn entry(
        &mut self,
        out: &mut dyn Write,
        context: &Context<'_>,
        entry: &Entry,
    ) -> io::Result<()> {
        let value = match &entry.item {
            Item::Run(json) => return writeln!(out, "{json}"),
            Item::Event(event) => of_event(entry, event, context)?,
            Item::Full => json!({ "event": "log-full", "at": entry.at }),
            Item::Machine(_) | Item::End(_) => return Ok(()),
        };
        serde_json::to_writer(&mut *out, &value)?;
        writeln!(out)
    }
}

fn of_event(entry: &Entry, event: &Event, context: &Context<'_>) -> io::Result<Value> {
    let mut all = Map::new();
    all.insert("event".into(), "machine".into());
    all.insert("sequence".into(), entry.sequence.into());
    all.insert("at".into(), entry.at.into());
    all.insert("ticks".into(), entry.ticks.into());
    all.insert("kind".into(), names::name(&event.kind()).into());
    all.insert("who".into(), words::who(event, context).into());
    // The variant's name, and its fields.
    if let Value::Object(variant) = serde_json::to_value(event)? {
        for (name, fields) in variant {
            all.insert("what".into(), kebab(&name).into());
            let Value::Object(fields) = fields else {
                continue;
            };
            for (name, value) in fields {
                let key = match &*name {
                    // The event's is another.
                    "kind" => "hazard".to_owned(),
                    name => name.replace('_', "-"),
                };
                all.insert(key, field(&name, value, event));
            }
        }
    }
    // Numbers that mean nothing outside the log are told by names.
    for internal in ["site", "chain", "cached-by", "by", "writer", "reader"] {
        all.remove(internal);
    }
    if let Some(master) = all.get("master").and_then(Value::as_u64) {
        let master = u8::try_from(master).unwrap_or(u8::MAX);
        all.insert("master".into(), context.head.master(master).into());
    }
    if let Event::Found { writer, reader, .. } = event {
        all.insert("writer".into(), context.actor(writer).into());
        all.insert("reader".into(), context.actor(reader).into());
    }
    if let Some((pa, _)) = words::address(event)
        && let Some((index, offset)) = context.buffer(pa)
    {
        all.insert("buffer".into(), index.into());
        all.insert("offset".into(), offset.into());
    }
    if let Some(place) = words::site(event).and_then(|site| context.place(site)) {
        all.insert("place".into(), place.into());
    }
    if let Event::Maintained { operation, .. } = event
        && let Some(caller) = context.caller(*operation)
    {
        all.insert("caller".into(), caller.into());
    }
    all.insert("text".into(), words::what(event, context).into());
    Ok(Value::Object(all))
}

fn field(name: &str, value: Value, event: &Event) -> Value {
    let mask = name == "bytes" && matches!(event, Event::Found { .. });
    match value.as_u64() {
        Some(n) if mask || HEX.contains(&name) => Hex(n).to_string().into(),
        _ => value,
    }
}

/// `under-dma` for `UnderDma`.
fn kebab(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
