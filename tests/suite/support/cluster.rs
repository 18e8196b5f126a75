//! Three members of a cluster with a Postgres, a Redis and an exchange of their own, and their clients.

mod traders;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::http::Method;

use super::events::EventStream;
use super::postgres::{Database, Postgres};
use super::redis::Redis;
use super::relay::Relay;
use super::{Exchange, Program, Server, api, longbow, ports, run};
pub(crate) use traders::{Placed, Traders};

/// Members of a cluster.
const MEMBERS: usize = 3;
/// How long a client waits for an answer before it asks another member.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);
/// How long a client whom no member has served leaves them alone, unless its test ends.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// A cluster. Everything ends with it.
pub(crate) struct Cluster {
    members: Vec<Option<Server>>,
    addresses: Vec<String>,
    settings: Vec<String>,
    /// The last member reaches Postgres and Redis by these.
    pub to_postgres: Relay,
    pub to_redis: Relay,
    keys: String,
    /// `http://host:port`.
    pub exchange_address: String,
    _exchange: Option<Exchange>,
    pub redis: Redis,
    pub database: Database,
    pub postgres: Postgres,
    folder: TempDir,
}

impl Cluster {
    /// Starts three members, and waits until each serves its share of the users.
    pub(crate) fn start(more: &[&str]) -> Self {
        let postgres = Postgres::start();
        let database = postgres.database();
        Self::start_with(postgres, database, more)
    }

    /// The same, with a Postgres by this address of its database.
    pub(crate) fn start_with(postgres: Postgres, database: Database, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let exchange = Exchange::start(&folder.path().join("exchange"), &["--speed", "5"]);
        let address = exchange.address.clone();
        Self::start_in(folder, (address, Some(exchange)), (postgres, database), more)
    }

    /// The same, with the exchange at this address.
    pub(crate) fn start_at(exchange_address: String, more: &[&str]) -> Self {
        let postgres = Postgres::start();
        let database = postgres.database();
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self::start_in(folder, (exchange_address, None), (postgres, database), more)
    }

    fn start_in(
        folder: TempDir,
        (exchange_address, exchange): (String, Option<Exchange>),
        (postgres, database): (Postgres, Database),
        more: &[&str],
    ) -> Self {
        let redis = Redis::start();
        let mut settings: Vec<String> = [
            "--postgres",
            &database.url,
            "--migrate",
            "--commit",
            "postgres",
            "--exchange",
            &exchange_address,
            "--shards",
            "1",
            "--redis",
        ]
        .map(str::to_owned)
        .into();
        settings.push(redis.url());
        let keys = folder.path().join("keys").to_str().expect("a printable path").to_owned();
        assert!(run(&["keys", "init", &keys]).status.success());
        settings.extend(["--keys".to_owned(), keys.clone()]);
        settings.extend(more.iter().map(|&more| more.to_owned()));
        let to_postgres = Relay::start(&format!("http://{}", postgres.address()));
        let to_redis = Relay::start(&redis.url().replace("redis", "http"));
        let addresses = (0..MEMBERS).map(|_| ports::free_address()).collect();
        let mut cluster = Self {
            members: Vec::new(),
            addresses,
            settings,
            to_postgres,
            to_redis,
            keys,
            exchange_address,
            _exchange: exchange,
            redis,
            database,
            postgres,
            folder,
        };
        for number in 0..MEMBERS {
            // They need not be ready to share the users.
            let settings = cluster.settings_of(number);
            let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
            let member = Server::start_unready(&cluster.data(number), &settings);
            cluster.members.push(Some(member));
        }
        cluster.await_even_shares();
        cluster.members.iter().flatten().for_each(Server::await_ready);
        cluster
    }

