//! The page at `/`, in a real browser against the real program.

mod access;
mod first_day;
mod log_in;
mod once;
mod recovery;
mod tabs;

use crate::support::webdriver::{Browser, Outcome};
use serde_json::Value;

/// The price stream is live.
const LIVE: &str = "return document.querySelector('#stream-state').dataset.state === 'live'";

/// Opens the page of a development server and logs a user in.
fn enter(browser: &Browser, address: &str, user: &str) -> Outcome<()> {
    browser.open(address)?;
    browser.wait_for("the log-in", "return document.body.dataset.view === 'login'")?;
    browser.fill("#login-user", user)?;
    browser.click("#log-in")?;
    await_trading(browser)
}

fn await_trading(browser: &Browser) -> Outcome<()> {
    let trading = "return document.body.dataset.view === 'trading'";
    browser.wait_for("the trading view", trading).map(drop)
}

/// Waits for the newest order (the first row) to reach a status; returns its id.
fn newest_order(browser: &Browser, terms: &str, status: &str) -> Outcome<String> {
    let probe = format!(
        "const row = document.querySelector('#orders tr');
         return row?.dataset.status === '{status}' && row.textContent.includes('{terms}')
             && row.dataset.orderId;"
    );
    let id = browser.wait_for(&format!("{terms} to be {status}"), &probe)?;
    Ok(id.as_str().ok_or("an order without an id")?.to_owned())
}

/// Waits until the page shows this outcome of the sent order.
fn await_outcome(browser: &Browser, state: &str) -> Outcome<String> {
    let probe = format!(
        "const said = document.querySelector('#ticket-message');
         return said.dataset.state === '{state}' && said.textContent;"
    );
    let said = browser.wait_for(&format!("the ticket to say {state}"), &probe)?;
    Ok(said.as_str().ok_or("no words")?.to_owned())
}

/// Waits for a state of the price stream, and returns what the page shows.
fn await_stream(browser: &Browser, state: &str) -> Outcome<Value> {
    let probe = format!(
        "const {{ dataset, textContent }} = document.querySelector('#stream-state');
         return dataset.state === '{state}' && textContent;"
    );
    browser.wait_for(&format!("the stream to be {state}"), &probe)
}
