//! Events as JSON for histories and inspection: a name, and fields named as in the contracts.

use std::iter;

use serde_json::{Map, Value, json};
use strum::VariantNames;

use super::account_event::AccountAdopted;
use super::case::Case;
use super::change::{Change, Changed, Created, FeedPosition, ReportKind, UnmatchedReport};
use super::event::Event;
use super::fill::Fill;
use crate::types::OrderId;

/// All names that [`Event::name`] returns.
pub fn event_names() -> impl Iterator<Item = &'static str> {
    let changes = Change::VARIANTS.iter().copied();
    iter::once("created").chain(changes).chain([
        "held_report",
        "feed_position",
        "adopted",
        "cash_moved",
        "account_adopted",
        "accounts_begun",
    ])
}

impl Event {
    /// Its name: one of [`event_names`].
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Created(_) => "created",
            Self::Changed(changed) => changed.change.into_str(),
            Self::UnmatchedReport(_) => "held_report",
            Self::FeedPosition(_) => "feed_position",
            Self::Adopted(_) => "adopted",
            Self::CashMoved(_) => "cash_moved",
            Self::AccountAdopted(_) => "account_adopted",
            Self::AccountsBegun(_) => "accounts_begun",
        }
    }

    /// The order that it is about, if known.
    pub fn order_id(&self) -> Option<OrderId> {
        match self {
            Self::Created(created) => Some(created.order_id),
            Self::Changed(changed) => Some(changed.order_id),
            Self::Adopted(adopted) => Some(adopted.order.order().order_id),
            Self::UnmatchedReport(_)
            | Self::FeedPosition(_)
            | Self::CashMoved(_)
            | Self::AccountAdopted(_)
            | Self::AccountsBegun(_) => None,
        }
    }

    /// Its fields, named as in the contracts.
    pub fn members(&self) -> Map<String, Value> {
        let members = match self {
            Self::Created(created) => created_members(created),
            Self::Changed(changed) => changed_members(changed),
            Self::UnmatchedReport(report) => unmatched_members(report),
            Self::FeedPosition(FeedPosition { session, sequence, at, past: _ }) => {
                json!({ "session": session, "sequence": sequence, "at": at })
            }
            Self::Adopted(adopted) => {
                json!({ "at": adopted.at, "order": &**adopted.order.order() })
            }
            Self::CashMoved(moved) => json!({
                "at": moved.at,
                "user": moved.user.as_str(),
                "id": moved.id,
                "movement": moved.kind.into_str(),
                "amountInCents": moved.cents,
                "by": moved.by,
                "reason": moved.reason,
            }),
            Self::AccountAdopted(adopted) => account_members(adopted),
            Self::AccountsBegun(begun) => json!({ "at": begun.at }),
        };
        let Value::Object(members) = members else {
            unreachable!("the members form a JSON object")
        };
        members
    }
}

fn created_members(created: &Created) -> Value {
    json!({
        "orderId": created.order_id,
        "user": created.user.as_str(),
        "clientOrderId": created.client_order_id,
        "symbol": created.symbol,
        "position": created.side,
        "type": created.order_type(),
        "priceInCents": created.limit_price,
        "timeInForce": created.time_in_force,
        "numShares": created.num_shares,
        "createdAt": created.created_at,
        "submitBefore": created.submit_before,
    })
}

fn account_members(adopted: &AccountAdopted) -> Value {
    let AccountAdopted { user, at, source, account } = adopted;
    let holdings = account.holdings().map(|(symbol, holding)| {
        json!({
            "symbol": symbol,
            "shares": holding.shares(),
            "reservedShares": holding.reserved_shares(),
            "costInCents": holding.cost_basis_cents(),
            "realizedProfitInCents": holding.realized_profit_cents(),
        })
    });
    json!({
        "at": at,
        "user": user.as_str(),
        "source": source.into_str(),
        "cashInCents": account.cash_cents(),
        "reservedCashInCents": account.reserved_cents(),
        "depositsInCents": account.deposited_cents(),
        "version": account.version(),
        "holdings": holdings.collect::<Vec<_>>(),
    })
}

