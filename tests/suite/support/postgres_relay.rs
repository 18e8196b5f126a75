//! A relay to Postgres that breaks connections at the worst moments: around a commit.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::postgres::Postgres;
use super::{Server, api};

/// `COMMIT` as a simple query (PostgreSQL documentation, 55.7: message formats).
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
const BEGIN: &[u8] = b"Q\0\0\0\x0aBEGIN\0";
/// Postgres' message that a transaction is committed.
const COMMITTED: &[u8] = b"C\0\0\0\x0bCOMMIT\0";

/// Where the connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The commit does not reach Postgres.
    BeforeCommit,
    /// Postgres has committed, but its answer is lost.
    BeforeAnswer,
    /// The whole transaction reaches Postgres late, with [`PostgresRelay::deliver`].
    Late,
}

/// Listens on a free port and forwards every connection.
pub(crate) struct PostgresRelay {
    /// `host:port`.
    pub address: String,
    way: Arc<Way>,
}

struct Way {
    to: String,
    /// How to break the next commit.
    armed: Mutex<Option<Cut>>,
    done: AtomicUsize,
    /// The delayed bytes and their destination.
    late: Mutex<Option<(TcpStream, Vec<u8>)>>,
}

impl PostgresRelay {
    /// Starts a relay to `host:port`.
    pub(crate) fn start(to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let way = Way {
            to: to.to_owned(),
            armed: Mutex::new(None),
            done: AtomicUsize::new(0),
            late: Mutex::new(None),
        };
        let way = Arc::new(way);
        let accepting = Arc::clone(&way);
        // Ends with the test program.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let way = Arc::clone(&accepting);
                std::thread::spawn(move || way.carry(client));
            }
        });
        Self { address, way }
    }

    /// A server whose Postgres is behind this relay and has caught up.
    pub(crate) fn serve(postgres: &Postgres, data: &Path) -> (Self, Server) {
        let relay = Self::start(&postgres.address());
        let url = postgres.database().url.replace(&postgres.address(), &relay.address);
        let server = Server::start(data, &["--postgres", &url, "--migrate"]);
        server.program.await_error("Postgres follows the log");
        (relay, server)
    }

    /// Delivers the delayed bytes, and waits until Postgres has processed them.
    pub(crate) fn deliver(&self) {
        let late = self.way.late.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (mut server, bytes) = late.expect("something is late");
        server.write_all(&bytes).expect("Postgres takes it");
        server.shutdown(Shutdown::Write).expect("and that is all");
        let _answers = std::io::copy(&mut server, &mut std::io::sink());
    }

    /// Breaks the connection at the next commit, and waits for that.
    pub(crate) fn cut_next(&self, cut: Cut) {
        let done = self.way.done.load(Ordering::SeqCst);
        *self.way.lock() = Some(cut);
        api::until("a commit to be cut", || {
            (self.way.done.load(Ordering::SeqCst) > done).then_some(())
        });
    }
}

impl Way {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Cut>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_armed(&self, with: Cut) -> bool {
        *self.lock() == Some(with)
    }

    fn carry(self: Arc<Self>, client: TcpStream) {
        // Without a server the client's connection ends, as it would without the relay.
        let Ok(server) = TcpStream::connect(&self.to) else { return };
        let copy = |stream: &TcpStream| stream.try_clone().expect("a second handle");
        // Whether to withhold the answer to the next commit.
        let (is_kept_sender, is_kept) = std::sync::mpsc::channel();
        let back = {
            let (server, client) = (copy(&server), copy(&client));
            let way = Arc::clone(&self);
            std::thread::spawn(move || {
                let (mut is_awaited, mut end_of_last) = (false, Vec::new());
                pass(server, &client, |seen| {
                    is_awaited |= is_kept.try_recv().is_ok();
                    // It may come in two parts; then the first, incomplete one has been forwarded.
                    let seen = [&end_of_last[..], seen].concat();
                    end_of_last = seen[seen.len().saturating_sub(COMMITTED.len() - 1)..].to_vec();
                    let has_committed = seen.windows(COMMITTED.len()).any(|part| part == COMMITTED);
                    if is_awaited && has_committed {
                        way.done.fetch_add(1, Ordering::SeqCst);
                    }
                    if is_awaited && has_committed { Verdict::End } else { Verdict::Pass }
                });
                let _gone = client.shutdown(Shutdown::Both);
            })
        };
        let mut held = Vec::new();
        pass(copy(&client), &server, |seen| {
            if !held.is_empty() || (seen.starts_with(BEGIN) && self.is_armed(Cut::Late)) {
                held.extend_from_slice(seen);
                return if ends_with(seen, COMMIT) { Verdict::End } else { Verdict::Keep };
            }
            if !ends_with(seen, COMMIT) || self.is_armed(Cut::Late) {
                return Verdict::Pass;
            }
            match self.lock().take() {
                None | Some(Cut::Late) => Verdict::Pass,
                Some(Cut::BeforeCommit) => {
                    self.done.fetch_add(1, Ordering::SeqCst);
                    Verdict::End
                }
                Some(Cut::BeforeAnswer) => {
                    is_kept_sender.send(()).map_or(Verdict::End, |()| Verdict::Pass)
                }
            }
        });
        if held.is_empty() {
            let _gone = server.shutdown(Shutdown::Both);
        } else {
            *self.lock() = None;
            let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
            *late = Some((copy(&server), held));
            self.done.fetch_add(1, Ordering::SeqCst);
            let _gone = client.shutdown(Shutdown::Both);
        }
        let _panicked = back.join();
    }
}

fn ends_with(seen: &[u8], message: &[u8]) -> bool {
    seen.len() >= message.len() && seen[seen.len() - message.len()..] == *message
}

/// What to do with bytes.
enum Verdict {
    Pass,
    Keep,
    /// Drop them and stop reading.
    End,
}

/// Forwards bytes until either side ends or `judge`, called before forwarding, ends it.
fn pass(mut from: TcpStream, mut to: &TcpStream, mut judge: impl FnMut(&[u8]) -> Verdict) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let bytes = &buffer[..read];
        match judge(bytes) {
            Verdict::Pass if to.write_all(bytes).is_ok() => {}
            Verdict::Keep => {}
            Verdict::Pass | Verdict::End => break,
        }
    }
}
