//! Chromium's own `EventSource`.

use serde_json::Value;

use super::{Seen, SseClient};
use crate::support::webdriver::{Browser, Outcome};

/// Queues events in the page until they are read.
const FOLLOW: &str = "
    const waiting = [], wanted = [];
    const deliver = () => {
        while (waiting.length && wanted.length) wanted.shift()(waiting.shift());
    };
    const source = new EventSource(ADDRESS);
    for (const name of ['open', 'price', 'reset', 'feed', 'goodbye', 'gap']) {
        source.addEventListener(name, ({ data, lastEventId }) => {
            // The browser's own 'open' event reports the connection and has no data.
            if (data === undefined) return;
            waiting.push({ name, data, id: lastEventId });
            deliver();
        });
    }
    source.addEventListener('error', () => {
        if (source.readyState !== EventSource.CLOSED) return;
        waiting.push({ name: 'given up for good', data: '', id: '' });
        deliver();
    });
    window.nextEvent = (done) => { wanted.push(done); deliver(); };";

/// A page of the server with one open `EventSource`.
pub(crate) struct ChromiumClient(Browser);

impl ChromiumClient {
    /// Logs a user in and subscribes to a path of the server.
    pub(crate) fn follow(server: &str, path: &str, user: &str) -> Self {
        Self::try_follow(server, path, user).expect("the browser follows")
    }

    fn try_follow(server: &str, path: &str, user: &str) -> Outcome<Self> {
        let browser = Browser::start()?;
        // A page of the same origin that opens no stream.
        browser.open(&format!("{server}/style.css"))?;
        let body = serde_json::json!({ "user": user }).to_string();
        let log_in = format!(
            "fetch('/session', {{ method: 'POST', body: {body:?} }})
                 .then((answer) => arguments[0](answer.status));"
        );
        let status = browser.run_until_done(&log_in)?;
        assert_eq!(status, 200, "the log-in");
        browser.run(&FOLLOW.replace("ADDRESS", &format!("{path:?}")))?;
        Ok(Self(browser))
    }
}

impl SseClient for ChromiumClient {
    fn next(&mut self) -> Seen {
        let event = self.0.run_until_done("window.nextEvent(arguments[0]);");
        let event = event.expect("the browser answers");
        let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        assert_ne!(event, Value::Null);
        Seen::new(&text("name"), &text("data"), &text("id"))
    }
}
