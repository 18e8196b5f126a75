//! What stands in the stream of order lines.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use strum::VariantArray;

use crate::exchange::wire::FeedLine;
use crate::exchange::{OrderFeedMessage, PublishedLine, SkipCause, UnreadableLine};
use crate::types::{ExternalOrderId, TimestampMicros};

/// An entry of the stream. Its id is the epoch of the feed's lease and a number that counts the entries
/// of the epoch, so the entry before it has the number before, or was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LineMessage {
    /// The feed session as the exchange names it.
    pub(super) session: CompactString,
    pub(super) sequence: u64,
    /// How often the session's numbering has restarted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) numbering: u32,
    /// The process that has written it; 0 if it does not tell.
    #[serde(default)]
    pub(super) writer: u64,
    #[serde(flatten)]
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
enum Kind {
    /// Lines follow; some before may have been missed.
    Session,
    /// The same, after the numbering restarted under the session's name.
    Renumbered,
    /// The line of an order.
    Line { line: FeedLine },
    /// A line that names an order and cannot be read otherwise.
    Unreadable { after: u64, order_id: ExternalOrderId, cause: String, raw: String },
    /// Every line up to here is in the stream. `heard`: the exchange's time, in microseconds since 1970.
    Position {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        heard: Option<u64>,
    },
}

impl LineMessage {
    pub(super) fn of(published: &PublishedLine, writer: u64) -> Self {
        let kind = match &published.message {
            OrderFeedMessage::Session { .. } => Kind::Session,
            OrderFeedMessage::Renumbered { .. } => Kind::Renumbered,
            OrderFeedMessage::Line(line) => Kind::Line { line: line.clone() },
            OrderFeedMessage::Unreadable(line) => Kind::Unreadable {
                after: line.after,
                order_id: line.order_id.clone(),
                cause: line.cause.to_string(),
                raw: String::from_utf8_lossy(&line.raw).into_owned(),
            },
            OrderFeedMessage::Position { .. } => {
                Kind::Position { heard: published.heard.map(TimestampMicros::micros) }
            }
        };
        let (session, sequence) = (published.session.clone(), published.message.sequence());
        Self { session, sequence, numbering: published.numbering, writer, kind }
    }

    /// What it tells an orders thread.
    pub(super) fn message(self) -> OrderFeedMessage {
        let Self { session, sequence, kind, .. } = self;
        match kind {
            Kind::Session => OrderFeedMessage::Session { session, sequence },
            Kind::Renumbered => OrderFeedMessage::Renumbered { session, sequence },
            Kind::Line { line } => OrderFeedMessage::Line(line),
            Kind::Unreadable { after, order_id, cause, raw } => {
                let known = SkipCause::VARIANTS.iter().find(|known| known.to_string() == cause);
                let cause = known.copied().unwrap_or(SkipCause::Field);
                let raw = raw.into_bytes().into();
                OrderFeedMessage::Unreadable(UnreadableLine {
                    sequence,
                    after,
                    order_id,
                    cause,
                    raw,
                })
            }
            Kind::Position { .. } => OrderFeedMessage::Position { sequence },
        }
    }

    /// The exchange's time, if this is the news of a heartbeat.
    pub(super) fn heard(&self) -> Option<TimestampMicros> {
        match self.kind {
            Kind::Position { heard } => heard.map(TimestampMicros::new),
            _ => None,
        }
    }

    /// Whether it makes an orders thread reconcile by itself.
    pub(super) fn begins_session(&self) -> bool {
        matches!(self.kind, Kind::Session | Kind::Renumbered)
    }

    /// The last sequence before it.
    pub(super) fn before(&self) -> u64 {
        match self.kind {
            Kind::Session | Kind::Renumbered | Kind::Position { .. } => self.sequence,
            Kind::Unreadable { after, .. } => after,
            Kind::Line { .. } => self.sequence.saturating_sub(1),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::message::encode;

    #[test]
    fn messages_come_back_as_they_were() {
        let line =
            r#"{"sequence":7,"type":"cancelled","symbol":"IBM","orderId":"o7","timestamp":1}"#;
        let line: FeedLine = serde_json::from_str(line).unwrap();
        let session = CompactString::from("s");
        let unreadable = UnreadableLine {
            sequence: 9,
            after: 8,
            order_id: ExternalOrderId::new("o9").unwrap(),
            cause: SkipCause::ExecutionId,
            raw: b"{broken".as_slice().into(),
        };
        for message in [
            OrderFeedMessage::Session { session: session.clone(), sequence: 5 },
            OrderFeedMessage::Renumbered { session: session.clone(), sequence: 6 },
            OrderFeedMessage::Line(line),
            OrderFeedMessage::Position { sequence: 8 },
            OrderFeedMessage::Unreadable(unreadable),
        ] {
            let heard = match message {
                OrderFeedMessage::Position { .. } => Some(TimestampMicros::new(3)),
                _ => None,
            };
            let published = PublishedLine {
                epoch: 2,
                number: 1,
                session: session.clone(),
                numbering: 3,
                heard,
                message: message.clone(),
            };
            let bytes = encode(&LineMessage::of(&published, 9));
            let read: LineMessage = serde_json::from_slice(&bytes).unwrap();
            assert_eq!((read.heard(), &read.session, read.numbering), (heard, &session, 3));
            assert_eq!(read.message(), message);
        }
    }
}