    /// A member's data directory.
    pub(crate) fn data(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("member-{number}"))
    }

    /// Starts a member that does not run.
    pub(crate) fn start_member(&mut self, number: usize) {
        self.start_member_by(longbow(), number);
    }

    /// The same, with a command that ends with the program.
    pub(crate) fn start_member_by(&mut self, command: Command, number: usize) {
        assert!(self.members[number].is_none(), "it runs already");
        let settings = self.settings_of(number);
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        self.members[number] = Some(Server::start_by(command, &self.data(number), &settings));
    }

    fn settings_of(&self, number: usize) -> Vec<String> {
        let of_its_own = ["--node-id", &number.to_string(), "--listen", &self.addresses[number]]
            .map(str::to_owned);
        let of_all = self.settings.iter().map(|given| self.relayed(number, given));
        of_its_own.into_iter().chain(of_all).collect()
    }

    /// A fourth member that has something else than the others and is refused: what it says.
    pub(crate) fn refusal(&self, instead: (&str, &str)) -> String {
        self.refusal_by(longbow(), instead)
    }

    /// The same, of one that this command starts.
    pub(crate) fn refusal_by(
        &self,
        mut command: Command,
        (setting, instead): (&str, &str),
    ) -> String {
        let data = self.data(MEMBERS);
        let data = data.to_str().expect("a printable path");
        let mut settings =
            vec!["serve", "--node-id", "9", "--listen", "127.0.0.1:0", "--data-dir", data];
        settings.push("--admin-listen=127.0.0.1:0");
        for given in &self.settings {
            let is_value = settings.last() == Some(&setting);
            settings.push(if is_value { instead } else { given });
        }
        command.args(settings);
        let mut program = Program::spawn(command);
        let line = program.await_error("error: ");
        assert_eq!(program.wait().code(), Some(1));
        line
    }

    /// The last member's own way to Postgres and Redis.
    fn relayed(&self, number: usize, setting: &str) -> String {
        if number + 1 < MEMBERS {
            return setting.to_owned();
        }
        let by = |relay: &Relay| relay.address.replace("http://", "");
        let redis = self.redis.url().replace("redis://", "");
        setting
            .replace(&self.postgres.address(), &by(&self.to_postgres))
            .replace(&redis, &by(&self.to_redis))
    }

    /// A member that runs.
    pub(crate) fn member(&self, number: usize) -> &Server {
        self.members[number].as_ref().expect("it runs")
    }

    /// The members that run.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Server> {
        self.members.iter().flatten()
    }

    /// Kills a member with SIGKILL.
    pub(crate) fn kill(&mut self, number: usize) {
        self.members[number].take().expect("it runs").program.kill();
    }

    /// Takes a member out of the cluster, to end it in some other way.
    pub(crate) fn take(&mut self, number: usize) -> Server {
        self.members[number].take().expect("it runs")
    }

    /// A metric, summed over the members that run.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        self.members.iter().flatten().map(|member| member.metric(name)).sum()
    }

    /// Waits until the lease of every member is over, as none can renew it.
    pub(crate) fn await_expired_leases(&self) {
        // A tenth of a second between two.
        const FAILURES: u64 = 30;
        api::until("the leases to end", || {
            let has_expired =
                |member: &Server| member.metric("node_failed_renewals_total") >= FAILURES;
            self.members.iter().flatten().all(has_expired).then_some(())
        });
    }

    /// Waits until the members that run have even shares of the users.
    pub(crate) fn await_even_shares(&self) {
        let running = self.members.iter().flatten().count() as u64;
        api::until("the users to be shared evenly", || {
            let shares: Vec<u64> =
                self.members.iter().flatten().map(|m| m.metric("node_partitions")).collect();
            let is_even = shares.iter().all(|share| *share >= 64 / running);
            (is_even && shares.iter().sum::<u64>() == 64).then_some(())
        });
    }

    /// A user's token, which every member takes.
    pub(crate) fn token(&self, user: &str) -> String {
        let output = run(&["token", "--keys", &self.keys, "--user", user]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("a token is text").trim().to_owned()
    }

    /// A user's clients, one of each member that runs, in their order.
    pub(crate) fn clients(&self, user: &str) -> Vec<api::Client> {
        let token = self.token(user);
        let running = self.members.iter().flatten();
        running.map(|member| api::Client::new(&member.address, &token)).collect()
    }

    /// A client of all members.
    pub(crate) fn client(&self, user: &str) -> ClusterClient {
        let token = self.token(user);
        let client = |address: &String| {
            api::Client::with_patience(&format!("http://{address}"), &token, ANSWER_PATIENCE)
        };
        ClusterClient { members: self.addresses.iter().map(client).collect(), preferred: 0 }
    }

    /// The member that has the user of an order.
    pub(crate) fn owner_of(&self, order: &str) -> i64 {
        self.database.number(&format!(
            "SELECT node_id FROM orders JOIN projection USING (user_partition) \
             JOIN nodes ON nodes.epoch = projection.epoch \
             WHERE is_current AND order_id = '{order}'"
        ))
    }

    /// Every order that the exchange has, by our id: how many there are under it.
    pub(crate) fn orders_at_exchange(&self) -> BTreeMap<String, usize> {
        let mut orders = BTreeMap::new();
        for order in self.listed_by_exchange() {
            *orders.entry(text_of(&order, "clientOrderId")).or_default() += 1;
        }
        orders
    }

    /// How many shares the exchange has filled, by our id of the order.
    pub(crate) fn shares_at_exchange(&self) -> BTreeMap<String, u64> {
        let shares = |order: Value| {
            (text_of(&order, "clientOrderId"), order["filledShares"].as_u64().expect("a number"))
        };
        self.listed_by_exchange().into_iter().map(shares).collect()
    }

    /// Every order of the exchange.
    fn listed_by_exchange(&self) -> Vec<Value> {
        let mut orders: Vec<Value> = Vec::new();
        loop {
            let after = orders.last().map(|last| text_of(last, "externalOrderId"));
            let after = after.unwrap_or_default();
            let url = format!("{}/admin/orders?after={after}", self.exchange_address);
            let page = api::get_anonymously(&url).expect("the exchange answers").body;
            let page = page["orders"].as_array().expect("a list");
            if page.is_empty() {
                return orders;
            }
            orders.extend(page.iter().cloned());
        }
    }
}

