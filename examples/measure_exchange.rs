//! Measures the simulated exchange over loopback TCP, in one process:
//!
//! - `measure_exchange feed SPEED UNIVERSE SECONDS`: one feed reader; prints a second, age of the
//!   prints, processor time of the exchange thread.
//! - `measure_exchange orders SPEED UNIVERSE SECONDS`: one connection that submits batches of 256
//!   market orders and waits for each answer, beside one feed reader.
//! - `measure_exchange run SPEED UNIVERSE SECONDS`: only runs it on 127.0.0.1:9900.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use longbow::sim_exchange::{SimOptions, THREAD_NAME, start};
use longbow::types::Clock;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, speed, universe, seconds] = arguments.as_slice() else {
        return Err("usage: measure_exchange feed|orders|run SPEED UNIVERSE SECONDS".into());
    };
    let duration = Duration::from_secs(seconds.parse()?);
    let directory = std::env::temp_dir().join(format!("measure-exchange-{}", std::process::id()));
    let port = if mode == "run" { 9_900 } else { 0 };
    let mut options = SimOptions::new(SocketAddr::from(([127, 0, 0, 1], port)));
    options.speed = speed.parse()?;
    options.universe = universe.parse()?;
    options.data_dir = Some(directory.clone());
    let begun = Instant::now();
    let exchange = start(options)?;
    println!("started in {:?} on {}", begun.elapsed(), exchange.address());
    let address = exchange.address();
    if mode == "run" {
        std::thread::sleep(duration);
    } else {
        let stop = Arc::new(AtomicBool::new(false));
        let stop_reader = Arc::clone(&stop);
        let reader = std::thread::spawn(move || read_feed(address, &stop_reader));
        let cpu = exchange_cpu()?;
        let begun = Instant::now();
        let mut accepted = 0;
        if mode == "orders" {
            accepted = submit_orders(address, duration)?;
        } else {
            std::thread::sleep(duration);
        }
        let wall = begun.elapsed().as_secs_f64();
        let busy = exchange_cpu()? - cpu;
        stop.store(true, Ordering::Relaxed);
        let feed = reader.join().map_err(|_| "the reader panicked")??;
        println!("exchange thread: {:.1} % of a core", busy / wall * 100.0);
        println!(
            "feed: {:.0} lines/s, {:.1} MB/s; age p50 {} us, p99 {} us, max {} us",
            feed.lines as f64 / wall,
            feed.bytes as f64 / wall / 1e6,
            feed.age(50),
            feed.age(99),
            feed.age(100),
        );
        if mode == "orders" {
            println!("orders: {:.0} accepted/s", accepted as f64 / wall);
        }
    }
    exchange.stop()?;
    let journal = std::fs::metadata(directory.join("journal"))?.len();
    println!("journal: {journal} bytes");
    std::fs::remove_dir_all(directory)?;
    Ok(())
}

/// Processor seconds of the thread named `exchange`.
fn exchange_cpu() -> Result<f64, Failure> {
    // A thread names itself once it runs, which may take a moment on a busy machine.
    for _ in 0..1_000 {
        for task in std::fs::read_dir("/proc/self/task")? {
            let path = task?.path();
            if std::fs::read_to_string(path.join("comm"))?.trim() == THREAD_NAME {
                let stat = std::fs::read_to_string(path.join("schedstat"))?;
                let nanos: u64 = stat.split(' ').next().ok_or("schedstat is empty")?.parse()?;
                return Ok(nanos as f64 / 1e9);
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err("there is no exchange thread".into())
}

#[derive(Default)]
struct Feed {
    lines: u64,
    bytes: u64,
    ages: Vec<u64>,
}

impl Feed {
    /// Age that `percent` of the looked-at lines did not exceed, microseconds.
    fn age(&self, percent: usize) -> u64 {
        let mut ages = self.ages.clone();
        ages.sort_unstable();
        ages.get(ages.len().saturating_sub(1) * percent / 100).copied().unwrap_or(0)
    }
}

/// Reads everything; looks at the stamp of the last line of each read.
fn read_feed(address: SocketAddr, stop: &AtomicBool) -> Result<Feed, Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    stream.write_all(b"GET /v1/feed HTTP/1.1\r\nHost: exchange\r\n\r\n")?;
    let mut feed = Feed::default();
    let mut buffer = vec![0; 256 * 1024];
    while !stop.load(Ordering::Relaxed) {
        let count = match stream.read(&mut buffer) {
            Ok(0) => return Err("the exchange closed the feed".into()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        feed.bytes += count as u64;
        feed.lines += bytes.iter().filter(|&&byte| byte == b'}').count() as u64;
        const STAMP: &[u8] = b"\"timestamp\":";
        let Some(at) = bytes.windows(STAMP.len()).rposition(|window| window == STAMP) else {
            continue;
        };
        let digits = bytes.get(at + STAMP.len()..at + STAMP.len() + 16).unwrap_or_default();
        if let Ok(stamp) = std::str::from_utf8(digits).unwrap_or_default().parse::<u64>() {
            feed.ages.push(Clock.now().micros().saturating_sub(stamp));
        }
    }
    Ok(feed)
}

fn submit_orders(address: SocketAddr, duration: Duration) -> Result<u64, Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let (begun, mut accepted, mut number) = (Instant::now(), 0_u64, 0_u128);
    while begun.elapsed() < duration {
        let now = Clock.now();
        let orders: Vec<String> = (0..256)
            .map(|_| {
                number += 1;
                let id = longbow::types::OrderId::from_u128(number);
                let before = now.saturating_add_micros(1_000_000).micros();
                format!(
                    r#"{{"clientOrderId":"{id}","side":"buy","symbol":"SPY","type":"market","timeInForce":"day","numShares":1,"submitBefore":{before}}}"#
                )
            })
            .collect();
        let body = format!(r#"{{"orders":[{}]}}"#, orders.join(","));
        let head = format!(
            "POST /v1/orders HTTP/1.1\r\nHost: exchange\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes())?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            answers.read_line(&mut line)?;
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        answers.read_exact(&mut body)?;
        accepted += String::from_utf8(body)?.matches("externalOrderId").count() as u64;
    }
    Ok(accepted)
}
