//! The page's log-in where users need a token.

use super::access::audit;
use super::{await_outcome, await_trading};
use crate::support::webdriver::{Browser, Outcome};
use crate::support::{Server, api};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A token signed with the secret.
fn token(user: &str, lifetime_s: i64) -> Outcome<String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let now = i64::try_from(now)?;
    let claims = serde_json::json!({ "sub": user, "iat": now - 600, "exp": now + lifetime_s });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes())?;
    Ok(jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key)?)
}

#[test]
fn a_server_with_a_secret_asks_for_a_token() -> Outcome<()> {
    let data = tempfile::tempdir()?;
    let secret = data.path().join("secret");
    std::fs::write(&secret, SECRET)?;
    let secret = secret.to_str().ok_or("a printable path")?;
    let server = Server::start(data.path(), &["--jwt-secret-file", secret]);
    let browser = Browser::start()?;
    browser.open(&server.address)?;
    let asked = "return document.body.dataset.view === 'login' && document.activeElement.id";
    assert_eq!(browser.wait_for("the log-in", asked)?, "login-token");
    let words = browser.run("return document.querySelector('main').innerText")?;
    let words = words.as_str().ok_or("no words")?;
    assert!(words.contains("Token") && !words.contains("Any name will do"), "{words}");
    assert_eq!(
        browser.run("return document.querySelector('#login-user').checkVisibility()")?,
        false
    );

    audit(&browser, "a token is asked for")?;
    let said = "return document.querySelector('#login-error').textContent";
    for (wrong, why) in [
        ("carol".to_owned(), "three parts"),
        ("ä.ö.ü".to_owned(), "three parts"),
        (token("carol", -300)?, "expired"),
        (format!("{}x", token("carol", 300)?), "signed"),
    ] {
        browser.run("document.querySelector('#login-error').textContent = ''")?;
        browser.fill("#login-token", &wrong)?;
        browser.click("#log-in")?;
        let said = browser.wait_for("an error", said)?;
        assert!(said.as_str().is_some_and(|said| said.contains(why)), "{wrong}: {said}");
    }

    audit(&browser, "a wrong token")?;
    let good = token("carol", 300)?;
    browser.fill("#login-token", &format!("  Bearer {good} "))?;
    browser.click("#log-in")?;
    await_trading(&browser)?;
    let name = "return document.querySelector('#user-name').textContent";
    assert_eq!(browser.run(name)?, "carol");
    assert_eq!(browser.run("return document.querySelector('#login-token').value")?, "");
    browser.fill("#ticket-symbol", "SPY")?;
    browser.fill("#ticket-shares", "3")?;
    browser.click("#place-order")?;
    await_outcome(&browser, "accepted")?;
    assert_eq!(api::Client::new(&server.address, &good).all_orders().len(), 1);
    Ok(())
}
