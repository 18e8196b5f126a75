/// Identifies one connection for as long as it lives. Keys are reused, pairs of key and generation
/// are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnectionId {
    /// Place in the slab of connections.
    pub key: u32,
    /// Tells connections with the same key apart.
    pub generation: u32,
}

impl ConnectionId {
    /// The pair as one number, for the poll set.
    pub(super) fn to_token(self) -> u64 {
        (u64::from(self.generation) << 32) | u64::from(self.key)
    }

    /// Reverses [`to_token`](Self::to_token).
    pub(super) fn from_token(token: u64) -> Self {
        let [k0, k1, k2, k3, g0, g1, g2, g3] = token.to_le_bytes();
        Self {
            key: u32::from_le_bytes([k0, k1, k2, k3]),
            generation: u32::from_le_bytes([g0, g1, g2, g3]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_keep_both_halves() {
        let id = ConnectionId { key: u32::MAX - 1, generation: 77 };
        assert_eq!(ConnectionId::from_token(id.to_token()), id);
    }
}
