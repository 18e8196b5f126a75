//! Keeps a process that has lost the lease of the feed from writing keys.

use redis::aio::MultiplexedConnection;

use super::deployment::{claim, writer_name, writers};
use super::links::LinkError;

/// Closes the connections of earlier holders of the lease, and marks this one as that of `epoch`.
///
/// Nothing is closed in a Redis that is another deployment's: that is an error.
///
/// A process that was held up between its look at the lease and its write finds its connection closed:
/// what it had in hand reaches nobody. Without the right to do this (`CLIENT LIST`, `CLIENT KILL`) the
/// keys of a symbol could be set back until they are set again.
pub(super) async fn close_earlier(
    connection: &mut MultiplexedConnection,
    deployment: Option<&str>,
    epoch: u64,
) -> Result<(), LinkError> {
    if let Some(deployment) = deployment {
        claim(connection, deployment).await?;
    }
    let name = writer_name(deployment, epoch);
    redis::cmd("CLIENT").arg("SETNAME").arg(name).query_async::<()>(connection).await?;
    let listed = redis::cmd("CLIENT").arg("LIST").query_async::<String>(connection).await;
    let listed = match listed {
        Ok(listed) => listed,
        Err(error) if error.is_io_error() => return Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "Redis does not let the connections of an earlier node be closed");
            return Ok(());
        }
    };
    for id in earlier(&listed, deployment, epoch) {
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

/// The ids of connections of other epochs of this deployment, in an answer to `CLIENT LIST`.
fn earlier(listed: &str, deployment: Option<&str>, epoch: u64) -> impl Iterator<Item = u64> {
    let earlier =
        writers(listed).filter(move |writer| writer.is_of(deployment) && !writer.is_in(epoch));
    earlier.map(|writer| writer.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_other_epochs_of_the_deployment_are_found() {
        let listed = [(3, Some("one"), 6), (4, Some("one"), 7), (5, None, 5), (6, Some("two"), 6)]
            .map(|(id, of, epoch)| format!("id={id} name={} age=1\n", writer_name(of, epoch)))
            .concat();
        assert_eq!(earlier(&listed, Some("one"), 7).collect::<Vec<_>>(), [3, 5]);
        assert_eq!(earlier(&listed, Some("one"), 6).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(earlier(&listed, Some("two"), 6).collect::<Vec<_>>(), [5]);
    }
}
