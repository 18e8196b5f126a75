//! `POST /orders/preview`: what an order would reserve, and whether its account would pay for it. Nothing
//! is recorded, and nothing kept for it.

use http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use super::accounts::account_of_user;
use super::orders::{NewOrder, check, is_collared, price_unavailable, unfunded};
use crate::engine::AccountMode;
use crate::http::app::App;
use crate::http::call::Call;
use crate::http::problem::{HttpResponse, Problem, json_response};
use crate::http::query::Query;
use crate::money::{Account, Held, Refusal, collar_price};
use crate::types::{OrderType, PriceCents, Shares, Side, Symbol};

/// What an order would do.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Preview {
    symbol: Symbol,
    position: Side,
    r#type: OrderType,
    num_shares: Shares,
    /// Whether the account pays for it now.
    would_pass: bool,
    /// What `POST /order` would answer otherwise.
    refusal: Option<Value>,
    /// Of one share; of a buy that reserves nothing, and of a sell without a limit, there is none.
    reserved_price_in_cents: Option<PriceCents>,
    reserved_cash_in_cents: i64,
    reserved_shares: i64,
    /// At the limit, or at the last price.
    value_in_cents: Option<i64>,
    buying_power_in_cents: i64,
    available_shares: i64,
}

/// `POST /orders/preview`, with the body of `POST /order`.
pub(in crate::http) async fn post(app: &App, call: &Call) -> Result<HttpResponse, Problem> {
    Query::none(&call.head.uri)?;
    let order = NewOrder::read(&call.body)?;
    check(app, &order)?;
    let account = account_of_user(&app.site, &call.user).await?;
    let last = app.fresh_price(&order.symbol).await;
    let is_checked = app.site.accounts.rules.mode == AccountMode::Cash;
    let collared = last.map(|last| collar_price(last, app.site.accounts.rules.collar_percent));
    if is_collared(app, &order) && collared.is_none() {
        return Err(price_unavailable());
    }
    let price = order.price_in_cents.or(collared).filter(|_| order.side == Side::Buy);
    let price = price.filter(|_| is_checked);
    let preview = preview_of(&order, &account, (is_checked, price), last);
    Ok(json_response(StatusCode::OK, &preview))
}

fn preview_of(
    order: &NewOrder,
    account: &Account,
    (is_checked, reserved_price): (bool, Option<PriceCents>),
    last: Option<PriceCents>,
) -> Preview {
    let checked: Result<Held, Refusal> = match reserved_price {
        Some(price) => account.check_buy(order.num_shares, price),
        None if is_checked => account.check_sell(order.symbol, order.num_shares),
        None => Ok(Held::Nothing),
    };
    let value = |price: PriceCents| {
        let shares = i64::try_from(order.num_shares).unwrap_or(i64::MAX);
        shares.saturating_mul(price.cents())
    };
    let (reserved_cash_in_cents, reserved_shares) = match checked {
        Ok(Held::Cash(cents)) => (cents, 0),
        Ok(Held::Shares(_, shares)) => (0, shares),
        Ok(Held::Nothing) | Err(_) => (0, 0),
    };
    Preview {
        symbol: order.symbol,
        position: order.side,
        r#type: if order.price_in_cents.is_some() { OrderType::Limit } else { OrderType::Market },
        num_shares: order.num_shares,
        would_pass: checked.is_ok(),
        refusal: checked.err().map(|refusal| unfunded(refusal).into_document()),
        reserved_price_in_cents: reserved_price,
        reserved_cash_in_cents,
        reserved_shares,
        value_in_cents: order.price_in_cents.or(last).map(value),
        buying_power_in_cents: account.buying_power_cents(),
        available_shares: account.holding(order.symbol).available_shares(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn order(body: &Value) -> NewOrder {
        NewOrder::read(body.to_string().as_bytes()).unwrap()
    }

    fn price(cents: i64) -> Option<PriceCents> {
        PriceCents::new(cents).ok()
    }

    #[test]
    fn a_preview_says_what_is_reserved_or_what_is_lacking() {
        let account = Account::opened_with(1_000);
        let buy = order(&json!({"position": "buy", "symbol": "IBM", "numShares": 4}));
        let preview = preview_of(&buy, &account, (true, price(210)), price(200));
        assert!(preview.would_pass && preview.refusal.is_none());
        assert_eq!((preview.reserved_cash_in_cents, preview.value_in_cents), (840, Some(800)));
        let dear = preview_of(&buy, &account, (true, price(251)), price(200));
        let refusal = dear.refusal.unwrap();
        assert!(!dear.would_pass);
        assert_eq!(refusal["code"], "insufficient_buying_power");
        assert_eq!(
            (&refusal["neededInCents"], &refusal["availableInCents"]),
            (&json!(1_004), &json!(1_000))
        );
        let sell =
            order(&json!({"position": "sell", "symbol": "IBM", "numShares": 1, "priceInCents": 7}));
        let preview = preview_of(&sell, &account, (true, None), None);
        assert_eq!(preview.refusal.unwrap()["code"], "insufficient_shares");
        let unchecked = preview_of(&sell, &account, (false, None), None);
        assert!(unchecked.would_pass);
        assert_eq!((unchecked.reserved_shares, unchecked.value_in_cents), (0, Some(7)));
    }
}
