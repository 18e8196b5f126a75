//! All tabs of a browser share one price stream, and hidden tabs cost nothing.

use super::{await_outcome, await_stream, await_trading, enter, newest_order};
use crate::support::webdriver::{Browser, Outcome};
use crate::support::{Server, api, metric_of};

/// More than a browser's connections to one server (six, with HTTP/1.1).
const TABS: usize = 7;
const IS_HIDDEN: &str = "return document.hidden";
/// Simulates a browser without `SharedWorker`.
const NO_SHARED_WORKER: &str = "delete window.SharedWorker";

fn await_streams(server: &Server, count: u64) {
    api::until(&format!("{count} streams"), || {
        (server.metric("streams_open") == count).then_some(())
    });
}

/// Number of requests on the client listener.
fn client_requests(server: &Server) -> Outcome<u64> {
    let page = api::get_anonymously(&format!("{}/metrics", server.admin)).ok_or("no answer")?.text;
    let of_clients = page.lines().filter(|line| !line.contains("listener=\"admin\""));
    Ok(metric_of(&of_clients.collect::<Vec<_>>().join("\n"), "http_requests_total"))
}

/// Opens another `tab` or `window` and loads the page there, after a script.
fn open_page(browser: &Browser, kind: &str, server: &Server, script: &str) -> Outcome<String> {
    let name = browser.open_another(kind)?;
    prepare(browser, script)?;
    browser.open(&server.address)?;
    await_trading(browser)?;
    Ok(name)
}

fn prepare(browser: &Browser, script: &str) -> Outcome<()> {
    let script = serde_json::json!({ "source": script });
    browser.cdp("Page.addScriptToEvaluateOnNewDocument", &script).map(drop)
}

fn place_order(browser: &Browser, shares: usize) -> Outcome<()> {
    browser.fill("#ticket-symbol", "SPY")?;
    browser.fill("#ticket-shares", &shares.to_string())?;
    browser.click("#place-order")?;
    await_outcome(browser, "accepted").map(drop)
}

/// Opens visible windows; each sees prices, over one stream.
fn windows(
    count: usize,
    script: &str,
) -> Outcome<(tempfile::TempDir, Server, Browser, Vec<String>)> {
    let data = tempfile::tempdir()?;
    let server = Server::start(data.path(), &["--universe", "20"]);
    let browser = Browser::start()?;
    prepare(&browser, script)?;
    enter(&browser, &server.address, "alice")?;
    let mut windows = vec![browser.current()?];
    for _ in 1..count {
        windows.push(open_page(&browser, "window", &server, script)?);
    }
    for window in &windows {
        browser.go_to(window)?;
        assert_eq!(browser.run(IS_HIDDEN)?, false);
        await_stream(&browser, "live")?;
    }
    assert_eq!(server.metric("streams_open"), 1);
    Ok((data, server, browser, windows))
}

#[test]
fn seven_windows_share_one_stream() -> Outcome<()> {
    let (_data, server, browser, windows) = windows(TABS, "")?;
    // One for all; a stream that was opened and closed again would count as well.
    assert_eq!(server.metric("streams_opened_total"), 1);
    // Orders work, and each window shows those of the others.
    place_order(&browser, 1)?;
    let first = windows.first().ok_or("no window")?;
    browser.go_to(first)?;
    newest_order(&browser, "1 / 1", "filled")?;
    place_order(&browser, 2)?;
    newest_order(&browser, "2 / 2", "filled")?;
    // A symbol that only one window watches is on the stream, too.
    browser.fill("#search", "A")?;
    browser
        .wait_for("symbols", "return document.querySelector('#search-results button:enabled')")?;
    browser.click("#search-results button:enabled")?;
    let last = "[...document.querySelectorAll('#watchlist li')].at(-1)";
    browser.wait_for("the new symbol", &format!("return {last}.dataset.priceCents"))?;
    await_streams(&server, 1);
    Ok(())
}

#[test]
fn without_shared_workers_a_leading_tab_has_the_stream_for_all() -> Outcome<()> {
    let (_data, server, browser, windows) = windows(3, NO_SHARED_WORKER)?;
    // When the leading window closes, another takes over.
    for window in windows.iter().take(2) {
        browser.go_to(window)?;
        browser.close()?;
    }
    let last = windows.last().ok_or("no window")?;
    browser.go_to(last)?;
    await_streams(&server, 1);
    let traded_at = "document.querySelector('#watchlist li').dataset.timestamp";
    let seen = browser.run(&format!("return {traded_at}"))?;
    browser.wait_for("another price", &format!("return {traded_at} !== {seen}"))?;
    await_stream(&browser, "live")?;
    place_order(&browser, 1)
}

#[test]
fn a_hidden_tab_costs_nothing_and_is_live_again_when_it_is_seen() -> Outcome<()> {
    for script in ["", NO_SHARED_WORKER] {
        let data = tempfile::tempdir()?;
        let server = Server::start(data.path(), &[]);
        let browser = Browser::start()?;
        let first = browser.current()?;
        prepare(&browser, script)?;
        enter(&browser, &server.address, "alice")?;
        await_stream(&browser, "live")?;
        // Each is hidden behind the next; going to one brings it to the front.
        open_page(&browser, "tab", &server, script)?;
        await_stream(&browser, "live")?;
        await_streams(&server, 1);
        let empty = browser.open_another("tab")?;
        await_streams(&server, 0);
        let before = client_requests(&server)?;
        // A visible one would request its orders every second.
        browser.run_until_done("setTimeout(arguments[0], 2500)")?;
        assert_eq!(client_requests(&server)?, before);
        assert_eq!(server.metric("streams_open"), 0);

        browser.go_to(&first)?;
        await_stream(&browser, "live")?;
        await_streams(&server, 1);
        place_order(&browser, 1)?;
        browser.go_to(&empty)?;
        await_streams(&server, 0);
    }
    Ok(())
}

#[test]
fn tabs_follow_what_one_of_them_does_with_the_session() -> Outcome<()> {
    let data = tempfile::tempdir()?;
    let server = Server::start(data.path(), &[]);
    let browser = Browser::start()?;
    let first = browser.current()?;
    enter(&browser, &server.address, "alice")?;
    let second = open_page(&browser, "window", &server, "")?;
    let name = |user: &str| {
        format!("return document.querySelector('#user-name').textContent === '{user}'")
    };
    browser.wait_for("the user's name", &name("alice"))?;
    browser.click("#log-out")?;
    let log_in = "return document.body.dataset.view === 'login'";
    browser.go_to(&first)?;
    browser.wait_for("the log-in in the other tab", log_in)?;
    browser.fill("#login-user", "bob")?;
    browser.click("#log-in")?;
    await_trading(&browser)?;
    browser.go_to(&second)?;
    browser.wait_for("the other user in the other tab", &name("bob"))?;
    Ok(())
}
