//! The exchange's records lag its own feed by six seconds. Nothing else is wrong, so no fill, version
//! or final status may be taken back.

use std::time::Duration;

use crate::support;
use crate::support::venue::{CANCEL, QUERY};
use crate::support::world::{Growing, World};

const LAG: Duration = Duration::from_secs(6);
const ORDERS: usize = 40;
const SHARES_PER_FILL: u64 = 5;

fn fills_stay(as_of: bool) {
    let World { venue, alice, .. } = &World::start(&["--cleanup-interval-seconds", "1"]);
    venue.set(|options| (options.record_lag, options.as_of) = (LAG, as_of));
    let world_orders: Vec<String> =
        (0..ORDERS).map(|_| support::world::buy(alice, "SPY", 4 * SHARES_PER_FILL)).collect();
    let mut growing = Growing::default();
    for round in 1..=4_u64 {
        for order in &world_orders {
            venue.fill(order, 100, SHARES_PER_FILL);
        }
        if round == 2 {
            // After a gap every order is queried, and the record does not know them yet.
            venue.new_session("another");
        }
        let filled = round * SHARES_PER_FILL;
        growing.look_until(alice, Duration::from_millis(700), |orders| {
            orders.iter().all(|order| order["filledShares"] == filled || round == 2)
        });
    }
    // Recently ended orders are queried, too.
    venue.new_session("a third");
    growing.look_until(alice, LAG + Duration::from_secs(2), |orders| {
        orders.iter().all(|order| order["status"] == "filled")
    });
    assert!(venue.requests(QUERY).len() > 2, "records were read");
    assert_eq!(venue.requests(CANCEL).len(), 0);
    assert_eq!(venue.orders().len(), ORDERS);
}

#[test]
fn nothing_goes_back_where_the_record_says_how_old_it_is() {
    fills_stay(true);
}

#[test]
fn nothing_goes_back_where_the_record_does_not_say_so() {
    fills_stay(false);
}
