use prometheus_client::registry::Registry;

use crate::metrics::{Counter, Gauge};

use super::segment::Taken;

/// What one shard's streams did. The shard counts, scrapes read.
#[derive(Debug, Clone, Default)]
pub struct StreamMetrics {
    /// Open streams.
    pub open: Gauge,
    /// Streams opened: taken over from the HTTP server.
    pub opened: Counter,
    /// Closed because the client went away.
    pub closed_by_client: Counter,
    /// Closed because the socket stayed full for too long.
    pub closed_stalled: Counter,
    /// Closed because the server stopped.
    pub closed_shutdown: Counter,
    /// Closed because another node has their user's orders.
    pub closed_moved: Counter,
    /// Successful sends.
    pub sends: Counter,
    /// Bytes that the kernel took.
    pub sent_bytes: Counter,
    /// Price events sent.
    pub prices: Counter,
    /// Sends that found the socket full.
    pub blocked: Counter,
    /// Waits of a stream with news for its `maxRate`.
    pub paced: Counter,
    /// Prices replaced by a newer one before they were sent.
    pub merged_prices: Counter,
    /// Gaps told to streams with `mode=every`.
    pub gaps: Counter,
    /// Streams whose `Last-Event-ID` was known: they were sent what had changed since.
    pub resumed: Counter,
    /// Resets sent to streams: their id was unknown or too old, or the session ended.
    pub resets: Counter,
    /// Changes of the symbols of open streams.
    pub subscription_changes: Counter,
    /// Heartbeats sent, comments and events.
    pub heartbeats: Counter,
    /// Ticks read from the ring.
    pub ticks: Counter,
    /// Ticks overwritten before this shard read them; the last-value table replaces them.
    pub lapped_ticks: Counter,
}

impl StreamMetrics {
    /// Counts what the kernel took of a send.
    pub(super) fn count_taken(&self, taken: Taken) {
        let Taken { prices, gaps, heartbeats, id: _ } = taken;
        self.prices.inc_by(prices);
        if gaps + heartbeats > 0 {
            self.gaps.inc_by(gaps);
            self.heartbeats.inc_by(heartbeats);
        }
    }

    /// Counts resets.
    pub(super) fn count_resets(&self, resets: u64) {
        if resets > 0 {
            self.resets.inc_by(resets);
        }
    }

    /// Registers the metrics of one shard.
    pub fn register(&self, registry: &mut Registry, shard: u16) {
        let registry = registry.sub_registry_with_label(("shard".into(), shard.to_string().into()));
        registry.register("streams_open", "Open price streams", self.open.clone());
        let counters = [
            ("streams_opened", "Price streams opened", &self.opened),
            ("streams_closed_by_client", "Streams whose client went", &self.closed_by_client),
            ("streams_closed_stalled", "Streams closed as too slow", &self.closed_stalled),
            ("streams_closed_shutdown", "Streams closed by a stop", &self.closed_shutdown),
            (
                "streams_closed_moved",
                "Streams closed as another node has their user's orders",
                &self.closed_moved,
            ),
            ("stream_sends", "Successful sends to streams", &self.sends),
            ("stream_sent_bytes", "Bytes sent to streams", &self.sent_bytes),
            ("stream_prices", "Price events sent", &self.prices),
            ("stream_blocked", "Sends that found a full socket", &self.blocked),
            ("stream_paced", "Waits of streams with news for their maxRate", &self.paced),
            ("stream_merged_prices", "Prices replaced before they were sent", &self.merged_prices),
            ("stream_gaps", "Gaps told to streams that want every print", &self.gaps),
            ("streams_resumed", "Streams that went on where they were", &self.resumed),
            ("streams_reset", "Streams sent a reset", &self.resets),
            (
                "stream_subscription_changes",
                "Changes of open streams' subscriptions",
                &self.subscription_changes,
            ),
            ("stream_heartbeats", "Heartbeats sent to silent streams", &self.heartbeats),
            ("stream_ticks", "Ticks taken from the ring", &self.ticks),
            ("stream_lapped_ticks", "Ticks overwritten unread", &self.lapped_ticks),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
    }
}
