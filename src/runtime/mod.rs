//! What tasks run on: executors with one thread each, timers, and sockets, hyper's view of them and the
//! raw ones of price streams included. The only folder that names glommio. Holds no protocol.
//!
//! # Wakers
//!
//! glommio 0.9.0 counts the wakers of a task in 15 bits: a task of which 32,768 are held panics. So
//! nothing may hold one for each stream, request or order that a task takes care of, nor one more each
//! time that a task is polled. Who holds wakers of the tasks that live as long as their thread:
//!
//! | task | by whom, each at most once |
//! |---|---|
//! | orders thread | [`Wakeup`](crate::sync::Wakeup) of the log and of each mailbox, the [`Watermark`](crate::sync::Watermark) of Postgres, each queue of the sessions, one timer, the stop |
//! | a session with the exchange | the queues that it takes from, one timer, one socket, one reply |
//! | a shard's streams | the shard's wake-up, one timer; the hub, while it rests |
//! | a shard's queries to the store | the hub; each query is a task of its own, with one reply and one watermark |
//! | accepting connections | the listener, the semaphore of connections, the stop |
//!
//! All of these replace the waker that they have, or see that it is the same. A request and a connection
//! are tasks of their own: they hold a few for as long as they live. Only [`accept`] and
//! [`spawn_blocking`] take one more waker each time that who waits for them is polled. Nothing that often
//! wakes the task is waited for beside them: the stop, or a look at a connection once in a while.
//!
//! A test polls a task more often than that, with all of these waits.

mod executor;
mod hyper_io;
mod listener;
mod race;
mod stream_socket;
mod timer;

pub use executor::{ExecutorError, ExecutorOptions, run, spawn_blocking};
pub use glommio::net::{TcpListener, TcpStream};
pub use glommio::sync::Semaphore;
pub use glommio::{Task, spawn_local};
pub use hyper_io::{FirstRead, HyperIo};
pub use listener::{
    ListenError, accept, adopt_listener, adopt_stream, bind_source, bound_address, connect,
    connect_blocking, listen,
};
pub use race::connect_any;
pub use stream_socket::{Interest, PollSet, SendOutcome, SocketLimits, StreamSocket};
pub use timer::{Timer, sleep, timeout};
