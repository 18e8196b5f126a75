//! Sockets, without any protocol: listeners with their own backlog, connections to the exchange,
//! hyper's view of a glommio stream, and the raw sockets of price streams.

mod hyper_io;
mod listener;
mod race;
mod stream_socket;

pub use hyper_io::{FirstRead, HyperIo};
pub use listener::{
    ListenError, accept, adopt_listener, adopt_stream, bind_source, bound_address, connect,
    connect_blocking, listen,
};
pub use race::connect_any;
pub use stream_socket::{Interest, PollSet, SendOutcome, SocketLimits, StreamSocket};
