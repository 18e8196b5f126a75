/// Why prices are not published.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The runtime of the connection could not be created.
    #[error("cannot create the runtime for the connection to Redis")]
    Runtime(#[source] std::io::Error),
}
