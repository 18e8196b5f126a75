//! What the page shows while the server or its exchange is frozen or gone, and how it recovers by
//! itself.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use super::access::audit;
use super::{await_outcome, await_stream, await_trading, enter};
use crate::support::events::EventStream;
use crate::support::market::Market;
use crate::support::ports::free_address;
use crate::support::relay::Relay;
use crate::support::webdriver::{Browser, Outcome};
use crate::support::{Exchange, Program, Server, api, token};

/// What the page shows of the newest price and its freshness.
const LOOK: &str = "
    const price = document.querySelector('#watchlist li [data-part=price]');
    const { opacity } = getComputedStyle(price);
    return [document.querySelector('#watchlist').dataset.stale, Number(opacity) < 1,
        document.querySelector('#stale-note').textContent].join('; ');";

/// Records every state of the stream from now on.
const NOTE_STATES: &str = "
    window.states = [];
    const pill = document.querySelector('#stream-state');
    new MutationObserver(() => states.push(pill.dataset.state)).observe(pill, { attributes: true });";

fn signal(program: &Program, signal: rustix::process::Signal) -> Outcome<()> {
    let pid = i32::try_from(program.pid())?;
    let pid = rustix::process::Pid::from_raw(pid).ok_or("a process without a number")?;
    Ok(rustix::process::kill_process(pid, signal)?)
}

/// What the page shows once its stream reaches a state.
fn look_when(browser: &Browser, state: &str) -> Outcome<String> {
    await_stream(browser, state)?;
    Ok(browser.run(LOOK)?.as_str().ok_or("no look")?.to_owned())
}

/// Waits for a live stream and a price that is not stale: what a row says itself is asked for anew
/// only once the stream is live.
fn await_fresh_look(browser: &Browser) -> Outcome<()> {
    await_stream(browser, "live")?;
    let is_fresh =
        format!("const look = (() => {{ {LOOK} }})(); return look === 'false; false; ';");
    browser.wait_for("the price to be fresh", &is_fresh)?;
    Ok(())
}

#[test]
fn prices_of_a_frozen_server_are_stale_within_two_heartbeats_and_come_back() -> Outcome<()> {
    let data = tempfile::tempdir()?;
    let server = Server::start(data.path(), &["--heartbeat-seconds", "2"]);
    let browser = Browser::start()?;
    enter(&browser, &server.address, "alice")?;
    await_fresh_look(&browser)?;
    let begun_ms = browser.run("return Date.now()")?.as_u64().ok_or("no time")?;
    signal(&server.program, rustix::process::Signal::STOP)?;
    let look = look_when(&browser, "silent")?;
    let over_ms = browser.run("return Date.now()")?.as_u64().ok_or("no time")?;
    assert!(
        look.starts_with(
            "true; true; The server has fallen silent. This page keeps trying. Prices are from"
        ),
        "{look}"
    );
    // On a busy machine the page may notice late, but never before there was silence.
    assert!(over_ms - begun_ms > 2_000, "noticed after {} ms", over_ms - begun_ms);
    signal(&server.program, rustix::process::Signal::CONT)?;
    await_fresh_look(&browser)?;
    Ok(())
}

#[test]
fn a_silent_market_is_live_for_as_long_as_the_server_is() -> Outcome<()> {
    let data = tempfile::tempdir()?;
    let market = Market::start(&["SPY", "IBM", "BAC", "AIG"]);
    market.print("SPY", 20_000);
    let settings = ["--exchange", &market.address, "--heartbeat-seconds", "3"];
    let server = Server::start(data.path(), &settings);
    let browser = Browser::start()?;
    enter(&browser, &server.address, "alice")?;
    await_stream(&browser, "live")?;
    browser.run(NOTE_STATES)?;
    // Only heartbeats, for longer than the page's timeout.
    let token = token(data.path(), "bob");
    EventStream::get(&server.address, &token, "symbols=SPY", "").await_heartbeats(3);
    assert_eq!(browser.run("return states.join()")?, "");
    Ok(())
}

/// Answers everything with `502`, like a proxy whose server is down, until `streams` stream requests
/// have come.
fn be_a_proxy_without_its_server(listen: &str, streams: usize) -> Outcome<()> {
    let listener = api::until("the port to be free", || TcpListener::bind(listen).ok());
    let mut asked = 0;
    while asked < streams {
        let (mut client, _) = listener.accept()?;
        asked += usize::from(read_head(&mut client).contains(" /subscribe"));
        let answer = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        // The client may be gone.
        let _gone = client.write_all(answer.as_bytes());
        let _gone = client.shutdown(Shutdown::Both);
    }
    Ok(())
}

