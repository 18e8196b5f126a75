//! Checks that the server's record and the exchange's agree once the load has ended.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::{
    api::{Api, ExchangeApi, ExchangeRecord, ListedOrder, MAX_QUERY, Order, Page},
    error::{Error, Result},
    history::{CHECKER, Name},
    phase::Interrupt,
    record::Histories,
};

/// Orders of a page of a check.
const PAGE: usize = 500;
/// Most pages of one user: 500,000 orders.
const MAX_PAGES: usize = 1_000;
/// How long the last order may take to be reconciled, in seconds. An order unknown to the exchange
/// fails 5 s after it was recorded, plus 1 s for clock differences; the engine queries every 2 s.
const CALM_SECONDS: f64 = 60.0;
/// How long the records may differ after that, in seconds: until the feed has caught up.
const AGREE_SECONDS: f64 = 30.0;
/// Interval between checks of whether the records agree, in seconds.
const LOOK_SECONDS: f64 = 0.25;
/// Most attempts while the exchange does not answer.
const ATTEMPTS: usize = 50;

/// Reads what the checks compare.
pub(crate) struct Checker<'a> {
    pub histories: &'a Histories,
    pub users: Vec<Api>,
    pub exchange: ExchangeApi,
    pub interrupt: &'a Interrupt,
}

/// Progress of the comparison with the exchange's orders.
#[derive(Debug, Default)]
pub(crate) struct ExchangeProgress {
    /// Where the next comparison begins.
    last: Option<String>,
    /// The exchange's id of each of our orders.
    by_client_id: HashMap<String, String>,
}

impl Checker<'_> {
    /// Reads a user's orders, newest first, back to `until` (exclusive). Returns how many of them wait
    /// for the exchange, and the orders.
    ///
    /// # Errors
    /// The server does not answer.
    pub(crate) fn read_orders(
        &self,
        user: usize,
        until: Option<&str>,
    ) -> Result<(u64, Vec<Order>)> {
        let (mut waiting, mut orders, mut cursor) = (0, Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let Page { orders: mut page, next_cursor } = self.page(user, cursor.as_deref())?;
            waiting += page.iter().filter(|order| waits(order)).count() as u64;
            let is_far_enough = page
                .last()
                .is_some_and(|last| until.is_some_and(|until| last.order_id.as_str() <= until));
            orders.append(&mut page);
            match next_cursor {
                Some(next) if !is_far_enough => cursor = Some(next),
                Some(_) | None => break,
            }
        }
        Ok((waiting, orders))
    }

    fn page(&self, user: usize, cursor: Option<&str>) -> Result<Page> {
        let api = self.users.get(user).ok_or_else(|| no_answer("GET /orders"))?;
        let sent = self.histories.send(CHECKER, user);
        let answer = api.list(PAGE, cursor);
        let page = self.histories.listed(sent, cursor, answer.as_ref());
        page.ok_or_else(|| no_answer("GET /orders"))
    }

    /// Checks the exchange's new orders: each is one of ours, as recorded, and placed once.
    ///
    /// # Errors
    /// The exchange does not answer.
    pub(crate) fn compare_exchange_orders(&self, progress: &mut ExchangeProgress) -> Result<()> {
        loop {
            let page = self.ask_exchange(|exchange| exchange.orders(progress.last.as_deref()))?;
            let Some(last) = page.last() else { return Ok(()) };
            progress.last = Some(last.external_order_id.clone());
            for listed in page {
                self.compare_listed(&listed);
                let ListedOrder { client_order_id, external_order_id, .. } = listed;
                let before = progress.by_client_id.insert(client_order_id, external_order_id);
                if let Some(before) = before {
                    self.histories
                        .violate(None, &format!("the exchange has an order twice: {before}"));
                }
            }
        }
    }

    fn compare_listed(&self, listed: &ListedOrder) {
        let users = 0..self.users.len();
        let found = users.into_iter().find_map(|user| {
            self.histories.by_id(user, &listed.client_order_id).map(|(terms, _)| (user, terms))
        });
        let Some((user, terms)) = found else {
            let what = format!("the exchange has an order that there is no record of: {listed:?}");
            return self.histories.violate(None, &what);
        };
        let is_same = listed.symbol == terms.symbol
            && listed.side == terms.position
            && listed.limit_price_in_cents == terms.price_in_cents
            && listed.time_in_force == terms.time_in_force
            && listed.num_shares == terms.num_shares;
        if !is_same {
            let what = format!("the exchange has the order with other terms: {listed:?}");
            self.histories.violate(Some(&(user, terms.client_order_id)), &what);
        }
    }

    /// Ends the exchange's faults, waits until no order waits for it, and compares every order with
    /// its record.
    ///
    /// # Errors
    /// A side does not answer.
    pub(crate) fn reconcile(&self) -> Result<()> {
        self.set_faults(&json!({}))?;
        let calm = self.interrupt.wait_until(CALM_SECONDS, || {
            let mut waiting = 0;
            for user in 0..self.users.len() {
                waiting += self.count_waiting(user)?;
            }
            Ok(waiting == 0)
        })?;
        if !calm {
            self.report_waiting()?;
            return Ok(());
        }
        let mut differences = Vec::new();
        let agree = self.interrupt.wait_until(AGREE_SECONDS, || {
            differences = self.differences()?;
            if !differences.is_empty() {
                self.interrupt.sleep(LOOK_SECONDS)?;
            }
            Ok(differences.is_empty())
        })?;
        if !agree {
            for (name, what) in differences {
                self.histories.violate(Some(&name), &what);
            }
        }
        Ok(())
    }

    /// Sets the exchange's faults.
    ///
    /// # Errors
    /// It refuses them.
    pub(crate) fn set_faults(&self, settings: &Value) -> Result<()> {
        let answer = self.ask_exchange(|exchange| exchange.set_faults(settings))?;
        if answer.status == 200 {
            return Ok(());
        }
        Err(Error::Answer { what: "PUT /admin/faults".to_owned(), answer: answer.body })
    }

    fn count_waiting(&self, user: usize) -> Result<u64> {
        let api = self.users.get(user).ok_or_else(|| no_answer("GET /orders"))?;
        let mut waiting = 0;
        for status in ["pending", "pending_cancel"] {
            let answer = api.list_of_status(status).ok_or_else(|| no_answer("GET /orders"))?;
            let page: Page = answer
                .read()
                .map_err(|answer| Error::Answer { what: "GET /orders".to_owned(), answer })?;
            // A short page may not be the last: the filter scans a bounded number of orders.
            waiting += page.orders.len() as u64 + u64::from(page.next_cursor.is_some());
        }
        Ok(waiting)
    }

    fn report_waiting(&self) -> Result<()> {
        for user in 0..self.users.len() {
            for order in self.read_orders(user, None)?.1.into_iter().filter(waits) {
                let name = (user, order.client_order_id.clone().unwrap_or_default());
                let what =
                    format!("after {CALM_SECONDS} s without faults it still waits: {order:?}");
                self.histories.violate(Some(&name), &what);
            }
        }
        Ok(())
    }

    /// Every order whose record differs from the exchange's.
    fn differences(&self) -> Result<Vec<(Name, String)>> {
        let mut differences = Vec::new();
        for user in 0..self.users.len() {
            let (_, orders) = self.read_orders(user, None)?;
            for chunk in orders.chunks(MAX_QUERY) {
                let ids: Vec<&str> = chunk.iter().map(|order| order.order_id.as_str()).collect();
                let records = self.ask_exchange(|exchange| exchange.query(&ids))?;
                for (order, record) in chunk.iter().zip(&records) {
                    if !agree(order, record) {
                        let name = (user, order.client_order_id.clone().unwrap_or_default());
                        let what = format!("our record: {order:?}\nthe exchange's: {record:?}");
                        differences.push((name, what));
                    }
                }
            }
        }
        Ok(differences)
    }

    fn ask_exchange<T>(&self, ask: impl Fn(&ExchangeApi) -> Option<T>) -> Result<T> {
        for _ in 0..ATTEMPTS {
            if let Some(answer) = ask(&self.exchange) {
                return Ok(answer);
            }
            // Faults may hit this request, too.
            self.interrupt.sleep(0.02)?;
        }
        Err(no_answer("the exchange"))
    }
}