fn text_of(order: &Value, name: &str) -> String {
    order[name].as_str().expect("a text").to_owned()
}

/// A client of all members, as one behind a load balancer is: it asks another one when one is away.
pub(crate) struct ClusterClient {
    members: Vec<api::Client>,
    preferred: usize,
}

impl ClusterClient {
    /// Sends a request until a member has answered it with something else than 503, or that it does
    /// not know the outcome yet: requests here may be repeated.
    pub(crate) fn send(&mut self, method: &Method, path: &str, body: &Value) -> api::Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        api::until(path, || {
            for step in 0..self.members.len() {
                let number = (self.preferred + step) % self.members.len();
                let answer = self.members[number].try_send(method.clone(), path, body.as_bytes());
                let is_known = |answer: &api::Answer| {
                    answer.status != 503 && answer.body["code"] != "outcome_unknown"
                };
                if let Some(answer) = answer.filter(is_known) {
                    self.preferred = number;
                    return Some(answer);
                }
            }
            std::thread::park_timeout(RETRY_PAUSE);
            None
        })
    }

    /// Places an order with a key, so that it may be repeated.
    pub(crate) fn place(&mut self, key: &str, price_cents: Option<u64>) -> api::Answer {
        let mut order =
            json!({"position": "buy", "symbol": "SPY", "numShares": 1, "clientOrderId": key});
        if let Some(cents) = price_cents {
            order["priceInCents"] = cents.into();
        }
        self.send(&Method::POST, "/order", &order)
    }

    /// Waits until an order has one of these states. Its changes are announced on a stream.
    pub(crate) fn await_status(&mut self, id: &str, wanted: &[&str]) {
        let path = format!("/order/{id}");
        let mut stream = None;
        api::until(&format!("order {id} to be {wanted:?}"), || {
            let order = self.send(&Method::GET, &path, &Value::Null);
            if order.body["status"].as_str().is_some_and(|status| wanted.contains(&status)) {
                return Some(());
            }
            let heard = stream.as_mut().map(EventStream::next);
            if heard.flatten().is_none() {
                stream = self.members[self.preferred].order_stream();
            }
            None
        });
    }

    /// All orders, newest first.
    pub(crate) fn all_orders(&mut self) -> Vec<Value> {
        let mut orders = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/orders?limit=500{cursor}");
            let page = self.send(&Method::GET, &path, &Value::Null);
            assert_eq!(page.status, 200, "{}", page.text);
            orders.extend(page.body["orders"].as_array().expect("a list").iter().cloned());
            match page.body["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return orders,
            }
        }
    }
}

/// The order that an answer acknowledges. One that Postgres had too late for the exchange has failed.
pub(crate) fn id_of(answer: &api::Answer) -> String {
    let is_late = |order: &Value| {
        let reason = order["reason"].as_str().unwrap_or_default();
        reason == "not accepted in time" || reason.starts_with("too_late")
    };
    let order = match answer.status {
        200..=202 => &answer.body,
        422 if is_late(&answer.body["order"]) => &answer.body["order"],
        _ => panic!("{}", answer.text),
    };
    order["orderId"].as_str().expect("an id").to_owned()
}
