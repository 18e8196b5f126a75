//! Keeps a process that has lost the lease of the feed from writing keys.

use redis::RedisError;
use redis::aio::MultiplexedConnection;

/// Connections that write have this name, and the epoch of their lease behind it.
const NAME: &str = "longbow-feed-";

/// Closes the connections of earlier holders of the lease, and marks this one as that of `epoch`.
///
/// A process that was held up between its look at the lease and its write finds its connection closed:
/// what it had in hand reaches nobody. Without the right to do this (`CLIENT LIST`, `CLIENT KILL`) the
/// keys of a symbol could be set back until they are set again.
pub(super) async fn close_earlier(
    connection: &mut MultiplexedConnection,
    epoch: u64,
) -> Result<(), RedisError> {
    let name = format!("{NAME}{epoch}");
    redis::cmd("CLIENT").arg("SETNAME").arg(name).query_async::<()>(connection).await?;
    let listed = redis::cmd("CLIENT").arg("LIST").query_async::<String>(connection).await;
    let listed = match listed {
        Ok(listed) => listed,
        Err(error) if error.is_io_error() => return Err(error),
        Err(error) => {
            tracing::warn!(%error, "Redis does not let the connections of an earlier node be closed");
            return Ok(());
        }
    };
    for id in earlier(&listed, epoch) {
        tracing::warn!(
            connection = id,
            "the connection of an earlier holder of the feed is closed"
        );
        let mut kill = redis::cmd("CLIENT");
        // It may have ended by itself.
        let _gone = kill.arg("KILL").arg("ID").arg(id).query_async::<u64>(connection).await;
    }
    Ok(())
}

/// The ids of connections of other epochs, in an answer to `CLIENT LIST`.
fn earlier(listed: &str, epoch: u64) -> impl Iterator<Item = u64> {
    listed.lines().filter_map(move |line| {
        let field = |name: &str| {
            line.split(' ').filter_map(|field| field.split_once('=')).find(|(of, _)| *of == name)
        };
        let (_, name) = field("name")?;
        let of = name.strip_prefix(NAME)?;
        let (_, id) = field("id")?;
        (of.parse::<u64>() != Ok(epoch)).then(|| id.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_other_epochs_are_found() {
        let listed = "id=3 addr=127.0.0.1:1 laddr=127.0.0.1:2 fd=8 name=longbow-feed-6 age=1\n\
                      id=4 addr=127.0.0.1:1 name=longbow-feed-7 age=1\n\
                      id=5 addr=127.0.0.1:1 name= age=1\n\
                      id=6 addr=127.0.0.1:1 name=other age=1\n";
        assert_eq!(earlier(listed, 7).collect::<Vec<_>>(), [3]);
        assert_eq!(earlier(listed, 6).collect::<Vec<_>>(), [4]);
    }
}
