//! Odd but valid HTTP from the exchange: interim responses, extra line ends, one byte at a time.

use std::time::Duration;

use crate::support::Server;
use crate::support::venue::{CANCEL, Reply, Request, SUBMIT, Venue};
use serde_json::json;

fn raw(request: &Request, before: &str, after: &str) -> Reply {
    let body = request.answer().to_string();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    Reply::Raw(format!("{before}{head}{body}{after}").into_bytes())
}

#[test]
fn interim_responses_and_line_ends_change_nothing() {
    let (venue, data) = (Venue::start(), tempfile::tempdir().unwrap());
    let server = Server::start(data.path(), &["--exchange", &venue.address()]);
    let alice = server.user(data.path(), "alice");
    let limit = json!({"position": "buy", "symbol": "IBM", "numShares": 10, "priceInCents": 1});
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
    let interim = format!("HTTP/1.1 100 Continue\r\n\r\n{early}");
    let mut placed = Vec::new();
    for (before, after) in [
        (early, ""),
        (&*interim, ""),
        ("\r\n", ""),
        ("", "\r\n"),
        ("", "\r\n\r\n"),
        (early, "\r\n"),
    ] {
        let (first, last) = (before.to_owned(), after.to_owned());
        venue.on(SUBMIT, move |request: &Request| raw(request, &first, &last));
        for _ in 0..3 {
            let answer = alice.post("/order", &limit);
            assert_eq!(answer.status, 201, "{before:?} {after:?}: {}", answer.text);
            placed.push(answer.body["orderId"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(venue.orders().len(), placed.len());
    venue.on(CANCEL, move |request: &Request| raw(request, early, "\r\n"));
    for id in placed.iter().take(3) {
        assert_eq!(alice.delete(&format!("/order/{id}")).status, 200);
    }
    assert_eq!(server.metric("orders_unknown_outcomes_total"), 0);
}

#[test]
fn an_answer_that_drips_ends_with_the_requests_time_and_a_stop_is_obeyed() {
    let (venue, data) = (Venue::start(), tempfile::tempdir().unwrap());
    let settings = ["--exchange", &venue.address(), "--exchange-timeout-ms", "500"];
    let server = Server::start(data.path(), &settings);
    let alice = server.user(data.path(), "alice");
    venue.on_submit(|_: &Request| Reply::Drip(Duration::from_millis(50), Box::new(Reply::Default)));
    let limit = json!({"position": "buy", "symbol": "IBM", "numShares": 10, "priceInCents": 1});
    let placed = alice.post("/order", &limit);
    assert_eq!(placed.status, 201, "found out about: {}", placed.text);
    assert_eq!(venue.orders().len(), 1);
    // It stops even while every request drips.
    venue.on_query(|_: &Request| Reply::Drip(Duration::from_millis(50), Box::new(Reply::Default)));
    let asked = std::thread::spawn(move || {
        alice.try_send(ureq::http::Method::POST, "/order", limit.to_string().as_bytes())
    });
    venue.await_requests(SUBMIT, 2);
    assert!(server.program.stop().success());
    let answer = asked.join().unwrap();
    assert!(answer.is_none_or(|answer| answer.status != 201), "nobody has confirmed it");
}
