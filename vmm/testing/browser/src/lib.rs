// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! HTML pages in a headless Chromium, as tests look at them. All of it panics where a test would fail.
//!
//! The crates that drive Chromium take an asynchronous runtime, a driver's process or a hundred other crates
//! along; what is needed of its protocol is little.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a part of tests")]

mod conversation;
mod process;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use conversation::Conversation;

/// What the browser, too, writes otherwise in a path of a URL.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// Begin messages that a page in order has none of.
const ERRORS: [&str; 4] = ["error: ", "assert: ", "exception: ", "request: "];
/// What is looked at by JavaScript.
const LOOKS: &str = include_str!("looks.js");
/// Roles of what a page's user must be told the name of.
const NAMED: [&str; 15] = [
    "RootWebArea",
    "button",
    "checkbox",
    "combobox",
    "dialog",
    "image",
    "link",
    "listbox",
    "menuitem",
    "radio",
    "searchbox",
    "slider",
    "switch",
    "tab",
    "textbox",
];

/// How a page is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Of the viewport, in CSS pixels.
    pub width: u32,
    /// The same.
    pub height: u32,
    /// Whether the user prefers dark colours (`prefers-color-scheme`).
    pub dark: bool,
    /// Whether the page's scripts run.
    pub javascript: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            width: 1280,
            height: 800,
            dark: false,
            javascript: true,
        }
    }
}

/// A page in a browser of its own, without network, which is gone with all its processes and files when
/// this is dropped.
pub struct Page {
    browser: RefCell<Conversation>,
    url: String,
}

