use super::connection_id::ConnectionId;

/// Names a stream to its client: shard, key and generation, in hexadecimal, and the node before them
/// where there are several. It is no secret: only the stream's user can change the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamId {
    /// The node that has the stream, where it shares users with others.
    pub node: Option<u16>,
    /// The shard that has the stream.
    pub shard: u16,
    pub(super) connection: ConnectionId,
}

/// Digits of an id: four of the shard, eight of the key, eight of the generation.
const DIGITS: usize = 20;
/// Digits of the node.
const NODE_DIGITS: usize = 4;

impl StreamId {
    /// Parses an id; `None` for anything that no stream can have.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex =
            text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if !is_hex {
            return None;
        }
        let (node, local) = match text.len() {
            DIGITS => (None, text),
            length if length == NODE_DIGITS + DIGITS => {
                let (node, local) = text.split_at_checked(NODE_DIGITS)?;
                (Some(u16::from_str_radix(node, 16).ok()?), local)
            }
            _ => return None,
        };
        let id = Self {
            node,
            shard: u16::from_str_radix(local.get(..4)?, 16).ok()?,
            connection: ConnectionId {
                key: u32::from_str_radix(local.get(4..12)?, 16).ok()?,
                generation: u32::from_str_radix(local.get(12..)?, 16).ok()?,
            },
        };
        assert!(id.to_string() == text, "a stream has one name");
        Some(id)
    }
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ConnectionId { key, generation } = self.connection;
        if let Some(node) = self.node {
            write!(formatter, "{node:04x}")?;
        }
        write!(formatter, "{:04x}{key:08x}{generation:08x}", self.shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_back_and_others_are_none() {
        let connection = ConnectionId { key: 0xDEAD_BEEF, generation: 7 };
        let id = StreamId { node: None, shard: 63, connection };
        assert_eq!(id.to_string(), "003fdeadbeef00000007");
        assert_eq!(StreamId::parse(&id.to_string()), Some(id));
        let of_node = StreamId { node: Some(1_023), ..id };
        assert_eq!(of_node.to_string(), "03ff003fdeadbeef00000007");
        assert_eq!(StreamId::parse(&of_node.to_string()), Some(of_node));
        for text in [
            "",
            "003fdeadbeef0000007",
            "003FDEADBEEF00000007",
            "+03fdeadbeef00000007",
            "0003fdeadbeef00000007",
            "+3ff003fdeadbeef00000007",
            "000003ff003fdeadbeef00000007",
        ] {
            assert_eq!(StreamId::parse(text), None, "{text}");
        }
    }
}
