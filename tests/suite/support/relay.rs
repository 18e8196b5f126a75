//! A relay between client and server that can break and hold connections, and that records the
//! traffic.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::PATIENCE;

/// Listens on a free port and forwards every connection.
pub(crate) struct Relay {
    /// `http://host:port`.
    pub address: String,
    way: Arc<Way>,
}

struct Way {
    to: String,
    traffic: Mutex<Traffic>,
    changed: Condvar,
}

#[derive(Default)]
struct Traffic {
    held: bool,
    /// Nobody gets a connection.
    is_closed: bool,
    /// Answers to requests with this beginning are lost, with their connections.
    lost: Option<String>,
    passages: Vec<Passage>,
}

/// A relayed connection.
struct Passage {
    opened: Instant,
    server: TcpStream,
    asked: Vec<u8>,
    answered: Vec<u8>,
    /// Bytes requested when the last answer came.
    asked_before: usize,
    /// When the server, or a cut, ended it.
    ended: Option<Instant>,
}

/// A relayed stream request.
#[derive(Debug)]
pub(crate) struct StreamRequest {
    pub came: Instant,
    /// Its `Last-Event-ID`, set by the client.
    pub last_event_id: Option<String>,
    passage: usize,
}

impl Relay {
    /// Starts a relay to a server, `http://host:port`.
    pub(crate) fn start(to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let to = to.strip_prefix("http://").expect("an http address").to_owned();
        let way = Way { to, traffic: Mutex::default(), changed: Condvar::new() };
        let way = Arc::new(way);
        let accepting = Arc::clone(&way);
        // Ends with the test program.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                accepting.carry(client);
            }
        });
        Self { address, way }
    }

    /// Holds new connections until [`Self::release`].
    pub(crate) fn hold(&self) {
        self.way.lock().held = true;
    }

    /// Closes every connection, and new ones at once, or lets them through again.
    pub(crate) fn set_closed(&self, is_closed: bool) {
        self.way.lock().is_closed = is_closed;
        if is_closed {
            self.cut();
        }
    }

    /// Whether anybody has connected.
    pub(crate) fn is_used(&self) -> bool {
        !self.way.lock().passages.is_empty()
    }

    /// Closes every open connection.
    pub(crate) fn cut(&self) {
        for passage in &self.way.lock().passages {
            // Either may be closed already.
            let _gone = passage.server.shutdown(Shutdown::Both);
        }
    }

    /// Forwards requests with this beginning and loses their answers, until changed.
    pub(crate) fn lose_answers_to(&self, start: Option<&str>) {
        self.way.lock().lost = start.map(str::to_owned);
    }

    /// Forwards connections again.
    pub(crate) fn release(&self) {
        self.way.lock().held = false;
        self.way.changed.notify_all();
    }

    /// Waits for stream request number `count`; the first is 1.
    pub(crate) fn await_request(&self, count: usize) -> StreamRequest {
        self.way.wait_for(&format!("stream request {count}"), |traffic| {
            let requests = traffic.passages.iter().enumerate().filter_map(|(place, passage)| {
                let asked = String::from_utf8_lossy(&passage.asked);
                let head = asked.split("\r\n\r\n").find(|head| head.contains("/subscribe"))?;
                let fields = head.lines().filter_map(|line| line.split_once(": "));
                let id = |(name, value): (&str, &str)| {
                    name.eq_ignore_ascii_case("last-event-id").then(|| value.to_owned())
                };
                let last_event_id = fields.filter_map(id).next();
                Some(StreamRequest { came: passage.opened, last_event_id, passage: place })
            });
            requests.into_iter().nth(count - 1)
        })
    }

    /// The answer to a request, once it contains `text`.
    pub(crate) fn await_answer(&self, request: &StreamRequest, text: &str) -> String {
        self.way.wait_for(&format!("an answer with {text:?}"), |traffic| {
            let passage = traffic.passages.get(request.passage)?;
            let answered = String::from_utf8_lossy(&passage.answered);
            answered.contains(text).then(|| answered.into_owned())
        })
    }

    /// When the answer to a request ended.
    pub(crate) fn await_end(&self, request: &StreamRequest) -> Instant {
        let what = "the end of an answer";
        self.way.wait_for(what, |traffic| traffic.passages.get(request.passage)?.ended)
    }
}

impl Traffic {
    fn note_asked(&mut self, place: usize, bytes: &[u8]) -> bool {
        self.passages[place].asked.extend_from_slice(bytes);
        true
    }

    /// Returns `false` if the answer must be lost.
    fn note_answered(&mut self, place: usize, bytes: &[u8]) -> bool {
        let passage = &mut self.passages[place];
        passage.answered.extend_from_slice(bytes);
        let is_lost = self.lost.as_ref().is_some_and(|start| passage.awaits(start));
        if !is_lost {
            passage.asked_before = passage.asked.len();
        }
        !is_lost
    }
}

impl Passage {
    /// Whether the unanswered request begins with `start`.
    fn awaits(&self, start: &str) -> bool {
        self.asked[self.asked_before..].starts_with(start.as_bytes())
    }
}

impl Way {
    fn lock(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for<T>(&self, what: &str, mut look: impl FnMut(&Traffic) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut traffic = self.lock();
        loop {
            if let Some(found) = look(&traffic) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited {PATIENCE:?} for {what}");
            let waited = self.changed.wait_timeout(traffic, left);
            traffic = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn carry(self: &Arc<Self>, client: TcpStream) {
        let way = Arc::clone(self);
        std::thread::spawn(move || {
            let opened = Instant::now();
            way.wait_for("the way to be free", |traffic| (!traffic.held).then_some(()));
            if way.lock().is_closed {
                return;
            }
            // Without a server the client's connection ends, as it would without the relay.
            let Ok(server) = TcpStream::connect(&way.to) else { return };
            let copy = |stream: &TcpStream| stream.try_clone().expect("a second handle");
            let (from_client, to_client) = (copy(&client), client);
            let (from_server, to_server) = (copy(&server), copy(&server));
            let (asked, answered) = (Vec::new(), Vec::new());
            let passage = Passage { opened, server, asked, answered, asked_before: 0, ended: None };
            let place = {
                let mut traffic = way.lock();
                traffic.passages.push(passage);
                traffic.passages.len() - 1
            };
            let asking = Arc::clone(&way);
            std::thread::spawn(move || {
                asking.copy(from_client, &to_server, place, Traffic::note_asked);
                let _gone = to_server.shutdown(Shutdown::Write);
            });
            way.copy(from_server, &to_client, place, Traffic::note_answered);
            // Recorded before the client can notice.
            way.lock().passages[place].ended = Some(Instant::now());
            way.changed.notify_all();
            let _gone = to_client.shutdown(Shutdown::Write);
        });
    }

    /// Forwards bytes from one side until either ends, or the answer must be lost.
    fn copy(
        &self,
        mut from: TcpStream,
        mut to: &TcpStream,
        place: usize,
        note: impl Fn(&mut Traffic, usize, &[u8]) -> bool,
    ) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let bytes = &buffer[..read];
            // Recorded before forwarding, so that whoever receives it finds it here.
            let may_pass = note(&mut self.lock(), place, bytes);
            self.changed.notify_all();
            if !may_pass || to.write_all(bytes).is_err() {
                break;
            }
        }
    }
}
