//! The peer against a real Postgres and a scripted exchange.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{Baseline, BaselineArgs};
use crate::{
    api::{Api, Page, Terms},
    cpu::Cores,
    phase::Interrupt,
    postgres::server::Postgres,
    spawn::Directory,
};

const KEY: &str = "0123456789abcdef0123456789abcdef";
/// The exchange refuses orders of the first number of shares, and does not answer the second.
const REFUSED_SHARES: u64 = 13;
const SILENT_SHARES: u64 = 14;

/// An exchange that lists one symbol and has no market.
fn exchange(runtime: &Runtime) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/v1/symbols", get(|| async { Json(json!({ "symbols": [{ "symbol": "SPY" }] })) }))
        .route("/v1/orders", post(submit))
        .with_state(Arc::new(AtomicU64::new(1)));
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        axum::serve(listener, router).await.unwrap();
    });
    address
}

async fn submit(
    State(next): State<Arc<AtomicU64>>,
    Json(request): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    let order = &request["orders"][0];
    let id = order["clientOrderId"].as_str().unwrap();
    assert!(order["submitBefore"].as_u64().unwrap() > crate::clock::wall_micros());
    assert_eq!(order["type"] == "limit", order.get("limitPriceInCents").is_some());
    match order["numShares"].as_u64().unwrap() {
        REFUSED_SHARES => {
            let error = json!({ "code": "unlucky", "message": "never 13" });
            Ok(Json(json!({ "results": [{ "clientOrderId": id, "error": error }] })))
        }
        SILENT_SHARES => Err(StatusCode::INTERNAL_SERVER_ERROR),
        _ => {
            let external = format!("o1-{}", next.fetch_add(1, Ordering::Relaxed));
            let result = json!({ "clientOrderId": id, "externalOrderId": external });
            Ok(Json(json!({ "results": [result] })))
        }
    }
}

fn token(user: &str) -> String {
    let now = crate::clock::wall_micros() / 1_000_000;
    let claims = json!({ "sub": user, "iat": now, "exp": now + 600 });
    let key = EncodingKey::from_secret(KEY.as_bytes()).unwrap();
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
}

fn terms(number: u64, num_shares: u64, price_in_cents: Option<u64>) -> Terms {
    Terms {
        position: "sell",
        symbol: "SPY",
        num_shares,
        price_in_cents,
        time_in_force: "gtc",
        client_order_id: format!("own-{number}"),
    }
}

#[test]
fn orders_are_kept_sent_and_read_as_the_contract_has_them() {
    let directory = Directory::inside(&std::env::temp_dir(), "longbow-baseline-test").unwrap();
    let interrupt = Interrupt::never();
    let mut postgres = Postgres::start(&directory.path, &Cores::all(), &interrupt).unwrap();
    let database = postgres.fresh_database("baseline").unwrap();
    let runtime = Runtime::new().unwrap();
    let secret = directory.path.join("key");
    fs::write(&secret, format!("{KEY}\n")).unwrap();
    let exchange = exchange(&runtime);
    let arguments = BaselineArgs { exchange, database, pool: 2, jwt_secret_file: secret };
    let baseline = Baseline::start(&arguments).unwrap();
    let url = format!("http://{}", baseline.address);
    let alice = Api::new(&url, &token("alice"));

    let limit = terms(1, 5, Some(12_000));
    let answer = alice.create(&limit).unwrap();
    assert_eq!(answer.status, 201, "{answer:?}");
    let accepted = answer.order().unwrap();
    assert!(accepted.is_as(&limit) && accepted.external_order_id.is_some(), "{accepted:?}");
    assert_eq!((accepted.status.as_str(), accepted.version), ("submitted", 2));
    assert_eq!(alice.read(&accepted.order_id).unwrap().order().unwrap(), accepted);

    let answer = alice.create(&terms(2, REFUSED_SHARES, None)).unwrap();
    assert_eq!(answer.status, 422);
    let refused = answer.order().unwrap();
    assert_eq!((refused.status.as_str(), refused.order_type.as_str()), ("failed", "market"));
    assert_eq!(refused.reason.as_deref(), Some("unlucky: never 13"));
    let answer = alice.create(&terms(3, SILENT_SHARES, None)).unwrap();
    assert_eq!(answer.status, 202);
    let pending = answer.order().unwrap();
    assert_eq!((pending.status.as_str(), pending.external_order_id.clone()), ("pending", None));
    assert_eq!(alice.create(&terms(4, 0, None)).unwrap().status, 400);

    let page = |limit, cursor: Option<&str>| -> Page {
        alice.list(limit, cursor).unwrap().read().unwrap()
    };
    let first = page(2, None);
    assert_eq!(first.orders, [pending.clone(), refused.clone()], "newest first");
    let second = page(2, first.next_cursor.as_deref());
    assert_eq!((second.orders, second.next_cursor), (vec![accepted.clone()], None));
    let failed: Page = alice.list_of_status("failed").unwrap().read().unwrap();
    assert_eq!(failed.orders, [refused]);

    let mallory = Api::new(&url, &token("mallory"));
    assert_eq!(mallory.read(&accepted.order_id).unwrap().status, 404);
    assert_eq!(Api::new(&url, "a.b.c").read(&accepted.order_id).unwrap().status, 401);

    // Answered orders outlive the server.
    drop(baseline);
    postgres.rest(&interrupt).unwrap();
    postgres.wake(&interrupt).unwrap();
    let baseline = Baseline::start(&arguments).unwrap();
    let alice = Api::new(&format!("http://{}", baseline.address), &token("alice"));
    assert_eq!(alice.read(&accepted.order_id).unwrap().order().unwrap(), accepted);
}
