//! Ids of the entries of the stream of order lines.

use std::fmt;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};

use super::names::LINES;

/// The id of an entry. Redis takes no entry whose id is not above all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EntryId {
    /// The epoch of the feed's lease.
    pub(crate) epoch: u64,
    /// Counts the entries of the epoch, from 1 on.
    pub(crate) number: u64,
}

impl EntryId {
    /// Before all entries.
    pub(super) const FIRST: Self = Self { epoch: 0, number: 0 };

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (epoch, number) = text.split_once('-')?;
        Some(Self { epoch: epoch.parse().ok()?, number: number.parse().ok()? })
    }

    /// Whether this is the next entry after `before`.
    pub(super) fn follows(self, before: Self) -> bool {
        (self.epoch, self.number) == (before.epoch, before.number.saturating_add(1))
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.number)
    }
}

/// An entry: its id, and the value of its only field.
pub(crate) type Entry = (EntryId, Vec<u8>);

/// The entries in a list of them, as Redis sends it. One without an id or a field is left out.
pub(super) fn entries_of(list: Value) -> Vec<Entry> {
    let Value::Array(list) = list else { return Vec::new() };
    list.into_iter().filter_map(entry_of).collect()
}

fn entry_of(value: Value) -> Option<Entry> {
    let Value::Array(parts) = value else { return None };
    let [Value::BulkString(id), Value::Array(fields)] = <[Value; 2]>::try_from(parts).ok()? else {
        return None;
    };
    let id = EntryId::parse(std::str::from_utf8(&id).ok()?)?;
    let text = fields.into_iter().nth(1)?;
    let Value::BulkString(text) = text else { return None };
    Some((id, text))
}

/// The entries in the answer to `XREAD` of one stream.
pub(super) fn read_entries(answer: Value) -> Vec<Entry> {
    let entries = match answer {
        Value::Array(streams) => match streams.into_iter().next() {
            Some(Value::Array(stream)) => stream.into_iter().nth(1),
            _ => None,
        },
        // With the newer protocol.
        Value::Map(streams) => streams.into_iter().next().map(|(_, entries)| entries),
        _ => None,
    };
    entries.map(entries_of).unwrap_or_default()
}

/// The newest entry of the stream.
pub(super) async fn newest(
    connection: &mut MultiplexedConnection,
) -> Result<Option<Entry>, RedisError> {
    let mut command = redis::cmd("XREVRANGE");
    command.arg(LINES).arg("+").arg("-").arg("COUNT").arg(1);
    let answer: Value = command.query_async(connection).await?;
    Ok(entries_of(answer).into_iter().next())
}

/// Its id.
pub(super) async fn newest_entry(
    connection: &mut MultiplexedConnection,
) -> Result<Option<EntryId>, RedisError> {
    Ok(newest(connection).await?.map(|(id, _)| id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ordered_as_redis_orders_them() {
        let id = |text| EntryId::parse(text).unwrap();
        assert!(id("7-9") < id("7-10") && id("7-10") < id("8-1"));
        assert!(id("7-10").follows(id("7-9")) && !id("7-11").follows(id("7-9")));
        assert!(!id("8-1").follows(id("7-9")));
        assert_eq!(id("8-1").to_string(), "8-1");
        assert_eq!(EntryId::parse("8"), None);
    }

    #[test]
    fn an_answer_that_is_no_list_of_entries_has_none() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let good = Value::Array(vec![text("1-2"), Value::Array(vec![text("entry"), text("{}")])]);
        let odd = Value::Array(vec![text("1-3")]);
        let stream = Value::Array(vec![text("orders:lines"), Value::Array(vec![good, odd])]);
        let expected = vec![(EntryId { epoch: 1, number: 2 }, b"{}".to_vec())];
        assert_eq!(read_entries(Value::Array(vec![stream])), expected);
        assert_eq!(read_entries(Value::Nil), []);
    }
}
