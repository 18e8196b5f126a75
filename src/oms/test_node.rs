//! A node of tests: the orders thread with a real log, over real TCP to a scripted exchange.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{from_value, json};

use futures_lite::future::block_on;

use super::fake_exchange::{FakeExchange, fill};
use super::*;
use crate::exchange::wire::{FeedLine, QueryExecution};
use crate::exchange::{ExchangeAddress, OrderFeedMessage, SessionOptions};
use crate::index::{Index, IndexFollower, IndexMetrics, IndexOptions, IndexReaders};
use crate::order::{Order, Status};
use crate::projection::Progress;
use crate::runtime::{self, ExecutorOptions};
use crate::shutdown::{Shutdown, StopReason};
use crate::sync::{Sender, mailbox};
use crate::testing::wait_until;
use crate::types::*;
use crate::wal::{self, LogHandle, Lsn, WalOptions, WalWriter};

/// One run of the order path, from recovery to the last answer.
pub(super) struct Node {
    pub(super) service: OrderService,
    pub(super) commands: OrderCommands,
    pub(super) feed: Sender<OrderFeedMessage>,
    pub(super) feed_position: Option<(compact_str::CompactString, u64)>,
    pub(super) metrics: OmsMetrics,
    pub(super) log: LogHandle,
    shutdown: Shutdown,
    pub(super) orders: JoinHandle<Result<(), String>>,
    writing: Option<JoinHandle<()>>,
    storing: Vec<JoinHandle<()>>,
}

/// Timeouts that no test reaches unless it is about them.
pub(super) fn options(exchange: &FakeExchange) -> OmsOptions {
    let address = ExchangeAddress::from(exchange.address);
    let mut options = OmsOptions::new(SessionOptions::new(address));
    options.reply_timeout = Duration::from_secs(60);
    options.sweep_interval = Duration::from_millis(5);
    options.engine.grace_micros = 20_000;
    options.engine.clock_tolerance_micros = 0;
    options.session.request_timeout = Duration::from_secs(30);
    // Low enough that a test gets there.
    options.limits.max_held_for_creates = 96;
    options.limits.max_recent_changes = 3;
    options
}

impl Node {
    pub(super) fn start(directory: &Path, options: OmsOptions) -> Self {
        let (mut node, writer) = Self::start_without_disk(directory, options);
        node.write(writer);
        node
    }

    /// A node that awaits Postgres; the test decides how far Postgres has come.
    pub(super) fn start_with_postgres(
        directory: &Path,
        options: OmsOptions,
        progress: &Progress,
    ) -> Self {
        let postgres = PostgresSide { progress: progress.clone(), is_awaited: true };
        let (mut node, writer) = Self::start_parts(directory, options, Some(postgres));
        node.write(writer);
        node
    }

    /// A node whose log is not written until its writer runs.
    pub(super) fn start_without_disk(directory: &Path, options: OmsOptions) -> (Self, WalWriter) {
        Self::start_parts(directory, options, None)
    }

    fn start_parts(
        directory: &Path,
        options: OmsOptions,
        postgres: Option<PostgresSide>,
    ) -> (Self, WalWriter) {
        let log = WalOptions { segment_bytes: 1 << 20, ..WalOptions::new(directory) };
        let log_start = wal::log_start(&log).unwrap();
        let index = Index::open(IndexOptions::new(directory.join("index"), log_start)).unwrap();
        let recovered = recover(&log, &index, options.engine).unwrap();
        let (appender, writer) = wal::open(log, recovered.wal).unwrap();
        let log = writer.handle();
        let (store, readers) = IndexReaders::new(&index);
        let follower = IndexFollower::new(index, log.clone(), IndexMetrics::default()).unwrap();
        let kill_switch = KillSwitch::open(directory.join("kill-switch.json")).unwrap();
        let (commands, receivers) = order_commands(
            recovered.views.clone(),
            kill_switch,
            SteadyClock::start(recovered.last_time),
        );
        let (feed, feed_receiver) = mailbox(FEED_QUEUE_CAPACITY);
        let shutdown = Shutdown::new();
        let metrics = OmsMetrics::default();
        let thread = OrdersThread {
            engines: recovered.engines,
            views: recovered.views,
            watchers: OrderWatchers::default(),
            store: store.clone().into(),
            postgres,
            wal: appender,
            receivers,
            feed: feed_receiver,
            options,
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
        };
        let orders = std::thread::spawn(move || {
            let ended = runtime::run(ExecutorOptions::default(), run(thread)).unwrap();
            ended.map_err(|error| error.to_string())
        });
        let stop = shutdown.clone();
        let mut storing: Vec<_> =
            readers.into_iter().map(|reader| std::thread::spawn(move || reader.run())).collect();
        storing.push(std::thread::spawn(move || follower.run(&stop).unwrap()));
        let node = Self {
            service: OrderService::new(commands.clone(), store),
            commands,
            feed,
            feed_position: recovered.feed_position,
            metrics,
            log,
            shutdown,
            orders,
            writing: None,
            storing,
        };
        (node, writer)
    }

