//! Whose the Redis is, and what comes through it.

use std::time::{Duration, Instant};

use super::{FEED_SILENCE, Follower};
use crate::bridge::deployment::claim;
use crate::bridge::links::{LinkError, Links};
use crate::bridge::redis_health::Heard;

/// Silence of the stream of lines, after which they count as missing while prices come: more than a
/// holder waits that finds lines of a later epoch.
const LINES_MISSING: Duration = Duration::from_secs(6);

impl Follower {
    /// Makes sure that the Redis is this deployment's, as soon as that is known from Postgres.
    pub(super) async fn claim(&mut self, links: &mut Links) -> Result<(), LinkError> {
        let deployment = self.role.deployment();
        if let Some(deployment) = deployment {
            claim(&mut links.keys, deployment).await?;
        }
        (self.is_claimed, self.claimed_at) = (deployment.is_some(), Instant::now());
        Ok(())
    }

    /// Says, when it changes, what comes through Redis.
    pub(super) fn note_what_comes(&mut self) {
        let told = self.state.as_ref().filter(|(_, at)| at.elapsed() < FEED_SILENCE);
        let heard = match told {
            Some((state, _)) if !state.up => Heard::FeedDown,
            Some(_) if self.lines_at.elapsed() >= LINES_MISSING => Heard::NoLines,
            Some(_) => Heard::Prices,
            None if self.connected_at.elapsed() < FEED_SILENCE => Heard::NothingYet,
            None => Heard::Nothing,
        };
        if heard != Heard::Prices && heard != Heard::NoLines {
            // Lines are the exchange's.
            self.lines_at = Instant::now();
        }
        if !self.health.hears(heard) {
            return;
        }
        let redis = self.health.address();
        match heard {
            Heard::NothingYet | Heard::FeedDown => {}
            Heard::Prices => {
                let from = self.role.holder();
                tracing::info!(%redis, from, "prices and lines about orders come through Redis");
            }
            Heard::Nothing => tracing::warn!("{}", self.health.silence()),
            Heard::NoLines => tracing::warn!(
                %redis,
                from = self.role.holder(),
                "prices come through Redis, and no lines about orders: the nodes use different \
                 database numbers, or that node may not write them"
            ),
        }
    }
}
