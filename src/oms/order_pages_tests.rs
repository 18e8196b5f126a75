use super::*;
use Sequence::{NewestFirst, OldestFirst};

use crate::index::{Index, IndexAges, IndexReaders, IndexWriter};
use crate::oms::views::CommittedViews;
use crate::order::{Created, OrderFilter, Status, StatusSet, TrackedOrder};
use crate::testing::MemoryStore;
use crate::types::{Side, Symbol, TimeInForce, TimestampMicros, UserPartition};
use crate::wal::{LogId, Lsn};

fn all(sequence: Sequence) -> PageRequest {
    PageRequest { sequence, limit: 50, ..PageRequest::default() }
}

fn order(number: u128) -> Arc<Order> {
    let created = Created {
        order_id: OrderId::new(number * 1_000_000, 0, UserPartition::new(0).unwrap()),
        user: UserId::new("u").unwrap(),
        client_order_id: None,
        symbol: Symbol::new("IBM").unwrap(),
        side: Side::Buy,
        limit_price: None,
        time_in_force: TimeInForce::Day,
        num_shares: 1,
        created_at: TimestampMicros::new(1),
        submit_before: TimestampMicros::new(2),
        reservation: crate::money::Reservation::Nothing,
    };
    Arc::clone(TrackedOrder::new(&created).order())
}

fn newer(order: &Arc<Order>) -> Arc<Order> {
    let mut newer = (**order).clone();
    newer.version += 1;
    Arc::new(newer)
}

fn view(orders: &[&Arc<Order>]) -> UserView {
    let orders = orders.iter().map(|o| (o.order_id, Arc::clone(o))).collect();
    UserView { orders, ..UserView::default() }
}

#[test]
fn each_order_is_returned_once_in_its_newest_version() {
    let orders: Vec<Arc<Order>> = (0..6).map(order).collect();
    let in_memory = view(&[&orders[5], &newer(&orders[4]), &orders[3], &orders[1]]);
    let stored = [orders[4].clone(), newer(&orders[3]), orders[2].clone()];
    let nothing = UserView::default();
    let together: Vec<(OrderId, u64)> =
        merged([&in_memory, &nothing], &stored, (&all(NewestFirst), None))
            .map(|order| (order.order_id, order.version))
            .collect();
    let expected: Vec<(OrderId, u64)> =
        [(5, 1), (4, 2), (3, 2), (2, 1), (1, 1)].map(|(n, v)| (orders[n].order_id, v)).into();
    assert_eq!(together, expected);
}

#[test]
fn bounds_apply_to_memory_and_store() {
    let orders: Vec<Arc<Order>> = (0..6).map(order).collect();
    let in_memory = view(&[&orders[5], &orders[3], &orders[1]]);
    let stored = [orders[4].clone(), orders[2].clone()];
    let ids = |sequence, after: usize, edge: usize| -> Vec<OrderId> {
        let request = PageRequest { after: Some(orders[after].order_id), ..all(sequence) };
        let within = (&request, Some(orders[edge].order_id));
        let mut stored = stored.to_vec();
        stored.sort_by_key(|order| order.order_id);
        if sequence == NewestFirst {
            stored.reverse();
        }
        merged([&in_memory, &in_memory], &stored, within).map(|order| order.order_id).collect()
    };
    assert_eq!(ids(NewestFirst, 5, 2), [4, 3, 2].map(|n| orders[n].order_id));
    assert_eq!(ids(OldestFirst, 1, 4), [2, 3, 4].map(|n| orders[n].order_id));
}

/// All parts: the symbols of their orders, and where they end.
fn pages(symbols: &[&str], request: &PageRequest) -> Vec<(Vec<String>, Option<OrderId>)> {
    let index = Index::in_memory(&MemoryStore::new(), IndexAges::default()).unwrap();
    IndexWriter::new(index.clone(), LogId(1)).unwrap();
    let views = CommittedViews::new();
    for (number, name) in (1..).zip(symbols) {
        let mut order = (*order(number)).clone();
        order.symbol = Symbol::new(name).unwrap();
        views.publish_change(Arc::new(order), Lsn(u64::try_from(number).unwrap()), 3);
    }
    views.show(Lsn(symbols.len() as u64));
    let (readers, [reader, _]) = IndexReaders::new(&index);
    let reading = std::thread::spawn(move || reader.run());
    let reads = OrderReads::new(views, readers);
    let (mut request, mut pages) = (request.clone(), Vec::new());
    loop {
        let user = UserId::new("u").unwrap();
        let page = futures_lite::future::block_on(reads.page(&user, &request)).unwrap();
        let names = page.orders.iter().map(|order| order.symbol.to_string()).collect();
        pages.push((names, page.next));
        request.after = page.next;
        if page.next.is_none() {
            break;
        }
    }
    drop(reads);
    reading.join().unwrap();
    pages
}

#[test]
fn what_one_part_looks_at_is_bounded_and_nothing_is_missed() {
    let mut symbols = vec!["SPY"];
    symbols.extend(vec!["IBM"; MAX_SCANNED * 2]);
    symbols.push("SPY");
    let of = |symbol: &str, statuses| OrderFilter {
        symbols: vec![Symbol::new(symbol).unwrap()],
        statuses,
        ..OrderFilter::default()
    };
    for sequence in [NewestFirst, OldestFirst] {
        for statuses in [StatusSet::all(), StatusSet::open()] {
            let request = PageRequest { filter: of("SPY", statuses), ..all(sequence) };
            let parts = pages(&symbols, &request);
            let found: Vec<usize> = parts.iter().map(|(orders, _)| orders.len()).collect();
            assert_eq!(found, [1, 0, 1], "the first, and the last once all between are looked at");
        }
        let request = PageRequest { filter: of("AIG", StatusSet::all()), ..all(sequence) };
        let parts = pages(&symbols, &request);
        assert!(parts.len() == 3 && parts.iter().all(|(orders, _)| orders.is_empty()));
    }
    let filled = StatusSet::from_iter([Status::Filled]);
    let request = PageRequest { filter: of("IBM", filled), limit: 1, ..all(NewestFirst) };
    assert!(pages(&symbols, &request).iter().all(|(orders, _)| orders.is_empty()));
    let request = PageRequest { limit: 3_000, ..all(NewestFirst) };
    let found: usize = pages(&symbols, &request).iter().map(|(orders, _)| orders.len()).sum();
    assert_eq!(found, symbols.len());
}

#[test]
fn an_order_reopened_while_the_store_is_read_is_not_missed() {
    let orders: Vec<Arc<Order>> = (0..3).map(order).collect();
    let (before, after) = (view(&[&orders[2]]), view(&[&orders[2], &newer(&orders[1])]));
    let stored = [orders[0].clone()];
    let together: Vec<(OrderId, u64)> =
        merged([&before, &after], &stored, (&all(NewestFirst), None))
            .map(|order| (order.order_id, order.version))
            .collect();
    let expected = [(2, 1), (1, 2), (0, 1)].map(|(n, v)| (orders[n].order_id, v));
    assert_eq!(together, expected);
}