    pub(super) fn write(&mut self, writer: WalWriter) {
        self.writing = Some(std::thread::spawn(move || writer.run().unwrap()));
    }

    pub(super) fn stop(self) {
        self.shutdown.request(StopReason::Requested);
        self.orders.join().unwrap().unwrap();
        drop((self.service, self.commands, self.log));
        for thread in self.writing.into_iter().chain(self.storing) {
            thread.join().unwrap();
        }
    }

    /// Sends a request. The store has no key of these tests.
    pub(super) fn send(
        &self,
        request: CreateOrder,
    ) -> Result<oneshot::Receiver<CreateReply>, Overloaded> {
        self.commands.create(request, Lsn(u64::MAX))
    }

    pub(super) fn create(&self, request: CreateOrder) -> CreateReply {
        block_on(self.service.create(request))
    }

    /// Creates an order and waits until it is accepted.
    pub(super) fn submitted(&self, request: CreateOrder) -> Arc<Order> {
        match self.create(request) {
            CreateReply::Accepted(order) => order,
            CreateReply::Pending(order) => self.wait_for(&order, Status::Submitted),
            other => panic!("neither accepted nor pending: {other:?}"),
        }
    }

    pub(super) fn cancel(&self, order: &Order) -> CancelReply {
        block_on(self.service.cancel(order.user.clone(), order.order_id))
    }

    pub(super) fn read(&self, order: &Order) -> Arc<Order> {
        block_on(self.service.order(&order.user, order.order_id)).unwrap().unwrap()
    }

    /// Waits until readers see the order in this status.
    pub(super) fn wait_for(&self, order: &Order, status: Status) -> Arc<Order> {
        let mut seen = self.read(order);
        wait_until(|| {
            seen = self.read(order);
            seen.status == status
        });
        seen
    }

    pub(super) fn line(&self, line: serde_json::Value) {
        let line: FeedLine = from_value(line).unwrap();
        self.feed.try_send(OrderFeedMessage::Line(line)).unwrap();
    }
}

pub(super) fn request(user: &str, key: Option<&str>, num_shares: Shares) -> CreateOrder {
    let user = UserId::new(user).unwrap();
    let now = Clock.now();
    CreateOrder {
        order_id: OrderId::new(Clock.now_nanos(), rand::random(), user.partition()),
        user,
        client_order_id: key.map(|key| ClientOrderId::new(key).unwrap()),
        symbol: Symbol::new("IBM").unwrap(),
        side: Side::Buy,
        limit_price: PriceCents::new(18_000).ok(),
        time_in_force: TimeInForce::Day,
        num_shares,
        last_price: None,
        created_at: now,
    }
}

/// A trade as a feed line, also entered into the exchange's record.
pub(super) fn trade(
    exchange: &FakeExchange,
    sequence: u64,
    order: &Order,
    num_shares: Shares,
) -> serde_json::Value {
    let execution_id = format!("e{sequence}");
    let execution: QueryExecution = from_value(json!({"executionId": execution_id,
        "priceInCents": 17_950, "numShares": num_shares, "timestamp": sequence}))
    .unwrap();
    exchange.with(|book| {
        let record = book.orders.get_mut(&order.order_id.to_string()).unwrap();
        if !record.executions.contains(&execution) {
            let is_all = record.filled_shares + num_shares == order.num_shares;
            fill(record, execution, is_all);
        }
    });
    json!({"sequence": sequence, "type": "trade", "executionId": execution_id,
        "symbol": "IBM", "priceInCents": 17_950, "numShares": num_shares,
        "orderId": order.external_order_id, "timestamp": sequence})
}

pub(super) fn execution(id: &str, num_shares: Shares) -> QueryExecution {
    from_value(json!({"executionId": id, "priceInCents": 17_950, "numShares": num_shares,
        "timestamp": 5}))
    .unwrap()
}

pub(super) fn accepted(reply: CreateReply) -> Arc<Order> {
    match reply {
        CreateReply::Accepted(order) => order,
        other => panic!("not accepted: {other:?}"),
    }
}