fn no_answer(what: &str) -> Error {
    Error::Answer { what: what.to_owned(), answer: "no usable answer".to_owned() }
}

fn waits(order: &Order) -> bool {
    matches!(order.status.as_str(), "pending" | "pending_cancel")
}

/// Whether our record of a reconciled order equals the exchange's.
fn agree(order: &Order, record: &ExchangeRecord) -> bool {
    if record.client_order_id != order.order_id {
        return false;
    }
    let same_status = match (record.status.as_str(), order.status.as_str()) {
        ("open", "submitted") => order.filled_shares == 0,
        ("open", "partially_filled") => order.filled_shares > 0,
        ("filled", "filled") | ("cancelled" | "expired", "cancelled") => true,
        // Accepted too late, then cancelled.
        ("unknown" | "rejected" | "cancelled", "failed") => true,
        _ => false,
    };
    let value: i64 = record.executions.iter().map(|e| e.price_in_cents * e.num_shares).sum();
    same_status
        && record.external_order_id == order.external_order_id
        && record.filled_shares == order.filled_shares
        && value == order.filled_value_in_cents
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(status: &str, here: &str, filled: u64) -> (Order, ExchangeRecord) {
        let order = format!(
            r#"{{"orderId":"0a","clientOrderId":"k","externalOrderId":"o1-1","symbol":"SPY",
            "position":"buy","type":"limit","timeInForce":"day","priceInCents":9,"numShares":5,
            "filledShares":{filled},"filledValueInCents":{},"averagePriceInCents":null,
            "status":"{here}","reason":null,"createdAt":1,"updatedAt":1,"version":3}}"#,
            filled * 9
        );
        let record = format!(
            r#"{{"clientOrderId":"0a","externalOrderId":"o1-1","status":"{status}",
            "filledShares":{filled},"executions":[{{"priceInCents":9,"numShares":{filled}}}]}}"#
        );
        (serde_json::from_str(&order).unwrap(), serde_json::from_str(&record).unwrap())
    }

    #[test]
    fn records_agree_when_statuses_correspond_and_fills_are_the_same() {
        for (there, here, filled, expected) in [
            ("open", "submitted", 0, true),
            ("open", "partially_filled", 2, true),
            ("open", "submitted", 2, false),
            ("open", "pending_cancel", 0, false),
            ("filled", "filled", 5, true),
            ("filled", "cancelled", 5, false),
            ("expired", "cancelled", 1, true),
            ("open", "failed", 0, false),
        ] {
            let (order, record) = pair(there, here, filled);
            assert_eq!(agree(&order, &record), expected, "{there} {here} {filled}");
        }
        let (order, mut record) = pair("filled", "filled", 5);
        record.executions.clear();
        assert!(!agree(&order, &record), "another value");
        let (mut order, record) = pair("filled", "filled", 5);
        order.external_order_id = None;
        assert!(!agree(&order, &record));
    }
}
