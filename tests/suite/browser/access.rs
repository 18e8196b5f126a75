//! Accessibility of the page: axe-core finds nothing in any view and theme, the focus is kept, and
//! screen readers announce nothing unrequested.

use std::path::Path;

use serde_json::json;

use super::{LIVE, await_outcome, await_stream, enter, newest_order};
use crate::support::Server;
use crate::support::webdriver::{Browser, Outcome};

/// Window widths: wide shows orders as a table, narrow as blocks.
const WIDTHS: [u32; 2] = [1_280, 400];
/// The violations that axe-core finds, one per line.
const AUDIT: &str = "axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) =>
    done(violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) =>
        `${id}: ${target}: ${failureSummary}`)).join('\\n')));";

/// Runs axe-core on the current view, in both themes and at both widths.
pub(super) fn audit(browser: &Browser, view: &str) -> Outcome<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/test-tools/node_modules/axe-core/axe.min.js");
    let axe = std::fs::read_to_string(script)
        .map_err(|error| format!("run scripts/install-test-tools first: {error}"))?;
    browser.run(&format!("if (!window.axe) {{ {axe} }}"))?;
    for theme in ["light", "dark"] {
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": theme }] });
        browser.cdp("Emulation.setEmulatedMedia", &media)?;
        for width in WIDTHS {
            let size =
                json!({ "width": width, "height": 1_000, "deviceScaleFactor": 1, "mobile": false });
            browser.cdp("Emulation.setDeviceMetricsOverride", &size)?;
            let found = browser.run_until_done(&format!("const done = arguments[0]; {AUDIT}"))?;
            assert_eq!(found, "", "{view}, {theme}, {width} wide");
        }
    }
    browser.cdp("Emulation.clearDeviceMetricsOverride", &json!({})).map(drop)
}

fn order(browser: &Browser, shares: &str, state: &str) -> Outcome<()> {
    browser.fill("#ticket-shares", shares)?;
    browser.click("#place-order")?;
    await_outcome(browser, state).map(drop)
}

#[test]
fn axe_finds_nothing_in_any_view_and_theme() -> Outcome<()> {
    let data = tempfile::tempdir()?;
    let mut server = Server::start(data.path(), &["--universe", "20", "--account-mode", "cash"]);
    let browser = Browser::start()?;
    browser.open(&server.address)?;
    browser.wait_for("the log-in", "return document.body.dataset.view === 'login'")?;
    audit(&browser, "log-in")?;
    browser.fill("#login-user", "a b")?;
    browser.click("#log-in")?;
    let error = "return document.querySelector('#login-error').textContent";
    browser.wait_for("an error", error)?;
    audit(&browser, "log-in with an error")?;

    enter(&browser, &server.address, "alice")?;
    browser.wait_for("a live stream", LIVE)?;
    let empty = "return document.querySelector('#orders-empty').checkVisibility()";
    browser.wait_for("an empty list", empty)?;
    audit(&browser, "no orders")?;
    browser.fill("#ticket-symbol", "SPY")?;
    order(&browser, "3", "accepted")?;
    newest_order(&browser, "3 / 3", "filled")?;
    audit(&browser, "an order that was placed")?;
    browser.click("#ticket label:has([value=limit])")?;
    browser.fill("#ticket-price", "1.25")?;
    order(&browser, "7", "accepted")?;
    newest_order(&browser, "0 / 7", "submitted")?;
    order(&browser, "8", "accepted")?;
    newest_order(&browser, "0 / 8", "submitted")?;
    browser.click("#orders tr [data-action=cancel]")?;
    newest_order(&browser, "0 / 8", "cancelled")?;
    browser.click("#ticket label:has([value=sell])")?;
    browser.fill("#ticket-shares", "0")?;
    browser.click("#place-order")?;
    browser.fill("#search", "A")?;
    let found = "return document.querySelector('#search-results button')";
    browser.wait_for("symbols", found)?;
    audit(&browser, "orders, an error in the ticket, symbols found")?;
    browser.fill("#search", "NONE")?;
    browser.wait_for("no symbols", &format!("return !({})", &found["return ".len()..]))?;
    audit(&browser, "no symbol found")?;
    browser.fill("#search", "")?;

    server.program.kill_in_place();
    await_stream(&browser, "lost")?;
    browser.fill("#ticket-shares", "9")?;
    order(&browser, "9", "unknown")?;
    let old = "return document.querySelector('#orders-state').dataset.state === 'lost'";
    browser.wait_for("orders that are not up to date", old)?;
    audit(&browser, "nobody answers")
}

