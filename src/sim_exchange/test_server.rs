//! A running exchange of tests and an independent client of it, over real TCP.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::tape::{Tape, TapeParts, TapePrint, TapeSymbol};
use super::{SimHandle, SimOptions, Speed, start};
use crate::exchange::wire::{FeedLine, FeedLineType, FeedSession};
use crate::types::{Clock, PriceCents, Symbol};

/// How long a test waits for something before it fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
pub(super) const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A minute in which AAA prints 100 shares at 100 cents a hundred times a second, and BBB once a
/// second.
fn write_tape(directory: &Path) -> std::path::PathBuf {
    let symbol = |name| TapeSymbol {
        symbol: Symbol::new(name).unwrap(),
        previous_close: PriceCents::new(99).unwrap(),
    };
    let print = |millis, symbol| TapePrint { millis, price_cents: 100, shares: 100, symbol };
    let aaa = (0..60_000).step_by(10).map(|millis| print(millis, 0));
    let bbb = (0..60_000).step_by(1_000).map(|millis| print(millis, 1));
    let tape = Tape::new(TapeParts {
        source: "made up".to_owned(),
        day: 20_131_008,
        open_millis: 0,
        close_millis: 60_000,
        symbols: vec![symbol("AAA"), symbol("BBB")],
        prints: aaa.chain(bbb).collect(),
    });
    let path = directory.join("tape");
    std::fs::write(&path, tape.unwrap().encode().unwrap()).unwrap();
    path
}

pub(super) fn options(directory: &Path, speed: f64) -> SimOptions {
    let mut options = SimOptions::new(LOOPBACK);
    options.tape = Some(write_tape(directory));
    options.data_dir = Some(directory.join("exchange"));
    options.speed = Speed::new(speed).unwrap();
    options.universe = 0;
    options
}

/// An exchange that replays its tape at ten times its speed, and its data directory.
pub(super) fn exchange() -> (tempfile::TempDir, SimHandle) {
    let directory = tempfile::tempdir().unwrap();
    let exchange = start(options(directory.path(), 10.0)).unwrap();
    (directory, exchange)
}

pub(super) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

pub(super) fn post(exchange: &SimHandle, path: &str, body: &Value) -> (u16, Value) {
    let url = format!("http://{}{path}", exchange.address());
    let mut response = agent().post(url).send_json(body).unwrap();
    let status = response.status().as_u16();
    (status, response.body_mut().read_json().unwrap_or(Value::Null))
}

pub(super) fn order(id: &str, limit: Option<i64>, shares: u64) -> Value {
    let mut order = json!({
        "clientOrderId": id, "side": "buy", "symbol": "AAA", "type": "market",
        "timeInForce": "gtc", "numShares": shares,
        "submitBefore": Clock.now().saturating_add_micros(60_000_000),
    });
    if let Some(limit) = limit {
        order["type"] = "limit".into();
        order["limitPriceInCents"] = limit.into();
    }
    order
}

pub(super) fn submit(exchange: &SimHandle, orders: &[Value]) -> Vec<Value> {
    let (status, mut body) = post(exchange, "/v1/orders", &json!({ "orders": orders }));
    assert_eq!(status, 200, "{body}");
    serde_json::from_value(body["results"].take()).unwrap()
}

pub(super) fn query(exchange: &SimHandle, id: &str) -> Value {
    let (status, mut body) = post(exchange, "/v1/orders/query", &json!({ "clientOrderIds": [id] }));
    assert_eq!(status, 200, "{body}");
    let mut record = body["results"][0].take();
    // The position of the feed is independent of the order.
    let as_of = record.as_object_mut().and_then(|record| record.remove("asOf"));
    assert!(as_of.is_some(), "every record says how complete it is");
    record
}

/// A feed connection after its session line.
pub(super) struct Feed {
    pub(super) session: FeedSession,
    lines: std::io::Lines<Box<dyn BufRead>>,
}

impl Feed {
    pub(super) fn open(exchange: &SimHandle, parameters: &str) -> Result<Self, (u16, Value)> {
        let url = format!("http://{}/v1/feed?{parameters}", exchange.address());
        let mut response = agent().get(url).call().unwrap();
        let status = response.status().as_u16();
        if status != 200 {
            return Err((status, response.body_mut().read_json().unwrap()));
        }
        let reader: Box<dyn BufRead> = Box::new(BufReader::new(response.into_body().into_reader()));
        let mut lines = reader.lines();
        let session = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        Ok(Self { session, lines })
    }

    pub(super) fn next(&mut self) -> FeedLine {
        self.try_next().unwrap()
    }

    /// The next line; `None` when the feed was cut.
    pub(super) fn try_next(&mut self) -> Option<FeedLine> {
        let line = self.lines.next()?.ok()?;
        Some(serde_json::from_str(&line).unwrap())
    }

    /// Reads until a wanted line, and checks that sequences increase by one (heartbeats repeat the
    /// last).
    pub(super) fn until(&mut self, wanted: impl Fn(&FeedLine) -> bool) -> FeedLine {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE, "the line never came");
            let line = self.next();
            let heartbeat = line.line_type == FeedLineType::Heartbeat;
            self.session.sequence += u64::from(!heartbeat);
            assert_eq!(line.sequence, self.session.sequence, "no gap and no repeat");
            if wanted(&line) {
                return line;
            }
        }
    }
}