fn read_head(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut bytes = [0; 4_096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match client.read(&mut bytes) {
            Ok(read @ 1..) => head.extend_from_slice(bytes.get(..read).unwrap_or_default()),
            _ => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

#[test]
fn a_page_comes_back_to_a_server_that_was_killed_even_after_answers_that_seem_final() -> Outcome<()>
{
    let data = tempfile::tempdir()?;
    let mut server = Server::start(data.path(), &["--heartbeat-seconds", "1"]);
    let listen = server.address.replace("http://", "");
    let browser = Browser::start()?;
    enter(&browser, &server.address, "alice")?;
    await_stream(&browser, "live")?;

    server.program.kill_in_place();
    let look = look_when(&browser, "lost")?;
    assert!(
        look.starts_with(
            "true; true; The server is not responding. This page keeps trying. Prices are from"
        ),
        "{look}"
    );
    // The state stays "lost": "silent" would be wrong for a server that is down.
    browser.run(NOTE_STATES)?;
    let longer_than_two_heartbeats = "setTimeout(arguments[0], 3000)";
    browser.run_until_done(longer_than_two_heartbeats)?;
    server = Server::start(data.path(), &["--listen", &listen]);
    await_stream(&browser, "live")?;
    let states = browser.run("return states.join()")?;
    assert!(!states.to_string().contains("silent"), "{states}");

    server.program.kill_in_place();
    // After the first of these, a plain `EventSource` never reconnects.
    be_a_proxy_without_its_server(&listen, 2)?;
    let _server = Server::start(data.path(), &["--listen", &listen]);
    await_fresh_look(&browser)?;
    browser.fill("#ticket-symbol", "SPY")?;
    browser.fill("#ticket-shares", "3")?;
    browser.click("#place-order")?;
    await_outcome(&browser, "accepted")?;
    Ok(())
}

#[test]
fn a_page_that_finds_nobody_when_it_is_loaded_keeps_trying() -> Outcome<()> {
    let data = tempfile::tempdir()?;
    let server = Server::start(data.path(), &[]);
    let relay = Relay::start(&server.address);
    let browser = Browser::start()?;
    enter(&browser, &relay.address, "alice")?;
    relay.lose_answers_to(Some("GET /orders"));
    browser.reload()?;
    let said = browser.wait_for(
        "words",
        "return document.body.dataset.view === 'starting'
             && document.querySelector('#start-message').textContent;",
    )?;
    assert_eq!(said, "The server is not responding. This page keeps trying.");
    relay.lose_answers_to(None);
    await_trading(&browser)?;
    await_stream(&browser, "live").map(drop)
}

#[test]
fn an_exchange_that_comes_after_its_server_heals_the_page() -> Outcome<()> {
    let (data, venue) = (tempfile::tempdir()?, tempfile::tempdir()?);
    // A free port.
    let listen = free_address();
    let exchange = format!("http://{listen}");
    let folder = data.path().to_str().ok_or("a printable path")?;
    let program = Program::start(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--data-dir",
        folder,
        "--exchange",
        &exchange,
    ]);
    let address = program.await_line("listening on ");
    let browser = Browser::start()?;
    enter(&browser, &address, "alice")?;
    let without =
        "return document.querySelectorAll('#watchlist [data-part=note]:not(:empty)').length";
    browser.wait_for("a row that says why it has no price", without)?;

    // Nothing was recorded, so a reloaded page has nothing to look up.
    browser.fill("#ticket-symbol", "SPY")?;
    browser.fill("#ticket-shares", "3")?;
    browser.click("#place-order")?;
    await_outcome(&browser, "unavailable")?;
    audit(&browser, "no exchange")?;
    browser.reload()?;
    await_trading(&browser)?;
    assert_eq!(browser.run("return document.querySelector('#ticket-message').textContent")?, "");

    let exchange = Exchange::start_at(&listen, venue.path(), &["--speed", "20"]);
    let all = "return document.querySelectorAll('#watchlist li[data-price-cents]').length === 4
        && !document.querySelector('#watchlist li[data-unknown=true], #watchlist li[data-stale=true]')";
    browser.wait_for("all prices", all)?;
    await_stream(&browser, "live")?;
    assert_eq!(browser.run(LOOK)?, "false; false; ");

    exchange.program.kill();
    let look = look_when(&browser, "feed-lost")?;
    assert!(look.starts_with("true; true; The server has lost the exchange's feed"), "{look}");
    audit(&browser, "no feed")
}
