//! A follower's connections to Redis.

use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use redis::{AsyncConnectionConfig, Client, RedisError, Value};
use tokio::time::timeout;

use super::error::said;
use super::message::{FeedMessage, LastMessage};
use super::names::{FEED, LINES, last_key, price_channel};
use super::stream_id::{Entry, EntryId, read_entries};
use crate::types::Symbol;

/// Longest wait for a connection or an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a read of the stream of lines waits for the next one.
const LINES_WAIT: Duration = Duration::from_millis(500);
/// Most lines of one read.
const MAX_LINES: usize = 512;

/// The connections: one for channels, one for keys, and one for lines, which are waited for.
pub(super) struct Links {
    pub(super) messages: PubSubStream,
    sink: PubSubSink,
    pub(super) keys: MultiplexedConnection,
    lines: MultiplexedConnection,
}

/// What failed, or that it took too long.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("{}", said(.0))]
    Redis(#[from] RedisError),
    #[error("Redis did not answer within {ANSWER_TIMEOUT:?}")]
    Silent,
    #[error("the connection for messages was closed")]
    Closed,
    #[error(
        "it belongs to another deployment ({theirs}; this one is {ours}): give each deployment a Redis server of its own"
    )]
    Foreign { theirs: String, ours: String },
}

impl Links {
    /// Connects, and subscribes to the state of the feed.
    pub(super) async fn open(client: &Client) -> Result<Self, LinkError> {
        let limits = |answer| {
            AsyncConnectionConfig::new()
                .set_connection_timeout(Some(ANSWER_TIMEOUT))
                .set_response_timeout(Some(answer))
        };
        let keys = limits(ANSWER_TIMEOUT);
        let keys = client.get_multiplexed_async_connection_with_config(&keys).await?;
        let lines = limits(LINES_WAIT + ANSWER_TIMEOUT);
        let lines = client.get_multiplexed_async_connection_with_config(&lines).await?;
        let (mut sink, messages) = in_time(client.get_async_pubsub()).await?.split();
        in_time(sink.subscribe(FEED)).await?;
        Ok(Self { messages, sink, keys, lines })
    }

    /// Subscribes to the prices of symbols. Returns once Redis has confirmed it.
    pub(super) async fn subscribe(&mut self, symbols: &[Symbol]) -> Result<(), LinkError> {
        let channels: Vec<String> = symbols.iter().map(price_channel).collect();
        in_time(self.sink.subscribe(channels)).await
    }

    /// Ends subscriptions.
    pub(super) async fn unsubscribe(&mut self, symbols: &[Symbol]) -> Result<(), LinkError> {
        let channels: Vec<String> = symbols.iter().map(price_channel).collect();
        in_time(self.sink.unsubscribe(channels)).await
    }

    /// The state of the feed, as its key has it. `None`: there is none, or none that can be read.
    pub(super) async fn feed(&mut self) -> Result<Option<FeedMessage>, LinkError> {
        let text: Option<Vec<u8>> = redis::cmd("GET").arg(FEED).query_async(&mut self.keys).await?;
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    /// The last values of symbols, in their order. `None` where there is none, or none that can be read.
    pub(super) async fn last_values(
        &mut self,
        symbols: &[Symbol],
    ) -> Result<Vec<Option<LastMessage>>, LinkError> {
        if symbols.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("MGET");
        for symbol in symbols {
            command.arg(last_key(symbol));
        }
        let texts: Vec<Option<Vec<u8>>> = command.query_async(&mut self.keys).await?;
        let read = |text: Option<Vec<u8>>| serde_json::from_slice(&text?).ok();
        let values = texts.into_iter().map(read);
        Ok(values.map(|value| value.filter(LastMessage::is_possible)).collect())
    }

    /// The lines after an entry, as soon as there are any.
    pub(super) fn read_lines(
        &self,
        after: EntryId,
    ) -> impl Future<Output = Result<Vec<Entry>, LinkError>> + use<> {
        let mut connection = self.lines.clone();
        async move { read_lines(&mut connection, after, Some(LINES_WAIT)).await }
    }

    /// The lines after an entry that are there.
    pub(super) async fn present_lines(&mut self, after: EntryId) -> Result<Vec<Entry>, LinkError> {
        read_lines(&mut self.keys, after, None).await
    }
}

async fn read_lines(
    connection: &mut MultiplexedConnection,
    after: EntryId,
    wait: Option<Duration>,
) -> Result<Vec<Entry>, LinkError> {
    let mut command = redis::cmd("XREAD");
    command.arg("COUNT").arg(MAX_LINES);
    if let Some(wait) = wait {
        command.arg("BLOCK").arg(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    }
    command.arg("STREAMS").arg(LINES).arg(after.to_string());
    let answer: Value = command.query_async(connection).await?;
    Ok(read_entries(answer))
}

async fn in_time<T>(answer: impl Future<Output = Result<T, RedisError>>) -> Result<T, LinkError> {
    Ok(timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| LinkError::Silent)??)
}
