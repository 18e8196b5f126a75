//! One ticket places one order, however often its button is pressed and even if the answer is lost.

use super::{await_outcome, await_trading, enter, newest_order};
use crate::support::relay::Relay;
use crate::support::webdriver::{Browser, Outcome};
use crate::support::{Server, api};

/// Shares of every order of a user, newest first.
fn shares_of(client: &api::Client) -> Vec<u64> {
    let orders = client.all_orders();
    orders.iter().filter_map(|order| order.get("numShares")?.as_u64()).collect()
}

/// Sets the shares of the ticket.
fn want(browser: &Browser, shares: u32) -> Outcome<()> {
    browser.fill("#ticket-shares", &shares.to_string())
}

#[test]
fn a_button_that_is_pressed_twice_or_held_places_one_order() -> Outcome<()> {
    let data = tempfile::tempdir()?;
    let server = Server::start(data.path(), &[]);
    let client = server.user(data.path(), "alice");
    let browser = Browser::start()?;
    enter(&browser, &server.address, "alice")?;
    browser.fill("#ticket-symbol", "SPY")?;

    // Every press has sent its order before the next ticket, so the final count includes all.
    for (shares, apart_ms) in [(1, 0), (2, 60), (3, 250)] {
        want(&browser, shares)?;
        browser.double_click("#place-order", apart_ms)?;
        newest_order(&browser, &format!("{shares} / {shares}"), "filled")?;
        browser.double_click("#place-order", apart_ms)?;
    }
    for is_repeated in [true, false] {
        let shares = if is_repeated { 4 } else { 5 };
        want(&browser, shares)?;
        browser.press_enter(false)?;
        (0..6).try_for_each(|_| browser.press_enter(is_repeated))?;
        newest_order(&browser, &format!("{shares} / {shares}"), "filled")?;
        (0..6).try_for_each(|_| browser.press_enter(is_repeated))?;
    }
    // A ticket changed back to the same terms, or submitted again after an answer, is a new one.
    want(&browser, 5)?;
    browser.click("#place-order")?;
    api::until("the sixth order", || (shares_of(&client).len() == 6).then_some(()));
    await_outcome(&browser, "accepted")?;
    browser.click("#order-again")?;
    browser.click("#place-order")?;
    api::until("the seventh order", || (shares_of(&client).len() == 7).then_some(()));
    assert_eq!(shares_of(&client), [5, 5, 5, 4, 3, 2, 1]);
    Ok(())
}

#[test]
fn the_button_says_that_it_is_busy_and_keeps_the_focus() -> Outcome<()> {
    let data = tempfile::tempdir()?;
    let server = Server::start(data.path(), &[]);
    let relay = Relay::start(&server.address);
    let browser = Browser::start()?;
    enter(&browser, &relay.address, "alice")?;
    browser.fill("#ticket-symbol", "SPY")?;
    want(&browser, 3)?;
    browser.run(
        "window.seen = [];
         const button = document.querySelector('#place-order');
         new MutationObserver(() => seen.push([
             button.textContent, button.ariaBusy, button.ariaDisabled,
             document.activeElement === button,
         ].join())).observe(button, { attributes: true, childList: true, subtree: true });",
    )?;
    browser.click("#place-order")?;
    await_outcome(&browser, "accepted")?;
    let seen = browser.run("return seen.join(' then ')")?;
    let expected = "Sending…,true,true,true then Buy 3 SPY,false,true,true";
    assert_eq!(seen.as_str(), Some(expected));
    Ok(())
}

#[test]
fn an_answer_that_is_lost_and_a_reload_place_one_order() -> Outcome<()> {
    let data = tempfile::tempdir()?;
    let server = Server::start(data.path(), &[]);
    let relay = Relay::start(&server.address);
    let client = server.user(data.path(), "alice");
    let browser = Browser::start()?;
    enter(&browser, &relay.address, "alice")?;
    browser.fill("#ticket-symbol", "SPY")?;
    browser.click("#ticket label:has([value=limit])")?;
    browser.fill("#ticket-price", "1.25")?;
    want(&browser, 7)?;
    relay.lose_answers_to(Some("POST /order"));
    browser.click("#place-order")?;
    await_outcome(&browser, "unknown")?;
    relay.lose_answers_to(None);

    // The reloaded page knows the order and says what to do.
    browser.reload()?;
    await_trading(&browser)?;
    let said = await_outcome(&browser, "unknown")?;
    assert!(said.starts_with("Buy 7 SPY: no answer."), "{said}");
    newest_order(&browser, "$1.25", "submitted")?;
    browser.click("#place-order")?;
    let said = await_outcome(&browser, "accepted")?;
    assert!(said.contains("It was placed once and is submitted"), "{said}");
    assert_eq!(shares_of(&client), [7]);

    // After an answer the key is used up: another ticket with the same terms is another order.
    browser.reload()?;
    await_trading(&browser)?;
    browser.fill("#ticket-symbol", "SPY")?;
    browser.click("#ticket label:has([value=limit])")?;
    browser.fill("#ticket-price", "1.25")?;
    want(&browser, 7)?;
    browser.click("#place-order")?;
    await_outcome(&browser, "accepted")?;
    assert_eq!(shares_of(&client), [7, 7]);
    Ok(())
}

#[test]
fn another_user_of_the_tab_has_nothing_to_do_with_an_order_without_an_answer() -> Outcome<()> {
    let data = tempfile::tempdir()?;
    let server = Server::start(data.path(), &[]);
    let relay = Relay::start(&server.address);
    let browser = Browser::start()?;
    enter(&browser, &relay.address, "alice")?;
    browser.fill("#ticket-symbol", "SPY")?;
    want(&browser, 7)?;
    relay.lose_answers_to(Some("POST /order"));
    browser.click("#place-order")?;
    await_outcome(&browser, "unknown")?;
    relay.lose_answers_to(None);
    browser.click("#log-out")?;
    browser.wait_for("the log-in", "return document.body.dataset.view === 'login'")?;
    browser.fill("#login-user", "bob")?;
    browser.click("#log-in")?;
    await_trading(&browser)?;
    assert_eq!(browser.run("return document.querySelector('#ticket-message').textContent")?, "");
    browser.fill("#ticket-symbol", "SPY")?;
    want(&browser, 7)?;
    browser.click("#place-order")?;
    await_outcome(&browser, "accepted")?;
    for name in ["alice", "bob"] {
        assert_eq!(shares_of(&server.user(data.path(), name)), [7], "{name}");
    }
    Ok(())
}
