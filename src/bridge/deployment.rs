//! Whose a Redis is: it belongs to the nodes that share one Postgres. Others would overwrite its prices
//! and close each other's connections.

use std::time::Duration;

use redis::Value;
use redis::aio::MultiplexedConnection;
use sha2::{Digest, Sha256};

use super::links::LinkError;
use super::names::DEPLOYMENT;

/// Connections that write have this name, then whose they are and the epoch of their lease.
const NAME: &str = "longbow-feed-";
/// How long a Redis is a deployment's without a word of its nodes.
const KEPT: Duration = Duration::from_secs(60);
/// How often each says so, and looks whether it is another's.
pub(super) const CLAIM_INTERVAL: Duration = Duration::from_secs(10);
const _: () = assert!(CLAIM_INTERVAL.as_secs() * 3 < KEPT.as_secs());

/// A connection that writes, in an answer to `CLIENT LIST`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Writer {
    /// Its id in Redis.
    pub(super) id: u64,
    /// Whose it is; `None` of an earlier version, which did not say.
    tag: Option<u64>,
    epoch: Option<u64>,
}

impl Writer {
    /// Whether it is of this deployment, as far as it says.
    pub(super) fn is_of(&self, deployment: Option<&str>) -> bool {
        self.tag.zip(deployment).is_none_or(|(tag, ours)| tag == tag_of(ours))
    }

    pub(super) fn is_in(&self, epoch: u64) -> bool {
        self.epoch == Some(epoch)
    }
}

/// The name of a connection that writes.
pub(super) fn writer_name(deployment: Option<&str>, epoch: u64) -> String {
    match deployment {
        Some(deployment) => format!("{NAME}{:016x}-{epoch}", tag_of(deployment)),
        None => format!("{NAME}{epoch}"),
    }
}

/// The connections that write, in an answer to `CLIENT LIST`.
pub(super) fn writers(listed: &str) -> impl Iterator<Item = Writer> {
    listed.lines().filter_map(|line| {
        let field = |name: &str| {
            line.split(' ').filter_map(|field| field.split_once('=')).find(|(of, _)| *of == name)
        };
        let (_, name) = field("name")?;
        let rest = name.strip_prefix(NAME)?;
        let (_, id) = field("id")?;
        let (tag, epoch) = match rest.split_once('-') {
            Some((tag, epoch)) => (u64::from_str_radix(tag, 16).ok(), epoch),
            None => (None, rest),
        };
        Some(Writer { id: id.parse().ok()?, tag, epoch: epoch.parse().ok() })
    })
}

/// Stands for a deployment in names, which have no room for more.
fn tag_of(deployment: &str) -> u64 {
    let digest = Sha256::digest(deployment.as_bytes());
    digest.iter().take(size_of::<u64>()).fold(0, |tag, byte| (tag << 8) | u64::from(*byte))
}

/// Makes the Redis this deployment's, or keeps it, unless it is another's.
///
/// # Errors
/// It is another's, or does not answer.
pub(super) async fn claim(
    connection: &mut MultiplexedConnection,
    ours: &str,
) -> Result<(), LinkError> {
    let mut take = redis::cmd("SET");
    take.arg(DEPLOYMENT).arg(ours).arg("NX").arg("EX").arg(KEPT.as_secs());
    let _taken_or_not: Value = take.query_async(connection).await?;
    let found: Option<String> = redis::cmd("GET").arg(DEPLOYMENT).query_async(connection).await?;
    // None: it has run out in between.
    if let Some(theirs) = found.filter(|found| found != ours) {
        return Err(LinkError::Foreign { theirs, ours: ours.to_owned() });
    }
    let mut keep = redis::cmd("EXPIRE");
    keep.arg(DEPLOYMENT).arg(KEPT.as_secs()).query_async::<u64>(connection).await?;
    // Keys are of one database, channels of all.
    let listed = redis::cmd("CLIENT").arg("LIST").query_async::<String>(connection).await;
    match listed {
        Ok(listed) => check_writers(&listed, ours),
        Err(error) if error.is_io_error() => Err(error.into()),
        // Without the right to look, the key has to do.
        Err(_refused) => Ok(()),
    }
}

fn check_writers(listed: &str, ours: &str) -> Result<(), LinkError> {
    match writers(listed).find(|writer| !writer.is_of(Some(ours))) {
        None => Ok(()),
        Some(Writer { id, .. }) => Err(LinkError::Foreign {
            theirs: format!("the one of connection {id}"),
            ours: ours.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_writes_says_whose_it_is() {
        let name = writer_name(Some("one"), 7);
        let listed = format!(
            "id=3 addr=127.0.0.1:1 laddr=127.0.0.1:2 fd=8 name={name} age=1\n\
             id=4 addr=127.0.0.1:1 name={} age=1\n\
             id=5 addr=127.0.0.1:1 name= age=1\n\
             id=6 addr=127.0.0.1:1 name=other age=1\n",
            writer_name(None, 6)
        );
        let found: Vec<_> = writers(&listed).collect();
        let ids: Vec<_> = found.iter().map(|writer| writer.id).collect();
        assert_eq!(ids, [3, 4]);
        assert!(found[0].is_of(Some("one")) && found[0].is_in(7) && !found[0].is_in(6));
        assert!(!found[0].is_of(Some("two")), "{name}");
        assert!(found[1].is_of(Some("two")), "an earlier version does not say");
        assert!(check_writers(&listed, "one").is_ok());
        let error = check_writers(&listed, "two").unwrap_err().to_string();
        assert!(error.contains("another deployment") && error.contains("connection 3"), "{error}");
    }
}
