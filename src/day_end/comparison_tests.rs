use super::*;
use crate::day_end::SideTotals;
use crate::order::test_events::{accepted, busted, created, filled};
use crate::order::{Event, TrackedOrder};
use crate::types::ExternalOrderId;

/// Later than any execution.
const LATER: TimestampMicros = TimestampMicros::new(u64::MAX);

/// The date of the executions below.
fn date() -> TradeDate {
    let Event::Changed(changed) = filled(1, "e", 1) else { unreachable!() };
    let crate::order::Change::Filled(fill) = &changed.change else { unreachable!() };
    TradeDate::of(fill.executed_at).unwrap()
}

/// An order of 10 shares at 119.90 with executions of these ids and shares.
fn ours(number: u64, executions: &[(&str, Shares)]) -> OurOrder {
    let mut order = TrackedOrder::new(&created(number));
    let mut noted = Vec::new();
    let events = std::iter::once(accepted(number));
    for event in events.chain(executions.iter().map(|(id, shares)| filled(number, id, *shares))) {
        let Event::Changed(changed) = event else { unreachable!("{event:?}") };
        assert!(order.apply(&changed).recorded);
        if let crate::order::Change::Filled(fill) = &changed.change {
            noted.push(fill.clone());
        }
    }
    (order, noted)
}

fn listed(ours: &OurOrder, id: &str, num_shares: Shares) -> DayExecution {
    let order = ours.0.order();
    let known = ours.1.first();
    DayExecution {
        execution_id: ExecutionId::new(id).unwrap(),
        order_id: order.external_order_id.clone().unwrap(),
        client_order_id: None,
        symbol: order.symbol,
        side: order.side,
        price_in_cents: known.map_or(PriceCents::new(11_990).unwrap(), |fill| fill.price),
        num_shares,
        timestamp: known.map_or(TimestampMicros::new(3), |fill| fill.executed_at),
    }
}

/// Compares one order with what the exchange lists for it.
fn compare(ours: &OurOrder, list: &[DayExecution], is_complete: bool) -> Known {
    let order_id = ours.0.order().order_id;
    let mut comparison = Comparison::new(date(), LATER);
    for execution in list {
        comparison.list(execution, Some(order_id));
    }
    comparison.compare(order_id, Some(ours), is_complete);
    comparison.finish()
}

fn kinds(known: &Known) -> Vec<(DifferenceKind, &str)> {
    let kind = |one: &'_ Difference| one.kind;
    known.differences.iter().map(|one| (kind(one), one.execution_id.as_str())).collect()
}

#[test]
fn equal_sides_have_no_differences_and_equal_totals() {
    let order = ours(1, &[("e1", 4), ("e2", 6)]);
    let list = [listed(&order, "e1", 4), listed(&order, "e2", 6), listed(&order, "e1", 4)];
    let known = compare(&order, &list, true);
    assert!(known.differences.is_empty() && known.findings.is_empty());
    let totals = known.symbols.values().next().unwrap();
    assert_eq!(totals.exchange, totals.ours, "listed twice, counted once");
    let value_in_cents = 10 * 11_990;
    assert_eq!(totals.ours, SideTotals { executions: 2, shares: 10, value_in_cents });
}

#[test]
fn each_difference_has_its_kind() {
    let mut order = ours(1, &[("e1", 4), ("void", 1), ("more", 2)]);
    let Event::Changed(bust) = busted(1, "void") else { unreachable!() };
    assert!(order.0.apply(&bust).recorded);
    let list = [listed(&order, "e1", 3), listed(&order, "void", 1), listed(&order, "new", 5)];
    let known = compare(&order, &list, true);
    let expected = [
        (DifferenceKind::OtherNumbers, "e1"),
        (DifferenceKind::Unlisted, "more"),
        (DifferenceKind::Missing, "new"),
        (DifferenceKind::VoidHere, "void"),
    ];
    assert_eq!(kinds(&known), expected);
    let [finding] = &known.findings[..] else { panic!("{:?}", known.findings) };
    let ids: Vec<&str> = finding.listed.iter().map(|fill| fill.execution_id.as_str()).collect();
    assert_eq!(ids, ["e1", "void", "new"]);
    assert_eq!(finding.unlisted, [ExecutionId::new("more").unwrap()]);
    // An incomplete list says nothing about what it lacks.
    let known = compare(&order, &list[1..], false);
    assert!(!kinds(&known).iter().any(|(kind, _)| *kind == DifferenceKind::Unlisted));
}

#[test]
fn an_execution_of_another_order_is_no_execution_of_ours() {
    let order = ours(1, &[("e1", 4)]);
    let of_ours = |id| listed(&order, id, 4);
    let side = match order.0.order().side {
        Side::Buy => Side::Sell,
        Side::Sell => Side::Buy,
    };
    let list = [
        DayExecution { symbol: Symbol::new("OTHER").unwrap(), ..of_ours("e1") },
        DayExecution { side, ..of_ours("e2") },
        DayExecution { order_id: ExternalOrderId::new("other").unwrap(), ..of_ours("e3") },
    ];
    let known = compare(&order, &list, true);
    let other = DifferenceKind::OtherOrder;
    assert_eq!(kinds(&known), [(other, "e1"), (other, "e2"), (other, "e3")]);
    assert!(known.findings.is_empty(), "nothing of it is booked");
}

#[test]
fn orders_that_are_not_known_here_are_told() {
    let order = ours(1, &[]);
    let mut comparison = Comparison::new(date(), LATER);
    let unknown = OrderId::from_u128(5);
    comparison.list(&listed(&order, "a", 1), None);
    comparison.list(&listed(&order, "b", 1), Some(unknown));
    comparison.compare(unknown, None, true);
    let known = comparison.finish();
    let expected = [(DifferenceKind::UnknownOrder, "a"), (DifferenceKind::UnknownOrder, "b")];
    assert_eq!(kinds(&known), expected);
    assert!(known.findings.is_empty(), "the engines know nothing of them either");
}

#[test]
fn what_may_be_under_way_is_left_out_on_both_sides() {
    let order = ours(1, &[("e1", 4)]);
    let at = order.1[0].executed_at;
    let order_id = order.0.order().order_id;
    let mut comparison = Comparison::new(date(), at);
    comparison.list(&listed(&order, "new", 1), Some(order_id));
    comparison.compare(order_id, Some(&order), true);
    let known = comparison.finish();
    assert!(known.differences.is_empty() && known.symbols.is_empty());
}