impl Page {
    /// Opens a file and waits until it is loaded and has done what it does at once.
    #[track_caller]
    pub fn open(file: &Path, settings: &Settings) -> Self {
        let path = file.canonicalize().unwrap();
        let path = percent_encode(path.as_os_str().as_bytes(), ENCODED);
        let page = Page {
            browser: RefCell::new(Conversation::start().unwrap_or_else(|e| panic!("{e}"))),
            url: format!("file://{path}"),
        };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), &json!({}));
        }
        page.call("Page.setLifecycleEventsEnabled", &json!({"enabled": true}));
        page.call(
            "Network.emulateNetworkConditions",
            &json!({"offline": true, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}),
        );
        let focused = json!({"enabled": true});
        page.call("Emulation.setFocusEmulationEnabled", &focused);
        page.set(settings);
        let navigated = page.call("Page.navigate", &json!({"url": page.url}));
        // The empty page before it, too, says that it is loaded.
        let loaded = page.browser.borrow_mut().wait("loading it", |event| {
            let of = &event["params"];
            event["method"] == "Page.lifecycleEvent"
                && of["name"] == "load"
                && of["loaderId"] == navigated["loaderId"]
        });
        loaded.unwrap_or_else(|e| page.fail(&e));
        if settings.javascript {
            page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))");
        }
        page
    }

    /// Looks at the same page, as it is now, in another way; scripts that have run stay.
    #[track_caller]
    pub fn set(&self, settings: &Settings) {
        let size = json!({
            "width": settings.width, "height": settings.height, "deviceScaleFactor": 1, "mobile": false,
        });
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let scheme = if settings.dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &media);
        let off = json!({"value": !settings.javascript});
        self.call("Emulation.setScriptExecutionDisabled", &off);
    }

    /// The value of an expression, of a promise when it is kept. JavaScript may be off for the page.
    #[track_caller]
    pub fn evaluate(&self, expression: &str) -> Value {
        let request =
            json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.call("Runtime.evaluate", &request);
        if let Some(thrown) = answer.get("exceptionDetails") {
            panic!("{expression}: {}", exception(thrown));
        }
        answer["result"]["value"].take()
    }

    /// Presses and releases a key: `Tab`, `Shift+Tab`, `Enter`, `Space`, `ArrowDown`, `Escape`, `a` ...
    #[track_caller]
    pub fn press(&self, key: &str) {
        let (modifiers, name) = match key.strip_prefix("Shift+") {
            Some(name) => (8, name),
            None => (0, key),
        };
        let name = if name == "Space" { " " } else { name };
        let (number, text) = number_and_text(name).unwrap_or_else(|| panic!("no key {key:?}"));
        let mut press = json!({
            "type": if text.is_empty() { "rawKeyDown" } else { "keyDown" },
            "key": name, "text": text, "modifiers": modifiers, "windowsVirtualKeyCode": number,
        });
        self.call("Input.dispatchKeyEvent", &press);
        press["type"] = json!("keyUp");
        press["text"] = json!("");
        self.call("Input.dispatchKeyEvent", &press);
    }

    /// Role and name of what has the focus; that of the page if nothing in it has.
    #[track_caller]
    pub fn focus(&self) -> (String, String) {
        let focused = |node: &&Value| {
            let mut properties = node["properties"].as_array().into_iter().flatten();
            properties.any(|p| p["name"] == "focused" && p["value"]["value"] == true)
        };
        let tree = self.tree();
        // The page has it too, whatever in it has.
        role_and_name(tree.iter().rfind(focused).unwrap_or(&tree[0]))
    }

    /// The accessibility tree in the page's order, as (role, name): what a screen reader is told.
    #[track_caller]
    pub fn accessibility(&self) -> Vec<(String, String)> {
        let nodes = self.tree();
        let told = nodes.iter().filter(|node| node["ignored"] != true);
        told.map(role_and_name)
            .filter(|(role, _)| role != "InlineTextBox")
            .collect()
    }

    /// Roles of buttons, links, fields, images ... that have no name, and of the page without a title.
    #[track_caller]
    pub fn unnamed(&self) -> Vec<String> {
        let told = self.accessibility().into_iter();
        told.filter(|(role, name)| NAMED.contains(&role.as_str()) && name.trim().is_empty())
            .map(|(role, _)| role)
            .collect()
    }

    /// Texts whose contrast with what is behind them is below WCAG AA's 4.5 (whatever their size), or
    /// cannot be told because an image is behind them: where, what, how much, which colours. Looks at text
    /// and `fill`ed SVG text that is seen, and at fields; not at what CSS generates.
    #[track_caller]
    pub fn poor_contrast(&self) -> Vec<String> {
        self.look("contrast()")
    }

    /// By what the page is wider than the viewport; none if it is not.
    #[track_caller]
    pub fn overflow(&self) -> Option<String> {
        self.look("overflow()")
    }

    /// How many nodes the document has: elements, texts, comments.
    #[track_caller]
    pub fn nodes(&self) -> u64 {
        self.look("nodes()")
    }

    /// The whole page, also what is below the viewport, as PNG.
    #[track_caller]
    pub fn screenshot(&self) -> Vec<u8> {
        let size: (f64, f64) = self.look("size()");
        let clip = json!({"x": 0, "y": 0, "width": size.0, "height": size.1, "scale": 1});
        let image = self.call(
            "Page.captureScreenshot",
            &json!({"format": "png", "captureBeyondViewport": true, "clip": clip}),
        );
        BASE64_STANDARD.decode(text(&image["data"])).unwrap()
    }

    /// All that was said so far since the page was opened: `log: `, `info: `, `warning: `, `error: `,
    /// `assert: ` ... of the console or the browser, and what it says; `exception: `; and `request: ` of
    /// anything but the page itself.
    #[track_caller]
    pub fn messages(&self) -> Vec<String> {
        // What was said before the answer has come before it.
        self.evaluate("0");
        self.heard()
    }

    /// Those of them that are errors: failed assertions and requests are.
    #[track_caller]
    pub fn errors(&self) -> Vec<String> {
        let mut messages = self.messages();
        messages.retain(|message| ERRORS.iter().any(|error| message.starts_with(error)));
        messages
    }

    /// Fails if anything is wrong with the page as it is: errors, things without name, overflow, contrast.
    #[track_caller]
    pub fn is_good(&self) {
        let found = (
            self.errors(),
            self.unnamed(),
            self.overflow(),
            self.poor_contrast(),
        );
        let (errors, unnamed, overflow, contrast) = &found;
        let good = errors.is_empty() && unnamed.is_empty() && contrast.is_empty();
        assert!(
            good && overflow.is_none(),
            "errors: {errors:#?}\nwithout name: {unnamed:#?}\ntoo wide: {overflow:#?}\ncontrast: {contrast:#?}"
        );
    }

    #[track_caller]
    fn look<T: DeserializeOwned>(&self, what: &str) -> T {
        serde_json::from_value(self.evaluate(&format!("({LOOKS}).{what}"))).unwrap()
    }

    #[track_caller]
    fn tree(&self) -> Vec<Value> {
        let mut tree = self.call("Accessibility.getFullAXTree", &json!({}));
        serde_json::from_value(tree["nodes"].take()).unwrap()
    }

    /// The answer to a request of Chromium's protocol.
    #[track_caller]
    fn call(&self, method: &str, parameters: &Value) -> Value {
        let answer = self.browser.borrow_mut().call(method, parameters);
        answer.unwrap_or_else(|e| self.fail(&e))
    }

    #[track_caller]
    fn fail(&self, error: &str) -> ! {
        panic!(
            "{}: {error}\nmessages so far: {:#?}",
            self.url,
            self.heard()
        )
    }

    /// The messages that have come.
    fn heard(&self) -> Vec<String> {
        let events = &self.browser.borrow().events;
        let messages = events.iter().filter_map(|event| hear(event, &self.url));
        messages.collect()
    }
}

