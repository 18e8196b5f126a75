//! Deposits and withdrawals: durable, and once for each id, also across a crash.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use crate::support::{self, Server, api};
use serde_json::{Value, json};
use ureq::http::Request;

const CASH: [&str; 4] = ["--account-mode", "cash", "--opening-balance-cents", "0"];

fn post(server: &Server, path: &str, body: &Value) -> api::Answer {
    post_to(&server.admin, path, body)
}

fn post_to(admin: &str, path: &str, body: &Value) -> api::Answer {
    let request = Request::post(format!("{admin}/accounts/{path}"));
    api::send(request.body(body.to_string().into_bytes()).unwrap()).unwrap()
}

fn movement(id: &str, cents: i64) -> Value {
    json!({"id": id, "amountInCents": cents, "by": "carol", "reason": "wire transfer"})
}

fn trial_balance(server: &Server) -> Value {
    let answer = api::get_anonymously(&format!("{}/trial-balance", server.admin)).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body
}

/// The code of a problem, with its status.
fn problem(answer: &api::Answer) -> (u16, &str) {
    (answer.status, answer.body["code"].as_str().unwrap_or("none"))
}

#[test]
fn an_id_moves_cash_once_also_across_a_crash() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &CASH);
    let alice = server.user(data.path(), "alice");
    let first = post(&server, "alice/deposits", &movement("d1", 50_000));
    assert_eq!((first.status, &first.body["isRepeated"]), (200, &json!(false)), "{}", first.text);
    assert_eq!(alice.get("/account").body["cashInCents"], 50_000, "whoever knows of it sees it");
    let repeated = post(&server, "alice/deposits", &movement("d1", 50_000));
    assert_eq!((repeated.status, &repeated.body["isRepeated"]), (200, &json!(true)));
    assert_eq!(repeated.body["account"]["cashInCents"], 50_000);
    let other = post(&server, "alice/deposits", &movement("d1", 50_001));
    assert_eq!(problem(&other), (409, "cash_movement_conflict"));
    assert_eq!(
        (&other.body["kind"], &other.body["amountInCents"]),
        (&json!("deposit"), &json!(50_000))
    );
    let other = post(&server, "alice/withdrawals", &movement("d1", 50_000));
    assert_eq!(problem(&other), (409, "cash_movement_conflict"));
    let others = post(&server, "bob/deposits", &movement("d1", 7));
    assert_eq!(others.status, 200, "ids are those of one user");

    let resting =
        json!({"position": "buy", "symbol": "IBM", "numShares": 400, "priceInCents": 100});
    assert_eq!(alice.post("/order", &resting).status, 201);
    let beyond = post(&server, "alice/withdrawals", &movement("w1", 10_001));
    assert_eq!(problem(&beyond), (422, "insufficient_cash"), "an order reserves the rest");
    assert_eq!(
        (&beyond.body["neededInCents"], &beyond.body["availableInCents"]),
        (&json!(10_001), &json!(10_000))
    );
    assert_eq!(post(&server, "alice/withdrawals", &movement("w1", 10_000)).status, 200);
    server.program.kill();

    let server = Server::start(data.path(), &CASH);
    let alice = server.user(data.path(), "alice");
    for (path, body) in
        [("alice/deposits", movement("d1", 50_000)), ("alice/withdrawals", movement("w1", 10_000))]
    {
        let repeated = post(&server, path, &body);
        assert_eq!((repeated.status, &repeated.body["isRepeated"]), (200, &json!(true)));
    }
    assert_eq!(problem(&post(&server, "alice/deposits", &movement("w1", 1))).0, 409);
    let account = alice.get("/account").body;
    assert_eq!(
        (&account["cashInCents"], &account["buyingPowerInCents"], &account["depositsInCents"]),
        (&json!(40_000), &json!(0), &json!(40_000))
    );
    let all = trial_balance(&server);
    assert_eq!(
        (&all["accounts"], &all["availableCashInCents"], &all["reservedCashInCents"]),
        (&json!(2), &json!(7), &json!(40_000))
    );
    assert_eq!((&all["clearingInCents"], &all["sumInCents"]), (&json!(-40_007), &json!(0)));
}