fn changed_members(changed: &Changed) -> Value {
    let mut members = match &changed.change {
        Change::Accepted { external_order_id } => json!({ "externalOrderId": external_order_id }),
        Change::Rejected { reason } | Change::CancelRejected { reason } => {
            json!({ "reason": reason })
        }
        Change::NotAccepted | Change::CancelRequested => json!({}),
        Change::Cancelled { cause } => json!({ "cause": cause.into_str() }),
        Change::Filled(fill) => fill_members(fill),
        Change::Busted { execution_id } | Change::TakenBack { execution_id } => {
            json!({ "executionId": execution_id })
        }
        Change::CaseOpened(case) => case_members(case),
        Change::CaseClosed(decision) => json!({
            "case": decision.number,
            "outcome": decision.outcome.into_str(),
            "by": decision.by,
            "reason": decision.reason,
        }),
        Change::ClosedByOperator(act) => json!({ "by": act.by, "reason": act.reason }),
    };
    let of_order = [("orderId", json!(changed.order_id)), ("at", json!(changed.at))];
    add_members(&mut members, of_order);
    members
}

fn case_members(case: &Case) -> Value {
    let mut members = case.execution.as_ref().map_or_else(|| json!({}), fill_members);
    let of_case = [("cause", json!(case.cause.into_str())), ("text", json!(case.text))];
    add_members(&mut members, of_case);
    members
}

fn unmatched_members(report: &UnmatchedReport) -> Value {
    let (what, mut members) = match &report.kind {
        ReportKind::Filled(fill) => ("filled", fill_members(fill)),
        ReportKind::Busted { execution_id } => ("busted", json!({ "executionId": execution_id })),
        ReportKind::Cancelled => ("cancelled", json!({})),
        ReportKind::Expired => ("expired", json!({})),
    };
    let of_report = [
        ("externalOrderId", json!(report.external_order_id)),
        ("report", json!(what)),
        ("receivedAt", json!(report.received_at)),
    ];
    add_members(&mut members, of_report);
    members
}

fn add_members<const N: usize>(to: &mut Value, members: [(&'static str, Value); N]) {
    let Value::Object(to) = to else { unreachable!("the members form a JSON object") };
    for (name, value) in members {
        let before = to.insert(name.into(), value);
        assert!(before.is_none(), "a member is named once: {name}");
    }
}

fn fill_members(fill: &Fill) -> Value {
    json!({
        "executionId": fill.execution_id,
        "priceInCents": fill.price,
        "numShares": fill.num_shares,
        "executedAt": fill.executed_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{CancelCause, CaseCause, CaseDecision, CaseOutcome, OperatorAct};
    use crate::types::*;

    fn every_change() -> Vec<Change> {
        let fill = Fill {
            execution_id: ExecutionId::new("e").unwrap(),
            price: PriceCents::new(100).unwrap(),
            num_shares: 4,
            executed_at: TimestampMicros::new(1),
        };
        vec![
            Change::Accepted { external_order_id: ExternalOrderId::new("x").unwrap() },
            Change::Rejected { reason: "no".into() },
            Change::NotAccepted,
            Change::CancelRequested,
            Change::Cancelled { cause: CancelCause::Expired },
            Change::CancelRejected { reason: "no".into() },
            Change::Filled(fill),
            Change::Busted { execution_id: ExecutionId::new("e").unwrap() },
            Change::TakenBack { execution_id: ExecutionId::new("e").unwrap() },
            Change::CaseOpened(Box::new(Case {
                cause: CaseCause::Unreadable,
                execution: None,
                text: "odd".into(),
            })),
            Change::CaseClosed(Box::new(CaseDecision {
                number: 3,
                outcome: CaseOutcome::Discarded,
                by: Some("bob".into()),
                reason: "told by phone".into(),
            })),
            Change::ClosedByOperator(Box::new(OperatorAct {
                by: "bob".into(),
                reason: "told by phone".into(),
            })),
        ]
    }

    #[test]
    fn every_change_has_its_own_name_and_names_its_order() {
        let order_id = OrderId::from_u128(7);
        let at = TimestampMicros::new(9);
        let mut names = Vec::new();
        for change in every_change() {
            let event = Event::Changed(Changed { order_id, at, change });
            assert_eq!(event.order_id(), Some(order_id));
            let members = event.members();
            assert_eq!((&members["orderId"], &members["at"]), (&json!(order_id), &json!(9)));
            names.push(event.name());
        }
        assert_eq!(names, Change::VARIANTS);
    }

    #[test]
    fn an_execution_has_the_exchanges_fields() {
        let change = every_change().swap_remove(6);
        let event = Event::Changed(Changed {
            order_id: OrderId::from_u128(7),
            at: TimestampMicros::new(9),
            change,
        });
        let members = Value::Object(event.members());
        assert_eq!(
            members,
            json!({"orderId": OrderId::from_u128(7), "at": 9, "executionId": "e",
                "priceInCents": 100, "numShares": 4, "executedAt": 1})
        );
    }
}
