//! `GET /readyz`: whether the server takes traffic, and each reason why not, by name.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::bridge::{FEED_IS_DOWN, RedisHealth, RedisReport};
use crate::exchange::FeedRole;
use crate::oms::OrderCommands;
use crate::projection::{DOES_NOT_ANSWER, Progress};
use crate::shutdown::{Shutdown, StopReason};
use crate::types::Clock;
use crate::wal::{LogHandle, Room};

use super::app::Site;
use super::health::Health;
use super::peers::Peers;
use super::problem::{HttpResponse, json_response};

/// The name of a check, and its problem if it fails.
type Check = (&'static str, Option<String>);

/// Answers with every check, and with the reasons of those that fail.
pub(super) fn ready(site: &Site, shutdown: &Shutdown) -> HttpResponse {
    let redis = site.health.redis.as_ref().map(RedisHealth::report);
    let checks = checks(site, shutdown, redis.as_ref());
    let is_ready = checks.iter().all(|(_, trouble)| trouble.is_none());
    let state = match shutdown.reason() {
        Some(_) => "draining",
        None if site.health.role.drains() => "draining",
        None if is_ready => "ready",
        None => "not_ready",
    };
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut passed = Map::new();
    let mut reasons = Map::new();
    for (name, trouble) in checks {
        passed.insert(name.to_owned(), Value::from(trouble.is_none()));
        if let Some(trouble) = trouble {
            reasons.insert(name.to_owned(), trouble.into());
        }
    }
    let mut warnings = Map::new();
    let of_redis = redis.and_then(|redis| redis.warning);
    for (name, warning) in [("redis", of_redis), ("clock", site.health.node_clock.warning())] {
        if let Some(warning) = warning {
            warnings.insert(name.to_owned(), warning.into());
        }
    }
    // For information only: prices, reads and cancels work without the exchange.
    let commands = site.orders.commands();
    let exchange = commands.exchange_reachability().into_str();
    let offset = commands.exchange_clock().offset_micros(Clock.moment());
    let mut body = json!({
        "ready": is_ready,
        "state": state,
        "checks": passed,
        "reasons": reasons,
        "warnings": warnings,
        "exchange": exchange,
        "exchangeClockOffsetMicros": offset,
    });
    if let (Some(peers), Some(fields)) = (&site.peers, body.as_object_mut()) {
        // Without any it still passes requests on.
        let partitions = peers.map().served().len();
        let node = json!({ "id": peers.node_id(), "partitions": partitions });
        fields.insert("node".to_owned(), node);
    }
    json_response(status, &body)
}

fn checks(site: &Site, shutdown: &Shutdown, redis: Option<&RedisReport>) -> Vec<Check> {
    let Health { log, postgres, exchange_clock_limit, .. } = &site.health;
    let orders = &site.orders;
    let unless = |is_right: bool, trouble: &str| (!is_right).then(|| trouble.to_owned());
    let feed_trouble = redis.map_or(FEED_IS_DOWN, |redis| &redis.feed);
    let mut checks = vec![
        ("feed", unless(site.market.status.is_up(), feed_trouble)),
        (
            "symbols",
            unless(
                !site.market.directory.load().is_empty(),
                "the exchange's list of symbols has not arrived yet",
            ),
        ),
        (
            "orders",
            unless(
                orders.commands().is_accepting(),
                "the queue of new orders is full: more orders are refused",
            ),
        ),
        (
            "log",
            unless(
                !log.is_poisoned(),
                "the write-ahead log has failed or ended: nothing more is recorded, and the process is ending",
            ),
        ),
        ("disk", disk(log)),
        ("index", orders.store_trouble(log.committed())),
        (
            "readable",
            // If Postgres is awaited: not before it has what the start recovered.
            unless(
                orders.is_readable(),
                "Postgres does not have everything that was recovered yet",
            ),
        ),
        ("postgres", postgres.as_ref().and_then(|postgres| postgres_trouble(postgres, site))),
        ("node", site.peers.as_ref().and_then(lapsed)),
        ("exchangeClock", clocks_apart(orders.commands(), *exchange_clock_limit)),
        ("running", not_running(shutdown, &site.health.role)),
    ];
    checks.extend(redis.map(|redis| ("redis", redis.trouble.clone())));
    checks
}

/// The problem if new orders are refused because of Postgres.
fn postgres_trouble(postgres: &Progress, site: &Site) -> Option<String> {
    // A lease that has ended shows sooner than anything else that Postgres does not answer this node.
    let is_silent = site.peers.as_ref().is_some_and(|peers| peers.map().has_lapsed());
    let trouble = if is_silent { Some(DOES_NOT_ANSWER) } else { postgres.trouble() };
    trouble.map(str::to_owned)
}

fn disk(log: &LogHandle) -> Option<String> {
    let Room { reserve_bytes, trouble, .. } = log.room();
    let reserve_mib = reserve_bytes >> 20;
    trouble.map(|trouble| {
        format!(
            "{trouble}: new orders are refused; cancels and fills continue, with {reserve_mib} MiB \
             reserved for them"
        )
    })
}

/// The problem if the exchange's clock is too far from the machine's. No order suffers, as deadlines are
/// sent in the exchange's time, but timestamps of the two sides do not compare.
fn clocks_apart(commands: &OrderCommands, limit: Duration) -> Option<String> {
    let micros = commands.exchange_clock().offset_micros(Clock.moment())?;
    let (distance, side) = (
        Duration::from_micros(micros.unsigned_abs()),
        if micros < 0 { "behind" } else { "ahead of" },
    );
    (distance > limit).then(|| {
        format!(
            "the exchange's clock is {distance:?} {side} ours, and --exchange-clock-limit-ms is {limit:?}"
        )
    })
}

/// The problem if this is one of several nodes and may answer about nobody's orders.
fn lapsed(peers: &Peers) -> Option<String> {
    peers.map().has_lapsed().then(|| {
        "the lease of this node in Postgres has ended: its users' orders are refused here"
            .to_owned()
    })
}

/// The problem if this process ends, or is to be left without work.
fn not_running(shutdown: &Shutdown, role: &FeedRole) -> Option<String> {
    let drained = role.drains().then(|| {
        "draining: this node hands over its users and the feed, and passes requests on until it is stopped"
            .to_owned()
    });
    shutdown.reason().map(stopping).or(drained)
}

fn stopping(reason: StopReason) -> String {
    match reason {
        StopReason::Requested => "draining: a stop was requested".to_owned(),
        StopReason::ThreadEnded { thread, error } => {
            format!("draining: the thread {thread} ended: {error}")
        }
    }
}
