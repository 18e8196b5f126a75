//! A user's first session: log in, see prices move, place orders, cancel one, reload, log out.

use serde_json::Value;

use super::{LIVE, enter, newest_order};
use crate::support::Server;
use crate::support::webdriver::{Browser, Outcome};

/// Every order on the page as `id status`, newest first.
const ORDERS_SHOWN: &str = "return Array.from(document.querySelectorAll('#orders tr'), \
     (row) => `${row.dataset.orderId} ${row.dataset.status}`).join();";

fn newest_print(browser: &Browser, after: &str) -> Outcome<String> {
    let probe = format!(
        "const row = document.querySelector('#watchlist li[data-symbol=SPY]');
         return row?.dataset.priceCents && row.dataset.timestamp !== '{after}'
             && row.dataset.timestamp;"
    );
    let timestamp = browser.wait_for("a price of SPY", &probe)?;
    Ok(timestamp.as_str().ok_or("a price without a time")?.to_owned())
}

#[test]
fn a_user_watches_prices_and_trades_in_a_browser() -> Outcome<()> {
    let data = tempfile::tempdir()?;
    let server = Server::start(data.path(), &["--universe", "20", "--account-mode", "cash"]);
    let browser = Browser::start()?;

    enter(&browser, &server.address, "browser-user")?;

    // Prices move.
    browser.wait_for("a live stream", LIVE)?;
    let first = newest_print(&browser, "")?;
    let second = newest_print(&browser, &first)?;
    assert!(first.parse::<u64>()? < second.parse::<u64>()?, "prints come in their order");

    // A market order fills.
    browser.fill("#ticket-symbol", "SPY")?;
    browser.fill("#ticket-shares", "3")?;
    browser.click("#place-order")?;
    let filled = newest_order(&browser, "3 / 3", "filled")?;

    // A wrong price shows an error beside its field, and places nothing.
    browser.click("#ticket label:has([value=limit])")?;
    browser.fill("#ticket-price", "1.005")?;
    browser.click("#place-order")?;
    browser.wait_for(
        "an error beside the price",
        "return document.querySelector('#ticket-price[aria-invalid=true]')
             && document.querySelector('[data-error-for=priceInCents]').textContent;",
    )?;

    // A limit order far from the market waits at the exchange until its user cancels it.
    browser.fill("#ticket-price", "1.25")?;
    browser.fill("#ticket-shares", "7")?;
    browser.click("#place-order")?;
    let resting = newest_order(&browser, "$1.25", "submitted")?;
    assert_ne!(filled, resting);
    browser.click(&format!("#orders tr[data-order-id='{resting}'] [data-action=cancel]"))?;
    assert_eq!(newest_order(&browser, "$1.25", "cancelled")?, resting);

    // A reload keeps the session and the orders.
    let expected = format!("{resting} cancelled,{filled} filled");
    assert_eq!(browser.run(ORDERS_SHOWN)?, Value::from(expected.as_str()));
    browser.reload()?;
    let two_orders = "return document.querySelectorAll('#orders tr').length === 2";
    browser.wait_for("the orders after a reload", two_orders)?;
    assert_eq!(browser.run(ORDERS_SHOWN)?, Value::from(expected.as_str()));

    // After the logout nothing is left on the page, and a reload asks for a user.
    browser.click("#log-out")?;
    let logged_out = "return document.body.dataset.view === 'login'
        && document.querySelectorAll('#orders tr, #watchlist li').length === 0;";
    browser.wait_for("the log-in again", logged_out)?;
    browser.reload()?;
    browser.wait_for("the log-in after a reload", logged_out)?;

    let complaints = browser.console()?;
    let of_policy = |line: &&String| line.contains("Content Security Policy");
    assert_eq!(complaints.iter().find(of_policy), None);
    Ok(())
}