fn role_and_name(node: &Value) -> (String, String) {
    let of = |of: &str| text(&node[of]["value"]).to_owned();
    (of("role"), of("name"))
}

/// What the protocol takes of a key: its number on Windows, and what it types.
fn number_and_text(name: &str) -> Option<(u32, &str)> {
    Some(match name {
        "Backspace" => (8, ""),
        "Tab" => (9, ""),
        "Enter" => (13, "\r"),
        "Escape" => (27, ""),
        "PageUp" => (33, ""),
        "PageDown" => (34, ""),
        "End" => (35, ""),
        "Home" => (36, ""),
        "ArrowLeft" => (37, ""),
        "ArrowUp" => (38, ""),
        "ArrowRight" => (39, ""),
        "ArrowDown" => (40, ""),
        "Delete" => (46, ""),
        _ => {
            let mut typed = name.chars();
            let one = typed.next().filter(|_| typed.as_str().is_empty())?;
            let same = one == ' ' || one.is_ascii_alphanumeric();
            let number = if same {
                one.to_ascii_uppercase().into()
            } else {
                0
            };
            (number, name)
        }
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What an event says, in a page with this address.
fn hear(event: &Value, own: &str) -> Option<String> {
    let of = &event["params"];
    Some(match text(&event["method"]) {
        "Runtime.consoleAPICalled" => {
            let words = of["args"].as_array().into_iter().flatten().map(word);
            let words: Vec<_> = words.collect();
            format!("{}: {}", text(&of["type"]), words.join(" "))
        }
        "Runtime.exceptionThrown" => format!("exception: {}", exception(&of["exceptionDetails"])),
        "Log.entryAdded" => {
            let part = |part: &str| text(&of["entry"][part]);
            format!("{}: {} {}", part("level"), part("text"), part("url"))
        }
        "Network.requestWillBeSent" => {
            let url = text(&of["request"]["url"]);
            let inside = url == own || ["data:", "blob:"].iter().any(|s| url.starts_with(s));
            (!inside).then(|| format!("request: {url}"))?
        }
        _ => return None,
    })
}

fn exception(thrown: &Value) -> String {
    let what = thrown.get("exception").map(word).unwrap_or_default();
    let line = thrown["lineNumber"].as_u64().map_or(0, |line| line + 1);
    format!("{} {what} (line {line})", text(&thrown["text"]))
}

fn word(object: &Value) -> String {
    match (object.get("value"), object["description"].as_str()) {
        (Some(Value::String(text)), _) => text.clone(),
        (Some(value), _) => value.to_string(),
        (None, Some(text)) => text.to_owned(),
        (None, None) => text(&object["type"]).to_owned(),
    }
}
