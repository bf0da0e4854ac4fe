// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Whether what is wrong with a page is noticed.

use std::ffi::OsStr;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use super::*;

const GOOD: &str = r##"<h1 id=top>Runs</h1><button>Less</button> <a href="#top">Top</a>
<p style="color: light-dark(#333, #ccc)">Text <label>Find <input></label></p>
<svg width=90 height=30 role=img aria-label=Chart><rect width=90 height=30 fill=black />
<text x=5 y=20 fill=white>bar</text></svg>
<script>
  document.querySelector("button").onclick = (e) => { e.target.textContent = "More"; };
  console.warn("slow", 3, {});
</script>"##;

/// A document with this in its body.
fn html(body: &str) -> String {
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>A page</title>
        <style>:root {{ color-scheme: light dark }}</style><body>{body}</body></html>"
    )
}

fn open(body: &str, settings: &Settings) -> Page {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a page #1.html");
    fs::write(&file, html(body)).unwrap();
    Page::open(&file, settings)
}

fn usual(body: &str) -> Page {
    open(body, &Settings::default())
}

/// The only one of these, which holds this.
#[track_caller]
fn one(found: &[String], holds: &str) {
    assert!(found.len() == 1 && found[0].contains(holds), "{found:#?}");
}

/// In a page of all these, each is found, and no more.
#[track_caller]
fn each<const N: usize>(cases: [(&str, &str); N], find: impl Fn(&Page) -> Vec<String>) {
    let found = find(&usual(&cases.map(|(body, _)| body).concat()));
    let all = cases
        .iter()
        .all(|(_, holds)| found.iter().any(|f| f.contains(holds)));
    assert!(all && found.len() == N, "{found:#?}");
}

#[test]
fn a_good_page_is_good_by_day_and_night() {
    let page = usual(GOOD);
    page.is_good();
    assert_eq!(page.messages(), ["warning: slow 3 Object"]);
    let dark = "matchMedia('(prefers-color-scheme: dark)').matches";
    assert_eq!(page.evaluate(dark), false);
    page.set(&Settings {
        dark: true,
        width: 320,
        ..Settings::default()
    });
    assert_eq!(
        page.evaluate(&format!("[{dark}, innerWidth]")),
        json!([true, 320])
    );
    page.is_good();
    assert!(page.nodes() > 15 && page.nodes() < 40, "{}", page.nodes());
}

#[test]
fn keys_go_where_the_focus_is() {
    let page = usual(GOOD);
    let focus = |role: &str, name: &str| assert_eq!(page.focus(), (role.into(), name.into()));
    focus("RootWebArea", "A page");
    page.press("Tab");
    focus("button", "Less");
    page.press("Space");
    focus("button", "More");
    page.press("Tab");
    focus("link", "Top");
    page.press("Enter");
    assert_eq!(page.evaluate("location.hash"), "#top");
    page.press("Tab");
    focus("button", "More");
    page.press("Tab");
    page.press("Shift+Tab");
    focus("button", "More");
    page.evaluate("document.querySelector('input').focus()");
    page.press("a");
    page.press("ArrowLeft");
    page.press("b");
    assert_eq!(page.evaluate("document.querySelector('input').value"), "ba");
    page.is_good();
}

#[test]
fn what_is_told_of_a_page() {
    let page = usual(GOOD);
    let told = page.accessibility();
    for known in [
        ("heading", "Runs"),
        ("button", "Less"),
        ("image", "Chart"),
        ("textbox", "Find"),
    ] {
        let known = (known.0.to_owned(), known.1.to_owned());
        assert!(told.contains(&known), "{told:#?}");
    }
    let page = usual("<button></button><a href=x><svg></svg></a><img src=data:,><input>");
    assert_eq!(page.unnamed(), ["button", "link", "image", "textbox"]);
}

#[test]
fn scripts_that_are_off_do_not_run() {
    let settings = Settings {
        javascript: false,
        ..Settings::default()
    };
    let page = open(
        "<noscript>Without</noscript><script>throw 1</script>",
        &settings,
    );
    assert_eq!(page.errors(), [""; 0]);
    assert_eq!(page.evaluate("document.body.innerText"), "Without");
    page.is_good();
}

#[test]
fn errors_are_heard() {
    let errors = [
        (
            "<script>console.error('bad', [1])</script>",
            "error: bad Array(1)",
        ),
        (
            "<script>console.assert(1 > 2, 'less')</script>",
            "assert: less",
        ),
        (
            "<script>nothing()</script>",
            "exception: Uncaught ReferenceError: nothing is not",
        ),
        ("<script>let = </script>", "exception: Uncaught SyntaxError"),
        (
            "<script>Promise.reject(Error('no'))</script>",
            "exception: Uncaught (in promise) Error: no",
        ),
        (
            "<script>onload = () => setTimeout(() => { throw 'x' })</script>",
            "exception: Uncaught x",
        ),
        (
            "<iframe title=x src=other.html></iframe>",
            "request: file:///",
        ),
    ];
    each(errors, Page::errors);
    // The browser's own: where this stands, it is ignored.
    let policy = "<meta http-equiv=Content-Security-Policy content=\"img-src 'none'\">";
    one(
        &usual(policy).errors(),
        "error: The Content Security Policy",
    );
    let page = usual("<button onclick='missing()'>Go</button>");
    assert_eq!(page.errors(), [""; 0]);
    page.press("Tab");
    page.press("Enter");
    one(&page.errors(), "missing is not defined");
    assert!(catch_unwind(AssertUnwindSafe(|| page.is_good())).is_err());
}

