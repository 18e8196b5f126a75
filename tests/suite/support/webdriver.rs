//! A small client of the W3C WebDriver protocol, and the headless Chromium that it drives.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;

/// Longest time that a page may take to get where a test waits for it.
const WAIT_LIMIT: Duration = Duration::from_secs(60);
/// Longest time for one answer of the driver: a whole wait and the start of a browser fit in.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);
/// How the protocol marks a reference to an element (WebDriver, section 12.2).
const ELEMENT_KEY: &str = "element-6066-11e4-a52e-4f735466cecf";
const BROWSER_FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1000",
];

/// What can be told about a failed step of a test.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// A browser with a fresh profile; both the driver and the browser end when it is dropped.
pub struct Browser {
    session: Session,
    // Dropped after the session, in this order: nothing may use what is already gone.
    _driver: Driver,
    _profile: tempfile::TempDir,
}

struct Driver {
    process: Child,
    port: u16,
    // Kept open: the driver would die of a closed pipe.
    _output: BufReader<ChildStdout>,
}

struct Session {
    agent: Agent,
    address: String,
}

impl Driver {
    fn start() -> Outcome<Self> {
        let mut process = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| format!("chromedriver (package chromium-driver): {error}"))?;
        let output = process.stdout.take().ok_or("the driver has no output")?;
        let mut driver = Self { process, port: 0, _output: BufReader::new(output) };
        let mut line = String::new();
        while driver._output.read_line(&mut line)? > 0 {
            if let Some((_, port)) = line.split_once("successfully on port ") {
                driver.port = port.trim_end().trim_end_matches('.').parse()?;
                return Ok(driver);
            }
            line.clear();
        }
        Err("the driver ended before it said its port".into())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to stop.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Session {
    fn post(&self, command: &str, body: &Value) -> Outcome<Value> {
        let response = self.agent.post(format!("{}{command}", self.address)).send_json(body)?;
        value_of(command, response)
    }

    fn get(&self, command: &str) -> Outcome<Value> {
        value_of(command, self.agent.get(format!("{}{command}", self.address)).call()?)
    }

    fn delete(&self, command: &str) -> Outcome<()> {
        let response = self.agent.delete(format!("{}{command}", self.address)).call()?;
        value_of(command, response).map(drop)
    }
}

/// What the driver says, or its error.
fn value_of(command: &str, response: ureq::http::Response<ureq::Body>) -> Outcome<Value> {
    let mut answer: Value = response.into_body().read_json()?;
    let value = answer.get_mut("value").map(Value::take).unwrap_or_default();
    match value.get("error") {
        Some(error) => {
            let message = value.get("message").and_then(Value::as_str).unwrap_or_default();
            let first_line = message.lines().next().unwrap_or_default();
            Err(format!("{command}: {error}: {first_line}").into())
        }
        None => Ok(value),
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Ends the browser; where even that fails, the test has failed before.
        let _ = self.agent.delete(&self.address).call();
    }
}

impl Browser {
    /// Starts a driver and a browser.
    pub fn start() -> Outcome<Self> {
        let driver = Driver::start()?;
        let profile = tempfile::tempdir()?;
        let profile_flag = format!("--user-data-dir={}", profile.path().display());
        let flags: Vec<&str> = BROWSER_FLAGS.into_iter().chain([profile_flag.as_str()]).collect();
        let wanted = json!({
            "goog:chromeOptions": { "args": flags },
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "script": u64::try_from(WAIT_LIMIT.as_millis())? },
        });
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(ANSWER_LIMIT))
            .build()
            .new_agent();
        let address = format!("http://127.0.0.1:{}/session", driver.port);
        let mut session = Session { agent, address };
        let begun = session.post("", &json!({ "capabilities": { "alwaysMatch": wanted } }))?;
        let id = begun.get("sessionId").and_then(Value::as_str).ok_or("a session without an id")?;
        session.address = format!("{}/{id}", session.address);
        Ok(Self { session, _driver: driver, _profile: profile })
    }

    /// Opens an address and waits until it is loaded.
    pub fn open(&self, address: &str) -> Outcome<()> {
        self.session.post("/url", &json!({ "url": address })).map(drop)
    }

    /// Loads the page again.
    pub fn reload(&self) -> Outcome<()> {
        self.session.post("/refresh", &json!({})).map(drop)
    }

    /// Clicks the middle of the one element that a CSS selector names, as a user would.
    pub fn click(&self, selector: &str) -> Outcome<()> {
        self.on_element(selector, "click", &json!({}))
    }

    /// Replaces what an input holds by typing.
    pub fn fill(&self, selector: &str, text: &str) -> Outcome<()> {
        self.on_element(selector, "clear", &json!({}))?;
        self.on_element(selector, "value", &json!({ "text": text }))
    }

    /// Clicks twice on one place, so far apart.
    pub fn double_click(&self, selector: &str, apart_ms: u64) -> Outcome<()> {
        let element = self.element(selector)?;
        let [down, up] =
            ["pointerDown", "pointerUp"].map(|kind| json!({ "type": kind, "button": 0 }));
        let pause = json!({ "type": "pause", "duration": apart_ms });
        let there = json!({ "type": "pointerMove", "origin": element, "x": 0, "y": 0 });
        let steps = [&there, &down, &up, &pause, &down, &up];
        let mouse = json!({ "type": "pointer", "id": "mouse", "actions": steps });
        self.session.post("/actions", &json!({ "actions": [mouse] })).map(drop)
    }

    /// Presses Enter where the focus is, by a finger or as a key that is held down repeats itself.
    pub fn press_enter(&self, is_repeated: bool) -> Outcome<()> {
        let key = |kind: &str| {
            json!({
                "type": kind, "key": "Enter", "code": "Enter", "text": "\r",
                "windowsVirtualKeyCode": 13, "autoRepeat": is_repeated,
            })
        };
        self.cdp("Input.dispatchKeyEvent", &key("keyDown"))?;
        if is_repeated {
            return Ok(());
        }
        self.cdp("Input.dispatchKeyEvent", &key("keyUp")).map(drop)
    }

    /// A command of the Chrome DevTools Protocol.
    pub fn cdp(&self, command: &str, parameters: &Value) -> Outcome<Value> {
        self.session.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Opens an empty page in another `tab` or `window` and goes there; returns its name.
    pub fn open_another(&self, kind: &str) -> Outcome<String> {
        let made = self.session.post("/window/new", &json!({ "type": kind }))?;
        let name = made.get("handle").and_then(Value::as_str).ok_or("a window without a name")?;
        self.go_to(name)?;
        Ok(name.to_owned())
    }

    /// The name of the tab or window in use.
    pub fn current(&self) -> Outcome<String> {
        let name = self.session.get("/window")?;
        Ok(name.as_str().ok_or("a window without a name")?.to_owned())
    }

    /// Closes the tab or window in use; another must be gone to then.
    pub fn close(&self) -> Outcome<()> {
        self.session.delete("/window")
    }

    /// Goes to a tab or a window, which comes to the front.
    pub fn go_to(&self, name: &str) -> Outcome<()> {
        self.session.post("/window", &json!({ "handle": name })).map(drop)
    }

    /// Runs the body of a function in the page and returns its result.
    pub fn run(&self, body: &str) -> Outcome<Value> {
        self.session.post("/execute/sync", &json!({ "script": body, "args": [] }))
    }

    /// Runs the body of a function in the page until it calls its one argument, and returns what it
    /// calls it with.
    pub fn run_until_done(&self, body: &str) -> Outcome<Value> {
        self.session.post("/execute/async", &json!({ "script": body, "args": [] }))
    }

    /// Waits until the body of a function returns something true, asking again at each change of
    /// the page, and returns that. The error after [`WAIT_LIMIT`] shows what the page said.
    pub fn wait_for(&self, what: &str, body: &str) -> Outcome<Value> {
        let script = format!(
            "const done = arguments[0];
             const probe = () => {{ {body} }};
             const look = () => {{
                 const found = probe();
                 if (!found) return;
                 observer.disconnect();
                 done(found);
             }};
             const observer = new MutationObserver(look);
             observer.observe(document, {{
                 subtree: true, childList: true, attributes: true, characterData: true,
             }});
             look();"
        );
        self.run_until_done(&script).map_err(|error| {
            let page = self.run("return document.body.innerText").unwrap_or_default();
            format!("waited for {what}: {error}; the page says {page}").into()
        })
    }

    /// What the page and the browser have written to the console since the last call.
    pub fn console(&self) -> Outcome<Vec<String>> {
        let entries = self.session.post("/se/log", &json!({ "type": "browser" }))?;
        let entries = entries.as_array().ok_or("a log that is no list")?.iter();
        let texts = entries.filter_map(|entry| entry.get("message").and_then(Value::as_str));
        Ok(texts.map(str::to_owned).collect())
    }

    fn element(&self, selector: &str) -> Outcome<Value> {
        self.session.post("/element", &json!({ "using": "css selector", "value": selector }))
    }

    fn on_element(&self, selector: &str, action: &str, body: &Value) -> Outcome<()> {
        let element = self.element(selector)?;
        let id = element.get(ELEMENT_KEY).and_then(Value::as_str).ok_or("no element reference")?;
        let acted = self.session.post(&format!("/element/{id}/{action}"), body);
        acted.map(drop).map_err(|error| format!("{selector}: {error}").into())
    }
}
