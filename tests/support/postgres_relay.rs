//! A way to Postgres that is cut at the worst moments: around a commit.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::api;

/// `COMMIT` as a simple query (PostgreSQL documentation, 55.7: message formats).
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
/// That it is done.
const COMMITTED: &[u8] = b"C\0\0\0\x0bCOMMIT\0";

/// Where the connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The commit does not reach Postgres.
    BeforeCommit,
    /// Postgres has committed, and its answer does not come back.
    BeforeAnswer,
}

/// Listens on a free port and passes every connection on.
pub struct PostgresRelay {
    /// `host:port`.
    pub address: String,
    way: Arc<Way>,
}

struct Way {
    to: String,
    /// The next commit is cut so.
    armed: Mutex<Option<Cut>>,
    done: AtomicUsize,
}

impl PostgresRelay {
    /// A way to `host:port`.
    pub fn start(to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let way = Way { to: to.to_owned(), armed: Mutex::new(None), done: AtomicUsize::new(0) };
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

    /// Cuts the connection at the next commit, and waits until that is done.
    pub fn cut_next(&self, cut: Cut) {
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

    fn carry(self: Arc<Self>, client: TcpStream) {
        // Nobody there: the client sees its connection end, as it would without a relay.
        let Ok(server) = TcpStream::connect(&self.to) else { return };
        let copy = |stream: &TcpStream| stream.try_clone().expect("a second handle");
        // Whether the answer to the next commit is the one to keep.
        let (is_kept_sender, is_kept) = std::sync::mpsc::channel();
        let back = {
            let (server, client) = (copy(&server), copy(&client));
            let way = Arc::clone(&self);
            std::thread::spawn(move || {
                let (mut is_awaited, mut end_of_last) = (false, Vec::new());
                pass(server, &client, |seen| {
                    is_awaited |= is_kept.try_recv().is_ok();
                    // It may come in two parts: then the first has passed, which is no answer yet.
                    let seen = [&end_of_last[..], seen].concat();
                    end_of_last = seen[seen.len().saturating_sub(COMMITTED.len() - 1)..].to_vec();
                    let has_committed = seen.windows(COMMITTED.len()).any(|part| part == COMMITTED);
                    if is_awaited && has_committed {
                        way.done.fetch_add(1, Ordering::SeqCst);
                    }
                    !(is_awaited && has_committed)
                });
                let _gone = client.shutdown(Shutdown::Both);
            })
        };
        pass(copy(&client), &server, |seen| {
            if !ends_with(seen, COMMIT) {
                return true;
            }
            match self.lock().take() {
                None => true,
                Some(Cut::BeforeCommit) => {
                    self.done.fetch_add(1, Ordering::SeqCst);
                    false
                }
                Some(Cut::BeforeAnswer) => is_kept_sender.send(()).is_ok(),
            }
        });
        let _gone = server.shutdown(Shutdown::Both);
        let _panicked = back.join();
    }
}

fn ends_with(seen: &[u8], message: &[u8]) -> bool {
    seen.len() >= message.len() && seen[seen.len() - message.len()..] == *message
}

/// Passes on what comes until either side has ended or `may_pass` forbids it. It is asked before the
/// bytes are passed.
fn pass(mut from: TcpStream, mut to: &TcpStream, mut may_pass: impl FnMut(&[u8]) -> bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let bytes = &buffer[..read];
        if !may_pass(bytes) || to.write_all(bytes).is_err() {
            break;
        }
    }
}
