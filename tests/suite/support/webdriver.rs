//! A headless Chromium, driven by the W3C WebDriver protocol.

use std::error::Error;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use fantoccini::actions::{InputSource, MOUSE_BUTTON_LEFT, MouseActions, PointerAction};
use fantoccini::elements::Element;
use fantoccini::error::CmdError;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use url::{ParseError, Url};

/// Longest wait for a state of the page.
const WAIT_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for one answer of the driver; longer than a wait for the page or a browser start.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);
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

/// The result of a step of a test.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// A browser with a new profile; dropping it ends the driver and the browser.
pub(crate) struct Browser {
    client: Client,
    runtime: Runtime,
    // Dropped after the session, in this order.
    _driver: Driver,
    _profile: tempfile::TempDir,
}

struct Driver {
    process: Child,
    port: u16,
    // Kept open: a closed pipe would kill the driver.
    _output: BufReader<ChildStdout>,
}

/// A command of chromedriver beyond the protocol.
#[derive(Debug)]
struct ChromeCommand {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for ChromeCommand {
    fn endpoint(&self, driver: &Url, session_id: Option<&str>) -> Result<Url, ParseError> {
        driver.join(&format!("session/{}/{}", session_id.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _url: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
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
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser; if this fails, the test has already failed.
        let _ = self.wait(self.client.clone().close());
    }
}

impl Browser {
    /// Starts a driver and a browser.
    pub(crate) fn start() -> Outcome<Self> {
        let driver = Driver::start()?;
        let profile = tempfile::tempdir()?;
        let profile_flag = format!("--user-data-dir={}", profile.path().display());
        let flags: Vec<&str> = BROWSER_FLAGS.into_iter().chain([profile_flag.as_str()]).collect();
        let wanted = json!({
            "goog:chromeOptions": { "args": flags },
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "script": u64::try_from(WAIT_LIMIT.as_millis())? },
        });
        let wanted = serde_json::from_value(wanted)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let address = format!("http://127.0.0.1:{}", driver.port);
        let client = runtime.block_on(async {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            let connecting = builder.capabilities(wanted).connect(&address);
            tokio::time::timeout(ANSWER_LIMIT, connecting).await
        })??;
        Ok(Self { client, runtime, _driver: driver, _profile: profile })
    }

    /// Waits for the answer to a command.
    fn wait<T>(&self, answer: impl Future<Output = Result<T, CmdError>>) -> Outcome<T> {
        let limited = async { tokio::time::timeout(ANSWER_LIMIT, answer).await };
        Ok(self.runtime.block_on(limited)??)
    }

    /// Opens an address and waits until it is loaded.
    pub(crate) fn open(&self, address: &str) -> Outcome<()> {
        self.wait(self.client.goto(address))
    }

    /// Loads the page again.
    pub(crate) fn reload(&self) -> Outcome<()> {
        self.wait(self.client.refresh())
    }

    /// Clicks the middle of the element that a CSS selector names, as a user would.
    pub(crate) fn click(&self, selector: &str) -> Outcome<()> {
        self.on_element(selector, async |element| element.click().await)
    }

    /// Types new contents into an input.
    pub(crate) fn fill(&self, selector: &str, text: &str) -> Outcome<()> {
        self.on_element(selector, async |element| {
            element.clear().await?;
            element.send_keys(text).await
        })
    }

    /// Clicks the same place twice, with a pause.
    pub(crate) fn double_click(&self, selector: &str, apart_ms: u64) -> Outcome<()> {
        let [down, up] = [
            PointerAction::Down { button: MOUSE_BUTTON_LEFT },
            PointerAction::Up { button: MOUSE_BUTTON_LEFT },
        ];
        let pause = PointerAction::Pause { duration: Duration::from_millis(apart_ms) };
        self.on_element(selector, async |element| {
            let there = PointerAction::MoveToElement { element, duration: None, x: 0.0, y: 0.0 };
            let steps = [there, down.clone(), up.clone(), pause, down, up];
            let mouse = MouseActions::new("mouse".to_owned());
            let mouse = steps.into_iter().fold(mouse, |mouse, step| mouse.then(step));
            self.client.perform_actions(mouse).await
        })
    }

    /// Presses Enter at the focus, once or as the repeat of a held key.
    pub(crate) fn press_enter(&self, is_repeated: bool) -> Outcome<()> {
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
    pub(crate) fn cdp(&self, command: &str, parameters: &Value) -> Outcome<Value> {
        let body = json!({ "cmd": command, "params": parameters });
        self.wait(self.client.issue_cmd(ChromeCommand { path: "goog/cdp/execute", body }))
    }

    /// Opens an empty page in another `tab` or `window` and goes there; returns its name.
    pub(crate) fn open_another(&self, kind: &str) -> Outcome<String> {
        let name: String = self.wait(self.client.new_window(kind == "tab"))?.handle.into();
        self.go_to(&name)?;
        Ok(name)
    }

    /// The name of the tab or window in use.
    pub(crate) fn current(&self) -> Outcome<String> {
        Ok(self.wait(self.client.window())?.into())
    }

    /// Closes the current tab or window; the test must then switch to another.
    pub(crate) fn close(&self) -> Outcome<()> {
        self.wait(self.client.close_window())
    }

    /// Switches to a tab or window, which comes to the front.
    pub(crate) fn go_to(&self, name: &str) -> Outcome<()> {
        self.wait(self.client.switch_to_window(name.try_into()?))
    }

    /// Runs the body of a function in the page and returns its result.
    pub(crate) fn run(&self, body: &str) -> Outcome<Value> {
        self.wait(self.client.execute(body, Vec::new()))
    }

    /// Runs the body of a function in the page until it calls its only argument, and returns the value
    /// it passes.
    pub(crate) fn run_until_done(&self, body: &str) -> Outcome<Value> {
        self.wait(self.client.execute_async(body, Vec::new()))
    }

    /// Waits until the body of a function returns a truthy value, retrying at each change of the page,
    /// and returns it. The error after [`WAIT_LIMIT`] shows the page.
    pub(crate) fn wait_for(&self, what: &str, body: &str) -> Outcome<Value> {
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
    pub(crate) fn console(&self) -> Outcome<Vec<String>> {
        let command = ChromeCommand { path: "se/log", body: json!({ "type": "browser" }) };
        let entries = self.wait(self.client.issue_cmd(command))?;
        let entries = entries.as_array().ok_or("a log that is no list")?.iter();
        let texts = entries.filter_map(|entry| entry.get("message").and_then(Value::as_str));
        Ok(texts.map(str::to_owned).collect())
    }

    fn on_element(
        &self,
        selector: &str,
        act: impl AsyncFnOnce(Element) -> Result<(), CmdError>,
    ) -> Outcome<()> {
        let acted = self.wait(async { act(self.client.find(Locator::Css(selector)).await?).await });
        acted.map_err(|error| format!("{selector}: {error}").into())
    }
}
