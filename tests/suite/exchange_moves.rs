//! The exchange's name has several addresses, or changes them: every connection follows.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::venue::{Reply, Request, SUBMIT, Venue};
use crate::support::{self, Server, longbow};
use serde_json::{Value, json};

/// A resolver whose addresses for one name are in a file.
struct Names {
    library: PathBuf,
    file: PathBuf,
}

impl Names {
    fn new(directory: &Path) -> Self {
        let library = directory.join("names.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/support/names.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl")
            .status()
            .expect("a C compiler, which Rust links with");
        assert!(compiled.success());
        Self { library, file: directory.join("names") }
    }

    /// Sets the addresses of the name, atomically.
    fn mean(&self, addresses: &[&str]) {
        let next = self.file.with_extension("next");
        fs::write(&next, addresses.join("\n") + "\n").unwrap();
        fs::rename(next, &self.file).unwrap();
    }

    fn program(&self) -> Command {
        let mut command = longbow();
        command.env("LD_PRELOAD", &self.library).env("TEST_NAMES", &self.file);
        command
    }
}

fn limit() -> Value {
    json!({"position": "buy", "symbol": "IBM", "numShares": 10, "priceInCents": 1})
}

fn id(order: &Value) -> &str {
    order["orderId"].as_str().unwrap()
}

#[test]
fn orders_cancels_questions_and_the_feed_follow_the_name() {
    let data = tempfile::tempdir().unwrap();
    let names = Names::new(data.path());
    let venue = Venue::start_at("127.0.0.2:0");
    let port = venue.address().rsplit(':').next().unwrap().to_owned();
    // Nobody listens at the first address.
    names.mean(&["127.0.0.4", "127.0.0.2"]);
    let exchange = format!("http://exchange.test:{port}");
    let server = Server::start_by(names.program(), data.path(), &["--exchange", &exchange]);
    let alice = server.user(data.path(), "alice");
    let orders: Vec<Value> = (0..3).map(|_| alice.place_resting("IBM")).collect();
    let [first, second, third] = &orders[..] else { panic!("three orders") };
    assert_eq!(alice.delete(&format!("/order/{}", id(first))).status, 200);

    // It moves, and the old exchange ends.
    venue.close();
    names.mean(&["127.0.0.3"]);
    venue.listen(&format!("127.0.0.3:{port}"));
    support::api::until("an order at the new address", || {
        (alice.post("/order", &limit()).status == 201).then_some(())
    });
    assert_eq!(alice.delete(&format!("/order/{}", id(second))).status, 200);
    venue.fill(id(third), 1, 10);
    alice.await_status(id(third), "filled");
    venue.on_submit(|request: &Request| Reply::lost(request));
    assert_eq!(alice.post("/order", &limit()).status, 201, "it is asked about");
    venue.off(SUBMIT);

    // It moves, and the old exchange stays up, like a replaced machine.
    let next = Venue::start_at(&format!("127.0.0.5:{port}"));
    names.mean(&["127.0.0.5"]);
    support::api::until("an order at the next address", || {
        alice.post("/order", &limit());
        (!next.orders().is_empty()).then_some(())
    });
}