#[test]
fn many_at_once_move_what_each_id_says() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &CASH);
    let deposit_all = |server: &Server| {
        let admin = server.admin.as_str();
        std::thread::scope(|scope| {
            let each = |client: i64| {
                move || {
                    (0..20).for_each(|number| {
                        let body = movement(&format!("d{number}"), 100 + number);
                        let answer = post_to(admin, "alice/deposits", &body);
                        assert_eq!(answer.status, 200, "client {client}: {}", answer.text);
                    });
                }
            };
            let clients: Vec<_> = (0..6).map(|client| scope.spawn(each(client))).collect();
            clients.into_iter().for_each(|client| client.join().unwrap());
        });
    };
    deposit_all(&server);
    let total = json!(20 * 100 + 190);
    let alice = server.user(data.path(), "alice");
    assert_eq!(alice.get("/account").body["cashInCents"], total);
    assert_eq!(trial_balance(&server)["availableCashInCents"], total);
    server.program.kill();
    let server = Server::start(data.path(), &CASH);
    deposit_all(&server);
    let alice = server.user(data.path(), "alice");
    assert_eq!(alice.get("/account").body["cashInCents"], total);
}

#[test]
fn what_is_wrong_with_a_movement_is_named() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let field = |body: Value| {
        let answer = post(&server, "alice/deposits", &body);
        assert_eq!(answer.status, 400, "{}", answer.text);
        answer.body["field"].as_str().unwrap().to_owned()
    };
    let with = |name: &str, value: Value| {
        let mut body = movement("d", 5);
        body[name] = value;
        field(body)
    };
    for id in [json!(null), json!(""), json!("a b"), json!(7), json!("opening")] {
        assert_eq!(with("id", id), "id");
    }
    for amount in [json!(null), json!(0), json!(-5), json!(1.5), json!("5"), json!(1e16)] {
        assert_eq!(with("amountInCents", amount), "amountInCents");
    }
    assert_eq!(with("by", json!(null)), "by");
    assert_eq!(with("reason", json!(" ")), "reason");
    assert_eq!(with("amount", json!(5)), "amount");
    let answer = post(&server, "a%20b/deposits", &movement("d", 5));
    assert_eq!((answer.status, &answer.body["field"]), (400, &json!("user")));
    let answer = post(&server, "alice/gifts", &movement("d", 5));
    assert_eq!(answer.status, 404);
    let page = Request::post(format!("{}/accounts/alice/deposits", server.admin));
    let page = page.header("Origin", "http://elsewhere.example");
    let answer = api::send(page.body(movement("d", 5).to_string().into_bytes()).unwrap()).unwrap();
    assert_eq!(answer.status, 403, "no page may do it");
    assert_eq!(trial_balance(&server)["accounts"], 0, "nothing was recorded");
}

#[test]
fn commands_deposit_withdraw_and_show() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let run = |arguments: &[&str]| {
        let end = ["--admin-url", &server.admin];
        let output = support::run(&[arguments, &end[..]].concat());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let act = ["--by", "carol", "--reason", "cash desk"];
    let deposit = |amount: &[&str]| run(&[&["account", "deposit", "alice"], amount, &act].concat());
    let (code, out, error) = deposit(&["--dollars", "12.50"]);
    assert_eq!(code, Some(0), "{error}");
    let id = error.trim().strip_prefix("id: ").expect("the id that was drawn").to_owned();
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&shown["id"], &shown["account"]["cashInCents"]), (&json!(id), &json!(1_250)));
    let (_, out, error) = deposit(&["--cents", "1250", "--id", &id]);
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&shown["isRepeated"], error.as_str()), (&json!(true), ""));
    let (code, _, error) = run(&[
        &["account", "withdraw", "alice", "--cents", "1251", "--id", "w"][..],
        &act,
    ]
    .concat());
    assert!(code == Some(1) && error.contains("1250 are available"), "{error}");
    let (code, out, _) = run(&["account", "show", "alice"]);
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &shown["account"]["cashInCents"]), (Some(0), &json!(1_250)));
    for amount in [&[][..], &["--cents", "1", "--dollars", "1"], &["--dollars", "1.005"]] {
        assert_eq!(deposit(amount).0, Some(2), "{amount:?}");
    }
    let line = server.program.await_error("an operator moves cash");
    assert!(
        line.contains("carol") && line.contains("cash desk") && line.contains("alice"),
        "{line}"
    );
}
