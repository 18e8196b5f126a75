//! The last prices of symbols that nobody watches: told to those who ask when Redis is lost.

use super::{Follower, names};
use crate::bridge::links::{LinkError, Links};
use crate::bridge::message::LastMessage;
use crate::exchange::feed::Feed;
use crate::market::MarketWriter;
use crate::types::SymbolIndex;

/// Most symbols that nobody watches whose keys are read at once: with 8,000 symbols, each is read every 16 s.
const MAX_KNOWN: usize = 512;

impl Follower {
    /// Reads the keys of some symbols that nobody watches: all at once when a connection begins, then a part
    /// each second. They are what this node knows should Redis be lost.
    pub(super) async fn read_known(
        &mut self,
        links: &mut Links,
        feed: &mut Feed,
    ) -> Result<(), LinkError> {
        let indexes: Vec<SymbolIndex> = feed.market_mut().directory().indexes().collect();
        let part = indexes.get(self.next_known..).unwrap_or_default();
        let part: Vec<SymbolIndex> = part.iter().take(MAX_KNOWN).copied().collect();
        self.next_known += part.len();
        if self.next_known >= indexes.len() {
            // Nothing is known before the list is.
            (self.next_known, self.knows_all) = (0, !indexes.is_empty());
        }
        let values = links.last_values(&names(&part, feed)).await?;
        let market = feed.market_mut();
        let session = (market.ordinal(), market.status().session());
        for value in values.iter().flatten() {
            let Some(index) = market.index_of(&value.price.symbol) else { continue };
            let value = LastMessage::value(value, (session.0, session.1.as_str()));
            self.interest.note_known(index, value);
        }
        Ok(())
    }

    /// The table keeps no price that is not followed.
    pub(super) fn forget_others(&self, feed: &mut Feed) {
        let market = feed.market_mut();
        let indexes: Vec<SymbolIndex> = market.directory().indexes().collect();
        for index in indexes {
            if !self.subscriptions.has(index) && market.last_value(index).has_price() {
                self.forget(index, market);
            }
        }
    }

    /// A price that is not current any more is only shown to those who ask for the last one that is known.
    pub(super) fn forget(&self, index: SymbolIndex, market: &mut MarketWriter) {
        self.interest.note_known(index, market.last_value(index));
        market.forget(index);
    }
}
