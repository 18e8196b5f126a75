use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::*;
use crate::{
    cpu,
    phase::{Interrupt, Phase},
};

/// A server that answers `201` and tells the bodies of its requests. The first answer comes
/// after `stall`; every `close_each`th one ends its connection.
fn server(stall: Duration, close_each: usize) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (bodies, seen) = mpsc::channel();
    thread::spawn(move || {
        for (number, socket) in listener.incoming().flatten().enumerate() {
            let (bodies, stall) =
                (bodies.clone(), if number == 0 { stall } else { Duration::ZERO });
            thread::spawn(move || answer(socket, stall, close_each, &bodies));
        }
    });
    (address, seen)
}

fn answer(socket: TcpStream, stall: Duration, close_each: usize, bodies: &mpsc::Sender<String>) {
    let mut reader = BufReader::new(&socket);
    for number in 1.. {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        bodies.send(String::from_utf8(body).unwrap()).unwrap();
        if number == 1 {
            thread::sleep(stall);
        }
        let close = if number % close_each == 0 { "Connection: close\r\n" } else { "" };
        let text = format!("HTTP/1.1 201 Created\r\n{close}Content-Length: 2\r\n\r\n{{}}");
        if (&socket).write_all(text.as_bytes()).is_err() || !close.is_empty() {
            return;
        }
    }
}

fn run(options: OrderOptions) -> OrderReport {
    let control = Control::new();
    // The window starts before the first order, so that no order lies outside of it.
    control.set(Phase::Measure);
    let client = OrderClient::start(options, control.clone()).unwrap();
    let interrupt = Interrupt::never();
    interrupt.sleep(0.3).unwrap();
    control.set(Phase::Counted);
    interrupt.wait_until(60.0, || Ok(client.has_ended() || control.has_counted())).unwrap();
    control.set(Phase::Stop);
    client.join().unwrap()
}

fn options(address: SocketAddr, in_flight: usize, rate: Option<f64>) -> OrderOptions {
    OrderOptions {
        address,
        authority: address.to_string(),
        in_flight,
        tokens: vec!["a".to_owned(), "b".to_owned()],
        rate,
        run_id: "run".to_owned(),
        symbols: vec!["SPY".to_owned(), "IBM".to_owned()],
        limit_prices_cents: vec![100, 200],
        most_orders: None,
        core: cpu::core_count() - 1,
    }
}

#[test]
fn every_order_is_sent_once_and_answered() {
    let (address, seen) = server(Duration::ZERO, 10);
    let report = run(options(address, 4, None));
    let bodies: Vec<String> = seen.try_iter().collect();
    assert_eq!(bodies.len() as u64, report.sent);
    assert_eq!(bodies.iter().collect::<BTreeSet<_>>().len(), bodies.len(), "all different");
    assert!(report.sent > 40, "connections were closed and opened again");
    assert_eq!((report.unanswered, report.examples.len()), (0, 0));
    assert_eq!(report.answers.keys().collect::<Vec<_>>(), [&201]);
    assert_eq!(report.all_answers, BTreeMap::from([(201, report.sent)]));
    assert_eq!(report.latencies.len(), report.sent, "also those answered after the window");
}

#[test]
fn no_more_orders_leave_than_may() {
    let (address, seen) = server(Duration::ZERO, usize::MAX);
    let report = run(OrderOptions { most_orders: Some(30), ..options(address, 4, None) });
    assert_eq!((report.sent, report.unanswered), (30, 0));
    let cheap = seen.try_iter().filter(|body| body.contains("\"priceInCents\":100,")).count();
    assert_eq!(cheap, 15, "limits take turns");
}

#[test]
fn a_stall_is_seen_by_every_order_that_was_due_in_it() {
    let stall = Duration::from_millis(100);
    let (address, _seen) = server(stall, usize::MAX);
    let report = run(options(address, 1, Some(500.0)));
    assert_eq!(report.unanswered, 0, "what was due is sent, even late");
    assert!(report.sent_late > 10 && report.most_late_nanos > 50_000_000, "and counted");
    // About 50 orders were due while the only connection waited; a closed loop would see one.
    let late = report.latencies.len() - report.latencies.count_between(0, 20_000);
    assert!(late > 10, "{late} of {} orders were late", report.latencies.len());
}
