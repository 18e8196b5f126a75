//! Settings of the price streams.

use std::time::Duration;

use clap::Args;

use super::number::whole;
use crate::stream::{DEFAULT_KEPT_PRINTS, StreamLimits};

/// Settings of the price streams.
#[derive(Debug, Clone, Args)]
pub struct StreamArgs {
    /// Most concurrent streams over all shards; 0 derives it from the limit of open files.
    #[arg(long, env = "LONGBOW_MAX_STREAMS", value_name = "N", default_value_t = 0,
          value_parser = whole::<u64>(0..=u64::MAX))]
    pub max_streams: u64,

    /// Most concurrent streams of one user over all shards.
    #[arg(long, env = "LONGBOW_MAX_STREAMS_PER_USER", value_name = "N", default_value_t = 1_000,
          value_parser = whole::<u64>(1..=u64::MAX))]
    pub max_streams_per_user: u64,

    /// Most sends per second to a stream whose client sets no `maxRate`; 0 sends as fast as client
    /// and server can.
    #[arg(long, env = "LONGBOW_MAX_RATE", value_name = "N", default_value_t = 0,
          value_parser = whole::<u32>(0..=1_000))]
    pub max_rate: u32,

    /// Longest pause of a shard under load between two passes over its streams, in milliseconds, in
    /// which prices conflate. A shard pauses three times as long as the last pass took, up to this;
    /// an idle shard does not pause. 0 sends as often as possible.
    #[arg(long, alias = "coalesce", env = "LONGBOW_COALESCE_MS", value_name = "MS", default_value_t = 0,
          value_parser = whole::<u64>(0..=1_000))]
    pub coalesce_ms: u64,

    /// Prints that each shard keeps for its streams with `mode: "every"`, at 128 bytes each. A
    /// stream that lags further gets a gap event.
    #[arg(long, env = "LONGBOW_KEPT_PRINTS", value_name = "N",
          default_value_t = DEFAULT_KEPT_PRINTS,
          value_parser = whole::<u32>(1_024..=1_073_741_824))]
    pub kept_prints: u32,

    /// Seconds that a client may take nothing before its stream is closed.
    #[arg(long, env = "LONGBOW_STALL_SECONDS", value_name = "S", default_value_t = 30,
          value_parser = whole::<u64>(1..=86_400))]
    pub stall_seconds: u64,

    /// Seconds of silence after which a stream gets a heartbeat; proxies in between must wait
    /// longer than that.
    #[arg(long, env = "LONGBOW_HEARTBEAT_SECONDS", value_name = "S", default_value_t = 15,
          value_parser = whole::<u64>(1..=3_600))]
    pub heartbeat_seconds: u64,

    /// Most seconds over which a stop spreads the ends of the streams, so that clients do not all
    /// reconnect at once.
    #[arg(long, env = "LONGBOW_DRAIN_SECONDS", value_name = "S", default_value_t = 10,
          value_parser = whole::<u64>(0..=3_600))]
    pub drain_seconds: u64,
}

impl StreamArgs {
    /// The limits of each shard's streams.
    pub fn limits(&self) -> StreamLimits {
        StreamLimits {
            window: Duration::from_millis(self.coalesce_ms),
            kept_prints: self.kept_prints,
            drain: Duration::from_secs(self.drain_seconds),
            heartbeat: Duration::from_secs(self.heartbeat_seconds),
            ..StreamLimits::default()
        }
        .with_stall(Duration::from_secs(self.stall_seconds))
    }

    /// Sends per second of a stream whose client sets no rate.
    pub fn default_rate(&self) -> Option<u32> {
        (self.max_rate > 0).then_some(self.max_rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        streams: StreamArgs,
    }

    #[test]
    fn the_kernel_gives_a_client_up_later_than_the_setting() {
        for seconds in ["1", "30", "86400"] {
            let command = Command::parse_from(["test", "--stall-seconds", seconds]);
            let limits = command.streams.limits();
            assert_eq!(limits.stall, Duration::from_secs(seconds.parse().unwrap()));
            assert!(limits.socket.unacknowledged > limits.stall, "{limits:?}");
        }
        let limits = StreamLimits::default();
        assert!(limits.socket.unacknowledged > limits.stall);
    }
}
