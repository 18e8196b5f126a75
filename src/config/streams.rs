use std::time::Duration;

use clap::Args;

use super::number::whole;
use crate::stream::{DEFAULT_KEPT_PRINTS, StreamLimits};

/// Settings of the price streams.
#[derive(Debug, Clone, Args)]
pub struct StreamArgs {
    /// Most streams at once over all shards; 0 takes what the limit of open files allows.
    #[arg(long, env = "LONGBOW_MAX_STREAMS", value_name = "N", default_value_t = 0,
          value_parser = whole::<u64>(0..=u64::MAX))]
    pub max_streams: u64,

    /// Most streams of one user at once over all shards.
    #[arg(long, env = "LONGBOW_MAX_STREAMS_PER_USER", value_name = "N", default_value_t = 1_000,
          value_parser = whole::<u64>(1..=u64::MAX))]
    pub max_streams_per_user: u64,

    /// Most sends a second to a stream whose client asks for no `maxRate`; 0 sends as fast as the
    /// client and this server can.
    #[arg(long, env = "LONGBOW_MAX_RATE", value_name = "N", default_value_t = 0,
          value_parser = whole::<u32>(0..=1_000))]
    pub max_rate: u32,

    /// Most milliseconds that a shard under load lets prices merge between two passes over its
    /// streams. It rests three times as long as the last pass took, and no longer than this: an idle
    /// one does not rest at all. 0 sends as often as it can.
    #[arg(long, alias = "coalesce", env = "LONGBOW_COALESCE_MS", value_name = "MS", default_value_t = 0,
          value_parser = whole::<u64>(0..=1_000))]
    pub coalesce_ms: u64,

    /// Prints that each shard keeps for its streams with `mode: "every"`, at 120 bytes each. One
    /// that falls further behind is told of a gap.
    #[arg(long, env = "LONGBOW_KEPT_PRINTS", value_name = "N",
          default_value_t = DEFAULT_KEPT_PRINTS,
          value_parser = whole::<u32>(1_024..=1_073_741_824))]
    pub kept_prints: u32,

    /// Seconds that a stream's client may take nothing before the stream is closed.
    #[arg(long, env = "LONGBOW_STALL_SECONDS", value_name = "S", default_value_t = 30,
          value_parser = whole::<u64>(1..=86_400))]
    pub stall_seconds: u64,

    /// Seconds of silence after which a stream is sent a heartbeat; a proxy on the way must wait longer
    /// than that.
    #[arg(long, env = "LONGBOW_HEARTBEAT_SECONDS", value_name = "S", default_value_t = 15,
          value_parser = whole::<u64>(1..=3_600))]
    pub heartbeat_seconds: u64,

    /// Most seconds over which a stop spreads the ends of the streams, so that their clients do not
    /// all connect elsewhere at once.
    #[arg(long, env = "LONGBOW_DRAIN_SECONDS", value_name = "S", default_value_t = 10,
          value_parser = whole::<u64>(0..=3_600))]
    pub drain_seconds: u64,
}

impl StreamArgs {
    /// What bounds the streams of each shard.
    pub fn limits(&self) -> StreamLimits {
        StreamLimits {
            window: Duration::from_millis(self.coalesce_ms),
            kept_prints: self.kept_prints,
            drain: Duration::from_secs(self.drain_seconds),
            heartbeat: Duration::from_secs(self.heartbeat_seconds),
            stall: Duration::from_secs(self.stall_seconds),
            ..StreamLimits::default()
        }
    }

    /// Sends a second of a stream that asks for no rate.
    pub fn default_rate(&self) -> Option<u32> {
        (self.max_rate > 0).then_some(self.max_rate)
    }
}