#[test]
fn there_is_no_network_and_who_wants_it_is_heard() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let url = format!("http://{}/x", server.local_addr().unwrap());
    let page = usual(&format!(
        "<img alt=x src={url}><script>fetch('{url}').catch(() => 0)</script>"
    ));
    let errors = page.errors();
    let count = |what: &str| errors.iter().filter(|e| e.starts_with(what)).count();
    assert_eq!(count("request: http://127"), 2, "{errors:#?}");
    assert_eq!(count("error: "), 2, "{errors:#?}");
    assert!(server.accept().is_err(), "{errors:#?}");
    assert_eq!(
        usual("<link rel=stylesheet href=style.css>").errors().len(),
        2
    );
}

#[test]
fn a_page_that_is_too_wide_is_noticed() {
    let page = usual("<p>Text</p><div class=wide style='width: 700px'>W</div>");
    page.is_good();
    page.set(&Settings {
        width: 600,
        ..Settings::default()
    });
    let overflow = page.overflow().unwrap();
    assert!(overflow.contains("> 600 pixels, div.wide"), "{overflow}");
    page.evaluate("document.body.style.overflowX = 'auto', document.body.innerHTML = 'x'");
    assert_eq!(page.overflow(), None);
}

#[test]
fn poor_contrast_is_noticed() {
    let poor = [
        (
            "<p id=a class='b c' style='color: #999'>Grey</p>",
            "p#a.b.c \"Grey\": 2.85, #999999 on #ffffff",
        ),
        (
            "<p style='opacity: .5; color: #333'>Faint</p>",
            "#999999 on #ffffff",
        ),
        (
            "<p style='color: rgb(0 0 0 / .3)'>Thin</p>",
            "#b2b2b2 on #ffffff",
        ),
        (
            "<div style='background: oklch(0.3 0 0)'><b style='color: black'>On</b></div>",
            "b \"On\": ",
        ),
        (
            "<p style='background: linear-gradient(red, blue)'>Bunt</p>",
            "on an image",
        ),
        (
            "<input aria-label=x placeholder=hint style='color: black; background: #555'>",
            "input \"hint\": ",
        ),
        (
            "<svg><rect width=99 height=99 fill=navy /><text y=20>axis</text></svg>",
            "text \"axis\": 1.3",
        ),
        (
            "<svg><text y=20 fill=yellow>high</text></svg>",
            "text \"high\": 1.0",
        ),
        (
            "<svg><g opacity=.2><text y=20><tspan>low</tspan></text></g></svg>",
            "tspan \"low\": ",
        ),
    ];
    each(poor, Page::poor_contrast);
    let good = "<p style='color: #767676'>Just</p><p hidden style='color: white'>Not there</p>
        <button disabled>Off</button><details><summary>More</summary><i style='color: white'>In</i></details>
        <svg><rect width=9 height=9 x=200 /><text y=20>beside</text></svg>";
    assert_eq!(usual(good).poor_contrast(), [""; 0]);
    let page = usual("<p style='color: #333'>By day</p>");
    assert_eq!(page.poor_contrast(), [""; 0]);
    page.set(&Settings {
        dark: true,
        ..Settings::default()
    });
    one(&page.poor_contrast(), "p \"By day\": ");
}

#[test]
fn the_picture_is_of_the_whole_page() {
    let page = usual("<div style='height: 2000px'>Tall</div>");
    let picture = page.screenshot();
    assert!(picture.starts_with(b"\x89PNG"));
    let size = |at: usize| u32::from_be_bytes(picture[at..at + 4].try_into().unwrap());
    assert_eq!((size(16), size(20)), (1265, 2016));
}

#[test]
fn nothing_is_left_of_a_browser_even_by_a_panic() {
    let mut left: Option<(Vec<u32>, PathBuf)> = None;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let page = usual(GOOD);
        let browser = page.browser.borrow();
        left = Some((
            browser.process.group(),
            browser.process.dir.path().to_owned(),
        ));
        drop(browser);
        page.evaluate("nothing()");
    }));
    let error = panicked.unwrap_err();
    let error = error.downcast_ref::<String>().unwrap();
    assert!(error.contains("nothing is not defined"), "{error}");
    let (processes, dir) = left.unwrap();
    assert!(processes.len() > 2, "{processes:?}");
    let alive = |process: &u32| process::group_of(*process).is_some();
    assert!(!processes.iter().any(alive), "{processes:?}");
    assert!(!dir.exists());
}

#[test]
fn a_browser_that_does_not_answer_is_not_waited_for() {
    let fails = |page: &Page, expression: &str| {
        let panicked = catch_unwind(AssertUnwindSafe(|| page.evaluate(expression)));
        *panicked.unwrap_err().downcast::<String>().unwrap()
    };
    let page = usual(GOOD);
    page.browser.borrow_mut().patience = Duration::from_millis(300);
    let error = fails(&page, "for (;;);");
    assert!(
        error.contains("page%20%231.html: Runtime.evaluate: ")
            && error.contains("has not answered within 300ms")
            && error.contains("warning: slow 3 Object"),
        "{error}"
    );
    page.browser.borrow().process.kill();
    let error = fails(&page, "1");
    assert!(error.contains(" has ended:\n"), "{error}");
}

#[test]
fn without_a_browser_the_package_is_named() {
    let error = process::find(OsStr::new("/nowhere")).unwrap_err();
    assert!(
        error.contains("apt-get install chromium-headless-shell"),
        "{error}"
    );
}