#[test]
fn the_focus_stays_after_a_removal_and_a_cancel() -> Outcome<()> {
    let data = tempfile::tempdir()?;
    let server = Server::start(data.path(), &[]);
    let browser = Browser::start()?;
    enter(&browser, &server.address, "alice")?;
    let focus = "const at = document.activeElement;
        return [at.closest('[data-symbol]')?.dataset.symbol, at.dataset.action, at.id].join();";
    let remove = |symbol: &str| {
        browser
            .run(&format!("document.querySelector('[data-symbol={symbol}] .remove').focus()"))?;
        browser.press_enter(false)?;
        browser.run(focus)
    };
    // The focus moves to the next row, at the end to the previous one, and without rows to the search.
    assert_eq!(remove("SPY")?, "IBM,remove,");
    assert_eq!(remove("AIG")?, "BAC,remove,");
    assert_eq!(remove("IBM")?, "BAC,remove,");
    // A held key removes one row, not all.
    browser.press_enter(true)?;
    assert_eq!(browser.run(focus)?, "BAC,remove,");
    assert_eq!(remove("BAC")?, ",,search");

    browser.fill("#ticket-symbol", "SPY")?;
    browser.click("#ticket label:has([value=limit])")?;
    browser.fill("#ticket-price", "1.25")?;
    for shares in ["7", "8"] {
        order(&browser, shares, "accepted")?;
        newest_order(&browser, &format!("0 / {shares}"), "submitted")?;
    }
    browser.run("document.querySelector('#orders tr [data-action=cancel]').focus()")?;
    browser.press_enter(false)?;
    let cancelled = newest_order(&browser, "0 / 8", "cancelled")?;
    let row = "return document.activeElement.dataset.orderId";
    assert_eq!(browser.run(row)?, cancelled.as_str());
    // From there the keyboard moves to the next order's button, not to the top of the page.
    browser.press_enter(false)?;
    let left = "return document.querySelectorAll('#orders [data-status=submitted]').length";
    assert_eq!(browser.run(left)?, 1);
    Ok(())
}

#[test]
fn moving_prices_are_not_read_aloud() -> Outcome<()> {
    let data = tempfile::tempdir()?;
    let server = Server::start(data.path(), &["--speed", "20"]);
    let browser = Browser::start()?;
    enter(&browser, &server.address, "alice")?;
    browser.wait_for("a live stream", LIVE)?;
    browser.fill("#ticket-symbol", "SPY")?;
    browser.fill("#ticket-shares", "3")?;
    // All live regions, which a screen reader announces when they change.
    let read = browser.run_until_done(
        "const done = arguments[0], read = [], estimates = new Set();
         const live = '[aria-live]:not([aria-live=off]), [role=status], [role=alert], [role=log], output';
         new MutationObserver((changes) => read.push(...changes
             .map(({ target }) => (target.closest ?? target.parentElement.closest)
                 .call(target.closest ? target : target.parentElement, live))
             .filter(Boolean).map(({ id, textContent }) => `${id}: ${textContent}`)))
             .observe(document.body, { subtree: true, childList: true, characterData: true });
         document.addEventListener('price-shown', () => {
             estimates.add(document.querySelector('#estimate').textContent);
             if (estimates.size >= 5) setTimeout(() => done(read.join('; ')));
         });",
    )?;
    assert_eq!(read, "", "five estimates");
    Ok(())
}
